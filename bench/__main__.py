"""
The benchmark's command line.

python -m bench                                 everything (under 30 minutes)
python -m bench --quick                         one round of one second each: a look, no measurement
python -m bench --scenarios tiny,browser --subjects sillyproxy,nginx --rounds 5 --seconds 3
python -m bench --redraw bench/results/bench.json     the table and charts of an earlier run
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from bench.run import Bench, Plan
from bench.scenarios import SCENARIOS
from bench.subjects import SUBJECTS
from bench.summary import Row, build_summary, find_disturbance, print_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
IMAGES = ROOT / "docs" / "images"
T = TypeVar("T")


def _choose(kind: str, known: Mapping[str, T], text: str | None) -> list[T]:
    if text is None:
        return list(known.values())
    by_lower = {name.lower(): value for name, value in known.items()}
    try:
        return [by_lower[name.strip().lower()] for name in text.split(",")]
    except KeyError as error:
        sys.exit(f"bench: no {kind} {error}; there are {', '.join(known)}")


def _print_results(results: Mapping[str, Any]) -> None:
    print(f"\n{print_table(results)}")
    if disturbed := find_disturbance(Row(**row) for row in results["summary"]):
        print(
            f"!!! others used more than 5 % of the subjects' CPU in: {', '.join(disturbed)}. Measure again."
        )
    for what, why in results["failures"].items():
        print(f"!!! {what}: {why}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scenarios", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--subjects", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load, each subject in each round")
    parser.add_argument("--quick", action="store_true", help="one round of one second, not warmed up")
    parser.add_argument("--out", type=Path, help="where the results go (default: see docs/benchmark.md)")
    parser.add_argument("--redraw", type=Path, metavar="RESULTS", help="do not measure; show these")
    options = parser.parse_args()
    # Not at the top: --help must work, and a run be kept, where matplotlib is missing.
    from bench.chart import draw

    if options.redraw:
        results = json.loads(options.redraw.read_text())
        _print_results(results)
        for path in draw(results, options.out or IMAGES):
            print(f"drawn: {path}")
        return 0

    if shutil.which("wrk") is None:
        sys.exit("bench: wrk makes the load and is not installed; on Debian: apt-get install wrk")
    rounds, seconds = (1, 1) if options.quick else (options.rounds, options.seconds)
    plan = Plan(
        _choose("scenario", SCENARIOS, options.scenarios),
        _choose("subject", SUBJECTS, options.subjects),
        max(1, rounds),
        max(1, seconds),
        warm=not options.quick,
    )
    whole = not (options.quick or options.scenarios or options.subjects)
    results = Bench(plan, lambda line: print(line, flush=True)).run()
    whole = whole and not results["failures"]
    results["summary"] = build_summary(results["samples"])
    # Only a whole run without a gap replaces the published figures; anything else is a trial.
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    out = options.out or (RESULTS / "bench.json" if whole else RESULTS / "raw" / f"{stamp}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    _print_results(results)
    print(f"results: {out}")
    images = IMAGES if whole and not options.out else out.with_suffix("")
    for path in draw(results, images):
        print(f"drawn: {path}")
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
