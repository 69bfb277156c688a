"""WebSocket and other upgrades: the handshake and the tunnel (RFC 9110, section 7.8; RFC 6455, section 4)."""

from __future__ import annotations

import threading

import pytest

from tests.wire.conformance.judge import assert_passed, case
from tests.wire.harness import OK, Client, Edge, Ended, Exchange, wait_for

HANDSHAKE = (
    b"GET /chat?x=y HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://a\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


def echo(exchange: Exchange) -> None:
    """Switch, then send back what comes, until the end; then close."""
    exchange.send(SWITCH)
    stream = exchange.stream
    try:
        while True:
            if stream.buffer:
                exchange.send(stream.take(len(stream.buffer)))
            stream.fill()
    except Ended as end:
        exchange.request.ended = end.how
    exchange.close()


def open_tunnel(edge: Edge, script: object = echo) -> Client:
    assert callable(script)
    edge.origin.restart(script)
    client = edge.connect()
    client.send(HANDSHAKE)
    reply = client.read_reply()
    assert reply.status == 101, reply
    return client


def test_handshake_reaches_the_backend_whole(edge: Edge) -> None:
    """
    RFC 6455, 4.1: every field of the handshake arrives, the hop-by-hop ones as ours.
    """
    open_tunnel(edge)
    request = edge.origin.wait()
    assert request.line == b"GET /chat?x=y HTTP/1.1"
    assert request.list("upgrade") == [b"websocket"]
    assert b"upgrade" in request.list("connection")
    assert request.values("sec-websocket-key") == [b"dGhlIHNhbXBsZSBub25jZQ=="]
    assert request.values("sec-websocket-version") == [b"13"]
    assert request.values("sec-websocket-protocol") == [b"chat, superchat"]
    assert request.values("color") == [b"blue"]


def test_answer_to_the_handshake_reaches_the_client_whole(edge: Edge) -> None:
    """
    RFC 6455, 4.2.2: 101 with Upgrade, Connection and the accept key.
    """
    edge.origin.restart(echo)
    client = edge.connect()
    client.send(HANDSHAKE)
    reply = client.read_reply()
    assert reply.status == 101
    assert reply.list("upgrade") == [b"websocket"]
    assert b"upgrade" in reply.list("connection")
    assert reply.values("sec-websocket-accept") == [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    assert reply.values("sec-websocket-protocol") == [b"chat"]
    assert reply.values("content-length") == reply.values("transfer-encoding") == []


@pytest.mark.parametrize(
    "fields",
    [
        case("6455-4.2.1 mixed case", b"upgrade: WebSocket\r\nconnection: upgrade\r\n"),
        case("6455-4.2.1 a list", b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"),
        case(
            "9110-7.6.1 two Connection fields",
            b"Upgrade: websocket\r\nConnection: x\r\nConnection: upgrade\r\n",
        ),
        case("9110-7.8 another protocol", b"Upgrade: foo/2\r\nConnection: upgrade\r\n"),
    ],
)
def test_upgrade_is_understood_in_every_spelling(edge: Edge, fields: bytes) -> None:
    """
    Browsers send `keep-alive, Upgrade`; tokens are case-insensitive; protocols are the backend's business.
    """
    edge.origin.restart(echo)
    client = edge.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
    assert client.read_reply().status == 101
    client.send(b"ping")
    assert client.read_exactly(4) == b"ping"


def test_bytes_pass_both_ways(edge: Edge) -> None:
    """
    After 101 any bytes pass, whatever they look like.
    """
    client = open_tunnel(edge)
    for data in (
        b"\x81\x05hello",
        bytes(range(256)),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n0\r\n\r\n",
    ):
        client.send(data)
        assert client.read_exactly(len(data)) == data


def test_a_tunnel_carries_megabytes(edge: Edge) -> None:
    """
    16 MiB there and back, at once.
    """
    client = open_tunnel(edge)
    data = b"0123456789abcdef" * (1 << 20)
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    assert client.read_exactly(len(data)) == data
    sender.join(10)


def test_bytes_right_behind_the_handshake_are_not_lost(edge: Edge) -> None:
    """
    A client that speaks before it has read the 101 is heard.
    """
    edge.origin.restart(echo)
    client = edge.connect()
    client.send(HANDSHAKE + b"early")
    assert client.read_reply().status == 101
    assert client.read_exactly(5) == b"early"


def test_bytes_right_behind_the_switch_are_not_lost(edge: Edge) -> None:
    """
    A backend that speaks in the same packet as its 101 is heard.
    """

    def script(exchange: Exchange) -> None:
        exchange.send(SWITCH + b"welcome")
        exchange.wait_end()
        exchange.close()

    client = open_tunnel(edge, script)
    assert client.read_exactly(7) == b"welcome"


def test_client_may_half_close(edge: Edge) -> None:
    """
    The backend sees the client's end and may still answer.
    """

    def script(exchange: Exchange) -> None:
        exchange.send(SWITCH)
        exchange.wait_end()
        exchange.send(b"last words")
        exchange.close()

    client = open_tunnel(edge, script)
    client.send(b"bye")
    client.half_close()
    assert client.read_exactly(10) == b"last words"
    assert client.wait_end() == "closed"
    assert edge.received[0].ended == "closed"


def test_backend_may_half_close(edge: Edge) -> None:
    """
    The client sees the backend's end and may still speak.
    """
    heard = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(SWITCH + b"bye")
        exchange.half_close()
        if exchange.stream.take(10) == b"last words":
            heard.set()
        exchange.wait_end()
        exchange.close()

    client = open_tunnel(edge, script)
    assert client.read_exactly(3) == b"bye"
    assert client.wait_end() == "closed"
    client.send(b"last words")
    assert heard.wait(10)


def test_last_bytes_in_one_packet_with_the_end_are_not_lost(edge: Edge) -> None:
    """
    Data and FIN together, from the client and then from the backend.
    """

    def script(exchange: Exchange) -> None:
        exchange.send(SWITCH)
        exchange.wait_end()
        exchange.cork()
        exchange.send(bytes(exchange.stream.raw[-3:]))
        exchange.close()

    client = open_tunnel(edge, script)
    client.send_last(b"bye")
    assert client.read_exactly(3) == b"bye"
    assert client.wait_end() == "closed"


def test_backend_that_switches_speaks_and_leaves_in_one_packet_is_heard(edge: Edge) -> None:
    """
    101, data and FIN together.
    """

    def script(exchange: Exchange) -> None:
        exchange.cork()
        exchange.send(SWITCH + b"bye")
        exchange.close()

    client = open_tunnel(edge, script)
    assert client.read_exactly(3) == b"bye"
    assert client.wait_end() in ("closed", "reset")


def test_client_that_goes_away_ends_the_tunnel(edge: Edge) -> None:
    """
    Both ends are gone when one is.
    """
    client = open_tunnel(edge)
    client.reset()
    assert wait_for(lambda: edge.received[0].ended != "")


def test_backend_that_goes_away_ends_the_tunnel(edge: Edge) -> None:
    """
    The same the other way.
    """

    def script(exchange: Exchange) -> None:
        exchange.send(SWITCH)
        exchange.stream.take(3)
        exchange.reset()

    client = open_tunnel(edge, script)
    client.send(b"die")
    assert client.wait_end() in ("closed", "reset")


@pytest.mark.parametrize(
    "response",
    [
        case("6455-4.2.2 403", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
        case(
            "6455-4.4 426",
            b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nContent-Length: 2\r\n\r\nno",
        ),
        case("9110-7.8 200", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"),
    ],
)
def test_refused_upgrade_is_an_ordinary_response(edge: Edge, response: bytes) -> None:
    """
    RFC 9110, 7.8: a backend may ignore the offer; then the connection goes on as HTTP/1.1.
    """
    edge.origin.restart(response)
    client = edge.connect()
    client.send(HANDSHAKE)
    reply = client.read_reply()
    assert (reply.status, reply.body, reply.is_whole) == (int(response[9:12]), b"no", True)
    edge.origin.restart(OK)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_reply().body == b"ok"


def test_client_of_http_1_0_is_not_upgraded(edge: Edge) -> None:
    """
    RFC 9110, 7.8: Upgrade in an HTTP/1.0 request is ignored.
    """
    request = HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0")
    received = assert_passed(edge, request)
    assert (received.values("upgrade"), b"upgrade" in received.list("connection")) == ([], False)


def test_backend_that_switches_a_client_of_http_1_0_is_502(edge: Edge) -> None:
    """
    A 101 for an offer that never reached the backend is an error of the backend.
    """

    def script(exchange: Exchange) -> None:
        exchange.send(SWITCH)
        exchange.wait_end()
        exchange.close()

    assert edge.ask(HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"), script).status == 502


def test_upgrade_without_its_connection_option_is_not_passed_on(edge: Edge) -> None:
    """
    RFC 9110, 7.8: a sender of Upgrade names it in Connection, or it is not for us.
    """
    received = assert_passed(edge, b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n")
    assert received.values("upgrade") == []


def test_connection_option_without_upgrade_is_an_ordinary_request(edge: Edge) -> None:
    """
    There is nothing to upgrade to.
    """
    received = assert_passed(edge, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n")
    assert received.values("upgrade") == []


def test_upgrade_with_a_body_carries_the_body_first(edge: Edge) -> None:
    """
    RFC 9110, 7.8: the request is completed in HTTP/1.1 before the protocol changes.
    """

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        echo(exchange)

    edge.origin.restart(script)
    client = edge.connect()
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello"
    )
    reply = client.read_reply()
    if reply.status == 101:
        assert edge.origin.wait().body == b"hello"
        client.send(b"ping")
        assert client.read_exactly(4) == b"ping"
    else:
        assert reply.status in (400, 501, 502)
