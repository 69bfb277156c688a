"""
The shared memory that carries finished spans from the workers to the controller.

A ring a worker, with one writer and one reader who never wait for each other: the writer
goes on over what was not read, and the reader finds out how many it has missed. A worker
pays one `pack_into` for a sampled exchange and nothing for all others; sending spans
anywhere is the controller's affair.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

SLOTS: Final = 1024
_NUMBER: Final = Struct("q")
# Its number is written before and after a record: where the two differ, it was being written.
_RECORD: Final = Struct("qqqq32s16s16s32s40s48s40s64s160s40sHHHHq")
_HEAD_BYTES: Final = 64
RING_BYTES: Final = _HEAD_BYTES + SLOTS * _RECORD.size
# The writer may be busy with the record after the newest one.
_SAFE: Final = SLOTS - 1


class Span(NamedTuple):
    """
    One exchange of a sampled trace.

    `began_ns` is since 1970, `duration_ns` to the end of the response, `first_byte_ns` until its
    head was here (0: it never was). `slot` is the color's row in the counts, `status` the client's,
    `tries` how often it was sent. `error` is the kind of what went wrong (RFC 9209), else empty.
    Texts are as the client wrote them, cut off where they are long.
    """

    began_ns: int
    duration_ns: int
    first_byte_ns: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    method: bytes
    client: bytes
    endpoint: bytes
    error: bytes
    host: bytes
    target: bytes
    request_id: bytes
    status: int
    slot: int
    tries: int
    minor: int


class Exemplar(NamedTuple):
    """A sampled exchange that stands for others: its trace, how long it took, when (seconds since 1970)."""

    trace_id: str
    seconds: float
    at: float


def ring_of(memory: memoryview, worker: int) -> memoryview:
    """Return the ring of one worker in `memory` (bytes)."""
    return memory[worker * RING_BYTES : (worker + 1) * RING_BYTES]


class SpanWriter:
    """The worker's side. A successor goes on where the ring stands."""

    def __init__(self, ring: memoryview) -> None:
        self._ring = ring
        (self._next,) = _NUMBER.unpack_from(ring)

    def write(self, span: Span) -> None:
        """Leave a span for whoever reads."""
        number = self._next + 1
        at = _HEAD_BYTES + (self._next % SLOTS) * _RECORD.size
        _RECORD.pack_into(self._ring, at, number, *span, number)
        self._next = number
        _NUMBER.pack_into(self._ring, 0, number)


class SpanReader:
    """The controller's side. `lost` counts what was overwritten before it was read."""

    def __init__(self, ring: memoryview) -> None:
        self._ring = ring
        # What was there before us was our predecessor's to read.
        (self._next,) = _NUMBER.unpack_from(ring)
        self.lost = 0

    def read(self) -> list[Span]:
        """Return the spans that have come since, oldest first."""
        (newest,) = _NUMBER.unpack_from(self._ring)
        first = max(self._next, newest - _SAFE)
        self.lost += first - self._next
        spans = []
        for number in range(first, newest):
            at = _HEAD_BYTES + (number % SLOTS) * _RECORD.size
            before, *fields, after = _RECORD.unpack_from(self._ring, at)
            if before == after == number + 1:
                texts = (field.rstrip(b"\0") if isinstance(field, bytes) else field for field in fields)
                spans.append(Span._make(texts))
            else:
                self.lost += 1
        self._next = newest
        return spans
