"""From raw samples to medians, ratios and a table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

REFERENCE = "nginx"


@dataclass(frozen=True)
class Row:
    """
    One subject in one scenario: medians over the rounds.

    `ratio` is its median over the reference's median; `ratio_low` and `ratio_high` bound the ratios of
    single rounds, in which both were measured one after the other. None without the reference.
    """

    scenario: str
    subject: str
    samples: int
    cpu_us: float
    user_us: float
    system_us: float
    overhead_us: float
    per_s: float
    mib_per_s: float
    p50_us: float
    p99_us: float
    strangers: float | None
    idle_bytes: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None


def _median_or_none(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None


def summarize(samples: Iterable[Mapping[str, Any]], reference: str = REFERENCE) -> list[Row]:
    """One row for each subject of each scenario, in the order they come; no sample with a problem."""
    groups: dict[str, dict[str, dict[int, Mapping[str, Any]]]] = {}
    for sample in samples:
        if not sample["problem"]:
            rounds = groups.setdefault(sample["scenario"], {}).setdefault(sample["subject"], {})
            rounds[sample["round"]] = sample
    rows = []
    for scenario, subjects in groups.items():
        base = {number: _per_request(one) for number, one in subjects.get(reference, {}).items()}
        for subject, rounds in subjects.items():
            cpu = {number: _per_request(one) for number, one in rounds.items()}
            cpu_us = median(cpu.values())
            ratios = [cpu[number] / base[number] for number in cpu.keys() & base.keys()]
            # Divided by the median share, so that the two parts of a bar add up to the median whole.
            system_share = median(
                one["system_us"] / one["cpu_us"] if one["cpu_us"] else 0.0 for one in rounds.values()
            )
            rows.append(
                Row(
                    scenario,
                    subject,
                    len(rounds),
                    cpu_us,
                    cpu_us * (1 - system_share),
                    cpu_us * system_share,
                    median((one["cpu_us"] - one["workers_us"]) / one["requests"] for one in rounds.values()),
                    median(one["requests"] / one["seconds"] for one in rounds.values()),
                    median(one["bytes"] / one["seconds"] / 2**20 for one in rounds.values()),
                    median(one["p50_us"] for one in rounds.values()),
                    median(one["p99_us"] for one in rounds.values()),
                    _median_or_none(one["strangers"] for one in rounds.values()),
                    _median_or_none(one["idle_bytes"] for one in rounds.values()),
                    cpu_us / median(base.values()) if base else None,
                    min(ratios) if ratios else None,
                    max(ratios) if ratios else None,
                )
            )
    return rows


def _per_request(sample: Mapping[str, Any]) -> float:
    return float(sample["cpu_us"]) / int(sample["requests"])


def format_us(value_us: float) -> str:
    """
    >>> format_us(33.14), format_us(1234.5), format_us(56789.0), format_us(250.4)
    ('33.1 µs', '1.23 ms', '56.8 ms', '250 µs')
    """
    unit = "µs"
    if value_us >= 1000:
        value_us, unit = value_us / 1000, "ms"
    digits = 0 if value_us >= 100 else 1 if value_us >= 10 or unit == "µs" else 2
    return f"{value_us:.{digits}f} {unit}"


COLUMNS = ("", "CPU", "user", "system", "overhead", "\u00d7 nginx", "rounds", "per s", "p50", "p99", "memory")


def print_table(results: Mapping[str, Any]) -> str:
    """The table of a run, one block a scenario."""
    rows = [Row(**row) for row in results["summary"]]
    lines = []
    for name, scenario in results["scenarios"].items():
        here = [row for row in rows if row.scenario == name]
        table = [COLUMNS]
        table += [
            (
                row.subject,
                format_us(row.cpu_us),
                format_us(row.user_us),
                format_us(row.system_us),
                format_us(row.overhead_us),
                "" if row.ratio is None else f"{row.ratio:.2f}",
                "" if row.ratio_low is None else f"{row.ratio_low:.2f}-{row.ratio_high:.2f}",
                f"{row.per_s:.0f}" if row.per_s >= 100 else f"{row.per_s:.1f}",
                format_us(row.p50_us),
                format_us(row.p99_us),
                "" if row.idle_bytes is None else f"{row.idle_bytes / 1024:.1f} KiB/conn",
            )
            for row in here
        ]
        widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
        lines.append(f"{scenario['title']} ({name}, {scenario['connections']} connections)")
        for line in table:
            cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
            lines.append(f"  {line[0].ljust(widths[0])}  {'  '.join(cells)}".rstrip())
        lines.append("")
    return "\n".join(lines)


def build_summary(samples: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [asdict(row) for row in summarize(samples)]


def find_disturbance(rows: Iterable[Row], limit: float = 0.05) -> list[str]:
    """Scenarios in which strangers took more than `limit` of the subjects' CPUs: figures to distrust."""
    return sorted({row.scenario for row in rows if row.strangers is not None and row.strangers > limit})
