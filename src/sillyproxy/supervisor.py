"""
The parent of every process: binds, forks, restarts, stops.

It takes no connection and reads no request, so that nothing that a client sends can
bring it down. It holds what must outlive the others: the listening sockets (what waits
in the queue of a worker that died is served by its successor), the channels, the shared
counts, and the write end of the lifeline, whose end of file tells everybody that the
supervisor is gone.

Signals are blocked and taken one by one with `sigtimedwait`: there is no handler that
could run between two lines of anything, and the same works for process 1 of a container.
The others are put in process groups of their own, so that a terminal's Ctrl-C reaches
the supervisor alone, who tells them in the right order:

    RUNNING   SIGTERM, SIGINT: the controller turns /readyz to 503, the workers drain   → DRAINING
    DRAINING  the workers are gone, or are killed: they had their time                  → CLOSING
    CLOSING   the controller is gone, or is killed                                      → exit
    DRAINING, CLOSING   a second SIGTERM or SIGINT: everybody is killed                 → exit

Imports stay few: what is in memory here is in memory in every worker.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

from sillyproxy.config.schema import Config, Listener
from sillyproxy.metrics import slab
from sillyproxy.metrics.layout import MAX_WORKERS
from sillyproxy.metrics.layout import Worker as Count
from sillyproxy.setup import ControllerSetup, WorkerSetup
from sillyproxy.tools import listen, logs
from sillyproxy.tools.channel import Channel, make_pair

RUNNING: Final = "running"
DRAINING: Final = "draining"
CLOSING: Final = "closing"

# A worker ends by itself when its drain timeout is over; one that does not is stuck. Short,
# because Docker kills everybody 10 s after SIGTERM, and 1 + 8 s are gone by then.
STUCK_AFTER_S: Final = 0.5
CLOSE_TIMEOUT_S: Final = 1.0

# `timeout`, `tini -g` and service managers signal the process and then its group, so that one
# wish comes twice; what comes later is a second one.
SAME_WISH_S: Final = 0.1

# A process that keeps dying is started again after 0, 0.1, 0.2, 0.4 … 5 s; one that lived
# this long has not kept dying.
FIRST_BACKOFF_S: Final = 0.1
LAST_BACKOFF_S: Final = 5.0
LIVED_S: Final = 10.0

# What a controller leaves to its successor.
LASTING_BYTES: Final = 16 * 8

STOPS: Final = (signal.SIGTERM, signal.SIGINT)
WAITED: Final = (*STOPS, signal.SIGHUP, signal.SIGCHLD)


@dataclass(slots=True)
class Process:
    """One process that we keep alive. `pid` is 0 while there is none, `due` when to start it then."""

    name: str
    main: Callable[[], int]
    index: int | None = None
    pid: int = 0
    started: float = 0.0
    due: float = 0.0
    deaths: int = 0

    def backoff_s(self) -> float:
        """Return how long to wait before the next start."""
        if self.deaths <= 1:
            return 0.0
        return float(min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self.deaths - 2, 10)))


@dataclass(slots=True)
class _Ends:
    """What this process holds open for the others."""

    bound: list[listen.Bound] = field(default_factory=list)
    admin: listen.Bound | None = None
    to_workers: list[Channel] = field(default_factory=list)
    to_controller: list[Channel] = field(default_factory=list)


class Supervisor:
    """Serves one configuration until told to stop. `run_worker`, `run_controller`: the others' mains."""

    def __init__(
        self,
        config: Config,
        run_worker: Callable[[WorkerSetup], int],
        run_controller: Callable[[ControllerSetup], int],
    ) -> None:
        self._config = config
        self._run_worker = run_worker
        self._run_controller = run_controller
        self._phase = RUNNING
        self._deadline = 0.0
        self._stopped = 0.0
        self._killed = 0
        self._ends = _Ends()
        self._memory = memoryview(mmap.mmap(-1, MAX_WORKERS * slab.BLOCK_BYTES))
        self._controls = make_pair()
        self._lasting = memoryview(mmap.mmap(-1, LASTING_BYTES)).cast("q")
        self._lifeline, self._lifeline_hold = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._started_at = time.time()
        self._controller = Process("controller", self._be_controller)
        self._workers = [
            Process(f"worker {index}", lambda index=index: self._be_worker(index), index)  # type: ignore[misc]
            for index in range(config.workers)
        ]

    def run(self) -> int:
        """Bind, fork, and look after everybody until the end. Return the exit status. Raise CannotListen."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, the kernel would reap for us
        signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
        try:
            self._bind()
            gc.collect()
            gc.freeze()  # a collection would write to pages that are shared with the workers
            for process in [self._controller, *self._workers]:
                self._start(process)
            while any(process.pid for process in self._processes()) or self._phase == RUNNING:
                self._wait()
            return 1 if self._killed else 0
        finally:
            for bound in self._all_bound():
                bound.unlink()

    # What there is.

    def _processes(self) -> list[Process]:
        return [*self._workers, self._controller]

    def _all_bound(self) -> list[listen.Bound]:
        return [*self._ends.bound, *([self._ends.admin] if self._ends.admin else [])]

    def _bind(self) -> None:
        config, ends = self._config, self._ends
        for listener in config.listeners:
            ends.bound.append(listen.bind(listener, config.workers))
        if config.admin is not None:
            ends.admin = listen.bind(config.admin, 1)
        # Port 0 has become a port; from here on everybody knows it.
        self._config = replace(
            config,
            listeners=tuple(bound.listener for bound in ends.bound),
            admin=ends.admin.listener if ends.admin else None,
        )
        for _ in self._workers:
            left, right = make_pair()
            ends.to_workers.append(Channel(left))
            ends.to_controller.append(Channel(right))
        for bound in ends.bound:
            self._log_bound("listening on", bound.listener)
        if ends.admin is not None:
            self._log_bound("admin on", ends.admin.listener)

    @staticmethod
    def _log_bound(what: str, listener: Listener) -> None:
        logs.info(f"{what} {listener}", pid=os.getpid())

    # One turn: a signal, a death, or a moment that was waited for.

    def _wait(self) -> None:
        now = time.monotonic()
        moments = [process.due for process in self._processes() if not process.pid and self._phase == RUNNING]
        if self._phase != RUNNING:
            moments.append(self._deadline)
        if moments:
            taken = signal.sigtimedwait(WAITED, max(0.0, min(moments) - now))
        else:
            taken = signal.sigwaitinfo(WAITED)
        if taken is not None and taken.si_signo in STOPS:
            self._stop(signal.Signals(taken.si_signo))
        elif taken is not None and taken.si_signo == signal.SIGHUP:
            logs.warning("SIGHUP: reading the configuration again is not supported yet, it stays as it is")
        self._reap()
        self._advance()

    def _advance(self) -> None:
        """Start what is due to start, or take the next step of the stop."""
        now = time.monotonic()
        if self._phase == RUNNING:
            for process in self._processes():
                if not process.pid and process.due <= now:
                    self._start(process)
            return
        if self._phase == DRAINING and not any(worker.pid for worker in self._workers):
            self._phase = CLOSING
            self._deadline = now + CLOSE_TIMEOUT_S
            self._tell(self._controller, signal.SIGTERM)
        if now >= self._deadline:
            for process in self._processes() if self._phase == CLOSING else self._workers:
                if process.pid:
                    logs.error(f"{process.name} did not end in time, killing it", pid=process.pid)
                    self._killed += 1
                    self._tell(process, signal.SIGKILL)
            self._deadline = now + CLOSE_TIMEOUT_S

    # Stop.

    def _stop(self, by: signal.Signals) -> None:
        if self._phase != RUNNING:
            if time.monotonic() - self._stopped < SAME_WISH_S:
                return
            logs.warning(f"{by.name} again, stopping at once")
            for process in self._processes():
                self._tell(process, signal.SIGKILL)
            self._phase = CLOSING
            self._deadline = time.monotonic() + CLOSE_TIMEOUT_S
            return
        timeouts = self._config.timeouts
        delay_s = timeouts.drain_delay_s if by == signal.SIGTERM else 0.0
        logs.info("stopping", signal=by.name, drain_delay_s=delay_s, drain_timeout_s=timeouts.drain_timeout_s)
        self._phase = DRAINING
        self._stopped = time.monotonic()
        self._deadline = time.monotonic() + delay_s + timeouts.drain_timeout_s + STUCK_AFTER_S
        self._tell(self._controller, signal.SIGUSR1)
        for worker in self._workers:
            self._tell(worker, by)
        # From here a worker's own copy is the last: when it closes it, the address is closed.
        for bound in self._ends.bound:
            bound.close()

    @staticmethod
    def _tell(process: Process, what: signal.Signals) -> None:
        # We have not waited for it yet, so the pid is its own even if it is dead already.
        if process.pid:
            os.kill(process.pid, what)

    # Births and deaths.

    def _start(self, process: Process) -> None:
        process.started = time.monotonic()
        try:
            pid = os.fork()
        except OSError as error:
            process.deaths += 1
            process.due = process.started + max(FIRST_BACKOFF_S, process.backoff_s())
            logs.error(f"cannot start {process.name}", reason=error.strerror)
            return
        if pid == 0:
            self._become(process)
        process.pid = pid
        logs.debug(f"{process.name} started", pid=pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # As process 1 of a container we are also given orphans that are none of ours.
            for process in self._processes():
                if process.pid == pid:
                    self._bury(process, status)

    def _bury(self, process: Process, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        pid, process.pid = process.pid, 0
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        lost = 0
        if process.index is not None:
            block = slab.block_of(self._memory, process.index)
            lost = slab.bury(block)
            block[Count.PID] = 0
            block[Count.RESTARTS] += self._phase == RUNNING
            block.release()
        if self._phase != RUNNING:
            tell = logs.debug if code == 0 else logs.warning
            tell(f"{process.name} ended", pid=pid, reason=reason, lost=lost)
            return
        now = time.monotonic()
        process.deaths = 1 if now - process.started >= LIVED_S else process.deaths + 1
        wait_s = process.backoff_s()
        process.due = now + wait_s
        logs.error(
            f"{process.name} died, starting another",
            pid=pid,
            reason=reason,
            lost=lost,
            in_s=wait_s,
        )

    # What a fork does.

    def _become(self, process: Process) -> NoReturn:
        """Turn this fork into `process`; never return into the supervisor's code."""
        status = 1
        try:
            os.setpgid(0, 0)
            for what in (*WAITED, signal.SIGUSR1):
                signal.signal(what, signal.SIG_DFL)
            # In a group of its own it is in the background of its terminal; it logs there all the same.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.close(self._lifeline_hold)
            logs.setup(
                log_format=self._config.log_format,
                level=self._config.log_level,
                process=f"sillyproxy {process.name}",
            )
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED)
            status = process.main()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _be_worker(self, index: int) -> int:
        ends = self._ends
        mine = [bound.sockets[index] for bound in ends.bound]
        for bound in ends.bound:
            for sock in bound.sockets:
                if sock not in mine:
                    sock.close()
        if ends.admin:
            ends.admin.close()
        for other, channel in enumerate(ends.to_controller):
            ends.to_workers[other].sock.close()
            if other != index:
                channel.sock.close()
        for end in self._controls:
            end.close()
        block = slab.block_of(self._memory, index)
        block[Count.PID] = os.getpid()
        return self._run_worker(
            WorkerSetup(
                index,
                self._config,
                mine,
                ends.to_controller[index],
                block,
                self._lifeline,
                self._memory,
            )
        )

    def _be_controller(self) -> int:
        ends = self._ends
        for bound in ends.bound:
            bound.close()
        for channel in ends.to_controller:
            channel.sock.close()
        admin = ends.admin.sockets[0] if ends.admin else None
        return self._run_controller(
            ControllerSetup(
                self._config,
                admin,
                ends.to_workers,
                self._memory,
                self._lifeline,
                Channel(self._controls[1]),
                self._lasting,
                started_at=self._started_at,
            )
        )
