"""Promise: what an endpoint sends is with the client before the endpoint sends more. Nothing is held back."""

from __future__ import annotations

import threading

import pytest

from tests.wire.harness import PATIENCE_S, Client, Exchange, Origin
from tests.wire.stress_tools import GET, serving

EVENTS = [b"data: %d\n\n" % number for number in range(20)]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"


def as_chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize("framing", ["chunked", "until close", "length"])
def test_each_event_arrives_before_the_next_is_sent(framing: str, pieces: str) -> None:
    """
    Server-sent events, however the response is framed.

    The endpoint sends an event, or a byte of it, only when the client has got the one before.
    """
    texts = [bytes((byte,)) for event in EVENTS for byte in event] if pieces == "bytes" else EVENTS
    parts = [as_chunk(text) for text in texts] if framing == "chunked" else texts
    arrived = threading.Semaphore(0)
    server = Origin()

    def tell_events(exchange: Exchange) -> None:
        fields = {
            "chunked": b"Transfer-Encoding: chunked\r\n",
            "length": b"Content-Length: %d\r\n" % sum(map(len, parts)),
            "until close": b"Connection: close\r\n",
        }
        exchange.send(HEAD + fields[framing] + b"\r\n")
        for part in parts:
            assert arrived.acquire(timeout=PATIENCE_S), "what was sent did not arrive"
            exchange.send(part)
        assert arrived.acquire(timeout=PATIENCE_S)
        exchange.close()

    server.restart(tell_events)
    with serving({"BLUE": server.url}) as proxy:
        client = Client(proxy.port)
        client.send(GET % b"/events")
        assert client.read_head().status == 200
        for part in parts:
            arrived.release()
            assert client.stream.take(len(part)) == part
        arrived.release()
        client.close()
    server.close()
    assert not server.faults


def test_long_poll_is_answered_at_once() -> None:
    """A request that an endpoint answers late waits as long as the response timeout lets it."""
    asked, answer = threading.Event(), threading.Event()
    server = Origin()

    def answer_late(exchange: Exchange) -> None:
        asked.set()
        assert answer.wait(PATIENCE_S)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnews")

    server.restart(answer_late)
    # Far longer than the client's pauses may be, which are for silent bodies alone.
    with serving({"BLUE": server.url, "SILLYPROXY_IDLE_TIMEOUT": "500ms"}) as proxy:
        client = Client(proxy.port)
        client.send(GET % b"/poll")
        assert asked.wait(PATIENCE_S)
        threading.Timer(1.5, answer.set).start()
        reply = client.read_reply(b"GET")
        assert (reply.status, reply.body) == (200, b"news")
        client.close()
    server.close()
