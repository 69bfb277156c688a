"""
The frames of the dashboard, made once a second and shared by all who watch.

While nobody watches, a second costs its sample and nothing else. A frame is made when the first
watcher of its window asks for it, and is the same text for all others until there is news.
"""

from __future__ import annotations

import asyncio
from typing import Final

from sillyproxy.admin.board import Board
from sillyproxy.admin.history import History, dump
from sillyproxy.admin.view import build_frame

TICK_S: Final = 1.0
# What happens is shown at once; but an endpoint that comes and goes is not to make frames without end.
AT_ONCE_S: Final = 0.2


class Live:
    """The frames of this board, and who is to be woken when there are new ones."""

    def __init__(self, board: Board, history: History) -> None:
        self.history = history
        self.closing = False
        self._board = board
        self._version = 0
        self._frames: dict[int, tuple[tuple[int, int], str]] = {}
        self._events: dict[tuple[int, bool], tuple[tuple[int, int], bytes]] = {}
        self._watchers: set[asyncio.Event] = set()
        self._stirred = False

    async def run(self) -> None:
        """Take a sample each second, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # Not one second after the last: what is late once must not be late ever after.
            due = max(due + TICK_S, loop.time())
            await asyncio.sleep(due - loop.time())
            self.history.tick()
            self._wake()

    def stir(self) -> None:
        """Something happened that is to be seen before the second is over."""
        if not self._stirred:
            self._stirred = True
            asyncio.get_running_loop().call_later(AT_ONCE_S, self._show_at_once)

    def _show_at_once(self) -> None:
        self._stirred = False
        self._version += 1
        self._wake()

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    def close(self) -> None:
        """End all streams."""
        self.closing = True
        self._wake()

    # For one watcher.

    def may_watch(self, token: str | None) -> bool:
        """Tell whether who was let in with this token may go on."""
        return not self.closing and self._board.config.admin_token == token

    def token(self) -> str | None:
        """Return the token of now; None if there is none."""
        return self._board.config.admin_token

    def add(self, watcher: asyncio.Event) -> None:
        """Set this event when there is news, from now on."""
        self._watchers.add(watcher)

    def remove(self, watcher: asyncio.Event) -> None:
        """Tell this watcher nothing any more."""
        self._watchers.discard(watcher)

    def frame(self, window_s: int) -> str:
        """Return the newest frame over a window, as JSON."""
        now = (self.history.seq, self._version)
        made, text = self._frames.get(window_s, (None, ""))
        if made != now:
            text = dump(build_frame(self._board, self.history, window_s))
            self._frames[window_s] = now, text
        return text

    def first_events(self, window_s: int, since: int) -> bytes:
        """Return what a new stream begins with: the points after `since`, and the newest frame."""
        return b"retry: 1000\n\n" + self._history_event(since) + self._frame_event(window_s, with_point=False)

    def next_events(self, window_s: int, since: int) -> bytes:
        """Return what is news to a stream that has had the points until `since`."""
        missed = self.history.seq - since
        if missed > 1:  # it was too slow for some
            return self._history_event(since) + self._frame_event(window_s, with_point=False)
        return self._frame_event(window_s, with_point=missed == 1)

    def samples(self, since: int) -> str:
        """Return the samples after `since`, and the frame of the shortest window, as JSON."""
        history = self.history
        head = dump({"epoch": history.epoch, "seq": history.seq, "time": history.time})
        return f'{head[:-1]},"samples":{history.samples(since)},"status":{self.frame(60)}}}'

    def _history_event(self, since: int) -> bytes:
        head = dump({"epoch": self.history.epoch, "step_s": int(TICK_S)})
        data = f'{head[:-1]},"points":{self.history.points(since)}}}'
        return f"event: history\nid: {self._id()}\ndata: {data}\n\n".encode()

    def _frame_event(self, window_s: int, *, with_point: bool) -> bytes:
        now = (self.history.seq, self._version)
        made, event = self._events.get((window_s, with_point), (None, b""))
        if made != now:
            point = self.history.point() if with_point else "null"
            data = f'{{"point":{point},"frame":{self.frame(window_s)}}}'
            event = f"event: frame\nid: {self._id()}\ndata: {data}\n\n".encode()
            self._events[window_s, with_point] = now, event
        return event

    def _id(self) -> str:
        return f"{self.history.epoch}-{self.history.seq}"
