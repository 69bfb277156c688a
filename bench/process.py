"""Start and stop the programs that the benchmark measures and needs. Only what we started is ever stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.machine import read_tree


class BrokenError(Exception):
    """A program did not start, or not do the work asked of it."""


class Process:
    """
    One running program, pinned to some CPUs, that answers on a port.

    Its errors go to a file: a pipe that nobody reads would stop it.
    """

    def __init__(
        self, command: Sequence[str], cpus: set[int], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("wb") as output:
            # taskset, so that no thread is started before it is pinned
            self._popen = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, sorted(cpus))), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def wait_listening(self, port: int, within_s: float = 20.0) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self._popen.poll() is not None:
                raise BrokenError(f"ended with status {self._popen.returncode}: {self.last_words()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise BrokenError(f"does not listen on port {port} after {within_s:g} s: {self.last_words()}")

    def wait_answering(self, port: int, within_s: float = 20.0) -> None:
        """Wait until requests get through: a proxy may listen before it knows its origins."""
        self.wait_listening(port, within_s)
        deadline = time.monotonic() + within_s
        answer = b""
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n")
                answer = sock.recv(4096)
                if answer.startswith(b"HTTP/1.1 ") and not answer.startswith(b"HTTP/1.1 5"):
                    return
            time.sleep(0.05)
        raise BrokenError(f"reaches no origin after {within_s:g} s: {answer[:200]!r}; {self.last_words()}")

    def last_words(self) -> str:
        return self.log.read_text(errors="replace").strip()[-600:] or "(it wrote nothing)"

    def stop(self) -> None:
        """SIGINT, which none of them answers with a long farewell; SIGKILL for what is left after that."""
        tree = read_tree(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)
        try:
            self._popen.wait(3)
        except subprocess.TimeoutExpired:
            # A process of this tree cannot have been replaced by a stranger: its parent still lives.
            for pid in tree:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._popen.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run_load(command: Sequence[str], cpus: set[int], within_s: float) -> str:
    """Run a load generator to its end and return what it printed."""
    try:
        done = subprocess.run(
            ["taskset", "-c", ",".join(map(str, sorted(cpus))), *command],
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BrokenError(f"the load was not done after {within_s:g} s") from None
    if done.returncode:
        raise BrokenError(f"the load failed: {done.stderr.strip()[-300:] or done.stdout.strip()[-300:]}")
    return done.stdout
