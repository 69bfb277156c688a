"""
A name server that answers as a test says, and notes every question.

Like Docker's resolver it repeats a record's name in full, cuts what does not fit into a
UDP answer, says so (TC), and answers whole over TCP (RFC 1035, 4.2; RFC 6891 for sizes).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal, NamedTuple

A, AAAA, OPT = 1, 28, 41
NO_ERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5

Mood = Literal["well", "silent", "servfail", "refused", "nxdomain", "empty"]


class Question(NamedTuple):
    """One question that came."""

    at: float
    name: str
    kind: int
    transport: str


@dataclass
class Zone:
    """What the server says: the addresses of names, and its mood."""

    names: dict[str, list[str]] = field(default_factory=dict)
    mood: Mood = "well"
    delay_s: float = 0.0


class NameServer:
    """A server on port 53 of an address of 127.0.0.0/8."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.zone = Zone()
        self.questions: list[Question] = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, 53))
        self._tcp = socket.create_server((host, 53))
        for target in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def count(self, since: float) -> Counter[tuple[str, int, str]]:
        """Return how often each question came since then."""
        return Counter((q.name, q.kind, q.transport) for q in list(self.questions) if q.at >= since)

    def _serve_udp(self) -> None:
        while True:
            try:
                data, client = self._udp.recvfrom(4096)
                if not data:  # shut down
                    return
                answer = self._answer(data, "udp")
                if answer:
                    self._udp.sendto(answer, client)
            except OSError:
                return

    def _serve_tcp(self) -> None:
        while True:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_client, args=(sock,), daemon=True).start()

    def _serve_client(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, struct.error):
            stream = sock.makefile("rb")
            while size := stream.read(2):
                answer = self._answer(stream.read(struct.unpack("!H", size)[0]), "tcp")
                if answer:
                    sock.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, data: bytes, transport: str) -> bytes:
        number, _, _, _, _, extras = struct.unpack("!6H", data[:12])
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]])
            at += 1 + data[at]
        kind = struct.unpack("!H", data[at + 1 : at + 3])[0]
        question, rest = data[12 : at + 5], data[at + 5 :]
        name = b".".join(labels).decode().lower()
        self.questions.append(Question(time.monotonic(), name, kind, transport))
        zone = self.zone
        if zone.mood == "silent":
            return b""
        time.sleep(zone.delay_s)
        known = zone.names.get(name)
        code = {"servfail": SERVFAIL, "refused": REFUSED, "nxdomain": NXDOMAIN}.get(zone.mood, NO_ERROR)
        if code == NO_ERROR and known is None:
            code = NXDOMAIN
        owner = question[:-4]
        records = [
            owner + struct.pack("!HHIH", A, 1, 1, 4) + IPv4Address(address).packed
            for address in (known or [])
            if kind == A and code == NO_ERROR and zone.mood == "well"
        ]
        limit = 65535
        if transport == "udp":
            # The OPT record's class is the size that the other side takes (RFC 6891, 6.1.2).
            limit = struct.unpack("!H", rest[3:5])[0] if extras and rest[1:3] == b"\0\x29" else 512
        fit = records[: max(0, (limit - 12 - len(question)) // (len(owner) + 14))]
        flags = 0x8180 | code | (0x0200 if len(fit) < len(records) else 0)
        return struct.pack("!6H", number, flags, 1, len(fit), 0, 0) + question + b"".join(fit)


@contextlib.contextmanager
def name_server(host: str = "127.77.0.53") -> Iterator[NameServer]:
    """Run a name server."""
    server = NameServer(host)
    try:
        yield server
    finally:
        server.close()
