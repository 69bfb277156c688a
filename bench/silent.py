"""
sillyproxy without its metrics, to find out what they cost: `python -m bench.silent serve`.

Of an exchange only that it has ended is counted (the retry budget asks for that), not how:
no class, no duration, no bytes. Only for the plain source; a compiled method is not replaced.
"""

from __future__ import annotations

import sys
from time import monotonic_ns

from sillyproxy.__main__ import main
from sillyproxy.errors import Problem
from sillyproxy.proxy.exchange import Exchange
from sillyproxy.proxy.states import OVER


def record(self: Exchange, status: int, outcome: int, problem: Problem | None) -> int:
    """End an exchange as `Exchange.record` does, and tell nobody."""
    edge = self.edge
    ended_ns = monotonic_ns()
    edge.worker_counts[outcome] += 1
    edge.loop.unsettled = True
    if edge.queued:
        edge.loop.soon(edge.waiting.serve)
    self.state = OVER
    row = edge.no_color_row
    self.color = self.endpoint = None
    self.bytes_out = self.first_byte_ns = 0
    if self.untidy:
        self._tidy(row, 0)
    return ended_ns


if __name__ == "__main__":
    Exchange.record = record  # type: ignore[method-assign]
    sys.exit(main())
