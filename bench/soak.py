"""
Churn in everything while counted requests run: is anything lost, does anything grow?

python -m bench.soak                                    30 minutes; results, picture and figures are published
python -m bench.soak --minutes 1 --out soak.json        a look: results there, nothing published
python -m bench.soak --redraw bench/results/soak.json   publish the picture and figures of an earlier run
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import machine
from bench.faults import put_tables
from bench.process import BrokenError
from bench.run import find_ports
from bench.soak_churn import Churn
from bench.soak_summary import build_report, explain_all, print_report
from bench.subjects import SUBJECTS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "soak.json"
IMAGES = ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "soak.md"
PUBLISHED_MINUTES = 30.0
AT_REST_WITHIN_S = 30.0
KIB = 1024


class Sampler(threading.Thread):
    """Looks once a second how large the proxy's processes are."""

    def __init__(self, churn: Churn, start: float) -> None:
        super().__init__(daemon=True)
        self.samples: list[dict[str, Any]] = []
        self._churn, self._start = churn, start
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(max(0.0, self._start + len(self.samples) + 1 - time.monotonic())):
            sample = take_sample(self._churn.supervisor, self._churn.roles())
            self.samples.append({"at_s": round(time.monotonic() - self._start, 1), **sample})

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()


def take_sample(supervisor: int, roles: dict[str, int]) -> dict[str, Any]:
    """Resident memory and descriptors of each process, and the proportional memory of all of them."""
    sample: dict[str, Any] = {"rss_mib": {}, "fds": {}, "pss_mib": 0.0}
    names = {pid: role for role, pid in roles.items()}
    for pid in machine.read_tree(supervisor):
        with contextlib.suppress(OSError, KeyError):  # it has just ended, or just begun
            figures = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            )
            sample["pss_mib"] += int(figures["Pss"].split()[0]) / KIB
            if pid in names:
                sample["rss_mib"][names[pid]] = round(int(figures["Rss"].split()[0]) / KIB, 2)
                sample["fds"][names[pid]] = len(os.listdir(f"/proc/{pid}/fd"))
    sample["pss_mib"] = round(sample["pss_mib"], 2)
    return sample


def start_proxy(churn: Churn, port: int) -> subprocess.Popen[bytes]:
    """Start the proxy; its configuration is the churn's file."""
    churn.admin = f"127.0.0.1:{port - 1}"
    environment = {
        "SILLYPROXY_LISTEN": f"127.0.0.1:{port}",
        "SILLYPROXY_ADMIN": churn.admin,
        "SILLYPROXY_ENV_FILE": str(churn.file),
        "SILLYPROXY_ACCESS_LOG": "off",
        "SILLYPROXY_LOG_LEVEL": "debug",
        "SILLYPROXY_RETRY": "idempotent",
        "SILLYPROXY_RESPONSE_TIMEOUT": "10",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SILLYPROXY_")}
    with churn.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sillyproxy", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=clean | environment,
            start_new_session=True,
        )
    churn.supervisor = process.pid
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if churn.read_status()["ready"]:
                return process
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise BrokenError(f"the proxy does not start: {churn.log.read_text()[-1000:]}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What the load has written; BrokenError if it did not come to its end."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    if not lines or lines.pop():
        raise BrokenError("the load did not come to its end")
    return lines


def soak(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Run it; return the results."""
    began = time.time()
    version = SUBJECTS["sillyproxy"].find()
    with tempfile.TemporaryDirectory(prefix="soak-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        churn = Churn(directory, seed)
        stack.callback(churn.end)
        port = find_ports()
        proxy = start_proxy(churn, port)
        stack.callback(_stop, proxy)
        start = time.monotonic() + 1.0
        out = directory / "load.jsonl"
        arguments = [str(port), str(start), str(seconds), str(seed), str(out)]
        load = subprocess.Popen([sys.executable, "-m", "bench.soak_load", *arguments], start_new_session=True)
        stack.callback(_stop, load)
        sampler = Sampler(churn, start)
        sampler.start()
        time.sleep(3)
        churn.run(start, seconds - 3, say)
        status = load.wait(seconds + 60)
        sampler.stop()
        if status:
            raise BrokenError(f"the load ended with status {status}")
        rest = wait_at_rest(churn)
        lines, samples = read_lines(out), sampler.samples
        report = build_report(lines, churn.as_dicts(), samples)
        tail = churn.log.read_text(errors="replace")
        report["tracebacks"] = tail.count("Traceback (most recent call last)")
        if report["tracebacks"] or report["unexplained"]:
            say(tail[-5000:])
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "seconds": seconds,
        "seed": seed,
        "version": version,
        "machine": machine.describe(len(os.sched_getaffinity(0))),
        "report": report,
        "rest": rest,
        "events": churn.as_dicts(),
        "samples": samples,
        "load": [{key: line[key] for key in line if key != "failures"} for line in lines],
    }


def wait_at_rest(churn: Churn) -> dict[str, Any]:
    """Wait until nobody is served any more; return the books of then, and what is still open."""
    deadline = time.monotonic() + AT_REST_WITHIN_S
    while True:
        status = churn.read_status()
        counters = status["counters"]
        is_at_rest = not (counters["inflight"] or counters["connections_open"] or counters["tunnels_open"])
        if is_at_rest or time.monotonic() > deadline:
            time.sleep(0.5)
            sample = take_sample(churn.supervisor, churn.roles())
            return {"is_at_rest": is_at_rest, "balance": churn.read_status()["balance"], **sample}
        time.sleep(0.2)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_faults(results: dict[str, Any]) -> list[str]:
    """What is wrong with a run; nothing if it shows what it should."""
    report, rest = results["report"], results["rest"]
    faults = [f"not explained: {failure}" for failure in report["unexplained"][:20]]
    faults += [f"an action did not work: {problem}" for problem in report["problems"]]
    if report["tracebacks"]:
        faults.append(f"{report['tracebacks']} tracebacks in the log")
    if not rest["is_at_rest"]:
        faults.append(f"not at rest {AT_REST_WITHIN_S:g} s after the last client")
    if not rest["balance"]["balanced"]:
        faults.append(f"the books do not balance: {rest['balance']}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=PUBLISHED_MINUTES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the results there, and publish nothing")
    parser.add_argument("--redraw", type=Path, metavar="RESULTS", help="do not run; publish these")
    options = parser.parse_args()
    if options.redraw:
        results = json.loads(options.redraw.read_text())
        results["report"] |= explain_all(results["report"]["failures"], results["events"])
    else:
        # As from the keyboard: nothing that was started is left behind.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        results = soak(options.minutes * 60, options.seed, lambda line: print(line, flush=True))
        # Shorter than it should be, it is a trial and replaces nothing.
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        trial = (
            None if options.minutes >= PUBLISHED_MINUTES else RESULTS.parent / "raw" / f"soak-{stamp}.json"
        )
        out = options.out or trial or RESULTS
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, separators=(",", ":")).replace('},{"at_s"', '},\n{"at_s"') + "\n")
        print(f"results: {out}")
    print(print_report(results["report"]))
    faults = find_faults(results)
    for fault in faults:
        print(f"!!! {fault}")
    if options.redraw or out == RESULTS:
        # Not at the top: a run must be kept where matplotlib is missing.
        from bench.soak_chart import draw

        print(f"drawn: {draw(results, IMAGES)}")
        PAGE.write_text(put_tables(PAGE.read_text(), {"figures": print_report(results["report"])}))
        print(f"figures: {PAGE}; read what is said beside them again")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
