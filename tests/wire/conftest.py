"""Proxies that live as long as the session, and a fresh view of one of them for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.harness import Edge, Origin, Proxy, start_proxy


def _serve(env: dict[str, str], base: str = "") -> Iterator[tuple[Proxy, Origin]]:
    origin = Origin()
    proxy = start_proxy({"BLUE": origin.url + base, **env})
    yield proxy, origin
    proxy.stop()
    origin.close()


def _look(running: tuple[Proxy, Origin]) -> Iterator[Edge]:
    proxy, origin = running
    origin.restart()
    edge = Edge(proxy, origin)
    yield edge
    edge.settle()


@pytest.fixture(scope="session")
def _plain() -> Iterator[tuple[Proxy, Origin]]:
    yield from _serve({"SILLYPROXY_MAX_HEADER_BYTES": "16k"})


@pytest.fixture
def edge(_plain: tuple[Proxy, Origin]) -> Iterator[Edge]:
    """One color, heads of at most 16 KiB, otherwise the defaults."""
    yield from _look(_plain)


@pytest.fixture(scope="session")
def _limited() -> Iterator[tuple[Proxy, Origin]]:
    yield from _serve({"SILLYPROXY_MAX_BODY_BYTES": "1000"})


@pytest.fixture
def limited(_limited: tuple[Proxy, Origin]) -> Iterator[Edge]:
    """Request bodies of at most 1000 bytes."""
    yield from _look(_limited)


@pytest.fixture(scope="session")
def _hasty() -> Iterator[tuple[Proxy, Origin]]:
    yield from _serve(
        {
            "SILLYPROXY_HEADER_TIMEOUT": "1s",
            "SILLYPROXY_RESPONSE_TIMEOUT": "1s",
            "SILLYPROXY_CONNECT_TIMEOUT": "500ms",
            "SILLYPROXY_IDLE_TIMEOUT": "2s",
        }
    )


@pytest.fixture
def hasty(_hasty: tuple[Proxy, Origin]) -> Iterator[Edge]:
    """Short timeouts: head and response 1 s, idle 2 s."""
    yield from _look(_hasty)


@pytest.fixture(scope="session")
def _trusting() -> Iterator[tuple[Proxy, Origin]]:
    yield from _serve({"SILLYPROXY_TRUSTED_PROXIES": "127.0.0.0/8"})


@pytest.fixture
def trusting(_trusting: tuple[Proxy, Origin]) -> Iterator[Edge]:
    """The client is a trusted proxy."""
    yield from _look(_trusting)


@pytest.fixture(scope="session")
def _based() -> Iterator[tuple[Proxy, Origin]]:
    yield from _serve({}, base="/base")


@pytest.fixture
def based(_based: tuple[Proxy, Origin]) -> Iterator[Edge]:
    """The color's URL ends in /base."""
    yield from _look(_based)


@pytest.fixture(scope="session")
def _starting() -> Iterator[tuple[Proxy, Origin]]:
    yield from _serve({"SILLYPROXY_TRACING": "start", "SILLYPROXY_TRACING_SAMPLE": "50%"})


@pytest.fixture
def starting(_starting: tuple[Proxy, Origin]) -> Iterator[Edge]:
    """Traces begin here, half of them sampled."""
    yield from _look(_starting)


@pytest.fixture(scope="session")
def _untraced() -> Iterator[tuple[Proxy, Origin]]:
    yield from _serve({"SILLYPROXY_TRACING": "off"})


@pytest.fixture
def untraced(_untraced: tuple[Proxy, Origin]) -> Iterator[Edge]:
    """Traces are no affair of ours."""
    yield from _look(_untraced)
