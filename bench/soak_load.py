"""
The clients of the soak: those that behave and check every byte, and those that do not.

    python -m bench.soak_load PORT START SECONDS SEED OUT

START is a time of the monotonic clock. All kinds of requests arrive at rates of their own and wait for
nobody. OUT gets, a line a second, JSON with what ended in that second: how many of each kind, p50 and p99
of the quick ones, and each failure with the times between which it was under way. The last line is `{}`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.faults_summary import pick_percentile
from bench.origin import accept_key, build_frame, read_frames
from bench.soak_backend import build_bytes, read_chunked

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
PROXY_STATUS = re.compile(rb"\r\nproxy-status:[ \t]*([^\r]+)", re.IGNORECASE)
PATIENCE_S = 15.0
IDLE_S = 20.0  # a connection that was idle for longer is not used again, as good clients do
QUICK = ("get", "post", "close")


class WrongError(Exception):
    """The answer is not what was asked for."""


class CutError(Exception):
    """The answer began and broke off."""


class ToldError(Exception):
    """A WebSocket was closed with a code."""


class Connection:
    """A connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.used_at = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether a good client would send another request on it."""
        fresh = time.monotonic() - self.used_at < IDLE_S
        return fresh and not self.reader.at_eof() and not self.writer.is_closing()


class Clients:
    """All of them, and what they have seen since the last line."""

    def __init__(self, port: int, start: float, seed: int) -> None:
        self.port, self.start = port, start
        self.chance = random.Random(seed)
        self.idle: list[Connection] = []
        self.ended: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.failures: list[dict[str, Any]] = []
        self.websockets = 0
        self._number = 0

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    async def live(self, kind: str, act: Callable[[], Awaitable[None]]) -> None:
        """Do one thing; note how it ended."""
        begun = self.now
        try:
            async with asyncio.timeout(PATIENCE_S if kind != "websocket" else None):
                await act()
            if kind in QUICK:
                self.latencies.append(self.now - begun)
        except (
            OSError,
            EOFError,
            ValueError,
            WrongError,
            CutError,
            ToldError,
            asyncio.LimitOverrunError,
        ) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
            self.failures.append(
                {
                    "kind": kind,
                    "begun_s": round(begun, 4),
                    "ended_s": round(self.now, 4),
                    "how": type(error).__name__,
                    "reason": reason,
                }
            )
        self.ended[kind] += 1

    # Connections.

    async def take(self, *, is_new: bool = False) -> Connection:
        """Return an idle connection, or a new one."""
        while self.idle and not is_new:
            connection = self.idle.pop()
            if connection.is_usable:
                return connection
            connection.writer.close()
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20))

    async def ask(
        self, request: bytes, connection: Connection, slowly: Callable[[int], float] | None = None
    ) -> bytes:
        """Send a request, return the body of its 200. The connection is kept if it can be, else closed."""
        is_kept = False
        try:
            connection.writer.write(request)
            await connection.writer.drain()
            head = b"\r\n" + await connection.reader.readuntil(b"\r\n\r\n")
            status = head.split(b" ", 2)[1].decode()
            try:
                if length := LENGTH.search(head):
                    body = await self._read(connection.reader, int(length[1]), slowly)
                elif CHUNKED.search(head):
                    body = await read_chunked(connection.reader)
                else:
                    raise WrongError(f"no length: {head!r}")
            except (EOFError, OSError) as error:
                raise CutError(f"broke off within the body of a {status}: {error!r}") from None
            if status != "200":
                said = PROXY_STATUS.search(head)
                raise WrongError(f"{status} {said[1].decode() if said else 'of the backend'}")
            is_kept = CLOSE.search(head) is None
            return body
        finally:
            if is_kept:
                connection.used_at = time.monotonic()
                self.idle.append(connection)
            else:
                connection.writer.close()

    @staticmethod
    async def _read(reader: asyncio.StreamReader, size: int, slowly: Callable[[int], float] | None) -> bytes:
        if slowly is None:
            return await reader.readexactly(size)
        body = bytearray()
        while len(body) < size:
            data = await reader.read(min(65536, size - len(body)))
            if not data:
                raise EOFError
            body += data
            await asyncio.sleep(slowly(len(data)))
        return bytes(body)

    def _path(self, size: int) -> tuple[str, str]:
        self._number += 1
        seed = f"{self._number}"
        return seed, f"/bytes/{seed}/{size}"

    # Those that behave.

    async def get(self) -> None:
        """A page over a kept connection."""
        size = self.chance.choice((100, 1000, 20_000))
        seed, path = self._path(size)
        body = await self.ask(build_request("GET", path), await self.take())
        expect(body, build_bytes(seed, size))

    async def close(self) -> None:
        """A page over a connection of its own."""
        seed, path = self._path(500)
        request = build_request("GET", path, "Connection: close")
        expect(await self.ask(request, await self.take(is_new=True)), build_bytes(seed, 500))

    async def post(self) -> None:
        """A body whose hash comes back; half of them in chunks."""
        body = self.chance.randbytes(self.chance.choice((0, 10, 3000, 60_000, 200_000)))
        if self.chance.random() < 0.5:
            parts = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
            sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            request = build_request("POST", "/sum", "Transfer-Encoding: chunked") + sent
        else:
            request = build_request("POST", "/sum", f"Content-Length: {len(body)}") + body
        answer = await self.ask(request, await self.take())
        expect(answer, f"{hashlib.sha256(body).hexdigest()} {len(body)}".encode())

    async def wait(self) -> None:
        """An answer that takes a while."""
        await self.ask(build_request("GET", "/wait/400"), await self.take())

    async def stream(self) -> None:
        """A response that comes in parts over two seconds."""
        self._number += 1
        seed = f"s{self._number}"
        body = await self.ask(build_request("GET", f"/stream/{seed}/20"), await self.take())
        expect(body, b"".join(build_bytes(f"{seed}-{number}", 1000) for number in range(20)))

    async def slow_reader(self) -> None:
        """4 MiB at 2 MiB a second."""
        seed, path = self._path(4 << 20)
        body = await self.ask(build_request("GET", path), await self.take(), lambda size: size / (2 << 20))
        expect(body, build_bytes(seed, 4 << 20))

    async def slow_writer(self) -> None:
        """A head byte by byte, a body in drops."""
        connection = await self.take(is_new=True)
        body = self.chance.randbytes(5000)
        head = build_request("POST", "/sum", f"Content-Length: {len(body)}")
        try:
            for at in range(0, len(head) - 4, 4):
                connection.writer.write(head[at : at + 4])
                await asyncio.sleep(0.02)
            rest = head[at + 4 :] + body
            for at in range(0, len(rest) - 500, 500):
                connection.writer.write(rest[at : at + 500])
                await asyncio.sleep(0.05)
        except BaseException:
            connection.writer.close()
            raise
        answer = await self.ask(rest[at + 500 :], connection)
        expect(answer, f"{hashlib.sha256(body).hexdigest()} {len(body)}".encode())

    async def websocket(self) -> None:
        """A conversation of up to 40 seconds, a message a second."""
        connection = await self.take(is_new=True)
        reader, writer = connection.reader, connection.writer
        self.websockets += 1
        try:
            key = base64.b64encode(self.chance.randbytes(16))
            fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            fields += f"Sec-WebSocket-Key: {key.decode()}"
            writer.write(build_request("GET", "/echo", fields))
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 ") or accept_key(key) not in head:
                said = PROXY_STATUS.search(head)
                raise WrongError(f"{head[9:12].decode()} {said[1].decode() if said else 'of the backend'}")
            buffer = bytearray()
            for _ in range(self.chance.randrange(2, 40)):
                message = self.chance.randbytes(100)
                await self._say(reader, writer, buffer, 0x82, message)
                await asyncio.sleep(1.0)
            await self._say(reader, writer, buffer, 0x88, (1000).to_bytes(2))
        finally:
            self.websockets -= 1
            writer.close()

    @staticmethod
    async def _say(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, buffer: bytearray, first: int, what: bytes
    ) -> None:
        writer.write(build_frame(first, what, mask=os.urandom(4)))
        async with asyncio.timeout(PATIENCE_S):
            while not (frames := read_frames(buffer)):
                data = await reader.read(65536)
                if not data:
                    raise CutError("broke off")
                buffer += data
        came, message = frames[0]
        if came == 0x88 and first != 0x88:
            raise ToldError(f"closed with {int.from_bytes(message[:2])}")
        if (came, message) != (first, what) and came != 0x88:
            raise WrongError("the echo is not what was said")

    # Those that do not.

    async def abort(self) -> None:
        """An upload that is broken off in the middle."""
        connection = await self.take(is_new=True)
        connection.writer.write(build_request("POST", "/sum", "Content-Length: 1000000") + bytes(300_000))
        await asyncio.sleep(self.chance.random() * 0.2)
        connection.writer.transport.abort()

    async def leave(self) -> None:
        """A client that does not wait for its answer."""
        connection = await self.take(is_new=True)
        connection.writer.write(build_request("GET", self.chance.choice(("/wait/300", "/bytes/x/4000000"))))
        await asyncio.sleep(self.chance.random() * 0.2)
        connection.writer.transport.abort()

    async def arrive(self, kind: str, per_s: float, seconds: float) -> None:
        """Let this kind arrive at its rate until the time is over; wait for those that are under way."""
        act = getattr(self, kind)
        tasks: set[asyncio.Task[None]] = set()
        due = self.chance.random() / per_s
        while due < seconds:
            await asyncio.sleep(due - self.now)
            task = asyncio.create_task(self.live(kind, act))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += self.chance.expovariate(per_s)
        if tasks:
            # a conversation that goes on at the end is over, and nobody's failure
            if kind == "websocket":
                for task in tasks:
                    task.cancel()
            await asyncio.wait(tasks)

    async def report(self, out: Path) -> None:
        """Write a line a second."""
        with out.open("w") as file:
            second = 0
            while True:
                second += 1
                await asyncio.sleep(second - self.now)
                self.write_line(file.write, second)
                file.flush()

    def write_line(self, write: Callable[[str], object], second: int) -> None:
        """Tell what has ended since the last line."""
        line = {
            "at_s": second,
            "ended": dict(self.ended),
            "p50_ms": round(pick_percentile(self.latencies, 50) * 1000, 2),
            "p99_ms": round(pick_percentile(self.latencies, 99) * 1000, 2),
            "websockets": self.websockets,
            "failures": self.failures,
        }
        write(json.dumps(line) + "\n")
        self.ended, self.latencies, self.failures = Counter(), [], []


# Arrivals a second. A sixth of them is not nice to the proxy.
RATES = {
    "get": 100.0,
    "post": 40.0,
    "close": 10.0,
    "wait": 5.0,
    "stream": 2.0,
    "slow_reader": 0.5,
    "slow_writer": 1.0,
    "websocket": 1.0,
    "abort": 2.0,
    "leave": 2.0,
}


def build_request(method: str, path: str, fields: str = "") -> bytes:
    """A request's head."""
    more = f"{fields}\r\n" if fields else ""
    return f"{method} {path} HTTP/1.1\r\nHost: shop.example.com\r\n{more}\r\n".encode()


def expect(came: bytes, expected: bytes) -> None:
    """WrongError if it is not what should come."""
    if came != expected:
        raise WrongError(f"{len(came)} wrong bytes, {len(expected)} were expected")


async def run(port: int, start: float, seconds: float, seed: int, out: Path) -> None:
    """Be all the clients."""
    await asyncio.sleep(max(0.0, start - time.monotonic()))
    clients = Clients(port, start, seed)
    reporter = asyncio.create_task(clients.report(out))
    await asyncio.gather(*(clients.arrive(kind, rate, seconds) for kind, rate in RATES.items()))
    reporter.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reporter
    for connection in clients.idle:
        connection.writer.close()
    with out.open("a") as file:
        clients.write_line(file.write, round(clients.now) + 1)
        file.write("{}\n")


if __name__ == "__main__":
    # asyncio warns of each write to a connection that has broken, which is what is tested here
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    port, start, seconds, seed, out = sys.argv[1:]
    asyncio.run(run(int(port), float(start), float(seconds), int(seed), Path(out)))
