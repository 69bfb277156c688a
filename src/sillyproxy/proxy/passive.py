"""
What traffic tells of the endpoints: which to avoid, which to eject, which is back.

The rules are `traffic.outlier`'s and `traffic.endpoint`'s; here they meet the log, the
counts and the other workers. None of this is on the way of a request that goes well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sillyproxy.errors import Problem
from sillyproxy.metrics.layout import DURATIONS_AT, FIRST_BYTES_AT, Row, quantile_ns
from sillyproxy.proxy.teller import OFTEN_NS, SELDOM_NS
from sillyproxy.tools.channel import Address, Endpoints
from sillyproxy.traffic import outlier
from sillyproxy.traffic.color import ColorAtWork
from sillyproxy.traffic.endpoint import Endpoint

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.exchange import Exchange

# Until when (monotonic ns), and for the how-manyeth time.
Term = tuple[int, int]

# How often the usual duration is looked at, and of how many exchanges it is known.
_LOOK_EVERY_NS = 1_000_000_000
_ENOUGH = 20
_SMALL_BYTES = 65536
_SHOWN_BYTES = 160
# Nobody gets up for less.
_NOTABLE_NS = 250_000_000
_DOWN = "color is down"
FELL_BACK = "color fell back"
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
        self._look_at_ns = 0
        # By slot: the histogram of a color at the last look.
        self._durations: dict[int, list[int]] = {}

    def avoid(self, color: ColorAtWork, endpoint: Endpoint, reason: str) -> None:
        """Note that no connection to `endpoint` could be opened."""
        edge = self._edge
        edge.counts.rows[color.slot][Row.UPSTREAM_FAILURES] += 1
        endpoint.fail(edge.loop.now_ns)
        if endpoint.failures == 1:
            self._report(color.name, endpoint, False, reason)
            edge.log(
                "warning",
                "endpoint avoided",
                color=color.name,
                endpoint=endpoint.name,
                reason=reason,
                retry_in_s=(endpoint.avoided_until_ns - edge.loop.now_ns) / 1e9,
            )
        self.blame(color, endpoint, f"connect: {reason}", answered=False)

    def lose(self, color: ColorAtWork, endpoint: Endpoint) -> None:
        """Note that the machine of `endpoint` acknowledges nothing any more: what is kept to it is lost."""
        self.avoid(color, endpoint, "silent")
        for upstream in tuple(endpoint.idle):
            upstream.close()

    def welcome(self, color: ColorAtWork, endpoint: Endpoint) -> None:
        """Note that a connection to `endpoint` opened."""
        if endpoint.failures:
            self._report(color.name, endpoint, True, "connected")
            self._edge.log("info", "endpoint back", color=color.name, endpoint=endpoint.name)
            endpoint.succeed()
        self._note_up(color)

    def note_down(self, color: ColorAtWork, problem: Problem) -> None:
        """Note a request that no endpoint of its color could take, nor any other color."""
        reason = color.why_nobody(self._edge.loop.now_ns) or problem.detail
        self._edge.teller.tell("error", _DOWN, OFTEN_NS, color=color.name, reason=reason)

    def _note_up(self, color: ColorAtWork) -> None:
        untold = self._edge.teller.end(color.name, _DOWN, FELL_BACK)
        if untold is not None:
            self._edge.log("info", "color takes requests again", color=color.name, more_requests=untold)

    def note_malformed(self, color: ColorAtWork, endpoint: Endpoint, problem: Problem, data: bytes) -> None:
        """Note a response that is none; the log shows how it begins."""
        self._edge.teller.tell(
            "warning",
            "malformed response",
            SELDOM_NS,
            color=color.name,
            endpoint=endpoint.name,
            reason=problem.detail,
            begins=bytes(data[:_SHOWN_BYTES]).replace(b"\r\n", b" | ").decode("latin-1"),
        )

    def blame(
        self,
        color: ColorAtWork,
        endpoint: Endpoint,
        what: str,
        *,
        gateway: bool = True,
        answered: bool = False,
    ) -> None:
        """
        Note that a request failed at `endpoint`, and in a few words how.

        `outlier.note_failure` says what `gateway` and `answered` mean.
        """
        if endpoint.gone:
            return
        edge = self._edge
        rules = edge.config.outlier
        now_ns = edge.loop.now_ns
        reason = outlier.note_failure(color, endpoint, rules, now_ns, gateway=gateway, answered=answered)
        if reason is None:
            return
        until_ns, times = outlier.next_term(endpoint, rules, now_ns)
        why = f"{outlier.describe(endpoint, rules, reason)}, the last: {what}"
        self._eject(endpoint, until_ns, times)
        edge.counts.rows[color.slot][_REASON_ROWS[reason]] += 1
        edge.log(
            "warning",
            "endpoint ejected",
            color=color.name,
            endpoint=endpoint.name,
            reason=why,
            for_s=round((until_ns - now_ns) / 1e9, 1),
            times=times,
        )
        self._report_ejection(color.name, endpoint, (until_ns, times), why)

    def note_slow(self, exchange: Exchange, took_ns: int) -> None:
        """Note an exchange that took far longer than usual for its color, if that is the endpoint's doing."""
        endpoint = exchange.endpoint
        # Its own time, not that of a body on its way, of a tunnel, of another endpoint, or of the queue.
        if (
            endpoint is not None
            and not exchange.bytes_in
            and exchange.bytes_out < _SMALL_BYTES
            and exchange.status != 101
            and not exchange.tried
            and not exchange.has_waited
        ):
            edge = self._edge
            color = exchange.color
            if color is not None and outlier.note_slow(color, endpoint, took_ns, edge.loop.now_ns):
                color.row[Row.RESTS] += 1
                edge.teller.tell(
                    "info" if took_ns >= _NOTABLE_NS else "debug",
                    "endpoint is slow, letting it rest",
                    SELDOM_NS,
                    color=color.name,
                    endpoint=endpoint.name,
                    took_ms=round(took_ns / 1e6, 1),
                    slow_from_ms=round(color.slow_from_ns / 1e6, 1),
                )

    def tick(self, now_ns: int) -> None:
        """Learn how long the colors' answers usually take."""
        if now_ns < self._look_at_ns:
            return
        self._look_at_ns = now_ns + _LOOK_EVERY_NS
        for color in self._edge.table.colors:
            buckets = color.row[DURATIONS_AT:FIRST_BYTES_AT]
            before = self._durations.get(color.slot)
            if before is None:
                self._durations[color.slot] = buckets
                continue
            recent = [new - old for new, old in zip(buckets, before, strict=True)]
            if sum(recent) >= _ENOUGH:
                self._durations[color.slot] = buckets
                color.slow_from_ns = outlier.slow_from_ns(quantile_ns(recent, 0.5))

    def hear(self, news: Endpoints) -> None:
        """Take in what the active checks, and the other workers, have found."""
        edge = self._edge
        now_ns = edge.loop.now_ns
        slow_ns = int(edge.config.outlier.slow_start_s * 1e9)
        for color in edge.table.colors:
            sick = news.unhealthy.get(color.name, frozenset())
            out = news.ejected.get(color.name, {})
            places = [(Address(e.upstream, e.ip, e.port), e) for e in color.endpoints]
            # All of this first: whether one more may be ejected depends on how its siblings are now.
            for address, endpoint in places:
                endpoint.set_health(unhealthy=address in sick, now_ns=now_ns, slow_ns=slow_ns)
            for address, endpoint in places:
                ejection = out.get(address)
                if ejection is None:
                    if endpoint.ejected_until_ns > now_ns:
                        # A controller that is new has to hear of it again.
                        term = (endpoint.ejected_until_ns, endpoint.ejections)
                        self._report_ejection(color.name, endpoint, term, "ejected before")
                elif ejection.until_ns > endpoint.ejected_until_ns and (
                    ejection.until_ns <= now_ns or outlier.may_eject(color, endpoint, now_ns)
                ):
                    # One whose term is over is told for the number, and for the slow start.
                    self._eject(endpoint, *ejection)
                if endpoint.is_eligible(now_ns) and not endpoint.failures:
                    self._note_up(color)
                elif endpoint.unhealthy:
                    for upstream in tuple(endpoint.idle):
                        upstream.close()

    def _eject(self, endpoint: Endpoint, until_ns: int, times: int) -> None:
        endpoint.eject(until_ns, times, int(self._edge.config.outlier.slow_start_s * 1e9))
        outlier.forget(endpoint)
