"""
Taking part in traces: which exchange belongs to one, and what is told of it.

A trace that a client has begun is gone on with, and so is its decision to be sampled
(`SILLYPROXY_TRACING=continue`); with `start` one begins here where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from os import urandom
from random import random
from time import time_ns
from typing import TYPE_CHECKING, Final

from sillyproxy.http1.trace import SAMPLED, Trace, traceparent_line
from sillyproxy.metrics.spans import Span

if TYPE_CHECKING:
    from sillyproxy.config.schema import Tracing
    from sillyproxy.errors import Problem
    from sillyproxy.proxy.exchange import Exchange

_HOST: Final = b"\r\nHost: "

# Ids are cut from a supply of random digits: one system call for so many requests.
_SUPPLY: Final = 128
_TRACE_DIGITS: Final = 32
_DIGITS: Final = 48  # of a trace and a span
_NOTHING: Final = b"0" * 16


class Tracer:
    """
    One worker's part in traces.

    `tell` takes what is known of a sampled exchange. `starts`: traces begin here where there is
    none, and `sample` of these are sampled.
    """

    __slots__ = ("_at", "_ids", "_sample", "_tell", "starts")

    def __init__(self, tracing: Tracing, tell: Callable[[Span], None]) -> None:
        self._tell = tell
        self._ids = b""
        self._at = 0
        self.apply(tracing)

    def apply(self, tracing: Tracing) -> None:
        """Do as another configuration says from now on."""
        self.starts = tracing.mode == "start"
        self._sample = tracing.sample

    def line(self, exchange: Exchange) -> bytes:
        """Return the field that names us as the parent, beginning with CRLF; empty if there is no trace."""
        trace = exchange.trace or self.join(exchange)
        return traceparent_line(trace) if trace is not None else b""

    def join(self, exchange: Exchange) -> Trace | None:
        """Give the exchange a span, unless it has one; None if it belongs to no trace."""
        if exchange.trace is not None:
            return exchange.trace
        plan = exchange.plan
        if plan is None:
            return None
        parent = plan.trace
        if parent is None and not self.starts:
            return None
        at = self._at
        if at >= len(self._ids):
            self._ids = urandom(_SUPPLY * _DIGITS // 2).hex().encode()
            at = 0
        self._at = at + _DIGITS
        ids = self._ids
        span_id = ids[at + _TRACE_DIGITS : at + _DIGITS]
        if span_id == _NOTHING:  # once in 600 years of a million requests a second, and forbidden
            return self.join(exchange)
        trace: Trace
        if parent is not None:
            trace = (parent.trace_id, span_id, parent.span_id, parent.flags)
        else:
            flags = SAMPLED if random() < self._sample else 0  # noqa: S311  (chance, not a secret)
            trace = (ids[at : at + _TRACE_DIGITS], span_id, b"", flags)
        exchange.trace = trace
        return trace

    def record(
        self, exchange: Exchange, trace: Trace, status: int, duration_ns: int, problem: Problem | None
    ) -> None:
        """Tell of a finished exchange, whose trace is sampled."""
        trace_id, span_id, parent_id, _ = trace
        fields, color, endpoint = exchange.fields, exchange.color, exchange.endpoint
        end = fields.find(b"\r\n", 2)
        first_byte_ns = exchange.first_byte_ns
        self._tell(
            Span(
                time_ns() - duration_ns,
                duration_ns,
                first_byte_ns - exchange.started_ns if first_byte_ns else 0,
                trace_id,
                span_id,
                parent_id,
                exchange.method,
                exchange.down.ip.encode(),
                endpoint.name.encode() if endpoint is not None else b"",
                problem.kind.encode() if problem is not None else b"",
                fields[len(_HOST) : end if end > 0 else None] if fields.startswith(_HOST) else b"",
                exchange.target,
                exchange.request_id,
                status,
                color.slot if color is not None else 0,
                len(exchange.tried) + (endpoint is not None),
                exchange.minor,
            )
        )
