"""
The README's walkthrough on a real Docker Swarm, under constant load.

The story is played once, and every test asks one thing of what was seen. A step is sampled
twice: while it is carried out, when old and new tasks answer side by side, and once it has
settled, when the shares and replicas have to be right.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.swarm.conftest import TABLE, Images
from tests.swarm.engine import (
    NETWORK,
    PREFIX,
    clean,
    containers,
    create_service,
    curl,
    docker,
    published,
    read_load,
    wait_until,
)

pytestmark = [pytest.mark.swarm, pytest.mark.slow]

PROXY, V1, V2, LOAD = (f"{PREFIX}-{name}" for name in ("proxy", "myapp-v1", "myapp-v2", "load"))
SAMPLE = 600  # requests, at least, in which shares are counted
SETTLE_S = 30.0  # by when names, looked up every second, lead to every replica


@dataclass
class Sample:
    """What the load client counted; `seen` is proxy, color, replica: requests."""

    requests: int = 0
    failed: int = 0
    posts: int = 0
    connections: int = 0
    closed_idle: int = 0
    slowest_s: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    seen: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def merge(self, more: Sample) -> None:
        """Add what another sample has counted."""
        self.add(vars(more))

    def add(self, more: dict[str, Any]) -> None:
        """Add what came after."""
        for name in ("requests", "failed", "posts", "connections", "closed_idle", "failures"):
            setattr(self, name, getattr(self, name) + more[name])
        self.slowest_s = max(self.slowest_s, more["slowest_s"])
        self.refused.update(more["refused"])
        self.kinds.update(more["kinds"])
        for proxy, colors in more["seen"].items():
            for color, replicas in colors.items():
                mine = self.seen.setdefault(proxy, {}).setdefault(color, {})
                for replica, number in replicas.items():
                    mine[replica] = mine.get(replica, 0) + number

    def replicas(self, color: str) -> dict[str, set[str]]:
        """Return which replicas of a color were reached through each proxy."""
        return {proxy: set(colors.get(color, ())) for proxy, colors in self.seen.items()}

    def by_color(self) -> Counter[str]:
        """Return how many requests each color answered."""
        colors: Counter[str] = Counter()
        for kind, number in self.kinds.items():
            colors[kind.split()[0]] += number
        return colors

    def row(self, name: str) -> str:
        """Return a line of the table."""
        colors = self.by_color()
        shares = " ".join(
            f"{color} {number / max(1, colors.total()):.1%}" for color, number in sorted(colors.items())
        )
        reached = Counter(
            replica for proxy in self.seen.values() for each in proxy.values() for replica in each
        )
        return (
            f"{name:28} {self.requests:8} {self.failed:6} {self.posts:6} {self.connections:6} "
            f"{self.slowest_s:7.2f}  {shares:26} {len(reached)} through {len(self.seen)}"
        )


HEADER = f"{'step':28} requests failed  posts  conns slowest  {'shares':26} replicas through proxies"


@dataclass
class Step:
    """One step: what was seen while it was carried out and once settled, and what curl showed at its end."""

    name: str
    during: Sample = field(default_factory=Sample)
    settled: Sample = field(default_factory=Sample)
    curl: dict[str, tuple[str, str]] = field(default_factory=dict)


class Story:
    """The steps so far, by name."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.after_mistake = ""

    @contextlib.contextmanager
    def step(
        self, name: str, load: bool = True, reach: dict[str, int] | None = None, **services: int
    ) -> Iterator[Step]:
        """
        Carry out a step and wait until each service has settled at its number of replicas.

        Containers that run are not yet known to everybody: settled is also that each proxy reaches
        `reach`, replicas by color, or has not within SETTLE_S, which is for the tests to judge.
        """
        step = self.steps[name] = Step(name)
        yield step
        for service, replicas in services.items():
            service = f"{PREFIX}-{service.replace('_', '-')}"
            wait_until(lambda: len(containers(service)) == replicas, f"{replicas} of {service}")  # noqa: B023
            step.curl[service] = curl(published(containers(service)[0]))
        if load:
            step.during.add(read_load())
            give_up_at = time.monotonic() + SETTLE_S
            while reach and time.monotonic() < give_up_at:
                time.sleep(1)
                lately = Sample()
                lately.add(read_load())
                step.during.merge(lately)
                if all(
                    [len(each) for each in lately.replicas(color).values()] == [replicas] * services["proxy"]
                    for color, replicas in reach.items()
                ):
                    break

            def enough() -> bool:
                step.settled.add(read_load())
                return step.settled.requests >= SAMPLE

            wait_until(enough, f"{SAMPLE} requests")

    def table(self) -> list[str]:
        """Return the story in figures."""
        lines = ["", HEADER]
        for step in self.steps.values():
            if step.during.requests:
                lines += [step.during.row(f"{step.name}, rolling"), step.settled.row(f"{step.name}, settled")]
        failures = [
            text for step in self.steps.values() for text in step.during.failures + step.settled.failures
        ]
        refused = [
            f"{step.name}: {number} times {text}"
            for step in self.steps.values()
            for text, number in (step.during.refused + step.settled.refused).items()
        ]
        lines += [f"  failed: {text}" for text in failures[:30]]
        return lines + [f"  connecting failed in {text}" for text in refused]


@pytest.fixture(scope="module")
def story(images: Images, request: pytest.FixtureRequest) -> Story:
    """The seed's commands, one after the other, but for names, and for what a kernel without IPVS needs."""
    story = Story()
    try:
        play(story, images)
    finally:
        request.config.stash.setdefault(TABLE, []).extend(story.table())
        clean()
    return story


def play(story: Story, images: Images) -> None:
    """Play it."""
    publish = ("--publish", "mode=host,target=8080")
    safely = (
        "--update-order start-first --rollback-order start-first --update-failure-action rollback "
        "--stop-grace-period 20s --env BLUE=http://myapp-v1:8080"
    )
    docker("network", "create", "--driver", "overlay", NETWORK)

    with story.step("v1", load=False, myapp_v1=1):
        create_service("myapp-v1", images.myapp, *publish)
    with story.step("proxy", load=False, proxy=1):
        create_service("proxy", images.proxy, *publish, *safely.split())

    create_service("load", images.load, "--stop-signal", "SIGKILL", after=("tasks.proxy", "8080"))
    wait_until(lambda: containers(LOAD) and read_load()["requests"], "the first request")

    with story.step("blue", proxy=1):
        pass
    with story.step("scale", reach={"blue": 4}, myapp_v1=4, proxy=2):
        docker("service", "scale", f"{V1}=4", f"{PROXY}=2")
    with story.step("v2", myapp_v2=1):
        create_service("myapp-v2", images.myapp, *publish, "--env", "V2=1")
    with story.step("canary", reach={"blue": 4, "green": 1}, proxy=2):
        update("--env-add GREEN=http://myapp-v2:8080/ --env-add GREEN_WEIGHT=1 --env-add BLUE_WEIGHT=4")
    with story.step("scale green", myapp_v2=4):
        docker("service", "scale", f"{V2}=4")
    with story.step("all green", reach={"green": 4}, proxy=2):
        update("--env-rm GREEN_WEIGHT --env-rm BLUE_WEIGHT --env-rm BLUE")
    with story.step("rollback", reach={"blue": 4}, proxy=2):
        update("--env-rm GREEN --env-add BLUE=http://myapp-v1:8080")
    with story.step("scale in", myapp_v1=2, proxy=1):
        docker("service", "scale", f"{V1}=2", f"{PROXY}=1")
    with story.step("mistake", proxy=1):  # the URL's scheme is forgotten: the command fails
        update("--env-add GREEN=myapp-v2", check=False)
        state = "{{.UpdateStatus.State}} {{.Spec.TaskTemplate.ContainerSpec.Env}}"
        story.after_mistake = docker("service", "inspect", "--format", state, PROXY)


def update(options: str, check: bool = True) -> None:
    """Run `docker service update OPTIONS proxy`, without its progress and a look at a registry."""
    docker("service", "update", "--quiet", "--no-resolve-image", *options.split(), PROXY, check=check)


LOADED = ["blue", "scale", "v2", "canary", "scale green", "all green", "rollback", "scale in", "mistake"]


@pytest.mark.parametrize("name", LOADED)
def test_no_request_fails(story: Story, name: str) -> None:
    """
    Whatever is rolled out, scaled or rolled back: every client gets its answer, and
    none has to try a second address.
    """
    step = story.steps[name]

    assert step.during.failures + step.settled.failures == []
    assert step.during.refused + step.settled.refused == {}


def test_a_direct_call_shows_no_color(story: Story) -> None:
    """
    `curl` to the first version answers `unknown HOST`, HOST being the container.
    """
    kind, answer = story.steps["v1"].curl[V1]

    assert kind == "text/plain"
    assert re.fullmatch(r"unknown [0-9a-f]{12}\n", answer)


def test_the_proxy_colors_the_request(story: Story) -> None:
    """
    `curl` to the proxy answers `blue HOST`, of the same container.
    """
    host = story.steps["v1"].curl[V1][1].split()[1]

    assert story.steps["proxy"].curl[PROXY] == ("text/plain", f"blue {host}\n")


def test_the_new_version_answers_html(story: Story) -> None:
    """
    `curl` to the second version answers `<h1>HOST (unknown)</h1>` before any client is sent there.
    """
    kind, answer = story.steps["v2"].curl[V2]

    assert kind == "text/html"
    assert re.fullmatch(r"<h1>[0-9a-f]{12} \(unknown\)</h1>", answer)


@pytest.mark.parametrize(
    ("name", "color", "replicas"),
    [
        ("scale", "blue", 4),
        ("canary", "blue", 4),
        ("canary", "green", 1),
        ("all green", "green", 4),
        ("rollback", "blue", 4),
    ],
)
def test_both_proxies_reach_every_replica(story: Story, name: str, color: str, replicas: int) -> None:
    """
    Both proxies send to all the replicas there are, the same ones.
    """
    reached = story.steps[name].settled.replicas(color)

    assert len(reached) == 2
    assert len(set.union(*reached.values())) == replicas
    assert all(len(each) == replicas for each in reached.values())


def test_the_canary_gets_its_fifth(story: Story) -> None:
    """
    Weights 1 and 4 are 20 % and 80 %: not only likely, but within a request or two of each worker's count.
    """
    counted = story.steps["canary"].settled.by_color()

    assert counted.total() >= SAMPLE
    assert counted["green"] / counted.total() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("scale", {"blue plain"}),
        ("v2", {"blue plain"}),
        ("canary", {"blue plain", "green html"}),
        ("all green", {"green html"}),
        ("rollback", {"blue plain"}),
        ("mistake", {"blue plain"}),
    ],
)
def test_each_step_shows_the_colors_it_should(story: Story, name: str, kinds: set[str]) -> None:
    """
    Plain text from blue, HTML from green, each exactly when it has a share.
    """
    assert set(story.steps[name].settled.kinds) == kinds


def test_a_mistake_is_taken_back(story: Story) -> None:
    """
    A proxy that refuses its configuration never becomes healthy, and the Swarm restores the old one.
    """
    assert story.after_mistake == "rollback_completed [BLUE=http://myapp-v1:8080]"
