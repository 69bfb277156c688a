"""One host name, with a resolver that a test plays."""

from __future__ import annotations

import pytest

from sillyproxy.config.schema import Discovery as Mode
from sillyproxy.discovery.host import LONGEST_PAUSE_S, NO_TASKS_S, Host
from sillyproxy.tools.dns import LookupFailed


class Zone:
    """Names and their addresses; what is not in it does not exist, what is None cannot be asked."""

    def __init__(self, **names: list[str] | None) -> None:
        self.names = {name.replace("__", "."): addresses for name, addresses in names.items()}
        self.asked: list[str] = []
        self.now = 0.0

    async def lookup(self, name: str, timeout_s: float | None = None) -> list[str]:
        self.asked.append(name)
        addresses = self.names.get(name, [])
        if not addresses:
            raise LookupFailed("try again" if addresses is None else "no such name", is_final=addresses == [])
        return addresses

    def host(self, name: str, mode: Mode = "auto") -> Host:
        return Host(name, mode, self.lookup, lambda: self.now)


async def test_service_of_a_swarm_is_its_tasks() -> None:
    """In a Swarm a service's endpoints are its replicas, not its virtual address."""
    zone = Zone(app=["10.0.0.2"], tasks__app=["10.0.0.5", "10.0.0.3"])
    host = zone.host("app")
    assert await host.refresh()
    assert host.addresses == ("10.0.0.3", "10.0.0.5")


async def test_plain_host_is_its_addresses() -> None:
    """Elsewhere the endpoints are all addresses of the name, in an order that does not change."""
    zone = Zone(app=["10.0.0.9", "10.0.0.10", "::1"])
    host = zone.host("app")
    await host.refresh()
    assert host.addresses == ("10.0.0.9", "10.0.0.10", "::1")


async def test_plain_host_is_not_asked_for_tasks_each_time() -> None:
    """That a host is no service of a Swarm is remembered for a while, so that the DNS is not asked twice."""
    zone = Zone(app=["10.0.0.9"])
    host = zone.host("app")
    for _ in range(3):
        await host.refresh()
    assert zone.asked == ["tasks.app", "app", "app", "app"]
    zone.now = NO_TASKS_S
    await host.refresh()
    assert zone.asked[-2:] == ["tasks.app", "app"]


@pytest.mark.parametrize(("name", "mode"), [("app.example", "auto"), ("localhost", "auto"), ("app", "dns")])
async def test_tasks_are_asked_for_only_where_they_can_be(name: str, mode: Mode) -> None:
    """A name with a dot, localhost, and any name with SILLYPROXY_DISCOVERY=dns has no tasks."""
    zone = Zone(app=["10.0.0.1"], localhost=["127.0.0.1"], app__example=["10.0.0.2"])
    await zone.host(name, mode).refresh()
    assert zone.asked == [name]


async def test_off_takes_what_the_resolver_puts_first() -> None:
    """With SILLYPROXY_DISCOVERY=off the endpoint is the one that any program would connect to."""
    host = Zone(app=["10.0.0.9", "10.0.0.1"]).host("app", "off")
    await host.refresh()
    assert host.addresses == ("10.0.0.9",)


async def test_failed_look_up_keeps_the_last_addresses() -> None:
    """When the DNS fails, the addresses that were good stay; when it is back, they are renewed."""
    zone = Zone(app=["10.0.0.1"])
    host = zone.host("app", "dns")
    await host.refresh()
    zone.names["app"] = None
    await host.refresh()
    assert (host.addresses, host.problem) == (("10.0.0.1",), "try again")
    zone.names["app"] = ["10.0.0.2"]
    assert await host.refresh()
    assert (host.addresses, host.problem) == (("10.0.0.2",), "")


async def test_service_without_replicas_keeps_its_last() -> None:
    """A service whose replicas are gone for a moment does not become its virtual address."""
    zone = Zone(app=["10.0.0.2"], tasks__app=["10.0.0.5"])
    host = zone.host("app")
    await host.refresh()
    del zone.names["tasks.app"]
    await host.refresh()
    assert host.addresses == ("10.0.0.5",)


async def test_service_that_became_a_plain_host_is_followed() -> None:
    """A name whose tasks stay away is a plain host now."""
    zone = Zone(app=["10.0.0.2"], tasks__app=["10.0.0.5"])
    host = zone.host("app")
    await host.refresh()
    del zone.names["tasks.app"]
    await host.refresh()
    zone.now = NO_TASKS_S
    assert await host.refresh()
    assert host.addresses == ("10.0.0.2",)


async def test_trouble_is_told_once() -> None:
    """A name that goes on failing is news once."""
    host = Zone().host("app", "dns")
    assert [await host.refresh() for _ in range(8)] == [True] + [False] * 7


async def test_trouble_of_another_kind_is_news() -> None:
    """That a name does not exist, and that nobody can say, are told apart; how exactly is in the status."""
    zone = Zone(app=None)
    host = zone.host("app", "dns")
    assert await host.refresh()
    zone.names["app"] = []
    assert [await host.refresh(), await host.refresh()] == [True, False]
    assert host.problem == "no such name"


async def test_name_that_fails_is_asked_for_more_seldom() -> None:
    """Each failure doubles the pause, up to two seconds or the interval that was asked for."""
    host = Zone().host("app", "dns")
    assert host.pause_s(0.5) == 0.5
    pauses = []
    for _ in range(20):
        await host.refresh()
        pauses.append(host.pause_s(0.5))
    assert pauses == [0.5, 1.0] + [LONGEST_PAUSE_S] * 18
    assert host.pause_s(60.0) == 60.0


async def test_service_that_is_created_later_is_found_as_such() -> None:
    """A name that does not exist yet is asked for as a service too: its replicas are found at once."""
    zone = Zone()
    host = zone.host("app")
    await host.refresh()
    await host.refresh()
    assert zone.asked == ["tasks.app", "app"] * 2
    zone.names |= {"app": ["10.0.0.2"], "tasks.app": ["10.0.0.5"]}
    await host.refresh()
    assert host.addresses == ("10.0.0.5",)


async def test_same_addresses_in_another_order_are_no_news() -> None:
    """A DNS that turns its answers round changes nothing."""
    zone = Zone(app=["10.0.0.1", "10.0.0.2"])
    host = zone.host("app", "dns")
    await host.refresh()
    zone.names["app"] = ["10.0.0.2", "10.0.0.1"]
    assert not await host.refresh()
