"""
For each alert: counts under which it must fire, with what it then says, and counts under which it must not.

Series are in promtool's notation, one value a minute: `0+6x20` begins at 0 and grows by 6, twenty
times. Rates are over five minutes, so "6 a minute" is 0.1 a second.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """
    `bad` fires, `at` minutes after its begin with `labels` and `summary`, and `before` minutes not yet.

    `good` comes near and does not fire, at any time.
    """

    alert: str
    bad: dict[str, str]
    at: int
    before: int
    labels: dict[str, str]
    summary: str
    good: dict[str, str]


PROXY = {"job": "sillyproxy", "instance": "10.0.1.5:9080"}


def series(metric: str, values: str, **labels: str) -> dict[str, str]:
    """Return one series of a proxy."""
    shown = ", ".join(f'{name}="{value}"' for name, value in (PROXY | labels).items())
    return {f"{metric}{{{shown}}}": values}


def requests(color: str, good: str, bad: str, weight: float = 1) -> dict[str, str]:
    """Return the requests of a color, by the minute, and its weight."""
    return (
        series("sillyproxy_requests_total", f"0+{good}x30", color=color, code="2xx")
        | series("sillyproxy_requests_total", f"0+{bad}x30", color=color, code="5xx")
        | series("sillyproxy_color_weight", f"{weight}x30", color=color)
    )


def durations(color: str, weight: float, counts: dict[str, int]) -> dict[str, str]:
    """Return the durations of a color, by the minute: how many were at most each edge."""
    buckets: dict[str, str] = {}
    for edge, count in counts.items():
        buckets |= series("sillyproxy_request_duration_seconds_bucket", f"0+{count}x30", color=color, le=edge)
    total = max(counts.values())
    return (
        buckets
        | series("sillyproxy_requests_total", f"0+{total}x30", color=color, code="2xx")
        | series("sillyproxy_color_weight", f"{weight}x30", color=color)
    )


CASES = [
    # Green fails 12 of 60 a minute, blue 1 of 240.
    Case(
        "SillyproxyCanaryFailsMore",
        bad=requests("blue", "239", "1", 4) | requests("green", "48", "12", 1),
        at=7,
        before=1,
        labels={"job": "sillyproxy", "color": "green"},
        summary="green fails more requests than the color of the largest weight, by 19.7% of its own",
        # As bad as blue; and red, which failed once, but of six requests a minute.
        good=requests("blue", "216", "24", 4)
        | requests("green", "54", "6", 1)
        | requests("red", "5.5", "0.5"),
    ),
    Case(
        "SillyproxyCanarySlower",
        bad=durations("blue", 4, {"0.05": 900, "0.1": 1000, "+Inf": 1000})
        | durations("green", 1, {"0.05": 100, "0.1": 150, "0.2": 200, "+Inf": 200}),
        at=12,
        before=5,
        labels={"job": "sillyproxy", "color": "green"},
        summary="green takes 180ms at p95, a third more than the color of the largest weight",
        # Half more, but by 5 ms; and as slow, but with few requests.
        good=durations("blue", 4, {"0.01": 1000, "0.02": 1000, "+Inf": 1000})
        | durations("green", 1, {"0.01": 100, "0.015": 200, "+Inf": 200})
        | durations("red", 1, {"0.1": 1, "0.2": 10, "+Inf": 10}),
    ),
    Case(
        "SillyproxyFallbacks",
        bad=series("sillyproxy_fallbacks_total", "0+6x30", **{"from": "green", "to": "blue"}),
        at=8,
        before=1,
        labels={"job": "sillyproxy", "from": "green", "to": "blue"},
        summary="green cannot take its requests: 100m a second go to blue",
        good=series("sillyproxy_fallbacks_total", "5x30", **{"from": "green", "to": "blue"}),
    ),
    Case(
        "SillyproxyWeightsDiffer",
        bad=series("sillyproxy_color_weight", "1x30", color="green")
        | series("sillyproxy_color_weight", "4x30", color="green", instance="10.0.1.6:9080"),
        at=12,
        before=8,
        labels={"job": "sillyproxy", "color": "green"},
        summary="the proxies give green different weights, up to 4",
        # A roll-out: one after the other within some minutes.
        good=series("sillyproxy_color_weight", "1x5 4x25", color="green")
        | series("sillyproxy_color_weight", "1x9 4x21", color="green", instance="10.0.1.6:9080"),
    ),
    Case(
        "SillyproxyAbsent",
        bad=series("sillyproxy_other", "1x30"),
        at=2,
        before=0,
        labels={},
        summary="no sillyproxy answers a scrape",
        good=series("sillyproxy_ready", "0x30"),
    ),
    Case(
        "SillyproxyDown",
        bad=series("up", "0x30"),
        at=2,
        before=0,
        labels=PROXY,
        summary="the sillyproxy at 10.0.1.5:9080 does not answer scrapes",
        good=series("up", "1x30") | series("up", "0x30", job="myapp"),
    ),
    Case(
        "SillyproxyNotReady",
        bad=series("sillyproxy_ready", "1 1 0x28"),
        at=4,
        before=2,
        labels=PROXY,
        summary="the sillyproxy at 10.0.1.5:9080 has no usable color",
        good=series("sillyproxy_ready", "1 0 1x28"),
    ),
    Case(
        "SillyproxyNotStarted",
        bad=series("sillyproxy_started", "0x30"),
        at=2,
        before=0,
        labels=PROXY,
        summary="the sillyproxy at 10.0.1.5:9080 has waited for a minute for a color that does not answer",
        good=series("sillyproxy_started", "0 1x29"),
    ),
    Case(
        "SillyproxyErrors",
        bad=requests("blue", "95", "5"),
        at=4,
        before=2,
        labels={"job": "sillyproxy", "color": "blue"},
        summary="blue fails 5% of its requests",
        # 1 of 200; one of three, but of three in five minutes; and what never had a color.
        good=requests("blue", "199", "1") | requests("green", "0.4", "0.2") | requests("-", "0", "60"),
    ),
    Case(
        "SillyproxySlow",
        bad=durations("blue", 1, {"1.0": 90, "2.0": 100, "+Inf": 100}),
        at=8,
        before=5,
        labels={"job": "sillyproxy", "color": "blue"},
        summary="blue takes 1.9s at p99",
        good=durations("blue", 1, {"0.5": 100, "1.0": 1000, "2.0": 1005, "+Inf": 1005}),
    ),
    Case(
        "SillyproxyEndpointDown",
        bad=series("sillyproxy_endpoint_up", "0x30", color="blue", endpoint="10.0.1.9:8080")
        | series("sillyproxy_endpoint_up", "0x30", color="blue", endpoint="10.0.1.9:8080", instance="b"),
        at=3,
        before=1,
        labels={"job": "sillyproxy", "color": "blue", "endpoint": "10.0.1.9:8080"},
        summary="10.0.1.9:8080 of blue is unhealthy, ejected or avoided, at 2 of the proxies",
        good=series("sillyproxy_endpoint_up", "1 0 1x28", color="blue", endpoint="10.0.1.9:8080"),
    ),
    Case(
        "SillyproxyNameStale",
        bad=series("sillyproxy_dns_stale", "1x30", name="myapp-v1"),
        at=6,
        before=4,
        labels={"job": "sillyproxy", "name": "myapp-v1"},
        summary="the name myapp-v1 cannot be resolved",
        good=series("sillyproxy_dns_stale", "1x3 0x26", name="myapp-v1"),
    ),
    Case(
        "SillyproxyQueueRejections",
        bad=series("sillyproxy_queue_rejections_total", "0+30x30", color="blue", reason="full"),
        at=7,
        before=1,
        labels={"job": "sillyproxy", "color": "blue", "reason": "full"},
        summary="blue is over its limits: 500m requests a second get 503 (full)",
        good=series("sillyproxy_queue_rejections_total", "7x30", color="blue", reason="full"),
    ),
    Case(
        "SillyproxyRetriesDenied",
        bad=series("sillyproxy_retries_denied_total", "0+120x30", color="blue"),
        at=7,
        before=1,
        labels={"job": "sillyproxy", "color": "blue"},
        summary="so many requests to blue fail that 2 a second are not tried again",
        good=series("sillyproxy_retries_denied_total", "3x30", color="blue"),
    ),
    Case(
        "SillyproxyConfigRefused",
        bad=series("sillyproxy_config_refused", "0 1x29"),
        at=3,
        before=1,
        labels=PROXY,
        summary="the sillyproxy at 10.0.1.5:9080 refused its newest configuration",
        good=series("sillyproxy_config_refused", "0 1 0x28"),
    ),
    Case(
        "SillyproxyWorkerDied",
        bad=series("sillyproxy_worker_restarts_total", "0x5 1x25"),
        at=8,
        before=5,
        labels=PROXY,
        summary="a worker of the sillyproxy at 10.0.1.5:9080 died or hung, and was replaced",
        # Long ago.
        good=series("sillyproxy_worker_restarts_total", "3x30"),
    ),
    Case(
        "SillyproxyClientsRefused",
        bad=series("sillyproxy_downstream_refusals_total", "0+60x30"),
        at=7,
        before=1,
        labels=PROXY,
        summary="the sillyproxy at 10.0.1.5:9080 turns 1 clients a second away",
        good=series("sillyproxy_downstream_refusals_total", "9x30"),
    ),
    Case(
        "SillyproxyMemory",
        bad=series("sillyproxy_memory_used_bytes", "90x30")
        | series("sillyproxy_memory_limit_bytes", "100x30"),
        at=6,
        before=4,
        labels=PROXY,
        summary="the sillyproxy at 10.0.1.5:9080 uses 90% of its memory",
        good=series("sillyproxy_memory_used_bytes", "85x30")
        | series("sillyproxy_memory_limit_bytes", "100x30"),
    ),
    Case(
        "SillyproxyOpenFiles",
        bad=series("sillyproxy_process_open_files", "900x30", process="worker-0")
        | series("sillyproxy_process_max_files", "1000x30", process="worker-0"),
        at=3,
        before=1,
        labels=PROXY | {"process": "worker-0"},
        summary="worker-0 of the sillyproxy at 10.0.1.5:9080 has 90% of its descriptors open",
        good=series("sillyproxy_process_open_files", "790x30", process="worker-0")
        | series("sillyproxy_process_max_files", "1000x30", process="worker-0"),
    ),
    Case(
        "SillyproxyWorkerBusy",
        bad=series("sillyproxy_worker_loop_lag_seconds", "0.25x30", worker="1"),
        at=6,
        before=4,
        labels=PROXY | {"worker": "1"},
        summary="worker 1 of the sillyproxy at 10.0.1.5:9080 keeps requests waiting for 250ms",
        good=series("sillyproxy_worker_loop_lag_seconds", "0.25x3 0.01x26", worker="1"),
    ),
    Case(
        "SillyproxyAccessLogDropped",
        bad=series("sillyproxy_access_log_dropped_total", "0+600x30"),
        at=11,
        before=4,
        labels=PROXY,
        summary="the sillyproxy at 10.0.1.5:9080 drops 10 lines a second of its access log",
        good=series("sillyproxy_access_log_dropped_total", "12x30"),
    ),
    Case(
        "SillyproxySpansLost",
        bad=series("sillyproxy_spans_total", "0+60x30", result="dropped")
        | series("sillyproxy_spans_total", "0+120x30", result="failed"),
        at=16,
        before=9,
        labels=PROXY,
        summary="the sillyproxy at 10.0.1.5:9080 loses 3 spans a second",
        good=series("sillyproxy_spans_total", "0+60x30", result="exported")
        | series("sillyproxy_spans_total", "5x30", result="dropped"),
    ),
]
