"""
What stands in for systemd: it holds the listening sockets, and starts proxies that inherit them.

As sd_listen_fds(3) has it: descriptors 3 and up, LISTEN_FDS their number, LISTEN_PID who they are
for; and NOTIFY_SOCKET for what the proxy has to say (sd_notify(3)).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.wire.running import PATIENCE_S, make_environment

# exec keeps the process, so that LISTEN_PID can be set by whoever is to become the proxy.
_BECOME = """
import os, sys
copies = [int(number) for number in sys.argv[1].split(",")]
for place, copy in enumerate(copies):
    os.dup2(copy, 3 + place)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "sillyproxy"])
"""


class Holder:
    """Holds sockets, starts proxies on them."""

    def __init__(self, directory: Path, *sockets: socket.socket) -> None:
        self.sockets = sockets
        self.directory = directory
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(directory / "notify"))
        self._notified.settimeout(PATIENCE_S)
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def port(self) -> int:
        """The port of the first socket."""
        port: int = self.sockets[0].getsockname()[1]
        return port

    @property
    def log(self) -> str:
        """What all of them wrote."""
        return (self.directory / "log").read_text()

    def start(self, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a proxy and return at once."""
        # Copies above what they are moved to, so that none is overwritten on the way.
        copies = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 100) for sock in self.sockets]
        defaults = {
            "SILLYPROXY_ADMIN": "off",
            "SILLYPROXY_ACCESS_LOG": "off",
            "SILLYPROXY_WORKERS": "2",
            "SILLYPROXY_DRAIN_DELAY": "200ms",
            "LISTEN_FDS": str(len(copies)),
            "NOTIFY_SOCKET": str(self.directory / "notify"),
        }
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-ISc", _BECOME, ",".join(map(str, copies))],
                env=make_environment(defaults | dict(env)),
                pass_fds=copies,
                stdout=log,
                stderr=log,
            )
        for copy in copies:
            os.close(copy)
        self._started.append(process)
        return process

    def wait_notified(self, what: str) -> str:
        """Wait until a proxy says this; return the whole message."""
        while what not in (message := self._notified.recv(4096).decode()).split("\n"):
            pass
        return message

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a proxy, which ends in time and well."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, self.log

    def close(self) -> None:
        """Stop whatever runs, and let go of the sockets."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._started:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        for sock in (*self.sockets, self._notified):
            sock.close()
