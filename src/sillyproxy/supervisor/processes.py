"""
The processes that we keep alive: one controller, and as many workers as are wanted.

    (none)    `due` has come                                          → running
    running   it dies                                                 → (none), due after a while
    running   it is not wanted any more, or is to be replaced: SIGTERM → leaving
    leaving   it ends, or is killed at its deadline                   → (none), due at once if wanted
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from sillyproxy.tools import logs
from sillyproxy.tools.channel import Applied, Channel, Message, make_pair

# A process that keeps dying is started again after 0, 0.1, 0.2, 0.4 … 5 s; one that lived
# this long has not kept dying.
FIRST_BACKOFF_S: Final = 0.1
LAST_BACKOFF_S: Final = 5.0
LIVED_S: Final = 10.0

# One that has read nothing for so many looks hangs: it is killed, and its successor serves who waits.
HANGS_AFTER_LOOKS: Final = 5


@dataclass(slots=True, eq=False)
class Process:
    """
    One process. `pid` is 0 while there is none, `due` when to start it then.

    `control` is our end of the wire to it, `untold` what it has not been told yet because the
    wire was full, `applied` the generation by which it says it serves, `silent` how many looks in
    a row it has not read what was sent. `deadline` is when it is killed if it is `leaving`.
    """

    name: str
    main: Callable[[Channel], int]
    index: int | None = None
    pid: int = 0
    started: float = 0.0
    due: float = 0.0
    deaths: int = 0
    wanted: bool = True
    leaving: bool = False
    deadline: float = 0.0
    control: Channel | None = None
    untold: set[type[Message]] = field(default_factory=set)
    applied: int = 0
    silent: int = 0

    def backoff_s(self) -> float:
        """Return how long to wait before the next start."""
        if self.deaths <= 1:
            return 0.0
        return float(min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self.deaths - 2, 10)))

    def is_due(self, now: float) -> bool:
        """Tell whether to start it now."""
        return self.wanted and not self.pid and self.due <= now

    def tell(self, what: signal.Signals) -> None:
        """Send it a signal."""
        # We have not waited for it yet, so the pid is its own even if it is dead already.
        if self.pid:
            os.kill(self.pid, what)

    def leave(self, deadline: float, *, by_signal: bool = True) -> None:
        """Have it end by itself, until then; by a signal, if it was not told otherwise."""
        if self.pid and not self.leaving:
            self.leaving = True
            self.deadline = deadline
            if by_signal:
                self.tell(signal.SIGTERM)

    def hear(self) -> None:
        """Read what it says."""
        for message in self.control.receive() if self.control else ():
            if isinstance(message, Applied):
                self.applied = message.generation

    def is_hanging(self) -> bool:
        """
        Look whether it has read what was sent, and send a nudge for the next look.

        Looks are counted, not seconds: a machine that slept, or a container that was paused, has
        not let anybody read, and makes nobody's silence longer than by one look.
        """
        if self.control is None or self.leaving:
            return False
        if self.control.has_unread():
            self.silent += 1
        else:
            self.silent = 0
            self.control.nudge()
        return self.silent >= HANGS_AFTER_LOOKS

    def bury(self, now: float) -> None:
        """Note that it has ended, and when to start the next."""
        self.pid = 0
        self.untold.clear()
        self.applied = self.silent = 0
        if self.control is not None:
            self.control.close()
            self.control = None
        if self.leaving:
            self.leaving = False
            self.deaths = 0
            self.due = now
        else:
            self.deaths = 1 if now - self.started >= LIVED_S else self.deaths + 1
            self.due = now + self.backoff_s()


def start(process: Process, prepare: Callable[[], None]) -> None:
    """
    Fork `process`. In the fork, `prepare` lets go of what belongs to others, then its main runs.

    If it cannot be forked it is due again a little later.
    """
    process.started = time.monotonic()
    ours, theirs = make_pair()
    try:
        pid = os.fork()
    except OSError as error:
        ours.close()
        theirs.close()
        process.deaths += 1
        process.due = process.started + max(FIRST_BACKOFF_S, process.backoff_s())
        logs.error(f"cannot start {process.name}", reason=error.strerror)
        return
    if pid == 0:
        ours.close()
        _become(process, prepare, Channel(theirs))
    theirs.close()
    process.control = Channel(ours)
    process.pid = pid
    logs.debug(f"{process.name} started", pid=pid)


def _become(process: Process, prepare: Callable[[], None], control: Channel) -> NoReturn:
    """Turn this fork into `process`; never return into the supervisor's code."""
    status = 1
    try:
        prepare()
        status = process.main(control)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def reap(processes: Iterable[Process]) -> list[tuple[Process, int]]:
    """Return who has ended since the last time, and how: an exit status, or a signal's number below 0."""
    ended: list[tuple[Process, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        # As process 1 of a container we are also given orphans that are none of ours.
        ended += [(process, os.waitstatus_to_exitcode(status)) for process in processes if process.pid == pid]
