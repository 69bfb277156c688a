"""The Host field (RFC 9112, section 3.2; RFC 9110, sections 4.2 and 7.2; RFC 3986, section 3.2)."""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_either, assert_passed, assert_refused, case
from tests.wire.harness import Edge

LINE = b"GET / HTTP/1.1\r\n"

GOOD = [
    case(f"3986-3.2 {host}", host.encode())
    for host in (
        "example.com",
        "example.com:80",
        "example.com:",
        "Example.COM:8080",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8080",
        "[2001:db8::7]",
        "[::ffff:192.0.2.1]:81",
        "example.com.",
        "under_score.example",
        "xn--bcher-kva.example",
        "a-b.c--d",
        "1.2.3",
    )
]


@pytest.mark.parametrize("host", GOOD)
def test_host_reaches_the_backend_as_sent(edge: Edge, host: bytes) -> None:
    """
    The backend sees the client's Host, to the byte.
    """
    assert assert_passed(edge, LINE + b"Host: " + host + b"\r\n\r\n").values("host") == [host]


BAD = [
    case("3986-3.2.3 a port that is a word", b"a:http"),
    case("3986-3.2.3 a port that is hexadecimal", b"a:0x50"),
    case("3986-3.2.3 a negative port", b"a:-1"),
    case("3986-3.2.3 a signed port", b"a:+80"),
    case("3986-3.2.3 two ports", b"a:80:80"),
    case("3986-3.2.3 a space before the port", b"a: 80"),
    case("3986-3.2.2 an unclosed bracket", b"[::1"),
    case("3986-3.2.2 an unopened bracket", b"::1]"),
    case("3986-3.2.2 IPv6 without brackets", b"::1"),
    case("3986-3.2.2 bytes after the bracket", b"[::1]a"),
    case("3986-3.2.2 empty brackets", b"[]"),
    case("3986-3.2.2 a bracket inside", b"a[b]"),
    case("9110-4.2.4 user information", b"user@a"),
    case("9110-4.2.4 user and password", b"user:secret@a"),
    case("9110-4.2.4 an empty user", b"@a"),
    case("9110-7.2 a path", b"a/b"),
    case("9110-7.2 a query", b"a?b"),
    case("9110-7.2 a fragment", b"a#b"),
    case("9110-7.2 a URL", b"http://a"),
    case("9110-7.2 a space", b"a b"),
    case("9110-7.2 a tab", b"a\tb"),
    case("9110-7.2 a list with a space", b"a, b"),
    case("9110-7.2 a backslash", b"a\\b"),
    case("3986-3.2.2 raw UTF-8", b"b\xc3\xbccher.example"),
    case("3986-3.2.2 raw Latin-1", b"b\xfccher.example"),
    case("3986-3.2.2 quotes", b'"a"'),
    case("3986-3.2.2 angle brackets", b"<a>"),
    case("3986-3.2.2 a caret", b"a^b"),
    case("3986-3.2.2 a bar", b"a|b"),
    case("3986-3.2.2 braces", b"{a}"),
    case("3986-3.2.2 NUL", b"a\0"),
    case("3986-3.2.2 DEL", b"a\x7f"),
]


@pytest.mark.parametrize("host", BAD)
def test_invalid_host_is_refused(edge: Edge, host: bytes) -> None:
    """
    RFC 9112, 3.2: an invalid Host is 400; caches and filters are led astray with such.
    """
    assert_refused(edge, LINE + b"Host: " + host + b"\r\n\r\n", 400, closes=False)


@pytest.mark.parametrize(
    "host", [b"a:http", b"user@a", b"[::1", b"a b"], ids=lambda host: f"9112-3.2 {host!r}"
)
def test_invalid_host_of_http_1_0_is_refused(edge: Edge, host: bytes) -> None:
    """
    RFC 9112, 3.2 says it of any request.
    """
    assert_refused(edge, b"GET / HTTP/1.0\r\nHost: " + host + b"\r\n\r\n", 400)


MAYBE = [
    case("9110-4.2.1 empty", b""),
    case("3986-3.2.2 sub-delimiters", b"a!$&'()*+,;=b"),
    case("3986-3.2.2 percent-encoded", b"a%41b"),
    case("3986-3.2.2 a broken percent escape", b"a%zz"),
    case("3986-3.2.3 a port beyond 65535", b"a:99999"),
    case("3986-3.2.2 a zone", b"[fe80::1%25eth0]"),
    case("3986-3.2.2 a future address", b"[v1.x]"),
    case("3986-3.2.2 brackets with nonsense", b"[::g]"),
    case("3986-3.2.2 a port alone", b":80"),
]


@pytest.mark.parametrize("host", MAYBE)
def test_odd_host_is_refused_or_passed_unchanged(edge: Edge, host: bytes) -> None:
    """
    What the grammar allows and nobody needs may be refused, but not rewritten.
    """
    received = assert_either(edge, LINE + b"Host: " + host + b"\r\n\r\n", 400)
    assert received is None or received.values("host") == [host]


TWO = [
    case("9112-3.2 missing", b""),
    case("9112-3.2 twice the same", b"Host: a\r\nHost: a\r\n"),
    case("9112-3.2 two", b"Host: a\r\nHost: b\r\n"),
    case("9112-3.2 two, spelled differently", b"Host: a\r\nX: y\r\nhOST: b\r\n"),
    case("9112-3.2 one of them empty", b"Host:\r\nHost: b\r\n"),
]


@pytest.mark.parametrize("fields", TWO)
def test_request_without_exactly_one_host_is_refused(edge: Edge, fields: bytes) -> None:
    """
    RFC 9112, 3.2: no Host, or more than one, is 400.
    """
    assert_refused(edge, LINE + fields + b"\r\n", 400, closes=False)


def test_two_hosts_of_http_1_0_are_refused(edge: Edge) -> None:
    """
    RFC 9112, 3.2: more than one Host is 400 in any request.
    """
    assert_refused(edge, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400)


def test_client_of_http_1_0_needs_no_host(edge: Edge) -> None:
    """
    HTTP/1.0 knows no Host; the backend, which is asked in HTTP/1.1, still gets exactly one.
    """
    assert len(assert_passed(edge, b"GET / HTTP/1.0\r\n\r\n").values("host")) == 1
