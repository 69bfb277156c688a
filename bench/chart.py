"""Draw the results: one panel a scenario, one bar a subject, from zero, user and system time stacked."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.summary import Row, format_us

# By name, because checking types must not need the extra `bench`.
matplotlib: Any = importlib.import_module("matplotlib")
matplotlib.use("svg")
pyplot: Any = importlib.import_module("matplotlib.pyplot")

INK, SOFT, PAPER = "#1f2430", "#6b7280", "#ffffff"
OUR_SUBJECTS = ("sillyproxy", "compiled")
OURS = ("#0f766e", "#7cc7bf")  # user, system
OTHERS = ("#64748b", "#c3ccd8")
SUMMARY = ("tiny", "browser", "1m", "close", "upload", "echo")


def _style() -> None:
    pyplot.rcParams.update(
        {
            "font.family": "DejaVu Sans",
            "font.size": 9,
            "svg.hashsalt": "sillyproxy",  # the same results give the same file
            "text.color": INK,
            "axes.labelcolor": SOFT,
            "xtick.color": SOFT,
            "ytick.color": INK,
            "figure.facecolor": PAPER,  # its own light card, also on a dark page
            "axes.facecolor": PAPER,
            "savefig.facecolor": PAPER,
        }
    )


def _caption(results: Mapping[str, Any], two_workers: bool) -> str:
    machine, versions = results["machine"], results["versions"]
    subjects = ", ".join(f"{name} {version}" for name, version in versions.items())
    shared = ""
    if two_workers and machine["cpus"] <= 2:
        shared = " Two workers share the two CPUs with the load."
    return (
        f"{subjects}.\n"
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, {machine['system']}, "
        f"Python {machine['python']}. {results['when'][:10]}.\n"
        f"Medians of {results['rounds']} interleaved rounds of {results['seconds']} s; CPU time of the whole "
        "process tree; in brackets the ratio to nginx.\nOne worker on a CPU of its own, load and origins "
        f"on the other; each panel has its own scale.{shared}"
    )


def _draw_panel(axes: Any, title: str, bars: Sequence[tuple[str, float, float, str]]) -> None:
    """`bars`: subject, first part, second part, label."""
    limit = max(first + second for _, first, second, _ in bars)
    for row, (subject, first, second, label) in enumerate(bars):
        user_color, system_color = OURS if subject in OUR_SUBJECTS else OTHERS
        axes.barh(row, first, color=user_color, height=0.7)
        axes.barh(row, second, left=first, color=system_color, height=0.7)
        axes.text(
            first + second + limit * 0.02,
            row,
            label,
            va="center",
            fontsize=8.5,
            weight="bold" if subject in OUR_SUBJECTS else "normal",
        )
    axes.set_title(title, loc="left", fontsize=10, weight="bold", color=INK)
    axes.set_yticks(range(len(bars)), [subject for subject, *_ in bars])
    for tick in axes.get_yticklabels():
        if tick.get_text() in OUR_SUBJECTS:
            tick.set_weight("bold")
    axes.invert_yaxis()
    axes.set_xlim(0, limit * 1.6)  # room for the labels
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color("#d5dae1")


def _label(row: Row) -> str:
    ratio = "" if row.ratio is None else f"  ({row.ratio:.2f}\u00d7)"
    return format_us(row.cpu_us) + ratio


def _panels(results: Mapping[str, Any]) -> dict[str, tuple[str, list[tuple[str, float, float, str]]]]:
    """Title and bars of each panel, by name; the subjects in the order they were asked for."""
    rows = [Row(**row) for row in results["summary"]]
    order = {name: place for place, name in enumerate(results["subjects"])}
    rows.sort(key=lambda row: order[row.subject])
    panels = {}
    for name, scenario in results["scenarios"].items():
        here = [row for row in rows if row.scenario == name]
        if here:
            bars = [(row.subject, row.user_us, row.system_us, _label(row)) for row in here]
            panels[name] = (scenario["title"], bars)
        idle = [row for row in here if row.idle_bytes is not None]
        if idle:
            bars = [
                (row.subject, max(0.0, size), 0.0, f"{size / 1024:.1f} KiB")
                for row in idle
                if (size := row.idle_bytes) is not None
            ]
            panels["memory"] = ("Memory per idle connection", bars)
    return panels


def _draw(
    results: Mapping[str, Any],
    panels: Mapping[str, tuple[str, list[tuple[str, float, float, str]]]],
    columns: int,
    path: Path,
) -> Path:
    count = len(panels)
    columns = min(columns, count)
    lines = -(-count // columns)
    subjects = max(len(bars) for _, bars in panels.values())
    panel_height = 0.55 + 0.235 * subjects
    head, foot = 0.75, 0.9
    height = lines * panel_height + head + foot
    width = max(7.5, 3.6 * columns)
    figure, grid = pyplot.subplots(lines, columns, figsize=(width, height), squeeze=False)
    cells = [cell for line in grid for cell in line]
    for cell, (title, bars) in zip(cells, panels.values(), strict=False):
        _draw_panel(cell, title, bars)
    for cell in cells[count:]:
        cell.set_visible(False)
    figure.subplots_adjust(
        left=0.85 / width,
        right=1 - 0.12 / width,
        top=1 - (head + 0.2) / height,
        bottom=foot / height,
        wspace=0.33,
        hspace=0.36,
    )
    figure.text(
        0.12 / width, 1 - 0.3 / height, "CPU time per request (shorter is better)", fontsize=13, weight="bold"
    )
    x = 0.12 / width
    y = 1 - 0.55 / height
    for text, color, gap in (
        ("■", OURS[0], 0.14),
        ("■", OTHERS[0], 0.17),
        ("user", INK, 0.5),
        ("■", OURS[1], 0.14),
        ("■", OTHERS[1], 0.17),
        ("system", INK, 0.7),
    ):
        figure.text(x, y, text, color=color, fontsize=9)
        x += gap / width
    figure.text(
        0.12 / width,
        0.12 / height,
        _caption(results, "two" in panels),
        fontsize=7.5,
        color=SOFT,
        linespacing=1.45,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def draw(results: Mapping[str, Any], directory: Path) -> list[Path]:
    """Draw bench.svg with every scenario, and bench-summary.svg with a few for the front page."""
    _style()
    panels = _panels(results)
    if not panels:
        return []
    drawn = [_draw(results, panels, 3, directory / "bench.svg")]
    few = {name: panels[name] for name in SUMMARY if name in panels}
    if len(few) == len(SUMMARY):
        drawn.append(_draw(results, few, 3, directory / "bench-summary.svg"))
    return drawn
