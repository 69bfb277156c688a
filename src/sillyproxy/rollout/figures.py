"""
What is shown of each color, as plain data: of one proxy, or of all of its replicas together.

Two spans are looked at. What is going on *now* (rates, the share that a color really gets) is the last
ten seconds: less jumps, more hides what was just done. Percentiles, counts and comparisons need many
requests, and are of the window that whoever looks has chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sillyproxy.rollout.quantiles import Distribution
from sillyproxy.rollout.sample import CLASSES, ColorSample, Sample, Window

WINDOWS: Final = (60, 300, 900)  # seconds
NOW_S: Final = 10
PERCENTILES: Final[Mapping[str, float]] = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}

# In the order in which people write them.
_SHOWN: Final = (*CLASSES[1:], CLASSES[0])

Data = dict[str, Any]


def color_data(name: str, part: ColorSample, now: Window) -> Data:
    """Return what happened to a color: `part` in the window, `now` to all colors in the last seconds."""
    recent = now.colors.get(name, ColorSample())
    answered = sum(other.requests for other in now.colors.values())
    durations = Distribution(part.durations)
    return {
        "share_seen": recent.requests / answered if answered else None,
        "requests_per_s": _per_s(recent.requests, now),
        "error_rate": recent.error_rate,
        "requests": part.requests,
        "errors": part.errors,
        "window_error_rate": part.error_rate,
        "codes": {code: part.codes[CLASSES.index(code)] for code in _SHOWN},
        **_percentiles(durations),
        "mean_ms": milliseconds(part.sum_ns / durations.total / 1e6 if durations.total else None),
        "retries": part.retries,
        "fallbacks": part.fallbacks,
    }


def rates_data(now: Window) -> Data:
    """Return the rates of all exchanges, those that ended before a color was chosen among them."""
    colors = now.colors.values()
    return {
        "requests_per_s": _per_s(sum(now.uncolored) + sum(part.requests for part in colors), now),
        "errors_per_s": _per_s(now.uncolored[-1] + sum(part.errors for part in colors), now),
        "retries_per_s": _per_s(sum(part.retries for part in colors), now),
    }


def point_data(sample: Sample) -> Data:
    """Return what lines show of one second."""
    colors = {
        name: {
            "share_asked": round(part.share_asked, 6),
            "requests": part.requests,
            "errors": part.errors,
            "inflight": part.inflight,
            **_percentiles(Distribution(part.durations)),
        }
        for name, part in sample.colors.items()
    }
    return {"seq": sample.seq, "time": sample.time, "seconds": sample.seconds, "colors": colors}


def line_data(name: str, windows: Iterable[Window]) -> dict[str, list[float | None]]:
    """Return what coarser lines show of a color: a value for each of these spans, None where it was not."""
    line: dict[str, list[float | None]] = {"requests_per_s": [], "error_rate": [], "p95_ms": []}
    for window in windows:
        part = window.colors.get(name)
        line["requests_per_s"].append(_per_s(part.requests, window) if part else None)
        line["error_rate"].append(part.error_rate if part else None)
        line["p95_ms"].append(milliseconds(Distribution(part.durations).quantile(0.95)) if part else None)
    return line


def milliseconds(value: float | None) -> float | None:
    """Return a duration as it is shown: to the µs; more is noise."""
    return None if value is None else round(value, 3)


def _percentiles(durations: Distribution) -> Data:
    return {key: milliseconds(durations.quantile(share)) for key, share in PERCENTILES.items()}


def _per_s(count: int, window: Window) -> float:
    return round(count / window.seconds, 3) if window.seconds else 0.0
