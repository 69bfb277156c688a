"""The terminal that is drawn on: all of it while we look, and as it was afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from sillyproxy.top.screen import draw


class Picture:
    """Draws frames over one another while it is entered, on a screen of their own."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = self._make_live()

    @property
    def is_possible(self) -> bool:
        """Whether this terminal can be drawn on."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> Picture:
        """Take the screen."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the screen back with what was on it."""
        # The terminal may be gone.
        with contextlib.suppress(OSError):
            self._live.stop()

    @contextlib.contextmanager
    def given_back(self) -> Iterator[None]:
        """Give the screen back for as long as the block runs."""
        self._live.stop()
        yield
        self._live = self._make_live()
        self._live.start()

    def draw(self, frame: dict[str, Any], title: str, keys: str) -> None:
        """Draw a frame in place of the last one, as large as the terminal is now."""
        width, height = self._console.size
        self._live.update(Group(*draw(frame, title, width, height, keys)), refresh=True)

    def print(self, frame: dict[str, Any], title: str) -> None:
        """Print one frame, as long as it is, and leave it there."""
        for line in draw(frame, title, self._console.width, MUCH):
            self._console.print(line, soft_wrap=True)

    def _make_live(self) -> Live:
        return Live(console=self._console, screen=True, auto_refresh=False)


MUCH = 10_000  # lines: nothing is cut
