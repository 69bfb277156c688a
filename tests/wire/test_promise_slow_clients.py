"""Promise: clients that send a byte a second cost the others nothing, and are not waited for."""

from __future__ import annotations

import contextlib
import select
import socket
import statistics
import threading
import time

from tests.wire.harness import PATIENCE_S
from tests.wire.stress_tools import (
    GET,
    allow_descriptors,
    ask_once,
    loading,
    origin,
    read_counters,
    serving,
    show,
    wait_until,
)

HEAD = b"GET / HTTP/1.1\r\nHost: edge\r\nX-Slow: " + b"a" * 1000
MANY = 1000


def _open_many(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(count)]


class Drip:
    """Sends the next byte of a head on every connection, once a second."""

    def __init__(self, clients: list[socket.socket]) -> None:
        self.clients = clients
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        at = 0
        while not self.over.wait(1.0):
            for client in self.clients:
                with contextlib.suppress(OSError):
                    client.send(HEAD[at : at + 1], socket.MSG_NOSIGNAL)
            at += 1

    def stop(self) -> None:
        self.over.set()
        self.thread.join(PATIENCE_S)


def test_1000_slow_heads_do_not_slow_the_others_and_end_with_408() -> None:
    """
    1,000 connections that send a byte a second: other clients' median latency does not change in
    kind, and at the header timeout every one of them is answered 408 and closed.
    """
    allow_descriptors(4096)
    env = {"SILLYPROXY_HEADER_TIMEOUT": "5s"}
    with origin() as backend, serving({"BLUE": backend.url, **env}) as proxy:
        with loading(proxy.port, 2) as load:
            load.wait_answers(300)
        alone_s = statistics.median(load.latencies)
        begun = time.monotonic()
        slow = _open_many(proxy.port, MANY)
        drip = Drip(slow)
        try:
            with loading(proxy.port, 2) as load:
                load.wait_answers(300)
            beside_s = statistics.median(load.latencies)
            wait_until(lambda: read_counters(proxy)["head_timeouts"] == MANY, "1,000 timeouts")
            took_s = time.monotonic() - begun
        finally:
            drip.stop()
        ends = [_read_end(client) for client in slow]
        show("slow heads", alone_ms=alone_s * 1e3, beside_ms=beside_s * 1e3, closed_after_s=took_s)
        assert not load.failures
        assert took_s >= 4
        assert sum(end.startswith(b"HTTP/1.1 408 ") for end in ends) == MANY
        assert beside_s < 10 * alone_s + 0.05


def _is_readable(client: socket.socket) -> bool:
    """Wait for more; `select` knows no descriptor above 1,023."""
    waiting = select.poll()
    waiting.register(client, select.POLLIN)
    return bool(waiting.poll(PATIENCE_S * 1000))


def _read_end(client: socket.socket) -> bytes:
    """Return what a connection was told; it must have been closed."""
    data = b""
    try:
        while _is_readable(client):
            more = client.recv(4096)
            if not more:
                return data
            data += more
    except ConnectionError:
        return data
    finally:
        client.close()
    return b"still open"


def test_connections_that_say_nothing_are_closed_at_the_header_timeout() -> None:
    """A connection on which nothing ever comes is closed at the header timeout, without a word."""
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_HEADER_TIMEOUT": "1s"}) as proxy:
        clients = _open_many(proxy.port, 20)
        assert [_read_end(client) for client in clients] == [b""] * 20
        assert ask_once(proxy.port, GET % b"/").status == 200
