"""What a row of good and bad checks means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.health.verdict import HEALTHY, NEW, STARTING, UNHEALTHY, Verdict

Checks = list[bool]


def judge(verdict: Verdict, checks: str) -> Verdict:
    """Note checks: `+` is a good one, `-` a bad one."""
    for one in checks:
        verdict.note(one == "+")
    return verdict


@pytest.mark.parametrize(
    ("checks", "state"),
    [
        ("", NEW),
        ("+", HEALTHY),
        ("-", STARTING),
        ("---", STARTING),
        ("-----+", HEALTHY),
        ("+--", HEALTHY),
        ("+---", UNHEALTHY),
        ("+--+--", HEALTHY),
        ("+---+", UNHEALTHY),
        ("+---+-+", UNHEALTHY),
        ("+---++", HEALTHY),
        ("+---++--", HEALTHY),
        ("+---++---", UNHEALTHY),
        ("-+--", HEALTHY),
        ("-+---+", UNHEALTHY),
    ],
)
def test_rise_and_fall(checks: str, state: str) -> None:
    """With rise 2 and fall 3: the first check decides at once, later two good or three bad ones do."""
    assert judge(Verdict(rise=2, fall=3), checks).state == state


def test_new_endpoint_counts_as_healthy() -> None:
    """An endpoint that nobody has asked yet may get requests."""
    assert not Verdict(rise=2, fall=3).is_unhealthy
    assert not Verdict(rise=2, fall=3).is_known


@given(st.lists(st.booleans()), st.integers(1, 5), st.integers(1, 5))
def test_a_change_is_told_when_it_happens(checks: Checks, rise: int, fall: int) -> None:
    """Whoever listens to what is news knows the state."""
    verdict = Verdict(rise, fall)
    state = verdict.state
    for good in checks:
        if verdict.note(good):
            state = verdict.state
        assert verdict.state == state


@given(st.lists(st.booleans(), min_size=1), st.integers(1, 5), st.integers(1, 5))
def test_enough_checks_in_a_row_always_decide(checks: Checks, rise: int, fall: int) -> None:
    """Whatever was before: `fall` bad checks in a row take an endpoint out, `rise` good ones bring it in."""
    verdict = Verdict(rise, fall)
    for good in checks:
        verdict.note(good)
    assert judge(verdict, "-" * fall).is_unhealthy
    assert not judge(verdict, "+" * rise).is_unhealthy


def test_other_probe_lets_in_with_its_first_good_check() -> None:
    """When a wrong probe is mended by a reload, its endpoints come back with the first good check."""
    verdict = judge(Verdict(rise=2, fall=3), "+---").begin_again(rise=2, fall=3)
    assert verdict.is_unhealthy
    assert not judge(verdict, "+").is_unhealthy


def test_other_probe_takes_nobody_out_at_once() -> None:
    """An endpoint that served under the old probe serves on until the new one has failed `fall` times."""
    verdict = judge(Verdict(rise=2, fall=3), "+--").begin_again(rise=1, fall=2)
    assert not judge(verdict, "-").is_unhealthy
    assert judge(verdict, "-").is_unhealthy
