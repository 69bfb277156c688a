"""
Run the scenarios: every subject in turn within a round, the order rotated from round to round.

A shared machine drifts by a third within minutes. What is measured seconds apart can be compared,
what is measured minutes apart cannot.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import check, machine
from bench.machine import Cpu
from bench.origins import PAGES, Origins, start_origins
from bench.process import BrokenError, Process, run_load
from bench.scenarios import Scenario
from bench.subjects import Job, MissingError, Subject
from bench.summary import format_us

LUA = Path(__file__).parent / "load.lua"
IDLE_REQUEST = b"GET /tiny HTTP/1.1\r\nHost: bench.example\r\n\r\n"


@dataclass(frozen=True)
class Plan:
    """What to run."""

    scenarios: Sequence[Scenario]
    subjects: Sequence[Subject]
    rounds: int
    seconds: int
    warm: bool = True


@dataclass
class Sample:
    """One subject in one scenario in one round. `problem` is set if it is worth nothing."""

    scenario: str
    subject: str
    round: int
    problem: str = ""
    requests: int = 0
    seconds: float = 0.0
    bytes: int = 0
    p50_us: float = 0.0
    p99_us: float = 0.0
    cpu_us: float = 0.0
    user_us: float = 0.0
    system_us: float = 0.0
    workers_us: float = 0.0  # the busiest processes, one a worker; the rest of the tree is overhead
    strangers: float | None = None  # share of the subject's CPUs that others used meanwhile
    rss_bytes: int = 0
    idle_bytes: float | None = None  # memory per idle connection


def rotate(subjects: Sequence[Subject], round_number: int) -> list[Subject]:
    start = round_number % len(subjects)
    return [*subjects[start:], *subjects[:start]]


def find_ports() -> int:
    """A free port whose lower neighbour is free too (sillyproxy's admin listener)."""
    while True:
        port = machine.find_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port - 1))
            return port


class Bench:
    """One run: the machine, the origins, and who has dropped out."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.say = say
        self.available = os.sched_getaffinity(0)
        self.versions: dict[str, str] = {}
        self.checks: dict[str, dict[str, float]] = {}
        self.failures: dict[str, str] = {}  # subject, or subject in a scenario: why it has no figures
        self.samples: list[Sample] = []
        self.directory = Path()

    def run(self) -> dict[str, Any]:
        """Run it all and return the results, raw samples included."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        began = time.time()
        cpus, load_cpus = machine.share_cpus(self.available, 1)
        os.sched_setaffinity(0, load_cpus)  # ourselves, out of the subject's way
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            self.directory = Path(name)
            with start_origins(self.directory, load_cpus) as origins:
                subjects = self._find_subjects(origins, cpus)
                try:
                    for scenario in self.plan.scenarios:
                        self._run_scenario(scenario, subjects, origins)
                except KeyboardInterrupt:
                    self._fail("the run", "interrupted; these are the rounds until then")
        return {
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "took_s": round(time.time() - began),
            "machine": machine.describe(len(self.available)),
            "versions": self.versions,
            "rounds": self.plan.rounds,
            "seconds": self.plan.seconds,
            "scenarios": {one.name: asdict(one) for one in self.plan.scenarios},
            "subjects": [one.name for one in self.plan.subjects],
            "checks": self.checks,
            "failures": self.failures,
            "samples": [asdict(sample) for sample in self.samples],
        }

    def _fail(self, what: str, why: object) -> None:
        self.failures[what] = str(why)
        self.say(f"!!! {what}: {why}")

    def _find_subjects(self, origins: Origins, cpus: set[int]) -> list[Subject]:
        """Those that are there and do the work."""
        found = []
        for subject in self.plan.subjects:
            try:
                self.versions[subject.name] = subject.find()
                with self._start(subject, origins.of(PAGES), 1, cpus) as (_, port):
                    self.checks[subject.name] = check.check(port)
            except MissingError as error:
                self._fail(subject.name, f"MISSING, not measured: {error}")
            except (BrokenError, OSError) as error:
                self._fail(subject.name, f"BROKEN, not measured: {error}")
            else:
                verdict = self.checks[subject.name]
                self.say(
                    f"{subject.name} {self.versions[subject.name]}: checked, {verdict['blue_share']:.1%} to "
                    f"blue, {verdict['upstream_connections']} upstream connections"
                )
                found.append(subject)
        return found

    @contextmanager
    def _start(
        self, subject: Subject, colors: tuple[str, str], workers: int, cpus: set[int]
    ) -> Iterator[tuple[Process, int]]:
        port = find_ports()
        directory = self.directory / f"{subject.name}-{port}"
        directory.mkdir()
        launch = subject.launch(Job(port, *colors, workers, directory))
        with Process(launch.command, cpus, directory / "output", launch.environment) as process:
            process.wait_answering(port)
            yield process, port

    def _run_scenario(self, scenario: Scenario, subjects: Sequence[Subject], origins: Origins) -> None:
        self.say(f"--- {scenario.name}: {scenario.title}")
        cpus, load_cpus = machine.share_cpus(self.available, scenario.workers)
        colors = origins.of(scenario.origin)
        alive = list(subjects)
        with ExitStack() as stack:
            running: dict[str, tuple[Process, int]] = {}
            for subject in subjects:
                try:
                    if not scenario.idle:
                        started = stack.enter_context(self._start(subject, colors, scenario.workers, cpus))
                        running[subject.name] = started
                        if self.plan.warm:
                            self._load(scenario, started[1], load_cpus, 1)
                except (BrokenError, OSError) as error:
                    self._fail(f"{subject.name} in {scenario.name}", error)
                    alive.remove(subject)
            for round_number in range(self.plan.rounds if alive else 0):
                for subject in rotate(alive, round_number):
                    sample = Sample(scenario.name, subject.name, round_number)
                    try:
                        if scenario.idle:
                            with self._start(subject, colors, scenario.workers, cpus) as (process, port):
                                self._measure_idle(sample, scenario, process, port, cpus, load_cpus)
                        else:
                            process, port = running[subject.name]
                            self._measure(sample, scenario, process, port, cpus, load_cpus)
                    except (BrokenError, OSError) as error:
                        sample.problem = str(error) or type(error).__name__
                        self._fail(f"{subject.name} in {scenario.name}, round {round_number + 1}", error)
                    self.samples.append(sample)
                    if not sample.problem:
                        self.say(
                            f"{scenario.name} {round_number + 1}/{self.plan.rounds} {subject.name}: "
                            f"{format_us(sample.cpu_us / sample.requests)}, "
                            f"{sample.requests / sample.seconds:.0f}/s"
                        )

    def _load(self, scenario: Scenario, port: int, cpus: set[int], seconds: int) -> dict[str, float]:
        if scenario.load == "wrk":
            os.environ["BENCH_REQUEST"], os.environ["BENCH_HEAD"] = scenario.request, scenario.head
            command = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s", "--timeout", "20s"]
            command += ["-s", str(LUA), f"http://127.0.0.1:{port}{scenario.path}"]
        else:
            command = [sys.executable, "-m", "bench.load", scenario.load, str(port), scenario.path]
            command += [str(scenario.connections), str(seconds), str(scenario.size_bytes)]
        printed = run_load(command, cpus, within_s=seconds + 60)
        for line in printed.splitlines():
            if line.startswith("BENCH "):
                result: dict[str, float] = json.loads(line.removeprefix("BENCH "))
                break
        else:
            raise BrokenError(f"the load told nothing: {printed[-300:]}")
        if result["errors"]:
            raise BrokenError(f"{result['errors']} errors in {result['requests']} requests")
        if not result["requests"]:
            raise BrokenError("no request was answered in time")
        return result

    def _measure(
        self,
        sample: Sample,
        scenario: Scenario,
        process: Process,
        port: int,
        cpus: set[int],
        load_cpus: set[int],
    ) -> None:
        clocks, busy, began = machine.read_clocks(process.pid), machine.read_busy_us(cpus), time.monotonic()
        result = self._load(scenario, port, load_cpus, self.plan.seconds)
        took_us = (time.monotonic() - began) * 1e6
        busy = machine.read_busy_us(cpus) - busy
        spent = machine.subtract_clocks(clocks, machine.read_clocks(process.pid))
        tree = sum(spent.values(), Cpu())
        sample.requests, sample.bytes = int(result["requests"]), int(result["bytes"])
        sample.seconds, sample.p50_us, sample.p99_us = result["seconds"], result["p50_us"], result["p99_us"]
        sample.cpu_us, sample.user_us, sample.system_us = tree.total_us, tree.user_us, tree.system_us
        busiest = sorted((one.total_us for one in spent.values()), reverse=True)
        sample.workers_us = sum(busiest[: scenario.workers])
        if not cpus & load_cpus:
            sample.strangers = max(0.0, busy - tree.total_us) / (took_us * len(cpus))
        sample.rss_bytes = machine.read_rss_bytes(process.pid)

    def _measure_idle(
        self,
        sample: Sample,
        scenario: Scenario,
        process: Process,
        port: int,
        cpus: set[int],
        load_cpus: set[int],
    ) -> None:
        """Memory with the idle connections less memory without, then CPU beside them."""
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * scenario.idle:
            raise BrokenError(f"the open-file limit is too low for {scenario.idle} idle connections")
        self._load(scenario, port, load_cpus, 1)
        time.sleep(0.3)
        before = machine.read_rss_bytes(process.pid)
        with ExitStack() as stack:
            for _ in range(scenario.idle):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
                sock.sendall(IDLE_REQUEST)
                if not sock.recv(4096).startswith(b"HTTP/1.1 200 "):
                    raise BrokenError("an idle connection was not answered")
            time.sleep(0.3)
            check.check_reuse(port)  # short of descriptors, a proxy may close what it should keep
            idle_bytes = (machine.read_rss_bytes(process.pid) - before) / scenario.idle
            self._measure(sample, scenario, process, port, cpus, load_cpus)
            sample.idle_bytes = idle_bytes
