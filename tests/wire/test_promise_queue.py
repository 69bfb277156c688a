"""Promise: no endpoint gets more than it may have; who comes then waits, in order, and not for long."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.wire.harness import Client, Reply
from tests.wire.running import stop
from tests.wire.stress_tools import (
    GET,
    LoneWorker,
    QuickOrigin,
    ask_once,
    is_balanced,
    loading,
    lone_worker,
    origins,
    request,
    show,
    wait_until,
)

ONE: dict[str, str | int | float] = {"BLUE_MAX_CONNECTIONS": 1, "BLUE_QUEUE_TIMEOUT": "30s"}


def ask(worker: LoneWorker, data: bytes) -> Client:
    """Send a request on a connection of its own; its answer is to be read later."""
    client = Client(worker.port)
    client.send(data)
    return client


def occupy(worker: LoneWorker, server: QuickOrigin) -> Client:
    """Have one request under way at an endpoint until it hears."""
    before = server.served
    client = ask(worker, GET % b"/deaf")
    wait_until(lambda: server.served == before + 1, "the request that takes the only place")
    return client


def line_up(worker: LoneWorker, *datas: bytes, before: int = 0) -> list[Client]:
    """Send requests one after the other, each when the one before it waits."""
    clients = []
    for data in datas:
        clients.append(ask(worker, data))
        wait_until(lambda: count(worker, "queued") == before + len(clients), "the request to wait")
    return clients


def count(worker: LoneWorker, what: str, color: str = "blue") -> int:
    number: int = worker.read_counts()[color][what]
    return number


def finish(*clients: Client) -> list[int]:
    """Read everybody's answer; return the statuses."""
    statuses = [client.read_reply().status for client in clients]
    for client in clients:
        client.close()
    return statuses


def assert_told(reply: Reply) -> None:
    """The client knows what happened and when to come again."""
    assert reply.status == 503
    assert reply.values("Proxy-Status") == [b"sillyproxy; error=connection_limit_reached"]
    assert reply.values("Retry-After") == [b"1"]


def test_no_endpoint_ever_has_more_than_its_limit() -> None:
    """
    Eight clients before two replicas that may have one request each: every request is answered, no
    replica sees two at once, and both work.
    """
    with origins(2) as servers, lone_worker(*servers, **ONE) as worker:
        with loading(worker.port, 8, lambda _: (b"GET", GET % b"/sleep/0.002")) as load:
            load.wait_answers(400)
        assert not load.failures
        assert set(load.statuses) == {200}
        assert [server.busiest for server in servers] == [1, 1]
        assert min(server.served for server in servers) > 100
        wait_until(lambda: not worker.read_counts()["worker"]["connections_open"], "everybody's end")
        counts = worker.read_counts()
        show("queue", slowest_ms=max(load.latencies) * 1e3)
        assert is_balanced(counts["worker"])
        assert (counts["blue"]["queued"], counts["blue"]["inflight"]) == (0, 0)


def test_a_limit_of_several_is_used_and_kept() -> None:
    """With a limit of three an endpoint has three at a time, and never four."""
    with origins(1) as (server,), lone_worker(server, BLUE_MAX_CONNECTIONS=3) as worker:
        with loading(worker.port, 8, lambda _: (b"GET", GET % b"/sleep/0.005")) as load:
            load.wait_answers(200)
        assert set(load.statuses) == {200}
        assert server.busiest == 3


def test_first_come_first_served() -> None:
    """Who waits longest is served first."""
    with origins(1) as (server,), lone_worker(server, **ONE) as worker:
        first = occupy(worker, server)
        waiting = line_up(worker, *(request("/", X_Id=str(number)) for number in range(6)))
        server.hear.set()
        assert finish(first, *waiting) == [200] * 7
        assert server.order == [str(number) for number in range(6)]


def test_a_full_queue_is_told_at_once() -> None:
    """With two waiting of two that may, the next is told 503 and when to come again, without any wait."""
    with origins(1) as (server,), lone_worker(server, **ONE, BLUE_MAX_QUEUE=2) as worker:
        first = occupy(worker, server)
        waiting = line_up(worker, GET % b"/", GET % b"/")
        begun = time.monotonic()
        for _ in range(3):
            assert_told(ask_once(worker.port, GET % b"/"))
        assert time.monotonic() - begun < 10  # of a wait of 30 s
        server.hear.set()
        assert finish(first, *waiting) == [200] * 3
        wait_until(lambda: count(worker, "queue_full") == 3, "the count")


def test_a_queue_of_nobody_sheds_at_once() -> None:
    """<COLOR>_MAX_QUEUE=0: past the limit of connections nobody waits."""
    with origins(1) as (server,), lone_worker(server, **ONE, BLUE_MAX_QUEUE=0) as worker:
        first = occupy(worker, server)
        assert_told(ask_once(worker.port, GET % b"/"))
        server.hear.set()
        assert finish(first) == [200]


def test_a_wait_has_an_end() -> None:
    """
    Who has waited for the queue timeout is told so; its connection goes on, and the request never
    reaches anybody.
    """
    settings = {**ONE, "BLUE_QUEUE_TIMEOUT": "400ms"}
    with origins(1) as (server,), lone_worker(server, **settings) as worker:
        first = occupy(worker, server)
        begun = time.monotonic()
        client = ask(worker, request("/", X_Id="late"))
        assert_told(client.read_reply())
        took_s = time.monotonic() - begun
        show("queue timeout", took_s=took_s)
        assert 0.4 <= took_s < 4
        server.hear.set()
        assert finish(first) == [200]
        client.send(request("/", X_Id="again"))
        assert finish(client) == [200]
        assert server.order == ["again"]
        wait_until(lambda: count(worker, "queue_timeout") == 1, "the count")


@pytest.mark.parametrize("how", [Client.close, Client.reset])
@pytest.mark.parametrize("data", [GET % b"/", request("/", "POST", bytes(100_000))], ids=["GET", "POST"])
def test_who_goes_away_leaves_the_queue(data: bytes, how: Callable[[Client], None]) -> None:
    """A client that gives up while it waits makes room for others, and its request reaches nobody."""
    settings = {**ONE, "BLUE_QUEUE_TIMEOUT": "2s"}
    with origins(1) as (server,), lone_worker(server, **settings) as worker:
        first = occupy(worker, server)
        (leaving,) = line_up(worker, data)
        how(leaving)
        wait_until(lambda: count(worker, "queued") == 0, "its place to be free")
        server.hear.set()
        served = server.served
        assert finish(first) == [200]
        assert ask_once(worker.port, GET % b"/").status == 200
        assert server.served == served + 1
        wait_until(lambda: worker.read_counts()["worker"]["abandoned"] == 1, "the books")
        assert is_balanced(worker.read_counts()["worker"])


def test_an_upload_waits_as_well() -> None:
    """A body that comes while its request waits arrives whole."""
    with origins(1) as (server,), lone_worker(server, **ONE) as worker:
        first = occupy(worker, server)
        head = b"POST /echo HTTP/1.1\r\nHost: e\r\nContent-Length: 3000000\r\n\r\n"
        (waiting,) = line_up(worker, head + bytes(1000))
        server.hear.set()
        waiting.send(bytes(3_000_000 - 1000))
        reply = waiting.read_reply(b"POST")
        assert (reply.status, reply.body) == (200, b"3000000")
        assert finish(first) == [200]
        waiting.close()


def test_those_who_wait_stay_in_line_through_a_reload() -> None:
    """A reload while requests wait changes neither their order nor their fate."""
    with origins(1) as (server,), lone_worker(server, **ONE) as worker:
        first = occupy(worker, server)
        waiting = line_up(worker, *(request("/", X_Id=str(number)) for number in range(4)))
        worker.serve(BLUE_WEIGHT=7)
        wait_until(lambda: worker.read_counts()["worker"]["generation"] == 2, "the reload")
        waiting += line_up(worker, request("/", X_Id="4"), before=4)
        server.hear.set()
        assert finish(first, *waiting) == [200] * 6
        assert server.order == ["0", "1", "2", "3", "4"]


def test_a_higher_limit_lets_them_in_at_once() -> None:
    """When a reload raises the limit those who wait are served without anybody's end."""
    with origins(1) as (server,), lone_worker(server, **ONE) as worker:
        first = occupy(worker, server)
        waiting = line_up(worker, GET % b"/", GET % b"/")
        worker.serve(BLUE_MAX_CONNECTIONS=8)
        assert finish(*waiting) == [200] * 2
        server.hear.set()
        assert finish(first) == [200]


def test_a_new_endpoint_lets_them_in_at_once() -> None:
    """When a color gets another endpoint, or one becomes healthy again, it serves those who wait."""
    with origins(3) as (busy, sick, new), lone_worker(busy, **ONE) as worker:
        worker.use(busy, sick, unhealthy=[sick])
        first = occupy(worker, busy)
        waiting = line_up(worker, GET % b"/deaf", GET % b"/deaf")
        worker.use(busy, sick)
        wait_until(lambda: sick.busy == 1, "the endpoint that is well again to serve")
        worker.use(busy, sick, new)
        wait_until(lambda: new.busy == 1, "the new endpoint to serve")
        for server in (busy, sick, new):
            server.hear.set()
        assert finish(first, *waiting) == [200] * 3


def test_nobody_jumps_the_queue() -> None:
    """A request that comes in the very moment in which a place becomes free does not take it."""
    with origins(1) as (server,), lone_worker(server, **ONE) as worker:
        late = Client(worker.port)
        first = occupy(worker, server)
        (waiting,) = line_up(worker, request("/", X_Id="waited"))
        stop(worker.process.pid)
        try:
            server.hear.set()
            wait_until(lambda: not server.busy, "the answer")
            time.sleep(0.1)
            late.send(request("/", X_Id="late"))
        finally:
            os.kill(worker.process.pid, signal.SIGCONT)
        assert finish(first, waiting, late) == [200] * 3
        assert server.order == ["waited", "late"]


def test_who_waits_for_a_color_that_is_removed_goes_to_another() -> None:
    """A reload that takes a color away fails no request that waits for it: another color serves them."""
    with origins(2) as (blue, green), lone_worker(blue, **ONE) as worker:
        first = occupy(worker, blue)
        worker.use(blue, green=[green])
        waiting = line_up(worker, GET % b"/", GET % b"/")
        worker.serve(BLUE="", GREEN_WEIGHT=1)
        assert [client.read_reply().body for client in waiting] == [b"green"] * 2
        blue.hear.set()
        assert finish(first) == [200]
        for client in waiting:
            client.close()


def test_one_queue_overflows_into_another() -> None:
    """
    Who waits for a color whose new endpoint cannot be reached waits for the other color's, and is served;
    nobody is lost on the way.
    """
    settings = {**ONE, "GREEN_MAX_CONNECTIONS": 1, "GREEN_QUEUE_TIMEOUT": "30s"}
    with origins(2) as (blue, green), lone_worker(blue, **settings) as worker:
        worker.use(blue, green=[green])
        first = occupy(worker, blue)
        worker.serve(BLUE_WEIGHT=0, GREEN_WEIGHT=1)
        second = occupy(worker, green)
        worker.serve(BLUE_WEIGHT=1_000_000)
        waiting = line_up(worker, GET % b"/", GET % b"/")
        # A broadcast address: connecting fails at once.
        worker.tell(colors={"blue": [[0, "255.255.255.255", 80]], "green": [[0, "127.0.0.1", green.port]]})
        wait_until(lambda: count(worker, "queued", "green") == 2, "both to wait for green")
        green.hear.set()
        assert [client.read_reply().body for client in waiting] == [b"green"] * 2
        blue.hear.set()
        assert finish(first, second) == [200] * 2
        for client in waiting:
            client.close()


def test_those_who_wait_are_served_in_the_drain() -> None:
    """A worker that stops serves those who wait, as long as it has time."""
    with origins(1) as (server,), lone_worker(server, **ONE, SILLYPROXY_DRAIN_TIMEOUT="20s") as worker:
        first = occupy(worker, server)
        waiting = line_up(worker, GET % b"/", GET % b"/")
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        server.hear.set()
        assert finish(first, *waiting) == [200] * 3


def test_who_waits_at_the_end_of_the_drain_is_told() -> None:
    """When a worker's drain timeout is over those who still wait are told so, and nobody is left hanging."""
    with origins(1) as (server,), lone_worker(server, **ONE, SILLYPROXY_DRAIN_TIMEOUT="1s") as worker:
        first = occupy(worker, server)
        waiting = line_up(worker, GET % b"/", GET % b"/")
        worker.process.send_signal(signal.SIGTERM)
        replies = [client.read_reply() for client in (first, *waiting)]
        assert [(reply.status, reply.is_whole) for reply in replies] == [(503, True)] * 3
        for client in (first, *waiting):
            client.close()


def test_limit_holds_for_an_endpoint_that_was_away() -> None:
    """An endpoint that its name forgets for a moment while it is busy does not get one more than it may."""
    with origins(1) as (server,), lone_worker(server, **ONE) as worker:
        first = occupy(worker, server)
        worker.use()
        worker.use(server)
        client = ask(worker, GET % b"/")
        time.sleep(0.5)
        assert server.busiest == 1
        server.hear.set()
        assert finish(first, client) == [200] * 2


def test_waiting_is_not_the_endpoints_slowness() -> None:
    """The time that requests wait for room is not held against the replicas, which answer as usual."""

    def make(_: int) -> tuple[bytes, bytes]:
        return b"GET", GET % b"/sleep/0.03"

    with origins(2) as servers, lone_worker(*servers, **ONE) as worker:
        # What is usual is learned from a second of answers; eight times that is far too late.
        with loading(worker.port, 2, make):
            time.sleep(2.5)
        with loading(worker.port, 30, make) as load:
            load.wait_answers(120)
        show("waiting", slowest_ms=max(load.latencies) * 1e3)
        assert max(load.latencies) > 0.3
        assert "slow" not in worker.read_log()
