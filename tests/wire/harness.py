"""
A real proxy, a scripted origin behind it, a raw client before it.

Nothing here trusts the code under test: the origin and the client read HTTP with the
small strict parser below, written from RFC 9112, and keep every byte that they saw.

Waits have one generous end, `PATIENCE_S`; a passing test never comes near it.
`WIRE_SUBJECT=nginx` puts nginx in sillyproxy's place, to judge the judge: what nginx is
known to do right must pass, what it is known to do wrong must fail.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PATIENCE_S: Final = float(os.environ.get("WIRE_PATIENCE", "10"))
SUBJECT: Final = os.environ.get("WIRE_SUBJECT", "sillyproxy")

Fields = list[tuple[bytes, bytes]]


class Malformed(Exception):
    """The peer sent what RFC 9112 does not allow."""


class Ended(Exception):
    """The peer's bytes ended; `how` is `closed`, `reset` or `silent` (nothing more within the patience)."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Stream:
    """A socket read by need; keeps every byte received in `raw`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.raw = bytearray()

    def fill(self, timeout_s: float = PATIENCE_S, most: int = 65536) -> None:
        """Receive once more, or raise `Ended`."""
        try:
            self.sock.settimeout(timeout_s)
            data = self.sock.recv(most)
        except TimeoutError:
            raise Ended("silent") from None
        except OSError:
            raise Ended("reset") from None
        if not data:
            raise Ended("closed")
        self.buffer += data
        self.raw += data

    def take(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        while len(self.buffer) < size:
            self.fill()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def take_line(self) -> bytes:
        """Return a line without its CRLF. A CR or LF elsewhere is malformed."""
        while (end := self.buffer.find(b"\n")) < 0:
            self.fill()
        line = self.take(end + 1)
        if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
            raise Malformed(f"line {line!r}")
        return line[:-2]

    def take_fields(self) -> Fields:
        """Return the fields up to and with the empty line."""
        fields: Fields = []
        while line := self.take_line():
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip() or b" " in name or b"\t" in name:
                raise Malformed(f"field {line!r}")
            fields.append((name, value.strip(b" \t")))
        return fields

    def take_chunk(self) -> bytes:
        """Return one chunk's data; empty for the last (its trailers are still to be read)."""
        size, _, _ = self.take_line().partition(b";")
        if not size or size.strip(b"0123456789abcdefABCDEF"):
            raise Malformed(f"chunk size {size!r}")
        if not (length := int(size, 16)):
            return b""
        data = self.take(length)
        if self.take(2) != b"\r\n":
            raise Malformed("no CRLF after a chunk")
        return data


def get_values(fields: Fields, name: str) -> list[bytes]:
    """Return the values of every field of that name, in order."""
    wanted = name.lower().encode()
    return [value for key, value in fields if key.lower() == wanted]


def get_list(fields: Fields, name: str) -> list[bytes]:
    """Return the members of a list-valued field over all its lines, in lower case."""
    members = b",".join(get_values(fields, name)).lower().split(b",")
    return [member.strip() for member in members if member.strip()]


def find_length(fields: Fields) -> int | None:
    """Return the Content-Length, None if there is none; anything doubtful is malformed."""
    lengths = get_values(fields, "content-length")
    if not lengths:
        return None
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise Malformed(f"Content-Length {lengths!r}")
    return int(lengths[0])


def is_chunked(fields: Fields) -> bool:
    """Whether the last transfer coding is chunked; any other coding, or a length too, is malformed."""
    codings = get_list(fields, "transfer-encoding")
    if not codings:
        return False
    if codings != [b"chunked"] or get_values(fields, "content-length"):
        raise Malformed(f"framing {fields!r}")
    return True


# The origin.


@dataclass
class Received:
    """One request as the origin saw it. `complete` once the body's end was seen."""

    line: bytes
    fields: Fields
    connection: int
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    complete: bool = False
    ended: str = ""

    @property
    def method(self) -> bytes:
        return self.line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    def values(self, name: str) -> list[bytes]:
        return get_values(self.fields, name)

    def list(self, name: str) -> list[bytes]:
        return get_list(self.fields, name)


class Exchange:
    """What a script acts on: the request at the origin, and its connection."""

    def __init__(self, stream: Stream, request: Received) -> None:
        self.stream = stream
        self.request = request
        self.finished = False
        self.sent = 0
        self._chunked = is_chunked(request.fields)
        self._left = 0 if self._chunked else find_length(request.fields) or 0
        if not self._chunked and not self._left:
            request.complete = True

    def read_some(self) -> bytes:
        """Return more of the body, at least a byte; empty at its end."""
        request, stream = self.request, self.stream
        if request.complete:
            return b""
        try:
            if self._chunked:
                data = stream.take_chunk()
                if not data:
                    request.trailers = stream.take_fields()
                    request.complete = True
            else:
                if not stream.buffer:
                    stream.fill()
                data = stream.take(min(self._left, len(stream.buffer)))
                self._left -= len(data)
                request.complete = not self._left
        except Ended as end:
            request.ended = end.how
            raise
        request.body += data
        return data

    def read_body(self) -> bytes:
        """Read the body to its end and return it."""
        parts = []
        while data := self.read_some():
            parts.append(data)
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        """Send all of it; raises OSError if the proxy is gone."""
        self.stream.sock.settimeout(PATIENCE_S)
        self.stream.sock.sendall(data)
        self.sent += len(data)

    def cork(self) -> None:
        """Hold back what is sent until the close, so that data and FIN come in one packet."""
        cork(self.stream.sock)

    def half_close(self) -> None:
        """Send no more; still read."""
        self.stream.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close in the ordinary way."""
        self.finished = True

    def reset(self) -> None:
        """Close with RST."""
        reset(self.stream.sock)
        self.finished = True

    def wait_end(self) -> str:
        """Read until the proxy closes; say how it ended."""
        while True:
            try:
                self.stream.fill()
            except Ended as end:
                self.request.ended = end.how
                return end.how


def cork(sock: socket.socket) -> None:
    """Let what is sent wait for the end of sending."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)


def reset(sock: socket.socket) -> None:
    """Close a socket so that its peer gets RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# The steps of a script besides bytes (send them) and numbers (seconds to pause).
Step = bytes | float | Callable[[Exchange], object]
Script = bytes | Sequence[Step] | Callable[[Exchange], object]

READ: Final = Exchange.read_body
CORK: Final = Exchange.cork
CLOSE: Final = Exchange.close
RESET: Final = Exchange.reset

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def play(script: Script, exchange: Exchange) -> None:
    """Act a script out. Bytes alone: read the whole request, then send them."""
    if callable(script):
        script(exchange)
        return
    steps: Sequence[Step] = (READ, script) if isinstance(script, bytes) else script
    for step in steps:
        if isinstance(step, bytes):
            exchange.send(step)
        elif isinstance(step, (int, float)):
            time.sleep(step)
        else:
            step(exchange)


class Origin:
    """
    A server on a port of its own that does to each request what the script says.

    `restart` gives the next test an empty record and a script; connections stay open, as
    the proxy pools them. A request belongs to the record of the time it came.
    """

    def __init__(self, port: int = 0) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self.listener.getsockname()[1]
        self.connections = 0
        self.opened: set[socket.socket] = set()
        self.waiting: set[socket.socket] = set()
        self.reading: set[socket.socket] = {self.listener}
        self.changed = threading.Condition()
        self.script: Script = OK
        self.requests: list[Received] = []
        self.faults: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def restart(self, script: Script = OK) -> None:
        """Forget what was received; do as `script` says from now on."""
        with self.changed:
            self.script = script
            self.requests = []
            self.faults = []

    def wait(self, count: int = 1, *, complete: bool = True) -> Received:
        """Return the `count`th request, once it is there (and its body read to the end)."""

        def is_there() -> bool:
            there = self.requests
            return len(there) >= count and (not complete or there[count - 1].complete)

        with self.changed:
            got = wait_for(is_there, self.changed)
            assert got, f"the origin got {self.requests!r} {self.faults!r}"
            return self.requests[count - 1]

    def settle(self) -> None:
        """Wait until every request that reached a socket is in the record (a second at most)."""
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if not self.reading and not is_readable(self.listener, *self.waiting):
                return
            time.sleep(0.0005)

    def close(self) -> None:
        """Stop listening (connects are refused from now on) and close every connection."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.close_connections()

    def close_connections(self) -> None:
        """Close the connections that are open, with FIN."""
        for sock in list(self.opened):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                self.reading.discard(self.listener)
                is_readable(self.listener, timeout_s=None)
                self.reading.add(self.listener)
                sock, _ = self.listener.accept()
            except (OSError, ValueError):
                self.reading.discard(self.listener)
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self.opened.add(sock)
            self.waiting.add(sock)
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        stream = Stream(sock)
        try:
            while self._serve_one(stream, number):
                pass
        except Malformed as problem:
            self._note(str(problem))
        except (Ended, OSError):
            pass
        finally:
            for group in (self.opened, self.waiting, self.reading):
                group.discard(sock)
            with contextlib.suppress(OSError):
                sock.close()
            with self.changed:
                self.changed.notify_all()

    def _serve_one(self, stream: Stream, number: int) -> bool:
        # A pooled connection waits for its next request as long as the proxy likes.
        self.waiting.add(stream.sock)
        if not stream.buffer:
            is_readable(stream.sock, timeout_s=None)
        self.reading.add(stream.sock)
        self.waiting.discard(stream.sock)
        line = stream.take_line()
        fields = stream.take_fields()
        request = Received(line, fields, number)
        exchange = Exchange(stream, request)
        with self.changed:
            self.requests.append(request)
            script = self.script
            self.changed.notify_all()
        self.reading.discard(stream.sock)
        try:
            play(script, exchange)
            if not exchange.finished:
                exchange.read_body()
        finally:
            with self.changed:
                self.changed.notify_all()
        return not exchange.finished

    def _note(self, fault: str) -> None:
        with self.changed:
            self.faults.append(fault)
            self.changed.notify_all()


def is_readable(*socks: socket.socket, timeout_s: float | None = 0) -> bool:
    """Whether one of the sockets has something to receive, within that time. A closed one has nothing."""
    poll = select.poll()
    for sock in socks:
        if sock.fileno() >= 0:
            poll.register(sock, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def wait_for(is_true: Callable[[], bool], changed: threading.Condition | None = None) -> bool:
    """Wait until `is_true`; whether it became so within the patience."""
    end = time.monotonic() + PATIENCE_S
    while not is_true():
        if time.monotonic() > end:
            return False
        if changed is None:
            time.sleep(0.01)
        else:
            changed.wait(0.05)
    return True


# The client.


@dataclass
class Reply:
    """
    A response as the client saw it.

    `end` says how it ended: `length`, `chunked`, `none` (no body by definition), `close`
    (a body that ends with the connection); or it is broken: `closed`, `reset`, `silent`
    before its end, `malformed`. A status of 0: not even a head came.
    """

    version: bytes = b""
    status: int = 0
    reason: bytes = b""
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    end: str = ""
    fault: str = ""
    interim: list[Reply] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return self.end in ("length", "chunked", "none", "close")

    def values(self, name: str) -> list[bytes]:
        return get_values(self.fields, name)

    def list(self, name: str) -> list[bytes]:
        return get_list(self.fields, name)


class Client:
    """A raw connection to the proxy."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(self.sock)

    def send(self, data: bytes) -> None:
        """Send all of it; the proxy may have closed before (its answer is still read)."""
        self.sock.settimeout(PATIENCE_S)
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def send_slowly(self, data: bytes) -> None:
        """Send it a byte a packet."""
        for i in range(len(data)):
            self.send(data[i : i + 1])

    def send_last(self, data: bytes) -> None:
        """Send it with FIN in the same packet; still read."""
        cork(self.sock)
        self.send(data)
        self.half_close()

    def half_close(self) -> None:
        """Send no more; still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close in the ordinary way."""
        self.sock.close()

    def reset(self) -> None:
        """Close with RST."""
        reset(self.sock)

    def read_head(self) -> Reply:
        """Read one status line and its fields."""
        reply = Reply()
        line = self.stream.take_line()
        try:
            version, status, reason = line.split(b" ", 2)
        except ValueError:
            raise Malformed(f"status line {line!r}") from None
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit():
            raise Malformed(f"status line {line!r}")
        reply.fields = self.stream.take_fields()
        reply.version, reply.status, reply.reason = version, int(status), reason
        return reply

    def read_body(self, reply: Reply, method: bytes = b"GET") -> Reply:
        """Read what follows a final head, into `reply`."""
        stream = self.stream
        body = bytearray()
        try:
            if method == b"HEAD" or reply.status in (204, 304):
                reply.end = "none"
            elif is_chunked(reply.fields):
                while data := stream.take_chunk():
                    body += data
                reply.trailers = stream.take_fields()
                reply.end = "chunked"
            elif (length := find_length(reply.fields)) is not None:
                while len(body) < length:
                    if not stream.buffer:
                        stream.fill()
                    body += stream.take(min(length - len(body), len(stream.buffer)))
                reply.end = "length"
            else:
                while True:
                    body += stream.take(len(stream.buffer))
                    stream.fill()
        except Malformed as problem:
            reply.end, reply.fault = "malformed", str(problem)
        except Ended as end:
            until_close = not get_values(reply.fields, "content-length") and not reply.list(
                "transfer-encoding"
            )
            reply.end = "close" if until_close and end.how == "closed" else end.how
        reply.body = bytes(body)
        return reply

    def read_reply(self, method: bytes = b"GET") -> Reply:
        """Read one final response whole, and the interim ones before it. Never raises."""
        interim: list[Reply] = []
        try:
            while (reply := self.read_head()).status < 200 and reply.status != 101:
                interim.append(reply)
        except Malformed as problem:
            return Reply(end="malformed", fault=str(problem), interim=interim)
        except Ended as end:
            return Reply(end=end.how, fault=repr(bytes(self.stream.raw[:200])), interim=interim)
        reply.interim = interim
        return reply if reply.status == 101 else self.read_body(reply, method)

    def read_exactly(self, size: int) -> bytes:
        """Return `size` bytes as they come, for tunnels and bodies under way; fewer if they end."""
        try:
            return self.stream.take(size)
        except Ended:
            return bytes(self.stream.buffer)

    def wait_end(self, timeout_s: float = PATIENCE_S) -> str:
        """Read to the end; `closed`, `reset`, or `silent` if the proxy keeps the connection open."""
        while True:
            try:
                self.stream.fill(timeout_s)
            except Ended as end:
                return end.how

    def is_silent(self, for_s: float = 0.3) -> bool:
        """Whether nothing at all comes within that time."""
        if self.stream.buffer:
            return False
        try:
            self.stream.fill(for_s)
        except Ended as end:
            return end.how == "silent"
        return False


# The proxy.


def find_free_port(*others: int) -> int:
    """Return a port on which nothing listens, and that is none of these."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port: int = sock.getsockname()[1]
        if port not in others:
            return port


class Proxy:
    """
    `sillyproxy serve` as a process of its own, on free ports, one worker unless told otherwise.

    `start` returns when it is ready (`ready=False`: when it accepts connections; for a proxy
    that has no color to serve). `stop` asks with SIGTERM and holds it to its promise: exit 0
    and no traceback in its log.
    """

    def __init__(self, env: Mapping[str, str], *, ready: bool = True) -> None:
        self.port = find_free_port()
        self.admin_port = find_free_port(self.port)
        self.directory = Path(tempfile.mkdtemp(prefix="wire-"))
        self.log = self.directory / "log"
        self.env = {
            "SILLYPROXY_LISTEN": f"127.0.0.1:{self.port}",
            "SILLYPROXY_ADMIN": f"127.0.0.1:{self.admin_port}",
            "SILLYPROXY_WORKERS": "1",
            "SILLYPROXY_DRAIN_DELAY": "0",
            "SILLYPROXY_DRAIN_TIMEOUT": "1",
            **env,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._make_command(), env=self._make_env(), stdout=log, stderr=log, start_new_session=True
            )
        self._wait_up(ready)

    def _make_command(self) -> list[str]:
        return [sys.executable, "-m", "sillyproxy", "serve"]

    def _make_env(self) -> dict[str, str]:
        ours = ("SILLYPROXY_", "BLUE", "GREEN")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | self.env

    def _is_up(self, ready: bool) -> bool:
        try:
            if not ready:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            admin = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
            with contextlib.closing(admin):
                admin.request("GET", "/readyz")
                return admin.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _wait_up(self, ready: bool) -> None:
        end = time.monotonic() + 30
        while not self._is_up(ready):
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise AssertionError(f"the proxy did not start:\n{self.read_log()}")
            time.sleep(0.05)

    def read_log(self) -> str:
        """Return what it wrote to its standard output and error so far."""
        return self.log.read_text(errors="replace")

    def measure_memory(self) -> int:
        """Return the resident bytes of it and its children."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in [str(pid), *children]]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """Kill it and its children, without any judgement."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """Stop it with SIGTERM; it exits with 0 and has written no traceback."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            status = None
        self.kill()
        log = self.read_log()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert status == 0, f"exit status {status}:\n{log[-4000:]}"
        assert "Traceback" not in log, log[-4000:]


class Nginx(Proxy):
    """nginx in the same place, configured to do the same as far as it can."""

    def _make_command(self) -> list[str]:
        base = self.env.get("BLUE", "").removeprefix("http://").partition("/")
        seconds = {"1s": "1s", "500ms": "500ms", "2s": "2s"}
        (self.directory / "nginx.conf").write_text(f"""
            daemon off; worker_processes 1; pid {self.directory}/pid; error_log {self.log} info;
            events {{}}
            http {{
              access_log off;
              client_body_temp_path {self.directory}/body; proxy_temp_path {self.directory}/proxy;
              fastcgi_temp_path {self.directory}/f; uwsgi_temp_path {self.directory}/u;
              scgi_temp_path {self.directory}/s;
              upstream blue {{ server {base[0]}; keepalive 64; }}
              map $http_upgrade $hop {{ default upgrade; '' ''; }}
              client_header_timeout {seconds.get(self.env.get("SILLYPROXY_HEADER_TIMEOUT", ""), "60s")};
              client_body_timeout {seconds.get(self.env.get("SILLYPROXY_IDLE_TIMEOUT", ""), "60s")};
              keepalive_timeout {seconds.get(self.env.get("SILLYPROXY_IDLE_TIMEOUT", ""), "60s")};
              proxy_read_timeout {seconds.get(self.env.get("SILLYPROXY_RESPONSE_TIMEOUT", ""), "60s")};
              proxy_connect_timeout 1s;
              client_max_body_size {self.env.get("SILLYPROXY_MAX_BODY_BYTES", "0")};
              large_client_header_buffers 4 16k;
              server {{
                listen 127.0.0.1:{self.port};
                location / {{
                  proxy_pass http://blue{base[1] + base[2]}{"/" if base[1] else ""};
                  proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
                  proxy_set_header Host $http_host; proxy_set_header Color blue;
                  proxy_set_header Connection $hop; proxy_set_header Upgrade $http_upgrade;
                  proxy_set_header X-Forwarded-For $remote_addr;
                  proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
                }}
              }}
            }}""")
        return ["nginx", "-c", str(self.directory / "nginx.conf")]

    def _is_up(self, ready: bool) -> bool:
        return super()._is_up(False)


def start_proxy(env: Mapping[str, str], *, ready: bool = True) -> Proxy:
    """Start the subject of the tests."""
    return Nginx(env, ready=ready) if SUBJECT == "nginx" else Proxy(env, ready=ready)


class Edge:
    """One test's view of it all: the proxy, the origin behind it, and the clients that it opens."""

    def __init__(self, proxy: Proxy, origin: Origin) -> None:
        self.proxy = proxy
        self.origin = origin
        self.clients: list[Client] = []

    def connect(self, *, receive_buffer: int = 0) -> Client:
        """Open a connection to the proxy; it is closed when the test is over."""
        client = Client(self.proxy.port, receive_buffer=receive_buffer)
        self.clients.append(client)
        return client

    def ask(self, request: bytes, script: Script = OK) -> Reply:
        """Send a request on a new connection, with the origin doing as `script` says; return the response."""
        self.origin.restart(script)
        client = self.connect()
        client.send(request)
        return client.read_reply(method_of(request))

    @property
    def received(self) -> list[Received]:
        """What the origin got in this test."""
        return self.origin.requests

    def close(self) -> None:
        """Close the clients."""
        for client in self.clients:
            client.close()

    def settle(self) -> None:
        """
        Close the clients, and see that nothing of theirs comes to the origin in the next test's time.

        What they sent is before the last request in the worker's queue; what the worker
        passed on is read when the origin has settled.
        """
        self.close()
        self.ask(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        self.clients[-1].close()
        self.origin.settle()


def method_of(request: bytes) -> bytes:
    """Return the method that a request begins with."""
    return request.lstrip(b"\r\n").split(b" ", 1)[0]


@contextlib.contextmanager
def run(env: Mapping[str, str], origin: Origin, *, ready: bool = True) -> Iterator[Edge]:
    """Run a proxy with this environment for a while."""
    proxy = start_proxy(env, ready=ready)
    edge = Edge(proxy, origin)
    try:
        yield edge
    finally:
        edge.close()
        proxy.stop()
