"""
What happened to the proxy lately, for people: noticed by what is different on the board.

The controller calls `Chronicle.look` whenever it has learned something. That no place that learns
has to tell of it as well keeps the telling in one file, and what is told true: it is what changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sillyproxy import __version__
from sillyproxy.admin.board import Board, EndpointKey, Event, Kind, Level, State
from sillyproxy.config.report import name_changes
from sillyproxy.metrics.layout import Worker
from sillyproxy.traffic.endpoint import name_of

# Of several endpoints to which the same happened at once, so many are named.
NAMED: Final = 3

_BACK: Final[dict[State, str]] = {
    "ejected": "back, the ejection is over",
    "unhealthy": "back, passes its checks",
    "avoided": "back, can be connected to",
}


class Chronicle:
    """
    Writes on the board what it finds changed there.

    `again`: another controller was here before.
    """

    def __init__(
        self,
        board: Board,
        *,
        again: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._board = board
        self._clock = clock
        self._next_id = 1
        self._config = board.config
        self._reload = board.reload
        self._states: dict[EndpointKey, State] = {}
        self._workers: dict[int, int] = {}
        self._complete = False
        self._readiness = ""
        self._flags = (board.draining, board.shedding)
        self._waits = bool(board.awaited())
        if again:
            self._note("start", "warning", "the controller was started again; the workers served on")
        else:
            names = ", ".join(color.name for color in board.config.colors) or "no color"
            self._note("start", "info", f"sillyproxy {__version__} started with {names}")

    def look(self) -> bool:
        """Compare the board with what it was, and note the differences. Return whether there are any."""
        last = self._next_id
        self._look_at_configuration()
        self._look_at_workers()
        self._look_at_endpoints()
        self._look_at_the_proxy()
        return self._next_id != last

    def _note(self, kind: Kind, level: Level, text: str, color: str | None = None) -> None:
        self._board.events.append(Event(self._next_id, round(self._clock(), 3), level, kind, text, color))
        self._next_id += 1

    def _look_at_configuration(self) -> None:
        before, now = self._config, self._board.config
        if now.generation != before.generation:
            self._config = now
            changes = name_changes(before, now) or "the same settings from elsewhere"
            self._note("reload", "info", f"configuration {now.generation} is in force: {changes}")
        known, self._reload = self._reload, self._board.reload
        reload = self._reload
        if reload is not None and reload.result == "refused" and reload != known:
            first, *more = reload.problems or ("no reason given",)
            rest = f" (and {len(more)} more)" if more else ""
            self._note("refused", "error", f"configuration refused: {first}{rest}")

    def _look_at_workers(self) -> None:
        board = self._board
        now = {
            index: worker.pid if board.block(index)[Worker.PID] else 0
            for index, worker in board.workers.items()
        }
        before, self._workers = self._workers, now
        if not self._complete:
            if len(now) >= board.config.workers:
                self._complete = True
                self._note("worker", "info", f"{_count(len(now), 'worker')} at work")
            return
        for index in sorted({*before, *now}):
            old, new = before.get(index), now.get(index)
            if old == new or board.draining:
                continue
            if new is None:
                self._note("worker", "info", f"worker {index} has left")
            elif old is None:
                self._note("worker", "info", f"worker {index} has come")
            elif not new:
                if index < board.config.workers:
                    self._note("worker", "error", f"worker {index} (process {old}) ended")
            elif not old:
                self._note("worker", "info", f"worker {index} is back (process {new})")
            else:
                self._note("worker", "error", f"worker {index} (process {old}) ended; {new} took its place")

    def _look_at_endpoints(self) -> None:
        board = self._board
        before, self._states = self._states, board.states()
        if before == self._states:
            return
        changed: dict[tuple[str, str, bool], list[EndpointKey]] = {}
        for key, state in self._states.items():
            old = before.get(key, "up")
            if state != old:
                said = _BACK[old] if state == "up" else self._describe(key, state)
                changed.setdefault((key[0], said, state == "up"), []).append(key)
        for (color, said, is_back), keys in changed.items():
            who = _name(keys)
            if is_back:
                self._note("return", "info", f"{who} {said}", color)
            else:
                self._note("ejection", "warning", f"{who} {said}", color)

    def _describe(self, key: EndpointKey, state: State) -> str:
        board = self._board
        if state == "ejected" and (ejected := board.ejected().get(key)):
            for_s = max(1, round(ejected.until - self._clock()))
            return f"ejected for {for_s} s: {ejected.reason}"
        if state == "unhealthy":
            return f"fails its checks: {board.unhealthy().get(key, '')}"
        return f"avoided: {', '.join(sorted(set(board.avoided.get(key, {}).values())))}"

    def _look_at_the_proxy(self) -> None:
        board = self._board
        (drained, shed), self._flags = self._flags, (board.draining, board.shedding)
        if board.draining and not drained:
            self._note("drain", "info", "draining: what is under way may end, nothing new should come")
        if board.shedding != shed:
            if board.shedding:
                self._note("memory", "warning", "memory runs out: new clients are refused")
            else:
                self._note("memory", "info", "memory is free again: new clients are let in")
        waited, self._waits = self._waits, bool(board.awaited())
        if waited and not self._waits:
            self._note("gate", "info", "started: the colors have answered")
        unready = board.unready()
        # Why exactly may change with every check.
        readiness = unready.partition(":")[0] or "ready"
        if readiness != self._readiness and not board.draining:
            self._readiness = readiness
            if unready:
                self._note("readiness", "warning", f"not ready: {unready}")
            else:
                self._note("readiness", "info", "ready")


def _name(keys: Sequence[EndpointKey]) -> str:
    names: Iterable[str] = (name_of(address.ip, address.port) for _, address in keys[:NAMED])
    if len(keys) == 1:
        return next(iter(names))
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"{len(keys)} endpoints ({', '.join(names)}{more}):"


def _count(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
