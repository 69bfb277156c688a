"""
A worker: one process of the data plane. Wiring only; what happens to a request is told in `proxy`.

Its life:

    SERVING    SIGTERM: responses announce the connection's end, connections still accepted  → LEAVING
    LEAVING    the drain delay is over (SIGINT: at once): who waits is accepted, then nobody  → DRAINING
    DRAINING   nothing is under way any more, or the drain timeout is over                    → exit 0
    LEAVING    SIGINT: the delay is over                                                      → DRAINING

A signal that comes twice is the same wish: service managers tell every process and the supervisor tells us
again. Who wants it to end at once tells the supervisor, which kills.

When its supervisor is gone (the lifeline ends) it drains like after SIGTERM.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
from typing import Final

from sillyproxy.config.schema import Config
from sillyproxy.metrics.layout import Worker
from sillyproxy.metrics.slab import Counts, block_of
from sillyproxy.proxy.downstream import IDLE
from sillyproxy.proxy.edge import SECOND_NS, Edge
from sillyproxy.proxy.listener import Listener
from sillyproxy.proxy.loop import LEVEL_IN
from sillyproxy.proxy.record import LineWriter, Recorder
from sillyproxy.setup import WorkerSetup
from sillyproxy.tools import logs
from sillyproxy.tools.channel import (
    Address,
    Applied,
    Ejected,
    Ejection,
    Endpoints,
    EndpointState,
    Hello,
)
from sillyproxy.traffic.endpoint import Endpoint

SERVING: Final = 0
LEAVING: Final = 1
DRAINING: Final = 2

_CONNECTIONS_OPEN: Final = int(Worker.CONNECTIONS_OPEN)

# Beside client and upstream connections a process needs a few descriptors for itself.
_OWN_DESCRIPTORS: Final = 64
_LOG_CLOSE_S: Final = 0.5
# Somebody waits for the end of one that leaves.
_LEAVING_TICK_S: Final = 0.02

# A worker that knows no endpoint can only answer 503; the controller needs a moment to tell.
_WAIT_ENDPOINTS_NS: Final = 5 * SECOND_NS


def run(setup: WorkerSetup) -> int:
    """Serve until told to stop. Return the exit status."""
    return _Worker(setup).run()


class _Worker:
    def __init__(self, setup: WorkerSetup) -> None:
        config = setup.config
        self._setup = setup
        self._config = config
        self._phase = SERVING
        self._until_ns = 0
        self._recorder = _open_recorder(config)
        counts = Counts(setup.block, len(config.slots) + 1)
        self._edge = edge = Edge(config, counts, self._recorder, _log, self._report, self._report_ejection)
        edge.generations.on_applied = self._say_applied
        self._listeners: list[Listener] = []
        self._silent_until_ns = edge.loop.now_ns + _WAIT_ENDPOINTS_NS
        edge.loop.ticking = True
        self._channel = setup.channel
        edge.loop.add(self._channel.fileno(), self._on_channel, LEVEL_IN)
        edge.loop.add(setup.lifeline, self._on_lifeline, LEVEL_IN)
        self._signals, wakeup = socket.socketpair()
        self._signals.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _noted)
        edge.loop.add(self._signals.fileno(), self._on_signal, LEVEL_IN)
        edge.on_tick_too = self._on_tick

    def run(self) -> int:
        edge = self._edge
        self._channel.send(Hello(self._setup.index, os.getpid(), self._config.generation))
        # What is made from here on is made per connection and freed by its references;
        # what was made until here stays.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        edge.settle()
        edge.loop.run()
        edge.settle()
        if self._recorder.writer:
            self._recorder.writer.close(_LOG_CLOSE_S)
        return 0

    # What the controller says.

    def _on_channel(self, _events: int) -> None:
        for message in self._channel.receive():
            if isinstance(message, Endpoints):
                self._edge.set_endpoints(message)
                self._open()

    def _open(self) -> None:
        """Begin to accept. Who came before we knew any endpoint has waited in the queue, not got a 503."""
        if not self._listeners and self._phase == SERVING:
            limit = _connection_limit(self._config)
            self._listeners = [
                Listener(self._edge, sock, limit, self._count_others) for sock in self._setup.listeners
            ]

    def _count_others(self) -> int:
        """Return how many clients the other workers serve, 20 ms ago at most; 0 if no limit was set."""
        memory = self._setup.memory
        if memory is None or self._config.limits.connections is None:
            return 0
        others = (index for index in range(self._config.workers) if index != self._setup.index)
        return sum(block_of(memory, index)[_CONNECTIONS_OPEN] for index in others)

    def _report(self, color: str, endpoint: Endpoint, up: bool, reason: str) -> None:
        address = Address(endpoint.upstream, endpoint.ip, endpoint.port)
        self._channel.send(EndpointState(self._setup.index, color, address, up, reason))

    def _report_ejection(self, color: str, endpoint: Endpoint, term: tuple[int, int], reason: str) -> None:
        address = Address(endpoint.upstream, endpoint.ip, endpoint.port)
        self._channel.send(Ejected(self._setup.index, color, address, Ejection(*term), reason))

    def _say_applied(self, generation: int) -> None:
        self._channel.send(Applied(self._setup.index, generation))

    # The end.

    def _on_lifeline(self, _events: int) -> None:
        self._edge.loop.remove(self._setup.lifeline)
        logs.error("the supervisor is gone, draining")
        self._leave(self._config.timeouts.drain_delay_s)

    def _on_signal(self, _events: int) -> None:
        for number in self._signals.recv(64):
            if number not in (signal.SIGTERM, signal.SIGINT):
                continue
            if number == signal.SIGTERM:
                self._leave(self._config.timeouts.drain_delay_s)
            elif self._phase == LEAVING:
                self._drain()
            else:
                self._leave(0.0)

    def _leave(self, delay_s: float) -> None:
        if self._phase != SERVING:
            return
        edge = self._edge
        self._phase = LEAVING
        edge.draining = True
        edge.loop.set_tick(_LEAVING_TICK_S)
        edge.loop.ticking = True
        self._until_ns = edge.loop.now_ns + int(delay_s * SECOND_NS)
        if not delay_s:
            self._drain()

    def _drain(self) -> None:
        """Nobody new: see those out who are here."""
        edge = self._edge
        self._phase = DRAINING
        for listener in self._listeners:
            listener.close()
        self._until_ns = edge.loop.now_ns + int(self._config.timeouts.drain_timeout_s * SECOND_NS)
        edge.loop.ticking = True
        self._see_out()

    def _see_out(self) -> None:
        """Close who is idle; end when nobody is left, or when time is up."""
        edge = self._edge
        now_ns = edge.loop.now_ns
        for down in tuple(edge.connections):
            # One that was just accepted is given a moment to say what it came for.
            if down.phase == IDLE and (
                not down.fresh or down.deadline_ns - edge.header_ns < now_ns - SECOND_NS // 2
            ):
                down.leave()
        if not edge.connections:
            edge.loop.stopped = True
        elif now_ns >= self._until_ns:
            logs.warning("drain timeout: closing what is still under way", connections=len(edge.connections))
            for down in tuple(edge.connections):
                down.evict()
            edge.loop.stopped = True

    def _on_tick(self) -> None:
        if not self._listeners and self._phase == SERVING:
            self._edge.loop.ticking = True
            if self._edge.loop.now_ns >= self._silent_until_ns:
                logs.warning("the controller is silent, serving without it")
                self._open()
        if self._phase == LEAVING and self._edge.loop.now_ns >= self._until_ns:
            self._drain()
        elif self._phase == DRAINING:
            self._see_out()


def _noted(_number: int, _frame: object) -> None:
    """Let the interpreter write the signal's number to the wake-up socket, where the loop reads it."""


def _log(level: str, message: str, **fields: str | int | float | bool | None) -> None:
    getattr(logs, level)(message, **fields)


def _open_recorder(config: Config) -> Recorder:
    target = config.access_log.target
    writer = None
    if target == "stdout":
        writer = LineWriter(1)
    elif target == "stderr":
        writer = LineWriter(2)
    elif target != "off":
        writer = LineWriter(os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))
    return Recorder(writer, config.access_log.format == "json", [])


def _connection_limit(config: Config) -> int:
    """Return how many client connections there may be: the limit that was set, and what descriptors allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    # Each client may need an upstream connection besides.
    limit = max(1, (soft - _OWN_DESCRIPTORS) // 2) if soft != resource.RLIM_INFINITY else 1 << 30
    return limit if config.limits.connections is None else min(limit, config.limits.connections)
