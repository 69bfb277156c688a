"""
The access log line of a finished exchange, and the way it is written.

Lines are gathered and handed to a thread of their own, the only one that may wait for
whoever reads them. If nobody does, at most `MAX_WAITING_BYTES` wait; lines past that are
given up and counted, and no request is slowed. A write never splits a line, and is never
larger than PIPE_BUF, so the lines of several workers on one pipe do not mix.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from time import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sillyproxy.errors import Problem
    from sillyproxy.proxy.exchange import Exchange

MAX_WAITING_BYTES: Final = 1024 * 1024
_PIPE_BUF: Final = 4096
# JSON may take six characters for one of a client's; the rest of a line is below 1,000.
_LONGEST_TARGET: Final = 2000
_LONGEST_ID: Final = 128


class LineWriter:
    """
    Writes whole lines to a descriptor, in a thread.

    `dropped` counts the lines given up, `reason` is why the last of them were.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._written_bytes = 0
        self.dropped = 0
        self.reason = ""
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, lines: list[bytes]) -> None:
        """Have the lines written; gives them up if too much is waiting already. Never blocks."""
        size = sum(map(len, lines))
        # Each counter has one writer, so the difference needs no lock.
        if self._waiting_bytes - self._written_bytes + size > MAX_WAITING_BYTES:
            self.dropped += len(lines)
            self.reason = "nobody reads them"
            return
        self._waiting_bytes += size
        self._queue.put(lines)

    def close(self, timeout_s: float) -> None:
        """Write what is waiting, for at most `timeout_s`."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            batch: list[bytes] = []
            size = 0
            for line in lines:
                if size + len(line) > _PIPE_BUF and batch:
                    self._write(b"".join(batch), len(batch))
                    batch, size = [], 0
                batch.append(line)
                size += len(line)
            self._write(b"".join(batch), len(batch))
            self._written_bytes += sum(map(len, lines))

    def _write(self, data: bytes, lines: int) -> None:
        """Write all of it, or give it up: a full disk or a reader that left must not end the log for ever."""
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                self.dropped += lines
                self.reason = (error.strerror or str(error)).lower()
                return

    def _wait_writable(self) -> None:
        # Somebody has made the descriptor non-blocking (a terminal shared with a shell, say).
        import select

        select.select([], [self._fd], [], 1.0)


@dataclass(frozen=True, slots=True)
class Recorder:
    """Makes the lines. One that is off makes none."""

    writer: LineWriter | None
    json: bool
    lines: list[bytes]

    @property
    def dropped(self) -> int:
        """Lines given up so far."""
        return self.writer.dropped if self.writer else 0

    def add(self, exchange: Exchange, status: int, duration_ns: int, problem: Problem | None) -> None:
        """Note one finished exchange, and what was wrong with it: the kind (RFC 9209), and in words."""
        now = time()
        color = exchange.color
        endpoint = exchange.endpoint
        request_id = exchange.request_id[:_LONGEST_ID].decode("latin-1")
        target = exchange.target.decode("latin-1")
        if len(target) > _LONGEST_TARGET:
            target = target[:_LONGEST_TARGET] + "..."
        method = exchange.method[:32].decode("latin-1")
        if self.json:
            fields = {
                "time": _utc(now),
                "client": exchange.down.ip,
                "method": method,
                "target": target,
                "status": status,
                "color": color.name if color else None,
                "endpoint": endpoint.name if endpoint else None,
                "bytes_in": exchange.bytes_in,
                "bytes_out": exchange.bytes_out,
                "duration_ms": round(duration_ns / 1e6, 3),
                "request_id": request_id,
            }
            if problem is not None:
                fields["error"] = problem.kind
                fields["reason"] = problem.detail
            line = json.dumps(fields, separators=(",", ":"))
        else:
            line = (
                f'{_utc(now)} {exchange.down.ip} "{method} {target}" {status} '
                f"color={color.name if color else '-'} "
                f"endpoint={endpoint.name if endpoint else '-'} bytes={exchange.bytes_out} "
                f"duration={duration_ns / 1e6:.3f}ms id={_plain(request_id)}"
            )
            if problem is not None:
                line += f' error={problem.kind} reason="{problem.detail}"'
        self.lines.append(line.encode("latin-1", "replace") + b"\n")

    def flush(self) -> None:
        """Hand what was noted to the writer."""
        if self.lines and self.writer:
            self.writer.write(self.lines[:])
            self.lines.clear()


def _plain(text: str) -> str:
    """Return a client's text as one word of visible ASCII: nobody else writes a line of our log."""
    return "".join(c if "!" <= c <= "~" else "?" for c in text) or "-"


_second = -1
_prefix = ""


def _utc(now: float) -> str:
    """Return RFC 3339 time in UTC, to the millisecond; the second's text is made once a second."""
    global _second, _prefix
    second = int(now)
    if second != _second:
        from time import gmtime, strftime

        _second, _prefix = second, strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
    return f"{_prefix}.{int((now - second) * 1000):03d}Z"
