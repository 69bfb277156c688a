"""
Which requests are sent a second time, and how many at once.

By default a request is sent again only if no byte of it can have been acted on. An operator
may allow more (`SILLYPROXY_RETRY`): requests that may be acted on twice (RFC 9110, 9.2.2).

The budget is a share of the requests under way (Envoy's `retry_budget`, Finagle's before
it): while few fail, all are sent again; when most do, the retries do not become a load of
their own. A few are always allowed, because a share of few requests is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sillyproxy.metrics.layout import Row, Worker
from sillyproxy.proxy.teller import OFTEN_NS

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.exchange import Exchange

# RFC 9110, 9.2.2.
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

# Second tries under way that a worker may always have.
ALWAYS: Final = 32
# How often one request may be acted on in all, where that is allowed.
_MOST_REPEATS: Final = 2


class RetryBudget:
    """The second tries of one worker. `under_way` of them there are now."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.under_way = 0

    def grant(self, exchange: Exchange) -> bool:
        """Let an exchange be sent once more; False, and counted, if too many are already."""
        if exchange.retried:
            return True
        edge = self._edge
        counts = edge.worker_counts
        inflight = (
            counts[Worker.ACCEPTED]
            - counts[Worker.ANSWERED]
            - counts[Worker.REPLIED]
            - counts[Worker.ABANDONED]
            - counts[Worker.LOST]
        )
        share = edge.config.retry.budget
        if self.under_way >= (max(ALWAYS, share * inflight) if share else 0):
            color = exchange.color
            assert color is not None
            edge.counts.rows[color.slot][Row.RETRY_DENIED] += 1
            edge.teller.tell(
                "warning", "not sent again: too many second tries under way", OFTEN_NS, color=color.name
            )
            return False
        self.under_way += 1
        exchange.retried = exchange.untidy = True
        return True

    def end(self) -> None:
        """Note the end of an exchange that was sent again."""
        self.under_way -= 1

    def may_repeat(self, exchange: Exchange, *, status: int = 0) -> bool:
        """
        Tell whether the operator wants a request sent again that may have been acted on.

        `status` is that of the endpoint's answer, 0 if there was none.
        """
        kind = self._edge.config.retry.kind
        return (
            (kind == "5xx" or (kind == "idempotent" and not status))
            and exchange.method in IDEMPOTENT
            and exchange.repeats < _MOST_REPEATS
            and exchange.upload == 0
            and exchange.bytes_in == len(exchange.first)
            and not exchange.informed
        )
