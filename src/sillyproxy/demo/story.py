"""
The five steps of a release, as they are played on this machine.

Each step changes something (backends are started, proxies replaced) and then counts. The
clients go on asking during the change too: those requests are counted apart, because old
and new answer side by side then, but each of their failures counts as any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sillyproxy.demo.load import Load, Tally, ask
from sillyproxy.demo.processes import Child, DemoFailed, Processes

WAITING: Final = "waiting"
CHANGING: Final = "changing"
COUNTING: Final = "counting"
DONE: Final = "done"

COUNT_TIMEOUT_S: Final = 20.0
GLANCE_S: Final = 0.02

# The split is exact in every proxy to within a few requests; and of those counted first and
# last, a few were sent by clients in another order than they arrived in.
MARGIN_REQUESTS: Final = 15


@dataclass(slots=True)
class Step:
    """One step: what is asked for, and what was seen."""

    number: int
    title: str
    says: str
    swarm: str  # what one would type on a Docker Swarm
    asked: dict[str, float]  # share of each color, 0 to 1
    replicas: frozenset[str]
    wanted: int  # requests to count
    phase: str = WAITING
    doing: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    direct: list[str] = field(default_factory=list)  # what a backend answers without a proxy
    change: Tally = field(default_factory=Tally)
    tally: Tally = field(default_factory=Tally)

    @property
    def failed(self) -> int:
        """Failed requests of the whole step."""
        return self.change.failed + self.tally.failed

    @property
    def is_counted(self) -> bool:
        """Whether enough was asked."""
        return self.tally.requests >= self.wanted

    @property
    def is_settled(self) -> bool:
        """Whether all that was asked has come to an end."""
        return self.change.is_settled and self.tally.is_settled

    def problems(self) -> list[str]:
        """Return what was not as it should be."""
        tally, found = self.tally, []
        for seen, when in ((self.change, "during the change"), (tally, "after it")):
            if seen.failed:
                reason, _ = seen.failures.most_common(1)[0]
                found.append(
                    f"{seen.failed:,} of {seen.requests:,} requests {when} failed, first of all {reason}"
                )
        for color in sorted(self.asked | tally.colors):
            due = tally.colors.total() * self.asked.get(color, 0.0)
            if abs(tally.colors[color] - due) > (MARGIN_REQUESTS if len(self.asked) > 1 else 0):
                found.append(f"{color} answered {tally.colors[color]:,} requests in place of {due:,.0f}")
        hosts = {host for _, host in tally.replicas}
        if hosts != self.replicas:
            found.append(f"answers came from {_names(hosts)} and not from {_names(self.replicas)}")
        return [f"step {self.number}, {self.title}: {problem}" for problem in found]


def _names(hosts: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(hosts)) or "nobody"


def _replicas(version: str, count: int) -> frozenset[str]:
    return frozenset(f"{version}-{number}" for number in range(1, count + 1))


def _steps() -> tuple[Step, ...]:
    v1, v2 = _replicas("v1", 4), _replicas("v2", 4)
    return (
        Step(
            1,
            "v1 alone",
            "one replica of v1, one proxy: it tells the backend its color",
            "docker service create --name proxy -e BLUE=http://myapp-v1:8080 …",
            {"blue": 1.0},
            _replicas("v1", 1),
            300,
        ),
        Step(
            2,
            "scale to four",
            "four replicas of v1, two proxies: every proxy reaches every replica",
            "docker service scale myapp-v1=4 proxy=2",
            {"blue": 1.0},
            v1,
            500,
        ),
        Step(
            3,
            "canary 20 %",
            "v2 answers in HTML; one request in five is for it",
            "docker service update --env-add GREEN=http://myapp-v2:8080/"
            " --env-add GREEN_WEIGHT=1 --env-add BLUE_WEIGHT=4 proxy",
            {"blue": 0.8, "green": 0.2},
            v1 | _replicas("v2", 1),
            1000,
        ),
        Step(
            4,
            "all green",
            "four replicas of v2 as well, and all requests are for them",
            "docker service update --env-rm GREEN_WEIGHT --env-rm BLUE_WEIGHT --env-rm BLUE proxy",
            {"green": 1.0},
            v2,
            500,
        ),
        Step(
            5,
            "rollback",
            "HTML costs too much: back to v1, which never went away",
            "docker service update --env-rm GREEN --env-add BLUE=http://myapp-v1:8080 proxy",
            {"blue": 1.0},
            v1,
            500,
        ),
    )


class Story:
    """The story as far as it is told. Views read it; `play` writes it."""

    def __init__(self, processes: Processes) -> None:
        self.steps = _steps()
        self.load = Load()
        self.proxies: list[Child] = []
        self.backends: dict[str, list[Child]] = {"v1": [], "v2": []}
        self.step = self.steps[0]
        self.started = time.monotonic()
        self.seconds = 0.0
        self._processes = processes

    @property
    def requests(self) -> int:
        """All requests so far."""
        return sum(step.change.requests + step.tally.requests for step in self.steps)

    @property
    def failed(self) -> int:
        """All failures so far."""
        return sum(step.failed for step in self.steps)

    def problems(self) -> list[str]:
        """Return what was not as it should be, in all steps that were played."""
        return [problem for step in self.steps if step.phase == DONE for problem in step.problems()]

    async def play(self, step_done: Callable[[Step], None]) -> None:
        """Play it from the first step to the last. Raise DemoFailed if it cannot go on."""
        for step, change in zip(
            self.steps,
            (self._v1_alone, self._scale, self._canary, self._all_green, self._roll_back),
            strict=True,
        ):
            self.step = step
            step.phase = CHANGING
            await change()
            self.load.tally = step.tally
            step.phase = COUNTING
            step.doing = "counting"
            await self._wait(step, lambda: self.step.is_counted)
            if step is self.steps[-1]:
                self.load.finish()
            else:
                self.load.tally = self.steps[step.number].change
            await self._wait(step, lambda: self.step.is_settled)
            step.phase = DONE
            self.seconds = time.monotonic() - self.started
            step_done(step)

    # What each step changes.

    async def _v1_alone(self) -> None:
        await self._scale_backends("v1", 1)
        await self._ask_direct("v1")
        await self._roll_out({"BLUE": self._urls("v1")}, proxies=1)
        self.load.start()

    async def _scale(self) -> None:
        await self._scale_backends("v1", 4)
        await self._roll_out({"BLUE": self._urls("v1")}, proxies=2)

    async def _canary(self) -> None:
        await self._scale_backends("v2", 1)
        await self._ask_direct("v2")
        await self._roll_out(
            {
                "BLUE": self._urls("v1"),
                "GREEN": self._urls("v2"),
                "BLUE_WEIGHT": "4",
                "GREEN_WEIGHT": "1",
            },
            proxies=2,
        )

    async def _all_green(self) -> None:
        await self._scale_backends("v2", 4)
        await self._roll_out({"GREEN": self._urls("v2")}, proxies=2)

    async def _roll_back(self) -> None:
        await self._roll_out({"BLUE": self._urls("v1")}, proxies=2)

    # How.

    async def _scale_backends(self, version: str, count: int) -> None:
        running = self.backends[version]
        names = [f"{version}-{number}" for number in range(len(running) + 1, count + 1)]
        self.step.doing = f"starting {' '.join(names)}"
        # In order, though they start side by side.
        running += await asyncio.gather(
            *(self._processes.start_backend(name, as_html=version == "v2") for name in names)
        )

    async def _ask_direct(self, version: str) -> None:
        backend = self.backends[version][0]
        try:
            _, page = await ask(backend.address)
        except (OSError, EOFError) as error:
            raise DemoFailed(f"{backend.name} on {backend.address} does not answer: {error}") from None
        self.step.direct.append(page.strip())

    def _urls(self, version: str) -> str:
        return ",".join(f"http://{backend.address}" for backend in self.backends[version])

    async def _roll_out(self, environment: dict[str, str], proxies: int) -> None:
        """Put proxies with this environment in place of those that there are, one after the other."""
        step = self.step
        step.environment = environment
        leaving = self.proxies
        self.proxies = list(leaving)
        step.doing = "starting a new proxy" if proxies == 1 else f"starting {proxies} new proxies"
        names = [f"proxy {slot + 1} of step {step.number}" for slot in range(proxies)]
        started = await asyncio.gather(*(self._processes.start_proxy(name, environment) for name in names))
        for slot, new in enumerate(started):
            self.proxies[slot : slot + 1] = [new]
            self.load.addresses = [proxy.address for proxy in self.proxies]
            if slot < len(leaving):
                leaving[slot].leave()
        step.doing = "the old ones drain" if leaving else step.doing
        for old in leaving:
            await self._processes.replaced(old)

    async def _wait(self, step: Step, is_true: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(COUNT_TIMEOUT_S):
                while not is_true():
                    await asyncio.sleep(GLANCE_S)
        except TimeoutError:
            raise DemoFailed(
                f"step {step.number}, {step.title}: {step.tally.requests:,} of {step.wanted:,} requests"
                f" were answered within {COUNT_TIMEOUT_S:.0f} s"
            ) from None
