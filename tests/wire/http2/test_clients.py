"""
Real clients over HTTP/2: curl, nghttp, h2load, and the `h2` library by httpx; in clear text and over TLS.

They need the Debian packages curl and nghttp2-client.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.wire.certificates import make_authority, make_certificate
from tests.wire.harness import find_free_port
from tests.wire.stress_tools import MIB, QuickOrigin, origin, read_counters, serving, wait_at_rest


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    make_certificate(make_authority(directory), directory, "edge", "DNS:localhost,IP:127.0.0.1")
    return directory


@pytest.fixture(scope="module")
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


@pytest.fixture(scope="module")
def urls(keys: Path, backend: QuickOrigin) -> Iterator[dict[str, str]]:
    """Where a proxy serves, in clear text and over TLS."""
    port = find_free_port()
    env = {
        "BLUE": backend.url,
        "GREEN": backend.url,
        "BLUE_WEIGHT": "3",
        "SILLYPROXY_TLS_LISTEN": f"127.0.0.1:{port}",
        "SILLYPROXY_TLS_CERT": str(keys / "edge.pem"),
        "SILLYPROXY_TLS_KEY": str(keys / "edge.key"),
    }
    with serving(env) as proxy:
        yield {"clear": f"http://127.0.0.1:{proxy.port}", "tls": f"https://localhost:{port}"}


both = pytest.mark.parametrize("how", ["clear", "tls"])


def run(*command: str | Path) -> bytes:
    done = subprocess.run([str(part) for part in command], capture_output=True, timeout=60)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def curl(keys: Path, how: str, *arguments: str | Path) -> bytes:
    version = "--http2-prior-knowledge" if how == "clear" else "--http2"
    return run("curl", "-sS", "--cacert", keys / "ca.pem", version, *arguments)


@both
def test_curl(urls: dict[str, str], keys: Path, how: str) -> None:
    """curl agrees on HTTP/2, and gets what a color says."""
    out = curl(keys, how, "-w", " %{http_version} %{http_code}", urls[how])
    assert re.fullmatch(rb"(blue|green) 2 200", out)


@both
@pytest.mark.parametrize("limit", ["", "8M"])
def test_curl_large(urls: dict[str, str], keys: Path, how: str, limit: str, tmp_path: Path) -> None:
    """Bodies of many windows, both ways, as fast as they go and slowly."""
    slow = ("--limit-rate", limit) if limit else ()
    size = 20 * MIB if not limit else 6 * MIB
    assert len(curl(keys, how, *slow, f"{urls[how]}/bytes/{size}")) == size
    upload = tmp_path / "upload"
    upload.write_bytes(os.urandom(size))
    assert curl(keys, how, *slow, "--data-binary", f"@{upload}", f"{urls[how]}/echo") == b"%d" % size
    # Without a length: from a pipe.
    assert curl(keys, how, *slow, "-T", "-", f"{urls[how]}/echo") == b"0"


@both
def test_nghttp(urls: dict[str, str], how: str) -> None:
    """nghttp sees settings, a response and no error."""
    out = run("nghttp", "-nv", urls[how]).decode()
    assert ":status: 200" in out
    assert "SETTINGS_ENABLE_CONNECT_PROTOCOL" in out or "UNKNOWN(0x08)" in out or "(0x08)" in out
    assert "error_code=NO_ERROR" in out


@both
def test_h2load(urls: dict[str, str], how: str) -> None:
    """Ten thousand requests, a hundred at a time on each connection: all are served."""
    out = run("h2load", "-n", "10000", "-c", "10", "-m", "100", urls[how]).decode()
    assert "10000 succeeded, 0 failed, 0 errored" in out, out
    assert "status codes: 10000 2xx" in out, out


@both
async def test_h2_library(urls: dict[str, str], keys: Path, how: str) -> None:
    """An independent implementation in Python: many requests at once, with bodies both ways."""
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    async with httpx.AsyncClient(
        http1=False, http2=True, verify=context, base_url=urls[how], timeout=30
    ) as client:
        replies = await asyncio.gather(
            *(client.post("/echo", content=bytes(n * 1000)) for n in range(60)),
            *(client.get(f"/bytes/{n * 1000}") for n in range(60)),
        )
    assert {reply.http_version for reply in replies} == {"HTTP/2"}
    assert [reply.text for reply in replies[:60]] == [str(n * 1000) for n in range(60)]
    assert [len(reply.content) for reply in replies[60:]] == [n * 1000 for n in range(60)]


def test_off(backend: QuickOrigin, keys: Path) -> None:
    """With SILLYPROXY_HTTP2=off a client of HTTP/2 is told so, and ALPN agrees on HTTP/1.1."""
    port = find_free_port()
    env = {
        "BLUE": backend.url,
        "SILLYPROXY_HTTP2": "off",
        "SILLYPROXY_TLS_LISTEN": f"127.0.0.1:{port}",
        "SILLYPROXY_TLS_CERT": str(keys / "edge.pem"),
        "SILLYPROXY_TLS_KEY": str(keys / "edge.key"),
    }
    with serving(env) as proxy:
        out = curl(keys, "tls", "-w", " %{http_version}", f"https://localhost:{port}")
        assert out == b"blue 1.1"
        command = ["curl", "-sS", "--http2-prior-knowledge", f"http://127.0.0.1:{proxy.port}"]
        assert subprocess.run(command, capture_output=True, timeout=20).returncode != 0


def test_books(backend: QuickOrigin) -> None:
    """What h2load was told is what was counted, and its connections are gone with it."""
    with serving({"BLUE": backend.url, "SILLYPROXY_ACCESS_LOG": "stdout"}) as proxy:
        run("h2load", "-n", "3000", "-c", "3", "-m", "50", f"http://127.0.0.1:{proxy.port}/")
        wait_at_rest(proxy)
        counters = read_counters(proxy)
        assert counters["accepted"] == counters["answered"] == 3000
        assert counters["connections_open"] == 0
        assert proxy.read_log().count('"GET /" 200 color=blue') == 3000
