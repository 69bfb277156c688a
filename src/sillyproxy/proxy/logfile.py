"""
Where the lines of the access log go.

They are handed to a thread of their own, the only one that may wait for whoever reads them.
If nobody does, at most `MAX_WAITING_BYTES` wait; lines past that are given up and counted, and
no request is slowed.

Several workers write to one log, and their lines must not mix. Linux takes a write of up to
PIPE_BUF bytes to a pipe whole, so a batch is cut to that at the end of a line. A regular file
that is open for appending takes a write of any size whole (O_APPEND; the inode is locked).
"""

from __future__ import annotations

import os
import stat
from queue import SimpleQueue
from threading import Thread
from typing import Final

MAX_WAITING_BYTES: Final = 1024 * 1024
MAX_LINE_BYTES: Final = 4096  # PIPE_BUF on Linux

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class LineWriter:
    """
    Writes whole lines to a descriptor, in a thread; closes it at the end if it is `owned`.

    `dropped` counts the lines given up, `reason` is why the last of them were.
    """

    def __init__(self, fd: int, *, owned: bool = False) -> None:
        self._fd = fd
        self._owned = owned
        self._is_file = _is_file(fd)
        self._is_torn = False
        self._queue: SimpleQueue[bytearray | int | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._written_bytes = 0
        self.dropped = 0
        self.reason = ""
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, lines: bytearray) -> None:
        """Take over whole lines; they are given up if too much is waiting already. Never blocks."""
        # Each counter has one writer, so the difference needs no lock.
        if self._waiting_bytes - self._written_bytes + len(lines) > MAX_WAITING_BYTES:
            self.dropped += lines.count(b"\n")
            self.reason = "nobody reads them"
            return
        self._waiting_bytes += len(lines)
        self._queue.put(lines)

    def move(self, fd: int) -> None:
        """Write to `fd`, which is owned then, what comes from now on; close the one before if it was."""
        self._queue.put(fd)

    def close(self, timeout_s: float) -> None:
        """Write what is waiting, for at most `timeout_s`."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            if isinstance(work, int):
                self._leave()
                self._fd, self._owned, self._is_file = work, True, _is_file(work)
                self._is_torn = False
                continue
            if self._is_file:
                self._write(work)
            else:
                begin = 0
                while begin < len(work):
                    # No line is longer, so there is the end of one.
                    end = work.rfind(b"\n", begin, begin + MAX_LINE_BYTES) + 1
                    self._write(work[begin:end])
                    begin = end
            self._written_bytes += len(work)
        self._leave()

    def _leave(self) -> None:
        if self._owned:
            os.close(self._fd)

    def _write(self, data: bytes | bytearray) -> None:
        """Write all of it, or give it up: a full disk or a reader that left must not end the log for ever."""
        if self._is_torn:
            # What a full disk has cut short is no part of the next line.
            data = b"\n" + data
        lines = data.count(b"\n") - self._is_torn
        left = data
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                self.dropped += min(lines, left.count(b"\n"))
                self.reason = (error.strerror or str(error)).lower()
                written = data[: len(data) - len(left)]
                self._is_torn = not written.endswith(b"\n") if written else self._is_torn
                return
        self._is_torn = False

    def _wait_writable(self) -> None:
        # Somebody has made the descriptor non-blocking (a terminal shared with a shell, say).
        import select

        select.select([], [self._fd], [], 1.0)


def open_writer(target: str) -> LineWriter | None:
    """Return what writes to `stdout`, `stderr` or a path; None for `off`. Raise OSError."""
    if target == "off":
        return None
    if target in ("stdout", "stderr"):
        return LineWriter(1 if target == "stdout" else 2)
    return LineWriter(os.open(target, _FLAGS, 0o644), owned=True)


def reopen(path: str, writer: LineWriter) -> None:
    """Have it write to the file that `path` names now; earlier lines go where they were. Raise OSError."""
    # A pipe without a reader would have us wait for one.
    fd = os.open(path, _FLAGS | os.O_NONBLOCK, 0o644)
    os.set_blocking(fd, True)
    writer.move(fd)


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # standard output that was closed
        return False
