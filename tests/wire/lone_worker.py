"""
One worker without its supervisor and controller: a test decides what it is told, and hears what it says.

`python -m tests.wire.lone_worker PORT SETTINGS`: serves on that port by those settings, a JSON object
of what an operator would put into the environment. Each line of its standard input is a JSON object
with one wish, answered by a line of JSON:

    {"endpoints": {…}}   what the controller knows (`LoneWorker.use` has the fields)
    {"serve": {…}}       another configuration, the next generation: settings as above
    {"counts": 1}        the counts: of the worker, and of each color, by name
    {"said": 1}          what the worker has told the controller since this was asked last

End of file is the supervisor's end.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
import threading
from typing import Any

from sillyproxy import worker
from sillyproxy.config import load
from sillyproxy.config.schema import Config
from sillyproxy.metrics.layout import MAX_COLORS, Row
from sillyproxy.metrics.layout import Worker as Count
from sillyproxy.metrics.slab import BLOCK_BYTES, block_of, read_totals
from sillyproxy.setup import WorkerSetup
from sillyproxy.tools.channel import Address, Channel, Ejection, Endpoints, Serve, make_pair

Lines = dict[str, list[list[Any]]]


def _read_addresses(lists: Lines) -> dict[str, tuple[Address, ...]]:
    return {name: tuple(Address(*address[:3]) for address in some) for name, some in lists.items()}


def _read_endpoints(wish: Any) -> Endpoints:
    ejected: Lines = wish["ejected"]
    return Endpoints(
        _read_addresses(wish["colors"]),
        {name: frozenset(some) for name, some in _read_addresses(wish["unhealthy"]).items()},
        {name: {Address(*one[:3]): Ejection(*one[3:]) for one in some} for name, some in ejected.items()},
        wish["generation"],
        wish["shedding"],
    )


class _Director:
    """Both ends that a worker knows above it."""

    def __init__(self, config: Config, listener: socket.socket) -> None:
        self._config = config
        self._listener = listener
        self.memory = memoryview(mmap.mmap(-1, BLOCK_BYTES))
        controller, self.channel = make_pair()
        supervisor, self.control = make_pair()
        self._controller = Channel(controller)
        self._supervisor = Channel(supervisor)
        self.lifeline, self._hold = os.pipe()

    def run(self) -> None:
        for line in sys.stdin:
            ((what, wish),) = json.loads(line).items()
            print(json.dumps(getattr(self, f"_{what}")(wish), default=list), flush=True)
        os.close(self._hold)

    def _endpoints(self, wish: Any) -> bool:
        return self._controller.send(_read_endpoints(wish))

    def _serve(self, settings: dict[str, str]) -> bool:
        before = self._config
        self._config, _ = load(settings, cpus=1, generation=before.generation + 1, slots=before.slots)
        message = Serve(self._config, self._config.listeners)
        return self._supervisor.send(message, [self._listener])

    def _counts(self, _: object) -> dict[str, dict[str, int]]:
        totals = read_totals(self.memory, 1, MAX_COLORS)
        counts = {"worker": {place.name.lower(): totals.worker[place] for place in Count}}
        for slot, name in enumerate(self._config.slots, start=1):
            counts[name] = {place.name.lower(): totals.rows[slot][place] for place in Row}
        return counts

    def _said(self, _: object) -> list[dict[str, Any]]:
        return [
            {"what": type(message).__name__, **{name: getattr(message, name) for name in message.__slots__}}
            for message in self._controller.receive()
        ]


def main() -> int:
    """Serve until the standard input ends."""
    config, _ = load(json.loads(sys.argv[2]), cpus=1)
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=256)
    director = _Director(config, listener)
    threading.Thread(target=director.run, daemon=True).start()
    return worker.run(
        WorkerSetup(
            0,
            config,
            [(config.listeners[0], listener)],
            Channel(director.channel),
            block_of(director.memory, 0),
            director.lifeline,
            control=Channel(director.control),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
