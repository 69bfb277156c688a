"""
The event loop of a worker: an edge-triggered epoll, and nothing else.

Why our own: a request that only passes through is four system calls and some 6 µs of
Python; a general loop's transports, callbacks and contexts cost as much again
(docs/design.md has the measurements). Edge-triggered, because a descriptor is then
registered once and never changed while requests come and go.

What handlers may rely on: events are hints, not facts (a handler finds out by reading);
a descriptor that is closed during a round is given back to the kernel after it, so that
no event meant for it reaches its successor. A descriptor below 0 is virtual: the kernel knows
nothing of it, and whoever made it calls its handler.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic_ns
from typing import Final, Protocol

Handler = Callable[[int], None]

IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT
GONE: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
ENDED: Final = select.EPOLLRDHUP
RESET: Final = select.EPOLLHUP | select.EPOLLERR
READ: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
READ_WRITE: Final = READ | select.EPOLLOUT
LEVEL_IN: Final = select.EPOLLIN

_ROUND: Final = 256

# How long what was counted and logged may wait to be seen by others.
SETTLE_S: Final = 0.02
_SETTLE_NS: Final = int(SETTLE_S * 1e9)


class Disposable(Protocol):
    """Who owns a descriptor."""

    def dispose(self) -> None:
        """Close it, and let go of what else belonged to it."""


class Loop:
    """
    Descriptors and their handlers, one timer, and what is to be done soon.

    `now_ns` is the monotonic time at which the current round began. `on_tick` is called
    every `tick_s` while `ticking` is set, `on_settle` soon after `unsettled` was set, once
    for all that happened in between; `on_crash` gets the call that raised. `longest_ns` is how
    long the longest round took since somebody set it to 0.
    """

    def __init__(
        self,
        tick_s: float,
        on_tick: Callable[[], None],
        on_settle: Callable[[], None],
        on_crash: Callable[[Callable[..., None]], None],
    ) -> None:
        self._epoll = select.epoll()
        self._tick_s = tick_s
        self._tick_ns = int(tick_s * 1e9)
        self._on_tick = on_tick
        self._on_settle = on_settle
        self._on_crash = on_crash
        self._soon: list[Callable[[], None]] = []
        self._closing: list[Disposable] = []
        self.handlers: dict[int, Handler] = {}
        self.now_ns = monotonic_ns()
        self.ticking = False
        self.unsettled = False
        self.stopped = False
        self.longest_ns = 0

    def set_tick(self, tick_s: float) -> None:
        """Tick every `tick_s` from now on."""
        self._tick_s = tick_s
        self._tick_ns = int(tick_s * 1e9)

    def add(self, fd: int, handler: Handler, events: int) -> None:
        """Call `handler` with the events of `fd` from now on."""
        self.handlers[fd] = handler
        if fd >= 0:
            self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of `fd`; what is ready already is told again, but for a virtual one."""
        if fd >= 0:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget a descriptor that stays open."""
        self.handlers.pop(fd, None)
        if fd >= 0:
            self._epoll.unregister(fd)

    def close(self, fd: int, owner: Disposable) -> None:
        """Forget a descriptor; its owner closes it when this round is over."""
        self.handlers.pop(fd, None)
        self._closing.append(owner)

    def soon(self, call: Callable[[], None]) -> None:
        """Call when this round is over, before waiting again."""
        self._soon.append(call)

    def run(self) -> None:
        """Serve until `stopped`."""
        poll = self._epoll.poll
        handlers = self.handlers
        closing = self._closing
        next_tick_ns = monotonic_ns() + self._tick_ns
        settled_ns = 0
        while not self.stopped:
            if self._soon:
                timeout = 0.0
            elif self.unsettled:
                timeout = SETTLE_S
            elif self.ticking:
                timeout = self._tick_s
            else:
                timeout = -1.0
            ready = poll(timeout, _ROUND)
            self.now_ns = now_ns = monotonic_ns()
            for fd, events in ready:
                handler = handlers.get(fd)
                if handler is not None:
                    try:
                        handler(events)
                    except Exception:
                        self._on_crash(handler)
            # The round's events are all handled: nothing meant for them can reach a successor.
            if closing:
                self._dispose()
            if self._soon:
                self._run_soon()
            if now_ns >= next_tick_ns:
                next_tick_ns = now_ns + self._tick_ns
                self._on_tick()
            if self.unsettled and now_ns - settled_ns >= _SETTLE_NS:
                settled_ns = now_ns
                self.unsettled = False
                self._on_settle()
            if closing:
                self._dispose()
            # Who was ready when this round began, and did not come up in it, has waited as long.
            spent_ns = monotonic_ns() - now_ns
            if spent_ns > self.longest_ns:
                self.longest_ns = spent_ns

    def _dispose(self) -> None:
        for owner in self._closing:
            owner.dispose()
        self._closing.clear()

    def _run_soon(self) -> None:
        calls, self._soon = self._soon, []
        for call in calls:
            try:
                call()
            except Exception:
                self._on_crash(call)
