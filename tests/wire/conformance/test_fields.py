"""Request fields: syntax, size, and what stays as it was (RFC 9112, section 5; RFC 9110, section 5)."""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_either, assert_passed, assert_refused, case
from tests.wire.harness import Edge

START = b"GET / HTTP/1.1\r\nHost: a\r\n"

REFUSED = [
    case("9112-5.1 space before the colon", b"X-A : b\r\n"),
    case("9112-5.1 tab before the colon", b"X-A\t: b\r\n"),
    case("9112-5.1 space before the colon of Content-Length", b"Content-Length : 0\r\n"),
    case("9112-5 no colon", b"X-A\r\n"),
    case("9112-5 empty name", b": b\r\n"),
    case("9112-5 a colon alone", b":\r\n"),
    case("9112-5.2 folded with a space", b"X-A: b\r\n c\r\n"),
    case("9112-5.2 folded with a tab", b"X-A: b\r\n\tc\r\n"),
    case("9112-5.2 folded, nothing in the first line", b"X-A:\r\n b\r\n"),
    case("9112-5.2 folded, the rest blank", b"X-A: b\r\n \r\n"),
    case("9112-5.2 a fold that looks like a field", b"X-A: b\r\n X-B: c\r\n"),
    case("9112-2.2 a bare LF ends a line", b"X-A: b\nX-B: c\r\n"),
    case("9112-2.2 a bare CR in a value", b"X-A: b\rX-B: c\r\n"),
    case("9112-2.2 a CR before CRLF", b"X-A: b\r\r\n"),
    case("9112-2.2 LF CR", b"X-A: b\n\rX-B: c\r\n"),
    case("9110-5.5 NUL in a value", b"X-A: b\0c\r\n"),
    case("9110-5.5 NUL at a value's start", b"X-A:\0b\r\n"),
    case("9110-5.5 NUL in the name", b"X-\0A: b\r\n"),
    *(case(f"9110-5.6.2 {chr(c)!r} in a name", b"X%cA: b\r\n" % c) for c in b'(),/;<=>?@[\\]{}" \t'),
    case("9110-5.6.2 Latin-1 in a name", b"X-\xe9: b\r\n"),
    case("9110-5.6.2 UTF-8 in a name", b"X-\xc3\xa9: b\r\n"),
    case("9110-5.6.2 DEL in a name", b"X\x7fA: b\r\n"),
    case("9110-5.6.2 a control in a name", b"X\x01A: b\r\n"),
    case("9110-5.6.2 a vertical tab in a name", b"X\x0bA: b\r\n"),
]


@pytest.mark.parametrize("field", REFUSED)
def test_malformed_field_is_refused(edge: Edge, field: bytes) -> None:
    """
    A field that two parsers may read in two ways is 400 and reaches no backend.
    """
    assert_refused(edge, START + field + b"X-End: 1\r\n\r\n", 400)


@pytest.mark.parametrize("field", REFUSED[:12])
def test_malformed_last_field_is_refused(edge: Edge, field: bytes) -> None:
    """
    The same at the end of the head.
    """
    assert_refused(edge, START + field + b"\r\n", 400)


@pytest.mark.parametrize(
    "blank",
    [
        case("9112-2.2 space before the first field", b" "),
        case("9112-2.2 tab before the first field", b"\t"),
        case("9112-2.2 a blank line with a space", b" \r\n"),
    ],
)
def test_white_space_before_the_first_field_is_refused(edge: Edge, blank: bytes) -> None:
    """
    RFC 9112, 2.2: white space between the request line and the first field is refused, not skipped.
    """
    assert_refused(edge, b"GET / HTTP/1.1\r\n" + blank + b"Host: a\r\n\r\n", 400)


@pytest.mark.parametrize("end", [case("9112-2.2 LF LF", b"\n\n"), case("9112-2.2 CRLF LF", b"\r\n\n")])
def test_head_that_ends_in_bare_line_feeds_is_refused(edge: Edge, end: bytes) -> None:
    """
    A head ends in CRLF CRLF; half of it is not guessed.
    """
    assert_refused(edge, b"GET / HTTP/1.1\r\nHost: a" + end + b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", 400)


@pytest.mark.parametrize(
    "code", [case(f"9110-5.5 {c:#04x}", c) for c in (*range(1, 9), 11, 12, 14, 27, 31, 127)]
)
def test_control_byte_in_a_value_is_refused_or_passed_unchanged(edge: Edge, code: int) -> None:
    """
    Other control bytes are invalid too; they may pass where they are harmless, but not change.
    """
    received = assert_either(edge, START + b"X-A: b%cc\r\n\r\n" % code, 400)
    assert received is None or received.values("x-a") in ([b"b%cc" % code], [b"b c"])


KEPT = [
    case("9110-5.5 plain", b"X-A: b", b"b"),
    case("9110-5.5 obs-text", b"X-A: \xe9\xff\x80z", b"\xe9\xff\x80z"),
    case("9110-5.5 UTF-8", "X-A: é€".encode(), "é€".encode()),
    case("9110-5.5 a tab inside", b"X-A: b\tc", b"b\tc"),
    case("9110-5.5 spaces inside", b"X-A: b   c", b"b   c"),
    case("9112-5.1 no space after the colon", b"X-A:b", b"b"),
    case("9112-5.1 blanks around", b"X-A: \t b \t ", b"b"),
    case("9110-5.5 empty", b"X-A:", b""),
    case("9110-5.5 blank", b"X-A:   ", b""),
    case("9110-5.5 colons", b"X-A: b:c:d", b"b:c:d"),
    case("9110-5.6.4 a quoted string", b'X-A: "b, \\"c\\""', b'"b, \\"c\\""'),
    case("9110-5.6.5 a comment", b"X-A: (b (c))", b"(b (c))"),
    case("9110-5.5 every printable", b"X-A: " + bytes(range(33, 127)), bytes(range(33, 127))),
    case("9112-5 a value of 8000 bytes", b"X-A: " + b"b" * 8000, b"b" * 8000),
]


@pytest.mark.parametrize(("field", "value"), KEPT)
def test_value_reaches_the_backend_as_sent(edge: Edge, field: bytes, value: bytes) -> None:
    """
    A field's value belongs to the application; only the blanks around it may go.
    """
    assert assert_passed(edge, START + field + b"\r\n\r\n").values("x-a") == [value]


def test_every_token_character_may_stand_in_a_name(edge: Edge) -> None:
    """
    RFC 9110, 5.1: a name is a token.
    """
    name = "!#$%&'*+-.^_`|~09aZ"
    assert assert_passed(edge, START + name.encode() + b": b\r\n\r\n").values(name) == [b"b"]


def test_fields_keep_their_order_and_spelling(edge: Edge) -> None:
    """
    RFC 9110, 5.3: the order of equal names matters; ours is as quiet as a wire.
    """
    sent = [(b"X-C", b"1"), (b"x-a", b"2"), (b"X-B", b"3"), (b"COOKIE", b"a=1; b=2"), (b"X-Z", b"4")]
    received = assert_passed(edge, START + b"".join(b"%s: %s\r\n" % f for f in sent) + b"\r\n")
    assert [f for f in received.fields if f in sent] == sent


def test_repeated_field_keeps_every_value_in_order(edge: Edge) -> None:
    """
    RFC 9110, 5.3: values of a repeated field stay in order, on their lines or joined by commas.
    """
    received = assert_passed(edge, START + b"X-A: 1\r\nX-B: x\r\nx-a: 2\r\nX-A: 3\r\n\r\n")
    assert received.list("x-a") == [b"1", b"2", b"3"]


def test_a_hundred_fields_pass(edge: Edge) -> None:
    """
    RFC 9110, 5.4: no limit but the head's size.
    """
    received = assert_passed(edge, START + b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(100)) + b"\r\n")
    assert [received.values(f"x-{i}") for i in range(100)] == [[b"%d" % i] for i in range(100)]


def test_head_just_under_the_limit_passes(edge: Edge) -> None:
    """
    What SILLYPROXY_MAX_HEADER_BYTES allows is allowed, in several fields.
    """
    fields = b"".join(b"X-%d: " % i + b"b" * 990 + b"\r\n" for i in range(15))
    assert len(START + fields) < 15_500
    assert_passed(edge, START + fields + b"\r\n")


@pytest.mark.parametrize(
    "fields",
    [
        case("6585-5 one huge field", b"X-A: " + b"b" * 70_000 + b"\r\n"),
        case("6585-5 a huge name", b"X" * 70_000 + b": b\r\n"),
        case("6585-5 many fields", b"".join(b"X-%d: 12345678\r\n" % i for i in range(4000))),
        case("6585-5 a head without end", b"X-A: " + b"b" * 70_000),
    ],
)
def test_too_large_head_gets_431(edge: Edge, fields: bytes) -> None:
    """
    RFC 6585, 5: a head beyond SILLYPROXY_MAX_HEADER_BYTES is 431, and the client can read it.
    """
    assert_refused(edge, START + fields + b"\r\n", 431)
