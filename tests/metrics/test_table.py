"""The table of metrics and its page."""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sillyproxy.metrics.layout import BUCKETS, SIZES, bucket_limit_ns, bucket_of
from sillyproxy.metrics.table import (
    COARSE_EDGES_S,
    DURATION,
    EDGES_BYTES,
    EDGES_S,
    METRICS,
    SIZE_OUT,
    Metric,
    cumulate,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

TIMES = [metric for metric in METRICS if metric.edges and metric.name.endswith("_seconds")]

# What the outside relies on.
PROMISED = {
    "sillyproxy_requests_total": ("color", "code"),
    "sillyproxy_request_duration_seconds": ("color",),
    "sillyproxy_upstream_connections": ("color", "state"),
    "sillyproxy_retries_total": ("color", "reason"),
    "sillyproxy_fallbacks_total": ("from", "to"),
    "sillyproxy_downstream_connections": (),
    "sillyproxy_config_reloads_total": ("result",),
    "sillyproxy_color_weight": ("color",),
    "sillyproxy_endpoint_up": ("color", "endpoint"),
    "sillyproxy_build_info": ("version",),
}


def test_promised_metrics_are_there() -> None:
    """The metrics that dashboards rely on keep their names and labels."""
    there = {metric.shown: metric.labels for metric in METRICS}
    assert {name: there.get(name) for name in PROMISED} == PROMISED


def test_every_metric_is_documented() -> None:
    """The page has a row for each metric, with its kind, labels and meaning, and for no other."""
    rows = re.findall(
        r"^\| `(sillyproxy_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE
    )
    documented = [(name, kind, labels.replace("`", ""), text) for name, kind, labels, text in rows]
    assert documented == [(m.shown, m.kind, ", ".join(m.labels), m.help) for m in METRICS]


def test_every_histogram_is_documented() -> None:
    """The page says of every histogram which edges it has."""
    (edges,) = re.findall(
        r"^\| histogram \| edges \|\n\| --- \| --- \|\n(.*?)\n\n", PAGE.read_text(), re.M | re.S
    )
    documented = re.findall(r"`(sillyproxy_\w+)`", edges)
    assert sorted(documented) == sorted(metric.name for metric in METRICS if metric.kind == "histogram")


@pytest.mark.parametrize("edges", [EDGES_S, COARSE_EDGES_S])
def test_every_edge_is_near_one_of_the_fine_buckets(edges: tuple[float, ...]) -> None:
    """A bucket counts what took up to 1.6 % more or less than its edge says, not more."""
    limits = [bucket_limit_ns(bucket) / 1e9 for bucket in range(BUCKETS)]
    assert max(min(abs(limit / edge - 1) for limit in limits) for edge in edges) <= 0.016


@pytest.mark.parametrize("metric", TIMES, ids=lambda metric: metric.name)
def test_histogram_is_true_to_a_few_percent(metric: Metric) -> None:
    """A duration 2 % below an edge of the histogram is counted there, one 5 % above it is not."""
    for index, edge in enumerate(metric.edges):
        fine = [0] * BUCKETS
        fine[bucket_of(int(edge * 0.98e9))] += 1
        fine[bucket_of(int(edge * 1.05e9))] += 1
        assert cumulate(metric, fine)[index] == 1
        assert cumulate(metric, fine)[-1] == 2


@given(st.integers(0, 2**40))
def test_a_size_is_counted_from_the_first_larger_edge_on(size: int) -> None:
    """An edge of the sizes counts what is smaller than it, to the byte."""
    fine = [0] * SIZES
    fine[size.bit_length()] += 1
    assert cumulate(SIZE_OUT, fine) == [*(int(size < edge) for edge in EDGES_BYTES), 1]


def quantile(metric: Metric, fine: list[int], part: float) -> float:
    """Return what `histogram_quantile` makes of a histogram: linear between the edges around it."""
    counts, edges = cumulate(metric, fine), (0.0, *metric.edges)
    rank = part * counts[-1]
    index = bisect_left(counts, rank)
    below = counts[index - 1] if index else 0
    return edges[index] + (edges[index + 1] - edges[index]) * (rank - below) / (counts[index] - below)


@given(st.floats(math.log(120e-6), math.log(60)), st.floats(0.3, 1.5), st.sampled_from((0.5, 0.95, 0.99)))
@settings(max_examples=40)
def test_percentiles_of_a_dashboard_are_good_to_a_few_percent(
    middle: float, spread: float, part: float
) -> None:
    """Prometheus' percentiles of durations that differ by a third are within 5 %, from 100 µs to 100 s."""
    normal = statistics.NormalDist(middle, spread)
    true = math.exp(normal.inv_cdf(part))
    assume(120e-6 < true < 100)
    fine = [0] * BUCKETS
    for rank in range(4000):
        fine[bucket_of(int(math.exp(normal.inv_cdf((rank + 0.5) / 4000)) * 1e9))] += 1

    assert abs(quantile(DURATION, fine, part) / true - 1) < 0.05


@given(st.floats(math.log(120e-6), math.log(100)), st.floats(0.01, 0.99))
def test_percentiles_of_a_dashboard_are_never_off_by_more_than_a_bucket(
    logarithm: float, part: float
) -> None:
    """Even if all requests take the same time, Prometheus is off by a bucket's width at most: a quarter."""
    seconds = math.exp(logarithm)
    fine = [0] * BUCKETS
    fine[bucket_of(int(seconds * 1e9))] = 1000

    assert abs(quantile(DURATION, fine, part) / seconds - 1) < 0.27
