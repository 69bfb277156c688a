"""A sillyproxy that runs, as a test sees it: what it logs, what it answers, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE_S = 20.0
HERE = Path(__file__).parent


def wait_until(is_true: Callable[[], object], what: str = "the condition") -> None:
    """Wait until something is true; fail if it never is."""
    end = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def stop(pid: int) -> None:
    """
    Stop a process (SIGSTOP), and wait until it has stopped.

    Until then it may still take a connection, or the event that tells of one.
    """
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the stop")


def make_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return an environment with these settings and no others of ours."""
    ours = ("SILLYPROXY_", "BLUE", "GREEN", "STANDIN")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return clean | {"PYTHONPATH": f"{HERE.parents[1] / 'src'}:{HERE.parents[1]}"} | settings


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.host)


def ask(address: str, path: str, method: str = "GET", **fields: str) -> tuple[int, str]:
    """Ask `host:port` or `unix:/path`; return status and body."""
    if address.startswith("unix:"):
        connection: http.client.HTTPConnection = UnixConnection(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host.strip("[]") or "127.0.0.1", int(port), PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path, headers=fields)
        response = connection.getresponse()
        return response.status, response.read().decode()


class Running:
    """A supervisor, its controller and its workers (which stand in)."""

    def __init__(self, *arguments: str, **settings: str) -> None:
        defaults = {
            "BLUE": "http://127.0.0.1:1",
            "SILLYPROXY_LISTEN": "127.0.0.1:0",
            "SILLYPROXY_ADMIN": "127.0.0.1:0",
            "SILLYPROXY_WORKERS": "2",
            "SILLYPROXY_LOG_LEVEL": "debug",
            "SILLYPROXY_DRAIN_DELAY": "0",
            "SILLYPROXY_DISCOVERY_INTERVAL": "0.2",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "standin.py"), *arguments],
            env=make_environment(defaults | settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def wait_line(self, pattern: str) -> re.Match[str]:
        """Wait until a line is logged that has this pattern."""
        found: list[re.Match[str]] = []

        def is_there() -> bool:
            found[:] = [match for line in list(self.lines) if (match := re.search(pattern, line))]
            return bool(found)

        try:
            wait_until(is_there, pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(self.lines)) from None
        return found[0]

    @property
    def address(self) -> str:
        """Where it serves."""
        return self.wait_line(r"listening on (\S+)")[1]

    @property
    def admin(self) -> str:
        """Where its admin listener is."""
        return self.wait_line(r"admin on (\S+)")[1]

    def wait_serving(self) -> None:
        """Wait until every worker has said hello."""
        self.wait_line("controller: ready")
        wait_until(lambda: len(self.status()["workers"]) == self.workers, "the workers")

    @property
    def workers(self) -> int:
        """How many workers there should be."""
        return len([line for line in self.lines if re.search(r"worker \d+ started", line)])

    def get(self, path: str = "/") -> str:
        """Ask a worker."""
        status, body = ask(self.address, path)
        assert status == 200
        return body

    def status(self) -> Any:
        """Return what `/api/status` says."""
        return json.loads(ask(self.admin, "/api/status")[1])

    def pid_of(self, name: str) -> int:
        """Return the process of `controller` or `worker 0` that was started last."""
        self.wait_line(f"{name} started")
        return int([m[1] for line in self.lines if (m := re.search(rf"{name} started pid=(\d+)", line))][-1])

    def send(self, what: signal.Signals) -> None:
        """Signal the supervisor."""
        self.process.send_signal(what)

    def wait_end(self) -> int:
        """Wait until it is gone; return its exit status."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    def close(self) -> None:
        """Stop it, whatever it is doing."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.15)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self._reader.join(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextlib.contextmanager
def running(*arguments: str, **settings: str) -> Iterator[Running]:
    """Start one, and stop it at the end."""
    proxy = Running(*arguments, **settings)
    try:
        yield proxy
    finally:
        proxy.close()


def run_command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `sillyproxy` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sillyproxy", *arguments],
        env=make_environment(settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
