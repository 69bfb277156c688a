"""
Run the differential fuzz: `python -m fuzz --cases 1000000`.

A run is repeated by its seed, a case by seed and number (`--start N --cases 1`), and a run
that was stopped goes on with `--start`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator

from fuzz.generate import Case, Generator
from fuzz.judge import ACCEPTED, STRICTER, Disagreement, Judge

# Every so many cases of requests one of a response is added.
RESPONSE_EVERY = 4
_BATCH = 1000


def cases(generator: Generator, number: int) -> Iterator[Case]:
    """Yield the case of that number, and of some numbers a response too."""
    yield generator.make(number)
    if number % RESPONSE_EVERY == 0:
        yield generator.make_response(number)


def run(seed: int, numbers: range) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Judge the cases; return the counts by kind and outcome, and every disagreement in words."""
    generator = Generator(seed)
    judge = Judge()
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for number in numbers:
        for case in cases(generator, number):
            try:
                counts[case.kind, judge.judge(case)] += 1
            except Disagreement as error:
                counts[case.kind, "UNEXPLAINED"] += 1
                found.append(
                    f"{error}\n  {case.kind}, seed {seed}, number {number}, cut at {case.cuts}, "
                    f"in answer to {case.method!r}\n  {case.data!r}"
                )
    return counts, found


def describe(counts: Counter[tuple[str, str]]) -> str:
    """Return the counts as a table, agreements first, then each listed difference with its rule."""
    rules = {f"more lenient: {d.name}": d.rule for d in ACCEPTED}
    rules |= {f"stricter: {s.name}": s.rule for s in STRICTER}
    kinds = ("request", "chunked", "response")
    outcomes = ["both accept", "both refuse", "both wait", "refused before its end", *rules, "UNEXPLAINED"]
    lines = [f"{'outcome':70} {'requests':>9} {'chunked':>9} {'responses':>9}"]
    for outcome in outcomes:
        row = [counts[kind, outcome] for kind in kinds]
        if any(row) or outcome == "UNEXPLAINED":
            lines.append(f"{outcome:70} {row[0]:9} {row[1]:9} {row[2]:9}")
            if outcome in rules:
                lines.append(f"    {rules[outcome]}")
    return "\n".join(lines)


def main() -> int:
    """Run as the command line says; 1 if anything is unexplained."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description="Hold our HTTP/1.1 rules against h11."
    )
    parser.add_argument(
        "--cases", type=int, default=100_000, help="requests and chunked bodies (default 100000)"
    )
    parser.add_argument("--seed", type=int, default=None, help="repeat a run (default: a new one)")
    parser.add_argument("--start", type=int, default=0, help="number of the first case (default 0)")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    stop = options.start + options.cases
    batches = [(seed, range(at, min(at + _BATCH, stop))) for at in range(options.start, stop, _BATCH)]
    print(f"seed {seed}, cases {options.start} to {stop - 1}, {options.processes} processes", flush=True)
    began = said = time.monotonic()
    counts: Counter[tuple[str, str]] = Counter()
    found: list[str] = []
    done = 0
    with multiprocessing.Pool(options.processes) as pool:
        for batch_counts, batch_found in pool.imap(_run, batches):
            counts += batch_counts
            found += batch_found
            done += _BATCH
            now = time.monotonic()
            if now - said > 10:
                said = now
                rate = done / (now - began)
                print(
                    f"{done:9} done, {rate:.0f}/s, {len(found)} unexplained; goes on with --seed {seed} "
                    f"--start {options.start + done}",
                    flush=True,
                )
    print(f"{sum(counts.values())} messages in {time.monotonic() - began:.0f} s\n{describe(counts)}")
    for text in found[:20]:
        print(text, file=sys.stderr)
    return 1 if found else 0


def _run(batch: tuple[int, range]) -> tuple[Counter[tuple[str, str]], list[str]]:
    return run(*batch)


if __name__ == "__main__":
    sys.exit(main())
