"""
Reading what the workers tell of sampled exchanges, a few times a second.

The newest of each color and bucket of the histogram stands beside it as its exemplar; if there
is a collector, all of them are on their way to it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Final

from sillyproxy.config.schema import Config, Export
from sillyproxy.metrics.spans import Exemplar, Span, SpanReader, ring_of
from sillyproxy.metrics.table import EDGES_S, NO_COLOR
from sillyproxy.tracing.export import Exporter, Results

# A ring holds what a worker that samples 5,000 requests a second tells in this time.
LOOK_S: Final = 0.2

_EDGES_NS: Final = tuple(round(edge * 1e9) for edge in EDGES_S)


class Collector:
    """The reading side of all rings. `memory` is theirs, `results` counts what was to be exported."""

    def __init__(self, memory: memoryview, make: Callable[[Export, Results], Exporter] = Exporter) -> None:
        self._memory = memory
        self._make = make
        self._readers: list[SpanReader] = []
        self._lost = 0
        self._slots: tuple[str, ...] = ()
        self._newest: dict[tuple[int, int], Span] = {}
        self._results = Results()
        self._exporter: Exporter | None = None
        self.results: Mapping[str, int] = self._results.counts

    def apply(self, config: Config, workers: int) -> None:
        """
        Do as another configuration says. `workers` are so many as have a ring, those that leave too.

        A new worker's ring is read from when this is called, so before it serves.
        """
        for index in range(len(self._readers), workers):
            self._readers.append(SpanReader(ring_of(self._memory, index)))
        self._slots = config.slots
        export = config.export
        if self._exporter is not None and self._exporter.export != export:
            self._exporter.stop()
            self._exporter = None
        if self._exporter is None and export.endpoint:
            self._exporter = self._make(export, self._results)

    async def run(self) -> None:
        """Look, all the time."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Read what is new."""
        spans = [span for reader in self._readers for span in reader.read()]
        for span in spans:
            self._newest[span.slot, bisect_left(_EDGES_NS, span.duration_ns)] = span
        lost, self._lost = self._lost, sum(reader.lost for reader in self._readers)
        if self._exporter is not None:
            self._exporter.offer([(span, self._color(span.slot)) for span in spans], self._lost - lost)

    def exemplars(self) -> dict[tuple[str, int], Exemplar]:
        """Return the newest exchange of each color and bucket: of the first edge that it does not exceed."""
        return {
            (self._color(slot) or NO_COLOR, edge): Exemplar(
                span.trace_id.decode(), span.duration_ns / 10**9, (span.began_ns + span.duration_ns) / 10**9
            )
            for (slot, edge), span in self._newest.items()
        }

    async def close(self) -> None:
        """Read the last, and send it."""
        self.look()
        if self._exporter is not None:
            self._exporter.stop()
            await self._exporter.wait_end()

    def _color(self, slot: int) -> str:
        return self._slots[slot - 1] if 0 < slot <= len(self._slots) else ""
