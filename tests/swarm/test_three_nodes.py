"""
What an operator does, and what can die, on a Swarm of three nodes under constant load.

The story is played once with several replicas of everything and once with one of each; every test
asks one thing of what was seen. Each request belongs to the step in which it ended; a step in which
something may fail begins and ends with nothing of another's under way.

Steps are of three kinds. In a planned one nothing fails, and no client has to try a second address.
GAPS names the planned ones in which a Swarm leaves nobody to connect to, whatever the proxy does:
there too nothing that was accepted fails. In the others something dies, and what fails is
explained, request by request, by the proxies' logs: it was under way on what died.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from tests.swarm.conftest import TABLE, Images, missing
from tests.swarm.engine import (
    NETWORK,
    PREFIX,
    Unavailable,
    containers,
    create_service,
    read_load,
    wait_until,
)
from tests.swarm.nodes import Node, nodes

pytestmark = [pytest.mark.swarm, pytest.mark.slow]

BLUE, GREEN, PROXY, LOAD = (f"{PREFIX}-{name}" for name in ("blue", "green", "proxy", "load"))
SAMPLE = 300  # requests, at least, in a step
PAUSE_S = 8.0
CUT_OFF_S = 8.0  # before the node's processes die as well

SETTINGS = """
    SILLYPROXY_LOG_FORMAT=json SILLYPROXY_RETRY=idempotent SILLYPROXY_RESPONSE_TIMEOUT=5s
    BLUE_HEALTH=/healthz BLUE_HEALTH_INTERVAL=1s BLUE_HEALTH_FALL=2
    GREEN_HEALTH=/healthz GREEN_HEALTH_INTERVAL=1s GREEN_HEALTH_FALL=2
"""
# Swarm's defaults are stop-first, pause and 10 s: see stack.yaml for what is wrong with them.
ROLLING = """
    --update-order start-first --update-monitor 1s --update-failure-action rollback
    --rollback-order start-first --rollback-monitor 1s --stop-grace-period 20s
"""


@dataclass(frozen=True)
class Size:
    """How many there are of everything, and where they may run. The manager, with the load, never dies."""

    name: str
    proxies: int
    blues: int
    greens: int
    places: dict[str, str]
    mistakes: tuple[str, ...]


MISTAKES = {
    "wrong port": "GREEN=http://myapp-v3:8080",
    "wrong scheme": "GREEN=htp://green:8080",
    "no weight": "BLUE_WEIGHT=0 --env-add GREEN_WEIGHT=0",
}

# Without a limit a start-first update may leave both proxies on one node.
SEVERAL = Size("several", 2, 4, 2, {PROXY: "--replicas-max-per-node 1"}, tuple(MISTAKES))
# The node that is cut off has the only blue, and neither the only proxy nor the only green.
ON_MANAGER, ON_WORKER = "--constraint node.role==manager", "--constraint node.role==worker"
ONE = Size("one", 1, 1, 1, {PROXY: ON_MANAGER, GREEN: ON_MANAGER, BLUE: ON_WORKER}, ("wrong port",))

# With one proxy, stop-first is what it says: between the old one's end and the new one's start there is none.
GAPS = {("one", "update, stop-first")}
PLANNED = [
    "update, start-first",
    "update, stop-first",
    "backends updated",
    "scale up",
    "scale down",
    "canary",
    "all green",
    "rollback",
    "node returns",
]
UNPLANNED = ["replica killed", "replica paused", "node cut off"]
OUTAGE = "all replicas killed"
KNOWN_S = 3.0  # from when a task runs until proxies send to it: it enters the DNS, which they ask each second
# Seconds from the death after which nothing may begin to fail. An endpoint is asked each second; it is
# unhealthy after two failures of a second each. A kept connection to a proxy that vanished is the client's to
# give up; it does so with its first request.
NOTICED_S = {"replica killed": 1.0, "replica paused": 6.0, "node cut off": 6.0}


@dataclass(frozen=True)
class Task:
    """One task of a service, as the manager knows it."""

    id: str
    service: str
    slot: int
    node: str
    wanted: str
    state: str
    container: str
    process: int
    address: str
    environment: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.service.removeprefix(PREFIX + '-')}.{self.slot} on {self.node}"


class Mistake(NamedTuple):
    """
    What became of a mistaken update: how it ended, the environment, and the proxies that run.

    `ended` tells of each that ran before and does not any more how it ended.
    """

    state: str
    environment_before: str
    environment_after: str
    proxies_before: list[Task]
    proxies_after: list[Task]
    ended: dict[str, str]


@dataclass
class Step:
    """One step: what the load client counted, and what died in it."""

    name: str
    begun: float = field(default_factory=time.time)
    took_s: float = 0.0
    requests: int = 0
    failed: int = 0
    posts: int = 0
    connections: int = 0
    slowest_s: float = 0.0
    waited_s: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    proxies: set[str] = field(default_factory=set)
    died: dict[str, str] = field(default_factory=dict)  # address: who it was
    died_at: float = 0.0
    nobody: bool = False  # was there to serve, from the death until the services had settled
    explained: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)

    def add(self, more: dict[str, Any]) -> None:
        """Add what came after."""
        for name in ("requests", "failed", "posts", "connections", "failures"):
            setattr(self, name, getattr(self, name) + more[name])
        self.slowest_s = max(self.slowest_s, more["slowest_s"])
        self.waited_s = max(self.waited_s, more["waited_s"])
        self.refused.update(more["refused"])
        self.kinds.update(more["kinds"])
        self.proxies.update(more["seen"])

    def die(self, *tasks: Task) -> None:
        """Note who dies now."""
        self.died_at = self.died_at or time.time()
        self.died.update({task.address: str(task) for task in tasks})

    def explain(self, log: dict[int, dict[str, Any]]) -> None:
        """Tell for each failure whom it was under way on; `log` is the proxies', by the requests' numbers."""
        for failure in self.failures:
            line = log.get(failure["number"], {})
            endpoint = str(line.get("endpoint") or "-").rpartition(":")[0]
            after_s = failure["begun"] - self.died_at
            text = (
                f"{failure['method']} {failure['number']} begun {after_s:+.2f} s, "
                f"ended {failure['ended'] - self.died_at:+.2f} s after the death: "
                f"proxy {self.died.get(failure['proxy'], failure['proxy'])}, "
                f"replica {self.died.get(endpoint, endpoint)}, "
                f"{line.get('status', 'not logged')} {line.get('error', '')}, client saw {failure['what']}"
            )
            nobody = self.nobody and failure["ended"] >= self.died_at and after_s <= self.took_s + KNOWN_S
            known = failure["proxy"] in self.died or endpoint in self.died or nobody
            (self.explained if known and self.died_at else self.unexplained).append(text)

    def row(self, size: Size) -> str:
        """Return a line of the table."""
        gap = "gap" if (size.name, self.name) in GAPS else "dies" if self.name in (*UNPLANNED, OUTAGE) else ""
        colors: Counter[str] = Counter()
        for kind, number in self.kinds.items():
            colors[kind.split()[0]] += number
        shares = " ".join(
            f"{color} {number / max(1, colors.total()):.0%}" for color, number in sorted(colors.items())
        )
        return (
            f"{size.name:8} {self.name:20} {gap:5} {self.took_s:4.0f} {self.requests:8} {self.failed:6} "
            f"{self.posts:6} {self.connections:6} {self.refused.total():7} {self.waited_s:6.1f} "
            f"{self.slowest_s:7.2f}  {shares:20} {len(self.proxies)}"
        )


HEADER = (
    f"{'size':8} {'step':20} {'':5} took requests failed  posts  conns refused waited slowest  "
    f"{'shares':20} proxies"
)


class Story:
    """The steps of one size, by name."""

    def __init__(self, size: Size, swarm: list[Node], images: Images) -> None:
        self.size, self.swarm, self.images = size, swarm, images
        self.manager = swarm[0]
        self.lost: set[str] = set()  # nodes
        self.replicas: dict[str, int] = {}
        self.steps: dict[str, Step] = {}
        self.mistakes: dict[str, Mistake] = {}
        self.outlived = False  # did the proxies stay as all their backends died?

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Run `docker ARGUMENTS` on the manager."""
        return self.manager.docker(*arguments, check=check)

    def read_load(self) -> dict[str, Any]:
        """Return what the load client counted since."""
        return read_load(self.manager.docker)

    def create(self, service: str, image: str, replicas: int, options: str, *after: str) -> None:
        """Create a service; whoever needs it waits until it has settled."""
        create_service(
            service.removeprefix(f"{PREFIX}-"),
            image,
            *("--detach", "--replicas", str(replicas), *options.split()),
            *self.size.places.get(service, "").split(),
            after=after,
            through=self.manager.docker,
        )
        self.replicas[service] = replicas

    def scale(self, **replicas: int) -> None:
        """Run `docker service scale`."""
        wanted = {f"{PREFIX}-{name}": number for name, number in replicas.items()}
        self.docker(
            "service", "scale", "--detach", *(f"{service}={number}" for service, number in wanted.items())
        )
        self.replicas.update(wanted)

    def update(self, service: str, options: str) -> str:
        """Run `docker service update OPTIONS SERVICE`; return the state in which it ended."""
        self.docker(
            *("service", "update", "--quiet", "--detach", "--no-resolve-image", *options.split(), service)
        )
        return self.wait_updated(service)

    def rollback(self, service: str) -> str:
        """Run `docker service rollback SERVICE`; return the state in which it ended."""
        self.docker("service", "rollback", "--quiet", "--detach", service)
        return self.wait_updated(service)

    def wait_updated(self, service: str) -> str:
        """Wait until the Swarm is done with an update, and has watched the new tasks; return the state."""
        state = ("service", "inspect", "--format", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}")

        def done() -> str:
            now = self.docker(*state, service)
            return now if now in ("completed", "rollback_completed", "paused", "rollback_paused") else ""

        return wait_until(done, f"the update of {service}")

    def tasks(self, service: str) -> list[Task]:
        """Return a service's tasks, old ones among them."""
        names = {
            line.split()[0]: line.split()[1]
            for line in self.docker("node", "ls", "--format", "{{.ID}} {{.Hostname}}").splitlines()
        }
        ids = self.docker("service", "ps", "--quiet", "--no-trunc", service).split()
        found = json.loads(self.docker("inspect", *ids, check=False) or "[]")
        return [
            Task(
                id=task["ID"],
                service=service,
                slot=task.get("Slot", 0),
                node=names.get(task.get("NodeID", ""), "-"),
                wanted=task["DesiredState"],
                state=task["Status"]["State"],
                container=task["Status"].get("ContainerStatus", {}).get("ContainerID", ""),
                process=task["Status"].get("ContainerStatus", {}).get("PID", 0),
                address=next(
                    (
                        address.partition("/")[0]
                        for network in task.get("NetworksAttachments") or []
                        for address in network.get("Addresses") or []
                    ),
                    "",
                ),
                environment=tuple(task["Spec"]["ContainerSpec"].get("Env") or ()),
            )
            for task in found
        ]

    def running(self, service: str) -> list[Task]:
        """Return the tasks that run, on nodes that are there."""
        return [
            task
            for task in self.tasks(service)
            if task.wanted == task.state == "running" and task.node not in self.lost
        ]

    def settled(self) -> bool:
        """Has every service its replicas, and has every other task ended?"""
        there = [node for node in self.swarm if node.name not in self.lost]
        return all(
            len(self.running(service)) == replicas
            and sum(len(containers(service, through=node.docker)) for node in there) == replicas
            for service, replicas in self.replicas.items()
        )

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """
        Carry out a step and wait until all services have settled.

        Where something may fail, what was under way before belongs to the step before, and all that is
        under way at the end to this one.
        """
        smooth = name not in (*UNPLANNED, OUTAGE) and (self.size.name, name) not in GAPS
        if self.steps and not smooth:
            self.count(list(self.steps.values())[-1], time.time())
        step = self.steps[name] = Step(name)
        yield step
        wait_until(self.settled, f"{self.replicas} after {name!r}")
        step.took_s = time.time() - step.begun
        self.count(step, step.begun if smooth else time.time())
        if step.failures:
            step.explain(self.proxy_log(step.begun))

    def count(self, step: Step, until: float) -> None:
        """Add what the load client counts until it is enough, and what was begun before has ended."""

        def enough() -> bool:
            report = self.read_load()
            step.add(report)
            return step.requests >= SAMPLE and report["oldest"] > until

        wait_until(enough, f"{SAMPLE} requests")

    def kill(self, *tasks: Task) -> None:
        """Kill the processes of tasks, and wait until the Swarm has noticed."""
        for task in tasks:
            os.kill(task.process, signal.SIGKILL)
        ended = {task.id for task in tasks}
        services = {task.service for task in tasks}
        wait_until(
            lambda: not ended & {task.id for service in services for task in self.running(service)},
            "the Swarm to notice",
        )

    def proxy_log(self, since: float) -> dict[int, dict[str, Any]]:
        """Return the lines of all proxies that can be asked, by the number of the request."""
        lines: dict[int, dict[str, Any]] = {}
        for node in self.swarm:
            if node.name in self.lost:
                continue
            for container in containers(PROXY, "--all", through=node.docker):
                log = node.docker("logs", "--since", f"{since - 15:.3f}", container)
                for line in log.splitlines():
                    if match := re.search(r'"target":"[^"]*\?(\d+)"', line):
                        lines[int(match[1])] = json.loads(line)
        return lines

    def table(self) -> list[str]:
        """Return the story in figures."""
        lines = [step.row(self.size) for step in self.steps.values()]
        for step in self.steps.values():
            lines += [f"  {self.size.name}, {step.name}: explained: {text}" for text in step.explained[:5]]
            if len(step.explained) > 5:
                lines.append(
                    f"  {self.size.name}, {step.name}: and {len(step.explained) - 5} more of the kind"
                )
            lines += [
                f"  {self.size.name}, {step.name}: UNEXPLAINED: {text}" for text in step.unexplained[:20]
            ]
            lines += [
                f"  {self.size.name}, {step.name}: refused: {number} x {text}"
                for text, number in step.refused.most_common(5)
            ]
        return lines


@pytest.fixture(scope="module")
def swarm(images: Images) -> Iterator[list[Node]]:
    """The three nodes."""
    try:
        with nodes(3, [images.proxy, images.myapp, images.load]) as swarm:
            yield swarm
    except Unavailable as reason:
        missing(str(reason))


@pytest.fixture(scope="module", params=[SEVERAL, ONE], ids=lambda size: size.name)
def story(request: pytest.FixtureRequest, swarm: list[Node], images: Images) -> Iterator[Story]:
    """The story in one size."""
    story = Story(request.param, swarm, images)
    try:
        play(story)
        yield story
    finally:
        table = request.config.stash.setdefault(TABLE, [])
        if HEADER not in table:
            table += ["", HEADER]
        table += story.table()
        remove(story)


def remove(story: Story) -> None:
    """Remove the services and the network, so that the next size begins with nothing."""
    for service in (LOAD, PROXY, BLUE, GREEN):
        story.docker("service", "rm", service, check=False)
    wait_until(
        lambda: (
            (
                story.docker("network", "rm", NETWORK, check=False),
                story.docker("network", "ls", "-qf", f"name={NETWORK}"),
            )[1]
            == ""
        ),
        "the network to go",
    )


def play(story: Story) -> None:
    """Play it."""
    size, images = story.size, story.images
    story.docker("network", "create", "--driver", "overlay", NETWORK)
    story.create(BLUE, images.myapp, size.blues, ROLLING)
    story.create(GREEN, images.myapp, size.greens, f"{ROLLING} --env V2=1")
    settings = " ".join(f"--env {setting}" for setting in SETTINGS.split())
    # The image allows half a minute for the backends to come; here they are there.
    started = "--health-start-period 5s --env BLUE=http://blue:8080"
    story.create(PROXY, images.proxy, size.proxies, f"{ROLLING} {settings} {started}")
    story.create(
        LOAD,
        images.load,
        1,
        "--constraint node.role==manager --stop-signal SIGKILL",
        *("tasks.proxy", "8080"),
    )
    wait_until(lambda: story.settled() and story.read_load()["requests"], "the first request")

    with story.step("update, start-first"):
        story.update(PROXY, "--env-add STEP=1")
    with story.step("update, stop-first"):
        story.update(PROXY, "--update-order stop-first --env-add STEP=2")
    with story.step("backends updated"):
        story.update(BLUE, "--update-parallelism 2 --env-add STEP=1")
    with story.step("scale up"):
        story.scale(proxy=size.proxies + 1, blue=size.blues + 2, green=size.greens + 1)
    with story.step("scale down"):
        story.scale(proxy=size.proxies, blue=size.blues, green=size.greens)
    with story.step("canary"):
        canary = "--env-add GREEN=http://green:8080 --env-add BLUE_WEIGHT=4"
        story.update(PROXY, f"--update-order start-first {canary}")
    with story.step("all green"):
        story.update(PROXY, "--env-rm BLUE --env-rm BLUE_WEIGHT")
    with story.step("rollback"):
        story.rollback(PROXY)

    with story.step("replica killed") as step:
        victim = story.running(BLUE)[0]
        step.die(victim)
        story.kill(victim)
    with story.step("replica paused") as step:
        victim = story.running(BLUE)[0]
        step.die(victim)
        os.kill(victim.process, signal.SIGSTOP)
        time.sleep(PAUSE_S)
        os.kill(victim.process, signal.SIGCONT)
    with story.step("node cut off") as step:
        tasks = [task for service in (PROXY, BLUE, GREEN) for task in story.running(service)]
        # With several: the one proxy of the two; there is a blue on each node. With one: the only blue.
        victim = next(task for task in tasks if task.node != story.manager.name)
        node = next(node for node in story.swarm if node.name == victim.node)
        step.die(*(task for task in tasks if task.node == node.name))
        story.lost.add(node.name)
        node.cut_off()
        time.sleep(CUT_OFF_S)
        node.kill()
    with story.step("node returns"):
        node.revive()
        story.lost.clear()
        ready = ("node", "inspect", "--format", "{{.Status.State}}", node.name)
        wait_until(lambda: story.docker(*ready) == "ready", f"{node.name} to be ready")

    for name in size.mistakes:
        make_mistake(story, name)
    before = {task.container for task in story.running(PROXY)}
    with story.step(OUTAGE) as step:
        everybody = story.running(BLUE) + story.running(GREEN)
        step.die(*everybody)
        story.kill(*everybody)
        step.nobody = True
    story.outlived = before == {task.container for task in story.running(PROXY)}


def make_mistake(story: Story, name: str) -> None:
    """Update the proxy with a mistake, and note what the Swarm makes of it."""
    environment = ("service", "inspect", "--format", "{{json .Spec.TaskTemplate.ContainerSpec.Env}}", PROXY)
    before = story.docker(*environment), story.running(PROXY)
    with story.step(name):
        state = story.update(PROXY, f"--env-add {MISTAKES[name]}")
    after = story.docker(*environment), story.running(PROXY)
    left = {task.container for task in before[1]} - {task.container for task in after[1]}
    ended = {task.container: task.state for task in story.tasks(PROXY) if task.container in left}
    story.mistakes[name] = Mistake(state, before[0], after[0], before[1], after[1], ended)


@pytest.mark.parametrize("name", PLANNED)
def test_what_is_planned_loses_nothing(story: Story, name: str) -> None:
    """
    Update, scale, shift traffic, roll back, take a node back: every request gets its answer, with one
    replica of everything as well as with several.
    """
    assert story.steps[name].failures == []


@pytest.mark.parametrize("name", PLANNED)
def test_what_is_planned_leaves_no_gap(story: Story, name: str) -> None:
    """
    Nor is anybody refused: whoever looks a proxy up and connects is served by that one, at once.

    Except with one proxy and stop-first, Swarm's default: nobody listens then until the new one does.
    """
    step = story.steps[name]

    if (story.size.name, name) in GAPS:
        assert step.waited_s > 0, "there is no gap any more: do not say that there is"
    else:
        assert (dict(step.refused), step.waited_s) == ({}, 0)


@pytest.mark.parametrize("name", UNPLANNED)
def test_a_death_costs_what_was_under_way_on_it(story: Story, name: str) -> None:
    """
    A replica killed, one paused, a node cut off: what fails was sent to what died, before that was noticed.
    """
    step = story.steps[name]
    late = [failure for failure in step.failures if failure["begun"] > step.died_at + NOTICED_S[name]]

    assert step.unexplained == []
    assert late == []


def test_a_killed_replica_costs_no_request_that_may_be_repeated(story: Story) -> None:
    """
    What a replica had not answered yet as it was killed is asked of another, unless it may have had effects.
    """
    assert {failure["method"] for failure in story.steps["replica killed"].failures} <= {"POST"}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("update, start-first", {"blue plain"}),
        ("scale up", {"blue plain"}),
        ("canary", {"blue plain", "green html"}),
        ("all green", {"blue plain", "green html"}),
        ("replica killed", {"blue plain", "green html"}),
        ("node cut off", {"blue plain", "green html"}),
        ("node returns", {"blue plain", "green html"}),
    ],
)
def test_each_step_shows_the_colors_it_should(story: Story, name: str, kinds: set[str]) -> None:
    """
    Blue before there is a canary; both while it is out, and while one color takes over from the other.
    """
    assert set(story.steps[name].kinds) == kinds


def test_a_mistake_costs_nothing(story: Story) -> None:
    """
    A URL that leads nowhere, one that is none, weights that send nobody anywhere: no client notices.
    """
    for name in story.size.mistakes:
        step = story.steps[name]
        assert (name, step.failures, dict(step.refused), step.waited_s) == (name, [], {}, 0)


def test_a_mistake_is_taken_back_by_the_swarm(story: Story) -> None:
    """
    The new proxy never becomes healthy, so the Swarm restores the old environment; the old proxies go on.

    As the failed one ends the Swarm may have begun to replace it, by then with the old environment again,
    and keep that one instead of the old proxy of its place: then it asked the old one to stop. Never may
    all be replaced, or one have failed.
    """
    for name in story.size.mistakes:
        mistake = story.mistakes[name]
        assert (name, mistake.state) == (name, "rollback_completed")
        assert mistake.environment_after == mistake.environment_before
        assert len(mistake.proxies_after) == len(mistake.proxies_before)
        assert {task.environment for task in mistake.proxies_after} == {
            task.environment for task in mistake.proxies_before
        }
        assert len(mistake.ended) < len(mistake.proxies_before)
        assert set(mistake.ended.values()) <= {"shutdown", "complete"}, mistake.ended


def test_a_proxy_outlives_its_backends(story: Story) -> None:
    """
    When all replicas of all colors die, clients are told so until others run, but no proxy is restarted.
    """
    step = story.steps[OUTAGE]

    assert step.unexplained == []
    assert story.outlived
