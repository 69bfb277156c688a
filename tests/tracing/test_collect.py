"""Reading the rings: exemplars, and what goes to a collector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sillyproxy.config.schema import Config, Export
from sillyproxy.metrics.spans import RING_BYTES, SLOTS, Exemplar, SpanWriter, ring_of
from sillyproxy.metrics.table import EDGES_S
from sillyproxy.tracing.collect import Collector
from sillyproxy.tracing.export import Exporter, Results, Told
from tests.tracing.spans import SPAN

CONFIG = Config(export=Export("http://c/v1/traces"))


class Taker(Exporter):
    """An exporter that keeps what it is offered."""

    def __init__(self, export: Export, results: Results) -> None:
        self.export = export
        self.told: list[Told] = []
        self.lost = 0
        self.is_stopped = False

    def offer(self, spans: Sequence[Told], lost: int = 0) -> None:
        self.told += spans
        self.lost += lost

    def stop(self) -> None:
        self.is_stopped = True


class Bench:
    """A collector of rings for three workers."""

    def __init__(self, config: Config = CONFIG, workers: int = 1) -> None:
        self.memory = memoryview(bytearray(3 * RING_BYTES))
        self.takers: list[Taker] = []
        self.collector = Collector(self.memory, self._make)
        self.collector.apply(config, workers)

    def _make(self, export: Export, results: Results) -> Exporter:
        self.takers.append(Taker(export, results))
        return self.takers[-1]

    def write(self, worker: int = 0, **changes: int | bytes) -> None:
        SpanWriter(ring_of(self.memory, worker)).write(SPAN._replace(**changes))  # type: ignore[arg-type]


def test_spans_of_all_workers_go_to_the_collector_with_their_color() -> None:
    """Every worker's spans are exported, under the name of the color that answered."""
    bench = Bench(workers=2)
    bench.write(0, slot=1)
    bench.write(1, slot=2)
    bench.write(1, slot=0)
    bench.collector.look()
    bench.collector.look()
    assert [color for _, color in bench.takers[0].told] == ["blue", "green", ""]


def test_a_worker_that_comes_by_reload_is_read_from_its_first_span() -> None:
    """Nothing that a new worker tells before the first look is missed."""
    bench = Bench(workers=1)
    bench.collector.apply(CONFIG, 3)
    bench.write(2)
    bench.collector.look()
    assert len(bench.takers[0].told) == 1


def test_what_was_overwritten_is_counted_once() -> None:
    """A worker that tells faster than it is read costs spans, and each of them is counted."""
    bench = Bench()
    for _ in range(SLOTS + 9):
        bench.write()
    bench.collector.look()
    bench.collector.look()
    assert len(bench.takers[0].told) + bench.takers[0].lost == SLOTS + 9
    assert bench.takers[0].lost >= 9


def test_another_collector_takes_over() -> None:
    """A reload with another endpoint, or none, ends the way to the old one; the same one is kept."""
    bench = Bench()
    bench.collector.apply(replace(CONFIG, generation=2), 1)
    bench.collector.apply(replace(CONFIG, export=Export("http://d/v1/traces")), 1)
    bench.write()
    bench.collector.look()
    bench.collector.apply(Config(), 1)
    bench.write()
    bench.collector.look()
    assert [(taker.export.endpoint, len(taker.told), taker.is_stopped) for taker in bench.takers] == [
        ("http://c/v1/traces", 0, True),
        ("http://d/v1/traces", 1, True),
    ]


def test_exemplar_is_the_newest_of_its_color_and_bucket() -> None:
    """Each bucket of each color has one exchange, the last that was read, with trace, duration and end."""
    bench = Bench(Config())
    edge = EDGES_S.index(0.025)
    bench.write(duration_ns=25_000_000, trace_id=b"1" * 32)
    bench.write(duration_ns=24_000_000, trace_id=b"2" * 32)
    bench.write(duration_ns=25_000_000, trace_id=b"3" * 32)
    bench.write(duration_ns=300_000_000_000, trace_id=b"4" * 32)
    bench.write(duration_ns=25_000_000, trace_id=b"5" * 32, slot=0)
    bench.collector.look()
    assert bench.collector.exemplars() == {
        ("blue", edge): Exemplar("3" * 32, 0.025, 1764000000.025),
        ("blue", len(EDGES_S)): Exemplar("4" * 32, 300.0, 1764000300.0),
        ("-", edge): Exemplar("5" * 32, 0.025, 1764000000.025),
    }
