"""
Ask the admin listeners of all replicas, each for itself: one that is slow or gone holds up no other.

A name stands for all its addresses and is looked up again and again, as a service's replicas come
and go. HTTP is twenty lines here: one GET to our own admin listener, answered until it closes. What
`http.client` would need besides is a thread for each replica and a deadline of its own, as its
timeout is for each read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sillyproxy.tools.dns import LookupFailed, Resolver
from sillyproxy.tools.healthcheck import read_address
from sillyproxy.top.merge import Fleet, Replica
from sillyproxy.top.told import read_answer

DEFAULT_PORT: Final = 9080
PATIENCE_S: Final = 1.0
# An answer with the whole history is made once, and takes longer than one with a second.
HISTORY_PATIENCE_S: Final = 5.0
LOOKUP_INTERVAL_S: Final = 2.0
MAX_ANSWER_BYTES: Final = 64 << 20

_LOCAL: Final = ("", "localhost", "0.0.0.0", "::")  # noqa: S104  as in SILLYPROXY_ADMIN: this machine


class Unanswered(Exception):
    """There was no answer that could be used. The message is why, in a few words for the operator."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    What was asked for on the command line: a host and port, or (with `port` 0) a unix socket's path.

    >>> read_target("tasks.proxy"), read_target("http://[::1]:81/").port
    (Target(text='tasks.proxy', host='tasks.proxy', port=9080), 81)
    """

    text: str
    host: str
    port: int


def read_target(text: str) -> Target:
    """
    Return what an address on the command line means.

    Raises ValueError, with what is wrong in words, for what is none.

    >>> read_target("proxy:http")
    Traceback (most recent call last):
    ValueError: proxy:http is no address; for instance tasks.proxy:9080 or http://10.0.0.5:9080
    """
    wrong = ValueError(f"{text} is no address; for instance tasks.proxy:9080 or http://10.0.0.5:9080")
    if text[:5].lower() == "unix:" and len(text) > 5:
        return Target(text, text[5:], 0)
    rest = text[7:].removesuffix("/") if text[:7].lower() == "http://" else text
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or port[:1] not in ("", ":"):
            raise wrong
        port = port[1:]
    elif rest.count(":") > 1:  # an IPv6 address without a port
        host, port = rest, ""
    else:
        host, _, port = rest.partition(":")
    if any(not char.isprintable() or char in " /@?#[]%" for char in host) or (port and not port.isascii()):
        raise wrong
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        raise wrong
    if host.lower() in _LOCAL:
        host = str(read_address(f"{host}:1")[1][0])
    return Target(text, host, int(port or DEFAULT_PORT))


async def get(target: Target, ip: str, path: str, token: str, patience_s: float) -> Any:
    """
    Return what the admin listener at this address answers to a GET, read as JSON.

    Raises Unanswered with the reason.
    """
    try:
        async with asyncio.timeout(patience_s):
            answer = await _exchange(target, ip, path, token)
    except TimeoutError:
        raise Unanswered(f"no answer within {patience_s:g} s") from None
    except OSError as error:
        raise Unanswered(os.strerror(error.errno).lower() if error.errno else str(error)) from None
    head, _, body = answer.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise Unanswered("something else listens there: no answer in HTTP" if answer else "no answer: closed")
    if problem := _refusal(int(rest[:3]), body, token):
        raise Unanswered(problem)
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Unanswered("something else listens there, or the answer was cut: not JSON") from None


async def _exchange(target: Target, ip: str, path: str, token: str) -> bytes:
    """Send one request; return all that comes until the connection is closed."""
    if target.port:
        reader, writer = await asyncio.open_connection(ip, target.port)
    else:
        reader, writer = await asyncio.open_unix_connection(target.host)
    try:
        # By its address, not its name: without a token an admin listener knows no names.
        host = (f"[{ip}]" if ":" in ip else ip) if target.port else "localhost"
        lines = [f"GET {path} HTTP/1.0", f"Host: {host}:{target.port}" if target.port else f"Host: {host}"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        writer.write("\r\n".join([*lines, "\r\n"]).encode())
        answer = bytearray()
        while data := await reader.read(1 << 16):
            answer += data
            if len(answer) > MAX_ANSWER_BYTES:
                raise Unanswered(f"its answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")
        return bytes(answer)
    finally:
        writer.close()


def _refuse(constant: str) -> None:
    """JSON has no NaN and no Infinity, although Python reads them."""
    raise ValueError(constant)


def _refusal(status: int, body: bytes, token: str) -> str:
    """Return why a status is no answer; empty if it is one."""
    if status == 200:
        return ""
    if status == 401:
        return "it does not accept this token" if token else "it asks for a token: SILLYPROXY_ADMIN_TOKEN"
    if status == 404:
        return "something else listens there, or an older sillyproxy: 404"
    said = body.decode("utf-8", "replace").strip().partition("\n")[0]
    return f"{status} {''.join(filter(str.isprintable, said))[:80]}".strip()


class Client:
    """
    Keeps the fleet up to date until its tasks are cancelled: one for each name, one for each replica.

    `history_s` is how much of the past is wanted of a replica that is met for the first time.
    """

    def __init__(
        self, fleet: Fleet, targets: Sequence[Target], token: str, interval_s: float, history_s: int
    ) -> None:
        self.history_s = history_s
        self._fleet = fleet
        self._targets = targets
        self._token = token
        self._interval_s = interval_s
        self._resolver = Resolver()
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def ask_once(self) -> None:
        """Look up every name and ask every replica once."""
        await asyncio.gather(*(self._look_up(target) for target in self._targets))
        await asyncio.gather(*(self._ask(target, replica) for target, replica in self._replicas()))

    async def run(self) -> None:
        """Look up and ask for good."""
        try:
            async with asyncio.TaskGroup() as group:
                for target in self._targets:
                    group.create_task(self._follow(group, target))
        finally:
            self._asking.clear()

    def _replicas(self) -> list[tuple[Target, Replica]]:
        found = {target.text: target for target in self._targets}
        return [(found[replica.target], replica) for replica in self._fleet.replicas.values() if replica.ip]

    async def _follow(self, group: asyncio.TaskGroup, target: Target) -> None:
        """Look a name up again and again; begin to ask who is new, stop asking who is gone."""
        while True:
            await self._look_up(target)
            replicas = {replica.address: replica for owner, replica in self._replicas() if owner is target}
            for address, replica in replicas.items():
                if address not in self._asking:
                    self._asking[address] = group.create_task(self._keep_asking(target, replica))
            for address in [one for one in self._asking if one not in self._fleet.replicas]:
                self._asking.pop(address).cancel()
            await asyncio.sleep(LOOKUP_INTERVAL_S)

    async def _keep_asking(self, target: Target, replica: Replica) -> None:
        next_at = time.monotonic()
        while True:
            await self._ask(target, replica)
            # By the clock, so that a slow answer does not make the next one late.
            next_at = max(next_at + self._interval_s, time.monotonic())
            await asyncio.sleep(next_at - time.monotonic())

    async def _look_up(self, target: Target) -> None:
        if not target.port:
            self._fleet.found(target.text, {target.text: target.host}, time.monotonic())
            return
        try:
            ips = [str(ipaddress.ip_address(target.host))]
        except ValueError:
            try:
                ips = await self._resolver.lookup(target.host)
            except LookupFailed as error:
                # Addresses that were good are better than none.
                self._fleet.not_found(target.text, str(error))
                return
        shown = {(f"[{ip}]" if ":" in ip else ip) + f":{target.port}": ip for ip in ips}
        self._fleet.found(target.text, shown, time.monotonic())

    async def _ask(self, target: Target, replica: Replica) -> None:
        """Ask a replica once, and a new one for what it remembers besides."""
        try:
            await self._ask_for(target, replica, replica.since(), PATIENCE_S)
            if (earlier := replica.earlier(self.history_s)) is not None:
                await self._ask_for(target, replica, earlier, HISTORY_PATIENCE_S)
        except Unanswered as error:
            replica.fail(str(error))

    async def _ask_for(
        self, target: Target, replica: Replica, since: tuple[str, int] | None, patience_s: float
    ) -> None:
        path = "/api/samples"
        if since is not None:
            path += f"?since={since[1]}&epoch={since[0]}"
        answer = await get(target, replica.ip, path, self._token, patience_s)
        try:
            self._fleet.note(replica, read_answer(answer), time.monotonic(), time.time())
        except ValueError as error:
            raise Unanswered(f"an answer that makes no sense: {error}") from None
