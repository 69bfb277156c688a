"""
The parent of every process: binds, forks, restarts, reloads, stops.

It takes no connection and reads no request, so that nothing that a client sends can
bring it down. It holds what must outlive the others: the configuration in force, the
listening sockets (what waits in the queue of a worker that died is served by its successor),
the channels, the shared counts, and the write end of the lifeline, whose end of file tells
everybody that the supervisor is gone.

Signals are blocked and taken one by one with `sigtimedwait`: there is no handler that
could run between two lines of anything, and the same works for process 1 of a container.
The others are put in process groups of their own, so that a terminal's Ctrl-C reaches
the supervisor alone, who tells them in the right order:

    RUNNING   SIGTERM, SIGINT: the controller turns /readyz to 503, the workers drain   → DRAINING
    DRAINING  the workers are gone, or are killed: they had their time                  → CLOSING
    CLOSING   the controller is gone, or is killed                                      → exit
    DRAINING, CLOSING   a second SIGTERM or SIGINT: everybody is killed                 → exit

RUNNING, SIGHUP or files that changed: the configuration is read again. What is wrong with it
is found before anything is given up; then it is adopted, and everybody told. SIGUSR1, at any
time: the workers open the access log again.

Imports stay few: what is in memory here is in memory in every worker.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sillyproxy.config.schema import Config
from sillyproxy.metrics import slab
from sillyproxy.metrics.layout import Worker as Count
from sillyproxy.setup import ControllerSetup, WorkerSetup
from sillyproxy.supervisor.addresses import Addresses, Plan
from sillyproxy.supervisor.crew import CLOSE_TIMEOUT_S, STOPS, WAITED, Crew
from sillyproxy.supervisor.forks import Forks
from sillyproxy.supervisor.processes import Process, reap
from sillyproxy.supervisor.reload import Wrong, propose
from sillyproxy.supervisor.source import LOOK_EVERY_S, Source
from sillyproxy.tools import logs
from sillyproxy.tools.listen import Bound, CannotListen
from sillyproxy.tools.notify import notify, notify_reloading

RUNNING: Final = "running"
DRAINING: Final = "draining"
CLOSING: Final = "closing"

# A worker ends by itself when its drain timeout is over; one that does not is stuck. Short,
# because Docker kills everybody 10 s after SIGTERM, and 1 + 8 s are gone by then.
STUCK_AFTER_S: Final = 0.5

# `timeout`, `tini -g` and service managers signal the process and then its group, so that one
# wish comes twice; what comes later is a second one.
SAME_WISH_S: Final = 0.1

# Until a process that does not read its wire is told again.
RETELL_S: Final = 0.2
HEAR_AGAIN_S: Final = 0.05


class Supervisor:
    """
    Serves what `source` asks for until told to stop.

    `config` is what it asked for at first; `inherited` are addresses that were bound for us;
    `run_worker` and `run_controller` are the others' mains.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        inherited: tuple[Bound, ...],
        run_worker: Callable[[WorkerSetup], int],
        run_controller: Callable[[ControllerSetup], int],
    ) -> None:
        self._asked = config
        self._source = source
        self._addresses = Addresses(inherited)
        self._forks = Forks(self._addresses, run_worker, run_controller)
        self._crew = Crew(self._forks, config)
        self._phase = RUNNING
        self._deadline = 0.0
        self._stopped = 0.0
        self._killed = 0
        self._next_look = 0.0
        self._is_ready = False

    def run(self) -> int:
        """Bind, fork, and look after everybody until the end. Return the exit status. Raise CannotListen."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, the kernel would reap for us
        signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
        try:
            self._crew.make_room(self._asked.workers)
            self._adopt(self._asked, self._addresses.plan(self._asked))
            gc.collect()
            gc.freeze()  # a collection would write to pages that are shared with the workers
            self._advance()
            while any(process.pid for process in self._crew) or self._phase == RUNNING:
                self._wait()
            status = 1 if self._killed else 0
            logs.info("stopped", after_s=round(time.monotonic() - self._stopped, 1), exit=status)
            return status
        finally:
            self._addresses.unlink_all()

    # One turn: a signal, a death, or a moment that was waited for.

    def _wait(self) -> None:
        taken = signal.sigtimedwait(WAITED, max(0.0, min(self._moments()) - time.monotonic()))
        if taken is not None and taken.si_signo in STOPS:
            self._stop(signal.Signals(taken.si_signo))
        elif taken is not None and taken.si_signo == signal.SIGHUP:
            self._reload("SIGHUP")
        elif taken is not None and taken.si_signo == signal.SIGUSR1:
            self._reopen_access_log()
        for process, code in reap(self._crew):
            self._bury(process, code)
        self._look()
        self._advance()

    def _moments(self) -> list[float]:
        """Return when there is something to do, if no signal comes before."""
        if self._phase != RUNNING:
            return [self._deadline]
        moments = [process.deadline for process in self._crew if process.leaving]
        moments += [process.due for process in self._crew if process.wanted and not process.pid]
        if any(process.untold for process in self._crew):
            moments.append(time.monotonic() + RETELL_S)
        if self._source.is_watched:
            moments.append(self._next_look)
        if not self._is_ready:
            moments.append(time.monotonic() + HEAR_AGAIN_S)
        return [*moments, self._crew.next_pulse]

    def _advance(self) -> None:
        """Start what is due to start, kill what is overdue, or take the next step of the stop."""
        now = time.monotonic()
        crew = self._crew
        if self._phase == RUNNING:
            crew.start_due()
            for process in crew:
                if process.leaving and now >= process.deadline:
                    self._kill(process)
                    process.deadline = now + CLOSE_TIMEOUT_S
                crew.tell(process)
            if not self._is_ready and crew.have_applied():
                self._is_ready = True
                notify(READY=1)
            crew.feel_pulse(now)
            return
        if self._phase == DRAINING and not any(worker.pid for worker in self._crew.workers):
            self._phase = CLOSING
            self._deadline = now + CLOSE_TIMEOUT_S
            self._crew.controller.tell(signal.SIGTERM)
        if now >= self._deadline:
            for process in self._crew if self._phase == CLOSING else self._crew.workers:
                self._kill(process)
            self._deadline = now + CLOSE_TIMEOUT_S

    def _kill(self, process: Process) -> None:
        if process.pid:
            logs.error(f"{process.name} did not end in time, killing it", pid=process.pid)
            self._killed += self._phase != RUNNING
            process.tell(signal.SIGKILL)

    # The access log.

    def _reopen_access_log(self) -> None:
        """Have every worker open it again: somebody has renamed the file, to put it away."""
        access_log = self._crew.config.access_log
        if access_log.is_file:
            logs.info("reopening the access log", path=access_log.target)
            self._crew.reopen()
        else:
            logs.info("nothing to reopen, the access log is no file", access_log=access_log.target)

    # Reload.

    def _look(self) -> None:
        """See whether the files have changed."""
        now = time.monotonic()
        if self._phase == RUNNING and self._source.is_watched and now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            if self._source.has_changed():
                self._reload("files")

    def _reload(self, why: str) -> None:
        """Read the configuration again and adopt it, or refuse it whole."""
        if self._phase != RUNNING:
            return
        notify_reloading()
        self._is_ready = False
        try:
            proposal = propose(self._source, self._addresses, self._asked, self._crew.config)
            if proposal is None:
                self._crew.refuse(())
                logs.info("configuration unchanged", by=why, generation=self._crew.config.generation)
                return
            config = proposal.config
            try:
                self._crew.make_room(config.workers)
            except OSError:
                proposal.plan.close()
                raise
            self._adopt(config, proposal.plan)
            logs.info("configuration adopted", by=why, generation=config.generation, changed=proposal.changed)
        except Wrong as wrong:
            self._refuse(why, wrong.problems)
        except CannotListen as error:
            self._refuse(why, (str(error),))
        except OSError as error:  # no descriptors for more workers
            self._refuse(why, (f"cannot serve by it: {error}",))

    def _refuse(self, why: str, problems: tuple[str, ...]) -> None:
        for problem in problems:
            logs.error("configuration refused, the old one goes on", by=why, problem=problem)
        self._crew.refuse(problems)

    def _adopt(self, asked: Config, plan: Plan) -> None:
        """Serve by another configuration from now on. Raise CannotListen, and all is as before."""
        left = self._addresses.adopt(plan)
        # Port 0 has become a port; from here on everybody knows it.
        self._asked = asked
        config = replace(
            asked,
            listeners=tuple(bound.listener for bound in plan.bound if not bound.listener.tls),
            tls=replace(
                asked.tls, listeners=tuple(bound.listener for bound in plan.bound if bound.listener.tls)
            ),
            admin=plan.admin.listener if plan.admin else None,
        )
        logs.setup(log_format=config.log_format, level=config.log_level)
        self._forks.know_tls(config.tls)
        for bound in plan.new:
            what = "admin" if bound is plan.admin else "listening"
            speaks = {"speaks": "TLS"} if bound.listener.tls else {}
            logs.info(f"{what} on {bound.listener}", pid=os.getpid(), **speaks)
        for listener in self._addresses.unused():
            logs.warning(
                "an inherited address is not in SILLYPROXY_LISTEN, nobody serves it", address=str(listener)
            )
        for bound in left:
            logs.info(f"no more listening on {bound.listener}")
            bound.unlink()
            bound.close()  # a worker's own copy is now the last: when it closes it, the address is closed
        self._crew.adopt(config, _drain_deadline(config, config.timeouts.drain_delay_s))

    # Stop.

    def _stop(self, by: signal.Signals) -> None:
        if self._phase != RUNNING:
            if time.monotonic() - self._stopped < SAME_WISH_S:
                return
            logs.warning(f"{by.name} again, stopping at once")
            for process in self._crew:
                process.tell(signal.SIGKILL)
            self._phase = CLOSING
            self._deadline = time.monotonic() + CLOSE_TIMEOUT_S
            return
        timeouts = self._crew.config.timeouts
        delay_s = timeouts.drain_delay_s if by == signal.SIGTERM else 0.0
        logs.info("stopping", signal=by.name, drain_delay_s=delay_s, drain_timeout_s=timeouts.drain_timeout_s)
        notify(STOPPING=1)
        self._phase = DRAINING
        self._stopped = time.monotonic()
        self._deadline = _drain_deadline(self._crew.config, delay_s)
        self._crew.controller.tell(signal.SIGUSR2)
        for worker in self._crew.workers:
            worker.tell(by)
        # From here a worker's own copy is the last: when it closes it, the address is closed.
        self._addresses.close_all()

    # Deaths.

    def _bury(self, process: Process, code: int) -> None:
        pid = process.pid
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        expected = process.leaving
        process.bury(time.monotonic())
        lost = 0
        if process.index is not None:
            block = slab.block_of(self._forks.memory, process.index)
            lost = slab.bury(block)
            block[Count.PID] = 0
            block[Count.RESTARTS] += self._phase == RUNNING and not expected
            block.release()
        if self._phase != RUNNING or expected:
            tell = logs.debug if code == 0 else logs.warning
            tell(f"{process.name} ended", pid=pid, reason=reason, lost=lost)
            if expected and process.wanted:
                self._crew.tell_all()  # its sockets are its own again
            return
        logs.error(
            f"{process.name} died, starting another",
            pid=pid,
            reason=reason,
            **({} if process.index is None else {"lost": lost}),
            in_s=process.backoff_s(),
        )


def _drain_deadline(config: Config, delay_s: float) -> float:
    return time.monotonic() + delay_s + config.timeouts.drain_timeout_s + STUCK_AFTER_S
