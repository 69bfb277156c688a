"""
Ask every endpoint of every color with a probe, again and again, for all the workers.

Each endpoint has a task; an interval counts from the start of one check to the start of
the next. The first comes soon, because somebody waits for it, the second after a part of
the interval by chance, so that neither the endpoints of one proxy nor the proxies of one
endpoint ask in step.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sillyproxy.config.schema import Color, Config, Probe
from sillyproxy.health.probe import DIRECT, Way, check, way_of
from sillyproxy.health.target import Target, targets_of
from sillyproxy.health.verdict import HEALTHY, Verdict
from sillyproxy.http1.forward import ResponsePlans
from sillyproxy.tools import logs
from sillyproxy.tools.channel import Address

JITTER: Final = 0.1  # of the interval, either way
UNDER_WAY: Final = 64  # checks at a time
SETTLE_TIMEOUTS: Final = 2  # for which an endpoint's first check is waited for at most


@dataclass(slots=True, eq=False)
class _Check:
    """An endpoint under its probe. `reason` is what was wrong last, empty if nothing is."""

    probe: Probe
    verdict: Verdict
    due: float  # when it is waited for no longer; the loop's time
    reason: str = ""
    task: asyncio.Task[None] | None = None


class Health:
    """
    What the active checks say.

    `changed` is called when an endpoint's state is news, before it `returned` if it was unhealthy
    and is not any more. `results` counts checks by color and result, for good.
    """

    def __init__(
        self, changed: Callable[[], None], returned: Callable[[Target], None] = lambda _: None
    ) -> None:
        self.results: Counter[tuple[str, str]] = Counter()
        self._changed = changed
        self._returned = returned
        self._checks: dict[Target, _Check] = {}
        self._room = asyncio.Semaphore(UNDER_WAY)
        self._plans = ResponsePlans()
        self._color_header = ""
        self._ways: dict[Color, Way] = {}
        self._way_of: dict[str, Way] = {}

    def apply(self, wanted: Mapping[Target, Probe], color_header: str, colors: Iterable[Color] = ()) -> None:
        """
        Check these from now on; forget all others. Each is spoken to as its color says.

        Who stays under the same probe keeps its state; under another, what it says is checked anew.
        """
        self._color_header = color_header
        before = self._ways
        self._ways = {color: before.get(color) or way_of(color) for color in colors}
        self._way_of = {color.name: way for color, way in self._ways.items()}
        for target in set(self._checks) - set(wanted):
            self._forget(target)
        for target, probe in wanted.items():
            known = self._checks.get(target)
            if known is not None and known.probe == probe:
                continue
            if known is None:
                verdict = Verdict(probe.rise, probe.fall)
            else:
                verdict = known.verdict.begin_again(probe.rise, probe.fall)
                self._forget(target)
            self._begin(target, probe, verdict)

    def is_settled(self, targets: Iterable[Target]) -> bool:
        """Whether each of these was checked once, or was waited for long enough."""
        now = asyncio.get_running_loop().time()
        checks = [self._checks[target] for target in targets if target in self._checks]
        return all(one.verdict.is_known or now >= one.due for one in checks)

    def is_unhealthy(self, target: Target) -> bool:
        """Whether the checks say that an endpoint should get no requests."""
        known = self._checks.get(target)
        return known is not None and known.verdict.is_unhealthy

    def has_passed(self, target: Target) -> bool:
        """Whether an endpoint is checked, and is healthy by it."""
        known = self._checks.get(target)
        return known is not None and known.verdict.state == HEALTHY

    def reason(self, target: Target) -> str:
        """Return what is wrong with an endpoint, if only since its last check; empty if nothing is known."""
        known = self._checks.get(target)
        return known.reason if known is not None else ""

    async def close(self) -> None:
        """Stop checking."""
        tasks = [one.task for one in self._checks.values() if one.task]
        self.apply({}, "")
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, target: Target, probe: Probe, verdict: Verdict) -> None:
        loop = asyncio.get_running_loop()
        made = _Check(probe, verdict, loop.time() + SETTLE_TIMEOUTS * probe.timeout_s)
        made.task = loop.create_task(self._watch(target, made))
        self._checks[target] = made

    def _forget(self, target: Target) -> None:
        task = self._checks.pop(target).task
        if task is not None:
            task.cancel()

    async def _watch(self, target: Target, one: _Check) -> None:
        loop, probe = asyncio.get_running_loop(), one.probe
        await asyncio.sleep(_chance(0.0, min(JITTER * probe.interval_s, probe.timeout_s / 2)))
        pause_s = _chance(probe.interval_s / 2, probe.interval_s)
        while True:
            async with self._room:
                begun = loop.time()
                reason = await check(
                    target, probe, self._color_header, self._plans, self._way_of.get(target.color, DIRECT)
                )
            self._note(target, one, reason)
            await asyncio.sleep(max(0.0, begun + pause_s - loop.time()))
            pause_s = probe.interval_s * _chance(1 - JITTER, 1 + JITTER)

    def _note(self, target: Target, one: _Check, reason: str) -> None:
        self.results[target.color, "failed" if reason else "ok"] += 1
        was_unhealthy = one.verdict.is_unhealthy
        is_news = one.verdict.note(not reason)
        # One that is unhealthy is so for what was wrong last, until enough checks were good.
        if reason or not one.verdict.is_unhealthy:
            one.reason = reason
        if not is_news:
            return
        if one.verdict.is_unhealthy:
            logs.warning("endpoint is unhealthy", color=target.color, endpoint=target.endpoint, reason=reason)
        elif was_unhealthy:
            logs.info("endpoint is healthy again", color=target.color, endpoint=target.endpoint)
            self._returned(target)
        else:
            logs.debug("endpoint is healthy", color=target.color, endpoint=target.endpoint)
        self._changed()


def probes_of(config: Config, endpoints: Mapping[str, tuple[Address, ...]]) -> dict[Target, Probe]:
    """Return what is to be checked, and how."""
    return {
        target: color.probe for color, _, target in targets_of(config, endpoints) if color.probe is not None
    }


def _chance(least: float, most: float) -> float:
    return random.uniform(least, most)  # noqa: S311  (chance, not a secret)
