"""The ring that carries spans from a worker to the controller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.metrics.spans import RING_BYTES, SLOTS, Span, SpanReader, SpanWriter, ring_of


def make_span(number: int = 1, target: bytes = b"/") -> Span:
    return Span(
        number, 2, 3, b"t" * 32, b"s" * 16, b"", b"GET", b"::1", b"10.0.0.1:80", b"", b"edge", target,
        b"id", 200, 1, 1, 1,
    )  # fmt: skip


def make_ring() -> memoryview:
    return memoryview(bytearray(RING_BYTES))


def test_what_is_written_is_read_once_and_in_order() -> None:
    """Every span arrives as it was told, once, oldest first."""
    ring = make_ring()
    writer, reader = SpanWriter(ring), SpanReader(ring)
    spans = [make_span(number) for number in range(5)]
    for span in spans[:3]:
        writer.write(span)
    first = reader.read()
    for span in spans[3:]:
        writer.write(span)

    assert first + reader.read() == spans
    assert reader.read() == []
    assert reader.lost == 0


@given(st.integers(0, 3 * SLOTS))
def test_what_is_overwritten_is_counted(count: int) -> None:
    """A reader that comes too late gets the newest, and knows how many it has missed."""
    ring = make_ring()
    writer, reader = SpanWriter(ring), SpanReader(ring)
    for number in range(count):
        writer.write(make_span(number))
    read = reader.read()

    assert [span.began_ns for span in read] == list(range(count - len(read), count))
    assert len(read) + reader.lost == count
    assert len(read) >= min(count, SLOTS - 1)


def test_a_record_that_is_being_written_is_not_read() -> None:
    """Half a record is none: it is counted as lost."""
    ring = make_ring()
    writer, reader = SpanWriter(ring), SpanReader(ring)
    writer.write(make_span())
    ring[64] ^= 1  # its number
    assert (reader.read(), reader.lost) == ([], 1)


def test_a_successor_goes_on() -> None:
    """A worker that takes a dead one's place writes behind its spans; a new controller reads what is new."""
    ring = make_ring()
    SpanWriter(ring).write(make_span(1))
    reader = SpanReader(ring)
    SpanWriter(ring).write(make_span(2))

    assert [span.began_ns for span in reader.read()] == [2]


def test_long_texts_are_cut_and_no_other_worker_notices() -> None:
    """A client cannot write past its record, nor into another worker's ring."""
    memory = memoryview(bytearray(3 * RING_BYTES))
    reader = SpanReader(ring_of(memory, 1))
    SpanWriter(ring_of(memory, 1)).write(make_span(target=b"/" * 10_000))

    (span,) = reader.read()
    assert span.target == b"/" * 160
    assert not any(memory[:RING_BYTES])
    assert not any(memory[2 * RING_BYTES :])
