"""Every endpoint is asked, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import pytest

from sillyproxy.config.schema import Probe
from sillyproxy.health import checks
from sillyproxy.health.checks import Health
from sillyproxy.health.target import Target
from tests.health.backend import BAD, OK, backend, dead_target, wait_until

FAST = Probe("/", interval_s=0.05, timeout_s=5.0, rise=2, fall=3)


class News:
    def __init__(self) -> None:
        self.count = 0
        self.returned: list[Target] = []

    def note(self) -> None:
        self.count += 1


@asynccontextmanager
async def checking(news: News | None = None) -> AsyncIterator[Health]:
    news = news or News()
    health = Health(news.note, news.returned.append)
    try:
        yield health
    finally:
        await health.close()


async def test_endpoint_falls_and_rises() -> None:
    """An endpoint that begins to fail is unhealthy after `fall` checks, and healthy again after `rise`."""
    news = News()
    async with backend() as server, checking(news) as health:
        target = server.target()
        health.apply({target: FAST}, "Color")
        await wait_until(lambda: health.has_passed(target))
        server.answer = BAD
        asked = len(server.heads)
        await wait_until(lambda: health.is_unhealthy(target))
        # One more may have been under way, with the old answer.
        assert 3 <= len(server.heads) - asked <= 4
        assert health.reason(target) == "status 503"
        assert not news.returned
        server.answer = OK
        await wait_until(lambda: health.has_passed(target))
        assert news.returned == [target]
        assert news.count == 3
        assert health.reason(target) == ""
        assert health.results["blue", "ok"] + health.results["blue", "failed"] == len(server.heads)


async def test_new_endpoint_that_fails_is_unhealthy_at_once() -> None:
    """An endpoint that fails its first check is not tried out on clients."""
    async with checking() as health:
        target = dead_target()
        health.apply({target: FAST}, "Color")
        assert not health.is_unhealthy(target)
        await wait_until(lambda: health.is_unhealthy(target))
        assert health.results["blue", "failed"] == 1
        assert health.reason(target) == "refused"


async def test_interval_is_from_start_to_start() -> None:
    """An endpoint that takes a while to answer is asked as often as one that answers at once."""
    async with backend() as server, checking() as health:
        server.delay_s = 0.5
        health.apply({server.target(): Probe("/", interval_s=0.8, timeout_s=5.0)}, "Color")
        await wait_until(lambda: len(server.times) >= 5)
        assert server.times[4] - server.times[1] < 3 * 1.15  # 0.8 from start to start, 1.3 from the end


async def test_endpoint_is_asked_one_check_at_a_time() -> None:
    """An endpoint that hangs for longer than the interval does not get a second check beside the first."""
    async with backend(None) as server, checking() as health:
        health.apply({server.target(): Probe("/", interval_s=0.05, timeout_s=0.5)}, "Color")
        await wait_until(lambda: len(server.times) >= 4)
        assert min(later - earlier for earlier, later in pairwise(server.times)) > 0.25


async def test_checks_are_spread() -> None:
    """Endpoints are not asked in step: after the first round their checks lie apart."""
    probe = Probe("/", interval_s=1.0, timeout_s=5.0)
    async with backend() as server, checking() as health:
        colors = [f"c{n}" for n in range(20)]
        health.apply({server.target(color): probe for color in colors}, "Color")
        await wait_until(lambda: len(server.times) >= 40)
        second = sorted(server.times)[20:40]
        assert max(second) - min(second) > 0.1


async def test_no_more_than_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many endpoints hang, only so many checks are under way."""
    monkeypatch.setattr(checks, "UNDER_WAY", 4)
    async with backend(None) as server, checking() as health:
        probe = Probe("/", interval_s=0.05, timeout_s=0.3)
        health.apply({server.target(f"c{n}"): probe for n in range(20)}, "Color")
        await wait_until(lambda: len(server.heads) >= 12)
        assert server.most <= 8  # four, and four whose end the server has not seen yet


async def test_reload_keeps_what_is_known() -> None:
    """A new configuration in which an endpoint and its probe stay changes nothing about it."""
    async with backend(BAD) as server, checking() as health:
        target = server.target()
        slow = Probe("/", interval_s=600.0, timeout_s=5.0)
        health.apply({target: slow}, "Color")
        await wait_until(lambda: health.is_unhealthy(target))
        for _ in range(10):
            health.apply({target: slow, dead_target("green"): slow}, "Color")
            health.apply({target: slow}, "Color")
            assert health.is_unhealthy(target)
            await asyncio.sleep(0.01)
        assert len(server.heads) == 1


async def test_other_probe_is_asked_at_once() -> None:
    """An endpoint that a wrong probe had taken out is back with the first good check of the right one."""
    async with backend(BAD) as server, checking() as health:
        target = server.target()
        health.apply({target: Probe("/typo", interval_s=600.0, timeout_s=5.0)}, "Color")
        await wait_until(lambda: health.is_unhealthy(target))
        server.answer = OK
        health.apply({target: Probe("/right", interval_s=5.0, timeout_s=5.0)}, "Color")
        assert health.is_unhealthy(target)
        await wait_until(lambda: health.has_passed(target))


async def test_endpoint_that_left_is_forgotten() -> None:
    """An endpoint that leaves is not asked any more; if it comes back, it begins anew."""
    async with backend(BAD) as server, checking() as health:
        target = server.target()
        health.apply({target: FAST}, "Color")
        await wait_until(lambda: health.is_unhealthy(target))
        health.apply({}, "Color")
        assert not health.is_unhealthy(target)
        await wait_until(lambda: not server.open)
        asked = len(server.heads)
        await asyncio.sleep(0.3)
        assert len(server.heads) == asked


async def test_first_checks_are_waited_for_but_not_for_ever() -> None:
    """Until an endpoint was checked nothing is known of it; who waits for that waits two timeouts at most."""
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(backend())
        hung = await stack.enter_async_context(backend(None))
        health = await stack.enter_async_context(checking())
        health.apply(
            {
                good.target(): Probe("/", interval_s=60.0, timeout_s=5.0),
                hung.target("green"): Probe("/", interval_s=60.0, timeout_s=0.2),
            },
            "Color",
        )
        both = [good.target(), hung.target("green")]
        assert not health.is_settled(both)
        await wait_until(lambda: health.is_settled(both))
        assert health.has_passed(both[0])
        assert health.is_settled([dead_target()])  # nobody checks it
