"""Request lines: methods, targets in their four forms, versions (RFC 9112, sections 2.2, 2.3 and 3)."""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_either, assert_passed, assert_refused, case
from tests.wire.harness import OK, Edge

HOST = b"Host: example.com\r\n\r\n"

METHODS = [
    case("9110-9.3.1 GET", b"GET"),
    case("9110-9.3.3 POST", b"POST"),
    case("9110-9.3.4 PUT", b"PUT"),
    case("9110-9.3.5 DELETE", b"DELETE"),
    case("9110-9.3.7 OPTIONS", b"OPTIONS"),
    case("5789 PATCH", b"PATCH"),
    case("4918 PROPFIND", b"PROPFIND"),
    case("9110-9.1 M-SEARCH", b"M-SEARCH"),
    case("9110-9.1 methods are case-sensitive", b"get"),
    case("9110-5.6.2 every token character", b"!#$%&'*+-.^_`|~0aZ"),
    case("9110-9.1 one letter", b"X"),
    case("9112-3.1 a method of 60 bytes", b"M" * 60),
]


@pytest.mark.parametrize("method", METHODS)
def test_method_reaches_the_backend_as_sent(edge: Edge, method: bytes) -> None:
    """
    Any token is a method, and the backend decides what it means.
    """
    assert assert_passed(edge, method + b" /m HTTP/1.1\r\n" + HOST).line == method + b" /m HTTP/1.1"


NO_METHODS = [
    case("9112-3.1 empty", b""),
    *(case(f"9110-5.6.2 {chr(c)!r} is no token character", b"G%cT" % c) for c in b'(),/:;<=>?@[\\]{}"'),
    case("9110-5.6.2 a byte beyond ASCII", b"G\xc9T"),
    case("9110-5.6.2 NUL", b"GE\0T"),
    case("9110-5.6.2 DEL", b"GET\x7f"),
    case("9110-5.6.2 ESC", b"\x1bGET"),
    case("9110-5.6.2 a byte order mark", b"\xef\xbb\xbfGET"),
]


@pytest.mark.parametrize("method", NO_METHODS)
def test_method_that_is_no_token_is_refused(edge: Edge, method: bytes) -> None:
    """
    What is no token is no method: 400, whatever the backend would make of it.
    """
    assert_refused(edge, method + b" / HTTP/1.1\r\n" + HOST, 400)


TARGETS = [
    case("9112-3.2.1 the root", b"/"),
    case("9112-3.2.1 path and query", b"/a/b?x=y&z=1"),
    case("9112-3.2.1 two slashes", b"//a//b//"),
    case("3986-2.1 encoded slash", b"/a%2Fb%2fc"),
    case("3986-2.1 encoded NUL", b"/a%00b"),
    case("3986-5.2.4 dot segments", b"/a/../b/./c/.."),
    case("3986-5.2.4 above the root", b"/../../etc/passwd"),
    case("3986-2.1 encoded dots", b"/%2e%2E/a"),
    case("3986-3.4 an empty query", b"/a?"),
    case("3986-3.4 question marks in the query", b"/a?b?c=d?"),
    case("3986-3.4 slashes, colons, at signs in the query", b"/a?u=http://h:1/@x"),
    case("3986-3.3 parameters", b"/a;b=c;d/e"),
    case("3986-3.3 colon and at", b"/a:b@c"),
    case("3986-3.3 every sub-delimiter", b"/~!$&'()*+,;=-._"),
    case("3986-2.1 encoded UTF-8", b"/%C3%A9?%E2%82%AC"),
    case("3986-3.3 an authority's look", b"//example.org/a"),
    case("9112-3 a target of 8000 bytes", b"/" + b"a" * 7999),
]


@pytest.mark.parametrize("target", TARGETS)
def test_origin_form_reaches_the_backend_byte_for_byte(edge: Edge, target: bytes) -> None:
    """
    The path and the query are the application's: not a byte of them changes.
    """
    assert assert_passed(edge, b"GET " + target + b" HTTP/1.1\r\n" + HOST).target == target


DOUBTFUL_TARGETS = [
    *(case(f"3986-2 raw {chr(c)!r}", b"/a%cb?c%cd" % (c, c)) for c in b'"<>[]\\^`{|}'),
    case("3986-2.1 a broken percent escape", b"/a%zz%"),
    case("3986-2 raw UTF-8", b"/\xc3\xa9"),
    case("3986-2 raw Latin-1", b"/\xe9?\xff"),
]


@pytest.mark.parametrize("target", DOUBTFUL_TARGETS)
def test_sloppy_target_is_refused_or_passed_unchanged(edge: Edge, target: bytes) -> None:
    """
    Browsers send a few characters that RFC 3986 does not allow; they may pass, but not change.
    """
    received = assert_either(edge, b"GET " + target + b" HTTP/1.1\r\n" + HOST, 400)
    assert received is None or received.target == target


BASED = [
    case("9112-3.2.1 a path", b"/a", b"/base/a"),
    case("9112-3.2.1 the root", b"/", b"/base/"),
    case("9112-3.2.1 a query alone", b"/?x", b"/base/?x"),
    case("contract two slashes", b"//a//b", b"/base//a//b"),
    case("contract encoded slash", b"/%2F/b", b"/base/%2F/b"),
    case("contract dot segments", b"/../a", b"/base/../a"),
    case("9112-3.2.2 absolute-form", b"http://example.com/a", b"/base/a"),
    case("9112-3.2.2 absolute-form, empty path", b"http://example.com", b"/base/"),
    case("9112-3.2.2 absolute-form, query alone", b"http://example.com?x", b"/base/?x"),
]


@pytest.mark.parametrize(("target", "expected"), BASED)
def test_base_path_goes_before_the_path(based: Edge, target: bytes, expected: bytes) -> None:
    """
    A color's base path is put before the request's path, which stays as it was.
    """
    assert assert_passed(based, b"GET " + target + b" HTTP/1.1\r\n" + HOST).target == expected


ABSOLUTE = [
    case("9112-3.2.2 a path", b"http://example.org/a?b", b"/a?b", b"example.org"),
    case("9112-3.2.2 a port", b"http://example.org:8080/a", b"/a", b"example.org:8080"),
    case("9112-3.2.2 empty path", b"http://example.org", b"/", b"example.org"),
    case("9112-3.2.2 empty path, query", b"http://example.org?x=/y", b"/?x=/y", b"example.org"),
    case("9110-4.2.3 the scheme in capitals", b"HTTP://example.org/a", b"/a", b"example.org"),
    case("9112-3.2.2 IPv6", b"http://[2001:db8::1]:81/a", b"/a", b"[2001:db8::1]:81"),
    case("contract the path unchanged", b"http://example.org//a/%2F/../b", b"//a/%2F/../b", b"example.org"),
]


@pytest.mark.parametrize(("target", "path", "host"), ABSOLUTE)
def test_absolute_form_decides_path_and_host(edge: Edge, target: bytes, path: bytes, host: bytes) -> None:
    """
    With a full URL as the target the Host field is ignored and replaced by the URL's (RFC 9112, 3.2.2).
    """
    received = assert_passed(edge, b"GET " + target + b" HTTP/1.1\r\nHost: other.example\r\n\r\n")
    assert (received.target, received.values("host")) == (path, [host])


def test_absolute_form_serves_a_client_of_http_1_0_without_host(edge: Edge) -> None:
    """
    RFC 9112, 3.2.2 and 3.3: the URL names the host when an HTTP/1.0 client sends no Host.
    """
    received = assert_passed(edge, b"GET http://example.org/a HTTP/1.0\r\n\r\n")
    assert (received.target, received.values("host")) == (b"/a", [b"example.org"])


def test_absolute_form_without_host_is_refused(edge: Edge) -> None:
    """
    RFC 9112, 3.2: HTTP/1.1 needs a Host field even beside a full URL.
    """
    assert_refused(edge, b"GET http://example.org/a HTTP/1.1\r\n\r\n", 400, closes=False)


NO_ABSOLUTE = [
    case("9110-4.2.4 user information", b"http://user@example.com/"),
    case("9110-4.2.4 user and password", b"http://user:secret@example.com/"),
    case("9110-4.2.1 empty host", b"http:///a"),
    case("9110-4.2.1 no host at all", b"http://"),
    case("9110-4.2.1 a port alone", b"http://:80/a"),
    case("3986-3.2.3 a port that is no number", b"http://example.com:http/"),
    case("3986-3.2.2 an unclosed bracket", b"http://[::1/"),
    case("3986-3 one slash", b"http:/example.com/a"),
    case("3986-3 no slash", b"http:example.com"),
    case("3986-3.2.2 a backslash", b"http://example.com\\@evil.example/"),
]


@pytest.mark.parametrize("target", NO_ABSOLUTE)
def test_broken_absolute_form_is_refused(edge: Edge, target: bytes) -> None:
    """
    A URL whose host can be read in two ways names no host.
    """
    assert_refused(edge, b"GET " + target + b" HTTP/1.1\r\n" + HOST, 400)


NO_TARGETS = [
    case("9112-3.2 empty", b""),
    case("9112-3.2 no slash", b"index.html"),
    case("9112-3.2 a query alone", b"?x"),
    case("9112-3.2.1 a fragment", b"/a#b"),
    case("9112-3.2.3 authority-form is for CONNECT", b"example.com:80"),
    case("9112-3.2.4 asterisk-form is for OPTIONS", b"*"),
    case("9112-3.2.4 an asterisk and more", b"*a"),
    case("3986-2 DEL", b"/a\x7fb"),
    case("9112-3.2 NUL", b"/a\0b"),
    case("9112-3.2 an escape", b"/a\x1bb"),
    case("9112-2.2 a bare CR", b"/a\rb"),
    case("9112-3.2 a tab", b"/a\tb"),
    case("9112-3.2 a vertical tab", b"/a\x0bb"),
    case("9112-3.2 a form feed", b"/a\x0cb"),
    case("9112-3.2 a space", b"/a b"),
]


@pytest.mark.parametrize("target", NO_TARGETS)
def test_invalid_target_is_refused(edge: Edge, target: bytes) -> None:
    """
    A target in none of the four forms, or with bytes that no URI has, is 400.
    """
    assert_refused(edge, b"GET " + target + b" HTTP/1.1\r\n" + HOST, 400)


def test_options_of_the_whole_server_keeps_its_asterisk(edge: Edge) -> None:
    """
    RFC 9112, 3.2.4: OPTIONS * asks about the server, not about a path.
    """
    assert assert_passed(edge, b"OPTIONS * HTTP/1.1\r\n" + HOST).target == b"*"


def test_options_of_an_empty_url_becomes_an_asterisk(edge: Edge) -> None:
    """
    RFC 9112, 3.2.4: the last proxy writes * for an OPTIONS URL without path and query.
    """
    received = assert_passed(
        edge, b"OPTIONS http://example.org:8001 HTTP/1.1\r\nHost: example.org:8001\r\n\r\n"
    )
    assert (received.target, received.values("host")) == (b"*", [b"example.org:8001"])


@pytest.mark.parametrize(
    "target",
    [
        case("9112-3.2.3 authority-form", b"example.com:443"),
        case("9110-9.3.6 a path", b"/"),
        case("9110-9.3.6 a URL", b"http://example.com/"),
    ],
)
def test_connect_is_refused(edge: Edge, target: bytes) -> None:
    """
    This is no tunnel for strangers: CONNECT is 405 (400 if its target is not even an authority).
    """
    statuses = (405,) if target.endswith(b":443") else (405, 400)
    assert_refused(edge, b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST, *statuses, closes=False)


LINES = [
    case("9112-3 two spaces before the target", b"GET  / HTTP/1.1\r\n"),
    case("9112-3 two spaces before the version", b"GET /  HTTP/1.1\r\n"),
    case("9112-3 a tab for a space", b"GET\t/\tHTTP/1.1\r\n"),
    case("9112-3 a space at the end", b"GET / HTTP/1.1 \r\n"),
    case("9112-3 a space at the start", b" GET / HTTP/1.1\r\n"),
    case("9112-3 a vertical tab for a space", b"GET\x0b/ HTTP/1.1\r\n"),
    case("9112-2.2 a bare LF", b"GET / HTTP/1.1\n"),
    case("9112-2.2 a bare CR", b"GET / HTTP/1.1\r"),
    case("9112-2.2 a CR before CRLF", b"GET / HTTP/1.1\r\r\n"),
    case("9112-3 method alone", b"GET\r\n"),
    case("9112-3 no spaces", b"GET/HTTP/1.1\r\n"),
    case("9112-3 four words", b"GET / HTTP/1.1 x\r\n"),
    case("9112-2.3 HTTP/0.9", b"GET /\r\n"),
    case("9112-2.3 no minor version", b"GET / HTTP/1\r\n"),
    case("9112-2.3 an empty minor version", b"GET / HTTP/1.\r\n"),
    case("9112-2.3 an empty major version", b"GET / HTTP/.1\r\n"),
    case("9112-2.3 two digits", b"GET / HTTP/1.10\r\n"),
    case("9112-2.3 two digits before", b"GET / HTTP/11.1\r\n"),
    case("9112-2.3 three numbers", b"GET / HTTP/1.1.1\r\n"),
    case("9112-2.3 letters", b"GET / HTTP/a.b\r\n"),
    case("9112-2.3 a comma", b"GET / HTTP/1,1\r\n"),
    case("9112-2.3 a sign", b"GET / HTTP/+1.1\r\n"),
    case("9112-2.3 no slash", b"GET / HTTP1.1\r\n"),
    case("9112-2.3 lower case", b"GET / http/1.1\r\n"),
    case("9112-2.3 mixed case", b"GET / Http/1.1\r\n"),
    case("9112-2.3 a space inside", b"GET / HTTP/ 1.1\r\n"),
    case("9112-2.3 another protocol", b"GET / ICY/1.1\r\n"),
    case("9112-2.3 a NUL behind", b"GET / HTTP/1.1\0\r\n"),
    case("9112-2.3 a digit beyond ASCII", b"GET / HTTP/1.\xb9\r\n"),
]


@pytest.mark.parametrize("line", LINES)
def test_malformed_request_line_is_refused(edge: Edge, line: bytes) -> None:
    """
    One method, one space, one target, one space, one version, CRLF; anything else is 400.
    """
    assert_refused(edge, line + HOST, 400, 505)


@pytest.mark.parametrize(
    "version",
    [case(f"9110-15.6.6 {v.decode()}", v) for v in (b"HTTP/2.0", b"HTTP/3.0", b"HTTP/0.9", b"HTTP/9.9")],
)
def test_unknown_major_version_is_refused(edge: Edge, version: bytes) -> None:
    """
    Only HTTP/1 is spoken here; the client is told so with 505.
    """
    assert_refused(edge, b"GET / " + version + b"\r\n" + HOST, 505)


@pytest.mark.parametrize("version", [case(f"9110-2.5 {v.decode()}", v) for v in (b"HTTP/1.2", b"HTTP/1.9")])
def test_higher_minor_version_is_read_as_1_1_or_refused(edge: Edge, version: bytes) -> None:
    """
    A later HTTP/1 is understood as HTTP/1.1 or refused with 505; it is never passed on as it stands.
    """
    received = assert_either(edge, b"GET / " + version + b"\r\n" + HOST, 505)
    assert received is None or received.line == b"GET / HTTP/1.1"


def test_version_to_the_backend_is_our_own(edge: Edge) -> None:
    """
    RFC 9110, 2.5 and 9112, 2.3: a request of HTTP/1.0 goes on as HTTP/1.1.
    """
    assert assert_passed(edge, b"GET / HTTP/1.0\r\n" + HOST).line == b"GET / HTTP/1.1"


def test_one_empty_line_before_the_request_is_ignored(edge: Edge) -> None:
    """
    RFC 9112, 2.2: at least one empty line before a request line is to be ignored.
    """
    assert assert_passed(edge, b"\r\nGET /a HTTP/1.1\r\n" + HOST).target == b"/a"


def test_one_empty_line_after_a_body_is_ignored(edge: Edge) -> None:
    """
    RFC 9112, 2.2: old clients send an extra CRLF after a POST; the next request is still found.
    """
    client = edge.connect()
    client.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\nGET /2 HTTP/1.1\r\n" + HOST)
    assert [client.read_reply().status, client.read_reply().status] == [200, 200]


@pytest.mark.parametrize(
    "noise",
    [
        case("9112-2.2 a space and CRLF", b" \r\n"),
        case("9112-2.2 NULs", b"\0\0\0"),
        case("9112-2.2 a tab", b"\t"),
    ],
)
def test_noise_before_a_request_is_refused(edge: Edge, noise: bytes) -> None:
    """
    Only empty lines may come before a request.
    """
    assert_refused(edge, noise + b"GET / HTTP/1.1\r\n" + HOST, 400)


def test_too_long_target_gets_414(edge: Edge) -> None:
    """
    RFC 9112, 3: a target longer than we read is 414, not a closed connection.
    """
    assert_refused(edge, b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST, 414)


def test_endless_method_is_refused(edge: Edge) -> None:
    """
    RFC 9112, 3: bytes without end are not collected without end.
    """
    assert_refused(edge, b"A" * 40_000, 400, 414, 431, 501)


@pytest.mark.parametrize(
    "hello",
    [
        case("8446 TLS ClientHello", bytes.fromhex("16030100c8010000c40303") + bytes(190) + b"\r\n\r\n"),
        case("socks SOCKS5", b"\x05\x01\x00\r\n\r\n"),
        case("ssh SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ],
)
def test_another_protocol_is_told_off(edge: Edge, hello: bytes) -> None:
    """
    A client of another protocol learns at once that this is HTTP/1.
    """
    assert_refused(edge, hello, 400, 505)


def test_request_that_comes_a_byte_at_a_time_is_understood(edge: Edge) -> None:
    """
    RFC 9112, 2.2: where packets begin and end means nothing.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send_slowly(b"\r\nPOST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert client.read_reply().status == 200
    assert edge.origin.wait().body == b"hello"


@pytest.mark.parametrize("count", [case("9112-2.2 two", 2), case("9112-2.2 a hundred thousand", 100_000)])
def test_many_empty_lines_are_skipped_or_refused(edge: Edge, count: int) -> None:
    """
    RFC 9112, 2.2 asks for patience with one; more may be refused, and none is a request.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(b"\r\n" * count + b"GET /a HTTP/1.1\r\n" + HOST)
    assert client.read_reply().status in (200, 400, 408, 431)
    assert [request.target for request in edge.received] in ([], [b"/a"])
