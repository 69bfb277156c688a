"""The gate: when a proxy may be called started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from sillyproxy.config.schema import Color, Config, Probe, Upstream
from sillyproxy.health import gate as module
from sillyproxy.health.checks import Health, probes_of
from sillyproxy.health.gate import Gate
from sillyproxy.health.target import Target
from sillyproxy.tools.channel import Address
from tests.health.backend import BAD, OK, backend, dead_target, wait_until

PROBE = Probe("/", interval_s=0.05, timeout_s=5.0)

Found = dict[str, tuple[Address, ...]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND_S", 0.05)


class House:
    """A gate and the checks that it looks at."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.opened = 0
        self.problems: dict[str, str] = {}
        self.config = Config()
        self.found: Found = {}
        self.health = Health(self.look)
        self.gate = Gate(self.health, self.open, lambda: self.problems, is_open=is_open)

    def open(self) -> None:
        self.opened += 1

    def look(self) -> None:
        self.health.apply(probes_of(self.config, self.found), "Color")
        self.gate.apply(self.config, self.found)

    def apply(self, targets: Mapping[str, list[Target]], colors: list[Color], **more: Any) -> None:
        self.config = Config(colors=tuple(colors), **more)
        self.found = {
            name: tuple(Address(0, target.ip, target.upstream.port) for target in some)
            for name, some in targets.items()
        }
        self.look()


@asynccontextmanager
async def house(*, is_open: bool = False) -> AsyncIterator[House]:
    made = House(is_open=is_open)
    try:
        yield made
    finally:
        await made.gate.close()
        await made.health.close()


def color(target: Target, weight: float = 1.0, probe: Probe | None = None) -> Color:
    return Color(target.color, (target.upstream,), weight, probe)


async def test_color_without_a_probe_answers_by_a_connection() -> None:
    """Without a probe a color has answered when one of its endpoints takes a connection."""
    async with backend(None) as server, house() as it:
        target = server.target()
        it.apply({"blue": [target]}, [color(target)])
        assert it.gate.reason() == f"blue: {target.endpoint} has not answered yet"
        await wait_until(lambda: it.gate.is_open)
        assert (it.opened, it.gate.reason()) == (1, "")


async def test_color_with_a_probe_answers_by_passing_it() -> None:
    """With a probe, that the endpoint takes connections is not enough."""
    async with backend(BAD) as server, house() as it:
        target = server.target()
        it.apply({"blue": [target]}, [color(target, probe=PROBE)])
        await wait_until(lambda: it.gate.reason() == f"blue: {target.endpoint} status 503")
        await wait_until(lambda: len(server.heads) > 5)
        assert not it.gate.is_open
        server.answer = OK
        await wait_until(lambda: it.gate.is_open)


async def test_every_color_with_weight_is_waited_for() -> None:
    """A color that is to take traffic and does not answer keeps the gate closed; one at weight 0 does not."""
    async with backend() as server, house() as it:
        blue, green = server.target(), dead_target("green")
        targets = {"blue": [blue], "green": [green]}
        it.apply(targets, [color(blue), color(green)])
        await wait_until(lambda: it.gate.reason() == f"green: {green.endpoint} refused")
        it.apply(targets, [color(blue), color(green, weight=0)])
        assert it.gate.is_open


async def test_any_color_is_enough_for_who_says_so() -> None:
    """With SILLYPROXY_GATE=any one color that answers opens the gate."""
    async with backend() as server, house() as it:
        blue, green = server.target(), dead_target("green")
        it.apply({"blue": [blue], "green": [green]}, [color(blue), color(green)], gate="any")
        await wait_until(lambda: it.gate.is_open)


async def test_nothing_to_serve_is_no_start() -> None:
    """A configuration that takes no traffic at all was not meant: the gate stays closed and says why."""
    async with backend() as server, house() as it:
        it.apply({}, [])
        assert it.gate.reason() == "no color is configured"
        it.apply({"blue": [server.target()]}, [color(server.target(), weight=0)])
        assert it.gate.reason() == "every color is at weight 0"
        await asyncio.sleep(0.2)
        assert not it.gate.is_open


async def test_name_that_does_not_resolve_is_the_reason() -> None:
    """A typo in a URL is what the reason says."""
    async with house() as it:
        typo = Color("green", (Upstream("http", "myap-v2", 8080),))
        it.apply({}, [typo])
        assert it.gate.reason() == "green: not looked up yet"
        it.problems["myap-v2"] = "name or service not known"
        assert it.gate.reason() == "green: cannot resolve myap-v2: name or service not known"


async def test_open_gate_stays_open() -> None:
    """Once open the gate stays open: when the backends die, and when a reload brings a dead one."""
    async with house() as it:
        async with backend() as server:
            blue = server.target()
            it.apply({"blue": [blue]}, [color(blue)])
            await wait_until(lambda: it.gate.is_open)
        green = dead_target("green")
        it.apply({"green": [green]}, [color(green)])
        assert it.gate.is_open
        assert it.opened == 1


async def test_gate_that_was_open_before_is_open() -> None:
    """A controller that takes over from one that died does not close the gate."""
    async with house(is_open=True) as it:
        dead = dead_target()
        it.apply({"blue": [dead]}, [color(dead)])
        assert it.gate.is_open
        assert it.gate.reason() == ""


async def test_other_urls_have_to_answer_themselves() -> None:
    """While the gate is closed, a reload that moves a color elsewhere waits for it there."""
    async with backend() as server, house() as it:
        blue, green, elsewhere = server.target(), dead_target("green"), dead_target("blue")
        it.apply({"blue": [blue], "green": [green]}, [color(blue), color(green)])
        await wait_until(lambda: "blue" not in it.gate.reason())
        it.apply({"blue": [elsewhere], "green": [green]}, [color(elsewhere), color(green)])
        await wait_until(lambda: f"blue: {elsewhere.endpoint} refused" in it.gate.reason())


async def test_endpoint_is_knocked_at_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that does not answer is connected to at most once a second, and the answer ends it."""
    knocks: list[float] = []

    async def knock(target: Target, timeout_s: float) -> str:
        knocks.append(asyncio.get_running_loop().time())
        return "refused" if len(knocks) < 5 else ""

    monkeypatch.setattr(module, "knock", knock)
    monkeypatch.setattr(module, "ROUND_S", 0.1)
    async with house() as it:
        target = dead_target()
        it.apply({"blue": [target]}, [color(target)])
        for _ in range(20):
            it.look()
        await wait_until(lambda: it.gate.is_open)
        await asyncio.sleep(0.3)
        assert len(knocks) == 5
        assert min(later - earlier for earlier, later in pairwise(knocks)) > 0.05


async def test_one_endpoint_that_answers_is_enough() -> None:
    """Of many endpoints, most of them dead, the one that answers opens the gate; the reason names a few."""
    async with backend() as server, house() as it:
        dead = [Target("blue", replace(server.target().upstream), f"127.0.0.{n}") for n in range(10, 21)]
        it.apply({"blue": dead}, [color(server.target())])
        await wait_until(lambda: "refused" in it.gate.reason())
        assert it.gate.reason().endswith("and 8 more")
        it.apply({"blue": [*dead, server.target()]}, [color(server.target())])
        await wait_until(lambda: it.gate.is_open)
