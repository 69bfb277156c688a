"""Promise: `https://` endpoints are who they say they are, and unix sockets are endpoints like others."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.certificates import make_authority, make_certificate
from tests.wire.harness import Client
from tests.wire.stress_tools import GET, MIB, ask_many, read_status, serving, wait_until


class Handler(http.server.BaseHTTPRequestHandler):
    """Says whom it took the client for; `/bytes/N` says much, a body is counted."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        got = 0
        while got < length:
            got += len(self.rfile.read(min(65536, length - got)))
        peer = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        subject: Any = peer["subject"] if peer else ()
        names = [value for part in subject for key, value in part if key == "commonName"]
        body = f"{self.headers['Color']} {'/'.join(names) or '-'} {got}".encode()
        if self.path.startswith("/bytes/"):
            body = bytes(int(self.path[7:]))
        self.server.asked += 1  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    asked = 0

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def https(
    keys: Path, name: str, *, client_ca: str = "", newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.load_cert_chain(keys / f"{name}.pem", keys / f"{name}.key")
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(keys / f"{client_ca}.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    authority = make_authority(directory)
    make_certificate(authority, directory, "app", "DNS:app.test")
    make_certificate(authority, directory, "local", "DNS:localhost,IP:127.0.0.1")
    make_certificate(make_authority(directory, "strangers"), directory, "stranger", "DNS:app.test")
    make_certificate(make_authority(directory, "edges"), directory, "edge", subject="/CN=edge")
    return directory


def ask(port: int, path: bytes = b"/") -> tuple[int, bytes]:
    client = Client(port)
    client.send(GET % path)
    reply = client.read_reply()
    client.close()
    return reply.status, reply.body


def test_verified_by_an_authority_of_ones_own(keys: Path) -> None:
    """By the host of the URL, an address even, or the name that was set; kept alive, and large both ways."""
    with https(keys, "local") as server, https(keys, "app") as other:
        env = {
            "BLUE": f"https://localhost:{server.server_port}",
            "BLUE_TLS_CA": str(keys / "ca.pem"),
            "GREEN": f"https://127.0.0.1:{other.server_port}",
            "GREEN_TLS_CA": str(keys / "ca.pem"),
            "GREEN_TLS_NAME": "app.test",
        }
        with serving(env) as proxy:
            bodies = ask_many(proxy.port, 100)
            assert bodies.keys() == {b"blue - 0", b"green - 0"}
            assert abs(bodies[b"blue - 0"] - 50) <= 1

            def idle() -> list[int]:
                return [color["upstream_connections"]["idle"] for color in read_status(proxy)["colors"]]

            wait_until(lambda: idle() == [1, 1], "both to be kept")
            client = Client(proxy.port)
            client.send(GET % b"/bytes/%d" % (20 * MIB))
            assert len(client.read_reply().body) == 20 * MIB
            client.send(
                b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n" % (5 * MIB) + bytes(5 * MIB)
            )
            assert client.read_reply().body.endswith(b" - %d" % (5 * MIB))
            client.close()


@pytest.mark.parametrize(
    ("name", "more", "why"),
    [
        ("app", {"BLUE_TLS_CA": "ca.pem"}, "IP address mismatch"),
        ("local", {}, "unable to get local issuer certificate"),
        ("stranger", {"BLUE_TLS_CA": "ca.pem", "BLUE_TLS_NAME": "app.test"}, "unable to get local issuer"),
    ],
)
def test_stranger_gets_no_request(keys: Path, name: str, more: dict[str, str], why: str) -> None:
    """Another name, or an authority that nobody knows: 502, the reason in the log, and not a byte of HTTP."""
    with https(keys, name) as server:
        files = {key: str(keys / value) if key.endswith("CA") else value for key, value in more.items()}
        env = {"BLUE": f"https://127.0.0.1:{server.server_port}", **files}
        with serving(env) as proxy:
            client = Client(proxy.port)
            client.send(GET % b"/")
            reply = client.read_reply()
            client.close()
            assert reply.status == 502
            assert reply.values("proxy-status")[0].startswith(b"sillyproxy; error=tls_certificate_error")
            assert why in proxy.read_log()
            assert server.asked == 0
        with serving({**env, "BLUE_TLS_VERIFY": "off"}) as proxy:
            assert ask(proxy.port) == (200, b"blue - 0")


def test_certificate_of_ours(keys: Path) -> None:
    """Who wants to know who we are is shown it, in TLS 1.2 and 1.3."""
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with https(keys, "local", client_ca="edges", newest=newest) as server:
            env = {"BLUE": f"https://localhost:{server.server_port}", "BLUE_TLS_CA": str(keys / "ca.pem")}
            with serving(env) as proxy:
                assert ask(proxy.port)[0] == 502
            env |= {"BLUE_TLS_CERT": str(keys / "edge.pem"), "BLUE_TLS_KEY": str(keys / "edge.key")}
            with serving(env) as proxy:
                assert ask(proxy.port) == (200, b"blue edge 0")


def test_endpoint_without_tls(keys: Path) -> None:
    """Clear text where TLS is expected is no request's fault, and another endpoint's turn."""
    plain = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    with https(keys, "local") as server:
        env = {
            "BLUE": f"https://127.0.0.1:{plain.server_port},https://127.0.0.1:{server.server_port}",
            "BLUE_TLS_CA": str(keys / "ca.pem"),
        }
        with serving(env) as proxy:
            assert [ask(proxy.port) for _ in range(5)] == [(200, b"blue - 0")] * 5
        with serving({"BLUE": f"https://127.0.0.1:{plain.server_port}"}) as proxy:
            client = Client(proxy.port)
            client.send(GET % b"/")
            assert (
                client.read_reply()
                .values("proxy-status")[0]
                .startswith(b"sillyproxy; error=tls_protocol_error")
            )
            client.close()
    plain.shutdown()


def test_oldest_version(keys: Path) -> None:
    with https(keys, "local", newest=ssl.TLSVersion.TLSv1_2) as server:
        env = {"BLUE": f"https://localhost:{server.server_port}", "BLUE_TLS_CA": str(keys / "ca.pem")}
        with serving({**env, "BLUE_TLS_MIN": "1.3"}) as proxy:
            assert ask(proxy.port)[0] == 502
        with serving(env) as proxy:
            assert ask(proxy.port)[0] == 200


def test_health_check_over_tls(keys: Path) -> None:
    """Checked as it is asked: by the same authorities and the same name."""
    with https(keys, "app") as server:
        env = {
            "BLUE": f"https://127.0.0.1:{server.server_port}",
            "BLUE_TLS_CA": str(keys / "ca.pem"),
            "BLUE_HEALTH": "/healthz",
            "BLUE_HEALTH_INTERVAL": "100ms",
            "BLUE_HEALTH_TIMEOUT": "100ms",
        }
        with serving(env, ready=False) as proxy:
            wait_until(lambda: "certificate" in proxy.read_log(), "a bad check")
            assert server.asked == 0
        with serving({**env, "BLUE_TLS_NAME": "app.test"}) as proxy:
            wait_until(lambda: server.asked > 3, "good checks")
            assert ask(proxy.port)[0] == 200


def test_renewed_authority_is_taken_up(keys: Path, tmp_path: Path) -> None:
    """The files are watched, as those of our own certificates are."""
    ca = tmp_path / "ca.pem"
    shutil.copy(keys / "strangers.pem", ca)
    with https(keys, "local") as server:
        env = {"BLUE": f"https://localhost:{server.server_port}", "BLUE_TLS_CA": str(ca)}
        with serving(env) as proxy:
            assert ask(proxy.port)[0] == 502
            shutil.copy(keys / "ca.pem", ca)
            wait_until(lambda: ask(proxy.port)[0] == 200, "the new authority")


def test_unix_socket(tmp_path: Path) -> None:
    """Asked, kept alive and checked like any other; when it is gone, that is told in its own words."""
    path = tmp_path / "app.sock"

    class UnixServer(Server):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(str(path))
            self.server_name, self.server_port = "unix", 0

        def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
            request, _ = self.socket.accept()
            return request, ("unix", 0)

    server = UnixServer(("", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {"BLUE": f"unix:{path}", "BLUE_HEALTH": "/healthz", "BLUE_HEALTH_INTERVAL": "1s"}
    with serving(env) as proxy:
        assert ask_many(proxy.port, 50) == {b"blue - 0": 50}
        color = read_status(proxy)["colors"][0]
        assert color["upstreams"] == [f"unix:{path}"]
        assert color["endpoints"][0]["address"] == f"unix:{path}"
        client = Client(proxy.port)
        client.send(b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n" % (3 * MIB) + bytes(3 * MIB))
        assert client.read_reply().body == b"blue - %d" % (3 * MIB)
        client.close()
    server.shutdown()
    server.server_close()
    path.unlink()
    with serving({"BLUE": f"unix:{path}"}, ready=False) as proxy:
        wait_until(lambda: ask(proxy.port)[0] in (502, 503), "an answer")
