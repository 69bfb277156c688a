"""The keys that are typed while a picture is shown, one by one and without an echo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any


class Keys:
    """
    While it is entered, calls `press` with each key, where there is a keyboard.

    Ctrl-C and Ctrl-Z stay what they are: signals.
    """

    def __init__(self, press: Callable[[str], None]) -> None:
        self._press = press
        self._before: list[Any] | None = None

    @property
    def help(self) -> str:
        """What can be typed; empty without a keyboard."""
        return "q quit   w window: 1, 5, 15 min" if self._before is not None else ""

    def __enter__(self) -> Keys:
        """Begin to listen."""
        # In the background, asking for the terminal's keys would stop us.
        if sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp():
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
            asyncio.get_running_loop().add_reader(sys.stdin, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the keyboard back as it was."""
        if self._before is not None:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            # The terminal may be gone; then there is nobody to give it to.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
            self._before = None

    @contextlib.contextmanager
    def given_back(self) -> Iterator[None]:
        """Give the keyboard back for as long as the block runs."""
        self.__exit__(None, None, None)
        yield
        self.__enter__()

    def _read(self) -> None:
        try:
            typed = os.read(sys.stdin.fileno(), 64)
        except OSError:
            typed = b""
        if not typed:
            asyncio.get_running_loop().remove_reader(sys.stdin)
        for byte in typed:
            self._press(chr(byte))
