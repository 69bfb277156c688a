"""The trace that a request belongs to: what is believed, what goes on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.http1.forward import RequestPlans
from sillyproxy.http1.trace import Parent, read_traceparent, traceparent_line

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
GOOD = b"00-%b-%b-01" % (TRACE, SPAN)


def plan_of(*lines: bytes, traced: bool = True) -> tuple[Parent | None, list[bytes]]:
    """Return what the fields say of a trace, and those of them that go on."""
    plans = RequestPlans("Color", trusted=False, minor=1, traced=traced)
    plan = plans[b"\r\n" + b"\r\n".join((b"Host: edge", *lines))]
    gone_on = [line for line in plan.forward.split(b"\r\n") if line.lower().startswith(b"trace")]
    return plan.trace, gone_on


def test_a_trace_is_gone_on_with() -> None:
    """The ids and the decision to sample are those of the client; its tracestate goes on as it is."""
    trace, gone_on = plan_of(b"TraceParent: " + GOOD, b"tracestate: a=1", b"tracestate: b=2")
    assert trace == Parent(TRACE, SPAN, 1)
    assert gone_on == [b"tracestate: a=1", b"tracestate: b=2"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        GOOD.upper(),
        b"ff" + GOOD[2:],
        b"0x" + GOOD[2:],
        GOOD + b"-extra",
        GOOD + b"x",
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-1" % (TRACE, SPAN),
        b"00-%b-%b" % (TRACE, SPAN),
        b"01" + GOOD[2:] + b"x",
        GOOD + b", " + GOOD,
    ],
)
def test_what_is_malformed_counts_as_absent(value: bytes) -> None:
    """No backend gets a traceparent that is none, nor the tracestate that came with it."""
    assert plan_of(b"traceparent: " + value, b"tracestate: a=1") == (None, [])


def test_two_traceparents_are_none() -> None:
    """Who says twice where it comes from is believed neither time."""
    assert plan_of(b"traceparent: " + GOOD, b"traceparent: " + GOOD) == (None, [])


def test_a_tracestate_alone_means_nothing() -> None:
    """State without a trace is dropped."""
    assert plan_of(b"tracestate: a=1") == (None, [])


def test_a_version_of_the_future_is_read_as_far_as_it_is_known() -> None:
    """Version 01 may say more; what we know of it goes on as 00, without flags that we do not know."""
    assert read_traceparent(b"01-%b-%b-fd-more" % (TRACE, SPAN)) == Parent(TRACE, SPAN, 1)


def test_switched_off_the_fields_are_like_any_other() -> None:
    """With SILLYPROXY_TRACING=off what a client says passes untouched, whatever it is."""
    lines = (b"traceparent: nonsense", b"tracestate: a=1")
    assert plan_of(*lines, traced=False) == (None, list(lines))


VALID = st.from_regex(rb"0[01]-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True)


@given(st.binary(max_size=80) | VALID)
def test_what_is_read_can_be_written(value: bytes) -> None:
    """Whatever is believed is 32 and 16 lower-case digits, not all 0, and says the same written by us."""
    parent = read_traceparent(value)
    if parent is None:
        return
    assert re.fullmatch(rb"[0-9a-f]{32}", parent.trace_id)
    assert re.fullmatch(rb"[0-9a-f]{16}", parent.span_id)
    assert 0 not in (int(parent.trace_id, 16), int(parent.span_id, 16))
    line = traceparent_line((parent.trace_id, parent.span_id, b"", parent.flags))
    assert read_traceparent(line.removeprefix(b"\r\ntraceparent: ")) == parent
