"""
From one configuration to the next, while requests are under way.

A new table is built beside the old one and put in its place at once, between two events.
It waits for its endpoints first, if it has a color that takes traffic and none of the old
endpoints: a request that the old table can serve is not to fail for the new one's sake. As
long as nobody knows any endpoint of the new one, the old one serves.

What stays keeps its connections and what is known of its health. What goes gets no new
request; its requests under way end by themselves, or at the end of the drain timeout, and
its tunnels are closed one by one within it, so that their clients do not all come back at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import random
from typing import TYPE_CHECKING, Final

from sillyproxy.config.schema import Config
from sillyproxy.metrics.layout import ROW_GAUGES, Row, Worker
from sillyproxy.proxy.failure import evict
from sillyproxy.proxy.teller import SELDOM_NS
from sillyproxy.proxy.upstream import dismiss
from sillyproxy.tools.channel import Endpoints
from sillyproxy.traffic.table import Table

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.exchange import Exchange

# How long a new table waits for its endpoints; nobody knowing any is an answer as well.
PATIENCE_NS: Final = 3_000_000_000


class Generations:
    """
    The table in force, the one that waits, and who has to leave.

    `on_applied` is called with the generation each time a table was put in its place.
    """

    def __init__(self, edge: Edge, config: Config) -> None:
        self._edge = edge
        self.on_applied: Callable[[int], None] | None = None
        self._next: Table | None = None
        self._next_by_ns = 0
        self._ahead: Endpoints | None = None
        # When (monotonic ns) an exchange must be over, and its number: exchange objects are used again.
        self._farewells: list[tuple[int, Exchange, int]] = []
        self._furnish(Table(config, random(), config.workers))  # noqa: S311  (chance, not a secret)

    @property
    def busy(self) -> bool:
        """Whether `tick` has something to look at."""
        return bool(self._next or self._farewells)

    def apply(self, config: Config) -> None:
        """Serve by the table of this configuration as soon as it can serve."""
        edge = self._edge
        table = Table(config, 0.0, config.workers)
        if table.is_furnished_by(edge.table):
            self._swap(table)
        else:
            self._next = table
            self._next_by_ns = edge.loop.now_ns + PATIENCE_NS
            edge.loop.ticking = True
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self.hear(ahead)

    def hear(self, news: Endpoints) -> None:
        """Use these endpoints from now on; close the idle connections of those that are gone."""
        edge = self._edge
        edge.shedding = news.shedding
        if self._next is not None and news.generation == self._next.generation:
            if edge.table.can_serve() and not self._would_serve(self._next, news):
                self._refuse_to_go_dark()
                return
            self._swap(self._next)
        elif news.generation not in (0, edge.table.generation):
            # Of an older one: the next is on its way. Of a newer one: we were told too early.
            if news.generation > edge.table.generation:
                self._ahead = news
            return
        for endpoint in edge.table.set_endpoints(news.colors):
            dismiss(endpoint)
        edge.passive.hear(news)
        edge.waiting.serve()

    def tick(self, now_ns: int) -> None:
        """Wait no longer than is good."""
        if self._next is not None and now_ns >= self._next_by_ns:
            if self._edge.table.can_serve() and not self._next.has_any_of(self._edge.table):
                self._refuse_to_go_dark()
            else:
                self._edge.log("warning", "not all colors of the new configuration have endpoints yet")
                self._swap(self._next)
        if self._farewells:
            due = [each for each in self._farewells if each[0] <= now_ns]
            if due:
                self._farewells = [each for each in self._farewells if each[0] > now_ns]
                for _, exchange, number in due:
                    if exchange.number == number and exchange.color is not None:
                        evict(exchange)

    @staticmethod
    def _would_serve(table: Table, news: Endpoints) -> bool:
        return any(news.colors.get(color.name) for color in table.colors if color.weight > 0)

    def _refuse_to_go_dark(self) -> None:
        """Go on by the old table, for as long as the new one could only answer 503."""
        assert self._next is not None
        self._edge.teller.tell(
            "error",
            "no color of the new configuration has an endpoint, still serving by the old one",
            SELDOM_NS,
            of_requests=False,
            generation=self._next.generation,
        )

    def say_goodbyes(self, within_ns: int) -> None:
        """Have every tunnel end within this time, not all at once: their clients will all come back."""
        now_ns = self._edge.loop.now_ns
        for down in self._edge.connections:
            exchange = down.exchange
            if exchange.tunnel is not None:
                part = random()  # noqa: S311
                self._farewells.append((now_ns + int(part * within_ns), exchange, exchange.number))

    def settle_leaving(self) -> None:
        """Count what is under way at colors that are gone."""
        edge = self._edge
        rows = {color.slot: color.row[Row.INFLIGHT] for color in edge.table.colors}
        busy = {slot: rows.get(slot, 0) for slot, _ in edge.table.leaving}
        for slot, endpoint in edge.table.leaving:
            busy[slot] += endpoint.inflight
        for slot, number in busy.items():
            row = edge.counts.rows[slot]
            row[Row.INFLIGHT] = row[Row.UPSTREAM_ACTIVE] = number
        edge.table.leaving = tuple(each for each in edge.table.leaving if each[1].inflight)

    def _swap(self, table: Table) -> None:
        edge = self._edge
        self._next = None
        for slot in {color.slot for color in edge.table.colors} | {slot for slot, _ in edge.table.leaving}:
            for gauge in ROW_GAUGES:
                edge.counts.rows[slot][gauge] = 0
        for endpoint in table.take_over(edge.table):
            dismiss(endpoint)
        self._furnish(table)
        self._see_off({color.name for color in table.colors})
        edge.waiting.serve()
        edge.loop.unsettled = True
        if self.on_applied is not None:
            self.on_applied(table.generation)

    def _furnish(self, table: Table) -> None:
        edge = self._edge
        for color in table.colors:
            color.row = edge.counts.rows[color.slot]
        edge.table = table
        edge.worker_counts[Worker.GENERATION] = table.generation

    def _see_off(self, staying: Collection[str]) -> None:
        """Set an end to what is under way at colors that are gone."""
        edge = self._edge
        drain_ns = int(edge.config.timeouts.drain_timeout_s * 1e9)
        known = {(exchange, number) for _, exchange, number in self._farewells}
        for down in edge.connections:
            exchange = down.exchange
            color = exchange.color
            if color is None or color.name in staying or (exchange, exchange.number) in known:
                continue
            part = random() if exchange.tunnel is not None else 1.0  # noqa: S311
            self._farewells.append((edge.loop.now_ns + int(part * drain_ns), exchange, exchange.number))
        if self._farewells:
            edge.loop.ticking = True
