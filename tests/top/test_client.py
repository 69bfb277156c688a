"""How replicas are asked: over real sockets, each for itself, whatever is at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sillyproxy.top import client
from sillyproxy.top.client import Client, Target, read_target
from sillyproxy.top.merge import Fleet
from tests.top.telling import make_answer, make_part, make_seconds

PATIENCE_S = 60.0
ANSWER = json.dumps(make_answer(make_seconds(1, 60, blue=make_part(5)))).encode()


def reply(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def admin(*replies: bytes | None, path: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """
    Run an admin listener that gives these replies, then the last one again; None: it never does.

    Yields its address and the heads that it was asked with.
    """
    heads: list[str] = []
    hanging = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        data = replies[min(len(heads), len(replies)) - 1]
        if data is None:
            await hanging.wait()
        else:
            writer.write(data)
        writer.close()

    if path:
        server = await asyncio.start_unix_server(answer, path)
        address = f"unix:{path}"
    else:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = "{}:{}".format(*server.sockets[0].getsockname())
    async with server:
        yield address, heads
        hanging.set()


async def ask(*addresses: str, token: str = "", history_s: int = 60) -> Fleet:
    """Return what is known when every address was asked once."""
    fleet = Fleet()
    await Client(fleet, [read_target(address) for address in addresses], token, 1.0, history_s).ask_once()
    return fleet


async def test_a_replica_is_asked_and_what_it_tells_is_known() -> None:
    """An address is asked for its seconds, by its number, which any admin listener takes."""
    async with admin(reply(ANSWER)) as (address, heads):
        fleet = await ask(address)
    (replica,) = fleet.replicas.values()
    assert replica.is_up
    assert heads[0].startswith(f"GET /api/samples HTTP/1.0\r\nHost: {address}\r\n")
    assert "Authorization" not in heads[0]
    assert replica.since() == ("e1", 60)


async def test_the_token_goes_to_who_asks_for_it() -> None:
    """The token is sent as a bearer's."""
    async with admin(reply(ANSWER)) as (address, heads):
        await ask(address, token="secret")
    assert "\r\nAuthorization: Bearer secret\r\n" in heads[0]


async def test_a_new_replica_is_asked_for_its_past_once() -> None:
    """Whoever begins to look sees the last minutes at once, and asks for what is new from then on."""
    late = json.dumps(make_answer(make_seconds(941, 60, blue=make_part(5)))).encode()
    whole = json.dumps(make_answer(make_seconds(701, 300, blue=make_part(5)))).encode()
    async with admin(reply(late), reply(whole)) as (address, heads):
        fleet = Fleet()
        asking = Client(fleet, [read_target(address)], "", 1.0, 300)
        await asking.ask_once()
        await asking.ask_once()
    assert [head.split(" ")[1] for head in heads] == [
        "/api/samples",
        "/api/samples?since=700&epoch=e1",
        "/api/samples?since=1000&epoch=e1",
    ]
    (proxy,) = fleet.proxies.values()
    assert len(proxy.samples) == 300


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (reply(b"no", "401 Unauthorized"), "it asks for a token: SILLYPROXY_ADMIN_TOKEN"),
        (reply(b"no", "404 Not Found"), "something else listens there, or an older sillyproxy: 404"),
        (reply(b"the Host is no address\nmore", "403 Forbidden"), "403 the Host is no address"),
        (reply(b"<html>"), "something else listens there, or the answer was cut: not JSON"),
        (reply(ANSWER)[:-100], "something else listens there, or the answer was cut: not JSON"),
        (reply(b'{"seq": NaN}'), "something else listens there, or the answer was cut: not JSON"),
        (reply(b"[]"), "an answer that makes no sense: "),
        (b"220 mail.example ESMTP\r\n", "something else listens there: no answer in HTTP"),
        (b"", "no answer: closed"),
        (None, "no answer within 0.5 s"),
    ],
    ids=["token", "404", "403", "page", "cut", "nan", "list", "mail", "closed", "hangs"],
)
async def test_who_does_not_answer_is_shown_with_why(
    data: bytes | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with a replica, the operator reads what it is, and the others are there as always."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.5)
    async with admin(reply(ANSWER)) as (good, _), admin(data) as (bad, _):
        fleet = await ask(good, bad)
    assert fleet.replicas[bad].problem.startswith(reason)
    assert fleet.replicas[good].is_up


async def test_a_token_that_is_wrong_is_called_wrong() -> None:
    """With a token that is not the one of that proxy, it is the token that is named."""
    async with admin(reply(b"no", "401 Unauthorized")) as (address, _):
        fleet = await ask(address, token="secret")
    assert fleet.replicas[address].problem == "it does not accept this token"


async def test_nobody_at_the_address() -> None:
    """A port on which nobody listens is a refused connection, in the system's words."""
    async with admin(reply(ANSWER)) as (address, _):
        pass
    fleet = await ask(address)
    assert fleet.replicas[address].problem == "connection refused"


async def test_a_unix_socket_is_an_address(tmp_path: Path) -> None:
    """The admin listener of this machine may be a unix socket."""
    async with admin(reply(ANSWER), path=f"{tmp_path}/admin") as (address, heads):
        fleet = await ask(address)
    assert fleet.replicas[address].is_up
    assert "\r\nHost: localhost\r\n" in heads[0]


async def wait_for(is_true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():
            await asyncio.sleep(0.01)


async def test_replicas_come_and_go_with_the_addresses_of_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A name is looked up again and again: a replica that is added is asked soon, one whose address is gone
    is asked no more; one that hangs holds up no other.
    """
    monkeypatch.setattr(client, "LOOKUP_INTERVAL_S", 0.05)
    addresses = ["127.0.0.1"]
    fleet = Fleet()
    async with admin(reply(ANSWER)) as (address, heads):
        port = int(address.rpartition(":")[2])
        hung = await asyncio.start_server(lambda reader, writer: None, "127.0.0.3", port)
        other = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.2", port)
        asking = Client(fleet, [Target("tasks.proxy", "tasks.proxy", port)], "", 0.05, 60)

        async def look_up(name: str) -> list[str]:
            return list(addresses)

        monkeypatch.setattr(asking._resolver, "lookup", look_up)
        running = asyncio.create_task(asking.run())
        async with hung, other:
            await wait_for(lambda: len(heads) > 2)
            addresses[:] = ["127.0.0.3", "127.0.0.2"]
            await wait_for(lambda: len(fleet.replicas) == 3)
            await wait_for(lambda: fleet.replicas[f"127.0.0.2:{port}"].problem == "no answer: closed")
            assert fleet.replicas[address].gone_since is not None
            assert fleet.replicas[f"127.0.0.3:{port}"].gone_since is None
            running.cancel()
            await asyncio.wait((running,))
    assert running.cancelled()


@pytest.mark.parametrize(
    ("typed", "host", "port"),
    [
        ("proxy:81", "proxy", 81),
        ("http://tasks.proxy:9080/", "tasks.proxy", 9080),
        (":81", "127.0.0.1", 81),
        ("localhost", "127.0.0.1", 9080),
        ("[::1]:81", "::1", 81),
        ("fe80::1", "fe80::1", 9080),
        ("unix:/run/admin", "/run/admin", 0),
    ],
)
def test_addresses_are_read_as_they_are_typed(typed: str, host: str, port: int) -> None:
    """With http:// or without, with a port or without, a name or an address."""
    assert read_target(typed) == Target(typed, host, port)


@pytest.mark.parametrize(
    "typed",
    ["proxy:x", "proxy:0", "proxy:70000", "https://proxy", "http://a/b", "a b", "[::1", "[::1]x", "a@b"],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    """A mistake in an address is said at once, and not looked up for ever."""
    with pytest.raises(ValueError, match="is no address; for instance"):
        read_target(typed)
