"""
What happened since somebody looked last, read from the workers' counts.

The counts only grow, also over the death of a worker, and a row is a color's for good. So the
difference of two looks is what happened between them, whatever was reloaded meanwhile.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from sillyproxy.metrics.layout import (
    BUCKETS,
    DURATIONS_AT,
    FALLBACKS_AT,
    MAX_COLORS,
    RETRY_REASONS,
    ROW_SIZE,
    ROWS_AT,
    Row,
)

CODES = (Row.OTHER, Row.C1XX, Row.C2XX, Row.C3XX, Row.C4XX, Row.C5XX)
_RETRIES = tuple(RETRY_REASONS.values())
_READ = DURATIONS_AT + BUCKETS  # of a row


@dataclass(slots=True)
class Reading:
    """
    Of one row: what happened, and its gauges of now.

    `codes` in the order of CODES, `durations` by bucket.
    """

    codes: list[int] = field(default_factory=lambda: [0] * len(CODES))
    durations: dict[int, int] = field(default_factory=dict)
    sum_ns: int = 0
    retries: int = 0
    fallbacks: int = 0
    inflight: int = 0
    queued: int = 0
    active: int = 0
    idle: int = 0


class Meter:
    """Looks at blocks of counts, and remembers what it saw."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], bytes] = {}
        self._fallbacks: dict[tuple[int, int], int] = {}

    def read(self, blocks: list[memoryview], slots: int) -> list[Reading]:
        """
        Return what happened in each of the first `slots` rows since the last time.

        At the first time that is all since the start of the proxy.
        """
        readings = [Reading() for _ in range(slots)]
        for index, block in enumerate(blocks):
            for slot, reading in enumerate(readings):
                self._read_row(reading, block, index, slot)
        return readings

    def _read_row(self, reading: Reading, block: memoryview, index: int, slot: int) -> None:
        at, key = ROWS_AT + slot * ROW_SIZE, (index, slot)
        raw = block[at : at + _READ].tobytes()
        before = self._seen.get(key)
        if before != raw:
            self._seen[key] = raw
            _add(reading, array("q", before or bytes(len(raw))), array("q", raw))
        reading.inflight += block[at + Row.INFLIGHT]
        reading.queued += block[at + Row.QUEUED]
        reading.active += block[at + Row.UPSTREAM_ACTIVE]
        reading.idle += block[at + Row.UPSTREAM_IDLE]
        from_here = FALLBACKS_AT + slot * MAX_COLORS
        fallbacks = sum(block[from_here : from_here + MAX_COLORS])
        reading.fallbacks += fallbacks - self._fallbacks.get(key, 0)
        self._fallbacks[key] = fallbacks


def _add(reading: Reading, before: array[int], after: array[int]) -> None:
    for place, code in enumerate(CODES):
        reading.codes[place] += after[code] - before[code]
    reading.sum_ns += after[Row.DURATION_NS] - before[Row.DURATION_NS]
    reading.retries += sum(after[reason] - before[reason] for reason in _RETRIES)
    durations = reading.durations
    for bucket, (old, new) in enumerate(zip(before[DURATIONS_AT:], after[DURATIONS_AT:], strict=True)):
        if new > old:
            durations[bucket] = durations.get(bucket, 0) + new - old
