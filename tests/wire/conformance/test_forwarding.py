"""What the proxy adds, replaces and leaves alone towards the backend (contract; RFC 9110, section 7.6)."""

from __future__ import annotations

import pytest

from tests.wire.conformance.judge import assert_either, assert_passed, case
from tests.wire.harness import Edge

START = b"GET / HTTP/1.1\r\nHost: example.com:81\r\n"

COLORS = [
    case("contract none", b""),
    case("contract another", b"Color: green\r\n"),
    case("contract lower case", b"color: green\r\n"),
    case("contract capitals", b"COLOR: green\r\n"),
    case("contract twice", b"Color: green\r\nX: y\r\ncolor: red\r\n"),
    case("contract a list", b"Color: green, blue\r\n"),
    case("contract no blank", b"Color:green\r\n"),
    case("contract empty", b"Color:\r\n"),
    case("contract last of all", b"X: y\r\nColor: green\r\n"),
    case("contract nominated", b"Connection: Color\r\nColor: green\r\n"),
]


@pytest.mark.parametrize("fields", COLORS)
def test_backend_gets_the_proxys_color_alone(edge: Edge, fields: bytes) -> None:
    """
    The color is what the proxy chose, once, whatever the client sent.
    """
    assert assert_passed(edge, START + fields + b"\r\n").values("color") == [b"blue"]


FORGED = [
    case("contract none", b""),
    case("contract one", b"X-Forwarded-For: 192.0.2.1\r\n"),
    case("contract several", b"X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nx-forwarded-for: 192.0.2.3\r\n"),
    case("contract capitals", b"X-FORWARDED-FOR: 192.0.2.1\r\n"),
    case(
        "contract with its siblings",
        b"X-Forwarded-For: x\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n",
    ),
    case("contract nominated", b"Connection: X-Forwarded-For\r\nX-Forwarded-For: 192.0.2.1\r\n"),
]


@pytest.mark.parametrize("fields", FORGED)
def test_stranger_cannot_say_where_a_request_came_from(edge: Edge, fields: bytes) -> None:
    """
    From a client that is not trusted X-Forwarded-* are replaced.
    """
    received = assert_passed(edge, START + fields + b"\r\n")
    assert received.values("x-forwarded-for") == [b"127.0.0.1"]
    assert received.values("x-forwarded-proto") == [b"http"]
    assert received.values("x-forwarded-host") == [b"example.com:81"]


def test_stranger_cannot_forge_forwarded(edge: Edge) -> None:
    """
    RFC 7239's field is believed from trusted networks alone.
    """
    received = assert_passed(edge, START + b"Forwarded: for=192.0.2.1\r\nforwarded: for=192.0.2.2\r\n\r\n")
    assert not [value for value in received.values("forwarded") if b"192.0.2." in value]


TRUSTED = [
    case("contract none", b"", b"127.0.0.1"),
    case("contract one", b"X-Forwarded-For: 192.0.2.1\r\n", b"192.0.2.1, 127.0.0.1"),
    case("contract two", b"X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n", b"192.0.2.1, 192.0.2.2, 127.0.0.1"),
    case(
        "contract two fields",
        b"X-Forwarded-For: 192.0.2.1\r\nX: y\r\nx-forwarded-for: 192.0.2.2\r\n",
        b"192.0.2.1, 192.0.2.2, 127.0.0.1",
    ),
    case("contract IPv6", b"X-Forwarded-For: 2001:db8::1\r\n", b"2001:db8::1, 127.0.0.1"),
]


@pytest.mark.parametrize(("fields", "chain"), TRUSTED)
def test_trusted_proxys_chain_is_extended(trusting: Edge, fields: bytes, chain: bytes) -> None:
    """
    From SILLYPROXY_TRUSTED_PROXIES the chain is kept in order, and the peer is added to it.
    """
    received = assert_passed(trusting, START + fields + b"\r\n")
    assert b", ".join(received.list("x-forwarded-for")) == chain


def test_trusted_proxys_scheme_and_host_are_kept(trusting: Edge) -> None:
    """
    A trusted proxy in front knows what the client really asked.
    """
    fields = b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: www.example\r\n\r\n"
    received = assert_passed(trusting, START + fields)
    assert received.values("x-forwarded-proto") == [b"https"]
    assert received.values("x-forwarded-host") == [b"www.example"]


def test_trusted_proxys_forwarded_is_kept(trusting: Edge) -> None:
    """
    RFC 7239: what came from a trusted proxy stays at the front of the list.
    """
    received = assert_passed(trusting, START + b"Forwarded: for=192.0.2.1;proto=https\r\n\r\n")
    assert received.list("forwarded")[0] == b"for=192.0.2.1;proto=https"


def test_trusted_proxy_that_says_nothing_is_described(trusting: Edge) -> None:
    """
    Without X-Forwarded-* from the trusted proxy the backend still gets all three.
    """
    received = assert_passed(trusting, START + b"\r\n")
    assert received.values("x-forwarded-proto") == [b"http"]
    assert received.values("x-forwarded-host") == [b"example.com:81"]


VIA = [
    case("9110-7.6.3 a client of 1.1", b"HTTP/1.1", b"", [b"1.1 "]),
    case("9110-7.6.3 a client of 1.0", b"HTTP/1.0", b"", [b"1.0 "]),
    case("9110-7.6.3 behind another", b"HTTP/1.1", b"Via: 1.1 front\r\n", [b"1.1 front", b"1.1 "]),
    case(
        "9110-7.6.3 behind two",
        b"HTTP/1.1",
        b"Via: 1.0 a, 2 b (c)\r\nX: y\r\nvia: 1.1 d\r\n",
        [b"1.0 a", b"2 b (c)", b"1.1 d", b"1.1 "],
    ),
]


@pytest.mark.parametrize(("version", "fields", "hops"), VIA)
def test_via_names_this_hop_last(edge: Edge, version: bytes, fields: bytes, hops: list[bytes]) -> None:
    """
    RFC 9110, 7.6.3: a gateway appends itself and the version that it received.
    """
    got = assert_passed(edge, b"GET / " + version + b"\r\nHost: a\r\n" + fields + b"\r\n").list("via")
    assert len(got) == len(hops)
    assert got[:-1] == hops[:-1]
    assert got[-1].startswith(hops[-1])
    assert len(got[-1]) > len(hops[-1])


UNTOUCHED = [
    case("9110-11.6.2 Authorization", b"Authorization: Basic dTpw"),
    case("6265-5.4 Cookie", b"Cookie: a=b; c=d"),
    case("9110-12.5.3 Accept-Encoding", b"Accept-Encoding: gzip;q=0.5, br"),
    case("9110-10.1.5 User-Agent", b"User-Agent: x/1 (y)"),
    case("9110-14.2 Range", b"Range: bytes=0-1"),
    case("9110-13.1.2 If-None-Match", b'If-None-Match: "a", W/"b"'),
    case("9110-10.1.3 Referer", b"Referer: http://u:p@h/#x"),
    case("fetch Origin", b"Origin: null"),
    case("9111-5.2 Cache-Control", b"Cache-Control: no-cache"),
    case("9110-8.3 Content-Type", b"Content-Type: multipart/form-data; boundary=--x"),
    case("9110-7.6.2 Max-Forwards of GET", b"Max-Forwards: 0"),
]


@pytest.mark.parametrize("field", UNTOUCHED)
def test_end_to_end_field_reaches_the_backend_unchanged(edge: Edge, field: bytes) -> None:
    """
    Fields between the client and the application are none of the proxy's business.
    """
    name, value = field.split(b": ", 1)
    assert assert_passed(edge, START + field + b"\r\n\r\n").values(name.decode()) == [value]


@pytest.mark.parametrize(
    "name", [case(f"9110-5.1 {n}", n) for n in ("Content-Type", "Accept", "User-Agent", "Expect")]
)
def test_nothing_is_invented_for_the_backend(edge: Edge, name: str) -> None:
    """
    A field that the client did not send is not there.
    """
    assert assert_passed(edge, START + b"\r\n").values(name) == []


@pytest.mark.parametrize("method", [case(f"9110-7.6.2 {m.decode()}", m) for m in (b"OPTIONS", b"TRACE")])
def test_max_forwards_of_zero_ends_here(edge: Edge, method: bytes) -> None:
    """
    RFC 9110, 7.6.2: at 0 the proxy answers itself and forwards nothing.
    """
    reply = edge.ask(method + b" / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
    assert reply.status in (200, 204, 405, 501), reply
    assert reply.is_whole
    assert edge.received == []


@pytest.mark.parametrize("count", [case(f"9110-7.6.2 {n}", n) for n in (1, 10, 100)])
def test_max_forwards_is_counted_down(edge: Edge, count: int) -> None:
    """
    RFC 9110, 7.6.2: above 0 the request goes on with one less.
    """
    received = assert_passed(edge, b"OPTIONS /o HTTP/1.1\r\nHost: a\r\nMax-Forwards: %d\r\n\r\n" % count)
    assert received.values("max-forwards") == [b"%d" % (count - 1)]


def test_max_forwards_of_trace_is_counted_down(edge: Edge) -> None:
    """
    RFC 9110, 7.6.2: the same for TRACE, unless the proxy refuses TRACE altogether.
    """
    received = assert_either(edge, b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n", 405, 501)
    assert received is None or received.values("max-forwards") == [b"4"]


@pytest.mark.parametrize("value", [case(f"9110-7.6.2 {v!r}", v) for v in (b"", b"x", b"-1", b"1.5", b"+1")])
def test_senseless_max_forwards_does_no_harm(edge: Edge, value: bytes) -> None:
    """
    A Max-Forwards that is no number is refused or ignored.
    """
    assert_either(edge, b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: " + value + b"\r\n\r\n", 400)
