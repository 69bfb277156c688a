"""
The demo's processes: real backends and real proxies on free ports of this machine.

Each is in a process group of its own, so that a terminal's Ctrl-C reaches the demo alone,
which stops them in order: proxies before the backends that they need.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from sillyproxy.demo.load import ask

START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 12.0  # longer than a proxy's drain delay and drain timeout
GLANCE_S: Final = 0.05

# The repository's myapp; in a wheel it lies beside this file.
_MYAPP: Final = (Path(__file__).with_name("myapp.py"), Path(__file__).parents[3] / "myapp" / "myapp.py")

# What the caller's environment says about a proxy or a backend is not meant for ours.
_OURS: Final = re.compile(r"SILLYPROXY_.*|(BLUE|GREEN)(_.*)?|V2|HOSTNAME")


class DemoFailed(Exception):
    """The story cannot go on. The message is for the person who watches, whole."""


class Child:
    """One process: its name, where it listens, the last lines it wrote."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], is_proxy: bool) -> None:
        self.name = name
        self.is_proxy = is_proxy
        self.address = ""
        self.admin = ""
        self.is_leaving = False
        self.process = process
        self.lines: deque[str] = deque(maxlen=20)
        self._reader = asyncio.StreamReader()
        self._pump: asyncio.Task[None] | None = None

    async def wait_line(self, pattern: str) -> str:
        """Return what the pattern's group matches in the first line that it is found in."""
        while line := await self._reader.readline():
            self._keep(line)
            if match := re.search(pattern, self.lines[-1]):
                return match[1]
        raise DemoFailed(f"{self.name} did not start{self.last_words()}")

    async def open(self) -> None:
        """Begin to read what it writes."""
        protocol = asyncio.StreamReaderProtocol(self._reader)
        assert self.process.stdout is not None
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, self.process.stdout)

    def read_on(self) -> None:
        """Go on reading: a pipe that nobody empties stops who writes into it."""

        async def read() -> None:
            while line := await self._reader.readline():
                self._keep(line)

        self._pump = asyncio.create_task(read())

    def _keep(self, line: bytes) -> None:
        self.lines.append(line.decode("utf-8", "replace").rstrip())

    def last_words(self) -> str:
        """Return what it said last, to be appended to a reason."""
        return f": {self.lines[-1]}" if self.lines else ""

    def leave(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to stop."""
        self.is_leaving = True
        if self.process.poll() is None:
            self.process.send_signal(by)

    async def wait_gone(self) -> int:
        """Return its exit status when it has ended."""
        while (status := self.process.poll()) is None:
            await asyncio.sleep(GLANCE_S)
        return status


class Processes:
    """Everything that the demo started. `trouble` says who died without being told to."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._watching: asyncio.Task[None] | None = None
        self.trouble = ""

    def when_one_dies(self, call: Callable[[], object]) -> None:
        """Call if a process ends that was not told to."""

        async def watch() -> None:
            while not self.trouble:
                await asyncio.sleep(GLANCE_S)
                for child in self._children:
                    if not child.is_leaving and child.process.poll() is not None:
                        self.trouble = (
                            f"{child.name} died ({_how(child.process.returncode)}){child.last_words()}"
                        )
            call()

        self._watching = asyncio.create_task(watch())

    async def start_backend(self, name: str, as_html: bool) -> Child:
        """Start a `myapp` that calls itself `name`."""
        myapp = next((path for path in _MYAPP if path.is_file()), None)
        if myapp is None:
            raise DemoFailed("the backend myapp.py is not part of this installation; run it from a clone")
        environment = {"HOSTNAME": name} | ({"V2": "1"} if as_html else {})
        child = await self._start(name, [str(myapp), "127.0.0.1:0"], environment, is_proxy=False)
        async with _in_time(child):
            child.address = await child.wait_line(r"listens on (\S+)")
        child.read_on()
        return child

    async def start_proxy(self, name: str, environment: dict[str, str]) -> Child:
        """Start a `sillyproxy serve` with this environment; return it when it says that it is ready."""
        settings = {
            "SILLYPROXY_LISTEN": "127.0.0.1:0",
            "SILLYPROXY_ADMIN": "127.0.0.1:0",
            "SILLYPROXY_WORKERS": "1",
            "SILLYPROXY_ACCESS_LOG": "off",
        }
        child = await self._start(name, ["-m", "sillyproxy", "serve"], settings | environment, is_proxy=True)
        async with _in_time(child):
            child.address = await child.wait_line(r"listening on (\S+)")
            child.admin = await child.wait_line(r"admin on (\S+)")
            child.read_on()
            while not await _is_ready(child.admin):
                await asyncio.sleep(GLANCE_S)
        return child

    async def _start(
        self, name: str, arguments: list[str], environment: dict[str, str], is_proxy: bool
    ) -> Child:
        inherited = {key: value for key, value in os.environ.items() if not _OURS.fullmatch(key)}
        try:
            # Not asyncio's: nothing is awaited between the start and the list, so none can be forgotten.
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments],
                env=inherited | {"PYTHONUNBUFFERED": "1"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as error:
            raise DemoFailed(f"cannot start {name}: {error.strerror or error}") from None
        child = Child(name, process, is_proxy)
        self._children.append(child)
        await child.open()
        return child

    async def replaced(self, child: Child) -> None:
        """Wait until a process that was told to stop has done so, cleanly."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                status = await child.wait_gone()
        except TimeoutError:
            raise DemoFailed(f"{child.name} did not stop within {STOP_TIMEOUT_S:.0f} s of SIGTERM") from None
        self._children.remove(child)
        if status:
            raise DemoFailed(f"{child.name} did not stop cleanly ({_how(status)}){child.last_words()}")

    async def stop(self) -> None:
        """Stop everybody: first who is in front, with SIGINT (there is nobody left to wait for)."""
        if self._watching is not None:
            self._watching.cancel()
        for is_proxy in (True, False):
            some = [child for child in self._children if child.is_proxy is is_proxy]
            for child in some:
                child.leave(signal.SIGINT)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    for child in some:
                        await child.wait_gone()
            except TimeoutError:
                self.kill()
                for child in some:
                    await child.wait_gone()

    def kill(self) -> None:
        """Stop everybody at once. A proxy's workers see that their supervisor is gone."""
        for child in self._children:
            child.is_leaving = True
            if child.process.poll() is None:
                child.process.kill()


async def _is_ready(admin: str) -> bool:
    try:
        return (await ask(admin, "/readyz"))[0] == 200
    except (OSError, EOFError):
        return False


@asynccontextmanager
async def _in_time(child: Child) -> AsyncIterator[None]:
    """Limit what a start may take."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            yield
    except TimeoutError:
        reason = f"{child.name} was not ready within {START_TIMEOUT_S:.0f} s{child.last_words()}"
        raise DemoFailed(reason) from None


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit {status}"
