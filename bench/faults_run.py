"""
Run the faults: every subject in turn, with the same seeds and the same phases, round after round.

One of four replicas misbehaves, always the same. Each run starts the subject and the replicas anew,
so that nothing is remembered from the fault before.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.faults_load import PATIENCE_S
from bench.faults_replica import tell
from bench.faults_subjects import CAREFUL, CLASSES, Contender, Setup
from bench.faults_summary import Entry, Phases, build_bins, build_summary, summarize
from bench.faults_wire import MissingWireError, Wire, lay_wire
from bench.process import BrokenError, Process
from bench.run import find_ports
from bench.subjects import MissingError

REPLICAS = ("127.0.0.41", "127.0.0.42", "127.0.0.43")
BAD = "127.0.0.44"
SLOW_S = 0.4


@dataclass(frozen=True)
class Fault:
    """How the bad one misbehaves. `mode` is what the replica is told; `is_network`: its network is slow."""

    name: str
    title: str
    mode: str
    is_network: bool = False


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("refuse", "refuses connections", "refuse"),
        Fault("hang", "hangs: accepts, never answers", "hang"),
        Fault("reset", "resets after the request", "reset"),
        Fault("half", "answers 500 to half", "half"),
        Fault("slow", f"answers {SLOW_S * 1000:.0f} ms late", "ok", is_network=True),
    )
}


@dataclass(frozen=True)
class Plan:
    """What to run. `rate` is in requests a second."""

    faults: Sequence[Fault]
    contenders: Sequence[Contender]
    kinds: Sequence[str]
    rounds: int
    rate: float
    phases: Phases


@dataclass
class Sample:
    """One subject in one fault in one round. `problem` is set if it is worth nothing."""

    fault: str
    kind: str
    subject: str
    round: int
    problem: str = ""
    bad_share: float = 0.0  # of the requests that reached a replica during the fault, those at the bad one
    probes: int = 0  # health checks that the bad one got meanwhile
    figures: dict[str, Any] = field(default_factory=dict)
    bins: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Backends:
    """Four replicas that run: addresses, and where each is told what to be; the bad one is the last."""

    addresses: tuple[str, ...]
    controls: tuple[Path, ...]

    def count(self) -> list[int]:
        """How many requests each has had, health checks left out."""
        return [requests - probes for requests, probes in map(self._ask, self.controls)]

    def count_probes(self) -> int:
        """How many health checks the bad one has had."""
        return self._ask(self.controls[-1])[1]

    @staticmethod
    def _ask(control: Path) -> tuple[int, int]:
        requests, probes = map(int, tell(control, "count").split())
        return requests, probes


class Run:
    """One run of the whole: the machine, the wire, and who has dropped out."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.say = say
        self.cpus = os.sched_getaffinity(0)  # nothing is pinned: a fault is not a matter of microseconds
        self.versions: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.samples: list[Sample] = []
        self.configurations: dict[str, str] = {}
        self.delay = ""
        self.directory = Path()

    def run(self) -> dict[str, Any]:
        """Run it all and return the results."""
        began = time.time()
        with tempfile.TemporaryDirectory(prefix="faults-") as name, ExitStack() as stack:
            self.directory = Path(name)
            faults = list(self.plan.faults)
            wire = None
            if any(fault.is_network for fault in faults):
                try:
                    wire = stack.enter_context(lay_wire(self.directory, self.cpus))
                    self.delay = wire.tool
                    self.say(f"the slow network is made by {wire.tool}")
                except MissingWireError as error:
                    self._fail("slow", f"MISSING, not measured: {error}")
                    faults = [fault for fault in faults if not fault.is_network]
            contenders = self._find()
            try:
                self._measure(faults, contenders, wire)
            except KeyboardInterrupt:
                self._fail("the run", "interrupted; this is what there was until then")
        plan = self.plan
        samples = [asdict(sample) for sample in self.samples]
        return {
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "took_s": round(time.time() - began),
            "machine": machine.describe(len(self.cpus)),
            "versions": self.versions,
            "rounds": plan.rounds,
            "rate": plan.rate,
            "phases": asdict(plan.phases),
            "faults": {fault.name: fault.title for fault in faults},
            "kinds": list(plan.kinds),
            "subjects": [contender.name for contender in contenders],
            "delay": self.delay,
            "failures": self.failures,
            "configurations": self.configurations,
            "summary": build_summary(samples),
            "samples": samples,
        }

    def _fail(self, what: str, why: object) -> None:
        self.failures[what] = str(why)
        self.say(f"!!! {what}: {why}")

    def _find(self) -> list[Contender]:
        found = []
        for contender in self.plan.contenders:
            try:
                self.versions[contender.name] = contender.find()
                found.append(contender)
            except (MissingError, BrokenError) as error:
                self._fail(contender.name, f"MISSING, not measured: {error}")
        return found

    def _measure(self, faults: Sequence[Fault], contenders: Sequence[Contender], wire: Wire | None) -> None:
        for number in range(self.plan.rounds):
            for fault in faults:
                for kind in self.plan.kinds:
                    for place in range(len(contenders)):
                        # each goes first once
                        contender = contenders[(place + number) % len(contenders)]
                        sample = Sample(fault.name, kind, contender.name, number)
                        self.samples.append(sample)
                        try:
                            self._measure_one(sample, fault, contender, wire)
                        except (BrokenError, OSError) as error:
                            sample.problem = str(error) or type(error).__name__
                            self._fail(f"{contender.name} ({kind}), {fault.name}, round {number + 1}", error)
                        else:
                            self._tell(sample)

    def _tell(self, sample: Sample) -> None:
        one = sample.figures
        quiet = "never" if one["quiet_s"] is None else f"{one['quiet_s']} s"
        self.say(
            f"{sample.round + 1}/{self.plan.rounds} {sample.fault} {sample.kind} {sample.subject}: "
            f"{one['errors']} errors ({one['error_rate']:.2%}) {one['kinds']}, quiet after {quiet}, "
            f"p99 {one['p99_ms']} ms, after {one['after_errors']} errors p99 {one['after_p99_ms']} ms, "
            f"bad one {sample.bad_share:.1%} + {sample.probes} probes"
        )

    @contextmanager
    def _start_replicas(self, fault: Fault, wire: Wire | None, seed: int) -> Iterator[Backends]:
        bad = wire.far if fault.is_network and wire is not None else BAD
        hosts = (*REPLICAS, bad)
        port = find_common_port(REPLICAS)
        controls = tuple(self.directory / f"control-{index}" for index in range(len(hosts)))
        with ExitStack() as stack:
            for index, (host, control) in enumerate(zip(hosts, controls, strict=True)):
                command = [sys.executable, "-m", "bench.faults_replica", host, str(port), str(control)]
                command.append(str(seed + index))
                if host == bad and wire is not None and fault.is_network:
                    command = ["ip", "netns", "exec", wire.namespace, *command]
                process = Process(command, self.cpus, self.directory / f"replica-{index}.out")
                stack.enter_context(process)
                wait_control(process, control)
            yield Backends(tuple(f"{host}:{port}" for host in hosts), controls)

    def _measure_one(self, sample: Sample, fault: Fault, contender: Contender, wire: Wire | None) -> None:
        phases, port = self.plan.phases, find_ports()
        directory = self.directory / f"{contender.name}-{port}"
        directory.mkdir()
        seed = 1000 * sample.round  # the same for all subjects
        with self._start_replicas(fault, wire, seed) as backends:
            setup = Setup(port, backends.addresses, sample.kind == CAREFUL, directory)
            launch = contender.launch(setup)
            with Process(launch.command, self.cpus, directory / "output", launch.environment) as process:
                process.wait_answering(port)
                self._keep_configuration(sample, directory)
                time.sleep(2.5)  # health checks have found everybody well
                entries = self._load(sample, fault, port, seed, backends, wire)
        sample.figures = summarize(entries, phases)
        sample.bins = build_bins(entries, phases.whole_s)
        if sample.figures["healthy_errors"]:
            raise BrokenError(f"{sample.figures['healthy_errors']} errors before anything was wrong")
        if sample.figures["replicas"] != len(backends.addresses):
            raise BrokenError(f"only {sample.figures['replicas']} replicas were asked while all were well")

    def _keep_configuration(self, sample: Sample, directory: Path) -> None:
        for name in ("environment", "nginx.conf", "haproxy.cfg", "envoy.json"):
            with suppress(OSError):
                self.configurations[f"{sample.subject} {sample.kind}"] = (directory / name).read_text()

    def _load(
        self, sample: Sample, fault: Fault, port: int, seed: int, backends: Backends, wire: Wire | None
    ) -> list[Entry]:
        phases, plan = self.plan.phases, self.plan
        out = self.directory / "entries.json"
        out.unlink(missing_ok=True)
        start = time.monotonic() + 1.0
        arguments = [port, plan.rate, phases.whole_s, start, seed, out]
        command = [sys.executable, "-m", "bench.faults_load", *map(str, arguments)]
        with Process(command, self.cpus, self.directory / "load.out") as load:
            sleep_until(start + phases.healthy_s)
            before, probes = backends.count(), backends.count_probes()
            self._set(fault, backends, wire, is_on=True)
            try:
                sleep_until(start + phases.end_s)
                after = backends.count()
                sample.probes = backends.count_probes() - probes
            finally:
                self._set(fault, backends, wire, is_on=False)
            sleep_until(start + phases.whole_s)
            deadline = time.monotonic() + PATIENCE_S + 5
            while not out.exists() or not out.read_bytes().endswith(b"]"):
                if time.monotonic() > deadline:
                    raise BrokenError(f"the load came to no end: {load.last_words()}")
                time.sleep(0.05)
        came = [then - first for first, then in zip(before, after, strict=True)]
        sample.bad_share = round(came[-1] / max(1, sum(came)), 4)
        return [Entry(*entry) for entry in json.loads(out.read_text())]

    def _set(self, fault: Fault, backends: Backends, wire: Wire | None, *, is_on: bool) -> None:
        if fault.is_network and wire is not None:
            wire.set_delay(SLOW_S if is_on else 0.0)
        else:
            tell(backends.controls[-1], fault.mode if is_on else "ok")


def sleep_until(moment: float) -> None:
    """Sleep until a time of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))


def find_common_port(hosts: Sequence[str]) -> int:
    """A port that is free on all of these addresses."""
    while True:
        port = machine.find_port()
        with ExitStack() as stack, suppress(OSError):
            for host in (*hosts, BAD):
                stack.enter_context(socket.socket()).bind((host, port))
            return port


def wait_control(process: Process, control: Path, within_s: float = 10.0) -> None:
    """Wait until a replica takes commands, which it does when it listens."""
    deadline = time.monotonic() + within_s
    while True:
        with suppress(OSError):
            tell(control, "count")
            return
        if time.monotonic() > deadline:
            raise BrokenError(f"a replica does not start: {process.last_words()}")
        time.sleep(0.02)


__all__ = ["CLASSES", "FAULTS", "Plan", "Run"]
