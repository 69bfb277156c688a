"""
Whether the proxy has started: the gate that an orchestrator waits at before it sends traffic.

It opens when every color that is to take traffic has answered once: one of its endpoints
passed the color's probe or, without one, took a TCP connection. A configuration whose URLs
lead nowhere is never called started, and a rolling update that brings it is rolled back.

Once open it stays open: whether the backends live is another question (`/readyz`), and to
kill a proxy because they do not would mend nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sillyproxy.config.schema import Color, Config, Probe, Upstream
from sillyproxy.health.checks import Health
from sillyproxy.health.probe import knock
from sillyproxy.health.target import Target, targets_of
from sillyproxy.tools import logs
from sillyproxy.tools.channel import Address

ROUND_S: Final = 1.0  # an endpoint without a probe is connected to at most once in this time …
JITTER: Final = 0.25  # … and up to this part of it later
AT_A_TIME: Final = 8  # endpoints of one color in a round
SHOWN: Final = 3  # endpoints of one color in the reason


class _Asked(NamedTuple):
    """What makes an answer an answer: if any of it changes, the color has to answer again."""

    name: str
    upstreams: tuple[Upstream, ...]
    probe: Probe | None


class Gate:
    """
    The gate of one proxy. `opened` is called when it opens; `is_open`: it was, before this process.

    `name_problems` says why hosts have no addresses.
    """

    def __init__(
        self,
        health: Health,
        opened: Callable[[], None],
        name_problems: Callable[[], Mapping[str, str]],
        *,
        is_open: bool = False,
    ) -> None:
        self.is_open = is_open
        self._health = health
        self._opened = opened
        self._name_problems = name_problems
        self._config = Config()
        self._targets: dict[str, list[Target]] = {}
        self._answered: set[_Asked] = set()
        self._knocking: dict[_Asked, asyncio.Task[None]] = {}
        self._knocks: dict[Target, str] = {}  # what became of the last one

    def apply(self, config: Config, endpoints: Mapping[str, tuple[Address, ...]]) -> None:
        """Wait for the colors of this configuration from now on; open if that is over."""
        if self.is_open:
            return
        self._config = config
        self._targets = {color.name: [] for color in config.colors}
        for color, _, target in targets_of(config, endpoints):
            self._targets[color.name].append(target)
        present = {target for targets in self._targets.values() for target in targets}
        self._knocks = {target: told for target, told in self._knocks.items() if target in present}
        awaited = {_asked(color) for color in _weighted(config)}
        for gone in set(self._knocking) - awaited:
            self._knocking.pop(gone).cancel()
        for color in _weighted(config):
            asked = _asked(color)
            if color.probe is not None:
                if any(map(self._health.has_passed, self._targets[color.name])):
                    self._answered.add(asked)
            elif asked not in self._answered and asked not in self._knocking and self._targets[color.name]:
                self._knocking[asked] = asyncio.get_running_loop().create_task(self._knock(asked))
        self._look()

    def reason(self) -> str:
        """Return what is waited for, and what happened at the last try; empty if the gate is open."""
        if self.is_open:
            return ""
        if not self._config.colors:
            return "no color is configured"
        waiting = [color for color in _weighted(self._config) if _asked(color) not in self._answered]
        return "; ".join(map(self._reason_of, waiting)) or "every color is at weight 0"

    async def close(self) -> None:
        """Stop knocking."""
        tasks = list(self._knocking.values())
        self._knocking.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self) -> None:
        weighted = [_asked(color) in self._answered for color in _weighted(self._config)]
        if not weighted or not (any(weighted) if self._config.gate == "any" else all(weighted)):
            return
        self.is_open = True
        for task in self._knocking.values():
            task.cancel()
        self._knocking.clear()
        answered = [color.name for color in _weighted(self._config) if _asked(color) in self._answered]
        logs.info("started", answered=",".join(answered), generation=self._config.generation)
        self._opened()

    def _reason_of(self, color: Color) -> str:
        targets = self._targets[color.name]
        if not targets:
            hosts = dict.fromkeys(upstream.host for upstream in color.upstreams)
            problems = self._name_problems()
            told = [f"cannot resolve {host}: {problems[host]}" for host in hosts if host in problems]
            return f"{color.name}: " + (", ".join(told) or "not looked up yet")
        tries = [
            f"{target.endpoint} "
            + (self._health.reason(target) or self._knocks.get(target, "") or "has not answered yet")
            for target in targets[:SHOWN]
        ]
        if len(targets) > SHOWN:
            tries.append(f"and {len(targets) - SHOWN} more")
        return f"{color.name}: " + ", ".join(tries)

    async def _knock(self, asked: _Asked) -> None:
        """Try to connect to a color's endpoints, some at a time, until one answers."""
        loop = asyncio.get_running_loop()
        while targets := self._targets.get(asked.name):
            begun = loop.time()
            some = random.sample(targets, min(AT_A_TIME, len(targets)))
            if await self._any_answers(some):
                self._answered.add(asked)
                break
            jitter = 1 + random.uniform(0, JITTER)  # noqa: S311  (chance, not a secret)
            await asyncio.sleep(max(0.0, begun + ROUND_S * jitter - loop.time()))
        self._knocking.pop(asked, None)
        self._look()

    async def _any_answers(self, targets: list[Target]) -> bool:
        timeout_s = self._config.timeouts.connect_s
        tasks = [asyncio.ensure_future(self._knock_once(target, timeout_s)) for target in targets]
        try:
            for task in asyncio.as_completed(tasks):
                if await task:
                    return True
            return False
        finally:
            for one in tasks:
                one.cancel()

    async def _knock_once(self, target: Target, timeout_s: float) -> bool:
        reason = await knock(target, timeout_s)
        self._knocks[target] = reason
        return not reason


def _weighted(config: Config) -> list[Color]:
    return [color for color in config.colors if color.weight > 0]


def _asked(color: Color) -> _Asked:
    return _Asked(color.name, color.upstreams, color.probe)
