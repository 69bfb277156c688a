"""
RFC 9113 and RFC 7541: what a client may not do, and what becomes of it.

Each MUST that a server can break, in the order of the standard. `dies` with an error's code: the
connection is ended with it; `resets`: the stream is, and the connection serves on; a number is a
status. Nothing that was refused reached the origin.
"""

from __future__ import annotations

import os
import threading
import time

import pytest

from tests.wire.conformance.judge import case
from tests.wire.harness import CLOSE, OK, READ, RESET, Exchange, Origin, Proxy, Script, wait_for
from tests.wire.http2.peer import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Answer,
    Peer,
    block,
    frame,
    get,
    headers,
    literal,
    request,
    settings,
    u32,
    window,
)
from tests.wire.stress_tools import serving

POST = request("/", "POST")
GET = block(request())
SELF = PREFACE + settings()
# What a client may send of a body before it is told of more (6.9.2).
FIRST_WINDOW = 65535


def dies(code: int) -> tuple[str, int]:
    return "dies", code


def resets(code: int) -> tuple[str, int]:
    return "resets", code


def split(stream: int, data: bytes, *more: tuple[int, int], flags: int = END_STREAM) -> bytes:
    """HEADERS with the first byte of a block, and CONTINUATION with the rest."""
    return frame(HEADERS, flags, stream, data[:1]) + frame(CONTINUATION, END_HEADERS, stream, data[1:])


CONNECTION = [
    case("3.4 no SETTINGS behind the preface", PREFACE + frame(PING, 0, 0, bytes(8)), dies(PROTOCOL_ERROR)),
    case(
        "3.4 an acknowledgement in place of SETTINGS", PREFACE + frame(SETTINGS, ACK, 0), dies(PROTOCOL_ERROR)
    ),
    case("4.1 unknown kind of frame", SELF + frame(0x16, 0, 0, b"12345678") + get(), 200),
    case("4.1 unknown kind of frame on a stream", SELF + get() + frame(0x16, 0xFF, 1, b"1"), 200),
    case("4.1 undefined flags", SELF + frame(PING, 0x16, 0, bytes(8)) + get(), 200),
    case("4.1 the reserved bit", SELF + frame(HEADERS, 5, 0x80000001, GET), 200),
    case("4.2 DATA of 16384 bytes", SELF + headers(1, POST, 0) + frame(DATA, 1, 1, bytes(16384)), 200),
    case(
        "4.2 DATA too large",
        SELF + headers(1, POST, 0) + frame(DATA, 1, 1, bytes(16385)),
        dies(FRAME_SIZE_ERROR),
    ),
    case("4.2 HEADERS too large", SELF + frame(HEADERS, 5, 1, GET + bytes(16384)), dies(FRAME_SIZE_ERROR)),
    case("4.3 a block that is none", SELF + frame(HEADERS, 5, 1, b"\x40\xff"), dies(COMPRESSION_ERROR)),
    case(
        "4.3 PRIORITY amid a block",
        SELF + frame(HEADERS, 1, 1, GET[:5]) + frame(PRIORITY, 0, 1, bytes(5)),
        dies(PROTOCOL_ERROR),
    ),
    case(
        "4.3 another stream's HEADERS amid a block",
        SELF + frame(HEADERS, 1, 1, GET[:5]) + get(3),
        dies(PROTOCOL_ERROR),
    ),
    case(
        "4.3 an unknown frame amid a block",
        SELF + frame(HEADERS, 1, 1, GET[:5]) + frame(0x16, 0, 0),
        dies(PROTOCOL_ERROR),
    ),
    case("4.3 a block in two frames", SELF + split(1, GET), 200),
    case(
        "4.3 a block that is empty at first",
        SELF + frame(HEADERS, 1, 1) + frame(CONTINUATION, 4, 1, GET),
        200,
    ),
    case("5.1 idle: DATA", SELF + frame(DATA, 1, 1, b"x"), dies(PROTOCOL_ERROR)),
    case("5.1 idle: RST_STREAM", SELF + frame(RST_STREAM, 0, 1, u32(8)), dies(PROTOCOL_ERROR)),
    case("5.1 idle: WINDOW_UPDATE", SELF + window(1, 100), dies(PROTOCOL_ERROR)),
    case("5.1 idle: CONTINUATION", SELF + frame(CONTINUATION, 4, 1, GET), dies(PROTOCOL_ERROR)),
    case("5.1 idle: PRIORITY", SELF + frame(PRIORITY, 0, 1, u32(0) + b"\x05") + get(3), 200),
    case("5.1 half-closed: DATA", SELF + get(1, "/slow") + frame(DATA, 1, 1, b"x"), resets(STREAM_CLOSED)),
    case("5.1 half-closed: HEADERS", SELF + get(1, "/slow") + headers(1, request()), resets(STREAM_CLOSED)),
    case(
        "5.1 half-closed: CONTINUATION",
        SELF + get(1, "/slow") + frame(CONTINUATION, 4, 1, GET),
        dies(PROTOCOL_ERROR),
    ),
    case("5.1 half-closed: WINDOW_UPDATE", SELF + get() + window(1, 100), 200),
    case(
        "5.1 closed by RST_STREAM: HEADERS",
        SELF + get(3) + frame(RST_STREAM, 0, 3, u32(8)) + get(3) + get(5),
        200,
    ),
    case("5.1.1 a stream of a server", SELF + headers(2, request()), dies(PROTOCOL_ERROR)),
    case("5.1.1 a lower number", SELF + get(5) + get(3), dies(STREAM_CLOSED)),
    case(
        "5.3.1 HEADERS: depends on itself",
        SELF + frame(HEADERS, 5 | WITH_PRIORITY, 1, u32(1) + b"\0" + GET),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "5.3.1 PRIORITY: depends on itself",
        SELF + get(1, "/slow") + frame(PRIORITY, 0, 1, u32(1) + b"\0"),
        resets(PROTOCOL_ERROR),
    ),
    case("5.4.1 GOAWAY comes before the end", SELF + frame(PING, 0, 0, b"short"), dies(FRAME_SIZE_ERROR)),
    case("6.1 DATA of no stream", SELF + frame(DATA, 1, 0, b"x"), dies(PROTOCOL_ERROR)),
    case(
        "6.1 more padding than payload",
        SELF + headers(1, POST, 0) + frame(DATA, 9, 1, b"\x06hello"),
        dies(PROTOCOL_ERROR),
    ),
    case(
        "6.1 no length of the padding", SELF + headers(1, POST, 0) + frame(DATA, 9, 1), dies(FRAME_SIZE_ERROR)
    ),
    case("6.1 padding and nothing else", SELF + headers(1, POST, 0) + frame(DATA, 9, 1, b"\x05hello"), 200),
    case("6.2 HEADERS of no stream", SELF + headers(0, request()), dies(PROTOCOL_ERROR)),
    case(
        "6.2 more padding than payload",
        SELF + frame(HEADERS, 5 | PADDED, 1, b"\xff" + GET),
        dies(PROTOCOL_ERROR),
    ),
    case(
        "6.2 padding and priority",
        SELF + frame(HEADERS, 5 | PADDED | WITH_PRIORITY, 1, b"\x03" + u32(0) + b"\x10" + GET + bytes(3)),
        200,
    ),
    case(
        "6.2 no room for a priority",
        SELF + frame(HEADERS, 5 | WITH_PRIORITY, 1, b"123"),
        dies(FRAME_SIZE_ERROR),
    ),
    case("6.3 PRIORITY of no stream", SELF + frame(PRIORITY, 0, 0, bytes(5)), dies(PROTOCOL_ERROR)),
    case(
        "6.3 PRIORITY of another size",
        SELF + get(1, "/slow") + frame(PRIORITY, 0, 1, bytes(4)),
        resets(FRAME_SIZE_ERROR),
    ),
    case("6.4 RST_STREAM of no stream", SELF + frame(RST_STREAM, 0, 0, u32(8)), dies(PROTOCOL_ERROR)),
    case(
        "6.4 RST_STREAM of another size",
        SELF + get(1, "/slow") + frame(RST_STREAM, 0, 1, bytes(3)),
        dies(FRAME_SIZE_ERROR),
    ),
    case(
        "6.5 an acknowledgement with a payload",
        SELF + frame(SETTINGS, ACK, 0, bytes(6)),
        dies(FRAME_SIZE_ERROR),
    ),
    case("6.5 SETTINGS on a stream", SELF + frame(SETTINGS, 0, 1), dies(PROTOCOL_ERROR)),
    case("6.5 SETTINGS of another size", SELF + frame(SETTINGS, 0, 0, bytes(3)), dies(FRAME_SIZE_ERROR)),
    case("6.5.2 ENABLE_PUSH is 2", SELF + settings((ENABLE_PUSH, 2)), dies(PROTOCOL_ERROR)),
    case(
        "6.5.2 INITIAL_WINDOW_SIZE is 2³¹",
        SELF + settings((INITIAL_WINDOW_SIZE, 1 << 31)),
        dies(FLOW_CONTROL_ERROR),
    ),
    case("6.5.2 MAX_FRAME_SIZE is 16383", SELF + settings((MAX_FRAME_SIZE, 16383)), dies(PROTOCOL_ERROR)),
    case("6.5.2 MAX_FRAME_SIZE is 2²⁴", SELF + settings((MAX_FRAME_SIZE, 1 << 24)), dies(PROTOCOL_ERROR)),
    case("6.5.2 an unknown setting", SELF + settings((0xFF, 1)) + get(), 200),
    case("6.6 PUSH_PROMISE", SELF + frame(PUSH_PROMISE, 4, 1, u32(2) + GET), dies(PROTOCOL_ERROR)),
    case("6.7 PING on a stream", SELF + frame(PING, 0, 1, bytes(8)), dies(PROTOCOL_ERROR)),
    case("6.7 PING of another size", SELF + frame(PING, 0, 0, bytes(6)), dies(FRAME_SIZE_ERROR)),
    case("6.7 an acknowledgement of nothing", SELF + frame(PING, ACK, 0, bytes(8)) + get(), 200),
    case("6.8 GOAWAY on a stream", SELF + frame(GOAWAY, 0, 1, bytes(8)), dies(PROTOCOL_ERROR)),
    case("6.8 GOAWAY of another size", SELF + frame(GOAWAY, 0, 0, bytes(7)), dies(FRAME_SIZE_ERROR)),
    case("6.8 GOAWAY behind a request", SELF + get() + frame(GOAWAY, 0, 0, bytes(8)), 200),
    case("6.9 WINDOW_UPDATE of 0", SELF + window(0, 0), dies(PROTOCOL_ERROR)),
    case("6.9 WINDOW_UPDATE of 0 on a stream", SELF + get(1, "/slow") + window(1, 0), resets(PROTOCOL_ERROR)),
    case("6.9 WINDOW_UPDATE of another size", SELF + frame(9 - 1, 0, 0, bytes(3)), dies(FRAME_SIZE_ERROR)),
    case("6.9.1 a window that is too large", SELF + window(0, 0x7FFFFFFF), dies(FLOW_CONTROL_ERROR)),
    case(
        "6.9.1 a stream's window that is too large",
        SELF + get(1, "/slow") + window(1, 0x7FFFFFFF),
        resets(FLOW_CONTROL_ERROR),
    ),
    case(
        "6.9.2 a setting makes a window too large",
        SELF + get(1, "/slow") + window(1, 1) + settings((INITIAL_WINDOW_SIZE, 0x7FFFFFFF)),
        dies(FLOW_CONTROL_ERROR),
    ),
    case(
        "6.10 CONTINUATION behind the end of a block",
        SELF + get(1, "/slow") + frame(CONTINUATION, 4, 1, GET),
        dies(PROTOCOL_ERROR),
    ),
    case(
        "6.10 CONTINUATION of no stream",
        SELF + frame(HEADERS, 1, 1, GET[:3]) + frame(CONTINUATION, 4, 0, GET[3:]),
        dies(PROTOCOL_ERROR),
    ),
    case(
        "6.10 CONTINUATION behind DATA",
        SELF + headers(1, POST, 0) + frame(DATA, 0, 1, b"x") + frame(CONTINUATION, 4, 1, GET),
        dies(PROTOCOL_ERROR),
    ),
    case("7 an unknown error", SELF + get(1) + frame(RST_STREAM, 0, 1, u32(0xFF)) + get(3) + get(5), 200),
]


def without(name: str) -> list[tuple[str, str]]:
    return [field for field in request() if field[0] != name]


def sent(fields: list[tuple[str, str]]) -> bytes:
    return SELF + headers(1, fields)


UPLOAD = SELF + headers(1, [*POST, ("content-length", "5")], 0)

MESSAGES = [
    case(
        "8.1 fields behind the body without its end",
        SELF + headers(1, POST, 0) + frame(DATA, 0, 1, b"x") + headers(1, [("a", "b")], 0),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "8.1 a pseudo-field in trailers",
        SELF + headers(1, POST, 0) + headers(1, [(":method", "GET")]),
        resets(PROTOCOL_ERROR),
    ),
    case("8.1.1 more than content-length", UPLOAD + frame(DATA, 1, 1, b"123456"), resets(PROTOCOL_ERROR)),
    case("8.1.1 less than content-length", UPLOAD + frame(DATA, 1, 1, b"1234"), resets(PROTOCOL_ERROR)),
    case(
        "8.1.1 less than content-length in two frames",
        UPLOAD + frame(DATA, 0, 1, b"12") + frame(DATA, 1, 1, b"34"),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "8.1.1 less than content-length before trailers",
        UPLOAD + frame(DATA, 0, 1, b"12") + headers(1, [("a", "b")]),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "8.1.1 content-length without content", sent([*POST, ("content-length", "1")]), resets(PROTOCOL_ERROR)
    ),
    case(
        "8.1.1 two content-lengths",
        SELF
        + headers(1, [*POST, ("content-length", "1"), ("content-length", "1")], 0)
        + frame(DATA, 1, 1, b"x"),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "8.1.1 a content-length that is none", sent([*POST, ("content-length", "+1")]), resets(PROTOCOL_ERROR)
    ),
    case("8.2.1 a name in upper case", sent([*request(), ("X-A", "b")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 an empty name", sent([*request(), ("", "b")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 a blank in a name", sent([*request(), ("a b", "c")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 a colon in a name", sent([*request(), ("a:b", "c")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 a line end in a name", sent([*request(), ("a\r\nb", "c")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 CRLF in a value", sent([*request(), ("a", "b\r\nx: y")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 LF in a value", sent([*request(), ("a", "b\nx: y")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 CR in a value", sent([*request(), ("a", "b\rx")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 NUL in a value", sent([*request(), ("a", "b\0")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 a blank before a value", sent([*request(), ("a", " b")]), resets(PROTOCOL_ERROR)),
    case("8.2.1 a blank behind a value", sent([*request(), ("a", "b\t")]), resets(PROTOCOL_ERROR)),
    case("8.2.2 connection", sent([*request(), ("connection", "close")]), resets(PROTOCOL_ERROR)),
    case("8.2.2 keep-alive", sent([*request(), ("keep-alive", "5")]), resets(PROTOCOL_ERROR)),
    case("8.2.2 proxy-connection", sent([*request(), ("proxy-connection", "close")]), resets(PROTOCOL_ERROR)),
    case(
        "8.2.2 transfer-encoding",
        SELF + headers(1, [*POST, ("transfer-encoding", "chunked")], 0) + frame(DATA, 1, 1, b"0\r\n\r\n"),
        resets(PROTOCOL_ERROR),
    ),
    case("8.2.2 upgrade", sent([*request(), ("upgrade", "websocket")]), resets(PROTOCOL_ERROR)),
    case("8.2.2 te is gzip", sent([*request(), ("te", "gzip")]), resets(PROTOCOL_ERROR)),
    case("8.2.2 te is trailers", sent([*request(), ("te", "trailers")]), 200),
    case("8.3 a pseudo-field that is unknown", sent([*request(), (":test", "x")]), resets(PROTOCOL_ERROR)),
    case("8.3 a pseudo-field of responses", sent([*request(), (":status", "200")]), resets(PROTOCOL_ERROR)),
    case(
        "8.3 a pseudo-field behind a field",
        sent([*without(":path"), ("a", "b"), (":path", "/")]),
        resets(PROTOCOL_ERROR),
    ),
    *(
        case(f"8.3.1 no {name}", sent(without(name)), resets(PROTOCOL_ERROR))
        for name in (":method", ":scheme", ":path")
    ),
    *(
        case(f"8.3.1 {name} twice", sent([*request(), field]), resets(PROTOCOL_ERROR))
        for field in request()
        for name in field[:1]
    ),
    case("8.3.1 an empty :path", sent([*without(":path"), (":path", "")]), resets(PROTOCOL_ERROR)),
    case(
        "8.3.1 :path is no path",
        sent([*without(":path"), (":path", "http://other/")]),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "8.3.1 a blank in :path", sent([*without(":path"), (":path", "/ HTTP/1.1")]), resets(PROTOCOL_ERROR)
    ),
    case("8.3.1 CRLF in :path", sent([*without(":path"), (":path", "/x\r\na: b")]), resets(PROTOCOL_ERROR)),
    case(
        "8.3.1 a blank in :method",
        sent([*without(":method"), (":method", "GET /admin")]),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "8.3.1 CRLF in :authority",
        sent([*without(":authority"), (":authority", "a\r\nb: c")]),
        resets(PROTOCOL_ERROR),
    ),
    case("8.3.1 host is not :authority", sent([*request(), ("host", "other")]), resets(PROTOCOL_ERROR)),
    case("8.3.1 host is :authority", sent([*request(), ("host", "edge")]), 200),
    case("8.3.1 host alone", sent([*without(":authority"), ("host", "edge")]), 200),
    case("8.3.1 neither host nor :authority", sent(without(":authority")), 200),
    case("8.3.1 userinfo in :authority", sent([*without(":authority"), (":authority", "me@edge")]), 400),
    case("8.3.1 another :scheme", sent([*without(":scheme"), (":scheme", "ftp")]), resets(PROTOCOL_ERROR)),
    case(
        "8.3.1 OPTIONS *",
        sent([(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "edge")]),
        200,
    ),
    case("8.5 CONNECT", sent([(":method", "CONNECT"), (":authority", "edge:80")]), 405),
    case(
        "8.5 CONNECT with :path",
        sent([(":method", "CONNECT"), (":authority", "edge:80"), (":path", "/")]),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "8441 :protocol without CONNECT",
        sent([*request(), (":protocol", "websocket")]),
        resets(PROTOCOL_ERROR),
    ),
    case(
        "8441 a :protocol that is unknown",
        SELF + headers(1, [*request("/", "CONNECT"), (":protocol", "connect-udp")], 0),
        resets(PROTOCOL_ERROR),
    ),
]

HPACK = [
    case("2.3.3 an index of nothing", SELF + frame(HEADERS, 5, 1, GET + b"\xc6"), dies(COMPRESSION_ERROR)),
    case(
        "4.2 a table size behind a field", SELF + frame(HEADERS, 5, 1, GET + b"\x20"), dies(COMPRESSION_ERROR)
    ),
    case("4.2 a table size before the fields", SELF + frame(HEADERS, 5, 1, b"\x20" + GET), 200),
    case(
        "5.1 a number without end",
        SELF + frame(HEADERS, 5, 1, GET + b"\xff" + b"\xff" * 12 + b"\x01"),
        dies(COMPRESSION_ERROR),
    ),
    case(
        "5.2 Huffman padding of 8 bits",
        SELF + frame(HEADERS, 5, 1, GET + b"\0\x01a\x84\x49\x50\x9f\xff"),
        dies(COMPRESSION_ERROR),
    ),
    case(
        "5.2 Huffman padding of zeros",
        SELF + frame(HEADERS, 5, 1, GET + b"\0\x01a\x82\xf2\xb0"),
        dies(COMPRESSION_ERROR),
    ),
    case(
        "5.2 Huffman with EOS",
        SELF + frame(HEADERS, 5, 1, GET + b"\0\x01a\x85\xf2\xff\xff\xff\xff"),
        dies(COMPRESSION_ERROR),
    ),
    case("6.1 index 0", SELF + frame(HEADERS, 5, 1, GET + b"\x80"), dies(COMPRESSION_ERROR)),
    case(
        "6.3 a table larger than allowed",
        SELF + frame(HEADERS, 5, 1, b"\x3f\xe2\x1f" + GET),
        dies(COMPRESSION_ERROR),
    ),
    case("a string that is cut off", SELF + frame(HEADERS, 5, 1, GET + b"\0\x7fa"), dies(COMPRESSION_ERROR)),
]


def answer(exchange: Exchange) -> None:
    """What is asked for at /slow is never answered."""
    exchange.read_body()
    if exchange.request.target == b"/slow":
        exchange.wait_end()
        exchange.close()
    else:
        exchange.send(OK)


@pytest.mark.parametrize(("data", "outcome"), [*CONNECTION, *MESSAGES, *HPACK])
def test_rule(proxy: Proxy, origin: Origin, data: bytes, outcome: int | tuple[str, int]) -> None:
    """What breaks a rule ends as the standard says, and what does not is served."""
    origin.restart(answer)
    peer = Peer(proxy.port, greet=False)
    peer.send(data)
    if isinstance(outcome, int):
        reply = peer.read_answer(last_stream(data))
        assert (reply.status, reply.end) == (outcome, "ended"), reply
    elif outcome[0] == "dies":
        assert peer.read_end() == "closed"
        assert [code for _, code, _ in peer.goaway] == [outcome[1]]
    else:
        reply = peer.read_answer(1)
        assert (reply.end, reply.code) == ("reset", outcome[1]), reply
        peer.send(get(101, "/more"))
        assert peer.read_answer(101).status == 200
    peer.close()
    origin.settle()
    assert not origin.faults
    if outcome != 200:
        assert not [got for got in origin.requests if got.complete and got.target not in (b"/slow", b"/more")]


def test_wrong_preface_is_answered(proxy: Proxy, origin: Origin) -> None:
    """What only begins like HTTP/2 is HTTP/1.1, and refused as that (3.4)."""
    origin.restart()
    peer = Peer(proxy.port, greet=False)
    peer.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + settings())
    assert peer.read_reply().status == 505
    assert peer.wait_end() == "closed"


def last_stream(data: bytes) -> int:
    """Return the last stream that HEADERS begin, at least 1."""
    at, last = len(PREFACE), 1
    while at < len(data):
        if data[at + 3] == HEADERS:
            last = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return last


def test_settings_are_acknowledged_and_ping_answered(proxy: Proxy) -> None:
    """6.5.3 and 6.7: both at once, and SETTINGS come first (3.4)."""
    peer = Peer(proxy.port, (INITIAL_WINDOW_SIZE, 70_000))
    assert peer.is_alive()
    assert peer.frames[0].kind == SETTINGS
    assert peer.theirs[ENABLE_CONNECT_PROTOCOL] == 1
    assert peer.theirs[MAX_CONCURRENT_STREAMS] >= 100
    assert [got.kind for got in peer.frames if got.flags & ACK] == [SETTINGS, PING]
    peer.close()


@pytest.mark.parametrize("how", ["bytes", "chunks", "close"])
def test_windows_are_kept_to(proxy: Proxy, origin: Origin, how: str) -> None:
    """6.9: no more DATA than the stream's window, which SETTINGS move too, below zero even (6.9.2)."""
    body = bytes(range(10))
    heads = {
        "bytes": b"Content-Length: 10\r\n\r\n" + body,
        "chunks": b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        + b"0\r\n\r\n",
        "close": b"Connection: close\r\n\r\n" + body,
    }
    origin.restart((READ, b"HTTP/1.1 200 OK\r\n" + heads[how], *([CLOSE] if how == "close" else ())))
    peer = Peer(proxy.port, (INITIAL_WINDOW_SIZE, 3), credits=False)
    number = peer.ask(request())
    reply = peer.answers.setdefault(number, Answer())
    while len(reply.body) < 3:
        peer.read_frame()
    assert peer.is_silent()
    peer.send(settings((INITIAL_WINDOW_SIZE, 1)) + window(number, 2))  # the window is 0
    peer.is_alive()
    assert reply.body == body[:3]
    peer.send(window(number, 1))
    while len(reply.body) < 4:
        peer.read_frame()
    assert peer.is_alive()
    assert reply.body == body[:4]
    peer.send(settings((INITIAL_WINDOW_SIZE, 7)))
    # All of the body fits exactly; its end needs no window.
    assert peer.read_answer(number).end == "ended"
    assert reply.body == body
    peer.close()


def test_window_of_the_connection_is_kept_to(proxy: Proxy, origin: Origin) -> None:
    """6.9.1: of all streams together no more than the connection's window."""
    origin.restart(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50000))
    peer = Peer(proxy.port, (INITIAL_WINDOW_SIZE, 1 << 20), credits=False)
    numbers = [peer.ask(request()) for _ in range(3)]
    replies = [peer.answers.setdefault(number, Answer()) for number in numbers]
    while sum(len(reply.body) for reply in replies) < 65535:
        peer.read_frame()
    assert peer.is_alive()
    assert sum(len(reply.body) for reply in replies) == 65535
    peer.send(window(0, 100_000))
    assert [len(peer.read_answer(number).body) for number in numbers] == [50000] * 3
    peer.close()


def test_client_may_not_exceed_our_windows(proxy: Proxy, origin: Origin) -> None:
    """6.9.1: of the stream, while nobody reads; and of the connection."""
    deaf = threading.Event()
    origin.restart((lambda exchange: deaf.wait(20), READ, OK))
    peer = Peer(proxy.port)
    peer.send(headers(1, request("/", "POST"), 0))
    # What the proxy and the kernel take passes on; then it is the window's turn.
    for _ in range(2000):
        peer.send(frame(DATA, 0, 1, bytes(16384)))
    reply = peer.read_answer(1)
    deaf.set()
    assert (reply.end, reply.code) == ("reset", FLOW_CONTROL_ERROR) or peer.goaway
    peer.close()


def test_too_many_streams_are_refused(proxy: Proxy, origin: Origin) -> None:
    """5.1.2: one more than MAX_CONCURRENT_STREAMS is told that it was not served, the others are."""
    held = threading.Event()
    origin.restart((READ, lambda exchange: held.wait(20), OK))
    peer = Peer(proxy.port)
    peer.is_alive()
    most = peer.theirs[MAX_CONCURRENT_STREAMS]
    numbers = [peer.ask(request()) for _ in range(most + 1)]
    refused = peer.read_answer(numbers[-1])
    held.set()
    assert (refused.end, refused.code) == ("reset", REFUSED_STREAM)
    assert [peer.read_answer(number).status for number in numbers[:-1]] == [200] * most
    peer.close()


def test_trailers_both_ways(proxy: Proxy, origin: Origin) -> None:
    """8.1: fields behind the body, of the request and of the response."""
    origin.restart(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
        b"X-Sum: 7\r\nGrpc-Status: 0\r\n\r\n"
    )
    peer = Peer(proxy.port)
    body = frame(DATA, 0, 1, b"one") + frame(DATA, 0, 1, b"two")
    peer.send(
        headers(1, [*POST, ("te", "trailers")], 0) + body + headers(1, [("x-check", "9"), ("x-b", "c")])
    )
    reply = peer.read_answer(1)
    assert (reply.body, reply.trailers, reply.end) == (
        b"abc",
        [("x-sum", "7"), ("grpc-status", "0")],
        "ended",
    )
    got = origin.wait()
    assert (got.body, got.trailers) == (b"onetwo", [(b"x-check", b"9"), (b"x-b", b"c")])
    assert got.list("te") == [b"trailers"]
    peer.close()


@pytest.mark.parametrize("length", [0, 1, 16384, 16385, 300_000])
@pytest.mark.parametrize("known", [True, False])
def test_bodies_both_ways(proxy: Proxy, origin: Origin, length: int, known: bool) -> None:
    """Of any size, with and without a length."""
    body = os.urandom(length)

    def echo(exchange: Exchange) -> None:
        data = exchange.read_body()
        if known:
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
        else:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunk)

    origin.restart(echo)
    peer = Peer(proxy.port)
    fields = [*POST, ("content-length", str(length))] if known else POST
    peer.send(headers(1, fields, 0))
    at = 0
    while at < length:
        # As much as the first window holds needs no leave.
        size = min(16384, length - at)
        while at + size > FIRST_WINDOW + sum(
            int.from_bytes(got.payload, "big")
            for got in peer.frames
            if got.kind == WINDOW_UPDATE and got.stream == 1
        ):
            peer.read_frame()
        peer.send(frame(DATA, 0, 1, body[at : at + size]))
        at += size
    peer.send(frame(DATA, END_STREAM, 1))
    reply = peer.read_answer(1)
    assert (reply.status, reply.end) == (200, "ended")
    assert reply.body == body
    assert origin.wait().body == body
    peer.close()


def test_frames_that_come_in_parts_are_no_slow_client(origin: Origin) -> None:
    """The time of a request head is a frame's own, however many come with their ends in other reads."""
    origin.restart()
    piece = frame(DATA, 0, 1, bytes(3000))
    with serving({"BLUE": origin.url, "SILLYPROXY_HEADER_TIMEOUT": "1s"}) as proxy:
        peer = Peer(proxy.port)
        peer.send(headers(1, POST, 0) + piece[:1500])
        for _ in range(20):
            time.sleep(0.12)
            peer.send(piece[1500:] + piece[:1500])
        peer.send(piece[1500:] + frame(DATA, END_STREAM, 1))
        assert peer.read_answer(1).status == 200
        assert len(origin.wait().body) == 21 * 3000
        peer.close()


def test_early_response_and_the_rest_of_the_request(proxy: Proxy, origin: Origin) -> None:
    """8.1: a response before the request's end; then its client is told that the rest is not wanted."""
    origin.restart((b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", CLOSE))
    peer = Peer(proxy.port)
    peer.send(headers(1, [*POST, ("content-length", "1000000")], 0) + frame(DATA, 0, 1, bytes(1000)))
    reply = peer.read_answer(1)
    assert (reply.status, reply.body, reply.end) == (413, b"no", "ended")
    peer.send(get(3))
    assert peer.read_answer(3).status == 413
    while reply.end != "reset":
        peer.read_frame()
    assert reply.code == NO_ERROR
    peer.close()


def test_interim_responses(proxy: Proxy, origin: Origin) -> None:
    """8.1: 100 and 103 come first, each as HEADERS of their own."""
    origin.restart((b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", READ, OK))
    peer = Peer(proxy.port)
    peer.send(headers(1, [*POST, ("expect", "100-continue")], 0))
    while len(peer.answers.setdefault(1, Answer()).interim) < 2:
        peer.read_frame()
    peer.send(frame(DATA, END_STREAM, 1, b"x"))
    reply = peer.read_answer(1)
    assert [fields[0][1] for fields in reply.interim] == ["103", "100"]
    assert (reply.status, reply.body) == (200, b"ok")
    peer.close()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        case(
            "cut short of its length",
            (READ, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CLOSE),
            INTERNAL_ERROR,
        ),
        case(
            "cut short of its last chunk",
            (READ, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", CLOSE),
            INTERNAL_ERROR,
        ),
        case(
            "reset where its end is the connection's",
            (READ, b"HTTP/1.1 200 OK\r\n\r\nhalf", 0.1, RESET),
            INTERNAL_ERROR,
        ),
    ],
)
def test_response_that_breaks_off_is_a_reset_stream(
    proxy: Proxy, origin: Origin, script: Script, code: int
) -> None:
    """Never one that looks whole; and the connection serves on."""
    origin.restart(script)
    peer = Peer(proxy.port)
    reply = peer.read_answer(peer.ask(request()))
    assert (reply.end, reply.code, reply.body) == ("reset", code, b"half")
    origin.restart()
    assert peer.get().status == 200
    peer.close()


def test_client_that_resets_is_gone_for_the_endpoint(proxy: Proxy, origin: Origin) -> None:
    """What nobody waits for any more is not gone on with; other streams do not notice."""
    origin.restart(answer)
    peer = Peer(proxy.port)
    slow = peer.ask(request("/slow"))
    got = origin.wait()
    peer.send(frame(RST_STREAM, 0, slow, u32(CANCEL)))
    assert peer.get().status == 200
    assert wait_for(lambda: got.ended != "", origin.changed)
    assert peer.is_alive()
    peer.close()


def test_what_the_endpoint_gets(proxy: Proxy, origin: Origin) -> None:
    """The request of HTTP/1.1 that it would be: cookies are one field, Via says how it came."""
    origin.restart()
    peer = Peer(proxy.port)
    fields = request("/a?b", "DELETE", ("cookie", "a=1"), ("x-one", "1"), ("cookie", "b=2"), ("color", "red"))
    assert peer.read_answer(peer.ask(fields)).status == 200
    got = origin.wait()
    assert got.line == b"DELETE /a?b HTTP/1.1"
    assert got.values("host") == [b"edge"]
    assert got.values("cookie") == [b"a=1; b=2"]
    assert got.values("color") == [b"blue"]
    assert got.values("x-one") == [b"1"]
    assert got.values("via") == [b"2.0 sillyproxy"]
    assert got.values("x-forwarded-for") == [b"127.0.0.1"]
    assert got.values("x-forwarded-proto") == [b"http"]
    assert got.values("transfer-encoding") == got.values("content-length") == []
    peer.close()


def test_heads_that_are_too_large(proxy: Proxy, origin: Origin) -> None:
    """Past the limit a request is answered 431; the connection serves on."""
    origin.restart()
    peer = Peer(proxy.port)
    peer.send(frame(HEADERS, END_STREAM, 1, GET))
    big = literal("x-big", "x" * 15_000)
    peer.send(4 * frame(CONTINUATION, 0, 1, big) + frame(CONTINUATION, END_HEADERS, 1, big))
    assert peer.read_answer(1).status == 431
    peer.send(get(3))
    assert peer.read_answer(3).status == 200
    peer.close()
    assert [got.target for got in origin.requests] == [b"/"]
