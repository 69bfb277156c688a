"""Promise: with the PROXY protocol the client is who it is, and nobody else can say so."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from sillyproxy.tools.proxied import SIGNATURE, read_header, write_header
from tests.wire.certificates import make_authority, make_certificate
from tests.wire.harness import Client, Origin, Proxy, find_free_port
from tests.wire.http2.peer import Peer, request
from tests.wire.stress_tools import GET, find_workers, serving, wait_at_rest, wait_until

FROM_HERE = {"SILLYPROXY_PROXY_PROTOCOL": "127.0.0.1"}
FIELDS = b"X-Forwarded-For"


def header(version: str) -> bytes:
    return write_header(version, "192.0.2.7", 5000, ("192.0.2.1", 80))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_client_is_who_the_header_says(version: str) -> None:
    """In the forwarding fields, and in the log; each connection begins with it once."""
    server = Origin()
    with serving({"BLUE": server.url, "SILLYPROXY_ACCESS_LOG": "stdout", **FROM_HERE}) as proxy:
        client = Client(proxy.port)
        client.send(header(version) + GET % b"/" + GET % b"/again")
        assert [client.read_reply().status for _ in range(2)] == [200, 200]
        client.close()
        slow = Client(proxy.port)
        slow.send_slowly(header(version) + GET % b"/slow")
        assert slow.read_reply().status == 200
        slow.close()
        assert [got.values("x-forwarded-for") for got in server.requests] == [[b"192.0.2.7"]] * 3
        wait_at_rest(proxy)
        assert proxy.read_log().count('192.0.2.7 "GET /') == 3
    server.close()


def test_local_and_unknown_are_the_connection_itself() -> None:
    """A load balancer's own check has no client (2.2, LOCAL)."""
    server = Origin()
    with serving({"BLUE": server.url, **FROM_HERE}) as proxy:
        for data in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"):
            client = Client(proxy.port)
            client.send(data + GET % b"/")
            assert client.read_reply().status == 200
            client.close()
        assert [got.values("x-forwarded-for") for got in server.requests] == [[b"127.0.0.1"]] * 2
    server.close()


@pytest.mark.parametrize(
    "data", [GET % b"/", b"PROXY TCP4 a b c d\r\n", SIGNATURE + b"\xff\xff\xff\xff", b""]
)
def test_without_a_header_it_is_closed(data: bytes) -> None:
    """Who is in the networks and sends none; or nothing, for the time of a request head."""
    server = Origin()
    env = {"BLUE": server.url, "SILLYPROXY_HEADER_TIMEOUT": "500ms", **FROM_HERE}
    with serving(env) as proxy:
        client = Client(proxy.port)
        start = time.monotonic()
        client.send(data)
        assert client.wait_end() in ("closed", "reset")
        assert not client.stream.raw
        assert (time.monotonic() - start > 0.4) == (not data)
        client.close()
        assert "no PROXY header, closed" in proxy.read_log()
        assert server.requests == []
    server.close()


def test_header_of_others_is_no_header() -> None:
    """Whoever is in none of the networks cannot say who it is."""
    server = Origin()
    with serving({"BLUE": server.url, "SILLYPROXY_PROXY_PROTOCOL": "10.0.0.0/8"}) as proxy:
        client = Client(proxy.port)
        client.send(header("v1") + GET % b"/")
        assert client.read_reply().status == 400
        client.close()
        plain = Client(proxy.port)
        plain.send(GET % b"/")
        assert plain.read_reply().status == 200
        plain.close()
    server.close()


def test_before_tls_and_http2(tmp_path: Path) -> None:
    """The header comes before everything else: curl sends it so, over TLS and for HTTP/2."""
    make_certificate(make_authority(tmp_path), tmp_path, "edge", "DNS:localhost")
    server = Origin()
    port = find_free_port()
    env = {
        "BLUE": server.url,
        "SILLYPROXY_TLS_LISTEN": f"127.0.0.1:{port}",
        "SILLYPROXY_TLS_CERT": str(tmp_path / "edge.pem"),
        "SILLYPROXY_TLS_KEY": str(tmp_path / "edge.key"),
        **FROM_HERE,
    }
    with serving(env) as proxy:
        for arguments in (
            ["--cacert", str(tmp_path / "ca.pem"), f"https://localhost:{port}/"],
            ["--http2-prior-knowledge", f"http://127.0.0.1:{proxy.port}/"],
        ):
            done = subprocess.run(
                ["curl", "-sS", "--haproxy-protocol", *arguments], capture_output=True, timeout=20
            )
            assert done.stdout == b"ok", done.stderr
        peer = Peer(proxy.port, greet=False)
        peer.send(header("v2"))
        peer.start()
        assert peer.read_answer(peer.ask(request())).status == 200
        peer.close()
        assert [got.values("x-forwarded-for") for got in server.requests] == [
            [b"127.0.0.1"],
            [b"127.0.0.1"],
            [b"192.0.2.7"],
        ]
    server.close()


class Behind(Origin):
    """Reads the PROXY header that each connection begins with, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[bytes] = []

    def _serve(self, sock: socket.socket, number: int) -> None:
        data = b""
        while not data or read_header(data) is None:
            byte = sock.recv(1)
            if not byte:
                sock.close()
                return
            data += byte
        self.headers.append(data)
        super()._serve(sock, number)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_endpoint_is_told_who_the_client_is(version: str) -> None:
    """A header before each request, each with a connection of its own: it belongs to one client."""
    behind = Behind()
    with serving({"BLUE": behind.url, "BLUE_PROXY_PROTOCOL": version}) as proxy:
        client = Client(proxy.port)
        for _ in range(3):
            client.send(GET % b"/")
            assert client.read_reply().status == 200
        port = client.sock.getsockname()[1]
        peer = Peer(proxy.port)
        assert peer.get().status == 200
        other = peer.sock.getsockname()[1]
        expected = [write_header(version, "127.0.0.1", port, ("127.0.0.1", proxy.port))] * 3
        expected += [write_header(version, "127.0.0.1", other, ("127.0.0.1", proxy.port))]
        assert behind.headers == expected
        client.close()
        peer.close()
    behind.close()


def test_through_two_of_us() -> None:
    """The address goes on from the first to the last."""
    behind = Behind()
    inner = Proxy({"BLUE": behind.url, "BLUE_PROXY_PROTOCOL": "v2", **FROM_HERE})
    env = {"BLUE": f"http://127.0.0.1:{inner.port}", "BLUE_PROXY_PROTOCOL": "v1", **FROM_HERE}
    try:
        with serving(env) as outer:
            client = Client(outer.port)
            client.send(header("v2") + GET % b"/")
            assert client.read_reply().status == 200
            client.close()
    finally:
        inner.stop()
    assert read_header(behind.headers[0]) == (len(behind.headers[0]), "192.0.2.7")
    behind.close()


def test_flood_of_headers_is_no_leak() -> None:
    """Connections that come, say who they are and go are forgotten."""
    server = Origin()
    with serving({"BLUE": server.url, **FROM_HERE}) as proxy:
        (worker,) = find_workers(proxy)
        before = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        for number in range(300):
            client = Client(proxy.port)
            client.send(header("v2")[: number % 30])
            client.close()
        wait_until(lambda: len(list(Path(f"/proc/{worker}/fd").iterdir())) <= before, "their end")
    server.close()
