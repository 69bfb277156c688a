"""The table of metrics and its page."""

from __future__ import annotations

import re
from pathlib import Path

from sillyproxy.metrics.layout import BUCKETS, bucket_limit_ns, bucket_of
from sillyproxy.metrics.table import EDGES_S, METRICS, cumulate

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

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


def test_every_edge_of_the_histogram_is_documented() -> None:
    """The page says for each bucket which duration it is really counted up to."""
    rows = re.findall(r"^\| `([\d.]+)` \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE)
    limits = sorted(bucket_limit_ns(bucket) for bucket in range(BUCKETS))
    real = [min(limits, key=lambda limit: abs(limit - edge * 1e9)) for edge in EDGES_S]
    assert [(float(edge), float(limit)) for edge, limit in rows] == [
        (edge, limit / 1e9) for edge, limit in zip(EDGES_S, real, strict=True)
    ]


def test_histogram_is_true_to_a_few_percent() -> None:
    """A duration 3 % below an edge of the histogram is counted there, one 3 % above it is not."""
    for index, edge in enumerate(EDGES_S):
        fine = [0] * BUCKETS
        fine[bucket_of(int(edge * 0.97e9))] += 1
        fine[bucket_of(int(edge * 1.08e9))] += 1
        assert cumulate(fine)[index] == (edge, 1)
