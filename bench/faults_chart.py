"""Draw the faults: a row a fault, errors on the left and p99 on the right, a line a subject, over time."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.chart import INK, SOFT, _style, pyplot
from bench.faults_summary import merge_bins

ticker: Any = importlib.import_module("matplotlib.ticker")

COLORS = {"sillyproxy": "#0f766e", "nginx": "#2563eb", "HAProxy": "#d97706", "Envoy": "#a21caf"}
OURS = "sillyproxy"
TITLES = {
    "defaults": "One of four replicas misbehaves: defaults, equal timeouts",
    "careful": "One of four replicas misbehaves: as a careful operator sets it",
}


def _caption(results: Mapping[str, Any]) -> str:
    machine, phases = results["machine"], results["phases"]
    subjects = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{subjects}.\n"
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, {machine['system']}, "
        f"Python {machine['python']}. {results['when'][:10]}.\n"
        f"{results['rate']:.0f} GETs a second that wait for nobody; rounds: {results['rounds']}; all "
        f"errors, median of the p99 of each half second.\nGrey: the fault, {phases['fault_s']:g} s. "
        "Subjects without an error lie on each other at 0."
    )


def _draw_panel(axes: Any, results: Mapping[str, Any], series: Mapping[str, Any], which: int) -> None:
    phases = results["phases"]
    axes.axvspan(phases["healthy_s"], phases["healthy_s"] + phases["fault_s"], color="#f1f3f6", zorder=0)
    for subject, lines in series.items():
        is_ours = subject == OURS
        axes.step(
            lines[0],
            lines[which],
            where="post",
            color=COLORS[subject],
            linewidth=2.2 if is_ours else 1.2,
            zorder=3 if is_ours else 2,
        )
    axes.set_xlim(0, phases["healthy_s"] + phases["fault_s"] + phases["after_s"])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#d5dae1")
    axes.tick_params(length=2, labelsize=7.5, colors=SOFT)
    if which == 1:
        axes.set_ylim(-1, max(10.0, *(1.1 * max(lines[1]) for lines in series.values())))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g} %"))
    else:
        axes.set_yscale("log")
        axes.set_ylim(0.5, 12000)
        axes.set_yticks([1, 10, 100, 1000, 10000], ["1 ms", "10 ms", "100 ms", "1 s", "10 s"])
        axes.minorticks_off()


def _draw(results: Mapping[str, Any], kind: str, path: Path) -> Path | None:
    rows: dict[str, dict[str, Any]] = {}
    for fault in results["faults"]:
        for subject in results["subjects"]:
            samples = [
                sample
                for sample in results["samples"]
                if (sample["fault"], sample["kind"], sample["subject"]) == (fault, kind, subject)
                and not sample["problem"]
            ]
            if samples:
                rows.setdefault(fault, {})[subject] = merge_bins(samples)
    if not rows:
        return None
    head, foot, each = 0.95, 1.25, 1.55
    width, height = 8.6, head + foot + each * len(rows)
    figure, grid = pyplot.subplots(len(rows), 2, figsize=(width, height), squeeze=False)
    for line, (fault, series) in zip(grid, rows.items(), strict=True):
        for which, axes in enumerate(line, start=1):
            _draw_panel(axes, results, series, which)
        title = f"It {results['faults'][fault]}"
        line[0].set_title(f"{title}: errors", loc="left", fontsize=9, weight="bold", color=INK)
        line[1].set_title("p99", loc="left", fontsize=9, weight="bold", color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("seconds", fontsize=7.5)
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 0.15 / width, top=1 - head / height, bottom=foot / height, hspace=0.5
    )
    left = 0.12 / width
    figure.text(left, 1 - 0.32 / height, TITLES[kind], fontsize=12.5, weight="bold")
    for subject in results["subjects"]:
        figure.text(left, 1 - 0.58 / height, "━", color=COLORS[subject], fontsize=10, weight="bold")
        weight = "bold" if subject == OURS else "normal"
        figure.text(left + 0.2 / width, 1 - 0.58 / height, subject, fontsize=9, weight=weight)
        left += 1.05 / width
    figure.text(0.12 / width, 0.12 / height, _caption(results), fontsize=7, color=SOFT, linespacing=1.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def draw(results: Mapping[str, Any], directory: Path) -> list[Path]:
    """Draw a picture for each class of configuration."""
    _style()
    drawn = (_draw(results, kind, directory / f"faults-{kind}.svg") for kind in results["kinds"])
    return [path for path in drawn if path is not None]
