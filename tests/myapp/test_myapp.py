from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MYAPP = Path(__file__).parents[2] / "myapp" / "myapp.py"
PATIENCE_S = 20.0


class Process:
    """A running myapp; `lines` is what it has logged so far."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(MYAPP), *arguments],
            env=os.environ | {"HOSTNAME": "host1", "V2": ""} | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.port = int(self.wait_line(r"listens on .*:(\d+) as")[1])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def wait_line(self, pattern: str) -> re.Match[str]:
        """Wait for a logged line that matches."""
        while True:
            match = re.search(pattern, self._lines.get(timeout=PATIENCE_S))
            if match:
                return match

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Process]:
    process = Process(*(arguments or ("127.0.0.1:0",)), **environment)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


@pytest.fixture(scope="module")
def app() -> Iterator[Process]:
    with running() as process:
        yield process


def read_response(client: socket.socket, head_only: bool = False) -> tuple[int, str, bytes]:
    """Read exactly one response: its status, its head, its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += read_some(client)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None, head
    while not head_only and len(body) < int(length[1]):
        body += read_some(client)
    assert head_only or len(body) == int(length[1]), body
    return int(head[9:12]), head.decode(), body


def read_some(client: socket.socket) -> bytes:
    data = client.recv(65536)
    assert data, "closed before the response was complete"
    return data


def ask(app: Process, request: bytes) -> tuple[int, str, bytes]:
    """Send bytes on a connection of their own and read one response."""
    with app.connect() as client:
        client.sendall(request)
        return read_response(client, head_only=request.startswith(b"HEAD"))


def test_answers_the_color_it_was_called_as_and_where_it_runs(app: Process) -> None:
    """
    `COLOR HOSTNAME` as one line of plain text: what the walkthrough shows.
    """
    status, head, body = ask(app, b"GET / HTTP/1.1\r\nHost: x\r\ncolor: blue\r\n\r\n")

    assert (status, body) == (200, b"blue host1\n")
    assert "Content-Type: text/plain" in head


def test_a_direct_call_has_no_color(app: Process) -> None:
    """
    Without a proxy in front the color is `unknown`.
    """
    assert ask(app, b"GET /any/path?q HTTP/1.1\r\nHost: x\r\n\r\n")[2] == b"unknown host1\n"


def test_v2_answers_html_and_escapes_it() -> None:
    """
    The second version speaks HTML, and a client cannot put markup of its own into it.
    """
    with running("127.0.0.1:0", V2="1") as app:
        status, head, body = ask(app, b"GET / HTTP/1.1\r\nHost: x\r\nColor: <b>&\r\n\r\n")

    assert (status, body) == (200, b"<h1>host1 (&lt;b&gt;&amp;)</h1>")
    assert "Content-Type: text/html" in head


def test_listens_on_every_address_when_only_a_port_is_given() -> None:
    """
    `:PORT`, the image's way, serves IPv4 (and IPv6 where the machine has it).
    """
    with running(":0") as app:
        assert ask(app, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200


@pytest.mark.parametrize(("address", "status"), [("nonsense", 2), (":99999", 2), ("192.0.2.1:80", 1)])
def test_a_wrong_address_is_one_clear_line(address: str, status: int) -> None:
    """
    What is wrong with the address stands on one line of stderr, without a traceback.
    """
    run = subprocess.run([sys.executable, str(MYAPP), address], capture_output=True, text=True, timeout=60)

    assert run.returncode == status
    assert re.fullmatch(rf"myapp: .*{re.escape(address)}.*\n", run.stderr)


def test_logs_each_request_on_standard_output() -> None:
    """
    Every request is a line, but for the probe's, which would drown the rest.
    """
    with running() as app:
        ask(app, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        ask(app, b"GET /hello?x=1 HTTP/1.1\r\nHost: x\r\nColor: green\r\n\r\n")
        line = app.wait_line(r" (GET|POST) .*")[0]

    assert line == " GET /hello?x=1 200 color='green'"


def test_keeps_the_connection_alive(app: Process) -> None:
    """
    Request after request on one connection, pipelined ones answered in order.
    """
    with app.connect() as client:
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nColor: a\r\n\r\n")
            assert read_response(client)[2] == b"a host1\n"
        client.sendall(b"".join(b"GET / HTTP/1.1\r\nHost: x\r\nColor: %d\r\n\r\n" % i for i in range(100)))
        expected = [b"%d host1\n" % i for i in range(100)]
        data = b""
        while data.count(b"host1\n") < 100:
            data += read_some(client)

    assert re.findall(rb"\d+ host1\n", data) == expected


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
    ],
)
def test_closes_when_the_client_asks_for_it(app: Process, request_: bytes, kept: bool) -> None:
    """
    HTTP/1.0 closes unless asked to keep alive, HTTP/1.1 keeps alive unless asked to close.
    """
    with app.connect() as client:
        client.sendall(request_)
        head = read_response(client)[1]
        assert ("Connection: close" in head) is not kept
        if kept:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(client)[0] == 200
        else:
            assert client.recv(1) == b""


def test_head_has_the_fields_of_get_and_no_body(app: Process) -> None:
    """
    HEAD promises the length and sends nothing after the head: the next answer follows at once.
    """
    with app.connect() as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        _, head, body = read_response(client, head_only=True)
        assert body == b""
        assert "Content-Length: 14" in head  # "unknown host1\n"
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(client)[0] == 200


BODY = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(BODY).hexdigest().encode()


def chunked(body: bytes, size: int) -> bytes:
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nT: 1\r\n\r\n"


@pytest.mark.parametrize(
    "message",
    [
        b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
        b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY, 999),
    ],
    ids=["length", "chunked"],
)
def test_sha256_proves_that_every_byte_of_a_body_arrived(app: Process, message: bytes) -> None:
    """
    A body of a mebibyte, of known length or chunked, is read to its end; its digest is the answer.
    """
    with app.connect() as client:
        client.sendall(b"POST /sha256 HTTP/1.1\r\nHost: x\r\n" + message)
        assert read_response(client)[2] == b"unknown host1 " + DIGEST + b"\n"
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + message)
        assert read_response(client)[2] == b"unknown host1\n"


def test_asks_for_the_body_of_a_client_that_waits(app: Process) -> None:
    """
    `Expect: 100-continue` is answered at once, so that the client sends its body.
    """
    with app.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.recv(99) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hi")
        assert read_response(client)[0] == 200


def test_reads_a_request_that_comes_byte_by_byte(app: Process) -> None:
    """
    How the network cuts a request does not matter.
    """
    with app.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        message = b"\r\nPOST /sha256 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(
            b"hello", 2
        )
        for i in range(len(message)):
            client.sendall(message[i : i + 1])
        assert hashlib.sha256(b"hello").hexdigest().encode() in read_response(client)[2]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 5000, 400),
    ],
)
def test_what_is_no_request_is_refused_and_closed(app: Process, message: bytes, status: int) -> None:
    """
    Malformed and ambiguous bytes get a 4xx or 5xx of their own, and the connection ends.
    """
    with app.connect() as client:
        client.sendall(message)
        got, head, _ = read_response(client)
        assert got == status
        assert "Connection: close" in head
        assert client.recv(1) == b""


def test_serves_thousands_of_kept_connections() -> None:
    """
    A proxy's pool may hold thousands of connections open; each is answered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with running() as app, contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        clients = [stack.enter_context(app.connect()) for _ in range(2000)]
        for _ in range(2):
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            for client in clients:
                assert read_response(client)[0] == 200


def test_stops_cleanly_and_soon_when_idle() -> None:
    """
    SIGTERM with idle connections open: exit status 0, the connections end without a reset, long
    before Docker's ten seconds are over.
    """
    with running() as app, app.connect() as idle, app.connect() as silent:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        read_response(idle)
        begin = time.monotonic()
        app.terminate()
        assert idle.recv(1) == b""
        assert silent.recv(1) == b""
        assert app.process.wait(timeout=PATIENCE_S) == 0
        assert time.monotonic() - begin < 5


def test_finishes_a_request_under_way_when_stopped() -> None:
    """
    An upload that has begun when SIGTERM comes is read to its end and answered, then the connection closes.
    """
    with running() as app, app.connect() as upload, app.connect() as idle:
        upload.sendall(b"POST /sha256 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
        # An answer on a later connection says that the upload's first bytes were read before it.
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        read_response(idle)
        app.terminate()
        assert idle.recv(1) == b""  # by now it is stopping
        upload.sendall(b"lo")
        status, head, body = read_response(upload)
        assert status == 200
        assert hashlib.sha256(b"hello").hexdigest().encode() in body
        assert "Connection: close" in head
        assert upload.recv(1) == b""
        assert app.process.wait(timeout=PATIENCE_S) == 0


def test_a_request_in_the_moment_of_stopping_is_answered() -> None:
    """
    What a client sends on a kept connection just after SIGTERM still gets its answer, with the word to close.
    """
    with running() as app, app.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        read_response(client)
        app.terminate()
        heads: list[str] = []
        while not heads or "Connection: close" not in heads[-1]:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            status, head, _ = read_response(client)
            assert status == 200
            heads.append(head)
        assert client.recv(1) == b""
