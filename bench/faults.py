"""
One of four replicas misbehaves: what do the clients see?

python -m bench.faults                                    everything, one round after the other
python -m bench.faults --quick                            one round, short phases: a look, no measurement
python -m bench.faults --faults hang,half --subjects sillyproxy,nginx --kinds careful --rounds 3
python -m bench.faults --redraw bench/results/faults.json     tables and pictures of an earlier run
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from bench.faults_run import FAULTS, Plan, Run
from bench.faults_subjects import CLASSES, CONTENDERS
from bench.faults_summary import Phases, print_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
IMAGES = ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "faults.md"
MEASURED, QUICK = Phases(5, 20, 10), Phases(2, 8, 4)
T = TypeVar("T")


def _choose(kind: str, known: Mapping[str, T], text: str | None) -> list[T]:
    if text is None:
        return list(known.values())
    by_lower = {name.lower(): value for name, value in known.items()}
    try:
        return [by_lower[name.strip().lower()] for name in text.split(",")]
    except KeyError as error:
        sys.exit(f"bench.faults: no {kind} {error}; there are {', '.join(known)}")


def print_tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The table of each class and fault, by `class-fault`."""
    tables = {
        f"{kind}-{fault}": print_table(results["summary"], fault, kind)
        for kind in results["kinds"]
        for fault in results["faults"]
    }
    return {name: table for name, table in tables.items() if table}


def put_tables(page: str, tables: Mapping[str, str]) -> str:
    """
    Replace the tables of a page, each of which stands between two comments that name it.

    >>> put_tables("<!-- a -->\\nold\\n<!-- /a -->", {"a": "new"})
    '<!-- a -->\\nnew\\n<!-- /a -->'
    """
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, has_begin, rest = page.partition(begin)
        _, has_end, after = rest.partition(end)
        if not has_begin or not has_end:
            raise ValueError(f"the page has no place for {name}")
        page = before + begin + table + end + after
    return page


def _print_results(results: Mapping[str, Any]) -> None:
    for name, table in print_tables(results).items():
        print(f"\n{name}\n{table}")
    for what, why in results["failures"].items():
        print(f"!!! {what}: {why}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench.faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--faults", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--subjects", help=f"of {', '.join(CONTENDERS)}")
    parser.add_argument("--kinds", help=f"of {', '.join(CLASSES)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=300, help="requests a second")
    parser.add_argument("--quick", action="store_true", help="one round of short phases")
    parser.add_argument("--out", type=Path, help="where the results go (default: see docs/faults.md)")
    parser.add_argument("--redraw", type=Path, metavar="RESULTS", help="do not measure; show these")
    options = parser.parse_args()
    # Not at the top: --help must work, and a run be kept, where matplotlib is missing.
    from bench.faults_chart import draw

    if options.redraw:
        results = json.loads(options.redraw.read_text())
        is_published = options.redraw.resolve() == (RESULTS / "faults.json").resolve()
    else:
        plan = Plan(
            _choose("fault", FAULTS, options.faults),
            _choose("subject", CONTENDERS, options.subjects),
            _choose("class", {kind: kind for kind in CLASSES}, options.kinds),
            1 if options.quick else max(1, options.rounds),
            options.rate,
            QUICK if options.quick else MEASURED,
        )
        # As from the keyboard: nothing that was started is left behind.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        results = Run(plan, lambda line: print(line, flush=True)).run()
        # Only a whole run without a gap replaces the published figures; anything else is a trial.
        is_whole = not (options.quick or options.faults or options.subjects or options.kinds)
        is_published = is_whole and not results["failures"] and not options.out
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        raw = RESULTS / "raw" / f"faults-{stamp}.json"
        out = options.out or (RESULTS / "faults.json" if is_published else raw)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"results: {out}")
    _print_results(results)
    images = IMAGES if is_published else (options.out or options.redraw or out).with_suffix("")
    for path in draw(results, images):
        print(f"drawn: {path}")
    if is_published:
        PAGE.write_text(put_tables(PAGE.read_text(), print_tables(results)))
        print(f"tables: {PAGE}; read what is said beside them again")
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
