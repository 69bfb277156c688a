"""One address and its health."""

from __future__ import annotations

import pytest

from sillyproxy.traffic.endpoint import FIRST_TERM_NS, LONGEST_TERM_NS, Endpoint

NOW = 5_000_000_000


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
