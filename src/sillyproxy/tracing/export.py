"""
Spans on their way to a collector: a queue with an end, and a thread that empties it.

A collector that is slow, dead or refuses costs spans, which are counted, and nothing else. What
is sent is bounded too: a span costs the controller more than a worker, so past `MAX_PER_S` they
are dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from threading import Condition, Thread
from typing import Final, Protocol

from sillyproxy.config.schema import Export
from sillyproxy.metrics.spans import Span
from sillyproxy.metrics.table import SPAN_RESULTS
from sillyproxy.tools import logs

MAX_PER_S: Final = 1000
# As OpenTelemetry's batch processor has them: OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_EXPORT_BATCH_SIZE.
MAX_QUEUE: Final = 2048
MAX_BATCH: Final = 512
# A batch goes when it is full, or this long after its first span.
GATHER_S: Final = 1.0
# At the end: so long for what is still waiting. The supervisor kills a controller that takes a second.
FLUSH_S: Final = 0.5
SAY_EVERY_S: Final = 60.0

Told = tuple[Span, str]  # with the name of its color


class Sends(Protocol):
    """Who sends a batch and returns why that failed; empty if it did not."""

    def send(self, spans: Sequence[Told]) -> str:
        """Send, and wait for the answer."""


def make_sender(export: Export) -> Sends:
    """Return the way to a collector. Raise ImportError if the extra is not installed."""
    from sillyproxy.tracing.otlp import Sender

    return Sender(export)


class Results:
    """What became of spans that were to be exported, since the controller started."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(SPAN_RESULTS, 0)
        self._lock = Condition()

    def add(self, result: str, count: int) -> None:
        """Count; from any thread."""
        with self._lock:
            self.counts[result] += count


class Exporter:
    """
    The way to one collector, from when it is configured until another one is, or none.

    `clock` is monotonic, seconds. `make` is called in the thread: it imports for half a second.
    """

    def __init__(
        self,
        export: Export,
        results: Results,
        clock: Callable[[], float] = time.monotonic,
        make: Callable[[Export], Sends] = make_sender,
    ) -> None:
        self.export = export
        self._results = results
        self._clock = clock
        self._make = make
        self._queue: deque[Told] = deque()
        self._changed = Condition()
        self._stopping = self._broken = False
        self._allowed, self._allowed_at = float(MAX_PER_S), clock()
        self._lost = {"failed": 0, "dropped": 0}
        self._reason = ""
        self._say_from = clock()
        self._thread = Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def offer(self, spans: Sequence[Told], lost: int = 0) -> None:
        """Take spans, as many as may be sent; `lost` more could not even be read."""
        now = self._clock()
        self._allowed = min(MAX_PER_S, self._allowed + (now - self._allowed_at) * MAX_PER_S)
        self._allowed_at = now
        with self._changed:
            room = 0 if self._broken else MAX_QUEUE - len(self._queue)
            taken = spans[: min(room, int(self._allowed))]
            self._queue.extend(taken)
            self._changed.notify()
        self._allowed -= len(taken)
        dropped = lost + len(spans) - len(taken)
        if dropped:
            self._lose("dropped", dropped, "" if len(taken) == room else f"more than {MAX_PER_S} a second")
        self._say(now)

    def stop(self) -> None:
        """Send what waits, then end. Does not wait for it."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    async def wait_end(self) -> None:
        """Wait until all is sent, for `FLUSH_S` at most; give up what is not by then."""
        end = time.monotonic() + FLUSH_S
        while self._thread.is_alive() and time.monotonic() < end:
            await asyncio.sleep(0.01)
        with self._changed:
            self._drop_queue()
        self._say(inf)

    def _lose(self, result: str, count: int, reason: str) -> None:
        with self._changed:
            self._lost[result] += count
            self._reason = reason or self._reason or "the collector is too slow"
        self._results.add(result, count)

    def _say(self, now: float) -> None:
        """Say what is lost, now and then."""
        if self._broken or now < self._say_from or not any(self._lost.values()):
            return
        self._say_from = now + SAY_EVERY_S
        self._say_now()

    def _say_now(self) -> None:
        with self._changed:
            lost, self._lost = self._lost, {"failed": 0, "dropped": 0}
            reason, self._reason = self._reason, ""
        logs.warning(
            "spans are lost",
            failed=lost["failed"],
            dropped=lost["dropped"],
            reason=reason,
            endpoint=self.export.endpoint,
        )

    # In the thread.

    def _run(self) -> None:
        try:
            sender = self._make(self.export)
        except ImportError as error:
            logs.error("cannot export spans: pip install sillyproxy[otel]", missing=error.name or str(error))
            self._break()
            return
        while batch := self._take():
            try:
                reason = sender.send(batch)
            except Exception as error:  # whatever it is, the next batch may be better
                reason = repr(error)
            if reason:
                self._lose("failed", len(batch), reason)
            else:
                self._results.add("exported", len(batch))

    def _take(self) -> list[Told]:
        """Wait for a batch; none if this is the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            self._changed.wait_for(lambda: len(self._queue) >= MAX_BATCH or self._stopping, GATHER_S)
            return [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]

    def _break(self) -> None:
        with self._changed:
            self._broken = True
            self._drop_queue()

    def _drop_queue(self) -> None:
        if self._queue:
            self._lose("dropped", len(self._queue), "")
            self._queue.clear()
