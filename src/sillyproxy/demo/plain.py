"""The story as lines: for a pipe, a log, a terminal without `rich`."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from sillyproxy.demo.load import CLIENTS, PERIOD_S
from sillyproxy.demo.story import Step, Story

RATE: str = f"{CLIENTS / PERIOD_S:.0f} requests/s"

# `docs/howto/swarm.md` goes on from here.
NEXT: tuple[str, ...] = (
    "docker swarm init",
    "docker network create --driver overlay backend",
    "docker build -t myapp myapp/ && docker build -t sillyproxy .",
    "docker service create --name myapp-v1 --network backend -p7999:8080 myapp",
)
NEXT_WHERE = "The same on a Docker Swarm; README.md tells how it goes on:"
HONESTLY: tuple[str, ...] = (
    "Here each change starts new proxies on new ports, and clients are told where they are.",
    "On a Swarm the address stays the same.",
)


class View:
    """How the story is told. This one says nothing."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whatever ended it."""

    def tick(self) -> None:
        """Show how things stand; called ten times a second."""

    def step_done(self, step: Step) -> None:
        """Tell what a step showed."""

    def summary(self) -> None:
        """Tell the whole, and what to type next."""

    def keeping(self) -> None:
        """Tell where it goes on serving."""


class Plain(View):
    """One line a step that can be counted on, and indented ones about it."""

    def __enter__(self) -> None:
        """Say what is to come."""
        steps = len(self.story.steps)
        print(f"sillyproxy demo: {steps} steps with real processes, {RATE} all the while", flush=True)

    def step_done(self, step: Step) -> None:
        """Tell what a step showed."""
        print("\n".join(step_lines(step, len(self.story.steps))), flush=True)

    def summary(self) -> None:
        """Tell the sum, and what to type next."""
        print(total_line(self.story))
        print("\n".join(f"  {line}" for line in (*HONESTLY, NEXT_WHERE)))
        print("\n".join(f"    {line}" for line in NEXT), flush=True)

    def keeping(self) -> None:
        """Tell where it goes on serving."""
        print("\n".join(keeping_lines(self.story)), flush=True)


def step_lines(step: Step, steps: int) -> list[str]:
    """Return what is to be said about a step that is done."""
    tally = step.tally
    shares = " ".join(f"{color} {tally.share(color) * 100:.1f} %" for color in sorted(tally.colors))
    lines = [
        f"step {step.number}/{steps} {step.title}: {shares or 'no answer'} of {tally.requests:,} requests,"
        f" {tally.failed:,} failed"
    ]
    if step.change.requests:
        lines.append(f"  during the change: {step.change.requests:,} requests, {step.change.failed:,} failed")
    lines += [f"  asked for: {name}={value}" for name, value in step.environment.items()]
    hosts = sorted((host, count) for (_, host), count in tally.replicas.items())
    lines.append("  answered by: " + ", ".join(f"{host} {count:,}" for host, count in hosts))
    lines += [f"  without the proxy: {page}" for page in step.direct]
    lines.append("  through the proxy: " + ", ".join(distinct(tally.samples, 4)))
    return lines


def distinct(samples: Iterable[str], most: int) -> list[str]:
    """Return some of the answers, each once."""
    return list(dict.fromkeys(samples))[:most]


def total_line(story: Story) -> str:
    """Return the sum of it all."""
    return f"total: {story.requests:,} requests, {story.failed:,} failed, {story.seconds:.0f} s"


def keeping_lines(story: Story) -> list[str]:
    """Return where what serves."""
    lines = ["serving on, Ctrl-C stops everything:"]
    lines += [
        f"  proxy http://{proxy.address}/  its dashboard http://{proxy.admin}/" for proxy in story.proxies
    ]
    for backends in story.backends.values():
        lines += [f"  {backend.name:5} http://{backend.address}/" for backend in backends]
    return lines
