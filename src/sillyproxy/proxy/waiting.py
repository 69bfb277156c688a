"""
Where requests wait when every endpoint of their color has as many as it may have.

First come, first served; no more than `max_queue`, none longer than `queue_timeout_s`, each
worker with its part of both limits. Who finds the queue full, or waits too long, gets 503
with Retry-After: told early, a client can go elsewhere, and the queue stays short.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sillyproxy import errors
from sillyproxy.metrics.layout import QUEUE_WAITS_AT, Row, bucket_of
from sillyproxy.proxy.teller import OFTEN_NS

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.exchange import Exchange
    from sillyproxy.traffic.color import ColorAtWork


class WaitingRoom:
    """The queues of one worker, by color."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._queues: dict[str, deque[Exchange]] = {}

    def enter(self, exchange: Exchange, color: ColorAtWork) -> bool:
        """Let an exchange wait, which then has its deadline; False if there is no room."""
        edge = self._edge
        config = edge.config
        asked = next((each for each in config.colors if each.name == color.name), None)
        queue = self._queues.setdefault(color.name, deque())
        if asked is None or len(queue) >= -(-asked.max_queue // config.workers):
            edge.counts.rows[color.slot][Row.QUEUE_FULL] += 1
            edge.teller.tell("warning", "queue is full", OFTEN_NS, color=color.name, waiting=len(queue))
            return False
        queue.append(exchange)
        exchange.sent_ns = edge.loop.now_ns
        edge.queued += 1
        self._mark(color.name)
        exchange.down.deadline_ns = edge.loop.now_ns + int(asked.queue_timeout_s * 1e9)
        return True

    def leave(self, exchange: Exchange, color: ColorAtWork) -> None:
        """Let an exchange go that waited: it was served, or gave up. Count how long."""
        counts = self._edge.counts
        waited_ns = self._edge.loop.now_ns - exchange.sent_ns
        counts.rows[color.slot][Row.QUEUE_WAIT_NS] += waited_ns
        counts.note(color.slot, QUEUE_WAITS_AT + bucket_of(waited_ns))
        self._queues[color.name].remove(exchange)
        self._edge.queued -= 1
        self._mark(color.name)

    def length(self, color: str) -> int:
        """Return how many wait for a color."""
        queue = self._queues.get(color)
        return len(queue) if queue else 0

    def serve(self) -> None:
        """Send on who waits, as far as there is room now."""
        edge = self._edge
        if not edge.queued:
            return
        now_ns = edge.loop.now_ns
        colors = {color.name: color for color in edge.table.colors}
        # Who is sent on and fails at once may begin a queue elsewhere.
        for name, queue in tuple(self._queues.items()):
            color = colors.get(name)
            self._mark(name)
            for exchange in tuple(queue):
                waited_for = exchange.color
                assert waited_for is not None
                endpoint = color.pick_free(now_ns, exchange.tried) if color is not None else None
                if color is not None and endpoint is not None:
                    self.leave(exchange, waited_for)
                    exchange.go_from_queue(color, endpoint)
                elif color is None or color.why_nobody(now_ns):
                    # A reload has taken the color away, or its endpoints are: nobody will make room.
                    self.leave(exchange, waited_for)
                    exchange.go_elsewhere(errors.NO_BACKEND, None)
                elif not exchange.tried:
                    break  # nor is there room for anybody behind it

    def _mark(self, name: str) -> None:
        """Have newcomers stop behind those who wait."""
        for color in self._edge.table.colors:
            if color.name == name:
                color.threshold = 0 if self._queues.get(name) else color.limit
