"""
The text of an exposition: made by the library once, then only filled with numbers.

prometheus_client goes through every name and label of every sample each time, character by
character: 1500 samples take it 8 ms in the classic format and 16 in OpenMetrics, once a second,
in the process that also answers health checks. Which series there are changes only with
colors, endpoints and workers. So the library writes the text for each such *shape*, with all
its escapes, and a scrape puts the numbers in, which takes a tenth of a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as LibraryFamily
from prometheus_client.registry import Collector

from sillyproxy.metrics.table import Metric

Labels = tuple[str, ...]
Values = list[float | str]  # numbers; or a number with its exemplar, as text


class Family(NamedTuple):
    """
    One metric's series: their labels, and the values of each.

    That is one value, or of a histogram the count at each edge, the count of all (the edge
    that is infinite), the count again, and the sum.
    """

    metric: Metric
    series: Sequence[tuple[Labels, Values]]


_Shape = tuple[tuple[Metric, tuple[Labels, ...]], ...]


def fill(families: Sequence[Family], accept: str) -> bytes:
    """Return the text of these families in the format that `accept` asks for."""
    shape = tuple((family.metric, tuple([labels for labels, _ in family.series])) for family in families)
    values = [value for family in families for _, values in family.series for value in values]
    return (_make_template(shape, accept) % tuple(values)).encode()


def media_type_of(accept: str) -> str:
    """Return the media type that `fill` has for this Accept field."""
    return choose_encoder(accept)[1]


# Two formats, before and after something came or went; and whoever asks in odd ways.
@lru_cache(maxsize=8)
def _make_template(shape: _Shape, accept: str) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Zeroes(shape))
    encode, _ = choose_encoder(accept)
    lines = encode(registry).decode().replace("%", "%%").splitlines(keepends=True)
    return "".join(line if line.startswith("#") else f"{line.rpartition(' ')[0]} %s\n" for line in lines)


class _Zeroes(Collector):
    """Each series of a shape, at 0."""

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape

    def collect(self) -> Iterator[LibraryFamily]:
        for metric, series in self._shape:
            if metric.kind == "histogram":
                yield _make_histogram(metric, series)
            else:
                make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = make(metric.name, metric.help, labels=metric.labels)
                for labels in series:
                    family.add_metric(labels, 0)
                yield family


def _make_histogram(metric: Metric, series: Iterable[Labels]) -> LibraryFamily:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels in series:
        family.add_metric(labels, [*((repr(edge), 0) for edge in metric.edges), ("+Inf", 0)], 0)
    return family
