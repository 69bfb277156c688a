"""Promise: a stop loses nothing. Who is being served is served to the end, who comes meanwhile too."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tests.wire.harness import Client, Proxy, Reply
from tests.wire.running import stop
from tests.wire.stress_tools import (
    GET,
    Load,
    QuickOrigin,
    ask_once,
    find_workers,
    origin,
    request,
    serving,
    show,
    wait_until,
    wait_workers,
)


@pytest.fixture
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


def wait_exit(proxy: Proxy) -> int:
    """Wait for the end; return the exit status."""
    status = proxy.process.wait(30)
    assert "Traceback" not in proxy.read_log(), proxy.read_log()
    return status


def test_rolling_restarts_lose_no_request(backend: QuickOrigin) -> None:
    """
    Four proxies started and stopped one after the other under kept-alive load, as in a rolling
    update: clients that follow to the new address see no reset, no empty answer, no refusal.
    """
    env = {"BLUE": backend.url, "SILLYPROXY_DRAIN_DELAY": "500ms", "SILLYPROXY_ACCESS_LOG": "off"}
    current = Proxy(env)
    where = [current.port]
    load = Load(lambda: where[0], 6)
    try:
        for _ in range(3):
            load.wait_answers(50)
            following = Proxy(env)
            where[0] = following.port
            current.process.send_signal(signal.SIGTERM)
            assert wait_exit(current) == 0
            current.kill()
            current = following
        load.wait_answers(50)
        load.stop()
    finally:
        current.kill()
    show("rolling restarts", answers=sum(load.statuses.values()), announced=load.announced)
    assert not load.failures
    assert set(load.statuses) == {200}
    assert load.announced >= 3 * 6


def test_stop_under_load_announces_every_end(backend: QuickOrigin) -> None:
    """SIGTERM under kept-alive load of two workers: every connection that is in use ends announced."""
    env = {"BLUE": backend.url, "SILLYPROXY_WORKERS": "2", "SILLYPROXY_DRAIN_DELAY": "700ms"}
    with serving(env) as proxy:
        wait_workers(proxy, 2)
        gone = threading.Event()
        load = Load(lambda: None if gone.is_set() else proxy.port, 8)
        load.wait_answers(200)
        proxy.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        gone.set()  # nobody opens a new connection at the very end of the delay
        load.join()
        assert wait_exit(proxy) == 0
        assert not load.failures
        assert load.announced >= 8


def test_idle_connections_do_not_hold_up_the_end(backend: QuickOrigin) -> None:
    """Idle kept-alive connections are closed, and the proxy ends without waiting for them."""
    with serving({"BLUE": backend.url, "SILLYPROXY_DRAIN_TIMEOUT": "60s"}) as proxy:
        clients = [Client(proxy.port) for _ in range(20)]
        for client in clients:
            client.send(GET % b"/")
            assert client.read_reply().status == 200
        begun = time.monotonic()
        proxy.process.send_signal(signal.SIGTERM)
        assert wait_exit(proxy) == 0
        assert time.monotonic() - begun < 20
        assert [client.wait_end() for client in clients] == ["closed"] * 20


def test_what_is_under_way_ends_well(backend: QuickOrigin) -> None:
    """At SIGTERM a slow answer, a slow download and a slow upload are under way: each is completed."""
    with serving({"BLUE": backend.url, "SILLYPROXY_DRAIN_TIMEOUT": "20s"}) as proxy:
        slow, download, upload = (Client(proxy.port) for _ in range(3))
        slow.send(GET % b"/sleep/1.0")
        download.send(GET % b"/trickle/100")
        upload.send(b"POST /echo HTTP/1.1\r\nHost: edge\r\nContent-Length: 10\r\n\r\n")
        wait_until(lambda: backend.served == 3, "the requests")
        proxy.process.send_signal(signal.SIGTERM)
        for _ in range(10):
            upload.send(b"x")
            time.sleep(0.1)
        replies = [client.read_reply() for client in (slow, download, upload)]
        assert [(reply.status, reply.is_whole) for reply in replies] == [(200, True)] * 3
        assert [len(reply.body) for reply in replies[1:]] == [100, 2]
        assert replies[0].list("connection") == [b"close"]
        assert wait_exit(proxy) == 0


def test_what_takes_longer_than_the_drain_timeout_is_cut(backend: QuickOrigin) -> None:
    """What is not done at the end of the drain timeout is cut: 503 where nothing was answered yet; exit 0."""
    with serving({"BLUE": backend.url, "SILLYPROXY_DRAIN_TIMEOUT": "500ms"}) as proxy:
        waiting, amid = Client(proxy.port), Client(proxy.port)
        waiting.send(GET % b"/hang")
        amid.send(GET % b"/half")
        assert amid.read_head().status == 200
        proxy.process.send_signal(signal.SIGTERM)
        reply = waiting.read_reply()
        assert (reply.status, reply.list("connection")) == (503, [b"close"])
        cut = amid.read_body(Reply(fields=[(b"Content-Length", b"100")]))
        assert not cut.is_whole
        assert wait_exit(proxy) == 0


def test_new_connections_are_served_in_the_drain_delay(backend: QuickOrigin) -> None:
    """After SIGTERM new connections are still answered, and told to go elsewhere next time."""
    with serving({"BLUE": backend.url, "SILLYPROXY_DRAIN_DELAY": "4s"}) as proxy:
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in proxy.read_log(), "the stop")
        wait_until(lambda: ask_once(proxy.port, GET % b"/").list("connection") == [b"close"], "the drain")
        assert ask_once(proxy.port, request("/echo", "POST", b"abc")).body == b"3"
        assert wait_exit(proxy) == 0


def test_sigint_has_no_delay(backend: QuickOrigin) -> None:
    """SIGINT: what is under way is completed, but the delay is not waited for."""
    with serving({"BLUE": backend.url, "SILLYPROXY_DRAIN_DELAY": "60s"}) as proxy:
        client = Client(proxy.port)
        client.send(GET % b"/sleep/0.5")
        wait_until(lambda: backend.served == 1, "the request")
        proxy.process.send_signal(signal.SIGINT)
        assert client.read_reply().status == 200
        assert wait_exit(proxy) == 0


def test_who_waits_to_be_accepted_at_the_end_of_the_delay_is_served(backend: QuickOrigin) -> None:
    """Connections in the accept queue when the address closes are answered, also those not yet asking."""
    with serving({"BLUE": backend.url, "SILLYPROXY_DRAIN_TIMEOUT": "10s"}) as proxy:
        (worker,) = find_workers(proxy)
        stop(worker)
        asking, silent = ([Client(proxy.port) for _ in range(30)] for _ in range(2))
        for client in asking:
            client.send(GET % b"/")
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in proxy.read_log(), "the stop")
        time.sleep(0.2)
        os.kill(worker, signal.SIGCONT)
        for client in silent:
            client.send(GET % b"/")
        replies = [client.read_reply() for client in asking + silent]
        assert [reply.status for reply in replies] == [200] * 60
        assert wait_exit(proxy) == 0


def test_new_connections_all_through_a_stop_are_answered_or_refused(backend: QuickOrigin) -> None:
    """One new connection after the other until the address is closed: each is answered."""
    env = {"BLUE": backend.url, "SILLYPROXY_WORKERS": "2", "SILLYPROXY_DRAIN_DELAY": "500ms"}
    with serving(env) as proxy:
        wait_workers(proxy, 2)
        proxy.process.send_signal(signal.SIGTERM)
        replies = []
        while (reply := _ask_new(proxy.port)) is not None:
            replies.append(reply)
        show("a stop", answered=len(replies))
        # The kernel may complete a connection between our last accept and the close, and reset it.
        assert all(reply.status == 200 for reply in replies[:-1])
        assert len(replies) > 3
        assert wait_exit(proxy) == 0


def _ask_new(port: int) -> Reply | None:
    try:
        return ask_once(port, GET % b"/")
    except OSError:
        return None
