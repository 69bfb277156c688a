"""Promise: who is slow, but never silent, is served to the end."""

from __future__ import annotations

import threading
import time

from tests.wire.harness import OK, Client, Exchange, Origin
from tests.wire.stress_tools import GET, origin, read_counters, serving


def test_slow_but_steady_reader_is_served_to_the_end() -> None:
    """A client that reads slowly, but all the time, is not silent: its download goes on."""
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_IDLE_TIMEOUT": "1s"}) as proxy:
        client = Client(proxy.port)
        client.send(GET % b"/bytes/20000000")
        for _ in range(50):
            assert client.sock.recv(20_000)
            time.sleep(0.1)
        assert read_counters(proxy)["abandoned"] == 0
        client.close()


def test_slow_but_steady_backend_gets_all_of_an_upload() -> None:
    """A backend that reads an upload slowly, but all the time, is not taken for silent."""
    server = Origin()

    def read_slowly(exchange: Exchange) -> None:
        left = 20_000_000 - len(exchange.stream.buffer)
        begun = time.monotonic()
        while left:
            if time.monotonic() < begun + 5:
                time.sleep(0.1)
                left -= len(exchange.stream.sock.recv(min(left, 20_000)))
            else:
                left -= len(exchange.stream.sock.recv(min(left, 1_000_000)))
        exchange.send(OK)
        exchange.close()

    server.restart(read_slowly)
    timeouts = {"SILLYPROXY_IDLE_TIMEOUT": "1s", "SILLYPROXY_RESPONSE_TIMEOUT": "1s"}
    with serving({"BLUE": server.url, **timeouts}) as proxy:
        client = Client(proxy.port)
        body = threading.Thread(
            target=client.send,
            args=(b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 20000000\r\n\r\n" + bytes(20_000_000),),
            daemon=True,
        )
        body.start()
        assert client.read_reply(b"POST").status == 200
        client.close()
        body.join(20)
    server.close()
