"""
What it costs to be watched.

    python -m bench.observe cost [--rounds 9] [--seconds 3]
        CPU per tiny GET: nothing told; metrics alone; all of it (metrics, a trace begun for each request and
        one in a hundred sampled, JSON access log to a file); all of it with every trace sampled; with a
        dashboard open and a scrape a second
    python -m bench.observe watch [--minutes 5]
        latency at a fixed rate, and memory, with 50 dashboards open and a scrape a second, in turns with
        stretches in which nobody looks

Interleaved, medians, and CPU time of the whole process tree, as in `bench.run`. One worker, pinned to one
CPU together with its controller, which is the hardest case: what the controller does, the worker has not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

from bench import machine
from bench.load import pick_percentile
from bench.observers import Observers
from bench.origins import PAGES, start_origins
from bench.process import Process, run_load
from bench.run import Bench, Plan, Sample, find_ports
from bench.scenarios import SCENARIOS, Scenario
from bench.subjects import SUBJECTS, Job, Launch, Subject
from bench.summary import summarize

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "observe.json"
IMAGE = ROOT / "docs" / "images" / "observe.svg"

DASHBOARDS = 50
RATE = 1500
STRETCH_S = 15.0

SILENT = {"SILLYPROXY_TRACING": "off"}
ALL = {
    "SILLYPROXY_LOG_FORMAT": "json",
    "SILLYPROXY_TRACING": "start",
    "SILLYPROXY_TRACING_SAMPLE": "1%",
}
EACH = {**ALL, "SILLYPROXY_TRACING_SAMPLE": "100%"}


def _launch(job: Job, module: str, settings: Mapping[str, str]) -> Launch:
    plain = SUBJECTS["sillyproxy"].launch(job)
    command = [sys.executable, "-m", module, "serve"]
    return Launch(command, {**plain.environment, **settings})


def _launch_all(job: Job, settings: Mapping[str, str] = ALL) -> Launch:
    return _launch(
        job, "sillyproxy", {**settings, "SILLYPROXY_ACCESS_LOG": str(job.directory / "access.log")}
    )


_FIND = SUBJECTS["sillyproxy"].find
KINDS = (
    Subject("nothing", _FIND, lambda job: _launch(job, "bench.silent", SILENT)),
    Subject("metrics", _FIND, lambda job: _launch(job, "sillyproxy", SILENT)),
    Subject("all", _FIND, _launch_all),
    Subject("sampled", _FIND, lambda job: _launch_all(job, EACH)),
    Subject("watched", _FIND, _launch_all),
)


class _Cost(Bench):
    """As every benchmark, but one of the subjects is looked at while it works."""

    def _measure(
        self,
        sample: Sample,
        scenario: Scenario,
        process: Process,
        port: int,
        cpus: set[int],
        load_cpus: set[int],
    ) -> None:
        watched = sample.subject == "watched"
        with Observers(port - 1, dashboards=1, scrape_s=1.0) if watched else nullcontext():
            super()._measure(sample, scenario, process, port, cpus, load_cpus)


def measure_cost(rounds: int, seconds: int) -> dict[str, Any]:
    plan = Plan([SCENARIOS["tiny"]], KINDS, rounds, seconds)
    results = _Cost(plan, lambda line: print(line, flush=True)).run()
    rows = summarize(results["samples"], reference="nothing")
    # Noise only ever adds: the least of many rounds is what a quieter machine would show.
    least = {row.subject: least_cpu_us(results["samples"], row.subject) for row in rows}
    heads = ("CPU µs", "worker µs", "of nothing", "rounds", "best", "of nothing")
    print("\n" + " " * 10 + "".join(head.rjust(12) for head in heads))
    for row in rows:
        worker_us = row.cpu_us - row.overhead_us
        spread = f"{row.ratio_low:.2f}-{row.ratio_high:.2f}"
        best = least[row.subject]
        print(
            f"{row.subject:10}{row.cpu_us:12.2f}{worker_us:12.2f}{row.ratio:12.3f}{spread:>12}"
            f"{best:12.2f}{best / least['nothing']:12.3f}"
        )
    return {
        "rows": [
            {"subject": row.subject, "cpu_us": row.cpu_us, "worker_us": row.cpu_us - row.overhead_us,
             "ratio": row.ratio, "ratio_low": row.ratio_low, "ratio_high": row.ratio_high,
             "least_us": least[row.subject]}
            for row in rows
        ],
        **{key: results[key] for key in ("when", "machine", "rounds", "seconds", "failures")},
    }  # fmt: skip


def least_cpu_us(samples: Sequence[Mapping[str, Any]], subject: str) -> float:
    """Return the CPU of one request in a subject's best round; µs."""
    good = [one for one in samples if one["subject"] == subject and not one["problem"]]
    return min(float(one["cpu_us"]) / int(one["requests"]) for one in good)


@contextmanager
def _serving(directory: Path, cpus: set[int], load_cpus: set[int]) -> Iterator[tuple[Process, int]]:
    with start_origins(directory, load_cpus) as origins:
        port = find_ports()
        launch = _launch_all(Job(port, *origins.of(PAGES), 1, directory))
        with Process(launch.command, cpus, directory / "output", launch.environment) as process:
            process.wait_answering(port)
            yield process, port


def measure_watch(minutes: float) -> dict[str, Any]:
    """Alternate stretches with and without observers until there were so many minutes with them."""
    cpus, load_cpus = machine.share_cpus(os.sched_getaffinity(0), 1)
    os.sched_setaffinity(0, load_cpus)
    stretches: list[dict[str, Any]] = []
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with _serving(directory, cpus, load_cpus) as (process, port):
            _load(port, 5.0, load_cpus, directory)  # warm
            count = max(2, round(minutes * 60 / STRETCH_S))
            for number in range(2 * count):
                watched = number % 2 == 1
                clocks = machine.read_clocks(process.pid)
                # Observers come and go between stretches, as dashboards do.
                observers = Observers(port - 1, dashboards=DASHBOARDS, scrape_s=1.0) if watched else None
                with observers or nullcontext():
                    latencies = _load(port, STRETCH_S, load_cpus, directory)
                spent = machine.subtract_clocks(clocks, machine.read_clocks(process.pid))
                busiest = max(one.total_us for one in spent.values())
                stretch = {
                    "watched": watched,
                    "at_s": round(time.time() - began, 1),
                    "requests": len(latencies),
                    "p50_ms": pick_percentile(latencies, 50),
                    "p99_ms": pick_percentile(latencies, 99),
                    "worker_us": busiest / len(latencies),
                    "others_us_a_s": (sum(one.total_us for one in spent.values()) - busiest) / STRETCH_S,
                    "rss_bytes": machine.read_rss_bytes(process.pid),
                    "frames": observers.frames if observers else 0,
                    "scrapes": observers.scrapes if observers else 0,
                }
                if observers and observers.problems:
                    sys.exit(f"bench.observe: {observers.problems[:3]}")
                stretches.append(stretch)
                print(_show(stretch), flush=True)
    print_watch(stretches)
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "machine": machine.describe(len(cpus | load_cpus)),
        "dashboards": DASHBOARDS,
        "rate": RATE,
        "stretches": stretches,
    }


def _load(port: int, seconds: float, cpus: set[int], directory: Path) -> list[float]:
    """Return the latencies of all requests, in order; milliseconds."""
    out = directory / "load.json"
    start, seed = time.monotonic() + 0.7, random.randrange(1 << 30)
    command = [sys.executable, "-m", "bench.faults_load", str(port), str(RATE), str(seconds)]
    run_load([*command, str(start), str(seed), str(out)], cpus, seconds + 60)
    entries = json.loads(out.read_text())
    if wrong := [entry for entry in entries if entry[2] != "ok"]:
        sys.exit(f"bench.observe: {len(wrong)} of {len(entries)} requests failed: {wrong[:3]}")
    return sorted(entry[1] * 1000 for entry in entries)


def _show(stretch: Mapping[str, Any]) -> str:
    who = "watched" if stretch["watched"] else "alone"
    return (
        f"{stretch['at_s']:6.0f} s {who:8} p50 {stretch['p50_ms']:.2f} ms, p99 {stretch['p99_ms']:.2f} ms, "
        f"worker {stretch['worker_us']:.1f} µs, others {stretch['others_us_a_s'] / 1e4:.1f} %, "
        f"{stretch['rss_bytes'] / 2**20:.1f} MiB, {stretch['frames']} frames, {stretch['scrapes']} scrapes"
    )


def print_watch(stretches: Sequence[Mapping[str, Any]]) -> None:
    """Print the medians of both kinds of stretches."""
    for watched in (False, True):
        mine = [one for one in stretches if one["watched"] == watched]
        figures = {key: median(one[key] for one in mine) for key in mine[0] if key not in ("watched", "at_s")}
        print("median", _show({**figures, "watched": watched, "at_s": mine[-1]["at_s"]}))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench.observe", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "watch", "draw"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5.0, help="with observers; as many without")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are kept")
    options = parser.parse_args()
    # Not at the top: --help must work where matplotlib is missing.
    from bench.observe_chart import draw

    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    if options.what == "cost":
        results["cost"] = measure_cost(options.rounds, options.seconds)
    elif options.what == "watch":
        results["watch"] = measure_watch(options.minutes)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    if results.keys() >= {"cost", "watch"}:
        draw(results, IMAGE if options.out == RESULTS else options.out.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
