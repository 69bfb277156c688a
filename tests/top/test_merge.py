"""Replicas side by side: what is summed, whose clock counts, who is who."""

from __future__ import annotations

import random

import pytest

from sillyproxy.rollout.quantiles import Distribution
from sillyproxy.rollout.sample import ColorSample, Sample, Window
from sillyproxy.top.merge import GONE_SHOWN_S, MAX_HISTORY_S, Fleet, Replica
from sillyproxy.top.told import read_answer
from tests.top.telling import make_answer, make_part, make_seconds

WALL = 1.7e9


def make_fleet(*addresses: str) -> tuple[Fleet, list[Replica]]:
    """Return a fleet with replicas at these addresses."""
    fleet = Fleet()
    fleet.found("tasks.proxy", {address: address for address in addresses}, now=0.0)
    return fleet, list(fleet.replicas.values())


def tell(fleet: Fleet, replica: Replica, samples: list[Sample], now: float, **who: object) -> None:
    """Have a replica answer."""
    fleet.note(replica, read_answer(make_answer(samples, **who)), now, WALL)  # type: ignore[arg-type]


def total(fleet: Fleet, now: float, seconds: int = 60) -> dict[str, ColorSample]:
    """Return the sums of the last seconds."""
    return Window(fleet.merged(fleet.end(now, 1.0), seconds, 0.0)).colors


def test_counts_of_replicas_are_added() -> None:
    """What is shown of a color is the sum over all replicas: requests, errors, what is under way."""
    fleet, (one, two) = make_fleet("a", "b")
    tell(fleet, one, make_seconds(1, 20, blue=make_part(10, 1, inflight=2)), 20.0)
    tell(fleet, two, make_seconds(1, 20, blue=make_part(5, inflight=3)), 20.0, hostname="proxy-2")

    blue = total(fleet, 20.5)["blue"]

    assert (blue.requests, blue.errors, blue.inflight) == (300, 20, 5)


def test_percentiles_of_the_sum_are_those_of_all_requests() -> None:
    """
    Nine requests of ten are answered in 1 ms by the one replica, the tenth in 100 ms by the other. Then p95
    is 100 ms. The mean of the replicas' own p95 would be 50 ms, which no request ever took.
    """
    fleet, (one, two) = make_fleet("a", "b")
    tell(fleet, one, make_seconds(1, 20, blue=make_part(90, took_ms=[1.0])), 20.0)
    tell(fleet, two, make_seconds(1, 20, blue=make_part(10, took_ms=[100.0])), 20.0, hostname="proxy-2")

    blue = Distribution(total(fleet, 20.5)["blue"].durations)

    assert blue.quantile(0.5) == pytest.approx(1.0, rel=0.02)
    assert blue.quantile(0.95) == pytest.approx(100.0, rel=0.02)


def test_clocks_and_numbers_of_replicas_do_not_matter() -> None:
    """
    One replica has run for days and its clock is years off, the other has just begun to count: what
    arrives in the same second is of the same second.
    """
    fleet, (one, two) = make_fleet("a", "b")
    for second in range(10):
        now = 100.0 + second
        old = make_seconds(500_000 + second, 1, blue=make_part(second))
        tell(fleet, one, old, now + 0.1, time=1.0)
        tell(
            fleet,
            two,
            make_seconds(second, 1, blue=make_part(second)),
            now + 0.7,
            hostname="proxy-2",
            time=9e9,
        )

    merged = fleet.merged(fleet.end(109.8, 1.0), 10, 0.0)

    assert [sample.colors["blue"].requests for sample in merged] == [2 * second for second in range(10)]


def test_a_clock_that_drifts_loses_nothing() -> None:
    """A replica whose seconds are a percent too long is followed: after an hour it is not late."""
    fleet, (one, two) = make_fleet("a", "b")
    for second in range(3600):
        now = second * 1.01
        tell(fleet, one, make_seconds(second, 1, blue=make_part(1)), now)
        fleet.forget(now)
    tell(fleet, two, make_seconds(1, 1, blue=make_part(0)), 3636.0, hostname="proxy-2")

    assert one.proxy is not None
    newest = one.proxy.newest
    assert newest is not None
    assert abs(newest - 3636) <= 3
    # 900 of our seconds are 891 of its own.
    assert abs(sum(s.colors["blue"].requests for s in fleet.merged(newest, 900, 0.0)) - 891) <= 3


def test_the_order_of_answers_does_not_matter() -> None:
    """However the answers of the replicas come in, and whatever is told twice, the sums are the same."""
    rng = random.Random(4)
    answers = [
        (name, make_seconds(first, 30, blue=make_part(weight, took_ms=[weight])), 29.0 + first)
        for name, weight in (("a", 3), ("b", 5), ("c", 7))
        for first in (1, 11, 21, 31)
    ]
    seen = []
    for _ in range(5):
        fleet, replicas = make_fleet("a", "b", "c")
        rng.shuffle(answers)
        # Of one replica they come in order; those of different ones in any.
        for name, samples, now in sorted(answers, key=lambda answer: answer[2]):
            tell(fleet, replicas["abc".index(name)], samples, now, hostname=name)
        seen.append(total(fleet, 60.5))

    assert seen[0]["blue"].requests == 60 * 15
    assert all(other == seen[0] for other in seen)


def test_the_past_of_a_replica_comes_in_before_what_is_known() -> None:
    """A replica that is met is asked once for the minutes before: they are put where they were, once."""
    fleet, (one,) = make_fleet("a")
    tell(fleet, one, make_seconds(241, 60, blue=make_part(1)), 1000.0)
    assert one.earlier(300) == ("e1", 0)

    tell(fleet, one, make_seconds(1, 300, blue=make_part(1)), 1000.2)

    assert one.since() == ("e1", 300)
    assert one.earlier(300) is None
    assert [s.seq for s in fleet.merged(1000, 900, 0.0)] == list(range(701, 1001))
    assert total(fleet, 1000.5, 900)["blue"].requests == 300


def test_a_replica_at_two_addresses_counts_once() -> None:
    """A name with two addresses of one machine, as IPv4 and IPv6: it is the same proxy, counted once."""
    fleet, (four, six) = make_fleet("127.0.0.1:9080", "[::1]:9080")
    tell(fleet, four, make_seconds(1, 20, blue=make_part(10)), 20.0)
    tell(fleet, six, make_seconds(1, 20, blue=make_part(10)), 20.1)

    assert total(fleet, 20.5)["blue"].requests == 200


def test_proxies_that_take_turns_behind_one_address_are_each_counted() -> None:
    """Behind a virtual address somebody else answers each time: each is summed as the one that it is."""
    fleet, (one,) = make_fleet("vip")
    for second in range(10):
        who = f"proxy-{second % 2}"
        seconds = make_seconds(max(0, second - 5), min(second + 1, 6), blue=make_part(10))
        tell(fleet, one, seconds, 100.0 + second, hostname=who, epoch=who)

    assert total(fleet, 109.2, 8)["blue"].requests == 8 * 20


def test_a_proxy_that_was_restarted_keeps_what_it_did_before() -> None:
    """A replica that is replaced at the same address: its seconds stay in the sum, the new one's follow."""
    fleet, (one,) = make_fleet("a")
    tell(fleet, one, make_seconds(501, 20, blue=make_part(10)), 100.0)
    tell(fleet, one, make_seconds(0, 5, blue=make_part(1)), 110.0, epoch="e2")

    assert one.since() == ("e2", 4)
    assert total(fleet, 110.5)["blue"].requests == 205


def test_the_newest_second_waits_for_all_who_tell_but_not_for_the_silent() -> None:
    """
    A second is shown when all replicas have told of it, so that the sum does not flicker; a replica that
    is silent is not waited for.
    """
    fleet, (one, two) = make_fleet("a", "b")
    tell(fleet, one, make_seconds(1, 20, blue=make_part(1)), 20.0)
    tell(fleet, two, make_seconds(1, 20, blue=make_part(1)), 20.0, hostname="proxy-2")
    tell(fleet, one, make_seconds(21, 1, blue=make_part(1)), 21.0)
    assert fleet.end(21.1, 1.0) == 20

    two.fail("no answer within 1 s")
    tell(fleet, one, make_seconds(22, 4, blue=make_part(1)), 25.0)

    assert fleet.end(25.1, 1.0) == 25


def test_a_replica_that_is_gone_is_shown_as_gone_and_then_forgotten() -> None:
    """
    An address that its name no longer has is gone. What it did is still of the last minutes; it itself is
    shown for half a minute more.
    """
    fleet, (one, two) = make_fleet("a", "b")
    tell(fleet, one, make_seconds(1, 20, blue=make_part(1)), 20.0)
    tell(fleet, two, make_seconds(1, 20, blue=make_part(1)), 20.0, hostname="proxy-2")

    fleet.found("tasks.proxy", {"b": "b"}, now=21.0)
    fleet.forget(21.0 + GONE_SHOWN_S)
    assert not one.is_up
    assert list(fleet.replicas) == ["a", "b"]
    fleet.forget(21.1 + GONE_SHOWN_S)
    assert list(fleet.replicas) == ["b"]
    assert sum(s.colors["blue"].requests for s in fleet.merged(20, 60, 0.0)) == 40


def test_a_name_that_cannot_be_looked_up_keeps_its_replicas() -> None:
    """While the DNS fails, the addresses that were known go on being asked, and the failure is told."""
    fleet, (one,) = make_fleet("a")
    fleet.not_found("tasks.proxy", "no answer in time")
    assert (one.gone_since, fleet.problems) == (None, {"tasks.proxy": "no answer in time"})

    fleet.found("tasks.proxy", {"a": "a"}, now=3.0)
    assert fleet.problems == {}


def test_what_is_older_than_the_longest_window_is_forgotten() -> None:
    """Looking on for days takes no more memory than for a quarter of an hour, restarted proxies included."""
    fleet, (one,) = make_fleet("a")
    for second in range(0, 4000, 10):
        epoch = f"e{second // 1000}"
        tell(fleet, one, make_seconds(second, 10, blue=make_part(1)), float(second), epoch=epoch)
        fleet.forget(float(second))

    assert sum(len(proxy.samples) for proxy in fleet.proxies.values()) <= MAX_HISTORY_S + 40
    assert [proxy.epoch for proxy in fleet.proxies.values()] == ["e3"]
