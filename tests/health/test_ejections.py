"""What the workers' traffic ejected."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.config.schema import Upstream
from sillyproxy.health.ejections import REMEMBERED_TERMS, Ejections
from sillyproxy.health.target import Target
from sillyproxy.tools.channel import Ejection

TERM_NS = 30
BLUE = Upstream("http", "app", 80)
FOUR = [Target("blue", BLUE, f"10.0.0.{n}") for n in range(1, 5)]


def test_ejection_lasts_until_its_end() -> None:
    """What a worker ejects is ejected until then, and not longer."""
    ejections = Ejections()
    assert ejections.note(FOUR[0], FOUR, Ejection(100, 1), "consecutive", 70)
    assert ejections.is_ejected(FOUR[0], 99)
    assert not ejections.is_ejected(FOUR[0], 100)


def test_two_workers_mean_one_ejection() -> None:
    """What two workers find at the same time is one ejection: the later end and the higher count hold."""
    ejections = Ejections()
    ejections.note(FOUR[0], FOUR, Ejection(100, 2), "consecutive", 70)
    assert ejections.note(FOUR[0], FOUR, Ejection(101, 1), "error_rate", 71)
    assert not ejections.note(FOUR[0], FOUR, Ejection(90, 1), "error_rate", 72)
    held = ejections.get(FOUR[0])
    assert held is not None
    assert held.ejection == Ejection(101, 2)


def test_never_more_than_half_of_a_color() -> None:
    """However many workers eject however many endpoints: half of a color's stay."""
    ejections = Ejections()
    taken = [ejections.note(target, FOUR, Ejection(100, 1), "consecutive", 70) for target in FOUR]
    assert taken == [True, True, False, False]
    assert ejections.note(FOUR[2], FOUR, Ejection(130, 1), "consecutive", 100)


def test_last_endpoint_is_never_ejected() -> None:
    """A color with one endpoint keeps it."""
    assert not Ejections().note(FOUR[0], FOUR[:1], Ejection(100, 1), "consecutive", 70)


def test_color_that_shrinks_gets_the_oldest_back() -> None:
    """When half of a color leaves, ejected endpoints come back, who was to come first first."""
    ejections = Ejections()
    ejections.note(FOUR[0], FOUR, Ejection(100, 1), "consecutive", 70)
    ejections.note(FOUR[1], FOUR, Ejection(110, 1), "consecutive", 70)
    ejections.tidy({"blue": FOUR[:2]}, TERM_NS, 80)
    assert [ejections.is_ejected(target, 80) for target in FOUR[:2]] == [False, True]


def test_repetitions_are_remembered_for_a_while() -> None:
    """How often an endpoint was ejected counts for ten terms after its return, then it begins anew."""
    ejections = Ejections()
    ejections.note(FOUR[0], FOUR, Ejection(100, 3), "consecutive", 10)
    last = 100 + REMEMBERED_TERMS * TERM_NS
    ejections.tidy({"blue": FOUR}, TERM_NS, last)
    held = ejections.get(FOUR[0])
    assert held is not None
    assert held.ejection.times == 3
    ejections.tidy({"blue": FOUR}, TERM_NS, last + 1)
    assert ejections.get(FOUR[0]) is None


def test_endpoint_that_left_is_forgotten() -> None:
    """An address that comes back later may be another replica: it starts without a past."""
    ejections = Ejections()
    ejections.note(FOUR[0], FOUR, Ejection(100, 1), "consecutive", 70)
    ejections.tidy({"blue": FOUR[1:]}, TERM_NS, 71)
    assert ejections.get(FOUR[0]) is None


def test_endpoint_that_proved_itself_is_back_at_once() -> None:
    """An active check that passes again ends the term, and the count stays."""
    ejections = Ejections()
    ejections.note(FOUR[0], FOUR, Ejection(100, 2), "consecutive", 70)
    ejections.end(FOUR[0], 80)
    assert not ejections.is_ejected(FOUR[0], 80)
    held = ejections.get(FOUR[0])
    assert held is not None
    assert held.ejection == Ejection(80, 2)


Step = st.tuples(st.integers(0, 3), st.integers(1, 60), st.integers(0, 20), st.integers(1, 4))


@given(st.lists(Step, max_size=60))
def test_half_always_stays(steps: list[tuple[int, int, int, int]]) -> None:
    """Whatever workers say in whatever order, while endpoints come and go: at least half of a color stays."""
    ejections, now = Ejections(), 0
    for which, term, later, count in steps:
        now += later
        present = FOUR[:count]
        ejections.note(FOUR[which % count], present, Ejection(now + term, 1), "consecutive", now)
        ejections.tidy({"blue": present}, TERM_NS, now)
        assert sum(ejections.is_ejected(target, now) for target in present) <= count // 2
