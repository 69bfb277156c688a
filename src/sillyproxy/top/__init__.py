"""
`sillyproxy top`: the colors of one proxy, or of all its replicas together, in the terminal.

    client         asks each replica for what happened in each second
    told           reads what it answers
    merge          puts the replicas' seconds side by side
    frame          makes of them what there is to see
    plain, screen  say it in lines, or in a picture if `rich` is installed
    picture, keys  the terminal: what is drawn on it and typed at it, and given back as it was

It only looks: nothing that it asks for changes anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sillyproxy.rollout.figures import WINDOWS
from sillyproxy.tools import dns
from sillyproxy.top import text
from sillyproxy.top.client import Client, Target
from sillyproxy.top.frame import LINES_S, build_frame
from sillyproxy.top.keys import Keys
from sillyproxy.top.merge import Fleet
from sillyproxy.top.plain import Plain

if TYPE_CHECKING:
    from sillyproxy.top.picture import Picture

__all__ = ["main"]

HOW_TO_DRAW = "for a picture in place of lines: pip install 'sillyproxy[top]'"
# A first picture without anybody in it tells nothing; but nobody is waited for who takes longer.
FIRST_PATIENCE_S = 1.5


def main(
    targets: Sequence[Target], *, token: str, interval_s: float, window_s: int, once: bool, as_json: bool
) -> int:
    """
    Show the proxies at these addresses until told to stop, or once.

    Return the exit status: 1 if no replica answered, when asked for one picture; else 0.
    """
    # Where several names are looked up, one that is slow should not be asked again by the C library.
    dns.set_options()
    top = _Top(targets, token, interval_s, window_s)
    if once or as_json:
        return asyncio.run(top.show_once(as_json))
    return asyncio.run(top.run())


class _Top:
    """One run: the replicas, the window that is looked at, and what shows it."""

    def __init__(self, targets: Sequence[Target], token: str, interval_s: float, window_s: int) -> None:
        self._title = " ".join(target.text for target in targets)
        self._interval_s = interval_s
        self._window_s = window_s
        self._fleet = Fleet()
        self._client = Client(self._fleet, targets, token, interval_s, max(window_s, LINES_S))

    async def show_once(self, as_json: bool) -> int:
        await self._client.ask_once()
        frame = self._frame()
        picture = None if as_json else _choose_picture()
        if as_json:
            print(json.dumps(frame, ensure_ascii=False))
        elif picture is not None:
            picture.print(frame, self._title)
        else:
            print("\n".join(Plain().block(frame)))
        return 0 if any(one["state"] in text.ANSWERING for one in frame["replicas"]) else 1

    async def run(self) -> int:
        """Show until a signal, a key, or the end of who reads."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, ended.set)
        asking = asyncio.create_task(self._client.run())
        asking.add_done_callback(lambda _: ended.set())  # only a bug ends it
        try:
            picture = _choose_picture()
            if picture is not None:
                await self._draw(picture, ended)
            else:
                if sys.stdout.isatty():
                    print(f"sillyproxy top: {HOW_TO_DRAW}", file=sys.stderr)
                await self._print(ended)
        finally:
            asking.cancel()
            await asyncio.wait((asking,))
        if not asking.cancelled():
            asking.result()
        return 0

    async def _print(self, ended: asyncio.Event) -> None:
        plain = Plain()
        await self._settle(ended)
        while not ended.is_set():
            print("\n".join(plain.block(self._frame())), flush=True)
            await _wait(ended, self._interval_s)

    async def _draw(self, picture: Picture, ended: asyncio.Event) -> None:
        changed = asyncio.Event()

        def press(key: str) -> None:
            if key in ("q", "Q", "\x04"):
                ended.set()
            elif key in ("w", "W"):
                self._window_s = WINDOWS[(WINDOWS.index(self._window_s) + 1) % len(WINDOWS)]
                self._client.history_s = max(self._client.history_s, self._window_s)
            changed.set()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, changed.set)
        with Keys(press) as keys, picture:

            def suspend() -> None:
                # As the system does it by itself for who leaves the terminal as it is.
                with picture.given_back(), keys.given_back():
                    os.kill(os.getpid(), signal.SIGSTOP)
                changed.set()

            loop.add_signal_handler(signal.SIGTSTP, suspend)
            await self._settle(ended)
            while not ended.is_set():
                changed.clear()
                picture.draw(self._frame(), self._title, keys.help)
                await _wait_any(ended, changed, timeout_s=self._interval_s)

    async def _settle(self, ended: asyncio.Event) -> None:
        """Wait for the first answers."""
        end = time.monotonic() + FIRST_PATIENCE_S
        while time.monotonic() < end and not ended.is_set():
            replicas = self._fleet.replicas.values()
            if replicas and all(one.is_asked for one in replicas):
                return
            await _wait(ended, 0.05)

    def _frame(self) -> dict[str, Any]:
        now = time.monotonic()
        self._fleet.forget(now)
        return build_frame(self._fleet, now, time.time(), self._window_s, self._interval_s)


def _choose_picture() -> Picture | None:
    """Return what draws; None if there is nothing to draw on, or with."""
    if sys.stdout.isatty() and sys.stdout.encoding.lower().startswith("utf"):
        with suppress(ImportError):
            from sillyproxy.top.picture import Picture

            picture = Picture()
            if picture.is_possible:
                return picture
    return None


async def _wait(ended: asyncio.Event, timeout_s: float) -> None:
    """Wait for the end, but no longer than this."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await ended.wait()


async def _wait_any(ended: asyncio.Event, changed: asyncio.Event, timeout_s: float) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in (ended, changed)]
    try:
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
