"""Promise: endpoints of HTTP/2 are asked as others are, and what they do wrong is taken for no answer."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hpack
import pytest

from tests.wire.conformance.judge import case
from tests.wire.harness import Client, find_free_port
from tests.wire.http2.peer import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PING,
    PREFACE,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    block,
    frame,
    headers,
    settings,
    u32,
)
from tests.wire.stress_tools import GET, MIB, ask_many, read_status, serving, wait_until

OK_HEAD = [(":status", "200"), ("content-type", "text/plain")]


class Backend:
    """
    A server of HTTP/2 that does with each request what `script` says: it gets the connection, the stream
    and the request's fields. `requests` is what came; `frames` everything else.
    """

    def __init__(self, script: Callable[[Backend, socket.socket, int], None] | None = None) -> None:
        self.script = script or (lambda backend, sock, stream: backend.answer(sock, stream))
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self.listener.getsockname()[1]
        self.requests: list[dict[str, str]] = []
        self.bodies: dict[tuple[int, int], bytes] = {}
        self.trailers: list[dict[str, str]] = []
        self.frames: list[Frame] = []
        self.connections = 0
        self.settings: bytes | None = settings()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"h2c://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        decoder = hpack.Decoder()
        file = sock.makefile("rb")
        with contextlib.suppress(OSError, ValueError):
            if self.settings is not None:
                sock.sendall(self.settings)
            if file.read(24) != PREFACE:
                sock.close()
                return
            self.connections += 1
            number = self.connections
            heads: set[int] = set()
            while head := file.read(9):
                payload = file.read(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                self.frames.append(Frame(kind, flags, stream, payload))
                if kind == SETTINGS and not flags & ACK and self.settings is not None:
                    sock.sendall(frame(SETTINGS, ACK, 0))
                elif kind == HEADERS:
                    fields = {str(name): str(value) for name, value in decoder.decode(payload)}
                    (self.trailers if stream in heads else self.requests).append(fields)
                    heads.add(stream)
                elif kind == DATA:
                    self.bodies[number, stream] = self.bodies.get((number, stream), b"") + payload
                    if payload:
                        sock.sendall(frame(WINDOW_UPDATE, 0, 0, u32(len(payload))))
                        if not flags & END_STREAM:
                            sock.sendall(frame(WINDOW_UPDATE, 0, stream, u32(len(payload))))
                if kind in (HEADERS, DATA) and flags & END_STREAM:
                    self.script(self, sock, stream)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def answer(self, sock: socket.socket, stream: int, body: bytes = b"ok") -> None:
        sock.sendall(headers(stream, OK_HEAD, 0) + frame(DATA, END_STREAM, stream, body))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextlib.contextmanager
def behind(
    script: Callable[[Backend, socket.socket, int], None] | None = None,
) -> Iterator[tuple[Backend, Client]]:
    """A backend that does what the script says, and a client of a proxy before it."""
    backend = Backend(script)
    with serving({"BLUE": backend.url}) as proxy:
        client = Client(proxy.port)
        yield backend, client
        client.close()
    backend.close()


def test_request_as_the_endpoint_gets_it() -> None:
    """Names in lower case, the client's authority, no field of the connection; one connection for all."""
    with behind() as (backend, client):
        client.send(
            b"POST /a?b HTTP/1.1\r\nHost: shop.test\r\nX-One: 1\r\nX-Two: 2\r\nTE: trailers\r\n"
            b"Cookie: a=1\r\n"
            b"Connection: keep-alive, X-Two\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n"
        )
        reply = client.read_reply()
        assert (reply.status, reply.body, reply.end) == (200, b"ok", "chunked")
        for _ in range(3):
            client.send(GET % b"/")
            assert client.read_reply().status == 200
        first = backend.requests[0]
        pseudo = {":method": "POST", ":scheme": "http", ":path": "/a?b", ":authority": "shop.test"}
        assert first.items() >= {**pseudo, "x-one": "1", "cookie": "a=1", "color": "blue"}.items()
        assert not {"connection", "x-two", "transfer-encoding", "keep-alive", "host"} & first.keys()
        assert backend.bodies[1, 1] == b"abc"
        assert backend.trailers == [{"x-sum": "3"}]
        assert backend.connections == 1
        assert [
            number for number in range(1, 9, 2) if any(got.stream == number for got in backend.frames)
        ] == [1, 3, 5, 7]


@pytest.mark.parametrize(
    ("frames", "status", "body"),
    [
        case(
            "a length",
            headers(1, [*OK_HEAD, ("content-length", "2")], 0) + frame(DATA, 1, 1, b"ok"),
            200,
            b"ok",
        ),
        case("no body", headers(1, [(":status", "404")]), 404, b""),
        case("204", headers(1, [(":status", "204")]), 204, b""),
        case(
            "interim", headers(1, [(":status", "103"), ("link", "</a>")], 0) + headers(1, OK_HEAD), 200, b""
        ),
        case(
            "many frames",
            headers(1, OK_HEAD, 0) + 3 * frame(DATA, 0, 1, b"x" * 9000) + frame(DATA, 1, 1),
            200,
            b"x" * 27000,
        ),
        case("padding", headers(1, OK_HEAD, 0) + frame(DATA, 9, 1, b"\x03ok\0\0\0"), 200, b"ok"),
        case(
            "CONTINUATION",
            frame(HEADERS, END_STREAM, 1, block(OK_HEAD)[:5])
            + frame(CONTINUATION, END_HEADERS, 1, block(OK_HEAD)[5:]),
            200,
            b"",
        ),
        case(
            "NO_ERROR behind the response",
            headers(1, OK_HEAD, 0) + frame(DATA, 1, 1, b"ok") + frame(RST_STREAM, 0, 1, u32(NO_ERROR)),
            200,
            b"ok",
        ),
        case(
            "unknown frames before it",
            frame(0x77, 3, 0, b"?") + frame(PING, 0, 0, bytes(8)) + headers(1, OK_HEAD),
            200,
            b"",
        ),
    ],
)
def test_response(frames: bytes, status: int, body: bytes) -> None:
    with behind(lambda backend, sock, stream: sock.sendall(frames)) as (_, client):
        client.send(GET % b"/")
        reply = client.read_reply()
        assert (reply.status, reply.body) == (status, body)
        assert reply.is_whole


@pytest.mark.parametrize(
    "frames",
    [
        case("no :status", headers(1, [("a", "b")])),
        case(":status that is none", headers(1, [(":status", "2xx")])),
        case("two of :status", headers(1, [(":status", "200"), (":status", "200")])),
        case("101", headers(1, [(":status", "101")], 0)),
        case("upper case", headers(1, [(":status", "200"), ("X-A", "b")])),
        case("connection", headers(1, [(":status", "200"), ("connection", "close")])),
        case("transfer-encoding", headers(1, [(":status", "200"), ("transfer-encoding", "chunked")], 0)),
        case("CRLF in a value", headers(1, [(":status", "200"), ("a", "b\r\nc: d")])),
        case("a request's pseudo-field", headers(1, [(":status", "200"), (":path", "/")])),
        case("two lengths", headers(1, [*OK_HEAD, ("content-length", "1"), ("content-length", "1")], 0)),
        case("a length without content", headers(1, [*OK_HEAD, ("content-length", "1")])),
        case("an interim response and no more", headers(1, [(":status", "103")])),
        case("DATA before the head", frame(DATA, 1, 1, b"x")),
        case("a block that is none", frame(HEADERS, 5, 1, b"\x40\xff")),
        case("PUSH_PROMISE", frame(PUSH_PROMISE, 4, 1, u32(2) + block(OK_HEAD))),
        case("HEADERS of a stream that has not begun", headers(9, OK_HEAD)),
        case("a frame too large", b"\0\x40\x01" + bytes((DATA, 0)) + u32(1) + bytes(16385)),
        case("reset", frame(RST_STREAM, 0, 1, u32(CANCEL))),
        case("calm", frame(GOAWAY, 0, 0, u32(1) + u32(ENHANCE_YOUR_CALM)) + frame(RST_STREAM, 0, 1, u32(2))),
    ],
)
def test_nonsense_is_no_response(frames: bytes) -> None:
    """502, and the next request goes through, over another connection where it has to be."""
    served = []

    def script(backend: Backend, sock: socket.socket, stream: int) -> None:
        served.append(stream)
        if len(served) <= 2:  # once more, where that does no harm
            sock.sendall(frames.replace(u32(1), u32(stream)) if stream != 1 else frames)
        else:
            backend.answer(sock, stream)

    with behind(script) as (_, client):
        client.send(b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 0\r\n\r\n")
        assert client.read_reply().status == 502
        served += [0, 0]
        client.send(GET % b"/")
        assert client.read_reply().body == b"ok"


@pytest.mark.parametrize(
    ("end", "length"),
    [
        case("reset", lambda stream: frame(RST_STREAM, 0, stream, u32(2)), False),
        case("reset, with a length", lambda stream: frame(RST_STREAM, 0, stream, u32(2)), True),
        case("more than the length", lambda stream: frame(DATA, 1, stream, b"x" * 20), True),
        case("less than the length", lambda stream: frame(DATA, 1, stream), True),
        case("a second head", lambda stream: headers(stream, OK_HEAD, 0), False),
        case("a second head, with a length", lambda stream: headers(stream, OK_HEAD, 0), True),
    ],
)
def test_response_that_breaks_off(end: Callable[[int], bytes], length: bool) -> None:
    """Never looks whole."""

    def script(backend: Backend, sock: socket.socket, stream: int) -> None:
        fields = [*OK_HEAD, ("content-length", "10")] if length else OK_HEAD
        sock.sendall(headers(stream, fields, 0) + frame(DATA, 0, stream, b"half"))
        time.sleep(0.1)
        sock.sendall(end(stream))

    with behind(script) as (_, client):
        client.send(GET % b"/")
        reply = client.read_reply()
        assert reply.status == 200
        assert not reply.is_whole


def test_refused_stream_is_asked_again_whatever_the_method() -> None:
    """RFC 9113, 8.7: nothing was done of it. The second time it is another endpoint's turn, or nobody's."""
    refusals = [1, 1]

    def script(backend: Backend, sock: socket.socket, stream: int) -> None:
        if refusals and refusals.pop():
            sock.sendall(frame(RST_STREAM, 0, stream, u32(REFUSED_STREAM)))
        else:
            backend.answer(sock, stream)

    with behind(script) as (backend, client):
        client.send(b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\n\r\nabc")
        assert client.read_reply().status == 502
        refusals.append(1)
        client.send(b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\n\r\nabc")
        assert client.read_reply().status == 200
        assert len(backend.requests) == 4


def test_goodbye_of_an_endpoint_loses_nothing() -> None:
    """RFC 9113, 6.8: what is behind the last that it served is asked over another connection."""

    def script(backend: Backend, sock: socket.socket, stream: int) -> None:
        if stream == 5:
            sock.sendall(frame(GOAWAY, 0, 0, u32(3) + u32(NO_ERROR)))
            time.sleep(0.05)
            sock.shutdown(socket.SHUT_RDWR)
        else:
            backend.answer(sock, stream)

    with behind(script) as (backend, client):
        for _ in range(20):
            client.send(b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\n\r\nabc")
            assert client.read_reply().status == 200
        assert backend.connections == 10


def test_room_of_an_endpoint_is_kept_to() -> None:
    """MAX_CONCURRENT_STREAMS: past it there is another connection."""
    held: list[tuple[socket.socket, int]] = []
    busiest: dict[int, int] = {}

    def script(backend: Backend, sock: socket.socket, stream: int) -> None:
        held.append((sock, stream))
        busiest[id(sock)] = busiest.get(id(sock), 0) + 1

    backend = Backend(script)
    backend.settings = settings((3, 4))
    with serving({"BLUE": backend.url}) as proxy:
        clients = [Client(proxy.port) for _ in range(10)]
        for client in clients:
            client.send(GET % b"/")
            time.sleep(0.05)
        wait_until(lambda: len(held) == 10, "all of them")
        assert sorted(busiest.values()) == [2, 4, 4]
        for sock, stream in held:
            backend.answer(sock, stream)
        for client in clients:
            assert client.read_reply().body == b"ok"
            client.close()
    backend.close()


@pytest.mark.parametrize(
    ("word", "status"), [(None, 504), (frame(SETTINGS, ACK, 0), 502), (b"HTTP/1.1 400\r\n", 502)]
)
def test_server_that_says_no_settings(word: bytes | None, status: int) -> None:
    """No request was sent, and at once or after the time to connect the client is told."""
    backend = Backend()
    backend.settings = word
    with serving({"BLUE": backend.url, "SILLYPROXY_CONNECT_TIMEOUT": "300ms"}) as proxy:
        client = Client(proxy.port)
        client.send(GET % b"/")
        assert client.read_reply().status == status
        assert backend.requests == []
        client.close()
    backend.close()


def test_slow_client_stops_the_endpoint() -> None:
    """Flow control end to end: what nobody takes is not asked for."""
    sent = []

    def script(backend: Backend, sock: socket.socket, stream: int) -> None:
        sock.sendall(headers(stream, OK_HEAD, 0))
        sock.settimeout(1.0)
        window = 128 * 1024
        with contextlib.suppress(TimeoutError):
            while window >= 16384:
                sock.sendall(frame(DATA, 0, stream, bytes(16384)))
                sent.append(16384)
                window -= 16384

    with behind(script) as (backend, client):
        client.send(GET % b"/")
        time.sleep(0.5)
        given = sum(
            int.from_bytes(got.payload, "big")
            for got in backend.frames
            if got.kind == WINDOW_UPDATE and got.stream
        )
        assert sum(sent) == 128 * 1024
        assert given <= 128 * 1024


@pytest.fixture(scope="module")
def nghttpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A real server (Debian's nghttp2-server)."""
    root = tmp_path_factory.mktemp("root")
    (root / "small").write_bytes(b"small\n")
    (root / "large").write_bytes(bytes(range(256)) * 40 * 1024)
    port = find_free_port()
    server = subprocess.Popen(
        ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", str(root), str(port)], stdout=subprocess.DEVNULL
    )
    yield port, root
    server.kill()
    server.wait()


def test_real_server(nghttpd: tuple[int, Path]) -> None:
    """Small and large, by clients of both versions; pipelined, and many at once."""
    port, root = nghttpd
    with serving({"BLUE": f"h2c://127.0.0.1:{port}"}) as proxy:
        assert ask_many(proxy.port, 200, GET % b"/small") == {b"small\n": 200}
        client = Client(proxy.port)
        client.send(GET % b"/large")
        assert client.read_reply().body == (root / "large").read_bytes()
        client.send(
            b"POST /small HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n" % (5 * MIB) + bytes(5 * MIB)
        )
        assert client.read_reply().status == 200
        client.close()
        url = f"http://127.0.0.1:{proxy.port}/small"
        done = subprocess.run(
            ["h2load", "-n", "5000", "-c", "5", "-m", "40", url], capture_output=True, text=True, timeout=60
        )
        assert "5000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
        assert read_status(proxy)["counters"]["replied"] == 0
