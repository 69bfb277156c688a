"""Draw the soak: memory, descriptors and p99 over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.chart import INK, SOFT, _style, pyplot
from bench.soak_summary import KILL_BACKEND, KILL_WORKER

COLORS = ("#0f766e", "#2563eb", "#d97706", "#a21caf", "#64748b")
WHOLE = "#1f2430"


def _roles(results: Mapping[str, Any], key: str) -> dict[str, tuple[list[float], list[float | None]]]:
    roles = sorted({role for sample in results["samples"] for role in sample[key]})
    minutes = [sample["at_s"] / 60 for sample in results["samples"]]
    return {role: (minutes, [sample[key].get(role) for sample in results["samples"]]) for role in roles}


def _finish(axes: Any, title: str, minutes: float) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, weight="bold", color=INK)
    axes.set_xlim(0, minutes)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#d5dae1")
    axes.tick_params(length=2, labelsize=7.5, colors=SOFT)


def draw(results: Mapping[str, Any], directory: Path) -> Path:
    """Draw soak.svg."""
    _style()
    minutes = results["seconds"] / 60
    figure, (memory, descriptors, latency) = pyplot.subplots(3, 1, figsize=(8.6, 8.0))
    times = [sample["at_s"] / 60 for sample in results["samples"]]
    memory.plot(times, [sample["pss_mib"] for sample in results["samples"]], color=WHOLE, linewidth=1.8)
    for axes, key in ((memory, "rss_mib"), (descriptors, "fds")):
        for (role, (at, values)), color in zip(_roles(results, key).items(), COLORS, strict=False):
            axes.plot(at, values, color=color, linewidth=1.0, label=role)
    descriptors.legend(frameon=False, fontsize=7.5, ncols=5, loc="upper right")
    lines = [line for line in results["load"] if line["p99_ms"]]
    at = [line["at_s"] / 60 for line in lines]
    latency.plot(at, [line["p99_ms"] for line in lines], color=COLORS[0], linewidth=0.9)
    latency.plot(at, [line["p50_ms"] for line in lines], color=COLORS[4], linewidth=0.9)
    latency.set_yscale("log")
    latency.set_yticks([1, 10, 100, 1000], ["1 ms", "10 ms", "100 ms", "1 s"])
    latency.minorticks_off()
    for event in results["events"]:
        if event["what"] in (KILL_BACKEND, KILL_WORKER):
            latency.axvline(event["began_s"] / 60, color="#e5e7eb", linewidth=0.8, zorder=0)
    memory.set_ylim(0)
    descriptors.set_ylim(0)
    _finish(memory, "Memory, MiB: all together (proportional, black), and each process (resident)", minutes)
    _finish(descriptors, "Open descriptors of each process", minutes)
    _finish(latency, "p99 (green) and p50 (grey) in each second; a line where something was killed", minutes)
    latency.set_xlabel("minutes", fontsize=8)
    machine = results["machine"]
    figure.text(
        0.014,
        0.012,
        f"sillyproxy {results['version']}. {machine['cpu']}, {machine['cpus']} CPUs, "
        f"Python {machine['python']}. {results['when'][:10]}.\n"
        f"{sum(results['report']['requests'].values()):,} requests, {len(results['events'])} changes; "
        f"load, backends and proxy share the CPUs.",
        fontsize=7,
        color=SOFT,
    )
    figure.text(0.014, 0.975, "Churn in everything", fontsize=12.5, weight="bold")
    figure.subplots_adjust(left=0.075, right=0.985, top=0.93, bottom=0.11, hspace=0.38)
    path = directory / "soak.svg"
    directory.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
