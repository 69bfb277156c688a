"""Chunked request bodies, extensions and trailers (RFC 9112, section 7.1; RFC 9110, section 6.5)."""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_either, assert_passed, case
from tests.wire.harness import OK, Edge, Received, wait_for

HEAD = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

GOOD = [
    case("9112-7.1 one chunk", b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    case("9112-7.1 no chunk", b"0\r\n\r\n", b""),
    case("9112-7.1 two chunks", b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    case("9112-7.1 lower-case size", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    case("9112-7.1 upper-case size", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    case("9112-7.1 mixed-case size", b"1aF\r\n" + b"x" * 0x1AF + b"\r\n0\r\n\r\n", b"x" * 0x1AF),
    case("9112-7.1 leading zeros", b"005\r\nhello\r\n0\r\n\r\n", b"hello"),
    case("9112-7.1 a last chunk of zeros", b"5\r\nhello\r\n000\r\n\r\n", b"hello"),
    case("9112-7.1.1 an extension", b"5;a\r\nhello\r\n0\r\n\r\n", b"hello"),
    case("9112-7.1.1 an extension with a value", b"5;a=b\r\nhello\r\n0;c=d\r\n\r\n", b"hello"),
    case("9112-7.1.1 a quoted value", b'5;a="b c; \\" d"\r\nhello\r\n0\r\n\r\n', b"hello"),
    case("9112-7.1.1 several extensions", b"5;a=b;c;d=e\r\nhello\r\n0\r\n\r\n", b"hello"),
    case("9112-7.1 data that look like chunks", b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n\r\n"),
    case(
        "9112-7.1 data that look like a request",
        b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n",
        SMUGGLED,
    ),
    case("9112-7.1 a thousand chunks", b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n", b"x" * 1000),
    case("9112-7.1 a chunk of 1 MiB", b"100000\r\n" + b"x" * (1 << 20) + b"\r\n0\r\n\r\n", b"x" * (1 << 20)),
]


@pytest.mark.parametrize(("chunks", "body"), GOOD)
def test_chunked_body_arrives_whole_and_ends_where_it_ends(edge: Edge, chunks: bytes, body: bytes) -> None:
    """
    The backend gets the same data, and the request behind it is the next request.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(HEAD + chunks + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_reply().status == 200
    assert client.read_reply().status == 200
    assert [(r.target, r.body) for r in edge.received] == [(b"/c", body), (b"/next", b"")]
    assert edge.origin.faults == []


def test_chunked_body_that_comes_a_byte_at_a_time_is_understood(edge: Edge) -> None:
    """
    Where packets begin and end means nothing, within a chunk line least of all.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(HEAD)
    client.send_slowly(b'5;a="b"\r\nhello\r\n06\r\n world\r\n0\r\nX-T: 1\r\n\r\n')
    assert client.read_reply().status == 200
    assert edge.origin.wait().body == b"hello world"


BAD = [
    case("9112-7.1 no size", b"\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 no hexadecimal digit", b"g\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a plus", b"+5\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 0X0", b"0X0\r\n\r\n"),
    case("9112-7.1 two numbers", b"5 5\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a leading space", b" 5\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a leading tab", b"\t5\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a point", b"5.0\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a comma", b"5,\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 an h behind", b"5h\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 NUL behind", b"5\0\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a vertical tab behind", b"5\x0b\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a no-break space behind", b"5\xa0\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 a digit beyond ASCII", b"\xd9\xa5" + b"\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 2^64 + 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 2^68 - 1", b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 2^128 + 5", b"1" + b"0" * 31 + b"5\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 40,000 leading zeros", b"0" * 40_000 + b"5\r\nhello\r\n0\r\n\r\n"),
    case("9112-2.2 LF after the size", b"5\nhello\r\n0\r\n\r\n"),
    case("9112-2.2 LF after the data", b"5\r\nhello\n0\r\n\r\n"),
    case("9112-2.2 LF after the last size", b"5\r\nhello\r\n0\n\r\n"),
    case("9112-2.2 LF at the very end", b"5\r\nhello\r\n0\r\n\n"),
    case("9112-2.2 CR after the size", b"5\rhello\r\n0\r\n\r\n"),
    case("9112-2.2 CR CR LF after the size", b"5\r\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1 CR and another byte after the size", b"5\rXhello\r\n0\r\n\r\n"),
    case("9112-7.1 no CRLF after the data", b"5\r\nhello0\r\n\r\n"),
    case("9112-7.1 more data than the size", b"5\r\nhello!\r\n0\r\n\r\n"),
    case("9112-7.1 two bytes in place of CRLF", b"5\r\nhelloXX0\r\n\r\n"),
    case("9112-7.1 CR X in place of CRLF", b"5\r\nhello\rX0\r\n\r\n"),
    case("9112-7.1 an empty line after the data", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
    case("9112-7.1.1 LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1.1 CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1.1 NUL in an extension", b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1.1 LF in a quoted value", b'5;a="\n"\r\nhello\r\n0\r\n\r\n'),
    case("9112-7.1.1 an extension of 100 kB", b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"),
    case("9112-7.1.1 extensions without end", (b"1;" + b"a" * 500 + b"\r\nx\r\n") * 2000 + b"0\r\n\r\n"),
    case("9112-7.1.2 a trailer without colon", b"0\r\nX-T\r\n\r\n"),
    case("9112-7.1.2 a trailer without name", b"0\r\n: x\r\n\r\n"),
    case("9112-7.1.2 a space before the colon", b"0\r\nX-T : x\r\n\r\n"),
    case("9112-7.1.2 a folded trailer", b"0\r\nX-T: x\r\n y\r\n\r\n"),
    case("9112-7.1.2 a blank before the first trailer", b"0\r\n X-T: x\r\n\r\n"),
    case("9112-7.1.2 NUL in a trailer", b"0\r\nX-T: \0\r\n\r\n"),
    case("9112-7.1.2 LF in a trailer", b"0\r\nX-T: x\nX-U: y\r\n\r\n"),
    case("9112-7.1.2 CR in a trailer", b"0\r\nX-T: x\rX-U: y\r\n\r\n"),
    case("9112-7.1.2 trailers beyond the limit", b"0\r\n" + b"X-T: " + b"x" * 70_000 + b"\r\n\r\n"),
    case("9112-7.1.2 trailers without end", b"0\r\n" + b"X-T: 0123456789\r\n" * 6000 + b"\r\n"),
]


def get_of(edge: Edge, target: bytes) -> list[Received]:
    return [request for request in edge.received if request.target == target]


@pytest.mark.parametrize("chunks", BAD)
def test_malformed_chunked_body_is_refused(edge: Edge, chunks: bytes) -> None:
    """
    The client gets 4xx and is closed; the backend may have seen the head, but never a body that ends.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(HEAD + chunks + SMUGGLED)
    reply = client.read_reply()
    assert reply.status in (400, 413, 431), f"{reply}; origin: {edge.received}"
    assert client.wait_end() == "closed"
    assert not bytes(client.stream.buffer)
    assert not any(request.complete for request in edge.received)
    assert not get_of(edge, b"/smuggled")


def test_malformed_chunk_after_good_ones_cuts_the_request_short(edge: Edge) -> None:
    """
    When data went on already, the backend must see the body break off, not end.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(HEAD + b"5\r\nhello\r\n")
    edge.origin.wait(complete=False)
    client.send(b"zz\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
    assert client.read_reply().status == 400
    assert client.wait_end() == "closed"
    assert wait_for(lambda: edge.received[0].ended != "")
    assert not edge.received[0].complete


@pytest.mark.parametrize(
    "size",
    [case("9112-7.1 a trailing space", b"5 "), case("9112-7.1.1 blanks before an extension", b"5 ; a = b")],
)
def test_blanks_after_a_size_are_skipped_or_refused(edge: Edge, size: bytes) -> None:
    """
    RFC 9112, 7.1.1 lets a recipient skip blanks around an extension; they must not change the data.
    """
    received = assert_either(edge, HEAD + size + b"\r\nhello\r\n0\r\n\r\n", 400)
    assert received is None or received.body == b"hello"


def test_chunk_size_of_2_to_the_32_plus_5_is_not_5(edge: Edge) -> None:
    """
    RFC 9112, 7.1: integer overflow must not shorten a chunk.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(HEAD + b"100000005\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
    client.half_close()
    reply = client.read_reply()
    assert reply.status in (0, 400, 413, 502), reply
    assert not any(request.complete for request in edge.received)


CUT = [
    case("9112-8 after the head", b""),
    case("9112-8 in a size", b"5"),
    case("9112-8 in the data", b"5\r\nhel"),
    case("9112-8 after a chunk", b"5\r\nhello\r\n"),
    case("9112-8 before the last CRLF", b"5\r\nhello\r\n0\r\n"),
    case("9112-8 in the trailers", b"5\r\nhello\r\n0\r\nX-T: x\r\n"),
]


@pytest.mark.parametrize("chunks", CUT)
@pytest.mark.parametrize("packets", [case("FIN in one packet", 1), case("FIN on its own", 2)])
def test_chunked_body_cut_short_never_ends_at_the_backend(edge: Edge, chunks: bytes, packets: int) -> None:
    """
    RFC 9112, 8: a chunked body without its last chunk is incomplete, and stays so on the next hop.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    if packets == 1:
        client.send_last(HEAD + chunks)
    else:
        client.send(HEAD + chunks)
        edge.origin.wait(complete=False)
        client.half_close()
    reply = client.read_reply()
    assert reply.status in (0, 400), reply
    assert client.wait_end() in ("closed", "reset")
    assert not any(request.complete for request in edge.received)


def test_body_of_a_length_cut_short_never_ends_at_the_backend(edge: Edge) -> None:
    """
    RFC 9112, 8: fewer bytes than Content-Length says are an incomplete request.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    client.half_close()
    assert client.read_reply().status in (0, 400)
    assert not any(request.complete for request in edge.received)


def test_trailers_reach_the_backend(edge: Edge) -> None:
    """
    RFC 9110, 6.5: what follows the body stays behind the body.
    """
    received = assert_passed(edge, HEAD + b"5\r\nhello\r\n0\r\nX-Checksum: abc\r\nX-Other: d\r\n\r\n")
    assert received.trailers == [(b"X-Checksum", b"abc"), (b"X-Other", b"d")]
    assert received.values("x-checksum") == []


FORBIDDEN = [
    "Content-Length",
    "Transfer-Encoding",
    "Host",
    "Connection",
    "Color",
    "X-Forwarded-For",
    "Authorization",
]


@pytest.mark.parametrize("name", [case(f"9110-6.5.1 {name}", name) for name in FORBIDDEN])
def test_trailer_that_frames_or_routes_goes_nowhere(edge: Edge, name: str) -> None:
    """
    RFC 9110, 6.5.1: fields that decide framing, routing or trust cannot come after the fact.
    """
    chunks = b"5\r\nhello\r\n0\r\n" + name.encode() + b": 5\r\nX-T: 1\r\n\r\n"
    received = assert_either(edge, HEAD + chunks, 400)
    if received is not None:
        assert name.lower().encode() not in [key.lower() for key, _ in received.trailers]
        assert b"5" not in received.values(name)
        assert received.body == b"hello"
