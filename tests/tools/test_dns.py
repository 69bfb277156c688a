"""The resolver of the system, asked in threads."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from typing import Any

import pytest

from sillyproxy.tools.dns import LookupFailed, Resolver, set_options


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


def test_operator_s_options_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operator set for the resolver stays; what he did not is so that we alone repeat questions."""
    monkeypatch.setenv("RES_OPTIONS", "timeout:1")
    set_options()
    set_options()
    assert os.environ["RES_OPTIONS"] == "timeout:1 edns0 attempts:1"


async def test_name_is_looked_up_once_a_second_whoever_asks() -> None:
    """However often a name is asked for, also by reloads, the DNS hears of it once a second; then again."""
    asked, now = [], [0.0]

    def answer(name: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.append(name)
        return [(0, 0, 0, "", (f"10.0.0.{len(asked)}", 0))]

    resolver = Resolver(getaddrinfo=answer, clock=lambda: now[0])
    for now[0] in (0.0, 0.5, 0.99):
        assert await resolver.lookup("app") == ["10.0.0.1"]
    now[0] = 1.0
    assert await resolver.lookup("app") == ["10.0.0.2"]
    assert asked == ["app", "app"]


async def test_only_families_that_the_machine_has_are_asked_for() -> None:
    """A machine without IPv6 asks for no IPv6 addresses, which would be endpoints that nobody can reach."""
    flags = {}

    def answer(name: str, *_: Any, **how: Any) -> list[tuple[Any, ...]]:
        flags[name] = how["flags"]
        return [(0, 0, 0, "", ("10.0.0.1", 0))]

    resolver = Resolver(getaddrinfo=answer)
    await resolver.lookup("app")
    await resolver.lookup("localhost")
    assert flags == {"app": socket.AI_ADDRCONFIG, "localhost": 0}


async def test_failure_is_not_asked_for_again_at_once() -> None:
    """A look-up that failed counts as one: an error does not make the DNS be asked faster."""
    asked = []

    def trouble(name: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.append(name)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    resolver = Resolver(getaddrinfo=trouble)
    for _ in range(3):
        with pytest.raises(LookupFailed):
            await resolver.lookup("app")
    assert asked == ["app"]


async def test_successor_does_not_ask_at_once() -> None:
    """A process that takes over from one that has just asked waits for its turn."""
    asked = []

    def answer(name: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.append(time.monotonic())
        return [(0, 0, 0, "", ("10.0.0.1", 0))]

    resolver = Resolver(getaddrinfo=answer)
    resolver.not_before = time.monotonic() + 0.2
    await resolver.lookup("app")
    await resolver.lookup("other")
    assert min(asked) >= resolver.not_before


async def test_shorter_interval_is_the_operator_s_wish() -> None:
    """With SILLYPROXY_DISCOVERY_INTERVAL below a second names are asked for that often."""
    asked, now = [], [0.0]

    def answer(name: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.append(name)
        return [(0, 0, 0, "", ("10.0.0.1", 0))]

    resolver = Resolver(getaddrinfo=answer, clock=lambda: now[0])
    resolver.spacing_s = 0.1
    for now[0] in (0.0, 0.1, 0.2):
        await resolver.lookup("app")
    assert len(asked) == 3
