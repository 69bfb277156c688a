"""
Keep the addresses of every color's hosts fresh.

One process asks for all workers, and each name has one task, so that no name is ever
asked for twice at a time and a slow one holds up nobody else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from sillyproxy.config.schema import Config
from sillyproxy.discovery.host import Host, Lookup, is_literal
from sillyproxy.tools.channel import Address

JITTER = 0.1  # of the interval, either way: proxies that start together do not ask together


class Discovery:
    """The hosts of one configuration. `changed` is called when there is news of one."""

    def __init__(
        self,
        lookup: Lookup,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._changed = changed
        self._clock = clock
        self._config: Config | None = None
        self._hosts: dict[str, Host] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def apply(self, config: Config) -> None:
        """Watch the hosts of this configuration from now on. Those that stay keep what is known of them."""
        before, self._config = self._config, config
        if before is not None and before.discovery != config.discovery:
            self._forget(set(self._hosts))
        names = {upstream.host for color in config.colors for upstream in color.upstreams}
        self._forget(set(self._hosts) - names)
        for name in sorted(names - set(self._hosts)):
            host = self._hosts[name] = Host(name, config.discovery, self._lookup, self._clock)
            if not is_literal(name):
                self._tasks[name] = asyncio.get_running_loop().create_task(self._watch(host))

    def endpoints(self) -> dict[str, tuple[Address, ...]]:
        """
        Return the addresses of every color, as the workers want them.

        A color of whose hosts nobody could say anything yet is left out: the workers of a
        controller that died may know more, and should not be told that it has none.
        """
        found: dict[str, tuple[Address, ...]] = {}
        for color in self._config.colors if self._config else ():
            hosts = [self._hosts[upstream.host] for upstream in color.upstreams]
            addresses = tuple(
                Address(index, ip, upstream.port)
                for index, (upstream, host) in enumerate(zip(color.upstreams, hosts, strict=True))
                for ip in host.addresses
            )
            if addresses or all(host.is_known() for host in hosts):
                found[color.name] = addresses
        return found

    def problems(self) -> dict[str, str]:
        """Return why a host's addresses may be old, by its name."""
        return {name: host.problem for name, host in self._hosts.items() if host.problem}

    def is_settled(self) -> bool:
        """Whether every host has been looked up once, well or badly."""
        return all(host.is_settled() for host in self._hosts.values())

    async def close(self) -> None:
        """Stop watching."""
        tasks = list(self._tasks.values())
        self._forget(set(self._hosts))
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, names: set[str]) -> None:
        for name in names:
            del self._hosts[name]
            if task := self._tasks.pop(name, None):
                task.cancel()

    async def _watch(self, host: Host) -> None:
        while True:
            if await host.refresh():
                self._changed()
            interval_s = self._config.discovery_interval_s if self._config else 1.0
            jitter = 1 + random.uniform(-JITTER, JITTER)  # noqa: S311  (chance, not a secret)
            await asyncio.sleep(interval_s * host.slowdown * jitter)
