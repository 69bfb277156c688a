"""From one configuration to the next: what is counted."""

from __future__ import annotations

from typing import Any

from sillyproxy.config.schema import Color, Config, Upstream
from sillyproxy.metrics.layout import Row
from sillyproxy.metrics.slab import BLOCK_BYTES, Counts, block_of
from sillyproxy.proxy.edge import Edge
from sillyproxy.proxy.record import Recorder
from sillyproxy.tools.channel import Address, Endpoints

BLUE, GREEN = (Color(name, (Upstream("http", name, 80),)) for name in ("blue", "green"))


def ignore(*_: Any, **__: Any) -> None:
    """Hear a log line, or a report."""


def make_edge(*colors: Color) -> Edge:
    """Return an edge whose colors have an endpoint each."""
    counts = Counts(block_of(memoryview(bytearray(BLOCK_BYTES)), 0), 3)
    edge = Edge(Config(colors=colors), counts, Recorder(), ignore, ignore, ignore)
    edge.set_endpoints(
        Endpoints({color.name: (Address(0, f"10.0.0.{n}", 80),) for n, color in enumerate(colors)})
    )
    return edge


def read_gauges(edge: Edge) -> list[int]:
    """Return how many exchanges blue and green are said to be busy with."""
    edge.settle()
    return [edge.counts.rows[slot][Row.INFLIGHT] for slot in (1, 2)]


def test_a_removed_color_is_busy_until_its_last_request_ends() -> None:
    """Who watches a color drain that a reload has removed sees what it is still busy with."""
    edge = make_edge(BLUE, GREEN)
    blue = edge.table.colors[0].endpoints[0]
    blue.inflight = 2
    edge.apply(Config(colors=(GREEN,), generation=2))
    assert read_gauges(edge) == [2, 0]
    blue.inflight = 1
    assert read_gauges(edge) == [1, 0]
    blue.inflight = 0
    assert read_gauges(edge) == [0, 0]


def test_a_color_that_came_back_is_busy_with_both() -> None:
    """A color that is removed and added again while it is busy counts the old endpoint's requests too."""
    edge = make_edge(BLUE, GREEN)
    old = edge.table.colors[0].endpoints[0]
    old.inflight = 1
    edge.apply(Config(colors=(GREEN,), generation=2))
    edge.apply(Config(colors=(BLUE, GREEN), generation=3))
    edge.set_endpoints(Endpoints({"blue": (Address(0, "10.0.0.9", 80),)}, generation=3))
    edge.table.colors[0].endpoints[0].inflight = 2
    assert read_gauges(edge) == [3, 0]
    assert read_gauges(edge) == [3, 0]
    old.inflight = 0
    assert read_gauges(edge) == [2, 0]


def test_a_count_does_not_outlive_its_request() -> None:
    """The last request of a removed color ends just as the next reload comes: it is not counted for ever."""
    edge = make_edge(BLUE, GREEN)
    blue = edge.table.colors[0].endpoints[0]
    blue.inflight = 1
    edge.apply(Config(colors=(GREEN,), generation=2))
    assert read_gauges(edge) == [1, 0]
    blue.inflight = 0
    edge.apply(Config(colors=(GREEN,), generation=3))
    assert read_gauges(edge) == [0, 0]
