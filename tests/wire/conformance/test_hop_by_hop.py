"""Fields that end at the next hop, both ways (RFC 9110, section 7.6.1)."""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_passed, case
from tests.wire.harness import OK, Edge

START = b"GET / HTTP/1.1\r\nHost: a\r\n"

REQUEST = [
    case("9110-7.6.1 nominated", b"Connection: X-A\r\nX-A: 1\r\n", "x-a"),
    case("9110-7.6.1 nominated after the field", b"X-A: 1\r\nConnection: X-A\r\n", "x-a"),
    case("9110-7.6.1 nominated in another case", b"Connection: x-a\r\nX-A: 1\r\n", "x-a"),
    case("9110-7.6.1 nominated in a list", b"Connection: keep-alive, X-A\r\nX-A: 1\r\n", "x-a"),
    case("9110-7.6.1 nominated in a tight list", b"Connection: close,X-A,x\r\nX-A: 1\r\n", "x-a"),
    case("9110-7.6.1 nominated with empty elements", b"Connection: , X-A ,,\r\nX-A: 1\r\n", "x-a"),
    case(
        "9110-7.6.1 nominated in a second field", b"Connection: close\r\nConnection: X-A\r\nX-A: 1\r\n", "x-a"
    ),
    case("9110-7.6.1 nominated and repeated", b"Connection: X-A\r\nX-A: 1\r\nX-B: 2\r\nx-a: 3\r\n", "x-a"),
    case("9110-7.6.1 Connection itself", b"Connection: X-A\r\nX-A: 1\r\n", "connection"),
    case("9110-7.6.1 Keep-Alive", b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", "keep-alive"),
    case("9110-7.6.1 Keep-Alive, not nominated", b"Keep-Alive: timeout=5\r\n", "keep-alive"),
    case("9110-7.6.1 Proxy-Connection", b"Proxy-Connection: keep-alive\r\n", "proxy-connection"),
    case("9110-7.8 Upgrade, not nominated", b"Upgrade: websocket\r\n", "upgrade"),
    case("9110-7.6.1 a cookie, nominated", b"Connection: Cookie\r\nCookie: a=b\r\n", "cookie"),
]


@pytest.mark.parametrize(("fields", "name"), REQUEST)
def test_hop_by_hop_field_does_not_reach_the_backend(edge: Edge, fields: bytes, name: str) -> None:
    """
    What a client says to its next hop is not for the hop after.
    """
    received = assert_passed(edge, START + fields + b"X-Kept: 1\r\n\r\n")
    got = [value for value in received.values(name) if value.lower() != b"keep-alive"]
    assert got == []
    assert received.values("x-kept") == [b"1"]


def test_field_nominated_by_a_part_of_its_name_stays(edge: Edge) -> None:
    """
    Connection: X-A is not about X-A-B.
    """
    received = assert_passed(edge, START + b"Connection: X-A\r\nX-A-B: 1\r\nAX-A: 2\r\n\r\n")
    assert (received.values("x-a-b"), received.values("ax-a")) == ([b"1"], [b"2"])


@pytest.mark.parametrize(
    "value", [case(f"9110-10.1.4 {v.decode()}", v) for v in (b"gzip", b"trailers, gzip;q=0.5", b"deflate")]
)
def test_te_of_the_client_is_not_passed_on(edge: Edge, value: bytes) -> None:
    """
    RFC 9110, 10.1.4: TE is about this hop; only `trailers` may be said again to the next.
    """
    received = assert_passed(edge, START + b"Connection: TE\r\nTE: " + value + b"\r\n\r\n")
    assert received.list("te") in ([], [b"trailers"])


PROTECTED = [
    case("contract Color", "Color", b"blue"),
    case("contract X-Forwarded-For", "X-Forwarded-For", b"127.0.0.1"),
    case("contract X-Forwarded-Proto", "X-Forwarded-Proto", b"http"),
    case("contract X-Forwarded-Host", "X-Forwarded-Host", b"a"),
    case("9112-3.2 Host", "Host", b"a"),
]


@pytest.mark.parametrize(("name", "value"), PROTECTED)
def test_client_cannot_strip_what_the_proxy_sets(edge: Edge, name: str, value: bytes) -> None:
    """
    Naming a field of ours in Connection removes the client's, never ours.
    """
    assert assert_passed(edge, START + b"Connection: " + name.encode() + b"\r\n\r\n").values(name) == [value]


def test_client_cannot_strip_via(edge: Edge) -> None:
    """
    Nor the record that the proxy was there.
    """
    assert assert_passed(edge, START + b"Connection: Via\r\n\r\n").values("via")


FRAMED = [
    case("9110-7.6.1 Content-Length", b"Content-Length", b"Content-Length: 5\r\n", b"hello"),
    case(
        "9110-7.6.1 Transfer-Encoding",
        b"Transfer-Encoding",
        b"Transfer-Encoding: chunked\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
    ),
]


@pytest.mark.parametrize(("name", "field", "body"), FRAMED)
def test_client_cannot_strip_the_framing(edge: Edge, name: bytes, field: bytes, body: bytes) -> None:
    """
    A body whose length is named in Connection still has its end; else it would be the next request.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: " + name + b"\r\n" + field + b"\r\n" + body)
    reply = client.read_reply()
    if reply.status == 400:
        assert edge.received == []
        return
    assert reply.status == 200
    assert edge.origin.wait().body == b"hello"
    assert len(edge.received) == 1


RESPONSE = [
    case("9110-7.6.1 nominated", b"Connection: X-A\r\nX-A: 1\r\n", "x-a"),
    case("9110-7.6.1 nominated in another case", b"X-A: 1\r\nconnection: x-A\r\n", "x-a"),
    case("9110-7.6.1 nominated in a list", b"Connection: keep-alive,X-A\r\nX-A: 1\r\nX-A: 2\r\n", "x-a"),
    case(
        "9110-7.6.1 nominated in a second field", b"Connection: close\r\nConnection: X-A\r\nX-A: 1\r\n", "x-a"
    ),
    case("9110-7.6.1 Keep-Alive", b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", "keep-alive"),
    case("9110-7.6.1 Keep-Alive, not nominated", b"Keep-Alive: timeout=5\r\n", "keep-alive"),
    case("9110-7.6.1 Proxy-Connection", b"Proxy-Connection: keep-alive\r\n", "proxy-connection"),
]


@pytest.mark.parametrize(("fields", "name"), RESPONSE)
def test_hop_by_hop_field_does_not_reach_the_client(edge: Edge, fields: bytes, name: str) -> None:
    """
    What a backend says to us is not for the client.
    """
    reply = edge.ask(
        START + b"\r\n", b"HTTP/1.1 200 OK\r\n" + fields + b"X-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
    )
    assert (reply.status, reply.values(name), reply.values("x-kept")) == (200, [], [b"1"])


def test_backend_that_closes_does_not_close_the_client(edge: Edge) -> None:
    """
    Connection: close of a backend ends its connection, not the client's.
    """
    edge.origin.restart(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    client = edge.connect()
    for _ in range(2):
        client.send(START + b"\r\n")
        reply = client.read_reply()
        assert (reply.status, reply.body, reply.list("connection")) == (200, b"ok", [])


@pytest.mark.parametrize(
    "response",
    [
        case("9110-7.6.1 Content-Length", b"Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok"),
        case(
            "9110-7.6.1 Transfer-Encoding",
            b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ],
)
def test_backend_cannot_strip_the_framing(edge: Edge, response: bytes) -> None:
    """
    A response whose length is named in Connection still ends where it ends, for this client and the next.
    """
    edge.origin.restart(b"HTTP/1.1 200 OK\r\n" + response)
    client = edge.connect()
    for _ in range(2):
        client.send(START + b"\r\n")
        reply = client.read_reply()
        assert (reply.status, reply.body, reply.is_whole) == (200, b"ok", True)
