"""
Where a request's body ends, and every published way to be unclear about it (RFC 9112, section 6).

Each refused case carries a second request behind the first, which must never be answered
nor reach the backend.
"""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_either, assert_passed, assert_refused, case
from tests.wire.harness import OK, Edge

POST = b"POST /p HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

LENGTHS = [
    case("9112-6.2 none", b"", b""),
    case("9112-6.2 zero", b"Content-Length: 0\r\n", b""),
    case("9112-6.2 five", b"Content-Length: 5\r\n", b"hello"),
    case("9112-5.1 blanks around", b"Content-Length: \t5 \r\n", b"hello"),
    case("9112-5.1 no blank", b"content-length:5\r\n", b"hello"),
    case("9112-6.2 bytes that look like a request", b"Content-Length: 35\r\n", SMUGGLED[:35]),
    case("9112-6.2 every byte", b"Content-Length: 256\r\n", bytes(range(256))),
    case("9112-6.2 a megabyte", b"Content-Length: 1048576\r\n", b"0123456789abcdef" * 65536),
]


@pytest.mark.parametrize(("fields", "body"), LENGTHS)
def test_body_of_a_declared_length_arrives_whole(edge: Edge, fields: bytes, body: bytes) -> None:
    """
    RFC 9112, 6.2: so many bytes and no more are the body.
    """
    assert assert_passed(edge, POST + fields + b"\r\n" + body).body == body


@pytest.mark.parametrize(
    "method", [case(f"9110-9.3 {m.decode()}", m) for m in (b"GET", b"DELETE", b"OPTIONS", b"X")]
)
def test_any_method_may_carry_a_body(edge: Edge, method: bytes) -> None:
    """
    RFC 9112, 6: the framing does not depend on the method.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(method + b" /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + SMUGGLED)
    assert [client.read_reply().status, client.read_reply().status] == [200, 200]
    assert [r.body for r in edge.received] == [b"hello", b""]


BAD_LENGTHS = [
    case("9112-6.3 signed plus", b"+5"),
    case("9112-6.3 signed minus", b"-5"),
    case("9112-6.3 minus zero", b"-0"),
    case("9112-6.3 hexadecimal", b"0x5"),
    case("9112-6.3 decimal point", b"5.0"),
    case("9112-6.3 exponent", b"5e0"),
    case("9112-6.3 empty", b""),
    case("9112-6.3 a word", b"five"),
    case("9112-6.3 two numbers", b"5 5"),
    case("9112-6.3 a parameter", b"5;x=y"),
    case("9112-6.3 quoted", b'"5"'),
    case("9112-6.3 an underscore", b"1_0"),
    case("9112-6.3 a trailing comma", b"5,"),
    case("9112-6.3 a leading comma", b",5"),
    case("9112-6.3 a comma alone", b","),
    case("9112-6.3 a list of two lengths", b"5, 6"),
    case("contract a list of the same length", b"5, 5"),
    case("9112-6.3 a vertical tab", b"5\x0b"),
    case("9112-6.3 a form feed before", b"\x0c5"),
    case("9112-6.3 NUL", b"5\0"),
    case("9112-6.3 a no-break space", b"5\xa0"),
    case("9112-6.3 a digit beyond ASCII", b"\xd9\xa5"),
    case("9112-6.3 superscript", b"\xb2"),
    case("9112-6.3 letters behind", b"5abc"),
]


@pytest.mark.parametrize("length", BAD_LENGTHS)
def test_invalid_length_is_refused(edge: Edge, length: bytes) -> None:
    """
    RFC 9112, 6.3: a Content-Length that is no number is 400 and ends the connection.
    """
    assert_refused(edge, POST + b"Content-Length: " + length + b"\r\n\r\nhello" + SMUGGLED, 400)


@pytest.mark.parametrize(
    "length",
    [
        case("9112-6.3 2^63", b"9223372036854775808"),
        case("9112-6.3 2^64 + 5", b"18446744073709551621"),
        case("9112-6.3 2^128 + 5", b"340282366920938463463374607431768211461"),
        case("9112-6.3 5000 digits", b"9" * 5000),
    ],
)
def test_length_beyond_counting_is_refused(edge: Edge, length: bytes) -> None:
    """
    RFC 9110, 8.6: a length that would overflow is an error, never a small number.
    """
    assert_refused(edge, POST + b"Content-Length: " + length + b"\r\n\r\nhello" + SMUGGLED, 400, 413, 431)


@pytest.mark.parametrize(
    "length", [case("9110-8.6 05", b"05"), case("9110-8.6 many zeros", b"0" * 30 + b"5")]
)
def test_leading_zeros_of_a_length_mean_nothing_or_are_refused(edge: Edge, length: bytes) -> None:
    """
    RFC 9110, 8.6 allows leading zeros; they are not octal.
    """
    received = assert_either(edge, POST + b"Content-Length: " + length + b"\r\n\r\nhello", 400)
    assert received is None or received.body == b"hello"


TWICE = [
    case("9112-6.3 two lengths", b"Content-Length: 5\r\nContent-Length: 6\r\n"),
    case("9112-6.3 two lengths, the smaller last", b"Content-Length: 6\r\nContent-Length: 5\r\n"),
    case("9112-6.3 a length and zero", b"Content-Length: 5\r\nContent-Length: 0\r\n"),
    case("9112-6.3 a length and nothing", b"Content-Length: 5\r\nContent-Length:\r\n"),
    case("contract the same twice", b"Content-Length: 5\r\nContent-Length: 5\r\n"),
    case("9112-6.3 spelled differently", b"Content-Length: 5\r\nX: y\r\ncONTENT-lENGTH: 6\r\n"),
    case("9112-6.3 with CL and TE", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    case("9112-6.3 with TE and CL", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    case("9112-6.3 CL 0 and TE", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
    case(
        "9112-6.3 TE and CL nominated",
        b"Connection: Content-Length\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ),
    case(
        "9112-6.3 CL and TE nominated",
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ),
]


@pytest.mark.parametrize("fields", TWICE)
def test_body_framed_twice_is_refused(edge: Edge, fields: bytes) -> None:
    """
    Two statements about where the body ends are one too many, equal or not.
    """
    assert_refused(edge, POST + fields + b"\r\n" + CHUNKED + SMUGGLED, 400)


CODINGS = [
    case("9112-7 chunked", b"Transfer-Encoding: chunked\r\n"),
    case("9112-7 capitals", b"Transfer-Encoding: CHUNKED\r\n"),
    case("9112-7 mixed case", b"transfer-encoding: cHunKed\r\n"),
    case("9112-5.1 no blank", b"Transfer-Encoding:chunked\r\n"),
    case("9112-5.1 a tab", b"Transfer-Encoding:\tchunked\r\n"),
    case("9112-5.1 blanks around", b"Transfer-Encoding: \t chunked\t \r\n"),
]


@pytest.mark.parametrize("field", CODINGS)
def test_chunked_body_arrives_whole(edge: Edge, field: bytes) -> None:
    """
    Every spelling that the standard allows for chunked is understood, and the next request found.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(POST + field + b"\r\n" + CHUNKED + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [client.read_reply().status, client.read_reply().status] == [200, 200]
    assert [(r.target, r.body) for r in edge.received] == [(b"/p", b"hello"), (b"/next", b"")]
    assert edge.origin.faults == []


BAD_CODINGS = [
    case("9112-6.1 unknown", b"Transfer-Encoding: xchunked\r\n"),
    case("9112-6.1 cut", b"Transfer-Encoding: chunk\r\n"),
    case("9112-6.1 longer", b"Transfer-Encoding: chunkedx\r\n"),
    case("9112-6.1 identity", b"Transfer-Encoding: identity\r\n"),
    case("9112-6.1 gzip", b"Transfer-Encoding: gzip\r\n"),
    case("9112-6.1 identity, chunked", b"Transfer-Encoding: identity, chunked\r\n"),
    case("9112-6.1 chunked, identity", b"Transfer-Encoding: chunked, identity\r\n"),
    case("9112-6.3 chunked, gzip", b"Transfer-Encoding: chunked, gzip\r\n"),
    case("9112-6.1 chunked, chunked", b"Transfer-Encoding: chunked, chunked\r\n"),
    case("9112-6.1 chunked and a word", b"Transfer-Encoding: chunked foo\r\n"),
    case("9112-6.1 a word and chunked", b"Transfer-Encoding: foo chunked\r\n"),
    case("9112-6.1 quoted", b'Transfer-Encoding: "chunked"\r\n'),
    case("9112-6.1 single quotes", b"Transfer-Encoding: 'chunked'\r\n"),
    case("9112-6.1 brackets", b"Transfer-Encoding: [chunked]\r\n"),
    case("9112-7 a parameter", b"Transfer-Encoding: chunked;q=0.5\r\n"),
    case("9112-6.1 a semicolon", b"Transfer-Encoding: ;chunked\r\n"),
    case("9112-6.1 empty", b"Transfer-Encoding:\r\n"),
    case("9112-6.1 blank inside", b"Transfer-Encoding: chu nked\r\n"),
    case("9112-6.1 an equals sign", b"Transfer-Encoding: x=chunked\r\n"),
    case("9112-6.1 a colon", b"Transfer-Encoding: : chunked\r\n"),
    case("9112-6.1 vertical tab before", b"Transfer-Encoding: \x0bchunked\r\n"),
    case("9112-6.1 vertical tab behind", b"Transfer-Encoding: chunked\x0b\r\n"),
    case("9112-6.1 form feed behind", b"Transfer-Encoding: chunked\x0c\r\n"),
    case("9112-6.1 NUL behind", b"Transfer-Encoding: chunked\0\r\n"),
    case("9112-6.1 NUL inside", b"Transfer-Encoding: chu\0nked\r\n"),
    case("9112-6.1 DEL behind", b"Transfer-Encoding: chunked\x7f\r\n"),
    case("9112-6.1 no-break space", b"Transfer-Encoding: \xa0chunked\r\n"),
    case("9112-6.1 0xff behind", b"Transfer-Encoding: chunked\xff\r\n"),
    case("9112-6.1 CR behind", b"Transfer-Encoding: chunked\r\r\n"),
    case("9112-5.1 space before the colon", b"Transfer-Encoding : chunked\r\n"),
    case("9112-5.1 tab before the colon", b"Transfer-Encoding\t: chunked\r\n"),
    case("9112-5.1 NUL before the colon", b"Transfer-Encoding\0: chunked\r\n"),
    case("9112-5.1 vertical tab before the colon", b"Transfer-Encoding\x0b: chunked\r\n"),
    case("9112-5.2 folded value", b"Transfer-Encoding:\r\n chunked\r\n"),
    case("9112-5.2 folded name", b"X-A: b\r\n Transfer-Encoding: chunked\r\n"),
    case("9112-5.2 folded list", b"Transfer-Encoding: chunked\r\n , identity\r\n"),
    case("9112-2.2 behind a bare CR", b"X-A: b\rTransfer-Encoding: chunked\r\n"),
    case("9112-2.2 behind a bare LF", b"X-A: b\nTransfer-Encoding: chunked\r\n"),
    case("9112-2.2 after LF", b"Transfer-Encoding:\n chunked\r\n"),
    case(
        "9112-6.1 two fields, identity last", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"
    ),
    case(
        "9112-6.1 two fields, identity first",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    ),
    case(
        "9112-6.1 two fields, both chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
    ),
    case("9112-6.1 two fields, unknown last", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
    case(
        "9112-6.1 two fields, spelled differently",
        b"Transfer-Encoding: chunked\r\nX: y\r\ntransfer-encoding: cow\r\n",
    ),
]


@pytest.mark.parametrize("field", BAD_CODINGS)
def test_transfer_coding_other_than_chunked_is_refused(edge: Edge, field: bytes) -> None:
    """
    What is not plainly chunked is 400 (ambiguous) or 501 (a coding that we do not know).
    """
    assert_refused(edge, POST + field + b"\r\n" + CHUNKED + SMUGGLED, 400, 501)


@pytest.mark.parametrize("field", BAD_CODINGS)
def test_obfuscated_coding_beside_a_length_is_refused(edge: Edge, field: bytes) -> None:
    """
    The classic of request smuggling: a length for the one, an odd transfer coding for the other.
    """
    assert_refused(edge, POST + b"Content-Length: 4\r\n" + field + b"\r\n" + CHUNKED + SMUGGLED, 400, 501)


EXACT = [
    case("9112-6.1 gzip, chunked", b"gzip, chunked", 501),
    case("9112-6.1 a coding that nobody knows", b"cow, chunked", 501),
    case("9112-7 chunked, chunked", b"chunked, chunked", 400),
    case("9112-6.3 chunked, gzip", b"chunked, gzip", 400),
]


@pytest.mark.parametrize(("value", "status"), EXACT)
def test_refusal_says_whether_the_coding_is_unknown_or_ambiguous(
    edge: Edge, value: bytes, status: int
) -> None:
    """
    501 for a coding that we do not implement, 400 where chunked is not the last or not alone.
    """
    assert_refused(edge, POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + CHUNKED, status)


@pytest.mark.parametrize(
    "value",
    [
        case("9110-5.6.1 empty element behind", b"chunked,"),
        case("9110-5.6.1 empty element before", b", chunked"),
        case("9110-5.6.1 empty elements", b",, chunked , ,"),
    ],
)
def test_empty_list_elements_are_skipped_or_refused(edge: Edge, value: bytes) -> None:
    """
    RFC 9110, 5.6.1.2: empty list elements are to be ignored; in this field a refusal is as good.
    """
    received = assert_either(edge, POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + CHUNKED, 400)
    assert received is None or received.body == b"hello"


@pytest.mark.parametrize(
    "field", [case("9112-6.1 alone", b""), case("9112-6.1 beside a length", b"Content-Length: 15\r\n")]
)
def test_transfer_coding_in_http_1_0_is_refused(edge: Edge, field: bytes) -> None:
    """
    RFC 9112, 6.1: HTTP/1.0 knows no transfer codings; such a message is faulty framing.
    """
    request = b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" + field
    assert_refused(edge, request + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED + SMUGGLED, 400)


@pytest.mark.parametrize(
    "name",
    [case("9110-5.1 underscore", b"Transfer_Encoding"), case("9110-5.1 longer", b"X-Transfer-Encoding")],
)
def test_look_alike_of_a_framing_field_frames_nothing(edge: Edge, name: bytes) -> None:
    """
    A field with another name is another field.
    """
    received = assert_either(edge, POST + b"Content-Length: 5\r\n" + name + b": chunked\r\n\r\nhello", 400)
    assert received is None or received.body == b"hello"


@pytest.mark.parametrize("body", [case("413 one byte too many", 1001), case("413 a gigabyte", 1 << 30)])
def test_too_long_body_is_refused_before_it_is_sent(limited: Edge, body: int) -> None:
    """
    A Content-Length beyond SILLYPROXY_MAX_BODY_BYTES is 413 at once, and the backend hears nothing.
    """
    assert_refused(limited, POST + b"Content-Length: %d\r\n\r\n" % body, 413)


def test_body_of_the_greatest_length_passes(limited: Edge) -> None:
    """
    The limit itself is allowed.
    """
    assert assert_passed(limited, POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000).body == b"x" * 1000


def test_chunked_body_of_the_greatest_length_passes(limited: Edge) -> None:
    """
    The limit counts data, not chunk lines.
    """
    body = b"".join(b"a\r\n0123456789\r\n" for _ in range(100)) + b"0\r\n\r\n"
    assert len(assert_passed(limited, POST + b"Transfer-Encoding: chunked\r\n\r\n" + body).body) == 1000


@pytest.mark.parametrize("together", [case("413 with the head", True), case("413 behind the head", False)])
def test_too_long_chunked_body_gets_413(limited: Edge, together: bool) -> None:
    """
    A chunked body is counted while it comes; past the limit the client gets 413, the backend no end.
    """
    client = limited.connect()
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"64\r\n" + b"x" * 100 + b"\r\n"
    if together:
        client.send(head + chunk * 21 + b"0\r\n\r\n")
    else:
        client.send(head + chunk)
        limited.origin.wait(complete=False)
        client.send(chunk * 20 + b"0\r\n\r\n")
    reply = client.read_reply()
    assert reply.status == 413
    if b"close" in reply.list("connection"):
        assert client.wait_end() == "closed"
    assert not any(request.complete for request in limited.received)
