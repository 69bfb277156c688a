"""Draw what it costs to be watched: CPU per request by what is told, latency and memory beside dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.chart import INK, SOFT, _style, pyplot

LABELS = {
    "nothing": "nothing is told",
    "metrics": "metrics",
    "all": "metrics, traces, JSON log to a file",
    "sampled": "the same, every trace sampled",
    "watched": "one in 100 sampled; a dashboard, a scrape a second",
}
TEAL, AMBER, GREY = "#0f766e", "#d97706", "#94a3b8"


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, weight="bold", color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#d5dae1")
    axes.tick_params(length=2, labelsize=7.5, colors=SOFT)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw all of it into one picture."""
    _style()
    figure, (cost, latency, memory) = pyplot.subplots(
        3, 1, figsize=(8.6, 7.4), height_ratios=(1.25, 1.3, 0.8)
    )
    rows = results["cost"]["rows"]
    labels = [LABELS[row["subject"]] for row in rows]
    worker = [row["worker_us"] for row in rows]
    rest = [row["cpu_us"] - row["worker_us"] for row in rows]
    cost.barh(labels, worker, color=TEAL, height=0.6)
    cost.barh(labels, rest, left=worker, color=GREY, height=0.6)
    for place, row in enumerate(rows):
        least, base = row["least_us"], rows[0]["least_us"]
        cost.text(
            row["cpu_us"] + 0.3,
            place,
            f"{row['cpu_us']:.1f} µs \u00d7 {row['ratio']:.2f}; best {least:.1f} \u00d7 {least / base:.2f}",
            va="center",
            fontsize=7.5,
        )
    cost.set_xlim(0, 1.5 * max(row["cpu_us"] for row in rows))
    cost.invert_yaxis()
    _finish(cost, "CPU per tiny GET, µs, median and best round: worker (green), all else (grey)")

    stretches = results["watch"]["stretches"]
    for watched, color, label in (
        (False, TEAL, "nobody looks"),
        (True, AMBER, "50 dashboards and a scrape a second"),
    ):
        mine = [one for one in stretches if one["watched"] == watched]
        at = [one["at_s"] / 60 for one in mine]
        latency.plot(
            at,
            [one["p99_ms"] for one in mine],
            color=color,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            label=label,
        )
        latency.plot(
            at,
            [one["p50_ms"] for one in mine],
            color=color,
            marker="o",
            markersize=2.5,
            linewidth=0.8,
            alpha=0.6,
        )
    latency.set_ylim(0)
    latency.legend(frameon=False, fontsize=7.5, loc="lower right")
    _finish(latency, f"Latency at {results['watch']['rate']:,} requests/s, ms: p99 and, paler, p50")
    memory.plot(
        [one["at_s"] / 60 for one in stretches],
        [one["rss_bytes"] / 2**20 for one in stretches],
        color=INK,
        linewidth=1.4,
    )
    memory.set_ylim(0)
    memory.set_xlabel("minutes", fontsize=8)
    _finish(memory, "Memory of all processes, MiB")
    machine, day = results["watch"]["machine"], results["watch"]["when"][:10]
    figure.text(
        0.014,
        0.012,
        f"{machine['cpu']}, {machine['cpus']} CPUs, Python {machine['python']}. {day}."
        " One worker, on one CPU with its controller; load and origin on the other.",
        fontsize=7,
        color=SOFT,
    )
    figure.text(0.014, 0.972, "What it costs to be watched", fontsize=12.5, weight="bold")
    figure.subplots_adjust(left=0.33, right=0.97, top=0.92, bottom=0.1, hspace=0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
