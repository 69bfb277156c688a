"""
A load that does not wait: requests at a fixed rate, whether the ones before were answered or not.

    python -m bench.faults_load PORT RATE SECONDS START SEED OUT

START is a time of the monotonic clock, which all processes share. Each request is due in a slot of
its own, at a point within it that the seed decides, so that it beats in time with nothing. It goes out
on an idle connection, or on a new one if there is none; its latency counts from when it was due. A
proxy that stalls is seen as what it is to its clients, not as a load that kindly waits for it.

OUT gets a JSON list, an entry a request: [due s, latency s, outcome, replica]. The outcome is `ok` or
what went wrong: the status, `reset`, `closed`, `refused`, `timeout` (nobody waits longer than 10 s).
"""

from __future__ import annotations

import errno
import json
import random
import re
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 10.0
REQUEST = b"GET /page HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: bench\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)

Entry = tuple[float, float, str, str]


def plan_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """
    When each request is due, in seconds from the start.

    >>> [int(due * 4) for due in plan_arrivals(4, 1.5, seed=1)]
    [0, 1, 2, 3, 4, 5]
    """
    chance = random.Random(seed)
    return [(slot + chance.random()) / rate for slot in range(int(rate * seconds))]


def read_response(data: bytes) -> tuple[str, str, bool] | None:
    """
    Outcome, replica and whether the connection can go on, of a whole response; None if more must come.

    Without a length it ends with the connection, which is how a failure of the proxy's own may come.

    >>> read_response(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\na.b")
    ('ok', 'a.b', True)
    >>> read_response(b"HTTP/1.1 502 Bad Gateway\\r\\nContent-Length: 9\\r\\n\\r\\nBad ") is None
    True
    """
    head, gap, body = data.partition(b"\r\n\r\n")
    if not gap:
        return None
    status = head[9:12].decode("latin-1")
    length = LENGTH.search(head)
    if length is None:
        if status == "200":
            return "no length", "", False
        return status, "", False
    if len(body) < int(length[1]):
        return None
    kept = CLOSE.search(head) is None and head.startswith(b"HTTP/1.1")
    return (
        ("ok" if status == "200" else status),
        (body.decode("latin-1").strip() if status == "200" else ""),
        kept,
    )


class Connection:
    """A connection, with at most one request on it."""

    __slots__ = ("data", "due", "is_open", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = bytearray()
        self.due: float | None = None
        self.is_open = False


class Load:
    """The clients. Times are seconds since the start."""

    def __init__(self, port: int, start: float) -> None:
        self.entries: list[Entry] = []
        self._port = port
        self._start = start
        self._poller = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._idle: list[Connection] = []  # the one used last is used first
        self._waiting: deque[tuple[float, Connection]] = deque()  # in the order they were due

    def run(self, arrivals: Iterator[float]) -> None:
        """Send them all; return when the last one has ended."""
        due = next(arrivals, None)
        while due is not None or self._waiting:
            now = time.monotonic() - self._start
            while due is not None and due <= now:
                self._send(due)
                due = next(arrivals, None)
            self._give_up(now)
            wait_s = 0.05 if due is None else min(0.05, max(0.0, due - now))
            for fd, _ in self._poller.poll(wait_s):
                if connection := self._connections.get(fd):
                    self._receive(connection)
        for connection in self._connections.values():
            connection.sock.close()

    def _send(self, due: float) -> None:
        while self._idle:
            connection = self._idle.pop()
            connection.due = due
            self._waiting.append((due, connection))
            self._write(connection)
            return
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock)
        connection.due = due
        self._connections[sock.fileno()] = connection
        self._waiting.append((due, connection))
        problem = sock.connect_ex(("127.0.0.1", self._port))
        if problem in (0, errno.EINPROGRESS):
            self._poller.register(sock, select.EPOLLOUT)
        else:
            self._end(connection, "refused", "", is_kept=False)

    def _write(self, connection: Connection) -> None:
        try:
            connection.sock.send(REQUEST)
        except OSError as error:
            self._end(connection, name_error(error), "", is_kept=False)

    def _receive(self, connection: Connection) -> None:
        if not connection.is_open:
            if problem := connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._end(connection, name_error(OSError(problem, "")), "", is_kept=False)
                return
            connection.is_open = True
            self._poller.modify(connection.sock, select.EPOLLIN)
            self._write(connection)
            return
        try:
            data = connection.sock.recv(65536)
        except OSError as error:
            self._end(connection, name_error(error), "", is_kept=False)
            return
        connection.data += data
        if connection.due is None:  # idle: it was closed
            self._idle.remove(connection)
            self._close(connection)
        elif response := read_response(bytes(connection.data)):
            connection.data.clear()
            self._end(connection, response[0], response[1], is_kept=response[2] and bool(data))
        elif not data:
            self._end(connection, "closed", "", is_kept=False)

    def _give_up(self, now: float) -> None:
        while self._waiting:
            due, connection = self._waiting[0]
            if connection.due == due:
                if now - due < PATIENCE_S:
                    return
                self._end(connection, "timeout", "", is_kept=False)
            else:
                self._waiting.popleft()  # it has ended

    def _end(self, connection: Connection, outcome: str, replica: str, *, is_kept: bool) -> None:
        if connection.due is not None:
            now = time.monotonic() - self._start
            entry = (round(connection.due, 5), round(now - connection.due, 5), outcome, replica)
            self.entries.append(entry)
            connection.due = None
        elif connection in self._idle:
            self._idle.remove(connection)
        if is_kept:
            self._idle.append(connection)
        else:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        del self._connections[connection.sock.fileno()]
        connection.sock.close()


def name_error(error: OSError) -> str:
    """The outcome of a socket's error."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "reset"
    return errno.errorcode.get(error.errno or 0, "error")


def main(port: str, rate: str, seconds: str, start: str, seed: str, out: str) -> None:
    load = Load(int(port), float(start))
    arrivals = plan_arrivals(float(rate), float(seconds), int(seed))
    time.sleep(max(0.0, float(start) - time.monotonic()))
    load.run(iter(arrivals))
    Path(out).write_text(json.dumps(sorted(load.entries)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    main(*sys.argv[1:])
