"""
What traffic tells of the endpoints: which to avoid, which to eject, which is back.

The rules are `traffic.outlier`'s and `traffic.endpoint`'s; here they meet the log, the
counts and the other workers. None of this is on the way of a request that goes well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sillyproxy.metrics.layout import Row
from sillyproxy.tools.channel import Address, Ejection, Endpoints
from sillyproxy.traffic import outlier
from sillyproxy.traffic.color import ColorAtWork
from sillyproxy.traffic.endpoint import Endpoint

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge

# Until when (monotonic ns), and for the how-manyeth time.
Term = tuple[int, int]

_NONE = Ejection(0, 0)
_REASON_ROWS = {"consecutive": Row.EJECT_CONSECUTIVE, "error_rate": Row.EJECT_RATE}


class PassiveHealth:
    """
    One worker's view.

    `report` takes a color's name, an endpoint, whether it is up, and the reason, each time the
    mind about a connection to it changes; `report_ejection` those and the term of an ejection.
    """

    def __init__(
        self,
        edge: Edge,
        report: Callable[[str, Endpoint, bool, str], None],
        report_ejection: Callable[[str, Endpoint, Term, str], None],
    ) -> None:
        self._edge = edge
        self._report = report
        self._report_ejection = report_ejection

    def avoid(self, color: ColorAtWork, endpoint: Endpoint, reason: str) -> None:
        """Note that no connection to `endpoint` could be opened."""
        edge = self._edge
        edge.counts.rows[color.slot][Row.UPSTREAM_FAILURES] += 1
        endpoint.fail(edge.loop.now_ns)
        if endpoint.failures == 1:
            self._report(color.name, endpoint, False, reason)
            edge.log("warning", "endpoint avoided", color=color.name, endpoint=endpoint.name, reason=reason)
        self.blame(color, endpoint, answered=False)

    def welcome(self, color: ColorAtWork, endpoint: Endpoint) -> None:
        """Note that a connection to `endpoint` opened."""
        if endpoint.failures:
            self._report(color.name, endpoint, True, "connected")
            self._edge.log("info", "endpoint back", color=color.name, endpoint=endpoint.name)
            endpoint.succeed()

    def blame(
        self, color: ColorAtWork, endpoint: Endpoint, *, gateway: bool = True, answered: bool = False
    ) -> None:
        """Note that a request failed at `endpoint` (`outlier.note_failure` says what the words mean)."""
        if endpoint.gone:
            return
        edge = self._edge
        rules = edge.config.outlier
        now_ns = edge.loop.now_ns
        reason = outlier.note_failure(color, endpoint, rules, now_ns, gateway=gateway, answered=answered)
        if reason is None:
            return
        until_ns, times = outlier.next_term(endpoint, rules, now_ns)
        self._eject(endpoint, until_ns, times)
        edge.counts.rows[color.slot][_REASON_ROWS[reason]] += 1
        edge.log(
            "warning",
            "endpoint ejected",
            color=color.name,
            endpoint=endpoint.name,
            reason=reason,
            for_s=round((until_ns - now_ns) / 1e9, 1),
            times=times,
        )
        self._report_ejection(color.name, endpoint, (until_ns, times), reason)

    def hear(self, news: Endpoints) -> None:
        """Take in what the active checks, and the other workers, have found."""
        edge = self._edge
        now_ns = edge.loop.now_ns
        slow_ns = int(edge.config.outlier.slow_start_s * 1e9)
        for color in edge.table.colors:
            sick = news.unhealthy.get(color.name, frozenset())
            out = news.ejected.get(color.name, {})
            for endpoint in color.endpoints:
                address = Address(endpoint.upstream, endpoint.ip, endpoint.port)
                endpoint.set_health(unhealthy=address in sick, now_ns=now_ns, slow_ns=slow_ns)
                until_ns, times = out.get(address, _NONE)
                if until_ns > max(now_ns, endpoint.ejected_until_ns) and outlier.may_eject(
                    color, endpoint, now_ns
                ):
                    self._eject(endpoint, until_ns, times)
                if endpoint.unhealthy:
                    for upstream in tuple(endpoint.idle):
                        upstream.close()

    def _eject(self, endpoint: Endpoint, until_ns: int, times: int) -> None:
        endpoint.eject(until_ns, times, int(self._edge.config.outlier.slow_start_s * 1e9))
        outlier.forget(endpoint)
