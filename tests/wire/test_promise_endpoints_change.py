"""Promise: endpoints come and go under load, and no request notices."""

from __future__ import annotations

import itertools
import time

from tests.wire.harness import Client
from tests.wire.stress_tools import (
    GET,
    Load,
    LoneWorker,
    QuickOrigin,
    ask_many,
    ask_once,
    loading,
    lone_worker,
    origins,
    request,
    show,
    wait_until,
)


def test_endpoints_that_change_under_load_fail_no_request() -> None:
    """Endpoints replaced 40 times under load, as in a rolling update: no request fails, all take part."""
    with origins(4) as servers, lone_worker(*servers[:2]) as worker:
        with loading(worker.port, 6) as load:
            for turn in range(40):
                worker.use(servers[turn % 4], servers[(turn + 1) % 4])
                load.wait_answers(20)
        _judge(load)
        show("changing endpoints", **{f"endpoint_{i}": s.served for i, s in enumerate(servers)})
        assert min(server.served for server in servers) > 20


def _judge(load: Load) -> None:
    assert not load.failures
    assert set(load.statuses) == {200}


def test_removed_endpoint_gets_no_new_request_and_loses_its_idle_connections() -> None:
    """An endpoint that is no longer listed: its idle connections are closed, it gets no request any more."""
    with origins(2) as (leaving, staying), lone_worker(leaving, staying) as worker:
        with loading(worker.port, 4) as load:
            load.wait_answers(100)
        worker.use(staying)
        wait_until(lambda: not leaving.opened, "its connections to be closed")
        before = leaving.served
        assert before > 0
        ask_many(worker.port, 200)
        assert leaving.served == before


def test_requests_under_way_on_a_removed_endpoint_end_well() -> None:
    """What a removed endpoint is busy with it answers to the end, and its connection is closed then."""
    with origins(2) as (leaving, staying), lone_worker(leaving) as worker:
        slow, large = Client(worker.port), Client(worker.port)
        slow.send(GET % b"/sleep/0.7")
        large.send(GET % b"/bytes/30000000")
        wait_until(lambda: leaving.served == 3, "the requests")
        worker.use(staying)
        wait_until(lambda: _answered_by(worker, staying), "the change")
        assert slow.read_reply().status == 200
        assert len(large.read_reply().body) == 30_000_000
        wait_until(lambda: not leaving.opened, "its connections to be closed")
        slow.close()
        large.close()


def _answered_by(worker: LoneWorker, server: QuickOrigin) -> bool:
    before = server.served
    return ask_once(worker.port, GET % b"/").status == 200 and server.served > before


def test_endpoint_that_returns_starts_afresh() -> None:
    """An endpoint that is listed, removed and listed again serves again."""
    with origins(2) as (one, two), lone_worker(one, two) as worker:
        for endpoints in ((one,), (one, two), (two,), (two, one)):
            worker.use(*endpoints)
            before = [endpoint.served for endpoint in endpoints]
            ask_many(worker.port, 100)
            assert all(e.served > b for e, b in zip(endpoints, before, strict=True))


def test_no_endpoint_left_is_503_and_the_next_one_is_used_at_once() -> None:
    """A color whose name lists nobody: 503; as soon as somebody is listed again requests are answered."""
    with origins(1) as (server,), lone_worker(server) as worker:
        worker.use()
        wait_until(lambda: ask_once(worker.port, GET % b"/").status == 503, "503")
        worker.use(server)
        wait_until(lambda: ask_once(worker.port, GET % b"/").status == 200, "200")


def test_dead_endpoint_that_is_replaced_is_forgotten() -> None:
    """An endpoint that dies between two requests, before it is taken off the list: no request fails."""
    with origins(2) as (dying, staying), lone_worker(dying, staying) as worker:
        numbers = itertools.count()
        with loading(worker.port, 4, lambda _: (b"GET", GET % b"/?%d" % next(numbers))) as load:
            load.wait_answers(100)
            # What it takes when it dies must not be sent again: the next test counts that.
            with load.held():
                dying.close()
            load.wait_answers(200)
            worker.use(staying)
            load.wait_answers(100)
        _judge(load)


def test_death_costs_what_was_under_way_and_nothing_else() -> None:
    """An endpoint that dies amid six POSTs: these six are told so, 502, and nobody else."""
    with origins(2) as (dying, staying), lone_worker(dying) as worker:
        under_way = [Client(worker.port) for _ in range(6)]
        before = dying.served
        for client in under_way:
            client.send(request("/sleep/5", "POST", b"x"))
        wait_until(lambda: dying.served == before + 6, "the requests")
        worker.use(dying, staying)
        with loading(worker.port, 4) as load:
            load.wait_answers(50)
            with load.held():
                dying.close()
            load.wait_answers(100)
        _judge(load)
        assert [client.read_reply(b"POST").status for client in under_way] == [502] * 6
        for client in under_way:
            client.close()


def test_requests_under_way_on_a_removed_endpoint_are_still_counted_as_such() -> None:
    """Who watches a color drain sees the requests that its removed endpoints are still busy with."""
    with origins(2) as (leaving, staying), lone_worker(leaving) as worker:
        client = Client(worker.port)
        client.send(GET % b"/sleep/3")
        wait_until(lambda: worker.read_counts()["blue"]["inflight"] == 1, "the request")
        worker.use(staying)
        wait_until(lambda: _answered_by(worker, staying), "the change")
        time.sleep(0.2)  # counts are published 20 ms later at most
        counts = worker.read_counts()
        assert (counts["worker"]["inflight"], counts["blue"]["inflight"]) == (1, 1)
        client.close()
