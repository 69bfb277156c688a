"""Request lines, hosts, lengths, codings: what is read and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy import errors
from sillyproxy.errors import BadRequest, BadResponse, Problem
from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE
from sillyproxy.http1.head import (
    RequestLine,
    check_partial_head,
    check_request_coding,
    is_host,
    read_length,
    read_options,
    read_request_body,
    read_request_line,
    read_response_body,
)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (b"GET /a?b HTTP/1.1", RequestLine(b"GET", b"/a?b", 1, None)),
        (b"GET / HTTP/1.0", RequestLine(b"GET", b"/", 0, None)),
        (b"GET / HTTP/1.7", RequestLine(b"GET", b"/", 1, None)),
        (b"OPTIONS * HTTP/1.1", RequestLine(b"OPTIONS", b"*", 1, None)),
        (b"OPTIONS http://a HTTP/1.1", RequestLine(b"OPTIONS", b"*", 1, b"a")),
        (b"OPTIONS http://a/ HTTP/1.1", RequestLine(b"OPTIONS", b"/", 1, b"a")),
        (b"GET http://a HTTP/1.1", RequestLine(b"GET", b"/", 1, b"a")),
        (b"GET http://a?b HTTP/1.1", RequestLine(b"GET", b"/?b", 1, b"a")),
        (b"GET HtTpS://a:1/b//c?d HTTP/1.1", RequestLine(b"GET", b"/b//c?d", 1, b"a:1")),
    ],
)
def test_a_target_of_any_form_is_read(line: bytes, read: RequestLine) -> None:
    """
    A path, a whole URI or *: each form of a target is understood, and a whole URI's host counts.
    """
    assert read_request_line(line) == read


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"GET / HTTP/2.0", errors.BAD_VERSION),
        (b"GET / HTTP/1", errors.BAD_LINE),
        (b"GET /", errors.BAD_LINE),
        (b"", errors.BAD_LINE),
        (b"CONNECT a:1 HTTP/1.1", errors.NO_CONNECT),
        (b"GET * HTTP/1.1", errors.BAD_TARGET),
        (b"GET a HTTP/1.1", errors.BAD_TARGET),
        (b"GET http:a HTTP/1.1", errors.BAD_TARGET),
        (b"GET http:/// HTTP/1.1", errors.BAD_TARGET),
        (b"GET http://:1/ HTTP/1.1", errors.BAD_TARGET),
        (b"GET http://u@a/ HTTP/1.1", errors.BAD_TARGET),
        (b"GET ws://a/ HTTP/1.1", errors.BAD_TARGET),
    ],
)
def test_a_bad_request_line_is_refused_for_what_is_wrong_with_it(line: bytes, problem: Problem) -> None:
    """
    The status tells a version that we do not speak from a target that is none and from nonsense.
    """
    with pytest.raises(BadRequest) as caught:
        read_request_line(line)
    assert caught.value.problem is problem


@given(st.binary(max_size=60) | st.text("GET /*:@htp.1HTP\r\n \t#?", max_size=40).map(str.encode))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    """
    Whatever a client sends, it is a request line or a client's error, never ours; and no target that
    goes on holds a blank, a control character or a byte beyond ASCII.
    """
    try:
        read = read_request_line(line)
    except BadRequest:
        return
    assert read.target[:1] in (b"/", b"*")
    assert all(0x21 <= byte < 0x7F for byte in read.target + read.method)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (b"", True),
        (b"a.example", True),
        (b"a.example:", True),
        (b"a.example:0", True),
        (b"a.example:65535", True),
        (b"a.example:65536", False),
        (b"a.example:123456", False),
        (b"a.example:-1", False),
        (b"a.example:8 ", False),
        (b"a:b:c", False),
        (b"a b", False),
        (b"a,b", True),  # RFC 3986, 3.2.2: a sub-delim
        (b"a/b", False),
        (b"a@b", False),
        (b"a%41", True),
        (b"a%4", False),
        (b"127.0.0.1:80", True),
        (b"::1", False),
        (b"[::1]", True),
        (b"[::ffff:127.0.0.1]:1", True),
        (b"[1:2:3:4:5:6:7:8]", True),
        (b"[1:2:3:4:5:6:7:8:9]", False),
        (b"[:1]", False),
        (b"[::1::2]", False),
        (b"[127.0.0.1]", False),
        (b"[fe80::1%25eth0]", False),
        (b"[]", False),
        (b"[::1", False),
        (b"[::1]x", False),
        (b"[v7.a:b]", True),
        (b"[v.a]", False),
        (b"\xc3\xa4", False),
        (b"a\x00", False),
    ],
)
def test_a_host_is_an_address_or_a_name_with_a_port_that_exists(value: bytes, good: bool) -> None:
    """
    A Host that no URL could hold is refused, for servers read such a thing in different ways.
    """
    assert is_host(value) is good


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"10", 10),
        (b"007", 7),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, None),
        (b"", None),
        (b"+1", None),
        (b"-1", None),
        (b"1,1", None),
        (b"1 1", None),
        (b"0x1", None),
        (b"1_0", None),
        ("\u0661".encode(), None),
    ],
)
def test_a_length_is_plain_digits(value: bytes, length: int | None) -> None:
    """
    What another program could take for another number is no length.
    """
    assert read_length(value) == length


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", errors.BAD_CODING),
        (b",chunked", errors.BAD_CODING),
        (b"chunked,", errors.BAD_CODING),
        (b"chunked, chunked", errors.BAD_CODING),
        (b"chunked, gzip", errors.BAD_CODING),
        (b"gzip", errors.BAD_CODING),
        (b"identity", errors.BAD_CODING),
        (b"\x0bchunked", errors.BAD_CODING),
        (b"chunked;a=b", errors.BAD_CODING),
        (b"gzip, chunked", errors.UNKNOWN_CODING),
        (b"cow", errors.UNKNOWN_CODING),
    ],
)
def test_a_coding_but_chunked_is_refused(value: bytes, problem: Problem) -> None:
    """
    Where the body's end would be a guess it is 400; what we have never heard of is 501.
    """
    with pytest.raises(BadRequest) as caught:
        check_request_coding(value)
    assert caught.value.problem is problem


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED"])
def test_chunked_is_known_in_any_case(value: bytes) -> None:
    """
    Names of codings have no case.
    """
    assert read_request_body(None, value, 1) == CHUNKED


@pytest.mark.parametrize(
    ("length", "coding", "minor", "problem"),
    [
        (b"5", b"chunked", 1, errors.BAD_CODING),
        (b"0", b"chunked", 1, errors.BAD_CODING),
        (None, b"chunked", 0, errors.BAD_CODING),
        (b"x", None, 1, errors.BAD_LENGTH),
        (b"", None, 1, errors.BAD_LENGTH),
    ],
)
def test_a_request_whose_end_is_ambiguous_is_refused(
    length: bytes | None, coding: bytes | None, minor: int, problem: Problem
) -> None:
    """
    Two words about where a body ends, or none that counts, is how requests are smuggled.
    """
    with pytest.raises(BadRequest) as caught:
        read_request_body(length, coding, minor)
    assert caught.value.problem is problem


def test_a_body_ends_where_its_head_says() -> None:
    """
    Without a length a request has no body, and a response goes on until its connection closes.
    """
    assert read_request_body(None, None, 1) == 0
    assert read_request_body(b"5", None, 0) == 5
    assert read_response_body(None, None, 1, otherwise=UNTIL_CLOSE) == UNTIL_CLOSE
    assert read_response_body(b"5", None, 1, otherwise=UNTIL_CLOSE) == 5
    assert read_response_body(None, b"chunked", 1, otherwise=UNTIL_CLOSE) == CHUNKED


@pytest.mark.parametrize(
    ("length", "coding", "minor"),
    [
        (b"5", b"chunked", 1),
        (None, b"chunked", 0),
        (None, b"gzip, chunked", 1),
        (None, b"", 1),
        (b"5, 5", None, 1),
        (b"", None, 1),
    ],
)
def test_a_response_whose_end_is_ambiguous_is_refused(
    length: bytes | None, coding: bytes | None, minor: int
) -> None:
    """
    A backend that contradicts itself is not believed either way.
    """
    with pytest.raises(BadResponse):
        read_response_body(length, coding, minor, otherwise=UNTIL_CLOSE)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"GET / HTTP/1.1\nHost: a", errors.MALFORMED),
        (b"GET / HTTP/3.0\r\nHo", errors.BAD_VERSION),
        (b"\x16\x03\x01", errors.BAD_LINE),
        (b" GET", errors.BAD_LINE),
        (b"GET /" + b"a" * 100, errors.TARGET_TOO_LONG),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100, errors.HEAD_TOO_LARGE),
    ],
)
def test_a_head_that_cannot_become_good_is_not_waited_for(data: bytes, problem: Problem) -> None:
    """
    Whoever speaks something else is told at once, not at the header timeout.
    """
    with pytest.raises(BadRequest) as caught:
        check_partial_head(data, 100)
    assert caught.value.problem is problem


@given(st.integers(0, 40))
def test_the_beginning_of_a_good_head_is_waited_for(at: int) -> None:
    """
    However slowly a good head comes, it is not refused on the way.
    """
    check_partial_head(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: y\r\n"[:at], 100)


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (b"", []),
        (b" , ,\t,", []),
        (b"Close", [b"close"]),
        (b"keep-alive,\tX-Y , close", [b"keep-alive", b"x-y", b"close"]),
    ],
)
def test_a_list_is_read_with_all_its_blanks(value: bytes, options: list[bytes]) -> None:
    """
    Members of a list come in any case, with blanks and empty ones between.
    """
    assert list(read_options(value)) == options
