"""Promise: a replica that fails is found by the traffic itself, left alone, and comes back gently."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.wire.stress_tools import (
    GET,
    Load,
    LoneWorker,
    QuickOrigin,
    ask_many,
    ask_once,
    is_balanced,
    loading,
    lone_worker,
    origins,
    show,
    wait_until,
)

# No more than this a client may see of a replica that fails, before it is out: eight clients ask at once.
FIVE_AND_THOSE_UNDER_WAY = 5 + 8
HOUR: dict[str, str | int | float] = {"SILLYPROXY_EJECT_TIME": "3600s"}


def always(path: str) -> Callable[[int], str]:
    return lambda number: path


def well(number: int) -> str:
    return ""


def half(path: str) -> Callable[[int], str]:
    # By a rule that no turn of ours keeps step with.
    return lambda number: path if number * 0.618034 % 1 < 0.5 else ""


def is_ejected(worker: LoneWorker, server: QuickOrigin) -> bool:
    """Whether the worker has said so."""
    return f"endpoint ejected color=blue endpoint={server.address}" in worker.read_log()


def count_failed(load: Load) -> int:
    return sum(count for status, count in load.statuses.items() if status != 200) + len(load.failures)


@pytest.mark.parametrize(
    ("mood", "most"),
    [
        (always("/status/503"), FIVE_AND_THOSE_UNDER_WAY),
        (always("/reset"), FIVE_AND_THOSE_UNDER_WAY),
        (always("/break"), FIVE_AND_THOSE_UNDER_WAY),
        (always("/hang"), FIVE_AND_THOSE_UNDER_WAY),
        (always("/cut"), FIVE_AND_THOSE_UNDER_WAY),
        (half("/status/500"), 40),
    ],
    ids=["503", "reset", "closed", "hangs", "cut short", "500 to half"],
)
def test_one_of_four_that_fails_costs_a_few_requests_and_then_none(
    mood: Callable[[int], str], most: int
) -> None:
    """
    One of four replicas answers 503, resets, closes, hangs, breaks off, or answers 500 to every other
    request: a handful of clients see it, then it is out, and nobody does.
    """
    settings = {**HOUR, "SILLYPROXY_RESPONSE_TIMEOUT": "1s"}
    with origins(4) as servers, lone_worker(*servers, **settings) as worker:
        with loading(worker.port, 8) as load:
            load.wait_answers(100)
            servers[0].mood = mood
            wait_until(lambda: is_ejected(worker, servers[0]), "the ejection")
        failed = count_failed(load)
        show("until it is out", failed=failed, served=sum(load.statuses.values()))
        assert failed <= most
        before = servers[0].served
        assert ask_many(worker.port, 300) == {b"blue": 300}
        assert servers[0].served == before
        (ejected,) = worker.hear("Ejected")
        assert ejected["address"] == [0, "127.0.0.1", servers[0].port]
        assert ejected["ejection"][1] == 1
        assert is_balanced(worker.read_counts()["worker"])


def test_an_ejection_is_counted_by_its_reason() -> None:
    """Failures in a row and an error rate are told apart in the counts, and told to the controller."""
    with origins(4) as servers, lone_worker(*servers, **HOUR) as worker:
        servers[0].mood = always("/status/502")
        servers[1].mood = always("/status/500")
        with loading(worker.port, 4) as load:
            for server in servers[:2]:
                wait_until(lambda server=server: is_ejected(worker, server), "the ejection")  # type: ignore[misc]
            load.wait_answers(20)
        reasons = {message["address"][2]: message["reason"] for message in worker.hear("Ejected")}
        assert "5 failures in a row" in reasons[servers[0].port]
        assert "requests failed" in reasons[servers[1].port]
        counts = worker.read_counts()["blue"]
        assert (counts["eject_consecutive"], counts["eject_rate"]) == (1, 1)


def test_when_all_fail_half_stay() -> None:
    """A release that is broken everywhere is not made worse: half of the replicas are still asked."""
    with origins(4) as servers, lone_worker(*servers, **HOUR) as worker:
        for server in servers:
            server.mood = always("/status/503")
        for _ in range(200):
            ask_once(worker.port, GET % b"/")
        before = [server.served for server in servers]
        for _ in range(100):
            assert ask_once(worker.port, GET % b"/").status == 503
        asked = [server.served > count for server, count in zip(servers, before, strict=True)]
        assert sum(asked) == 2
        assert len(worker.hear("Ejected")) == 2


def test_a_replica_alone_is_never_ejected() -> None:
    """One replica that fails is still the only one that may answer."""
    with origins(1) as (server,), lone_worker(server, **HOUR) as worker:
        server.mood = always("/status/503")
        assert ask_many(worker.port, 100) == {b"503": 100}
        server.mood = well
        assert ask_many(worker.port, 20) == {b"blue": 20}
        assert not worker.hear("Ejected")


def test_nothing_is_ejected_where_the_operator_says_so() -> None:
    """SILLYPROXY_EJECT_AFTER=0: a replica that fails goes on getting its share."""
    with origins(2) as servers, lone_worker(*servers, SILLYPROXY_EJECT_AFTER=0) as worker:
        servers[0].mood = always("/status/503")
        answers = ask_many(worker.port, 200)
        assert answers[b"503"] > 90
        assert not worker.hear("Ejected")


def test_it_comes_back_with_a_slow_start() -> None:
    """At the end of its term a replica that is well again gets little at first, and its share in the end."""
    settings = {"SILLYPROXY_EJECT_TIME": "1s", "SILLYPROXY_SLOW_START": "4s"}
    with origins(2) as (moody, other), lone_worker(moody, other, **settings) as worker:
        moody.mood = always("/status/503")
        ask_many(worker.port, 50)
        assert is_ejected(worker, moody)
        ends_s = worker.hear("Ejected")[-1]["ejection"][0] / 1e9
        moody.mood = well
        before = moody.served
        while time.monotonic() < ends_s - 0.2:
            assert ask_once(worker.port, GET % b"/").status == 200
            assert moody.served == before or time.monotonic() > ends_s
        shares = []
        for wait_s in (0.1, 2.0, 4.5):
            time.sleep(max(0.0, ends_s + wait_s - time.monotonic()))
            before = moody.served
            assert ask_many(worker.port, 200) == {b"blue": 200}
            shares.append((moody.served - before) / 200)
        show("slow start", **{f"share_{index}": share for index, share in enumerate(shares)})
        # Generous: on a busy machine the requests of one look take a while themselves.
        assert shares[0] < 0.4
        assert shares[0] < shares[2]
        assert shares[2] == pytest.approx(0.5, abs=0.05)


def test_one_that_fails_again_is_out_at_once_and_longer() -> None:
    """On probation one failure is enough, and the second term is twice as long as the first."""
    settings = {"SILLYPROXY_EJECT_TIME": "1s", "SILLYPROXY_SLOW_START": "60s"}
    with origins(2) as (moody, other), lone_worker(moody, other, **settings) as worker:
        moody.mood = always("/status/503")
        failed = ask_many(worker.port, 50)[b"503"]
        assert failed == 5
        wait_until(lambda: ask_many(worker.port, 50)[b"503"] == 1, "one failure on probation")
        assert ask_many(worker.port, 50) == {b"blue": 50}
        first, second = (message["ejection"] for message in worker.hear("Ejected"))
        assert (first[1], second[1]) == (1, 2)
        assert second[0] - time.monotonic_ns() > 0
        assert moody.served == 6


def test_what_another_worker_found_holds_here_too() -> None:
    """An ejection that the controller tells of: no request goes there, and it is not found once more."""
    with origins(2) as (out, other), lone_worker(out, other, **HOUR) as worker:
        worker.use(out, other, ejected={out: (3600, 1)})
        before = out.served
        assert ask_many(worker.port, 100) == {b"blue": 100}
        assert out.served == before
        assert not worker.hear("Ejected")


def test_a_term_that_is_over_elsewhere_is_over_here() -> None:
    """A worker that starts later learns of the slow start that is due, and how often there was a term."""
    settings = {"SILLYPROXY_SLOW_START": "1000s"}
    with origins(2) as (back, other), lone_worker(other, **settings) as worker:
        worker.use(back, other, ejected={back: (-1, 3)})
        assert ask_many(worker.port, 200) == {b"blue": 200}
        assert 0 < back.served < 60
        back.mood = always("/status/503")
        wait_until(lambda: ask_many(worker.port, 20)[b"503"] == 1, "a failure on probation")
        assert worker.hear("Ejected")[-1]["ejection"][1] == 4


def test_a_controller_that_forgot_is_told_again() -> None:
    """A list without an ejection that still holds ends nothing: the worker tells its controller once more."""
    with origins(2) as (moody, other), lone_worker(moody, other, **HOUR) as worker:
        moody.mood = always("/status/503")
        ask_many(worker.port, 50)
        (found,) = worker.hear("Ejected")
        worker.use(moody, other)
        wait_until(lambda: [m["ejection"] for m in worker.hear("Ejected")] == [found["ejection"]], "the news")
        assert ask_many(worker.port, 100) == {b"blue": 100}


def test_unhealthy_means_no_request_and_no_idle_connection() -> None:
    """What fails its active check gets nothing, however much there is to do, and its pool is closed."""
    with origins(2) as (sick, other), lone_worker(sick, other) as worker:
        ask_many(worker.port, 50)
        worker.use(sick, other, unhealthy=[sick])
        wait_until(lambda: not sick.opened, "its connections to be closed")
        before = sick.served
        with loading(worker.port, 8) as load:
            load.wait_answers(200)
        assert set(load.statuses) == {200}
        assert sick.served == before
        worker.use(sick, other)
        with loading(worker.port, 4) as load:
            wait_until(lambda: sick.served > before, "its return")


def test_unhealthy_is_asked_not_even_in_despair() -> None:
    """When the others cannot be reached an unhealthy replica is still not asked: the client is told."""
    with origins(2) as (sick, dead), lone_worker(sick, dead) as worker:
        worker.use(sick, dead, unhealthy=[sick])
        wait_until(lambda: not sick.opened, "the news")
        dead.close()
        before = sick.served
        assert {ask_once(worker.port, GET % b"/").status for _ in range(10)} <= {502, 503}
        assert sick.served == before


def test_a_color_that_is_all_unhealthy_is_replaced_by_another() -> None:
    """All replicas of blue fail their checks: green serves; if green does as well, 503."""
    with origins(3) as (one, two, green), lone_worker(one, two, GREEN_WEIGHT=1) as worker:
        worker.use(one, two, green=[green], unhealthy=[one, two])
        wait_until(lambda: not one.opened and not two.opened, "the news")
        before = one.served + two.served
        assert ask_many(worker.port, 100) == {b"green": 100}
        assert worker.read_counts()["blue"]["c5xx"] == 0
        worker.use(one, two, green=[green], unhealthy=[one, two, green])
        wait_until(lambda: not green.opened, "the news")
        reply = ask_once(worker.port, GET % b"/")
        assert reply.status == 503
        assert reply.values("Proxy-Status") == [b"sillyproxy; error=destination_unavailable"]
        assert one.served + two.served == before


def test_ejected_replicas_are_better_than_none() -> None:
    """When all that are not ejected are unhealthy, the ejected are asked."""
    with origins(2) as (out, sick), lone_worker(out, sick) as worker:
        worker.use(out, sick, ejected={out: (3600, 1)})
        worker.use(out, sick, ejected={out: (3600, 1)}, unhealthy=[sick])
        wait_until(lambda: not sick.opened, "the news")
        before = out.served
        assert ask_many(worker.port, 20) == {b"blue": 20}
        assert out.served == before + 20
