"""
The shared memory that carries counts from the workers to whoever asks.

A worker counts in plain lists, which is several times cheaper than counting in shared
memory, and `Counts.publish` copies them out as a whole when the worker has a moment,
20 ms later at most. What is published is therefore a consistent picture: the balance
`ACCEPTED = ANSWERED + REPLIED + ABANDONED + INFLIGHT` holds in it, also in the last one
of a worker that was killed.

What happens seldom (`note`) is counted in the shared memory itself, so that its buckets are
not copied again and again.

A reader sums over all blocks. A worker that starts in the place of a dead one reads
the counts that it finds, so that they only grow, and sets the gauges to 0.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final

from sillyproxy.metrics.layout import (
    BLOCK_SIZE,
    FALLBACKS_AT,
    GAUGES,
    HOT_SIZE,
    MAX_COLORS,
    ROW_GAUGES,
    ROW_HEAD,
    ROW_SIZE,
    ROWS_AT,
    WORKER_SIZE,
    Worker,
)

BLOCK_BYTES = BLOCK_SIZE * 8

_BYTE_ORDER: Final = "little" if array("q", [1]).tobytes()[0] else "big"


def block_of(memory: memoryview, worker: int) -> memoryview:
    """Return the block of one worker in `memory` (bytes), as signed 64-bit integers."""
    return memory[worker * BLOCK_BYTES : (worker + 1) * BLOCK_BYTES].cast("q")


class Counts:
    """
    One worker's counts: `worker` by `layout.Worker`, `rows[slot]` by `layout.Row` and bucket.

    A row in here ends where the rare counts begin (`HOT_SIZE`).
    """

    def __init__(self, block: memoryview, slots: int) -> None:
        self._block = block
        self.worker: list[int] = block[:WORKER_SIZE].tolist()
        self.fallbacks: list[int] = block[FALLBACKS_AT:ROWS_AT].tolist()
        self.rows: list[list[int]] = []
        for gauge in GAUGES:
            self.worker[gauge] = 0
        self.grow(slots)

    def grow(self, slots: int) -> None:
        """Have rows for this many slots at least."""
        for slot in range(len(self.rows), min(slots, MAX_COLORS)):
            at = ROWS_AT + slot * ROW_SIZE
            row: list[int] = self._block[at : at + HOT_SIZE].tolist()
            for gauge in ROW_GAUGES:
                row[gauge] = 0
            self.rows.append(row)

    def add_fallback(self, from_slot: int, to_slot: int) -> None:
        """Count a request that one color could not take and another did."""
        self.fallbacks[from_slot * MAX_COLORS + to_slot] += 1

    def note(self, slot: int, place: int) -> None:
        """Count one of the things that happen seldom; `place` is that of its bucket in the row."""
        self._block[ROWS_AT + slot * ROW_SIZE + place] += 1

    def publish(self) -> None:
        """Copy all counts to the shared block."""
        block = self._block
        block[:WORKER_SIZE] = array("q", self.worker)
        block[FALLBACKS_AT:ROWS_AT] = array("q", self.fallbacks)
        at = ROWS_AT
        for row in self.rows:
            block[at : at + HOT_SIZE] = array("q", row)
            at += ROW_SIZE


@dataclass(frozen=True, slots=True)
class Totals:
    """The sum over all workers, in the shape of `Counts`."""

    worker: list[int]
    fallbacks: list[int]
    rows: list[list[int]]


def read_totals(memory: memoryview, workers: int, slots: int) -> Totals:
    """Return the sum of the first `workers` blocks, for colors' slots below `slots`."""
    blocks = [block_of(memory, index) for index in range(workers)]

    def add(begin: int, end: int) -> list[int]:
        return _add([block[begin:end] for block in blocks], end - begin)

    worker = [sum(counts) for counts in zip(*(block[:WORKER_SIZE] for block in blocks), strict=True)]
    rows = []
    for at in range(ROWS_AT, ROWS_AT + slots * ROW_SIZE, ROW_SIZE):
        heads = (block[at : at + ROW_HEAD] for block in blocks)
        head = [sum(counts) for counts in zip(*heads, strict=True)]
        rows.append(head + add(at + ROW_HEAD, at + ROW_SIZE))
    return Totals(worker, add(FALLBACKS_AT, ROWS_AT), rows)


def _add(parts: list[memoryview], size: int) -> list[int]:
    """
    Return the sums over parts of `size` counts that only grow.

    As one long number each: as no count is negative and none comes near 2**63, nothing is ever
    carried from one to the next. Count by count it takes four times as long.
    """
    total = sum(int.from_bytes(part, _BYTE_ORDER) for part in parts)
    counts: list[int] = memoryview(total.to_bytes(8 * size, _BYTE_ORDER)).cast("q").tolist()
    return counts


def bury(block: memoryview) -> int:
    """
    Close the books of a worker that died: what it had under way is lost. Return how many.

    Call only when its process is gone and no other has taken its place.
    """
    lost: int = block[Worker.INFLIGHT]
    block[Worker.LOST] += lost
    for gauge in GAUGES:
        block[gauge] = 0
    for slot in range(MAX_COLORS):
        for row_gauge in ROW_GAUGES:
            block[ROWS_AT + slot * ROW_SIZE + row_gauge] = 0
    return lost
