"""
`sillyproxy serve` with workers that stand in for the data plane.

What is around the workers is tested without them: these take connections, count, listen
to the controller and drain, in the simplest way. What they do is said by the path that
they are asked for.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from typing import Any

from sillyproxy.__main__ import read_serve
from sillyproxy.metrics.layout import DURATIONS_AT, Row, Worker, bucket_of
from sillyproxy.metrics.slab import Counts
from sillyproxy.serve import serve
from sillyproxy.setup import WorkerSetup
from sillyproxy.tools.channel import Applied, Channel, Endpoints, EndpointState, Hello, Serve


def descriptors() -> list[str]:
    """Return the descriptors that are open, without the one that looks."""
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]


class StandIn:
    """One worker."""

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        self.endpoints = Endpoints({})
        self.counts = Counts(setup.block, 8)
        self.kept: list[socket.socket] = []
        self.end = 0.0

    def run(self) -> int:
        signal.signal(signal.SIGTERM, lambda *_: self.drain(self.setup.config.timeouts.drain_delay_s))
        signal.signal(signal.SIGINT, lambda *_: self.drain(0.0))
        self.setup.channel.send(Hello(self.setup.index, os.getpid(), self.setup.config.generation))
        assert self.setup.control is not None
        self.setup.control.send(Applied(self.setup.index, self.setup.config.generation))
        while not self.end or time.monotonic() < self.end:
            wires = [self.setup.channel, self.setup.control, self.setup.lifeline]
            waited: list[Any] = [*(sock for _, sock in self.setup.listeners), *wires]
            for one in select.select(waited, [], [], 0.02)[0]:
                if one is self.setup.channel:
                    for message in self.setup.channel.receive():
                        if isinstance(message, Endpoints):
                            self.endpoints = message
                elif one is self.setup.control:
                    self.serve(self.setup.control)
                elif one is self.setup.lifeline:
                    return 0
                else:
                    self.accept(one)
        return 0

    def serve(self, control: Channel) -> None:
        for message, sockets in control.receive_with_sockets():
            assert isinstance(message, Serve)
            for _, sock in self.setup.listeners:
                sock.close()
            self.setup.config = message.config
            self.setup.listeners = list(zip(message.listeners, sockets, strict=True))
            self.counts.worker[Worker.GENERATION] = message.config.generation
            self.counts.publish()
            for wire in (self.setup.channel, control):
                wire.send(Applied(self.setup.index, message.config.generation))

    def drain(self, delay_s: float) -> None:
        if os.environ.get("STANDIN") != "stuck" and not self.end:
            self.end = time.monotonic() + delay_s

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        sock.settimeout(5)
        path = sock.recv(65536).split(b" ")[1].decode()
        self.counts.worker[Worker.ACCEPTED] += 1
        if path == "/hang":
            self.counts.worker[Worker.INFLIGHT] += 1
            self.counts.publish()
            self.kept.append(sock)
            return
        self.counts.worker[Worker.ANSWERED] += 1
        row = self.counts.rows[1]
        row[Row.C2XX] += 1
        row[DURATIONS_AT + bucket_of(3_000_000)] += 1
        row[Row.DURATION_NS] += 3_000_000
        self.counts.publish()
        body = f"{self.setup.index} {os.getpid()}"
        if path == "/nodelay":
            body = str(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        elif path == "/descriptors":
            body = " ".join(os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors())
        elif path == "/modules":
            body = " ".join(sys.modules)
        elif path == "/endpoints":
            body = " ".join(a.ip for addresses in self.endpoints.colors.values() for a in addresses)
        elif path in ("/avoid", "/return"):
            for color, addresses in self.endpoints.colors.items():
                up = path == "/return"
                self.setup.channel.send(EndpointState(self.setup.index, color, addresses[0], up, "refused"))
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        sock.close()


def run(setup: WorkerSetup) -> int:
    """Be a worker."""
    if os.environ.get("STANDIN") == "crash":
        return 3
    return StandIn(setup).run()


if __name__ == "__main__":
    asked = read_serve(["serve", *sys.argv[1:]])
    assert asked is not None
    sys.exit(serve(*asked, run_worker=run))
