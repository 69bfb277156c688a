"""Every wait has an end (contract; RFC 9110, sections 15.5.9 and 15.6.5)."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from tests.wire.conformance.judge import assert_explained, case
from tests.wire.harness import OK, Edge, Exchange, Origin, run, wait_for

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

SLOW_HEADS = [
    case("9110-15.5.9 half a request line", b"GET / HT"),
    case("9110-15.5.9 no fields", b"GET / HTTP/1.1\r\n"),
    case("9110-15.5.9 half a field", b"GET / HTTP/1.1\r\nHost: a\r\nX-A"),
    case("9110-15.5.9 no empty line", b"GET / HTTP/1.1\r\nHost: a\r\n"),
]


@pytest.mark.parametrize("part", SLOW_HEADS)
def test_slow_head_gets_408(hasty: Edge, part: bytes) -> None:
    """
    A head that is not there after SILLYPROXY_HEADER_TIMEOUT is 408, and the connection is closed.
    """
    client = hasty.connect()
    client.send(part)
    reply = client.read_reply()
    assert reply.status == 408, reply
    assert_explained(reply, b"http_request_error")
    assert client.wait_end() == "closed"
    assert hasty.received == []


def test_trickling_head_gets_408(hasty: Edge) -> None:
    """
    A byte now and then does not win more time.
    """
    client = hasty.connect()
    client.send(b"GET / HTTP/1.1\r\n")

    def trickle() -> None:
        with contextlib.suppress(OSError):
            for _ in range(300):
                client.sock.send(b"X")
                time.sleep(0.05)

    threading.Thread(target=trickle, daemon=True).start()
    assert client.read_reply().status == 408


def test_second_head_on_a_connection_has_its_time_too(hasty: Edge) -> None:
    """
    The same holds for the next request of a kept connection.
    """
    client = hasty.connect()
    client.send(GET)
    assert client.read_reply().status == 200
    client.send(b"GET / HT")
    assert client.read_reply().status == 408


@pytest.mark.parametrize(
    "asked", [case("contract before any request", False), case("contract after one", True)]
)
def test_idle_connection_is_closed(hasty: Edge, asked: bool) -> None:
    """
    A connection on which nothing happens is closed after a while.
    """
    client = hasty.connect()
    if asked:
        client.send(GET)
        assert client.read_reply().status == 200
    assert client.wait_end() == "closed"


def test_backend_that_does_not_answer_is_504(hasty: Edge) -> None:
    """
    After SILLYPROXY_RESPONSE_TIMEOUT the client gets 504, and the backend is let go.
    """
    reply = hasty.ask(GET, Exchange.wait_end)
    assert reply.status == 504
    assert_explained(reply, b"http_response_timeout")
    assert wait_for(lambda: hasty.received[0].ended != "")


def test_backend_that_begins_and_stops_is_504(hasty: Edge) -> None:
    """
    Half a head is no answer.
    """
    reply = hasty.ask(GET, [b"HTTP/1.1 200 OK\r\n", Exchange.wait_end])
    assert reply.status == 504


def test_post_that_is_not_answered_is_not_sent_again(hasty: Edge) -> None:
    """
    A timeout is no proof that nothing happened.
    """
    reply = hasty.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", Exchange.wait_end)
    assert reply.status == 504
    assert len(hasty.received) == 1


def test_response_body_that_goes_silent_is_cut_short(hasty: Edge) -> None:
    """
    A body in which nothing comes for SILLYPROXY_IDLE_TIMEOUT ends, visibly broken.
    """
    reply = hasty.ask(GET, [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Exchange.wait_end])
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.end in ("closed", "reset")


def test_request_body_that_goes_silent_is_given_up(hasty: Edge) -> None:
    """
    An upload that stops for SILLYPROXY_IDLE_TIMEOUT is 408 or closed, and never whole for the backend.
    """
    client = hasty.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    reply = client.read_reply()
    assert reply.status == 408 or (reply.status, reply.end) == (0, "closed"), reply
    assert client.wait_end() == "closed"
    assert not any(request.complete for request in hasty.received)


def test_slow_but_living_response_is_not_cut(hasty: Edge) -> None:
    """
    A body may last as long as it likes while something comes.
    """
    pieces = [piece for _ in range(10) for piece in (b"1\r\nx\r\n", 0.3)]
    script = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n"]
    reply = hasty.ask(GET, script)
    assert (reply.status, reply.body, reply.is_whole) == (200, b"x" * 10, True)


def test_slow_but_living_upload_is_not_cut(hasty: Edge) -> None:
    """
    The time for the response begins when the request has ended.
    """
    hasty.origin.restart(OK)
    client = hasty.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    for _ in range(10):
        time.sleep(0.3)
        client.send(b"x")
    assert client.read_reply().status == 200
    assert hasty.origin.wait().body == b"x" * 10


def test_endpoint_that_swallows_packets_is_504() -> None:
    """
    A connect without an answer ends after SILLYPROXY_CONNECT_TIMEOUT.
    """
    with socket.socket() as full, contextlib.ExitStack() as fillers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        time.sleep(0.1)
        env = {"BLUE": f"http://127.0.0.1:{full.getsockname()[1]}", "SILLYPROXY_CONNECT_TIMEOUT": "300ms"}
        origin = Origin()
        with run(env, origin, ready=False) as edge:
            reply = edge.ask(GET)
            assert reply.status == 504
            assert_explained(reply, b"connection_timeout")
        origin.close()
