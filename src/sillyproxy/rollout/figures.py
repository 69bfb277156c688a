"""
The figures of each color, of one proxy or of all of its replicas together, as plain data for JSON.

Two spans are looked at. What is going on *now* (rates, the share that a color really gets) is the last
ten seconds: shorter jumps, longer hides what was just done. Percentiles and comparisons need many
requests, and are over a window that whoever looks has chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sillyproxy.rollout.quantiles import Distribution
from sillyproxy.rollout.sample import CLASSES, ColorSample, Window

WINDOWS_S: Final = (60, 300, 900)
NOW_S: Final = 10

Data = dict[str, Any]


def color_data(name: str, now: Window, window: Window) -> Data:
    """Return the figures of one color; None stands for what cannot be told without requests."""
    present, past = now.colors.get(name, ColorSample()), window.colors.get(name, ColorSample())
    seen = sum(part.requests for part in now.colors.values())
    durations = Distribution(past.durations)
    return {
        "name": name,
        "weight": present.weight,
        "share_asked": present.share_asked,
        "share_seen": present.requests / seen if seen else None,
        "requests_per_s": _per_second(present.requests, now.seconds),
        "error_rate": present.error_rate,
        "requests": past.requests,
        "errors": past.errors,
        "window_error_rate": past.error_rate,
        "codes": {code: past.codes[CLASSES.index(code)] for code in (*CLASSES[1:], CLASSES[0])},
        **_percentiles(durations),
        "mean_ms": past.sum_ns / 1e6 / durations.total if durations.total else None,
        "inflight": present.inflight,
        "queue_waiting": present.queued,
        "retries": past.retries,
        "fallbacks": past.fallbacks,
    }


def totals_data(now: Window) -> Data:
    """Return the rates of all exchanges together, those without a color among them."""
    colors = now.colors.values()
    ended = sum(now.uncolored) + sum(part.requests for part in colors)
    errors = now.uncolored[-1] + sum(part.errors for part in colors)
    return {
        "requests_per_s": _per_second(ended, now.seconds),
        "errors_per_s": _per_second(errors, now.seconds),
        "retries_per_s": _per_second(sum(part.retries for part in colors), now.seconds),
    }


def line_data(name: str, windows: Iterable[Window]) -> dict[str, list[float | None]]:
    """Return what a color did in each of these spans, as the points of three lines."""
    line: dict[str, list[float | None]] = {"requests_per_s": [], "error_rate": [], "p95_ms": []}
    for window in windows:
        part = window.colors.get(name)
        line["requests_per_s"].append(_per_second(part.requests, window.seconds) if part else None)
        line["error_rate"].append(part.error_rate if part else None)
        line["p95_ms"].append(Distribution(part.durations).quantile(0.95) if part else None)
    return line


def _percentiles(durations: Distribution) -> Mapping[str, float | None]:
    return {f"p{percent}_ms": durations.quantile(percent / 100) for percent in (50, 95, 99)}


def _per_second(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0
