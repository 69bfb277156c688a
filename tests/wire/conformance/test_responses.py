"""Responses: what passes to the byte, what is nonsense, where they end (RFC 9112, sections 4 to 8)."""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_bad_gateway, case
from tests.wire.harness import CLOSE, CORK, OK, RESET, Edge, Script, Step

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"

STATUS_LINES = [
    *(
        case(f"9110-15 {status}", b"%d Reason" % status, status, b"Reason")
        for status in (
            200,
            201,
            202,
            203,
            206,
            207,
            226,
            299,
            300,
            301,
            302,
            307,
            308,
            400,
            401,
            404,
            410,
            418,
        )
    ),
    *(
        case(f"9110-15 {status}", b"%d X" % status, status, b"X")
        for status in (429, 451, 499, 500, 503, 511, 599)
    ),
    case("9112-4 an empty reason", b"200 ", 200, b""),
    case("9112-4 a long reason", b"200 " + b"a b " * 50 + b".", 200, b"a b " * 50 + b"."),
    case("9112-4 another word than usual", b"200 Not Found", 200, b"Not Found"),
    case("9112-4 obs-text in the reason", b"200 \xc3\xa9\xff", 200, b"\xc3\xa9\xff"),
    case("9112-4 a tab in the reason", b"200 a\tb", 200, b"a\tb"),
]


@pytest.mark.parametrize(("line", "status", "reason"), STATUS_LINES)
def test_status_and_reason_reach_the_client_as_sent(
    edge: Edge, line: bytes, status: int, reason: bytes
) -> None:
    """
    The backend's status line is the client's, but for the version, which is ours.
    """
    reply = edge.ask(GET, b"HTTP/1.1 " + line + b"\r\nContent-Length: 2\r\n\r\nok")
    assert (reply.version, reply.status, reply.reason) == (b"HTTP/1.1", status, reason)
    assert reply.body == b"ok"


NONSENSE = [
    case("9112-4 two digits", b"HTTP/1.1 20 OK\r\n"),
    case("9112-4 four digits", b"HTTP/1.1 2000 OK\r\n"),
    case("9112-4 letters", b"HTTP/1.1 abc OK\r\n"),
    case("9112-4 a digit and letters", b"HTTP/1.1 2xx OK\r\n"),
    case("9112-4 no status", b"HTTP/1.1\r\n"),
    case("9112-4 an empty status", b"HTTP/1.1  OK\r\n"),
    case("9112-4 a negative status", b"HTTP/1.1 -20 OK\r\n"),
    case("9110-15 status 000", b"HTTP/1.1 000 OK\r\n"),
    case("9110-15 status 099", b"HTTP/1.1 099 OK\r\n"),
    case("9112-4 no space", b"HTTP/1.1200 OK\r\n"),
    case("9112-4 two spaces", b"HTTP/1.1  200 OK\r\n"),
    case("9112-4 a tab", b"HTTP/1.1\t200 OK\r\n"),
    case("9112-4 a space before", b" HTTP/1.1 200 OK\r\n"),
    case("9112-4 status and reason joined", b"HTTP/1.1 200OK\r\n"),
    case("9112-2.3 HTTP/2.0", b"HTTP/2.0 200 OK\r\n"),
    case("9112-2.3 HTTP/0.9", b"HTTP/0.9 200 OK\r\n"),
    case("9112-2.3 lower case", b"http/1.1 200 OK\r\n"),
    case("9112-2.3 another protocol", b"ICY 200 OK\r\n"),
    case("9112-2.3 a letter missing", b"HTP/1.1 200 OK\r\n"),
    case("9112-2.3 no minor version", b"HTTP/1 200 OK\r\n"),
    case("9112-2.3 a version of letters", b"HTTP/x.y 200 OK\r\n"),
    case("9112-4 a bare CR in the reason", b"HTTP/1.1 200 O\rK\r\n"),
    case("9112-4 NUL in the reason", b"HTTP/1.1 200 O\0K\r\n"),
    case("9112-4 a request", b"GET / HTTP/1.1\r\n"),
    case("9112-4 HTML", b"<html><body>hello</body></html>\r\n"),
    case("9112-4 binary", bytes(range(128, 256)) + b"\r\n"),
]


@pytest.mark.parametrize("line", NONSENSE)
def test_nonsense_status_line_is_502(edge: Edge, line: bytes) -> None:
    """
    What does not begin as a response is none, and the client is not given it to guess.
    """
    assert_bad_gateway(edge.ask(GET, [line + b"Content-Length: 2\r\n\r\nok", CLOSE]))


@pytest.mark.parametrize(
    "line",
    [
        case("9112-4 no space after the status", b"HTTP/1.1 200\r\n"),
        case("9110-15 a status beyond 599", b"HTTP/1.1 600 X\r\n"),
        case("9110-15 status 999", b"HTTP/1.1 999 X\r\n"),
        case("9112-2.2 LF after the status line", b"HTTP/1.1 200 OK\n"),
        case("9112-2.2 an empty line before", b"\r\nHTTP/1.1 200 OK\r\n"),
        case("9112-2.3 a later minor version", b"HTTP/1.2 200 OK\r\n"),
        case("9112-4 a control in the reason", b"HTTP/1.1 200 O\x01K\r\n"),
    ],
)
def test_sloppy_status_line_is_502_or_passed_in_order(edge: Edge, line: bytes) -> None:
    """
    Common sloppiness may pass, but the client gets a clean response either way.
    """
    reply = edge.ask(GET, [line + b"Content-Length: 2\r\n\r\nok", CLOSE])
    assert reply.is_whole, reply
    assert reply.status == 502 or reply.body == b"ok"


BAD_FIELDS = [
    case("9112-5 no colon", b"X-A\r\n"),
    case("9112-5 empty name", b": b\r\n"),
    case("9110-5.5 NUL in a value", b"X-A: b\0c\r\n"),
    case("9110-5.5 NUL in a name", b"X\0A: b\r\n"),
    case("9112-2.2 a bare CR in a value", b"X-A: b\rX-B: c\r\n"),
    case("9110-5.1 a space in a name", b"X A: b\r\n"),
    case("9110-5.1 a control in a name", b"X\x01A: b\r\n"),
    case("9110-5.1 a byte beyond ASCII in a name", b"X\xe9: b\r\n"),
    case("9112-2.2 white space before the first field", b" X-A: b\r\n"),
]


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_malformed_field_of_a_response_is_502(edge: Edge, field: bytes) -> None:
    """
    A response head that can be read in two ways splits responses; it stops here.
    """
    assert_bad_gateway(
        edge.ask(GET, [b"HTTP/1.1 200 OK\r\n" + field + b"Content-Length: 2\r\n\r\nok", CLOSE])
    )


@pytest.mark.parametrize(
    "field",
    [
        case("9112-5.1 space before the colon", b"X-A : b\r\n"),
        case("9112-5.2 folded", b"X-A: b\r\n c\r\n"),
        case("9112-5.2 folded with a tab", b"X-A: b\r\n\tc\r\n"),
        case("9112-2.2 LF after a field", b"X-A: b\n"),
    ],
)
def test_sloppy_field_of_a_response_is_502_or_cleaned(edge: Edge, field: bytes) -> None:
    """
    RFC 9112, 5.1 and 5.2: a proxy removes the space before a colon and unfolds, or sends 502.
    """
    reply = edge.ask(GET, [b"HTTP/1.1 200 OK\r\n" + field + b"Content-Length: 2\r\n\r\nok", CLOSE])
    assert reply.is_whole, reply
    assert reply.status == 502 or reply.values("x-a") in ([b"b"], [b"b c"], [b"b  c"], [b"b   c"])


BAD_LENGTHS = [
    case("9112-6.3 two", b"Content-Length: 2\r\nContent-Length: 3\r\n"),
    case("9112-6.3 a list of two", b"Content-Length: 2, 3\r\n"),
    case("9112-6.3 plus", b"Content-Length: +2\r\n"),
    case("9112-6.3 minus", b"Content-Length: -2\r\n"),
    case("9112-6.3 hexadecimal", b"Content-Length: 0x2\r\n"),
    case("9112-6.3 a word", b"Content-Length: two\r\n"),
    case("9112-6.3 empty", b"Content-Length:\r\n"),
    case("9112-6.3 a point", b"Content-Length: 2.0\r\n"),
    case("9112-6.3 two numbers", b"Content-Length: 2 2\r\n"),
    case("9112-6.3 a comma behind", b"Content-Length: 2,\r\n"),
    case("9112-6.3 a length and nothing", b"Content-Length: 2\r\nContent-Length:\r\n"),
    case("9112-6.3 2^64 + 2", b"Content-Length: 18446744073709551618\r\n"),
    case("9112-6.3 5000 digits", b"Content-Length: " + b"1" * 5000 + b"\r\n"),
]


@pytest.mark.parametrize("fields", BAD_LENGTHS)
def test_response_of_invalid_length_is_502(edge: Edge, fields: bytes) -> None:
    """
    RFC 9112, 6.3: a proxy that gets an invalid Content-Length closes and answers 502.
    """
    assert_bad_gateway(edge.ask(GET, [b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nok", CLOSE]))


@pytest.mark.parametrize(
    "fields",
    [
        case("9112-6.3 twice the same", b"Content-Length: 2\r\nContent-Length: 2\r\n"),
        case("9112-6.3 a list of the same", b"Content-Length: 2, 2\r\n"),
    ],
)
def test_length_said_twice_is_502_or_said_once(edge: Edge, fields: bytes) -> None:
    """
    RFC 9112, 6.3: equal lengths are made one or refused, never passed as they are.
    """
    reply = edge.ask(GET, b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nok")
    assert reply.is_whole, reply
    assert reply.status == 502 or (reply.body, reply.values("content-length")) in [
        (b"ok", [b"2"]),
        (b"ok", []),
    ]


def test_length_beside_chunked_is_dropped_or_502(edge: Edge) -> None:
    """
    RFC 9112, 6.3: the length is ignored and removed, or the response refused.
    """
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = edge.ask(GET, [head + b"2\r\nok\r\n0\r\n\r\n", CLOSE])
    assert reply.status == 502 or (reply.body, reply.end) == (b"ok", "chunked")


@pytest.mark.parametrize(
    "coding",
    [
        case("9112-6.1 gzip", b"gzip"),
        case("9112-6.1 xchunked", b"xchunked"),
        case("9112-6.1 chunked, chunked", b"chunked, chunked"),
        case("9112-6.1 chunked, gzip", b"chunked, gzip"),
        case("9112-6.1 gzip, chunked", b"gzip, chunked"),
        case("9112-6.1 identity", b"identity"),
        case("9112-6.1 a vertical tab", b"\x0bchunked"),
        case("9112-6.1 empty", b""),
    ],
)
def test_response_in_another_coding_is_never_a_clean_wrong_one(edge: Edge, coding: bytes) -> None:
    """
    RFC 9112, 6.3: without chunked at the end a response lasts until the close; nobody asked for codings: 502.
    """
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\nX-A: b\r\n\r\n"
    reply = edge.ask(GET, [head + b"2\r\nok\r\n0\r\n\r\n", CLOSE])
    assert reply.status == 502 or b"2\r\nok\r\n0\r\n\r\n" in reply.body or reply.end == "malformed", reply


def test_chunked_response_of_http_1_0_is_502_or_read_to_the_close(edge: Edge) -> None:
    """
    RFC 9112, 6.1: chunked in HTTP/1.0 is faulty framing; its connection is not used again.
    """
    script: Script = [b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", CLOSE]
    reply = edge.ask(GET, script)
    assert reply.status == 502 or (reply.is_whole and reply.body == b"ok")


@pytest.mark.parametrize(
    "script",
    [
        case("9112-8 nothing", [CLOSE]),
        case("9112-8 RST", [RESET]),
        case("9112-8 in the status line", [b"HTTP/1.1 20", CLOSE]),
        case("9112-8 after the status line", [b"HTTP/1.1 200 OK\r\n", CLOSE]),
        case("9112-8 in a field", [b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE]),
        case("9112-8 before the empty line", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", CLOSE]),
        case("9112-8 RST in the head", [b"HTTP/1.1 200 OK\r\n", 0.05, RESET]),
    ],
)
def test_response_without_a_whole_head_is_502(edge: Edge, script: Script) -> None:
    """
    A backend that leaves before its head is complete has not answered.
    """
    assert_bad_gateway(edge.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", script))


@pytest.mark.parametrize(
    "fields",
    [
        case("contract one huge field", b"X-A: " + b"b" * 70_000 + b"\r\n"),
        case("contract many fields", b"X-A: 0123456789\r\n" * 5000),
        case("contract a head without end", b"X-A: " + b"b" * 200_000),
    ],
)
def test_too_large_response_head_is_502(edge: Edge, fields: bytes) -> None:
    """
    SILLYPROXY_MAX_HEADER_BYTES holds for responses too.
    """
    assert_bad_gateway(
        edge.ask(GET, [b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 2\r\n\r\nok", CLOSE])
    )


WHOLE = [
    case("9112-6.2 a length", [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"], b"hello"),
    case("9112-6.2 length 0", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], b""),
    case("9112-6.2 blanks", [b"HTTP/1.1 200 OK\r\nContent-Length: \t5 \r\n\r\nhello"], b"hello"),
    case(
        "9112-6.2 every byte",
        [b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n", bytes(range(256))],
        bytes(range(256)),
    ),
    case(
        "9112-6.2 a mebibyte",
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n", b"x" * (1 << 20)],
        b"x" * (1 << 20),
    ),
    case("9112-6.3 until the close", [b"HTTP/1.1 200 OK\r\n\r\nhello", CLOSE], b"hello"),
    case("9112-6.3 until the close, empty", [b"HTTP/1.1 200 OK\r\n\r\n", CLOSE], b""),
    case(
        "9112-6.3 until the close, a mebibyte",
        [b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (1 << 20), CLOSE],
        b"x" * (1 << 20),
    ),
    case(
        "9112-7.1 chunked",
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
        b"hello",
    ),
    case("9112-7.1 chunked, empty", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], b""),
    case(
        "9112-7.1 chunked, several",
        [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
            b"3\r\nhel\r\n",
            0.02,
            b"2\r\nlo\r\n0\r\n\r\n",
        ],
        b"hello",
    ),
    case(
        "9112-7.1.1 chunked, extensions",
        [b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n05;a="b"\r\nhello\r\n0;c\r\n\r\n'],
        b"hello",
    ),
    case(
        "9112-7.1 chunked, a mebibyte in small pieces",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"10\r\n0123456789abcdef\r\n" * 65536)
            + b"0\r\n\r\n"
        ],
        b"0123456789abcdef" * 65536,
    ),
    case(
        "9112-2.3 HTTP/1.0 with a length",
        [b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", CLOSE],
        b"hello",
    ),
    case("9112-2.3 HTTP/1.0 until the close", [b"HTTP/1.0 200 OK\r\n\r\nhello", CLOSE], b"hello"),
    case(
        "9112-9.3 HTTP/1.0 that keeps alive",
        [b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"],
        b"hello",
    ),
]


@pytest.mark.parametrize(("script", "body"), WHOLE)
@pytest.mark.parametrize("request_bytes", [case("to 1.1", GET), case("to 1.0", GET_1_0)])
def test_body_reaches_the_client_whole(edge: Edge, request_bytes: bytes, script: Script, body: bytes) -> None:
    """
    However the backend ends its body, each client gets all of it and can tell that it is all.
    """
    reply = edge.ask(request_bytes, script)
    assert (reply.status, reply.body, reply.is_whole) == (200, body, True)
    assert reply.version == b"HTTP/1.1"
    if request_bytes is GET_1_0:
        assert reply.values("transfer-encoding") == []


UNTIL_CLOSE = [
    case("9112-6.3 HTTP/1.1", b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    case("9112-6.3 HTTP/1.1, empty", b"HTTP/1.1 200 OK\r\n\r\n", b""),
    case("9112-6.3 HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
    case("9112-6.2 a length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    case(
        "9112-7.1 chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
]


@pytest.mark.parametrize(("response", "body"), UNTIL_CLOSE)
@pytest.mark.parametrize("request_bytes", [case("to 1.1", GET), case("to 1.0", GET_1_0)])
def test_body_that_ends_in_one_packet_with_the_connection_is_whole(
    edge: Edge, request_bytes: bytes, response: bytes, body: bytes
) -> None:
    """
    A close in the same breath as the last byte is neither missed nor taken for a failure.
    """
    reply = edge.ask(request_bytes, [CORK, response, CLOSE])
    assert (reply.status, reply.body, reply.is_whole) == (200, body, True)


@pytest.mark.parametrize(
    "response",
    [
        case("9112-6.2 a length", b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok"),
        case(
            "9112-7.1 chunked",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n02;a\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
        ),
    ],
)
def test_response_that_comes_a_byte_at_a_time_is_understood(edge: Edge, response: bytes) -> None:
    """
    Where packets begin and end means nothing.
    """
    script = [step for i in range(len(response)) for step in (response[i : i + 1], 0.001)]
    reply = edge.ask(GET, script)
    assert (reply.status, reply.body, reply.is_whole) == (200, b"ok", True)


def test_trailers_of_a_response_do_not_spoil_it(edge: Edge) -> None:
    """
    RFC 9110, 6.5: trailers are passed on or dropped; they never become part of the body or the head.
    """
    script = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"
    )
    reply = edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n", script)
    assert (reply.status, reply.body, reply.values("x-t")) == (200, b"ok", [])
    assert reply.trailers in ([], [(b"X-T", b"1")])


NO_BODY = [
    case("9112-6.3 HEAD with a length", HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", 200),
    case("9112-6.3 HEAD with chunked", HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
    case("9112-6.3 HEAD with neither", HEAD, b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n", 200),
    case("9112-6.3 HEAD of an error", HEAD, b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n", 404),
    case("9112-6.3 204", GET, b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    case("9112-6.3 304", GET, b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', 304),
    case("9112-6.3 304 with a length", GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", 304),
    case("9112-6.3 304 with chunked", GET, b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n", 304),
    case("9112-6.3 204 with a length", GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204),
    case("9112-6.3 204 with chunked", GET, b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", 204),
]


@pytest.mark.parametrize(("request_bytes", "response", "status"), NO_BODY)
def test_response_without_a_body_ends_with_its_head(
    edge: Edge, request_bytes: bytes, response: bytes, status: int
) -> None:
    """
    RFC 9112, 6.3: HEAD, 204 and 304 have no body whatever their fields say, and the connection goes on.
    """
    edge.origin.restart(response)
    client = edge.connect()
    for _ in range(2):
        client.send(request_bytes)
        reply = client.read_reply(request_bytes.split(b" ")[0])
        assert reply.status == status, reply
    edge.origin.restart(OK)
    client.send(GET)
    assert client.read_reply().body == b"ok"


def test_length_of_a_head_response_is_kept(edge: Edge) -> None:
    """
    RFC 9110, 9.3.2: HEAD is asked for the fields that GET would have.
    """
    assert edge.ask(HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n").values("content-length") == [
        b"500"
    ]


def test_204_carries_no_framing(edge: Edge) -> None:
    """
    RFC 9110, 8.6 and 9112, 6.1: a 204 has neither Content-Length nor Transfer-Encoding.
    """
    reply = edge.ask(GET, b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (reply.values("content-length"), reply.values("transfer-encoding")) == ([], [])


SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
EXTRA = [
    case("9112-6.3 a length", GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    case(
        "9112-6.3 chunked", GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    case("9112-6.3 204", GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
    case("9112-6.3 304", GET, b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    case("9112-6.3 HEAD", HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 58\r\n\r\n"),
]


@pytest.mark.parametrize(("request_bytes", "response"), EXTRA)
def test_bytes_after_a_response_are_nobodys(edge: Edge, request_bytes: bytes, response: bytes) -> None:
    """
    RFC 9112, 9.2: what a backend sends beyond its response must never answer the next request.
    """
    edge.origin.restart(response + SMUGGLED)
    client = edge.connect()
    client.send(request_bytes)
    reply = client.read_reply(request_bytes.split(b" ")[0])
    assert reply.status in (200, 204, 304), reply
    edge.origin.restart(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
    for one in (client, edge.connect()):
        one.send(GET)
        assert one.read_reply().body == b"next"


CUT = [
    case("9112-8 a length", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", CLOSE]),
    case("9112-8 a length, nothing of it", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", CLOSE]),
    case("9112-8 a length, RST", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", RESET]),
    case("9112-8 in a chunk", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello", CLOSE]),
    case(
        "9112-8 after a chunk",
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", CLOSE],
    ),
    case(
        "9112-8 no last CRLF",
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", CLOSE],
    ),
    case(
        "9112-8 chunked, RST",
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", RESET],
    ),
    case("9112-8 until the close, RST", [b"HTTP/1.1 200 OK\r\n\r\nhello", RESET]),
    case(
        "9112-7.1 a bad size",
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", CLOSE],
    ),
    case(
        "9112-7.1 a bad end",
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", CLOSE],
    ),
    case(
        "9112-7.1 an overflow",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" + b"F" * 17 + b"\r\n",
            CLOSE,
        ],
    ),
    case(
        "9112-7.1.2 a bad trailer",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX T\0\r\n\r\n",
            CLOSE,
        ],
    ),
]


@pytest.mark.parametrize("script", CUT)
@pytest.mark.parametrize("request_bytes", [case("to 1.1", GET), case("to 1.0", GET_1_0)])
@pytest.mark.parametrize("packets", [case("end in one packet", 1), case("end on its own", 2)])
def test_response_cut_short_reaches_the_client_as_cut_short(
    edge: Edge, request_bytes: bytes, script: list[Step], packets: int
) -> None:
    """
    Half a response never looks whole: a broken body, a reset, or 502 if nothing was sent yet.
    """
    sent, end = script[0], script[-1]
    together: list[Step] = [CORK, sent, end] if end is CLOSE else [sent, end]
    reply = edge.ask(request_bytes, together if packets == 1 else [sent, 0.05, end])
    assert reply.status == 502 or not reply.is_whole, reply
    assert b"hello".startswith(reply.body) or reply.status == 502, reply


def test_response_cut_short_does_not_spoil_the_next(edge: Edge) -> None:
    """
    The connection of a broken response is gone; the next request gets another.
    """
    edge.ask(GET, [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", CLOSE])
    assert edge.ask(GET).body == b"ok"


KEPT = [
    case("9110-5.5 plain", b"X-A", [b"b"]),
    case("6265-3 every Set-Cookie on its own", b"Set-Cookie", [b"a=1; Path=/", b"b=2, x", b"a=3"]),
    case("9110-11.6.1 WWW-Authenticate", b"WWW-Authenticate", [b'Basic realm="a, b"', b"Negotiate"]),
    case("9110-5.5 obs-text", b"X-A", [b"\xe9\xff\x80"]),
    case("9110-5.5 empty", b"X-A", [b""]),
    case("9110-10.2.4 Server", b"Server", [b"backend/1.0 (x)"]),
    case("9110-8.4 Content-Encoding", b"Content-Encoding", [b"gzip"]),
    case("9110-8.3 Content-Type", b"Content-Type", [b"text/html;charset=ISO-8859-1"]),
    case("9110-8.8.3 ETag", b"ETag", [b'W/"a b"']),
    case("9110-10.2.2 Location", b"Location", [b"http://backend.internal/x#y"]),
    case("9110-6.6.1 Date", b"Date", [b"Thu, 01 Jan 1970 00:00:00 GMT"]),
    case("9110-5.1 every token character", b"!#$%&'*+-.^_`|~09aZ", [b"b"]),
    case("9110-5.5 8000 bytes", b"X-A", [b"b" * 8000]),
]


@pytest.mark.parametrize(("name", "values"), KEPT)
def test_field_reaches_the_client_as_sent(edge: Edge, name: bytes, values: list[bytes]) -> None:
    """
    The application's fields are the client's: name, value, order, and each on its own line.
    """
    fields = b"".join(b"%s: %s\r\n" % (name, value) for value in values)
    reply = edge.ask(GET, b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 2\r\n\r\nok")
    assert [f for f in reply.fields if f[0] == name] == [(name, value) for value in values]


def test_fields_of_a_response_keep_their_order_and_spelling(edge: Edge) -> None:
    """
    Nothing is sorted, nothing is spelled anew.
    """
    sent = [(b"x-c", b"1"), (b"X-a", b"2"), (b"Set-Cookie", b"a=b"), (b"X-B", b"3"), (b"set-cookie", b"c=d")]
    reply = edge.ask(
        GET, b"HTTP/1.1 200 OK\r\n%sContent-Length: 0\r\n\r\n" % b"".join(b"%s: %s\r\n" % f for f in sent)
    )
    assert [f for f in reply.fields if f in sent] == sent


def test_missing_date_is_added(edge: Edge) -> None:
    """
    RFC 9110, 6.6.1: a recipient with a clock adds a Date to a response that has none, before it goes on.
    """
    (date,) = edge.ask(GET).values("date")
    assert date.endswith(b" GMT")
    assert len(date) == 29
