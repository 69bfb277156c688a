"""
Keep the addresses of every color's hosts fresh.

One process asks for all workers, and each name has one task, so that no name is ever
asked for twice at a time and a slow one holds up nobody else.

A new configuration's hosts are watched beside the old one's until the old one is let go:
what is told of the old stays true until the new one can be told whole.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from sillyproxy.config.schema import Config
from sillyproxy.config.schema import Discovery as Mode
from sillyproxy.discovery.host import Host, Lookup, is_literal
from sillyproxy.tools.channel import Address

# Of a pause, and only upwards: proxies that start together do not ask together, and none asks more often
# than it should.
JITTER = 0.1

_Key = tuple[str, Mode]


class Discovery:
    """The hosts of the configurations that are applied. `changed` is called when there is news of one."""

    def __init__(
        self,
        lookup: Lookup,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._changed = changed
        self._clock = clock
        self._interval_s = 1.0
        self._hosts: dict[_Key, Host] = {}
        self._tasks: dict[_Key, asyncio.Task[None]] = {}

    def apply(self, config: Config) -> None:
        """Watch the hosts of this configuration too. Those that are watched keep what is known of them."""
        self._interval_s = config.discovery_interval_s
        for key in sorted(_keys(config) - set(self._hosts)):
            name, mode = key
            host = self._hosts[key] = Host(name, mode, self._lookup, self._clock)
            if not is_literal(name):
                self._tasks[key] = asyncio.get_running_loop().create_task(self._watch(host))

    def keep(self, *configs: Config) -> None:
        """Watch the hosts of these configurations and no others."""
        self._forget(set(self._hosts).difference(*map(_keys, configs)))

    def endpoints(self, config: Config) -> dict[str, tuple[Address, ...]]:
        """
        Return the addresses of every color of a configuration that was applied, as the workers want them.

        A color of whose hosts nobody could say anything yet is left out: the workers of a
        controller that died may know more, and should not be told that it has none.
        """
        found: dict[str, tuple[Address, ...]] = {}
        for color in config.colors:
            hosts = [self._hosts[upstream.host, config.discovery] for upstream in color.upstreams]
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
        return {host.name: host.problem for host in self._hosts.values() if host.problem}

    def is_settled(self, config: Config) -> bool:
        """Whether every host of a configuration has been looked up once, well or badly."""
        return all(self._hosts[key].is_settled() for key in _keys(config))

    async def close(self) -> None:
        """Stop watching."""
        tasks = list(self._tasks.values())
        self.keep()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, keys: set[_Key]) -> None:
        for key in keys:
            del self._hosts[key]
            if task := self._tasks.pop(key, None):
                task.cancel()

    async def _watch(self, host: Host) -> None:
        while True:
            begun = self._clock()
            if await host.refresh():
                self._changed()
            jitter = 1 + random.uniform(0, JITTER)  # noqa: S311  (chance, not a secret)
            await asyncio.sleep(max(0.0, begun + host.pause_s(self._interval_s) * jitter - self._clock()))


def _keys(config: Config) -> set[_Key]:
    return {(upstream.host, config.discovery) for color in config.colors for upstream in color.upstreams}
