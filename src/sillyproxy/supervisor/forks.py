"""What a fork becomes: what it is given of ours, and what it lets go of."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from sillyproxy.config.schema import Config, Listener, Tls
from sillyproxy.metrics import slab
from sillyproxy.metrics.layout import MAX_WORKERS
from sillyproxy.metrics.layout import Worker as Count
from sillyproxy.metrics.spans import RING_BYTES, ring_of
from sillyproxy.setup import ControllerSetup, WorkerSetup
from sillyproxy.supervisor.addresses import Addresses
from sillyproxy.supervisor.processes import Process
from sillyproxy.tools import logs
from sillyproxy.tools.channel import Channel, make_pair

if TYPE_CHECKING:
    from ssl import SSLContext

# What a controller leaves to its successor.
LASTING_BYTES: Final = 16 * 8


class Forks:
    """
    What outlives every process that is forked, and how one is made of it.

    `addresses`; the shared counts (`memory`); the channels between the controller and each worker;
    the lifeline, whose end of file tells that we are gone. `run_worker` and `run_controller` are mains.
    """

    def __init__(
        self,
        addresses: Addresses,
        run_worker: Callable[[WorkerSetup], int],
        run_controller: Callable[[ControllerSetup], int],
    ) -> None:
        self.addresses = addresses
        self.memory = memoryview(mmap.mmap(-1, MAX_WORKERS * slab.BLOCK_BYTES))
        # Whose pages nobody writes take no memory.
        self._spans = memoryview(mmap.mmap(-1, MAX_WORKERS * RING_BYTES))
        self.to_workers: list[Channel] = []
        self._to_controller: list[Channel] = []
        self._run_worker = run_worker
        self._run_controller = run_controller
        self._lasting = memoryview(mmap.mmap(-1, LASTING_BYTES)).cast("q")
        self._lifeline, self._lifeline_hold = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._started_at = time.time()
        self._tls: SSLContext | None = None

    def know_tls(self, tls: Tls) -> None:
        """Have what all workers share of TLS, from the first configuration on that has it."""
        if tls.listeners and self._tls is None:
            from sillyproxy.tools.pem import make_server_context

            self._tls = make_server_context()

    def make_channel(self) -> None:
        """Make the channel of one more worker. Raise OSError."""
        left, right = make_pair()
        self.to_workers.append(Channel(left))
        self._to_controller.append(Channel(right))

    def prepare(
        self, process: Process, config: Config, others: Iterable[Process], waited: Iterable[signal.Signals]
    ) -> None:
        """In a fork: let go of the supervisor's signals, its lifeline and its wires to others."""
        os.setpgid(0, 0)
        for what in waited:
            signal.signal(what, signal.SIG_DFL)
        # The supervisor's own, and service managers send it to all of its processes.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        # Who drains is told by it, and may not have a handler yet.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        # In a group of its own it is in the background of its terminal; it logs there all the same.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.close(self._lifeline_hold)
        for other in others:
            if other.control is not None:
                other.control.close()
        logs.setup(log_format=config.log_format, level=config.log_level, process=f"sillyproxy {process.name}")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waited)

    def be_worker(
        self,
        index: int,
        config: Config,
        sockets: Sequence[tuple[Listener, socket.socket]],
        control: Channel,
    ) -> int:
        """Be a worker that accepts on these sockets. Return the exit status."""
        self.addresses.close_all(but=[sock for _, sock in sockets])
        for other, channel in enumerate(self._to_controller):
            self.to_workers[other].close()
            if other != index:
                channel.close()
        block = slab.block_of(self.memory, index)
        block[Count.PID] = os.getpid()
        return self._run_worker(
            WorkerSetup(
                index,
                config,
                list(sockets),
                self._to_controller[index],
                block,
                self._lifeline,
                self.memory,
                control,
                ring_of(self._spans, index),
                self._tls,
            )
        )

    def be_controller(self, config: Config, control: Channel) -> int:
        """Be the controller. Return the exit status."""
        admin = self.addresses.admin.sockets[0] if self.addresses.admin else None
        self.addresses.close_all(but=[admin] if admin else [])
        for channel in self._to_controller:
            channel.close()
        return self._run_controller(
            ControllerSetup(
                config,
                admin,
                self.to_workers,
                self.memory,
                self._spans,
                self._lifeline,
                control,
                self._lasting,
                started_at=self._started_at,
            )
        )
