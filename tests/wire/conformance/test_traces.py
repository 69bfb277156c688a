"""What becomes of a trace on its way to the backend (W3C Trace Context), and of the id of a request."""

from __future__ import annotations

import re

import pytest

from tests.wire.conformance.judge import assert_passed, case
from tests.wire.harness import Edge, Received

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
START = b"GET / HTTP/1.1\r\nHost: a\r\n"
TRACED = START + b"traceparent: 00-%b-%b-01\r\ntracestate: a=1,b=2\r\n" % (TRACE, SPAN)


def parent_of(received: Received) -> tuple[bytes, ...]:
    """Return the ids and the flags of the only traceparent."""
    (value,) = received.values("traceparent")
    match = re.fullmatch(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", value)
    assert match, value
    return match.groups()


FIELDS = [
    case("alone", b""),
    case("with an id of its own", b"X-Request-ID: mine\r\n"),
    case("nominated", b"Connection: traceparent, tracestate\r\n"),
]


@pytest.mark.parametrize("fields", FIELDS)
def test_backend_hears_of_us_as_its_parent(edge: Edge, fields: bytes) -> None:
    """
    The trace and whether it is sampled are the client's, the parent is our span, a new one each time.
    """
    trace, span, flags = parent_of(assert_passed(edge, TRACED + fields + b"\r\n"))
    _, other, _ = parent_of(assert_passed(edge, TRACED + fields + b"\r\n"))
    assert (trace, flags) == (TRACE, b"01")
    assert len({SPAN, span, other}) == 3


def test_state_of_a_trace_is_kept(edge: Edge) -> None:
    """
    tracestate goes on as it came, and the decision not to sample as well.
    """
    received = assert_passed(edge, TRACED.replace(b"-01", b"-00") + b"\r\n")
    assert received.values("tracestate") == [b"a=1,b=2"]
    assert parent_of(received)[2] == b"00"


def test_no_trace_begins_here_unless_asked_for(edge: Edge) -> None:
    """
    By default a request without a trace stays without one; a malformed one is no trace.
    """
    for fields in (b"", b"traceparent: 00-xyz\r\ntracestate: a=1\r\n"):
        received = assert_passed(edge, START + fields + b"\r\n")
        assert received.values("traceparent") == received.values("tracestate") == []


def test_traces_begin_here_if_asked_for(starting: Edge) -> None:
    """
    With SILLYPROXY_TRACING=start each request without a trace begins one; the share that was asked for is
    sampled; who has one keeps it.
    """
    begun = [parent_of(assert_passed(starting, START + b"\r\n")) for _ in range(60)]
    assert len({trace for trace, _, _ in begun}) == 60
    # Of 60 at one half: fewer than 8 or more than 52 once in 10**9 runs.
    assert 8 <= sum(flags == b"01" for _, _, flags in begun) <= 52
    assert parent_of(assert_passed(starting, TRACED + b"\r\n"))[0] == TRACE


def test_traces_pass_untouched_if_switched_off(untraced: Edge) -> None:
    """
    With SILLYPROXY_TRACING=off the two fields are like any other.
    """
    received = assert_passed(untraced, TRACED + b"\r\n")
    assert received.values("traceparent") == [b"00-%b-%b-01" % (TRACE, SPAN)]
    assert received.values("tracestate") == [b"a=1,b=2"]


IDS = [
    case("the client's", b"X-Request-ID: mine-1\r\n", b"mine-1"),
    case("ours", b"", rb"[0-9a-f]{20,}"),
    case("hostile", b"X-Request-ID: <b>\xff x\r\n", rb"<b>\?\?x"),
    case("endless", b"X-Request-ID: %b\r\n" % (b"x" * 1000), b"x{128}"),
]


@pytest.mark.parametrize(("fields", "shown"), IDS)
def test_reply_of_ours_tells_the_requests_id(limited: Edge, fields: bytes, shown: bytes) -> None:
    """
    Whoever complains of an error page can name the request: the id is in a field and in the body.
    """
    reply = limited.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n" + fields + b"\r\n")
    (request_id,) = reply.values("x-request-id")
    assert reply.status == 413
    assert re.fullmatch(shown, request_id)
    assert reply.body.endswith(b"\nrequest id: %b\n" % request_id)


def test_reply_to_what_is_no_request_has_an_id_too(edge: Edge) -> None:
    """
    A malformed request can be found in the log as well.
    """
    reply = edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\nBad\x00: x\r\n\r\n")
    assert reply.status == 400
    (request_id,) = reply.values("x-request-id")
    assert re.fullmatch(rb"[0-9a-f]{20,}", request_id)
