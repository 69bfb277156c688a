"""
Taking part in traces: which exchange belongs to one, and what is told of it.

A trace that a client has begun is gone on with, and so is its decision to be sampled
(`SILLYPROXY_TRACING=continue`); with `start` one begins here where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from random import getrandbits, random
from time import time_ns
from typing import TYPE_CHECKING, Final

from sillyproxy.http1.trace import SAMPLED, Trace
from sillyproxy.metrics.spans import Span

if TYPE_CHECKING:
    from sillyproxy.config.schema import Tracing
    from sillyproxy.errors import Problem
    from sillyproxy.proxy.exchange import Exchange

_HOST: Final = b"\r\nHost: "


class Tracer:
    """
    One worker's part in traces.

    `tell` takes what is known of a sampled exchange. `goes_on`: traces of clients are gone on with;
    `starts`: others begin here, of which `sample` are sampled.
    """

    __slots__ = ("_sample", "_tell", "goes_on", "starts")

    def __init__(self, tracing: Tracing, tell: Callable[[Span], None]) -> None:
        self._tell = tell
        self.apply(tracing)

    def apply(self, tracing: Tracing) -> None:
        """Do as another configuration says from now on."""
        self.goes_on = tracing.mode != "off"
        self.starts = tracing.mode == "start"
        self._sample = tracing.sample

    def join(self, exchange: Exchange) -> Trace | None:
        """Return the exchange's span, made at the first call; None if it belongs to no trace."""
        if exchange.trace is not None:
            return exchange.trace
        plan = exchange.plan
        if plan is None:
            return None
        parent = plan.trace
        if parent is not None:
            trace = Trace(parent.trace_id, b"%016x" % (getrandbits(64) or 1), parent.span_id, parent.flags)
        elif self.starts:
            flags = SAMPLED if random() < self._sample else 0  # noqa: S311  (chance, not a secret)
            trace = Trace(b"%032x" % (getrandbits(128) or 1), b"%016x" % (getrandbits(64) or 1), b"", flags)
        else:
            return None
        exchange.trace = trace
        return trace

    def record(
        self, exchange: Exchange, trace: Trace, status: int, duration_ns: int, problem: Problem | None
    ) -> None:
        """Tell of a finished exchange whose trace is sampled."""
        if not trace.flags & SAMPLED:
            return
        fields, color, endpoint = exchange.fields, exchange.color, exchange.endpoint
        end = fields.find(b"\r\n", 2)
        first_byte_ns = exchange.first_byte_ns
        self._tell(
            Span(
                time_ns() - duration_ns,
                duration_ns,
                first_byte_ns - exchange.started_ns if first_byte_ns else 0,
                trace.trace_id,
                trace.span_id,
                trace.parent_id,
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
