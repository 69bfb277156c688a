"""The resolver of the system, asked in threads."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

import pytest

from sillyproxy.tools.dns import LookupFailed, Resolver, allow_large_answers


async def test_real_name() -> None:
    """The system's own resolver is what answers."""
    assert "127.0.0.1" in await Resolver(timeout_s=20).lookup("localhost")


async def test_name_that_does_not_exist_is_a_final_no() -> None:
    """That a name does not exist is told apart from a DNS that does not answer."""

    def no_name(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolver = Resolver(getaddrinfo=no_name)
    with pytest.raises(LookupFailed, match="name or service not known") as caught:
        await resolver.lookup("nope")
    assert caught.value.is_final
    assert resolver.results["no_name"] == 1


async def test_dns_that_cannot_be_asked_is_not_a_final_no() -> None:
    """A DNS in trouble says nothing about the name."""

    def trouble(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    resolver = Resolver(getaddrinfo=trouble)
    with pytest.raises(LookupFailed) as caught:
        await resolver.lookup("app")
    assert not caught.value.is_final


async def test_slow_dns_is_asked_once_at_a_time() -> None:
    """While a look-up has not ended there is no second for the name; who asks again gets its answer."""
    release, asked = threading.Event(), []

    def slow(name: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.append(name)
        release.wait(20)
        return [(0, 0, 0, "", ("10.0.0.1", 0))]

    resolver = Resolver(getaddrinfo=slow)
    for _ in range(3):
        with pytest.raises(LookupFailed, match="no answer in time"):
            await resolver.lookup("app", timeout_s=0.01)
    again = asyncio.create_task(resolver.lookup("app", timeout_s=20))
    await asyncio.sleep(0)
    release.set()
    assert await again == ["10.0.0.1"]
    assert asked == ["app"]


async def test_slow_name_holds_up_no_other() -> None:
    """One name that does not answer leaves the others alone."""
    release = threading.Event()

    def slow(name: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if name == "slow":
            release.wait(20)
        return [(0, 0, 0, "", ("10.0.0.1", 0))]

    resolver = Resolver(getaddrinfo=slow, timeout_s=20)
    waiting = asyncio.create_task(resolver.lookup("slow"))
    await asyncio.sleep(0)
    assert await resolver.lookup("fast") == ["10.0.0.1"]
    release.set()
    await waiting


def test_large_answers_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 15 replicas fit into an answer; what the operator set for the resolver stays."""
    monkeypatch.setenv("RES_OPTIONS", "timeout:1")
    allow_large_answers()
    allow_large_answers()
    assert os.environ["RES_OPTIONS"] == "timeout:1 edns0"
