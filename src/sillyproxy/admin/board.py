"""
What the admin listener shows, in one place.

The controller writes what it learns here; status, metrics and readiness are read from it
at the moment when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sillyproxy.config.schema import Config
from sillyproxy.metrics.slab import Totals, read_totals
from sillyproxy.tools.channel import Address


@dataclass(slots=True)
class WorkerView:
    """What a worker told of itself: its process, and the generation by which it serves."""

    pid: int
    generation: int


@dataclass(slots=True)
class Board:
    """
    The proxy as the controller knows it.

    `avoided` holds, for each endpoint that a worker avoids, the workers that do and why.
    `lookups` are the DNS look-ups by result, `name_problems` why the addresses of a host
    may be old, `reloads` the configurations read after the first, by result.
    """

    config: Config
    memory: memoryview
    started_at: float
    endpoints: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    workers: dict[int, WorkerView] = field(default_factory=dict)
    avoided: dict[tuple[str, Address], dict[int, str]] = field(default_factory=dict)
    lookups: Mapping[str, int] = field(default_factory=dict)
    reloads: dict[str, int] = field(default_factory=lambda: {"applied": 0, "refused": 0})
    name_problems: Callable[[], Mapping[str, str]] = dict
    draining: bool = False

    def totals(self) -> Totals:
        """Return the counts of all workers together."""
        return read_totals(self.memory, self.config.workers, 1 + len(self.config.slots))

    def slots(self) -> list[tuple[str, int]]:
        """Return the colors that were looked for since the start, with their row in the counts."""
        return [(name, slot) for slot, name in enumerate(self.config.slots, 1)]

    def is_up(self, color: str, address: Address) -> bool:
        """
        Whether an endpoint is up: fewer than half of the workers avoid it.

        One worker's bad moment is not the endpoint's end; and one that never met a
        request has no opinion, so all of them would be too many to wait for.
        """
        return 2 * len(self.avoided.get((color, address), {})) < max(1, len(self.workers))

    def unready(self) -> str:
        """Return why no traffic should be sent here; empty if it should."""
        if self.draining:
            return "draining"
        if not self.config.colors:
            return "no color is configured"
        weighted = [color.name for color in self.config.colors if color.weight > 0]
        if not weighted:
            return "every color is at weight 0"
        if not any(self.endpoints.get(name) for name in weighted):
            problems = [f"{host}: {problem}" for host, problem in sorted(self.name_problems().items())]
            return "no endpoints: " + ("; ".join(problems) or "not looked up yet")
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
