"""Backends that answer checks as a test says, on addresses of 127.0.0.0/8."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

from sillyproxy.config.schema import Upstream
from sillyproxy.health.target import Target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

PATIENCE_S = 20.0


class Backend:
    """
    Answers each connection's first request with `answer`; None: not at all.

    `heads` are the requests' heads, `ends` how the connections ended, `most` how many were open at a time.
    It answers after `delay_s`, and closes its side behind the answer if it `closes`.
    """

    def __init__(self, answer: bytes | None = OK) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.ends: list[str] = []
        self.times: list[float] = []
        self.open = self.most = 0
        self.port = 0
        self.host = ""
        self.closes = True
        self.delay_s = 0.0

    def target(self, color: str = "blue", base: str = "") -> Target:
        return Target(color, Upstream("http", "app", self.port, base), self.host)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        self.times.append(asyncio.get_running_loop().time())
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await asyncio.sleep(self.delay_s)
            if self.answer is not None:
                writer.write(self.answer)
                await writer.drain()
                if self.closes:
                    writer.write_eof()
            await reader.read()
            self.ends.append("closed")
        except ConnectionError:
            self.ends.append("reset")
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            self.ends.append("closed")
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def backend(
    answer: bytes | None = OK, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Backend]:
    """Run a backend."""
    made = Backend(answer)
    server = await asyncio.start_server(made.serve, host, port)
    made.host, made.port = server.sockets[0].getsockname()[:2]
    try:
        yield made
    finally:
        server.close()


def dead_target(color: str = "blue", host: str = "127.0.0.1") -> Target:
    """Return an endpoint at which nobody listens."""
    with closing(socket.create_server((host, 0))) as sock:
        return Target(color, Upstream("http", "app", sock.getsockname()[1]), host)


async def wait_until(is_true: Callable[[], object]) -> None:
    """Wait until something is true; fail if it never is."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():
            await asyncio.sleep(0.005)
