"""
A replica that misbehaves when it is told to.

    python -m bench.faults_replica ADDRESS PORT CONTROL SEED

It answers every GET at once with its address. CONTROL is the path of a unix socket (a file, so
that it is reached from another network namespace as well) that takes one line a connection:

    ok       as usual; what was held back is answered now
    refuse   as if the process had died: all connections closed, the port refuses
    hang     connections are taken, requests are read, nothing is answered
    reset    each request is read, then its connection is reset
    half     every second request, by chance, gets a 500; /healthz does not notice what is broken
    count    tells how many requests came, and how many of them for /healthz
"""

from __future__ import annotations

import random
import select
import signal
import socket
import struct
import sys
from pathlib import Path

MODES = ("ok", "refuse", "hang", "reset", "half")
HEALTH = b"/healthz"
LINGER_0 = struct.pack("ii", 1, 0)  # close(2) sends RST


class Replica:
    """One replica on an epoll loop."""

    def __init__(self, address: str, port: int, control: Path, seed: int) -> None:
        self.address, self.port = address, port
        self.mode = "ok"
        self.requests = self.probes = 0
        self._chance = random.Random(seed)
        self._body = f"{address}\n".encode()
        self._poller = select.epoll()
        self._connections: dict[int, tuple[socket.socket, bytearray]] = {}
        self._held: list[tuple[socket.socket, bytes]] = []
        control.unlink(missing_ok=True)
        self._control = socket.socket(socket.AF_UNIX)
        self._control.bind(str(control))
        self._control.listen()
        self._poller.register(self._control, select.EPOLLIN)
        self._listener: socket.socket | None = None
        self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server((self.address, self.port), backlog=1024)
        self._listener.setblocking(False)
        self._poller.register(self._listener, select.EPOLLIN)

    def serve(self) -> None:
        """Serve for ever."""
        while True:
            for fd, _ in self._poller.poll():
                if fd == self._control.fileno():
                    self._obey()
                elif self._listener is not None and fd == self._listener.fileno():
                    self._accept(self._listener)
                elif fd in self._connections:  # it may have been closed by a command just now
                    self._read(fd)

    def _obey(self) -> None:
        sock, _ = self._control.accept()
        with sock:
            word = sock.recv(64).decode().strip()
            if word == "count":
                sock.sendall(f"{self.requests} {self.probes}\n".encode())
                return
            assert word in MODES, word
            self._become(word)
            sock.sendall(b"done\n")

    def _become(self, mode: str) -> None:
        self.mode = mode
        if mode == "refuse" and self._listener is not None:
            self._listener.close()
            self._listener = None
            for fd in list(self._connections):
                self._close(fd)
        elif mode != "refuse" and self._listener is None:
            self._listen()
        if mode == "ok":
            held, self._held = self._held, []
            for sock, path in held:
                if sock.fileno() in self._connections:
                    self._answer(sock, path)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # it has gone again
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[sock.fileno()] = (sock, bytearray())
        self._poller.register(sock, select.EPOLLIN)

    def _close(self, fd: int) -> None:
        self._connections.pop(fd)[0].close()

    def _read(self, fd: int) -> None:
        sock, buffer = self._connections[fd]
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._close(fd)
            return
        buffer += data
        while fd in self._connections and (end := buffer.find(b"\r\n\r\n")) >= 0:
            path = bytes(buffer[:end]).split(b" ", 2)[1]
            del buffer[: end + 4]
            self.requests += 1
            self.probes += path == HEALTH
            self._act(sock, path)

    def _act(self, sock: socket.socket, path: bytes) -> None:
        if self.mode == "hang":
            self._held.append((sock, path))
        elif self.mode == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
            self._close(sock.fileno())
        else:
            self._answer(sock, path)

    def _answer(self, sock: socket.socket, path: bytes) -> None:
        status = b"200 OK"
        if self.mode == "half" and path != HEALTH and self._chance.random() < 0.5:
            status = b"500 Internal Server Error"
        try:
            sock.sendall(
                b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(self._body), self._body)
            )
        except OSError:
            self._close(sock.fileno())


def tell(control: Path, word: str) -> str:
    """Tell a replica what to be from now on (or ask for its counts); return what it says."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(control))
        sock.sendall(word.encode() + b"\n")
        return sock.recv(256).decode().strip()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    address, port, control, seed = sys.argv[1:]
    try:
        Replica(address, int(port), Path(control), int(seed)).serve()
    except KeyboardInterrupt:
        sys.exit(0)
