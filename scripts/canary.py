"""
Play a canary in which green is worse, with real processes, to look at.

    python -m scripts.canary 9080    then open http://127.0.0.1:9080/

A proxy, five backends, and clients that never stop. First blue takes all; then a configuration
with a mistake is refused; then green takes a fifth. Green is slower, sometimes much, and fails some
requests; one of its replicas fails often enough to be ejected, again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

PYTHON = sys.executable
CLIENTS = 24
PAUSE_S = 0.09  # between two requests of a client, about
REQUEST = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Backend:
    """How a replica answers: its median time, how far times spread, the share that fails."""

    median_s: float
    spread: float
    fails: float = 0.0


BLUE = (Backend(0.012, 0.35), Backend(0.012, 0.35), Backend(0.013, 0.35))
GREEN = (Backend(0.0135, 0.75, 0.012), Backend(0.0135, 0.75, 0.3))

# What the operator writes into the file, and when (seconds from the start).
STORY = (
    (0.0, "GREEN_WEIGHT=0"),
    (100.0, "GREEN_WEIGHT=one"),
    (120.0, "GREEN_WEIGHT=1"),
)


class Canary:
    """The backends and the proxy in front of them. `admin` is where the dashboard is."""

    def __init__(self, admin_port: int = 0) -> None:
        self.admin_port = admin_port
        self.admin = ""
        self.address = ""
        self.chance = random.Random(4)

    async def run(self, directory: Path) -> None:
        """Play until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            urls = {
                name: [await stack.enter_async_context(self._serve(backend)) for backend in backends]
                for name, backends in (("BLUE", BLUE), ("GREEN", GREEN))
            }
            lines = [f"{name}={','.join(of)}" for name, of in urls.items()]
            file = directory / "edge.env"
            # Not written but renamed: the proxy must never see half a file.
            rewrite(file, [*lines, "BLUE_WEIGHT=4", STORY[0][1]])
            await stack.enter_async_context(self._proxy(file))
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(self._ask())
                begun = asyncio.get_running_loop().time()
                for at, line in STORY[1:]:
                    await asyncio.sleep(begun + at - asyncio.get_running_loop().time())
                    rewrite(file, [*lines, "BLUE_WEIGHT=4", line])

    @contextlib.asynccontextmanager
    async def _serve(self, backend: Backend) -> AsyncIterator[str]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await reader.readuntil(b"\r\n\r\n"):
                    await asyncio.sleep(backend.median_s * self.chance.lognormvariate(0, backend.spread))
                    status = b"500 Broken" if self.chance.random() < backend.fails else b"200 OK"
                    writer.write(b"HTTP/1.1 %b\r\nContent-Length: 3\r\n\r\nok\n" % status)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            server.close()

    @contextlib.asynccontextmanager
    async def _proxy(self, file: Path) -> AsyncIterator[None]:
        settings = {
            "SILLYPROXY_ENV_FILE": str(file),
            "SILLYPROXY_LISTEN": "127.0.0.1:0",
            "SILLYPROXY_ADMIN": f"127.0.0.1:{self.admin_port}",
            "SILLYPROXY_WORKERS": "2",
            "SILLYPROXY_ACCESS_LOG": "off",
        }
        process = await asyncio.create_subprocess_exec(
            PYTHON, "-m", "sillyproxy", "serve", env=settings, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        try:
            while not (self.admin and self.address):
                line = (await process.stderr.readline()).decode()
                if not line:
                    raise RuntimeError("the proxy did not start")
                _, found, where = line.partition("admin on ")
                self.admin = where.split()[0] if found else self.admin
                _, found, where = line.partition("listening on ")
                self.address = where.split()[0] if found else self.address
            draining = asyncio.create_task(drain(process.stderr))
            yield
            draining.cancel()
        finally:
            process.send_signal(signal.SIGINT)
            await process.wait()

    async def _ask(self) -> None:
        host, _, port = self.address.rpartition(":")
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(host, int(port))
                while True:
                    writer.write(REQUEST)
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    await asyncio.sleep(PAUSE_S * self.chance.uniform(0.5, 1.5))
            await asyncio.sleep(0.1)


async def drain(stream: asyncio.StreamReader) -> None:
    """Read on: a pipe that nobody empties stops who writes into it."""
    while await stream.readline():
        pass


def rewrite(file: Path, lines: list[str]) -> None:
    """Replace a file at once."""
    new = file.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    new.rename(file)


async def main() -> None:
    """Play until interrupted."""
    canary = Canary(int(sys.argv[1]) if len(sys.argv) > 1 else 9080)
    with tempfile.TemporaryDirectory() as directory:
        print(f"http://127.0.0.1:{canary.admin_port}/")
        await canary.run(Path(directory))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
