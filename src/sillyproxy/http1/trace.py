"""
The trace that a request belongs to: `traceparent` (W3C Trace Context, 2021 and Level 2).

Whoever takes part in a trace passes its id on and names itself as the parent of what
comes behind. What is malformed counts as absent, its `tracestate` too (3.3.1.1, 3.3.1.6).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_PARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*+)?+"
)
# "sampled", and Level 2's "the id is random", which stays true of an id that is passed on.
_KNOWN_FLAGS: Final = 0x03
SAMPLED: Final = 0x01


class Parent(NamedTuple):
    """Who asked: the ids of the trace and of the span, in lower-case hexadecimal digits, and the flags."""

    trace_id: bytes
    span_id: bytes
    flags: int


# Our span within a trace: the ids of the trace, of the span, and of its parent, empty where the trace
# begins here; the flags. A plain tuple: each request makes one, and a named one costs six times that.
Trace = tuple[bytes, bytes, bytes, int]


def read_traceparent(value: bytes) -> Parent | None:
    """
    Return what `traceparent` says; None if it says nothing valid.

    A version from the future is read as far as we know it (3.2.4), but none may have less.

    >>> read_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").flags
    1
    >>> read_traceparent(b"00-00000000000000000000000000000000-b7ad6b7169203331-01") is None
    True
    """
    match = _PARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more is not None and version == b"00":
        return None
    return Parent(trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS)


def traceparent_line(trace: Trace) -> bytes:
    """
    Return the field line that names us as the parent, beginning with CRLF.

    >>> traceparent_line((b"0af7651916cd43dd8448eb211c80319c", b"00f067aa0ba902b7", b"", 1))
    b'\\r\\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01'
    """
    trace_id, span_id, _, flags = trace
    return b"\r\ntraceparent: 00-%b-%b-%02x" % (trace_id, span_id, flags)
