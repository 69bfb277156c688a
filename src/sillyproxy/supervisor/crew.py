"""The controller and the workers: how many are wanted, what each is told, and how they are."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from sillyproxy.config.schema import Config, Listener
from sillyproxy.supervisor.forks import Forks
from sillyproxy.supervisor.processes import Process, start
from sillyproxy.tools import logs
from sillyproxy.tools.channel import Channel, Refused, Reopen, Serve

STOPS: Final = (signal.SIGTERM, signal.SIGINT)
WAITED: Final = (*STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)

# The controller has nothing to finish.
CLOSE_TIMEOUT_S: Final = 1.0

# One that has read nothing for five of these looks hangs (`Process.is_hanging`).
LOOK_AT_PULSE_EVERY_S: Final = 2.0


class Crew:
    """
    All processes, the controller first.

    `config` is in force; `refused` are the problems of a newer one, until a good one comes. The
    place of a worker that is not wanted any more stays in the table, as its counts do.
    """

    def __init__(self, forks: Forks, config: Config) -> None:
        self._forks = forks
        self.config = config
        self.refused: tuple[str, ...] = ()
        self.controller = Process("controller", self._be_controller)
        self.workers: list[Process] = []
        self.next_pulse = 0.0

    def __iter__(self) -> Iterator[Process]:
        return iter((self.controller, *self.workers))

    def make_room(self, workers: int) -> None:
        """Have a place in the table, and a channel, for so many workers. Raise OSError."""
        for index in range(len(self.workers), workers):
            self._forks.make_channel()
            main: Callable[[Channel], int] = partial(self._be_worker, index)
            self.workers.append(Process(f"worker {index}", main, index, wanted=False))

    def adopt(self, config: Config, drain_deadline: float) -> None:
        """Have everybody serve by this; who is not wanted any more leaves until then."""
        admin_before, self.config = self.config.admin, config
        self.refused = ()
        self.controller.untold.discard(Refused)
        for worker in self.workers:
            worker.wanted = worker.index is not None and worker.index < config.workers
        if config.admin != admin_before:
            self.controller.leave(time.monotonic() + CLOSE_TIMEOUT_S)
        self.tell_all()
        for worker in self.workers:
            if not worker.wanted and worker.control is not None:
                # There is no hurry with one that is too many: by the configuration it knows that it is.
                is_told = worker.control.send(Serve(config))
                worker.leave(drain_deadline, by_signal=not is_told)

    def refuse(self, problems: tuple[str, ...]) -> None:
        """Have the controller show what is wrong with what is asked for now; nothing: it is in force."""
        if problems:
            self.controller.untold.add(Refused)
        elif self.refused:
            self.controller.untold.discard(Refused)
            self.controller.untold.add(Serve)
        self.refused = problems

    # What they are told.

    def tell_all(self) -> None:
        """Tell everybody who stays what is in force."""
        for process in self:
            if process.pid and process.wanted and not process.leaving:
                process.untold.add(Serve)
                self.tell(process)

    def reopen(self) -> None:
        """Have every worker open the access log again."""
        for worker in self.workers:
            if worker.pid:
                worker.untold.add(Reopen)
                self.tell(worker)

    def tell(self, process: Process) -> None:
        """Tell a process what it has not been told yet, as far as it takes it."""
        if process.control is None:
            return
        # One that leaves may be at it for long, and logs until the end.
        if Reopen in process.untold and process.control.send(Reopen()):
            process.untold.discard(Reopen)
        if process.leaving:
            return
        if Serve in process.untold:
            if process is self.controller:
                told = process.control.send(Serve(self.config), [one.sock for one in self._forks.to_workers])
            else:
                pairs = self._sockets_of(process)
                listeners = tuple(listener for listener, _ in pairs)
                told = process.control.send(Serve(self.config, listeners), [sock for _, sock in pairs])
            if not told:
                return
            process.untold.discard(Serve)
        if Refused in process.untold and process.control.send(Refused(self.refused)):
            process.untold.discard(Refused)

    def _sockets_of(self, worker: Process) -> list[tuple[Listener, socket.socket]]:
        # Who leaves has none any more: others accept on them as soon as they are told.
        places = [one for one in self.workers if one.wanted and not one.leaving]
        return self._forks.addresses.sockets_of(places.index(worker), len(places))

    # How they are.

    def have_applied(self) -> bool:
        """Read what the workers say; tell whether all serve by the configuration in force."""
        for worker in self.workers:
            worker.hear()
        return all(worker.applied == self.config.generation for worker in self.workers if worker.wanted)

    def feel_pulse(self, now: float) -> None:
        """Kill who hangs."""
        if now < self.next_pulse:
            return
        self.next_pulse = now + LOOK_AT_PULSE_EVERY_S
        for process in self:
            if process.is_hanging():
                logs.error(f"{process.name} hangs, killing it", pid=process.pid)
                process.tell(signal.SIGKILL)

    # Births.

    def start_due(self) -> None:
        """Start who is due to start."""
        now = time.monotonic()
        for process in self:
            if process.is_due(now):
                start(process, partial(self._forks.prepare, process, self.config, self, WAITED))
                if process is self.controller and self.refused:
                    process.untold.add(Refused)

    def _be_worker(self, index: int, control: Channel) -> int:
        return self._forks.be_worker(index, self.config, self._sockets_of(self.workers[index]), control)

    def _be_controller(self, control: Channel) -> int:
        return self._forks.be_controller(self.config, control)
