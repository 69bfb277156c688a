"""The proxy's own replies: what they say and how (contract; RFC 9209; RFC 9110, section 15)."""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_explained, case
from tests.wire.harness import CLOSE, OK, Edge, Script

HOST = b"Host: a\r\n\r\n"

REPLIES = [
    case("9110-15.5.1 400 of a request line", b"GET\r\n" + HOST, OK, 400, b"http_request_error"),
    case("9110-15.5.1 400 of a field", b"GET / HTTP/1.1\r\nX : y\r\n" + HOST, OK, 400, b"http_request_error"),
    case("9110-15.5.1 400 of Host", b"GET / HTTP/1.1\r\n\r\n", OK, 400, b"http_request_error"),
    case("9110-15.5.6 405", b"CONNECT a:1 HTTP/1.1\r\n" + HOST, OK, 405, b"http_request_error"),
    case(
        "9110-15.5.15 414", b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST, OK, 414, b"http_request_error"
    ),
    case(
        "6585-5 431",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n" + HOST,
        OK,
        431,
        b"http_request_error",
    ),
    case(
        "9110-15.6.2 501",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + HOST + b"0\r\n\r\n",
        OK,
        501,
        b"http_request_error",
    ),
    case("9110-15.6.6 505", b"GET / HTTP/2.0\r\n" + HOST, OK, 505, b"http_request_error"),
    case(
        "9209-2.3.14 nonsense",
        b"GET / HTTP/1.1\r\n" + HOST,
        [b"nonsense\r\n\r\n", CLOSE],
        502,
        b"http_protocol_error",
    ),
    case("9209-2.3.6 closed", b"POST / HTTP/1.1\r\n" + HOST, [CLOSE], 502, b"connection_terminated"),
    case(
        "9209-2.3.15 an unasked switch",
        b"GET / HTTP/1.1\r\n" + HOST,
        [b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", CLOSE],
        502,
        b"http_upgrade_failed",
    ),
]


@pytest.mark.parametrize(("request_bytes", "script", "status", "error"), REPLIES)
def test_reply_of_our_own_says_what_went_wrong(
    edge: Edge, request_bytes: bytes, script: Script, status: int, error: bytes
) -> None:
    """
    Status, Proxy-Status with RFC 9209's word, a short text that is as long as it says, and a Date.
    """
    reply = edge.ask(request_bytes, script)
    assert (reply.status, reply.end) == (status, "length"), reply
    assert_explained(reply, error)
    assert reply.body.strip()
    assert len(reply.values("date")) == 1
    assert reply.version == b"HTTP/1.1"


@pytest.mark.parametrize(("request_bytes", "script", "status", "error"), REPLIES[:3])
def test_reply_that_ends_the_connection_says_so(
    edge: Edge, request_bytes: bytes, script: Script, status: int, error: bytes
) -> None:
    """
    RFC 9112, 9.6: a connection that cannot go on is announced with Connection: close.
    """
    reply = edge.ask(request_bytes, script)
    if edge.clients[-1].wait_end(0.5) == "closed":
        assert b"close" in reply.list("connection")


HEADS = [
    case("9110-9.3.2 400", b"HEAD / HTTP/1.1\r\n\r\n", OK, 400),
    case("9110-9.3.2 502", b"HEAD / HTTP/1.1\r\n" + HOST, [b"nonsense\r\n\r\n", CLOSE], 502),
]


@pytest.mark.parametrize(("request_bytes", "script", "status"), HEADS)
def test_error_for_head_has_no_body(edge: Edge, request_bytes: bytes, script: Script, status: int) -> None:
    """
    RFC 9110, 9.3.2: no content in a response to HEAD, errors included; else it would be the next response.
    """
    reply = edge.ask(request_bytes, script)
    assert reply.status == status
    client = edge.clients[-1]
    client.wait_end(0.3)
    assert bytes(client.stream.buffer) == b""


def test_connection_goes_on_after_the_backends_failure(edge: Edge) -> None:
    """
    A 502 is no fault of the client: its connection goes on, or the reply says that it does not.
    """
    edge.origin.restart([b"nonsense\r\n\r\n", CLOSE])
    client = edge.connect()
    client.send(b"GET / HTTP/1.1\r\n" + HOST)
    reply = client.read_reply()
    assert reply.status == 502
    edge.origin.restart(OK)
    if b"close" in reply.list("connection"):
        assert client.wait_end() == "closed"
    else:
        client.send(b"GET / HTTP/1.1\r\n" + HOST)
        assert client.read_reply().status == 200


def test_error_of_the_backend_is_the_backends(edge: Edge) -> None:
    """
    A 502 that the backend sends is passed on as it is, without a Proxy-Status error of ours.
    """
    reply = edge.ask(b"GET / HTTP/1.1\r\n" + HOST, b"HTTP/1.1 502 X\r\nContent-Length: 2\r\n\r\nok")
    assert (reply.status, reply.body) == (502, b"ok")
    assert not [value for value in reply.values("proxy-status") if b"error" in value]


def test_large_refused_upload_still_gets_its_reply(limited: Edge) -> None:
    """
    RFC 9112, 9.6: the refusal is not lost in a reset because the client was still sending.
    """
    client = limited.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
    client.send(b"x" * 1_000_000)
    assert client.read_reply().status == 413
