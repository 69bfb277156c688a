"""From the entries of a load to the figures and tables of `bench.faults`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

BIN_S = 0.5
QUIET_S = 2.0
# What comes so shortly before the end of the fault may be answered because it ends: tries take their time.
LATE_S = 5.0
GUARD_S = 0.1  # what is due so shortly before the fault, or after its end, may meet it


@dataclass(frozen=True)
class Phases:
    """Lengths in seconds: healthy, with the fault, after it."""

    healthy_s: float
    fault_s: float
    after_s: float

    @property
    def end_s(self) -> float:
        """When the fault ends."""
        return self.healthy_s + self.fault_s

    @property
    def whole_s(self) -> float:
        """All of it."""
        return self.end_s + self.after_s


@dataclass(frozen=True)
class Entry:
    """One request: when it was due, how long its client waited, what became of it, who answered."""

    due_s: float
    latency_s: float
    outcome: str
    replica: str

    @property
    def is_error(self) -> bool:
        """Whether the client did not get what it asked for."""
        return self.outcome != "ok"


def pick_percentile(values: Iterable[float], percent: float) -> float:
    """
    The smallest value that is not below `percent` of all values; 0 if there is none.

    >>> pick_percentile([3.0, 1.0, 2.0, 4.0], 50), pick_percentile([1.0, 2.0], 99), pick_percentile([], 50)
    (2.0, 2.0, 0.0)
    """
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)] if ordered else 0.0


def build_bins(entries: Sequence[Entry], whole_s: float, size_s: float = BIN_S) -> list[dict[str, Any]]:
    """What became of the requests that were due in each half second."""
    bins: list[list[Entry]] = [[] for _ in range(round(whole_s / size_s))]
    for entry in entries:
        bins[min(len(bins) - 1, int(entry.due_s / size_s))].append(entry)
    return [
        {
            "at_s": round(index * size_s, 3),
            "requests": len(group),
            "errors": sum(entry.is_error for entry in group),
            "p50_ms": round(pick_percentile((entry.latency_s for entry in group), 50) * 1000, 2),
            "p99_ms": round(pick_percentile((entry.latency_s for entry in group), 99) * 1000, 2),
        }
        for index, group in enumerate(bins)
    ]


def find_quiet(entries: Sequence[Entry], phases: Phases, quiet_s: float = QUIET_S) -> float | None:
    """
    Seconds from the beginning of the fault to the first two seconds without an error; None if never.

    A request counts when it was due: whoever asks in these two seconds gets an answer. Two seconds
    at the very end do not count: the replica is well again before these requests are given up.
    """
    last = phases.healthy_s
    for due in sorted(entry.due_s for entry in entries if entry.is_error):
        if due - last >= quiet_s:
            break
        last = max(last, due)
    return None if last > phases.end_s - LATE_S else last - phases.healthy_s


def summarize(entries: Sequence[Entry], phases: Phases) -> dict[str, Any]:
    """The figures of one run."""
    begin, end = phases.healthy_s - GUARD_S, phases.end_s + GUARD_S
    healthy = [entry for entry in entries if entry.due_s < begin]
    fault = [entry for entry in entries if begin <= entry.due_s < end]
    after = [entry for entry in entries if entry.due_s >= end]
    errors = [entry for entry in fault if entry.is_error]
    quiet_s = find_quiet(entries, phases)
    until = phases.end_s if quiet_s is None else phases.healthy_s + quiet_s
    return {
        "requests": len(fault),
        "errors": len(errors),
        "error_rate": len(errors) / len(fault) if fault else 0.0,
        "errors_before_quiet": sum(entry.due_s <= until for entry in errors),
        "quiet_s": None if quiet_s is None else round(quiet_s, 2),
        "kinds": dict(Counter(entry.outcome for entry in errors).most_common()),
        "healthy_errors": sum(entry.is_error for entry in healthy),
        "healthy_p50_ms": _ms(healthy, 50),
        "healthy_p99_ms": _ms(healthy, 99),
        "p50_ms": _ms(fault, 50),
        "p99_ms": _ms(fault, 99),
        "after_errors": sum(entry.is_error for entry in after),
        "after_p50_ms": _ms(after, 50),
        "after_p99_ms": _ms(after, 99),
        "replicas": len({entry.replica for entry in healthy if not entry.is_error}),
    }


def _ms(entries: Iterable[Entry], percent: float) -> float:
    return round(pick_percentile((entry.latency_s for entry in entries), percent) * 1000, 2)


def merge_bins(samples: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """Times, error rates in percent, p99 in ms; over the rounds the errors of all and the median p99."""
    rounds = [sample["bins"] for sample in samples]
    times, rates, latencies = [], [], []
    for group in zip(*rounds, strict=True):
        requests = sum(one["requests"] for one in group)
        times.append(group[0]["at_s"])
        rates.append(100 * sum(one["errors"] for one in group) / max(1, requests))
        latencies.append(median(one["p99_ms"] for one in group))
    return times, rates, latencies


@dataclass(frozen=True)
class Row:
    """
    One subject in one fault: medians over the rounds, and the worst of them where that matters more.

    `quiet_s` is None if the errors went on to the end of the fault in half of the rounds or more.
    """

    fault: str
    kind: str
    subject: str
    rounds: int
    error_rate: float
    worst_rate: float
    errors: float
    errors_before_quiet: float
    quiet_s: float | None
    p50_ms: float
    p99_ms: float
    after_errors: float
    after_p99_ms: float
    bad_share: float


def build_summary(samples: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each subject in each fault and class, in the order they come; none with a problem."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for sample in samples:
        if not sample["problem"]:
            groups.setdefault((sample["fault"], sample["kind"], sample["subject"]), []).append(sample)
    rows = []
    for (fault, kind, subject), group in groups.items():
        figures = [sample["figures"] for sample in group]

        def middle(name: str, figures: Sequence[Mapping[str, Any]] = figures) -> float:
            return float(median(one[name] for one in figures))

        never = float("inf")
        quiet_s = median(never if one["quiet_s"] is None else one["quiet_s"] for one in figures)
        row = Row(
            fault,
            kind,
            subject,
            len(figures),
            middle("error_rate"),
            max(one["error_rate"] for one in figures),
            middle("errors"),
            middle("errors_before_quiet"),
            None if quiet_s == never else quiet_s,
            middle("p50_ms"),
            middle("p99_ms"),
            middle("after_errors"),
            middle("after_p99_ms"),
            median(sample["bad_share"] for sample in group),
        )
        rows.append(asdict(row))
    return rows


def format_ms(value: float) -> str:
    """
    A duration as short as can be told.

    >>> format_ms(1.26), format_ms(38.2), format_ms(2003.0)
    ('1.3 ms', '38 ms', '2.0 s')
    """
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def print_table(rows: Iterable[Mapping[str, Any]], fault: str, kind: str) -> str:
    """One fault and class as a Markdown table; nothing if it was not measured."""
    lines = []
    for row in rows:
        if (row["fault"], row["kind"]) != (fault, kind):
            continue
        quiet = (
            "no" if row["quiet_s"] is None else "at once" if not row["errors"] else f"{row['quiet_s']:.1f} s"
        )
        cells = [
            row["subject"],
            f"{row['error_rate']:.2%}",
            f"{row['errors']:.0f}",
            f"{row['errors_before_quiet']:.0f}",
            quiet,
            format_ms(row["p50_ms"]),
            format_ms(row["p99_ms"]),
            f"{row['after_errors']:.0f}",
            format_ms(row["after_p99_ms"]),
            f"{row['bad_share']:.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return ""
    head = [
        "| | error rate | errors | before quiet | quiet after | p50 | p99 | errors after | p99 after "
        "| share of the bad one |",
        "| --- " + "| ---: " * 9 + "|",
    ]
    return "\n".join([*head, *lines])
