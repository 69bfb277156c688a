"""
The control plane: one process beside the workers.

It finds the endpoints, tells them to every worker, and answers on the admin listener.
Nothing that it does is needed for a request: when it dies, the workers serve on with what
they have, and its successor, on the same sockets, tells them everything again.
"""

from __future__ import annotations

import asyncio
import os
import signal

from sillyproxy.admin.app import build_app
from sillyproxy.admin.board import Board, WorkerView
from sillyproxy.admin.server import serve_admin
from sillyproxy.discovery.watch import Discovery
from sillyproxy.metrics.layout import Worker
from sillyproxy.metrics.slab import block_of
from sillyproxy.setup import ControllerSetup
from sillyproxy.tools import logs
from sillyproxy.tools.channel import Applied, Endpoints, EndpointState, Hello, Message
from sillyproxy.tools.dns import Resolver, allow_large_answers

# A worker waits for its first endpoints before it accepts, and takes a color that is not among
# them for gone. So they are told when every name was looked up once, well or badly, or after this
# long: with what is known by then, so that one slow name does not hold up all colors.
SETTLE_S = 2.0
RESEND_S = 0.2  # until a worker that does not read its channel is told again


def run(setup: ControllerSetup) -> int:
    """Be the controller, until SIGTERM or the end of the supervisor. Return the exit status."""
    allow_large_answers()
    return asyncio.run(Controller(setup).run())


class Controller:
    """One life of the controller."""

    def __init__(self, setup: ControllerSetup) -> None:
        resolver = Resolver()
        self._setup = setup
        self._config = setup.config
        self._discovery = Discovery(resolver.lookup, self._spread)
        self._board = Board(setup.config, setup.memory, setup.started_at)
        self._board.lookups = resolver.results
        self._board.name_problems = self._discovery.problems
        self._settled = False
        self._meet_workers()
        self._stop = asyncio.Event()
        self._untold: set[int] = set()
        self._said = ""

    async def run(self) -> int:
        """Wire everything up, wait for the end, take it down."""
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._drain)
        loop.add_reader(self._setup.lifeline, self._lose_supervisor)
        for index, channel in enumerate(self._setup.channels):
            loop.add_reader(channel.fileno(), self._hear, index)
        self._discovery.apply(self._config)
        loop.call_later(SETTLE_S, self._settle)
        self._spread()
        admin = self._start_admin()
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stop, admin} if admin else {stop}, return_when=asyncio.FIRST_COMPLETED)
        if admin is not None:
            if not stop.done():
                await admin  # it never ends by itself; with what it broke, so do we, for a fresh start
            admin.cancel()
            await asyncio.wait({admin})
        await self._discovery.close()
        return 0

    def _start_admin(self) -> asyncio.Task[None] | None:
        if self._setup.admin is None:
            return None
        return asyncio.create_task(serve_admin(build_app(self._board), self._setup.admin))

    # What the others say.

    def _meet_workers(self) -> None:
        """Find the workers that said hello to a controller before us."""
        for index in range(len(self._setup.channels)):
            block = block_of(self._setup.memory, index)
            if pid := block[Worker.PID]:
                self._board.workers[index] = WorkerView(
                    pid, block[Worker.GENERATION] or self._config.generation
                )

    def _hear(self, index: int) -> None:
        for message in self._setup.channels[index].receive():
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
                case EndpointState(color=color, address=address, up=up, reason=reason):
                    if address in self._board.endpoints.get(color, ()):
                        self._board.note_endpoint(index, color, address, up=up, reason=reason)

    def _drain(self) -> None:
        self._board.draining = True
        self._say_readiness()

    def _lose_supervisor(self) -> None:
        asyncio.get_running_loop().remove_reader(self._setup.lifeline)
        logs.error("the supervisor is gone, ending", pid=os.getpid())
        self._stop.set()

    # What the workers are told.

    def _spread(self) -> None:
        """Tell every worker the endpoints of now."""
        self._settled = self._settled or self._discovery.is_settled()
        if not self._settled:
            return
        self._board.endpoints = self._discovery.endpoints()
        self._board.forget_gone()
        for index in range(len(self._setup.channels)):
            self._tell(index)
        self._say_readiness()

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._spread()

    def _tell(self, index: int) -> None:
        """Tell a worker all that it should know; again a little later if it does not take it now."""
        if not self._settled:
            return
        message: Message = Endpoints(self._board.endpoints)
        if self._setup.channels[index].send(message):
            self._untold.discard(index)
        elif index not in self._untold:
            self._untold.add(index)
            asyncio.get_running_loop().call_later(RESEND_S, self._tell_again, index)

    def _tell_again(self, index: int) -> None:
        if index in self._untold:
            self._untold.discard(index)
            self._tell(index)

    def _say_readiness(self) -> None:
        """Log when it changes whether traffic should be sent here."""
        unready = self._board.unready()
        now = f"not ready: {unready}" if unready else "ready"
        if now != self._said:
            self._said = now
            if unready and not self._board.draining:
                logs.warning(now)
            else:
                logs.info(now)
