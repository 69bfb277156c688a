"""
What changes while the soak runs: the configuration, the backends, the proxy's own processes.

Each action is planned (no request may fail) or an accident (only what was under way on what died may).
An action notes when it began and when it was over, by the clock of the load.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.process import BrokenError

PAUSE_S = 2.5
APPLIED_WITHIN_S = 8.0
COLORS = ("blue", "green")
MOST_BACKENDS = 4  # of a color

# What a request under way may break on. Everything else that is done here, nothing may.
ACCIDENTS = ("kill backend", "kill worker")


def find_roles(supervisor: int, log: str) -> dict[str, int]:
    """
    The proxy's processes by what they are, as its log (level debug) tells who was started last.

    Workers that leave because fewer are wanted are among them until another takes their place.

    >>> find_roles(1, "… worker 0 started pid=7\\n… worker 0 started pid=9\\n")
    {'supervisor': 1, 'worker 0': 9}
    """
    started = re.findall(r"(controller|worker \d+) started pid=(\d+)", log)
    return {"supervisor": supervisor, **{name: int(pid) for name, pid in started}}


@dataclass
class Event:
    """Something was done, between these times of the load's clock."""

    what: str
    began_s: float
    ended_s: float = 0.0
    detail: str = ""
    problem: str = ""


class Backend:
    """A backend process of ours."""

    def __init__(self, log: Path) -> None:
        self.port = machine.find_port()
        self._log = log.open("ab")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.soak_backend", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Start it again at its address."""
        self.process.wait()
        self.process = self._start()
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                return
            if time.monotonic() > deadline:
                raise BrokenError("a backend does not start")
            time.sleep(0.05)

    def end(self) -> None:
        """Stop it, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._log.close()


@dataclass
class Wanted:
    """The configuration that is asked for, as it stands in the file."""

    backends: dict[str, list[Backend]] = field(default_factory=lambda: {color: [] for color in COLORS})
    weights: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COLORS, 1))
    workers: int = 2
    is_green_there: bool = True

    def write(self) -> str:
        """The file's text."""
        lines = [f"SILLYPROXY_WORKERS={self.workers}"]
        for color, backends in self.backends.items():
            if color == "blue" or self.is_green_there:
                name = color.upper()
                lines.append(f"{name}={','.join(backend.url for backend in backends)}")
                lines.append(f"{name}_WEIGHT={self.weights[color]}")
                lines.append(f"{name}_HEALTH=/healthz")
        return "\n".join(lines) + "\n"


class Churn:
    """
    Who changes things. `file` is the proxy's configuration, `log` its log.

    `admin` is where it says how it is, `supervisor` its first process.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.file = directory / "edge.env"
        self.log = directory / "proxy.log"
        self.chance = random.Random(seed)
        self.wanted = Wanted()
        self.events: list[Event] = []
        self.admin = ""
        self.supervisor = 0
        self._leaving: list[tuple[float, Backend]] = []
        self._number = 0
        self._begin = self._seconds = 0.0
        for color in COLORS:
            self.wanted.backends[color] = [self._start_backend() for _ in range(2)]
        self._put(self.wanted.write())

    def _start_backend(self) -> Backend:
        self._number += 1
        backend = Backend(self.directory / f"backend-{self._number}.log")
        backend.wait()
        return backend

    def _put(self, text: str) -> None:
        """Replace the file at once, as configuration tools do."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.file)

    def read_status(self) -> Any:
        """What the proxy says of itself."""
        with urllib.request.urlopen(f"http://{self.admin}/api/status", timeout=5) as response:
            return json.load(response)

    def roles(self) -> dict[str, int]:
        """The proxy's processes of now."""
        return find_roles(self.supervisor, self.log.read_text(errors="replace"))

    def end(self) -> None:
        """Stop all backends."""
        for backends in (*self.wanted.backends.values(), [one for _, one in self._leaving]):
            for backend in backends:
                backend.end()

    # The actions, by name.

    def run(self, start: float, seconds: float, say: Callable[[str], None]) -> None:
        """Do one thing after the other, each kind once before any comes again."""
        self._begin, self._seconds = start, seconds
        bag: list[str] = []
        while self.now + PAUSE_S < seconds:
            time.sleep(PAUSE_S * (0.6 + 0.8 * self.chance.random()))
            if not bag:
                bag = list(ACTIONS)
                self.chance.shuffle(bag)
            self._act(bag.pop(), say)
            self._end_those_that_left()

    @property
    def now(self) -> float:
        """Seconds since the load's start."""
        return time.monotonic() - self._begin

    def _act(self, what: str, say: Callable[[str], None]) -> None:
        event = Event(what, round(self.now, 3))
        try:
            event.detail = ACTIONS[what](self) or ""
        except (BrokenError, OSError, ValueError) as error:
            event.problem = str(error) or repr(error)
        event.ended_s = round(self.now, 3)
        if event.detail != "-":
            self.events.append(event)
            say(f"{event.began_s:7.1f} s  {what} {event.detail} {event.problem}".rstrip())

    def _reload(self) -> None:
        """Put the configuration in place and wait until all workers have it."""
        text = self.wanted.write()
        self._put(text)
        asked = dict(line.split("=", 1) for line in text.splitlines())
        deadline = time.monotonic() + APPLIED_WITHIN_S
        while True:
            status = self.read_status()
            there = {name: setting["value"] for name, setting in status["config"]["settings"].items()}
            # A worker that is one too many goes on with what it has until its clients have gone.
            generations = [
                worker["generation"] for worker in status["workers"] if worker["index"] < self.wanted.workers
            ]
            is_taken = asked.items() <= there.items() and ("GREEN" in asked) == ("GREEN" in there)
            if is_taken and generations == [status["generation"]] * self.wanted.workers:
                return
            if time.monotonic() > deadline:
                raise BrokenError(
                    f"not in force after {APPLIED_WITHIN_S:g} s; the workers' are {generations}"
                )
            time.sleep(0.05)

    def change_weights(self) -> str:
        self.wanted.weights = {color: self.chance.choice((1, 5, 20, 99)) for color in COLORS}
        self._reload()
        return " ".join(f"{color}={weight}" for color, weight in self.wanted.weights.items())

    def add_backend(self) -> str:
        color = min(COLORS, key=lambda color: len(self.wanted.backends[color]))
        if len(self.wanted.backends[color]) >= MOST_BACKENDS:
            return "-"
        backend = self._start_backend()
        self.wanted.backends[color].append(backend)
        self._reload()
        return f"{color} {backend.port}"

    def remove_backend(self) -> str:
        color = max(COLORS, key=lambda color: len(self.wanted.backends[color]))
        spare = self._find_spare(color)
        if spare is None:
            return "-"
        self.wanted.backends[color].remove(spare)
        self._reload()
        time.sleep(0.5)
        # No request reaches it any more; it ends those that are under way, and goes.
        spare.process.send_signal(signal.SIGTERM)
        self._leaving.append((time.monotonic() + 15, spare))
        return f"{color} {spare.port}"

    def _find_spare(self, color: str) -> Backend | None:
        """A backend that lives and without which its color still has one that does."""
        living = [one for one in self.wanted.backends[color] if one.process.poll() is None]
        return self.chance.choice(living) if len(living) > 1 else None

    def drop_color(self) -> str:
        self.wanted.is_green_there = not self.wanted.is_green_there
        self._reload()
        return "green comes back" if self.wanted.is_green_there else "green goes"

    def change_workers(self) -> str:
        self.wanted.workers = 3 if self.wanted.workers == 2 else 2
        self._reload()
        return f"{self.wanted.workers}"

    def refuse(self) -> str:
        before = self.read_status()["generation"]
        self._put(self.wanted.write() + "GREEN_WEIGHT=many\n")
        time.sleep(1.5)
        status = self.read_status()
        self._put(self.wanted.write())
        if status["generation"] != before:
            raise BrokenError("a wrong configuration was taken")
        if status["reload"]["result"] != "refused":
            raise BrokenError(f"a wrong configuration was not refused: {status['reload']}")
        time.sleep(1.5)
        return ""

    def hang_up(self) -> str:
        os.kill(self.supervisor, signal.SIGHUP)
        time.sleep(1.0)
        return ""

    def kill_backend(self) -> str:
        color = self.chance.choice(COLORS if self.wanted.is_green_there else COLORS[:1])
        spare = self._find_spare(color)
        if spare is None:
            return "-"
        spare.process.kill()
        return f"{color} {spare.port}"

    def revive_backend(self) -> str:
        """Those that were killed, at their old addresses."""
        dead = [
            one for many in self.wanted.backends.values() for one in many if one.process.poll() is not None
        ]
        if not dead:
            return "-"
        for backend in dead:
            backend.restart()
        return " ".join(str(backend.port) for backend in dead)

    def kill_worker(self) -> str:
        # Never the first: a leak would be buried with whoever has it.
        os.kill(self.roles()["worker 1"], signal.SIGKILL)
        return "1"

    def kill_controller(self) -> str:
        # In the first part alone, so that what it leaks in the rest is seen.
        if self.now > self._seconds / 4:
            return "-"
        os.kill(self.roles()["controller"], signal.SIGKILL)
        self._wait_admin()
        return ""

    def _wait_admin(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                self.read_status()
                return
            time.sleep(0.1)
        raise BrokenError("the controller does not come back")

    def _end_those_that_left(self) -> None:
        for moment, backend in list(self._leaving):
            if backend.process.poll() is not None or time.monotonic() > moment:
                self._leaving.remove((moment, backend))
                backend.end()

    def as_dicts(self) -> list[dict[str, Any]]:
        """The events, for the results."""
        return [asdict(event) for event in self.events]


ACTIONS: dict[str, Callable[[Churn], str]] = {
    "weights": Churn.change_weights,
    "add backend": Churn.add_backend,
    "remove backend": Churn.remove_backend,
    "color": Churn.drop_color,
    "workers": Churn.change_workers,
    "wrong configuration": Churn.refuse,
    "SIGHUP": Churn.hang_up,
    "kill backend": Churn.kill_backend,
    "revive backend": Churn.revive_backend,
    "kill worker": Churn.kill_worker,
    "kill controller": Churn.kill_controller,
}
