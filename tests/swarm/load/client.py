"""
Constant load on a service of a Swarm, counted to the last request.

    client.py HOST PORT     ask HOST for ever, every address of it
    client.py HOST PORT h2  the same over TLS and HTTP/2
    client.py report        print what the running one counted since the last report, as JSON

It is a good client and no better: it looks HOST up afresh for every connection, goes by
`Connection: close`, notices when an idle connection was closed before it sends, and sends
nothing twice. Whatever else keeps a request from its right answer is a failure, with its story.

Nothing is sent before somebody accepts the connection, so trying another address loses nothing:
a browser does it, and so does this. It is counted all the same, and so is how long there was
nobody at all: a rolling update without a gap has neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
import re
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KEEPING, RENEWING = 8, 4  # users that keep their connection, and that take a new one each time
SLOW, SLOWNESS_S = 6, 3.0  # users that take their time to upload: what is under way when a task stops
PAUSE_S = 0.05  # between two requests of a user
LIFE = 40  # requests on a kept connection: then look again who is there
TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 1.0  # to one address
AGAIN_S = 0.1  # after which all the addresses are asked for and tried once more
MOST_FAILURES = 1000  # told in one report; all are counted
REPORTS = "/tmp/load.sock"

PLAIN = re.compile(rb"(\w+) (\w+)(?: (\w+))?\n")
HTML = re.compile(rb"<h1>(\w+) \((\w+)\)</h1>(\w+)?")


class Failed(Exception):
    """A request without its right answer."""


@dataclass
class Counts:
    """
    What was seen since the last report.

    `seen` is proxy, color, replica: requests; `refused` is what came of connecting, by address;
    `waited_s` the longest time that nobody accepted a connection, however many addresses there were.
    """

    requests: int = 0
    failed: int = 0
    posts: int = 0
    connections: int = 0
    closed_idle: int = 0
    slowest_s: float = 0.0
    waited_s: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    seen: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)


counts = Counts()
numbers = itertools.count(1)  # of requests: a proxy's log shows them in the targets
under_way: dict[int, float] = {}  # by number: since when, waiting for a connection included


class User:
    """One client, one connection at a time."""

    def __init__(
        self, host: str, port: int, life: int, slow: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self.host, self.port, self.life, self.slow, self.tls = host, port, life, slow, tls
        self.address = ""
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.used = 0

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))
            method = "POST" if self.slow else random.choice(["GET", "GET", "GET", "POST"])
            if self.streams and self.streams[0].at_eof():
                counts.closed_idle += 1
                self.close()
            number = next(numbers)
            under_way[number] = time.time()
            if not self.streams:
                self.streams = await self.connect()
            begun = time.time()
            try:
                await asyncio.wait_for(self.ask(method, number), TIMEOUT_S)
            except (Failed, OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                counts.failures.append(
                    {
                        "number": number,
                        "method": method,
                        "proxy": self.address,
                        "nth": self.used + 1,  # request of its connection
                        "begun": begun,
                        "ended": time.time(),
                        "what": repr(error),
                    }
                )
                counts.failed += 1
                self.close()
            counts.requests += 1
            del under_way[number]
            if not self.slow:
                counts.slowest_s = max(counts.slowest_s, time.time() - begun)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Look the host up and connect to any one of its addresses; wait for one if there is none."""
        begun = time.monotonic()
        while True:
            for address in await self.addresses():
                try:
                    streams = await asyncio.wait_for(
                        asyncio.open_connection(address, self.port, ssl=self.tls), CONNECT_TIMEOUT_S
                    )
                except OSError as error:  # a timeout is one, too
                    counts.refused[f"{address} {type(error).__name__}"] += 1
                    continue
                self.address, self.used = address, 0
                counts.connections += 1
                return streams
            await asyncio.sleep(AGAIN_S)
            counts.waited_s = max(counts.waited_s, time.monotonic() - begun)

    async def addresses(self) -> list[str]:
        """Return the host's addresses in any order; none if it has none now."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self.host, self.port, family=socket.AF_INET, type=socket.SOCK_STREAM
            )
        except socket.gaierror as error:
            counts.refused[f"{self.host} {error.strerror}"] += 1
            return []
        addresses = [str(entry[4][0]) for entry in found]
        random.shuffle(addresses)
        return addresses

    def close(self) -> None:
        """Drop the connection."""
        if self.streams:
            self.streams[1].close()
        self.streams = None

    async def ask(self, method: str, number: int) -> None:
        """Send one request and read its answer to the end."""
        assert self.streams
        reader, writer = self.streams
        last = self.used + 1 >= self.life
        body = random.randbytes(random.choice([1, 999, 70_000])) if method == "POST" else b""
        message = self.request(method, number, body, last)
        if self.slow:
            half = len(message) // 2
            writer.write(message[:half])
            await asyncio.sleep(SLOWNESS_S)
            message = message[half:]
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        if length is None:
            raise Failed(f"answer without a length: {head!r}")
        answer = await reader.readexactly(int(length[1]))
        if status != 200:
            says = re.search(rb"\r\nproxy-status: *([^\r]*)", head)
            raise Failed(f"status {status}: {answer!r} {says[1].decode() if says else ''}".rstrip())
        self.check(answer, head, body)
        self.used += 1
        if last or re.search(rb"\r\nconnection: *close", head):
            self.close()

    def request(self, method: str, number: int, body: bytes, last: bool) -> bytes:
        """Return the bytes of a request; half of the bodies go chunked."""
        close = "Connection: close\r\n" if last else ""
        if method == "GET":
            return f"GET /?{number} HTTP/1.1\r\nHost: {self.host}\r\n{close}\r\n".encode()
        counts.posts += 1
        head = f"POST /sha256?{number} HTTP/1.1\r\nHost: {self.host}\r\n{close}"
        if random.random() < 0.5:
            return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks

    def check(self, answer: bytes, head: bytes, body: bytes) -> None:
        """Count who answered; nonsense and a damaged body are failures."""
        if b"\r\ncontent-type: text/html" in head:
            kind, match = "html", HTML.fullmatch(answer)
            replica, color, digest = match.groups() if match else (b"", b"", b"")
        else:
            kind, match = "plain", PLAIN.fullmatch(answer)
            color, replica, digest = match.groups() if match else (b"", b"", b"")
        if not match or (body and digest != hashlib.sha256(body).hexdigest().encode()):
            raise Failed(f"not the answer to this request: {answer!r}")
        by_color = counts.seen.setdefault(self.address, {})
        by_color.setdefault(color.decode(), Counter())[replica.decode()] += 1
        counts.kinds[f"{color.decode()} {kind}"] += 1


class Connection2:
    """
    A connection of HTTP/2 (RFC 9113), read all the time. `last` is what GOAWAY named, -1 until it came.

    `answers` is, by stream, the head as lines of HTTP/1.1 and the body; `over` those that have ended,
    `refused` those of which nothing was done.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.last = 1 << 31
        self.greeted = self.closed = False
        self.answers: dict[int, list[bytes]] = {}
        self.over: set[int] = set()
        self.refused: set[int] = set()
        self.news = asyncio.Event()
        self.next = 1
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(4, 0, 0))
        self.task = asyncio.get_running_loop().create_task(self.read())

    @staticmethod
    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        """Return a frame."""
        return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload

    async def read(self) -> None:
        """Read until it is closed."""
        try:
            while True:
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                self.take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
                self.news.set()
        except (OSError, EOFError):
            self.closed = True
            self.news.set()

    def take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Do what a frame asks for."""
        answer = self.answers.setdefault(stream, [b"", b""])
        if kind == 4 and not flags & 1:
            self.greeted = True
            self.writer.write(self.frame(4, 1, 0))
        elif kind == 6 and not flags & 1:
            self.writer.write(self.frame(6, 1, 0, payload))
        elif kind == 7:
            self.last = min(self.last, int.from_bytes(payload[:4], "big"))
        elif kind == 3:
            self.over.add(stream)
            if int.from_bytes(payload, "big") == 7:
                self.refused.add(stream)
        elif kind == 1:
            answer[0] += read_fields(payload)
        elif kind == 0:
            answer[1] += payload
            if payload:
                self.writer.write(self.frame(8, 0, 0, len(payload).to_bytes(4, "big")))
        if kind in (0, 1) and flags & 1:
            self.over.add(stream)

    @property
    def is_leaving(self) -> bool:
        """Whether no more should be asked here."""
        return self.closed or self.last < 1 << 31

    async def wait(self, is_true: Callable[[], bool]) -> None:
        """Wait until something is true, or the connection is closed."""
        while not is_true() and not self.closed:
            self.news.clear()
            await self.news.wait()


def read_fields(block: bytes) -> bytes:
    """Return fields as lines; of HPACK, what needs no table and no Huffman code, as the proxy writes it."""
    lines = b""
    at = 0

    def string() -> bytes:
        nonlocal at
        size = block[at] & 0x7F
        at += 1
        if size == 0x7F:
            shift = 0
            while True:
                byte = block[at]
                at += 1
                size += (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
        at += size
        return block[at - size : at]

    while at < len(block):
        first = block[at]
        at += 1
        if first & 0x80:
            lines += (
                b"\r\n:status: " + {8: b"200", 9: b"204", 12: b"400", 13: b"404", 14: b"500"}[first & 0x7F]
            )
            continue
        index = first & 0x0F
        if index == 0x0F:
            index += block[at]
            at += 1
        name = string() if not index else {8: b":status", 31: b"content-type"}.get(index, b"x-other")
        lines += b"\r\n%b: %b" % (name, string())
    return lines


class User2(User):
    """One client over TLS and HTTP/2, one stream at a time; what was surely not served it asks again."""

    conn: Connection2 | None = None

    async def ask(self, method: str, number: int) -> None:
        """Ask until it was served."""
        body = random.randbytes(random.choice([1, 999, 70_000])) if method == "POST" else b""
        counts.posts += method == "POST"
        while not await self.ask_once(method, number, body):
            self.close()
            self.streams = await self.connect()

    async def ask_once(self, method: str, number: int, body: bytes) -> bool:
        """Send a request and read its answer; False if it was surely not served."""
        assert self.streams
        if self.conn is None:
            self.conn = Connection2(*self.streams)
        conn = self.conn
        await conn.wait(lambda: conn.greeted)
        if conn.is_leaving:
            return False
        stream, conn.next = conn.next, conn.next + 2
        path = f"/?{number}" if method == "GET" else f"/sha256?{number}"
        block = (b"\x82" if method == "GET" else b"\x83") + b"\x87"
        for index, text in ((b"\x04", path), (b"\x01", self.host)):
            block += index + bytes((len(text),)) + text.encode()
        pieces = [body[at : at + 16384] for at in range(0, len(body), 16384)]
        conn.writer.write(conn.frame(1, 4 if pieces else 5, stream, block))
        for place, piece in enumerate(pieces, start=1):
            if self.slow and place == len(pieces):
                await asyncio.sleep(SLOWNESS_S)
            conn.writer.write(conn.frame(0, place == len(pieces), stream, piece))
        await conn.wait(lambda: stream in conn.over or conn.last < stream)
        if stream in conn.refused or conn.last < stream:
            return False
        head, answer = conn.answers.pop(stream, [b"", b""])
        if stream not in conn.over or b"\r\n:status: 200" not in head:
            raise Failed(f"status {head[:200]!r} {answer[:200]!r} closed={conn.closed} last={conn.last}")
        self.check(answer, head, body)
        self.used += 1
        if self.used >= self.life or conn.is_leaving:
            self.close()
        return True

    def close(self) -> None:
        """Drop the connection."""
        if self.conn:
            self.conn.task.cancel()
            self.conn = None
        super().close()


async def report(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand out the counts and begin new ones; `oldest` is when what is under way was begun."""
    global counts
    done, counts = counts, Counts()
    oldest = min(under_way.values(), default=time.time())
    values: dict[str, Any] = vars(done) | {"failures": done.failures[:MOST_FAILURES], "oldest": oldest}
    writer.write(json.dumps(values).encode())
    await writer.drain()
    writer.close()


async def main(host: str, port: int, version: str = "") -> None:
    """Run all users for ever."""
    await asyncio.start_unix_server(report, REPORTS)
    kind, tls = User, None
    if version == "h2":
        kind, tls = User2, ssl.create_default_context()
        tls.check_hostname = False  # it is asked by address, and the certificate is of a test
        tls.verify_mode = ssl.CERT_NONE
        tls.set_alpn_protocols(["h2"])
    users = [kind(host, port, LIFE, tls=tls) for _ in range(KEEPING)]
    users += [kind(host, port, 1, tls=tls) for _ in range(RENEWING)]
    users += [kind(host, port, LIFE, slow=True, tls=tls) for _ in range(SLOW)]
    await asyncio.gather(*(user.run() for user in users))


def read_report() -> bytes:
    """Ask the client that runs in this container."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(REPORTS)
        return b"".join(iter(lambda: client.recv(65536), b""))


if __name__ == "__main__":
    if sys.argv[1:] == ["report"]:
        print(read_report().decode())
    else:
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
