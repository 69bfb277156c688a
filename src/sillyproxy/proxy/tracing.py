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

# Spans are made so many at a time: one system call for their ids, and code that is warm by the second.
_SUPPLY: Final = 64
_TRACE_DIGITS: Final = 32
_DIGITS: Final = 48  # of a trace and a span
_NOTHING: Final = b"0" * 16


class Tracer:
    """
    One worker's part in traces.

    `tell` takes what is known of a sampled exchange. `starts`: traces begin here where there is
    none, and `sample` of these are sampled.
    """

    __slots__ = ("_sample", "_supply", "_tell", "starts")

    def __init__(self, tracing: Tracing, tell: Callable[[Span], None]) -> None:
        self._tell = tell
        self.apply(tracing)

    def apply(self, tracing: Tracing) -> None:
        """Do as another configuration says from now on."""
        self.starts = tracing.mode == "start"
        self._sample = tracing.sample
        self._supply: list[tuple[bytes, Trace]] = []

    def begin(self, exchange: Exchange) -> bytes:
        """Begin a trace with an exchange that came without one; return the field for the endpoint."""
        if exchange.trace is not None:
            return traceparent_line(exchange.trace)  # it is sent again
        line, exchange.trace = (self._supply or self._make_supply()).pop()
        return line

    def line(self, exchange: Exchange) -> bytes:
        """Return the field that names us as the parent, beginning with CRLF; empty if there is no trace."""
        trace = exchange.trace or self.join(exchange)
        return traceparent_line(trace) if trace is not None else b""

    def join(self, exchange: Exchange) -> Trace | None:
        """Give the exchange a span, unless it has one; None if it belongs to no trace."""
        plan = exchange.plan
        if exchange.trace is not None or plan is None:
            return exchange.trace
        parent = plan.trace
        if parent is None and not self.starts:
            return None
        _, trace = (self._supply or self._make_supply()).pop()
        if parent is not None:
            trace = (parent.trace_id, trace[1], parent.span_id, parent.flags)
        exchange.trace = trace
        return trace

    def _make_supply(self) -> list[tuple[bytes, Trace]]:
        """Make spans that begin traces, with the field that tells of each."""
        ids = urandom(_SUPPLY * _DIGITS // 2).hex().encode()
        supply = self._supply
        sample = self._sample
        for at in range(0, len(ids), _DIGITS):
            span_id = ids[at + _TRACE_DIGITS : at + _DIGITS]
            if span_id == _NOTHING:
                span_id = b"1" * 16  # 0 is forbidden; at a million a second it comes once in 600,000 years
            flags = SAMPLED if random() < sample else 0  # noqa: S311  (chance, not a secret)
            trace = (ids[at : at + _TRACE_DIGITS], span_id, b"", flags)
            supply.append((traceparent_line(trace), trace))
        return supply

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
