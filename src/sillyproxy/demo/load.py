"""
The demo's clients: they keep their connections, never stop asking, and never ask twice.

A request that is not answered with 200 and a page of `myapp` is a failure, whatever the
reason. No request is repeated: a browser would, and hide what is to be seen here.
"""

from __future__ import annotations

import asyncio
import html
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

CLIENTS: Final = 20
PERIOD_S: Final = 0.05  # of each client: 400 requests/s in all
PATIENCE_S: Final = 10.0
STOP_TIMEOUT_S: Final = 2.0

_PAGE: Final = re.compile(r"(?P<color>\S+) (?P<host>\S+)\n|<h1>(?P<host2>\S+) \((?P<color2>\S+)\)</h1>")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)


@dataclass(slots=True)
class Tally:
    """What some requests were answered."""

    sent: int = 0
    requests: int = 0  # that came to an end
    failures: Counter[str] = field(default_factory=Counter)  # by reason
    colors: Counter[str] = field(default_factory=Counter)
    replicas: Counter[tuple[str, str]] = field(default_factory=Counter)  # (color, host)
    samples: deque[str] = field(default_factory=lambda: deque(maxlen=8))

    @property
    def is_settled(self) -> bool:
        """Whether no request is under way."""
        return self.sent == self.requests

    @property
    def failed(self) -> int:
        """How many were not answered as they should."""
        return self.failures.total()

    def share(self, color: str) -> float:
        """Return the share of a color in what was answered, 0 to 1."""
        return self.colors[color] / max(1, self.colors.total())

    def record(self, status: int, page: str) -> None:
        """Count an answer."""
        self.requests += 1
        match = _PAGE.fullmatch(page) if status == 200 else None
        if match is None:
            self.failures[f"{status} {page[:60].strip()!r}"] += 1
            return
        color, host = match["color"] or match["color2"], match["host"] or match["host2"]
        self.colors[html.unescape(color)] += 1
        self.replicas[html.unescape(color), html.unescape(host)] += 1
        self.samples.append(page.strip())

    def record_failure(self, reason: str) -> None:
        """Count a request that got no answer."""
        self.requests += 1
        self.failures[reason] += 1


class Connection:
    """A client's connection."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self._is_last = False
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, address: str) -> Connection:
        """Connect."""
        host, _, port = address.rpartition(":")
        return cls(address, *await asyncio.open_connection(host, int(port)))

    async def ask(self, path: str = "/") -> tuple[int, str]:
        """Return status and body. Raise OSError or EOFError when there is no whole answer."""
        request = f"GET {path} HTTP/1.1\r\nHost: {self.address}\r\nUser-Agent: sillyproxy-demo\r\n\r\n"
        self._writer.write(request.encode())
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await (self._reader.readexactly(int(length[1])) if length else self._reader.read())
        except asyncio.IncompleteReadError as error:
            what = "in the middle of an answer" if error.partial else "without an answer"
            raise EOFError(f"the connection ended {what}") from None
        self._is_last = length is None or _CLOSE.search(head) is not None
        return int(head[9:12]), body.decode("utf-8", "replace")

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent: the server neither said that it ends nor ended it."""
        return not (self._is_last or self._reader.at_eof() or self._reader.exception())

    def close(self) -> None:
        """Close."""
        self._writer.close()


async def ask(address: str, path: str = "/") -> tuple[int, str]:
    """Ask once, on a connection of its own."""
    connection = await Connection.to(address)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await connection.ask(path)
    finally:
        connection.close()


class Load:
    """
    The clients. `addresses` is where they connect to from now on, `tally` where requests are counted.

    A client is moved by nothing but the end of its connection: it asks where it asked
    before as long as it can.
    """

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.tally = Tally()
        self._clients: list[asyncio.Task[None]] = []
        self._is_over = False

    def start(self) -> None:
        """Begin; the clients do not start all at the same moment."""
        for number in range(CLIENTS):
            self._clients.append(asyncio.create_task(self._be_client(number)))

    def finish(self) -> None:
        """Let the clients send no other request."""
        self._is_over = True

    async def stop(self) -> None:
        """End every client; one that waits for an answer soon waits no longer."""
        self.finish()
        if self._clients:
            _, late = await asyncio.wait(self._clients, timeout=STOP_TIMEOUT_S)
            for client in late:
                client.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)

    async def _be_client(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + PERIOD_S * number / CLIENTS
        connection: Connection | None = None
        while True:
            # Who is late does not catch up: a burst would be no constant load.
            due = max(due, loop.time() - PERIOD_S)
            await asyncio.sleep(due - loop.time())
            due += PERIOD_S
            if self._is_over:
                break
            if connection and not connection.is_open:
                connection.close()
                connection = None
            address = connection.address if connection else self.addresses[number % len(self.addresses)]
            tally = self.tally
            tally.sent += 1
            try:
                async with asyncio.timeout(PATIENCE_S):
                    connection = connection or await Connection.to(address)
                    tally.record(*await connection.ask())
                if not connection.is_open:
                    connection.close()
                    connection = None
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                tally.record_failure(f"{address}: {reason}")
                if connection:
                    connection.close()
                    connection = None
        if connection:
            connection.close()
