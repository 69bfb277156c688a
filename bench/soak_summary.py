"""What a soak has shown: which failures nothing explains, and whether anything grew. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

GRACE_S = 0.1  # clocks are read a little before and after what they time
DRAIN_DELAY_S = 1.2  # whoever leaves takes new connections for so long (SILLYPROXY_DRAIN_DELAY, and a little)
TOLD_S = 20.0  # a drain and its spread closes last for no longer
# A request that may not be sent twice, or a conversation: nobody can mend it if the backend dies.
NOT_REPEATABLE = ("post", "slow_writer", "websocket")
KILL_BACKEND, KILL_WORKER = "kill backend", "kill worker"
# What ends long-lived connections with a word of farewell, and how its detail begins.
FAREWELLS = {"remove backend": "", "color": "green goes", "workers": "2"}
EARLY, LATE = (0.3, 0.5), (0.8, 1.0)


def explain(failure: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """
    Say on what a request broke that could not have been served; empty if nothing explains it.

    It must have been under way when a backend or a worker was killed. With a backend, what can be
    asked again and had no answer yet must not fail; with a worker, the client sees its connection
    break and no reply. A WebSocket that is told to go (1001) must have been told so for a reason.
    """
    for event in reversed(events):
        under_way = (
            failure["begun_s"] <= event["ended_s"] + GRACE_S
            and failure["ended_s"] >= event["began_s"] - GRACE_S
        )
        if failure["how"] == "ToldError":
            is_farewell = event["detail"].startswith(FAREWELLS.get(event["what"], "never"))
            was_there = failure["begun_s"] <= event["ended_s"] + DRAIN_DELAY_S
            is_in_time = event["began_s"] <= failure["ended_s"] <= event["ended_s"] + TOLD_S
            if is_farewell and was_there and is_in_time and "1001" in failure["reason"]:
                return f"told to go: {event['what']}"
        elif event["what"] == KILL_BACKEND and under_way:
            if failure["kind"] in NOT_REPEATABLE or failure["how"] == "CutError":
                return "under way on a backend that was killed"
        elif event["what"] == KILL_WORKER and under_way and failure["how"] != "WrongError":
            return "under way in a worker that was killed"
    return ""


def explain_all(failures: Iterable[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The report's part about failures: how many for which reason, those without one, and all."""
    told = [{**failure, "why": explain(failure, events)} for failure in failures]
    explained = Counter(f"{failure['kind']}: {failure['why']}" for failure in told if failure["why"])
    return {
        "explained": dict(explained.most_common()),
        "unexplained": [failure for failure in told if not failure["why"]],
        "failures": told,
    }


@dataclass(frozen=True)
class Growth:
    """A figure early and late in the run (medians), and how it grows in an hour."""

    what: str
    early: float
    late: float
    per_hour: float

    @property
    def ratio(self) -> float:
        """Late over early."""
        return self.late / self.early if self.early else 1.0


def measure_growth(what: str, times: Sequence[float], values: Sequence[float | None]) -> Growth | None:
    """
    Compare the third to the fifth tenth of the run with its last two; None if either has no values.

    >>> measure_growth("memory", range(100), [float(one) for one in range(100)])
    Growth(what='memory', early=39.5, late=89.5, per_hour=3600.0)
    """
    whole = max(times)

    def pick(part: tuple[float, float]) -> list[float]:
        return [
            value
            for at, value in zip(times, values, strict=True)
            if value is not None and part[0] * whole <= at <= part[1] * whole
        ]

    early, late = pick(EARLY), pick(LATE)
    if not early or not late:
        return None
    apart_s = whole * (sum(LATE) - sum(EARLY)) / 2
    first, then = float(median(early)), float(median(late))
    return Growth(what, first, then, round((then - first) / apart_s * 3600, 3) if apart_s else 0.0)


def build_report(
    lines: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    samples: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The figures of the run: requests, failures by explanation, growth of each process."""
    requests: Counter[str] = Counter()
    for line in lines:
        requests.update(line["ended"])
    times = [sample["at_s"] for sample in samples]
    roles = sorted({role for sample in samples for role in sample["rss_mib"]})
    growths = [
        measure_growth(f"{what} of {role}", times, [sample[key].get(role) for sample in samples])
        for role in roles
        for what, key in (("MiB resident", "rss_mib"), ("descriptors", "fds"))
    ]
    growths.append(measure_growth("MiB of all (PSS)", times, [sample["pss_mib"] for sample in samples]))
    for name in ("p50_ms", "p99_ms"):
        values = [line[name] or None for line in lines]
        growths.append(measure_growth(name, [line["at_s"] for line in lines], values))
    return {
        "requests": dict(requests.most_common()),
        "actions": dict(Counter(event["what"] for event in events).most_common()),
        **explain_all([failure for line in lines for failure in line["failures"]], events),
        "problems": [
            f"{one['what']} at {one['began_s']} s: {one['problem']}" for one in events if one["problem"]
        ],
        "growth": [{**vars(one), "ratio": round(one.ratio, 3)} for one in growths if one is not None],
    }


def print_report(report: Mapping[str, Any]) -> str:
    """The report as Markdown, for the page."""
    total = sum(report["requests"].values())
    lines = [
        f"{total:,} requests: " + ", ".join(f"{n:,} {kind}" for kind, n in report["requests"].items()) + "."
    ]
    lines.append("Actions: " + ", ".join(f"{n} {what}" for what, n in report["actions"].items()) + ".")
    lines += ["", "| failed | because it was |", "| ---: | --- |"]
    lines += [f"| {count} | {why} |" for why, count in report["explained"].items()]
    lines.append(f"| **{len(report['unexplained'])}** | **anything else** |")
    lines += ["", "| | early | late | in an hour |", "| --- | ---: | ---: | ---: |"]
    for one in report["growth"]:
        lines.append(f"| {one['what']} | {one['early']:.1f} | {one['late']:.1f} | {one['per_hour']:+.1f} |")
    return "\n".join(lines)
