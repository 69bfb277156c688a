"""
What is common to all forms of the access log: which exchanges have a line, the time on it, its way out.

A recorder is made once per configuration; `formats` has one for each form. The cost of a line
counts (`bench/record.py`), so whatever stays the same from line to line is made once: the text
of a millisecond, of a client's address, of an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from time import gmtime, strftime, time_ns
from typing import TYPE_CHECKING, Final

from sillyproxy.proxy.logfile import MAX_LINE_BYTES as MAX_LINE_BYTES

if TYPE_CHECKING:
    from sillyproxy.errors import Problem
    from sillyproxy.proxy.exchange import Exchange
    from sillyproxy.proxy.logfile import LineWriter

# Bytes of a value on a line; the rest of a line is below 1,000.
LONGEST_TARGET: Final = 2000
LONGEST_METHOD: Final = 64
LONGEST_ID: Final = 128

_MS: Final = 1_000_000
_MAX_NAMES: Final = 1024

# Like the split's golden ratio badly approximable by fractions, and independent of it: else a
# share of all exchanges would be one of a color's alone.
SILVER: Final = 0.41421356237309515


class Recorder:
    """
    Makes no line: the access log is off. Its heirs do, for one form each.

    `share` is that of the exchanges with a status below 400 and without a problem that have a
    line; all others always do. `start`, in [0, 1), is where their turns begin. `stamp` and
    `clf_stamp` are the time of the line that is being made, `weight` the share it stands for.
    """

    __slots__ = (
        "_prefix",
        "_second",
        "_turn",
        "_until_ns",
        "clf_stamp",
        "lines",
        "now_ms",
        "samples",
        "share",
        "stamp",
        "weight",
        "writer",
    )

    def __init__(self, writer: LineWriter | None = None, share: float = 1.0, start: float = 0.0) -> None:
        self.writer = writer
        self.lines = bytearray()
        self.share = share
        self.samples = share < 1.0
        self.weight = b"1"
        self.stamp = self.clf_stamp = self._prefix = b""
        self.now_ms = 0
        self._turn = start
        self._second = -1
        self._until_ns = 0

    @property
    def dropped(self) -> int:
        """Lines given up so far."""
        return self.writer.dropped if self.writer else 0

    def add(self, exchange: Exchange, status: int, duration_ns: int, problem: Problem | None) -> None:
        """Note one finished exchange, and what was wrong with it."""

    def flush(self) -> None:
        """Hand what was noted to the writer."""
        if self.lines and self.writer:
            self.writer.write(self.lines)
            self.lines = bytearray()

    def go_on_from(self, before: Recorder) -> None:
        """Take the turn after another's last, and add to its count of lines that were given up."""
        self._turn = before._turn
        if self.writer:
            self.writer.dropped = before.dropped

    def passes_over(self, status: int, problem: Problem | None) -> bool:
        """
        Tell whether an exchange has no line, because others stand for it.

        Turns are those of `traffic.split`: of any number of exchanges in a row the share is met
        to within a few, and in no pattern that traffic could have too.
        """
        if status >= 400 or problem is not None:
            self.weight = b"1"
            return False
        turn = self._turn + SILVER
        if turn >= 1.0:
            turn -= 1.0
        self._turn = turn
        self.weight = b"%.10g" % self.share
        return turn >= self.share

    def tell_time(self, ended_ns: int) -> None:
        """Have `stamp` be the time now; `ended_ns` (monotonic) is the same, and until when it holds."""
        now_ns = time_ns()
        self.now_ms = now_ms = now_ns // _MS
        second, ms = divmod(now_ms, 1000)
        if second != self._second:
            self._second = second
            now = gmtime(second)
            self._prefix = strftime("%Y-%m-%dT%H:%M:%S", now).encode()
            self.clf_stamp = strftime("[%d/%b/%Y:%H:%M:%S +0000]", now).encode()
        self.stamp = b"%b.%03dZ" % (self._prefix, ms)
        self._until_ns = ended_ns + _MS - now_ns % _MS


class Names(dict[str, bytes]):
    """
    Names as they stand on a line, made once; those of clients and endpoints.

    >>> Names(str.encode)["10.0.0.1:80"]
    b'10.0.0.1:80'
    """

    def __init__(self, make: Callable[[str], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> bytes:
        if len(self) >= _MAX_NAMES:
            self.clear()
        text = self[name] = self._make(name)
        return text


def retries_of(exchange: Exchange) -> int:
    """Return how often an exchange was sent again: to another endpoint, or over another connection."""
    if not exchange.untidy:
        return 0
    others = len(exchange.tried) - (exchange.endpoint in exchange.tried)
    return max(others, int(exchange.retried))
