"""One address and its health."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.traffic.endpoint import FIRST_TERM_NS, LONGEST_TERM_NS, Endpoint

SECOND = 1_000_000_000
NOW = 5 * SECOND


def test_an_endpoint_is_eligible_until_it_fails() -> None:
    """
    A new endpoint is given requests at once.
    """
    assert Endpoint(0, "10.0.0.1", 80).is_eligible(0)


def test_a_failed_endpoint_is_avoided_for_a_term_and_then_tried_again() -> None:
    """
    An endpoint that cannot be connected to is left alone for half a second, no longer and no shorter.
    """
    endpoint = Endpoint(0, "10.0.0.1", 80)
    endpoint.fail(NOW)

    assert not endpoint.is_eligible(NOW)
    assert not endpoint.is_eligible(NOW + FIRST_TERM_NS - 1)
    assert endpoint.is_eligible(NOW + FIRST_TERM_NS)


def test_terms_double_up_to_a_limit() -> None:
    """
    A dead address costs a client's wait ever more seldom, but is never given up.
    """
    endpoint = Endpoint(0, "10.0.0.1", 80)
    terms = []
    for _ in range(100):
        endpoint.fail(NOW)
        terms.append(endpoint.avoided_until_ns - NOW)

    assert terms[:5] == [FIRST_TERM_NS << n for n in range(5)]
    assert terms == sorted(terms)
    assert terms[-1] == LONGEST_TERM_NS


def test_a_connection_that_opens_clears_the_past() -> None:
    """
    An endpoint that is back gets its full part at once, and its next failure counts as its first.
    """
    endpoint = Endpoint(0, "10.0.0.1", 80)
    for _ in range(5):
        endpoint.fail(NOW)
    endpoint.succeed()

    assert endpoint.is_eligible(NOW)
    endpoint.fail(NOW)
    assert endpoint.avoided_until_ns == NOW + FIRST_TERM_NS


@pytest.mark.parametrize(
    ("ip", "name"), [("10.0.0.1", "10.0.0.1:80"), ("fd00::1", "[fd00::1]:80")], ids=["IPv4", "IPv6"]
)
def test_an_endpoint_is_named_as_it_is_written_in_a_url(ip: str, name: str) -> None:
    """
    Logs and metrics name an endpoint so that it can be pasted into a URL.
    """
    assert Endpoint(0, ip, 80).name == name


def test_unhealthy_lasts_until_the_check_says_otherwise() -> None:
    """
    What fails its active check gets nothing, however long, and whatever connections to it do.
    """
    endpoint = Endpoint(0, "10.0.0.1", 80)
    endpoint.set_health(unhealthy=True, now_ns=NOW, slow_ns=SECOND)
    endpoint.succeed()

    assert not endpoint.is_eligible(NOW + 10**6 * SECOND)
    assert endpoint.share(NOW + 10**6 * SECOND) == 0.0


def test_a_check_that_passes_again_clears_what_traffic_found() -> None:
    """
    An endpoint whose active check passes again is back at once, with a slow start: the check has
    proved more than the end of an ejection would.
    """
    endpoint = Endpoint(0, "10.0.0.1", 80)
    endpoint.eject(NOW + 300 * SECOND, 3, 10 * SECOND)
    endpoint.fail(NOW)
    endpoint.set_health(unhealthy=True, now_ns=NOW, slow_ns=10 * SECOND)
    endpoint.set_health(unhealthy=False, now_ns=NOW + SECOND, slow_ns=10 * SECOND)

    shares = [endpoint.share(NOW + seconds * SECOND) for seconds in (1, 6, 11)]
    assert shares == [0.1, 0.5, 1.0]
    endpoint.fail(NOW + SECOND)
    assert endpoint.avoided_until_ns == NOW + SECOND + FIRST_TERM_NS


def test_a_check_that_goes_on_passing_is_no_news() -> None:
    """
    Good checks every two seconds neither end an ejection nor begin a slow start again.
    """
    endpoint = Endpoint(0, "10.0.0.1", 80)
    endpoint.eject(NOW + 30 * SECOND, 1, 10 * SECOND)
    for seconds in range(0, 36, 2):
        endpoint.set_health(unhealthy=False, now_ns=NOW + seconds * SECOND, slow_ns=10 * SECOND)

    assert not endpoint.is_eligible(NOW + 29 * SECOND)
    assert endpoint.share(NOW + 35 * SECOND) == 0.5


def test_a_connection_that_opens_ends_no_ejection() -> None:
    """
    An endpoint that takes connections and answers none is ejected all the same.
    """
    endpoint = Endpoint(0, "10.0.0.1", 80)
    endpoint.fail(NOW)
    endpoint.eject(NOW + 30 * SECOND, 1, 10 * SECOND)
    endpoint.succeed()

    assert not endpoint.is_eligible(NOW + 29 * SECOND)
    assert endpoint.is_eligible(NOW + 30 * SECOND)


@given(
    avoided=st.booleans(),
    ejected_s=st.none() | st.integers(1, 30),
    unhealthy=st.booleans(),
    at_s=st.integers(0, 60),
)
def test_whoever_keeps_an_endpoint_out_keeps_it_out(
    avoided: bool, ejected_s: int | None, unhealthy: bool, at_s: int
) -> None:
    """
    Avoided, ejected, unhealthy: an endpoint is eligible only when none of the three says no.
    """
    endpoint = Endpoint(0, "10.0.0.1", 80)
    if unhealthy:
        endpoint.set_health(unhealthy=True, now_ns=NOW, slow_ns=SECOND)
    if avoided:
        endpoint.fail(NOW)
    if ejected_s is not None:
        endpoint.eject(NOW + ejected_s * SECOND, 1, SECOND)
    at_ns = NOW + at_s * SECOND
    out = unhealthy or (avoided and at_s == 0) or (ejected_s is not None and at_s < ejected_s)

    assert endpoint.is_eligible(at_ns) == (not out)
    assert (endpoint.share(at_ns) > 0) == (not out)
