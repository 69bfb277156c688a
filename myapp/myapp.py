"""
A web service to deploy twice: it says where it runs and which color it was called as.

    GET /          COLOR HOSTNAME             COLOR is the request's `Color`, or `unknown`
    with V2 set    <h1>HOSTNAME (COLOR)</h1>  as HTML
    POST /sha256   COLOR HOSTNAME DIGEST      the body's SHA-256: did every byte arrive?
    GET /healthz   as /, but not logged       for probes

Every other path and method answers as `/` does. It listens on `:8080` or on its first
argument. On SIGTERM it behaves as a backend should: what is under way is answered,
nothing is reset, and an idle one is gone within a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import os
import re
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

HEAD_LIMIT = 65536
LINE_LIMIT = 4096  # of a chunk's size line and of each trailer
GRACE_S = 0.3  # after SIGTERM: requests that were already on their way still get an answer
LINGER_S = 0.3  # after our last byte: the client may close first, so that nothing is reset
UNDER_WAY_S = 8.0  # Docker kills 10 s after SIGTERM

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
REQUEST = re.compile(rb"(%s) ([!-~]+) HTTP/1\.([01])\r\n((?:%s:%s\r\n)*+)\r\n" % (TOKEN, TOKEN, VALUE))
FIELD = re.compile(rb"([^:\r]+):[ \t]*([^\r]*?)[ \t]*\r\n")
TRAILER = re.compile(rb"%s:%s" % (TOKEN, VALUE))
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;%s)?" % VALUE)
ONCE = (b"host", b"content-length", b"transfer-encoding")  # said twice, they are a smuggler's


class Refused(Exception):
    """The client's bytes are not a request that we answer; the argument is the status that says so."""


class Site:
    """What all connections share: who we are, the date, the log, and whether we are stopping."""

    def __init__(self, hostname: str, as_html: bool) -> None:
        self.hostname = hostname
        self.as_html = as_html
        self.connections: set[Connection] = set()
        self.stopping = False
        self._lines: list[str] = []
        self._second = 0
        self._date = ""

    def page(self, color: str, digest: str) -> tuple[str, bytes]:
        """Return the content type and the body."""
        if self.as_html:
            page = f"<h1>{html.escape(self.hostname)} ({html.escape(color)})</h1>{digest}"
            return "text/html; charset=utf-8", page.encode()
        return "text/plain; charset=utf-8", f"{color} {self.hostname}{digest and ' ' + digest}\n".encode()

    def date(self) -> str:
        """Return the `Date` field's value, made once a second."""
        now = int(time.time())
        if now != self._second:
            self._second, self._date = now, formatdate(now, usegmt=True)
        return self._date

    def log(self, line: str) -> None:
        """Write a line to standard output, soon: one system call serves a burst of requests."""
        if not self._lines:
            asyncio.get_running_loop().call_later(0.02, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what is waiting. A reader who went away costs the lines, not the service."""
        text, self._lines = "\n".join(self._lines), []
        if text:
            try:
                print(text, flush=True)
            except OSError:
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of our life


class Connection(asyncio.Protocol):
    """
    One client. `_step` is the state: the method that reads what comes next.

    A step returns whether it got on; False means that it needs more bytes.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._buffer = bytearray()
        self._step: Callable[[], bool] = self._read_head
        self._left = 0  # bytes of the body or chunk still to come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = str((transport.get_extra_info("peername") or ["-"])[0]).removeprefix("::ffff:")
        self._site.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._site.connections.discard(self)

    def pause_writing(self) -> None:
        """Read no further requests from a client that does not read its answers."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take as many steps as the bytes allow."""
        self._buffer += data
        try:
            while self._step():
                pass
        except Refused as refusal:
            self._method = self._target = self._color = "-"
            self._keep = False
            self._answer(int(refusal.args[0]))

    def eof_received(self) -> bool:
        """Answer nothing more: a request that is cut short is none."""
        return False

    def close_if_idle(self) -> None:
        """Say goodbye between two requests."""
        if self._step == self._read_head and not self._buffer:
            self._linger()

    def _read_head(self) -> bool:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: a client may leave an empty line behind
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(buffer) > HEAD_LIMIT:
                raise Refused(431)
            if b"\n\n" in buffer or b"\n\r\n" in buffer:
                raise Refused(400)  # such a head never ends with \r\n\r\n: do not wait for it
            return False
        head = bytes(buffer[:end])
        del buffer[:end]
        match = REQUEST.fullmatch(head)
        if match is None:
            raise Refused(505 if re.match(rb"[^\r\n]* HTTP/[02-9]\.[0-9]\r\n", head) else 400)
        if end > HEAD_LIMIT:
            raise Refused(431)
        method, target, minor, lines = match.groups()
        fields: dict[bytes, bytes] = {}
        for name, value in FIELD.findall(lines):
            key = name.lower()
            if key in ONCE and key in fields:
                raise Refused(400)
            fields[key] = fields[key] + b"," + value if key in fields else value
        self._method, self._target = method.decode(), target.decode()
        self._color = fields.get(b"color", b"").decode("latin-1") or "unknown"
        self._minor = minor
        options = [option.strip() for option in fields.get(b"connection", b"").lower().split(b",")]
        self._keep = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
        self._digest = hashlib.sha256() if target.partition(b"?")[0] == b"/sha256" else None
        return self._begin_body(fields)

    def _begin_body(self, fields: dict[bytes, bytes]) -> bool:
        """Decide where the body ends (RFC 9112, 6.3), refusing every way to be of two minds about it."""
        coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
        if self._minor == b"1" and b"host" not in fields:
            raise Refused(400)
        if self._method == "CONNECT":
            raise Refused(405)
        if coding is not None:
            if length is not None or self._minor == b"0":
                raise Refused(400)
            if coding.lower() != b"chunked":
                raise Refused(501)
            self._step = self._read_chunk_size
        elif length is not None:
            if not re.fullmatch(rb"[0-9]{1,18}", length):
                raise Refused(400)
            self._left = int(length)
            self._step = self._read_body if self._left else self._end
        else:
            self._step = self._end
        if b"expect" in fields and self._minor == b"1":
            if fields[b"expect"].lower() != b"100-continue":
                raise Refused(417)
            if self._step != self._end and not self._buffer:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _take(self) -> bool:
        """Consume body bytes; return whether all that were due have come."""
        count = min(self._left, len(self._buffer))
        if self._digest is not None:
            with memoryview(self._buffer) as view:
                self._digest.update(view[:count])
        del self._buffer[:count]
        self._left -= count
        return not self._left

    def _read_body(self) -> bool:
        if not self._take():
            return False
        self._step = self._end
        return True

    def _read_line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0 and len(self._buffer) <= LINE_LIMIT:
            return None
        if not 0 <= end <= LINE_LIMIT:
            raise Refused(400)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _read_chunk_size(self) -> bool:
        line = self._read_line()
        if line is None:
            return False
        match = CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise Refused(400)
        self._left = int(match[1], 16)
        self._step = self._read_chunk if self._left else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        if self._left and not self._take():
            return False
        if len(self._buffer) < 2:
            return False
        if not self._buffer.startswith(b"\r\n"):
            raise Refused(400)
        del self._buffer[:2]
        self._step = self._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        line = self._read_line()
        if line is None:
            return False
        if not line:
            self._step = self._end
        elif TRAILER.fullmatch(line) is None:
            raise Refused(400)
        return True

    def _end(self) -> bool:
        """The request is complete."""
        self._step = self._read_head
        self._answer(200)
        return bool(self._buffer)

    def _discard(self) -> bool:
        self._buffer.clear()
        return False

    def _answer(self, status: int) -> None:
        site, reason = self._site, HTTPStatus(status).phrase
        if status == 200:
            kind, body = site.page(self._color, self._digest.hexdigest() if self._digest else "")
        else:
            kind, body = "text/plain; charset=utf-8", f"{reason}\n".encode()
        keep = self._keep and not site.stopping
        if not keep:
            connection = "Connection: close\r\n"
        else:
            connection = "" if self._minor == b"1" else "Connection: keep-alive\r\n"
        head = (
            f"HTTP/1.1 {status} {reason}\r\nDate: {site.date()}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n{connection}\r\n"
        ).encode()
        self._transport.write(head if self._method == "HEAD" else head + body)
        if self._target != "/healthz":
            site.log(f"{self._peer} {self._method} {self._target} {status} color={self._color!a}")
        if not keep:
            self._linger()

    def _linger(self) -> None:
        # RFC 9112, 9.6: closing at once would reset the connection if bytes of the client are
        # still on their way, and the reset could overtake our last answer.
        self._step = self._discard
        self._buffer.clear()
        if not self._transport.is_closing():
            self._transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)


def listen(address: str) -> socket.socket:
    """Bind `:8080`, `127.0.0.1:8080` or `[::1]:8080`; an empty host is every address, IPv4 and IPv6."""
    host, _, port = address.rpartition(":")
    where = (host.strip("[]"), int(port))
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(where, family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    return socket.create_server(where, family=family, backlog=4096)


async def serve(listener: socket.socket, site: Site) -> None:
    """Serve until SIGTERM or SIGINT, then stop without failing anyone."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Connection(site), sock=listener, backlog=4096)
    host, port = listener.getsockname()[:2]
    site.log(f"myapp listens on {f'[{host}]' if ':' in host else host}:{port} as {site.hostname}")
    await stop.wait()

    # Who connects or asks in this moment is answered, and told that this connection ends.
    site.stopping = True
    await asyncio.sleep(GRACE_S)
    server.close()
    for connection in list(site.connections):
        connection.close_if_idle()
    deadline = loop.time() + UNDER_WAY_S
    while site.connections and loop.time() < deadline:
        await asyncio.sleep(0.02)
    site.flush()


def main() -> int:
    """Run; return the exit status."""
    address = sys.argv[1] if len(sys.argv) > 1 else ":8080"
    site = Site(os.environ.get("HOSTNAME") or socket.gethostname(), as_html=bool(os.environ.get("V2")))
    try:
        listener = listen(address)
    except (ValueError, OverflowError):
        print(f"myapp: {address} is no address; use for instance :8080 or 127.0.0.1:8080", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"myapp: cannot listen on {address}: {error.strerror or error}", file=sys.stderr)
        return 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one open file a connection
    asyncio.run(serve(listener, site))
    return 0


if __name__ == "__main__":
    sys.exit(main())
