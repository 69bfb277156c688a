"""All hosts of a configuration, watched at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sillyproxy.config.schema import Color, Config, Upstream
from sillyproxy.discovery.watch import Discovery
from sillyproxy.tools.channel import Address
from sillyproxy.tools.dns import LookupFailed


def make_config(**colors: list[Upstream]) -> Config:
    made = tuple(Color(name, tuple(upstreams)) for name, upstreams in colors.items())
    return Config(colors=made, discovery="dns", discovery_interval_s=0.01)


class Zone:
    def __init__(self, names: dict[str, list[str]]) -> None:
        self.names = names
        self.asked: list[str] = []
        self.changed = asyncio.Event()

    async def lookup(self, name: str, timeout_s: float | None = None) -> list[str]:
        self.asked.append(name)
        if name not in self.names:
            raise LookupFailed("no such name", is_final=True)
        return self.names[name]

    async def wait(
        self, discovery: Discovery, config: Config, expected: dict[str, tuple[Address, ...]]
    ) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                while discovery.endpoints(config) != expected:
                    self.changed.clear()
                    await self.changed.wait()
        assert discovery.endpoints(config) == expected


async def test_each_name_is_asked_for_once_whoever_uses_it() -> None:
    """Colors that share a host share its look-up; each gets its own ports."""
    zone = Zone({"app": ["10.0.0.1"]})
    discovery = Discovery(zone.lookup, zone.changed.set)
    discovery.apply(
        config := make_config(blue=[Upstream("http", "app", 1)], green=[Upstream("http", "app", 2)])
    )
    await zone.wait(
        discovery, config, {"blue": (Address(0, "10.0.0.1", 1),), "green": (Address(0, "10.0.0.1", 2),)}
    )
    assert zone.asked == ["app"]
    await discovery.close()


async def test_addresses_are_never_looked_up() -> None:
    """An upstream that is an address needs no DNS."""
    zone = Zone({})
    discovery = Discovery(zone.lookup, zone.changed.set)
    discovery.apply(
        config := make_config(blue=[Upstream("http", "127.0.0.1", 1), Upstream("http", "::1", 2)])
    )
    await asyncio.sleep(0)
    assert discovery.endpoints(config) == {"blue": (Address(0, "127.0.0.1", 1), Address(1, "::1", 2))}
    assert zone.asked == []
    await discovery.close()


async def test_changes_are_followed() -> None:
    """A replica that comes and one that goes are found without being told."""
    zone = Zone({"app": ["10.0.0.1"]})
    discovery = Discovery(zone.lookup, zone.changed.set)
    discovery.apply(config := make_config(blue=[Upstream("http", "app", 1)]))
    await zone.wait(discovery, config, {"blue": (Address(0, "10.0.0.1", 1),)})
    zone.names["app"] = ["10.0.0.2", "10.0.0.3"]
    await zone.wait(discovery, config, {"blue": (Address(0, "10.0.0.2", 1), Address(0, "10.0.0.3", 1))})
    await discovery.close()


async def test_name_that_does_not_resolve_leaves_its_color_empty() -> None:
    """A name that does not resolve leaves its color without endpoints, and says why."""
    zone = Zone({"app": ["10.0.0.1"]})
    discovery = Discovery(zone.lookup, zone.changed.set)
    discovery.apply(
        config := make_config(blue=[Upstream("http", "app", 1)], green=[Upstream("http", "nope", 1)])
    )
    await zone.wait(discovery, config, {"blue": (Address(0, "10.0.0.1", 1),), "green": ()})
    assert discovery.problems() == {"nope": "no such name"}
    await discovery.close()


async def test_host_that_stays_keeps_its_addresses() -> None:
    """A new configuration asks only for what is new in it."""
    zone = Zone({"app": ["10.0.0.1"]})
    discovery = Discovery(zone.lookup, zone.changed.set)
    discovery.apply(config := make_config(blue=[Upstream("http", "app", 1)]))
    await zone.wait(discovery, config, {"blue": (Address(0, "10.0.0.1", 1),)})
    discovery.apply(
        config := make_config(blue=[Upstream("http", "app", 2)], green=[Upstream("http", "new", 1)])
    )
    assert discovery.endpoints(config) == {"blue": (Address(0, "10.0.0.1", 2),)}
    await discovery.close()


async def test_old_hosts_are_watched_until_they_are_let_go() -> None:
    """While a new configuration's names are looked up, the old one's endpoints are still followed."""
    zone = Zone({"app": ["10.0.0.1"], "new": ["10.0.0.9"]})
    discovery = Discovery(zone.lookup, zone.changed.set)
    discovery.apply(old := make_config(blue=[Upstream("http", "app", 1)]))
    await zone.wait(discovery, old, {"blue": (Address(0, "10.0.0.1", 1),)})
    discovery.apply(new := make_config(blue=[Upstream("http", "new", 1)]))
    assert discovery.endpoints(new) == {}
    zone.names["app"] = ["10.0.0.2"]
    await zone.wait(discovery, old, {"blue": (Address(0, "10.0.0.2", 1),)})
    await zone.wait(discovery, new, {"blue": (Address(0, "10.0.0.9", 1),)})
    discovery.keep(new)
    asked = zone.asked.count("app")
    await asyncio.sleep(0.1)
    assert zone.asked.count("app") == asked
    await discovery.close()


async def test_dns_that_is_down_says_nothing_of_a_color() -> None:
    """A controller that starts while the DNS is down tells no worker that its endpoints are gone."""

    async def trouble(name: str, timeout_s: float | None = None) -> list[str]:
        raise LookupFailed("temporary failure", is_final=False)

    discovery = Discovery(trouble, lambda: None)
    discovery.apply(config := make_config(blue=[Upstream("http", "app", 1)]))
    while not discovery.is_settled(config):
        await asyncio.sleep(0)
    assert discovery.endpoints(config) == {}
    await discovery.close()


async def test_host_that_cannot_be_asked_for_hides_no_other_of_its_color() -> None:
    """A color with two hosts is served by the one that resolves, whatever the other does."""

    async def half(name: str, timeout_s: float | None = None) -> list[str]:
        if name == "slow":
            raise LookupFailed("no answer in time", is_final=False)
        return ["10.0.0.1"]

    discovery = Discovery(half, lambda: None)
    discovery.apply(config := make_config(blue=[Upstream("http", "slow", 1), Upstream("http", "app", 1)]))
    while not discovery.is_settled(config):
        await asyncio.sleep(0)
    assert discovery.endpoints(config) == {"blue": (Address(1, "10.0.0.1", 1),)}
    await discovery.close()
