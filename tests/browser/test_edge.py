"""A real browser at the edge: over TLS it speaks HTTP/2, many requests at once, and WebSockets over it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from websockets.asyncio.server import ServerConnection, serve

from tests.wire.certificates import make_authority, make_certificate
from tests.wire.harness import find_free_port
from tests.wire.stress_tools import read_metrics, serving, wait_until

PAGE = b"<!doctype html><title>edge</title><p>hello"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def sockets() -> Iterator[str]:
    """A server of WebSockets that says everything back."""
    port = find_free_port()
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def talk(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    over = asyncio.Event()

    async def run() -> None:
        async with serve(talk, "127.0.0.1", port):
            started.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert started.wait(10)
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


def tls(directory: Path, port: int) -> dict[str, str]:
    make_certificate(make_authority(directory), directory, "edge", "DNS:localhost")
    return {
        "SILLYPROXY_TLS_LISTEN": f"127.0.0.1:{port}",
        "SILLYPROXY_TLS_CERT": str(directory / "edge.pem"),
        "SILLYPROXY_TLS_KEY": str(directory / "edge.key"),
    }


def test_browser_speaks_http2(browser: Browser, pages: str, tmp_path: Path) -> None:
    """One connection for a page and a hundred requests of its script."""
    port = find_free_port()
    with serving({"BLUE": pages, **tls(tmp_path, port)}) as proxy:
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"https://localhost:{port}/")
        assert page.inner_text("p") == "hello"
        protocol = page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        assert protocol == "h2"
        # What fails because the machine's network has changed meanwhile (ERR_NETWORK_CHANGED), it asks again.
        script = """async () => {
            const ask = n => fetch("/" + n).then(r => r.text()).catch(() => ask(n));
            return (await Promise.all([...Array(100).keys()].map(ask))).length;
        }"""
        assert page.evaluate(script) == 100
        wait_until(lambda: read_metrics(proxy)["sillyproxy_http2_connections_total"] >= 1, "the count")
        assert read_metrics(proxy)["sillyproxy_http2_connections_total"] < 10
        context.close()


def test_browser_speaks_websocket_over_http2(
    browser: Browser, pages: str, sockets: str, tmp_path: Path
) -> None:
    """An edge that lets it (RFC 8441) gets no other connection for a WebSocket."""
    port = find_free_port()
    log = {"SILLYPROXY_ACCESS_LOG": "stdout", "SILLYPROXY_ACCESS_LOG_FORMAT": "{protocol} {target} {status}"}
    with serving({"BLUE": sockets, **log, **tls(tmp_path, port)}) as proxy:
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"https://localhost:{port}/")  # 426: there are WebSockets only
        said = page.evaluate(
            """port => new Promise((resolve, reject) => {
                const socket = new WebSocket(`wss://localhost:${port}/chat`);
                socket.onopen = () => socket.send("hello");
                socket.onmessage = event => { resolve(event.data); socket.close(); };
                socket.onerror = () => reject(new Error("no WebSocket"));
            })""",
            port,
        )
        assert said == "hello"
        wait_until(lambda: "HTTP/2.0 /chat 101" in proxy.read_log(), "its line in the log")
        context.close()
