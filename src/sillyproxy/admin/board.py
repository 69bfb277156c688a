"""
What the admin listener shows, in one place.

The controller writes what it learns here; status, metrics and readiness are read from it
at the moment when somebody asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sillyproxy.config.schema import Config
from sillyproxy.metrics.layout import MAX_WORKERS, WORKER_SIZE
from sillyproxy.metrics.slab import Totals, block_of, read_totals
from sillyproxy.metrics.spans import Exemplar
from sillyproxy.tools.channel import Address
from sillyproxy.tools.memory import Usage

EndpointKey = tuple[str, Address]  # of a color
State = Literal["up", "avoided", "ejected", "unhealthy"]


@dataclass(slots=True)
class WorkerView:
    """What a worker told of itself: its process, and the generation by which it serves."""

    pid: int
    generation: int


class EjectedView(NamedTuple):
    """An ejection: until when (seconds since 1970), how many there were so far, why."""

    until: float
    times: int
    reason: str


class ReloadView(NamedTuple):
    """
    The newest configuration that was read after the first.

    `at` is when (seconds since 1970), `problems` why it was refused, `generation` what is in force since.
    """

    result: Literal["applied", "refused"]
    at: float
    problems: tuple[str, ...]
    generation: int


Level = Literal["info", "warning", "error"]
Kind = Literal[
    "reload", "refused", "ejection", "return", "drain", "worker", "gate", "readiness", "memory", "start"
]
EVENTS_KEPT = 100


class Event(NamedTuple):
    """
    Something that happened, in words. `time` is in seconds since 1970; ids grow.

    `ejection` is whatever takes an endpoint out, `return` whatever brings it back.
    """

    id: int
    time: float
    level: Level
    kind: Kind
    text: str
    color: str | None = None


@dataclass(slots=True)
class Board:
    """
    The proxy as the controller knows it.

    `avoided` holds, for each endpoint that a worker avoids, the workers that do and why.
    `unhealthy` are the endpoints that fail their active checks, and why; `ejected` those that
    real traffic found to be outliers; `checks` the active checks by color and result.
    `lookups` are the DNS look-ups by result, `name_problems` why the addresses of a host
    may be old, `reloads` the configurations read after the first, by result, `reload` the
    newest of them. `awaited` is why the proxy has not started yet; empty if it has. `events` are
    what happened lately, the newest last. `exemplars` are sampled exchanges by color and by the
    first of `table.EDGES_S` that they do not exceed (its index), `spans` those that were to be
    exported, by result.
    """

    config: Config
    memory: memoryview
    started_at: float
    endpoints: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    workers: dict[int, WorkerView] = field(default_factory=dict)
    avoided: dict[EndpointKey, dict[int, str]] = field(default_factory=dict)
    unhealthy: Callable[[], Mapping[EndpointKey, str]] = dict
    ejected: Callable[[], Mapping[EndpointKey, EjectedView]] = dict
    checks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    lookups: Mapping[str, int] = field(default_factory=dict)
    reloads: dict[str, int] = field(default_factory=lambda: {"applied": 0, "refused": 0})
    reload: ReloadView | None = None
    name_problems: Callable[[], Mapping[str, str]] = dict
    awaited: Callable[[], str] = str
    exemplars: Callable[[], Mapping[tuple[str, int], Exemplar]] = dict
    spans: Mapping[str, int] = field(default_factory=dict)
    usage: Usage | None = None
    shedding: bool = False
    draining: bool = False
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))

    def totals(self) -> Totals:
        """Return the counts of all workers together, of those that a reload has sent away too."""
        return read_totals(self.memory, len(self.blocks()), 1 + len(self.config.slots))

    def blocks(self) -> list[memoryview]:
        """Return the blocks of all workers that have counted anything, and of those before them."""
        # Of the others nothing is read: memory that nobody has touched is none.
        used = [n for n in range(MAX_WORKERS) if any(block_of(self.memory, n)[:WORKER_SIZE])]
        workers = max([self.config.workers, *(n + 1 for n in used)])
        return [block_of(self.memory, n) for n in range(workers)]

    def block(self, worker: int) -> memoryview:
        """Return what one worker has counted, whether there is one or not."""
        return block_of(self.memory, worker)

    def slots(self) -> list[tuple[str, int]]:
        """Return the colors that were looked for since the start, with their row in the counts."""
        return [(name, slot) for slot, name in enumerate(self.config.slots, 1)]

    def states(self) -> dict[EndpointKey, State]:
        """
        Return the state of every endpoint: the worst that is true of it.

        It is avoided if at least half of the workers do: one worker's bad moment is not the
        endpoint's end; and one that never met a request has no opinion, so all of them would
        be too many to wait for.
        """
        unhealthy, ejected = self.unhealthy(), self.ejected()
        states: dict[EndpointKey, State] = {}
        for name, addresses in self.endpoints.items():
            for address in addresses:
                key = (name, address)
                if key in unhealthy:
                    states[key] = "unhealthy"
                elif key in ejected:
                    states[key] = "ejected"
                elif 2 * len(self.avoided.get(key, {})) >= max(1, len(self.workers)):
                    states[key] = "avoided"
                else:
                    states[key] = "up"
        return states

    def unstarted(self) -> str:
        """Return why the proxy is not to be called started; empty if it is."""
        if self.draining:
            return "draining"
        awaited = self.awaited()
        return f"not started: {awaited}" if awaited else ""

    def unready(self) -> str:
        """Return why no traffic should be sent here; empty if it should."""
        if self.draining:
            return "draining"
        if not self.config.colors:
            return "no color is configured"
        weighted = [color.name for color in self.config.colors if color.weight > 0]
        if not weighted:
            return "every color is at weight 0"
        endpoints = [(name, address) for name in weighted for address in self.endpoints.get(name, ())]
        if not endpoints:
            problems = [f"{host}: {problem}" for host, problem in sorted(self.name_problems().items())]
            return "no endpoints: " + ("; ".join(problems) or "not looked up or checked yet")
        unhealthy = self.unhealthy()
        if all(key in unhealthy for key in endpoints):
            return "every endpoint is unhealthy: " + "; ".join(
                f"{name}: {reason}"
                for name in weighted
                for reason in sorted({unhealthy[key] for key in endpoints if key[0] == name})
            )
        return ""

    def note_endpoint(self, worker: int, color: str, address: Address, *, up: bool, reason: str) -> None:
        """Note a worker's view of an endpoint."""
        views = self.avoided.setdefault((color, address), {})
        views.pop(worker, None)
        if not up:
            views[worker] = reason
        if not views:
            del self.avoided[color, address]

    def forget_worker(self, worker: int) -> None:
        """Forget what a worker thought: its successor starts without opinions."""
        for key in [key for key, views in self.avoided.items() if worker in views]:
            del self.avoided[key][worker]
            if not self.avoided[key]:
                del self.avoided[key]

    def forget_gone(self) -> None:
        """Forget what was thought of endpoints that are gone."""
        known = {(color, address) for color, addresses in self.endpoints.items() for address in addresses}
        for key in set(self.avoided) - known:
            del self.avoided[key]
