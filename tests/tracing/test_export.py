"""The queue before a collector, with a collector that is played."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from sillyproxy.config.schema import Export
from sillyproxy.tracing.export import MAX_BATCH, MAX_PER_S, MAX_QUEUE, Exporter, Results, Sends, Told
from tests.tracing.spans import SPAN
from tests.wire.stress_tools import wait_until

EXPORT = Export("http://c/v1/traces")


class Collector:
    """Keeps what is sent; `answer` is why it refuses, `open` cleared: it makes everybody wait."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.answer = ""
        self.open = threading.Event()
        self.open.set()

    def send(self, spans: Sequence[Told]) -> str:
        self.batches.append(len(spans))
        self.open.wait(20)
        return self.answer


class Bench:
    """An exporter with a clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.collector = Collector()
        self.results = Results()
        self.now = 0.0
        self.exporter = Exporter(EXPORT, self.results, lambda: self.now, self._make)

    def _make(self, _: Export) -> Sends:
        return self.collector

    def offer(self, count: int, lost: int = 0) -> None:
        self.exporter.offer([(SPAN, "blue")] * count, lost)

    def wait(self, **results: int) -> None:
        """Wait until so many have come to such an end."""
        wanted = {"exported": 0, "dropped": 0, "failed": 0} | results
        wait_until(lambda: self.results.counts == wanted, f"{wanted}")


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.collector.open.set()
    bench.exporter.stop()


def test_spans_go_in_batches(bench: Bench) -> None:
    """Many spans are few requests, none larger than a batch."""
    bench.offer(MAX_PER_S)
    bench.wait(exported=MAX_PER_S)
    assert max(bench.collector.batches) <= MAX_BATCH
    assert len(bench.collector.batches) <= 3


def test_more_than_may_be_sent_are_dropped_and_counted(bench: Bench) -> None:
    """Past so many a second spans are dropped; a second later as many may go again."""
    bench.offer(MAX_PER_S + 5)
    bench.wait(exported=MAX_PER_S, dropped=5)
    bench.now = 0.5
    bench.offer(MAX_PER_S)
    bench.wait(exported=MAX_PER_S + MAX_PER_S // 2, dropped=5 + MAX_PER_S // 2)
    bench.now = 60.0
    bench.offer(MAX_PER_S + 1)
    bench.wait(exported=2 * MAX_PER_S + MAX_PER_S // 2, dropped=6 + MAX_PER_S // 2)


def test_spans_that_could_not_be_read_are_counted(bench: Bench) -> None:
    """What a worker overwrote before it was read counts as dropped."""
    bench.offer(1, lost=7)
    bench.wait(exported=1, dropped=7)


def test_the_queue_has_an_end(bench: Bench) -> None:
    """While a collector hangs, so many wait and no more; the rest is dropped, and nobody waits for it."""
    bench.collector.open.clear()
    bench.offer(MAX_BATCH)
    wait_until(lambda: bench.collector.batches == [MAX_BATCH], "a batch under way")
    for second in range(1, 6):
        bench.now = float(second)
        bench.offer(MAX_PER_S)
    bench.wait(dropped=5 * MAX_PER_S - MAX_QUEUE)
    bench.collector.open.set()
    bench.wait(dropped=5 * MAX_PER_S - MAX_QUEUE, exported=MAX_BATCH + MAX_QUEUE)


def test_refused_spans_are_counted_and_told_once_a_minute(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log says at once that spans are lost and why, then once a minute how many."""
    bench.collector.answer = "401 Unauthorized"
    for second, failed in ((1, 3), (2, 6), (60, 9)):
        bench.now = float(second)
        bench.offer(3)
        bench.wait(failed=failed)
    bench.now = 61.9
    bench.offer(0)
    first = capfd.readouterr().err
    bench.now = 62.0
    bench.offer(0)
    second_line = capfd.readouterr().err
    bench.now = 200.0
    bench.offer(0)

    assert first.count("spans are lost") == 1
    assert 'failed=3 dropped=0 reason="401 Unauthorized" endpoint=http://c/v1/traces' in first
    assert "failed=6 dropped=0" in second_line
    assert capfd.readouterr().err == ""


def test_the_end_does_not_wait_for_a_batch_to_fill(bench: Bench) -> None:
    """What waits goes at once when the proxy stops."""
    bench.offer(2)
    bench.exporter.stop()
    bench.wait(exported=2)


async def test_the_end_does_not_wait_for_a_collector_that_hangs(bench: Bench) -> None:
    """What is not sent in time is given up, and counted."""
    bench.collector.open.clear()
    bench.offer(MAX_BATCH)
    wait_until(lambda: bench.collector.batches == [MAX_BATCH], "a batch under way")
    bench.offer(3)
    bench.exporter.stop()
    await bench.exporter.wait_end()
    assert bench.results.counts["dropped"] == 3


def test_an_accident_costs_one_batch(bench: Bench) -> None:
    """A bug in what sends is a failed batch, and the next one goes."""
    send = bench.collector.send
    bench.collector.send = lambda spans: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    bench.offer(1)
    bench.wait(failed=1)
    bench.collector.send = send  # type: ignore[method-assign]
    bench.offer(1)
    bench.wait(failed=1, exported=1)
