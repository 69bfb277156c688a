"""
The control plane: one process beside the workers.

It finds the endpoints, checks them, tells every worker, and answers on the admin listener.
Nothing that it does is needed for a request: when it dies, the workers serve on with what
they have, and its successor, on the same sockets, tells them everything again.

A configuration is `newest` as soon as the supervisor says so, and `shown` when it can be
told whole: every name was looked up once, every endpoint with a probe was checked once. Until
then the workers are told what is news of the one before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from typing import Final, NamedTuple
from zlib import crc32

from sillyproxy.admin.board import Board, EjectedView, ReloadView, WorkerView
from sillyproxy.admin.engine import AdminSide
from sillyproxy.config.schema import Config
from sillyproxy.discovery.watch import Discovery
from sillyproxy.health.checks import Health, probes_of
from sillyproxy.health.ejections import Ejections
from sillyproxy.health.gate import Gate
from sillyproxy.health.target import Target, target_of, targets_of
from sillyproxy.metrics.layout import Worker
from sillyproxy.metrics.slab import block_of
from sillyproxy.setup import ControllerSetup
from sillyproxy.tools import logs
from sillyproxy.tools.channel import (
    Address,
    Applied,
    Channel,
    Ejected,
    Ejection,
    Endpoints,
    EndpointState,
    Hello,
    Refused,
    Serve,
)
from sillyproxy.tools.dns import Resolver, set_options
from sillyproxy.tools.memory import is_pressing, read_usage
from sillyproxy.tracing.collect import Collector

# A worker waits for its first endpoints before it accepts, and takes a color that is not among
# them for gone. So they are told when every name was looked up once, well or badly, or after this
# long: with what is known by then, so that one slow name does not hold up all colors.
NAMES_S: Final = 2.0
# So long, with the names, are first checks waited for: at the start, where a worker waits 5 s, and
# with a new configuration, where it waits 3.
FIRST_CHECKS_S: Final = 4.5
CHECKS_S: Final = 2.7
LOOK_S: Final = 0.1  # between looks, while something is waited for
TICK_S: Final = 1.0  # between looks at the memory, and at what is over
# Fewer clients are not what fills the memory: under a limit that is tight for good nobody must be shut out.
CROWD: Final = 100
GATE_LOOK_S: Final = 5.0  # between looks at a gate that is closed
GATE_AGAIN_S: Final = 30.0  # until what it waits for is said once more
RESEND_S: Final = 0.2  # until a worker that does not read its channel is told again

# No name is looked up more often than this, unless the operator asks for it.
SPACING_S: Final = 1.0

# What outlives a controller, by its place in `ControllerSetup.lasting`.
GATE_OPEN: Final = 0
REFUSALS: Final = 1
REFUSAL: Final = 2  # the checksum of the last one's problems
LOOKED_UP_NS: Final = 3  # when a name was looked up last; monotonic
STARTED: Final = 4  # whether there was one before

# The workers come first: dashboards, scrapes and whoever else asks may wait for a moment, requests may
# not. Not more than this (a third of a worker's share of a CPU that all want), so that on a machine
# without an idle moment health checks still come to their answers in time.
NICENESS: Final = 5


def run(setup: ControllerSetup) -> int:
    """Be the controller, until SIGTERM or the end of the supervisor. Return the exit status."""
    set_options()
    os.nice(NICENESS)
    return asyncio.run(Controller(setup).run())


class _Waiting(NamedTuple):
    """Since when something is waited for before it can be told, until when for names, and for all of it."""

    since: float
    names_until: float
    until: float


class Controller:
    """One life of the controller."""

    def __init__(self, setup: ControllerSetup) -> None:
        self._setup = setup
        self._channels = setup.channels
        self._resolver = Resolver(begun=self._note_look_up)
        self._discovery = Discovery(self._resolver.lookup, self._look)
        self._health = Health(self._look, self._end_ejection)
        self._ejections = Ejections()
        self._gate = Gate(
            self._health, self._open_gate, self._discovery.problems, is_open=bool(setup.lasting[GATE_OPEN])
        )
        self._spans = Collector(setup.spans)
        self._newest = self._shown = setup.config
        self._waiting: _Waiting | None = None
        self._message: Endpoints | None = None
        self._told: dict[tuple[str, Address], Target] = {}
        self._ejected: set[Target] = set()
        self._untold: set[int] = set()
        self._said = ""
        self._pressing = False
        self._board = board = Board(setup.config, setup.memory, setup.started_at)
        board.lookups = self._resolver.results
        board.name_problems = self._discovery.problems
        board.checks = self._health.results
        board.unhealthy = self._unhealthy
        board.ejected = self._ejected_views
        board.awaited = self._gate.reason
        board.exemplars = self._spans.exemplars
        board.spans = self._spans.results
        board.reloads = {"applied": setup.config.generation - 1, "refused": setup.lasting[REFUSALS]}
        self._meet_workers()
        self._admin = AdminSide(board, again=bool(setup.lasting[STARTED]))
        setup.lasting[STARTED] = 1
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Wire everything up, wait for the end, take it down."""
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR2, self._drain)
        loop.add_reader(self._setup.lifeline, self._lose_supervisor)
        loop.add_reader(self._setup.control.fileno(), self._hear_supervisor)
        for index, channel in enumerate(self._channels):
            loop.add_reader(channel.fileno(), self._hear, index)
        self._adopt(self._newest, FIRST_CHECKS_S)
        spans = asyncio.create_task(self._spans.run())
        self._tick()
        admin = self._start_admin()
        gate = asyncio.create_task(self._tell_gate())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stop, admin} if admin else {stop}, return_when=asyncio.FIRST_COMPLETED)
        if admin is not None:
            if not stop.done():
                await admin  # it never ends by itself; with what it broke, so do we, for a fresh start
            admin.cancel()
            await asyncio.wait({admin})
        gate.cancel()
        spans.cancel()
        await self._spans.close()
        await self._gate.close()
        await self._health.close()
        await self._discovery.close()
        return 0

    async def _tell_gate(self) -> None:
        """Say what the gate waits for: whoever finds a roll-out undone has nothing but this log."""
        said, again_at = "", 0.0
        while not self._gate.is_open:
            await asyncio.sleep(GATE_LOOK_S)
            reason, now = self._gate.reason(), time.monotonic()
            if reason and (reason != said or now >= again_at):
                said, again_at = reason, now + GATE_AGAIN_S
                logs.warning("not started", waiting_for=reason)

    def _start_admin(self) -> asyncio.Task[None] | None:
        if self._setup.admin is None:
            return None
        return asyncio.create_task(self._admin.serve(self._setup.admin))

    # What the supervisor says.

    def _hear_supervisor(self) -> None:
        for message, sockets in self._setup.control.receive_with_sockets():
            match message:
                case Serve(config=config):
                    self._meet_channels(sockets)
                    self._board.reload = ReloadView("applied", time.time(), (), config.generation)
                    # With the generation that is in force: what was refused is not asked for any more.
                    if config.generation != self._newest.generation:
                        self._board.reloads["applied"] = config.generation - 1
                        logs.setup(
                            log_format=config.log_format,
                            level=config.log_level,
                            process="sillyproxy controller",
                        )
                        self._adopt(config, CHECKS_S)
                case Refused(problems=problems):
                    self._note_refusal(problems)

    def _note_refusal(self, problems: tuple[str, ...]) -> None:
        """Show why a configuration was refused; count it, unless our predecessor did."""
        lasting, mark = self._setup.lasting, crc32("\n".join(problems).encode())
        if self._board.reload is not None or lasting[REFUSAL] != mark:
            lasting[REFUSALS] += 1
            lasting[REFUSAL] = mark
        self._board.reload = ReloadView("refused", time.time(), problems, self._newest.generation)
        self._board.reloads["refused"] = lasting[REFUSALS]
        self._admin.look()

    def _meet_channels(self, sockets: tuple[socket.socket, ...]) -> None:
        """Listen to the workers that are new. Who is known already stays on the same wire."""
        for index, sock in enumerate(sockets):
            if index < len(self._channels):
                sock.close()
                continue
            channel = Channel(sock)
            self._channels.append(channel)
            asyncio.get_running_loop().add_reader(channel.fileno(), self._hear, index)

    def _is_there(self, index: int) -> bool:
        """Whether there is such a worker at the moment."""
        return bool(block_of(self._setup.memory, index)[Worker.PID])

    def _adopt(self, config: Config, patience_s: float) -> None:
        """Make for this configuration: tell it as soon as it can be told whole, but within `patience_s`."""
        now = asyncio.get_running_loop().time()
        was_waiting = self._waiting is not None
        self._newest = config
        self._spans.apply(config, len(self._channels))
        since = self._waiting.since if self._waiting else now
        # Reloads that come one after the other do not put it off for ever.
        last = since + 2 * patience_s
        self._waiting = _Waiting(since, min(now + NAMES_S, last), min(now + patience_s, last))
        self._resolver.spacing_s = spacing_s = min(SPACING_S, config.discovery_interval_s)
        if self._message is None:
            self._resolver.not_before = self._setup.lasting[LOOKED_UP_NS] / 1e9 + spacing_s
        self._discovery.apply(config)
        self._look()
        if not was_waiting:
            self._look_again()

    def _drain(self) -> None:
        self._board.draining = True
        self._say_readiness()
        self._admin.look()

    def _lose_supervisor(self) -> None:
        asyncio.get_running_loop().remove_reader(self._setup.lifeline)
        logs.error("the supervisor is gone, ending", pid=os.getpid())
        self._stop.set()

    # What the workers say.

    def _meet_workers(self) -> None:
        """Find the workers that said hello to a controller before us."""
        for index in range(len(self._channels)):
            block = block_of(self._setup.memory, index)
            if pid := block[Worker.PID]:
                self._board.workers[index] = WorkerView(
                    pid, block[Worker.GENERATION] or self._newest.generation
                )

    def _hear(self, index: int) -> None:
        for message in self._channels[index].receive():
            match message:
                case Hello():
                    logs.debug("worker says hello", worker=index, worker_pid=message.pid)
                    before = self._board.workers.get(index)
                    if before is None or before.pid != message.pid:
                        self._board.forget_worker(index)
                    self._board.workers[index] = WorkerView(message.pid, message.generation)
                    self._tell(index)
                case Applied():
                    if index in self._board.workers:
                        self._board.workers[index].generation = message.generation
                    self._tell(index)
                case EndpointState(color=color, address=address, up=up, reason=reason):
                    if address in self._board.endpoints.get(color, ()):
                        self._board.note_endpoint(index, color, address, up=up, reason=reason)
                case Ejected():
                    self._note_ejection(message)
        self._admin.look()

    def _note_ejection(self, message: Ejected) -> None:
        """Hold an ejection for all workers."""
        now_ns = time.monotonic_ns()
        target = self._told.get((message.color, message.address))
        if target is None:
            return  # it has left
        siblings = [other for other in self._told.values() if other.color == message.color]
        if self._ejections.note(target, siblings, message.ejection, message.reason, now_ns):
            self._look()

    def _end_ejection(self, target: Target) -> None:
        """End the term of an endpoint that passes its checks again, as every worker does."""
        self._ejections.end(target, time.monotonic_ns())

    # What is known.

    def _look(self) -> None:
        """Something is news: find out what, and tell whoever does not know."""
        found = self._discovery.endpoints(self._newest)
        probes = probes_of(self._newest, found)
        if self._shown is not self._newest:
            probes = probes_of(self._shown, self._discovery.endpoints(self._shown)) | probes
        colors = (*self._shown.colors, *self._newest.colors)
        self._health.apply(probes, self._newest.color_header, colors)
        self._gate.apply(self._newest, found)
        if self._waiting and self._may_tell(found, self._waiting):
            self._waiting = None
            self._shown = self._board.config = self._newest
            self._discovery.keep(self._shown)
        if self._message is not None or not self._waiting:
            self._spread()

    def _may_tell(self, found: dict[str, tuple[Address, ...]], waiting: _Waiting) -> bool:
        """Whether the newest configuration can be told whole, or has been waited for long enough."""
        now = asyncio.get_running_loop().time()
        if now >= waiting.until:
            return True
        if now < waiting.names_until and not self._discovery.is_settled(self._newest):
            return False
        return self._health.is_settled(target for _, _, target in targets_of(self._newest, found))

    def _look_again(self) -> None:
        if self._waiting:
            asyncio.get_running_loop().call_later(LOOK_S, self._look_again)
            self._look()

    def _tick(self) -> None:
        """Once a second: look at what no event tells."""
        if self._stop.is_set():
            return  # what there was to look at is being taken down
        asyncio.get_running_loop().call_later(TICK_S, self._tick)
        for index in [index for index in self._board.workers if index >= self._shown.workers]:
            if not self._is_there(index):  # a reload sent it away, and it has drained
                self._board.forget_worker(index)
                del self._board.workers[index]
        self._look_at_memory()
        self._look()

    def _look_at_memory(self) -> None:
        """Let nobody in while memory runs out, if it is clients who fill it."""
        board = self._board
        board.usage = usage = read_usage()
        was, self._pressing = self._pressing, is_pressing(usage, self._pressing)
        blocks = (block_of(self._setup.memory, index) for index in range(len(self._channels)))
        board.shedding = self._pressing and sum(block[Worker.CONNECTIONS_OPEN] for block in blocks) >= CROWD
        if usage and was != self._pressing:
            tell, what = (
                (logs.info, "memory is free again")
                if was
                else (logs.warning, f"memory runs out: past {CROWD} clients, new ones are refused")
            )
            tell(what, used_bytes=usage.used, limit_bytes=usage.limit)

    def _unhealthy(self) -> dict[tuple[str, Address], str]:
        """Return the endpoints that fail their checks, and why."""
        return {
            key: self._health.reason(target)
            for key, target in self._told.items()
            if self._health.is_unhealthy(target)
        }

    def _ejected_views(self) -> dict[tuple[str, Address], EjectedView]:
        """Return the endpoints that are ejected now."""
        now_ns, now = time.monotonic_ns(), time.time()
        views = {}
        for key, target in self._told.items():
            held = self._ejections.get(target)
            if held is not None and held.ejection.until_ns > now_ns:
                until = now + (held.ejection.until_ns - now_ns) / 1e9
                views[key] = EjectedView(until, held.ejection.times, held.reason)
        return views

    def _note_look_up(self) -> None:
        self._setup.lasting[LOOKED_UP_NS] = time.monotonic_ns()

    def _open_gate(self) -> None:
        self._setup.lasting[GATE_OPEN] = 1

    # What the workers are told.

    def _spread(self) -> None:
        """Tell every worker what is known now, if it is news."""
        now_ns = time.monotonic_ns()
        told = self._choose_told()
        by_color: dict[str, list[Target]] = {}
        for target in told.values():
            by_color.setdefault(target.color, []).append(target)
        self._told = told
        self._ejections.tidy(by_color, int(self._shown.outlier.eject_s * 1e9), now_ns)
        self._note_returned(now_ns)
        known = self._discovery.endpoints(self._shown)
        endpoints: dict[str, tuple[Address, ...]] = dict.fromkeys(known, ())
        unhealthy: dict[str, set[Address]] = {}
        ejected: dict[str, dict[Address, Ejection]] = {}
        for (name, address), target in told.items():
            endpoints[name] += (address,)
            if self._health.is_unhealthy(target):
                unhealthy.setdefault(name, set()).add(address)
            if held := self._ejections.get(target):
                ejected.setdefault(name, {})[address] = held.ejection
        message = Endpoints(
            endpoints,
            {name: frozenset(addresses) for name, addresses in unhealthy.items()},
            ejected,
            self._shown.generation,
            self._board.shedding,
        )
        self._board.endpoints = endpoints
        self._board.forget_gone()
        if message != self._message:
            self._message = message
            for index in filter(self._is_there, range(len(self._channels))):
                self._tell(index)
        self._say_readiness()
        self._admin.look()

    def _choose_told(self) -> dict[tuple[str, Address], Target]:
        """
        Return the endpoints to tell of.

        One that has just come is checked before it gets requests, unless nobody else could take them.
        """
        known = set(self._told.values())
        told: dict[tuple[str, Address], Target] = {}
        endpoints = self._discovery.endpoints(self._shown)
        for color in self._shown.colors:
            addresses = endpoints.get(color.name, ())
            all_of_it = {
                (color.name, address): target
                for address in addresses
                if (target := target_of(color, address))
            }
            checked = {
                key: target
                for key, target in all_of_it.items()
                if target in known or self._health.is_settled([target])
            }
            serve = any(not self._health.is_unhealthy(target) for target in checked.values())
            told |= checked if serve else all_of_it
        return told

    def _note_returned(self, now_ns: int) -> None:
        """Log whose ejection is over."""
        present = set(self._told.values())
        ejected = {target for target in present if self._ejections.is_ejected(target, now_ns)}
        for target in self._ejected - ejected:
            if target in present:
                logs.info("ejection is over", color=target.color, endpoint=target.endpoint)
        self._ejected = ejected

    def _tell(self, index: int) -> None:
        """Tell a worker all that it should know; again a little later if it does not take it now."""
        if self._message is None:
            return
        if self._channels[index].send(self._message):
            self._untold.discard(index)
        elif index not in self._untold:
            self._untold.add(index)
            asyncio.get_running_loop().call_later(RESEND_S, self._tell_again, index)

    def _tell_again(self, index: int) -> None:
        if index in self._untold:
            self._untold.discard(index)
            if self._is_there(index):
                self._tell(index)

    def _say_readiness(self) -> None:
        """Log when it changes whether traffic should be sent here."""
        unready = self._board.unready()
        # Why exactly may change with every check; that is for /readyz to tell, not for the log.
        kind = unready.partition(":")[0] or "ready"
        if kind == self._said:
            return
        self._said = kind
        if not unready:
            logs.info("ready")
        elif self._board.draining:
            logs.info(f"not ready: {unready}")
        else:
            logs.warning(f"not ready: {unready}")
