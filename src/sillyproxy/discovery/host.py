"""
One host name and the addresses it has at the moment.

In a Swarm a service's name is one virtual address, behind which the kernel spreads
connections; `tasks.<name>` is an address per replica, which is what keep-alive and an
even balance need. So `auto` asks for that first, for a name that can be a service's (it
has no dot). Elsewhere `tasks.<name>` does not exist, and asking for it with every look-up
would double the load of the DNS, so a "no" is remembered for a while.

A look-up that fails changes nothing: addresses that were good are better than none, and
whether they still are, the workers find out faster than any DNS.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final, Protocol

from sillyproxy.config.schema import Discovery as Mode
from sillyproxy.tools import logs
from sillyproxy.tools.dns import LookupFailed

# How long `tasks.<name>` is not asked for again after a "no", and, where it has answered
# before, how long it must have been gone before the plain name, its virtual address, will do.
NO_TASKS_S: Final = 5.0
TASKS_TIMEOUT_S: Final = 1.0
# A name that fails is asked for again after one interval, then two, but after no more than this (or one
# interval, if that is longer): a service that is created now should serve in a moment.
LONGEST_PAUSE_S: Final = 2.0


class Lookup(Protocol):
    """How to ask for a name."""

    async def __call__(self, name: str, timeout_s: float | None = None) -> list[str]:
        """Return its addresses, one at least; raise LookupFailed."""


def is_literal(host: str) -> bool:
    """
    Whether a host is an address already; the path of a unix socket is one.

    >>> is_literal("127.0.0.1"), is_literal("::1"), is_literal("myapp")
    (True, True, False)
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.startswith("/")
    return True


def sort_addresses(addresses: list[str]) -> tuple[str, ...]:
    """
    Return addresses without repetition, in an order of their own: the same set looks the same.

    >>> sort_addresses(["10.0.0.10", "::1", "10.0.0.9", "10.0.0.9"])
    ('10.0.0.9', '10.0.0.10', '::1')
    """
    parsed = {ipaddress.ip_address(address) for address in addresses}
    return tuple(str(address) for address in sorted(parsed, key=lambda one: (one.version, one)))


class Host:
    """A name that is looked up. `addresses` are the last good ones, `problem` why there are no newer ones."""

    def __init__(self, name: str, mode: Mode, lookup: Lookup, clock: Callable[[], float]) -> None:
        self.name = name
        self.addresses: tuple[str, ...] = (name,) if is_literal(name) else ()
        self.problem = ""
        self.failures = 0
        self._is_no_name = False
        self._mode = mode
        self._lookup = lookup
        self._clock = clock
        self._may_have_tasks = mode == "auto" and "." not in name and name.lower() != "localhost"
        self._has_tasks = False
        self._no_tasks_since = float("-inf")

    def pause_s(self, interval_s: float) -> float:
        """Return the time from the last look-up to the next."""
        longer: float = interval_s * 2 ** min(max(0, self.failures - 1), 10)
        return min(longer, max(interval_s, LONGEST_PAUSE_S))

    def is_settled(self) -> bool:
        """Whether it has been looked up once, well or badly."""
        return bool(self.addresses) or self.failures > 0

    def is_known(self) -> bool:
        """Whether it is known what its addresses are, or that there are none; not if nobody could say."""
        return bool(self.addresses) or self._is_no_name

    async def refresh(self) -> bool:
        """Look the name up once. Return whether anything about it is news."""
        try:
            found = await self._find()
        except LookupFailed as error:
            self.failures += 1
            # That there is no such name, and that nobody can say, are two things; how exactly nobody can
            # say may change with every look-up, and is not.
            is_news = not self.problem or self._is_no_name != error.is_final
            self._is_no_name, self.problem = error.is_final, str(error)
            if not is_news:
                return False
            logs.warning("cannot resolve", name=self.name, reason=self.problem, kept=len(self.addresses))
            return True
        recovered = bool(self.problem)
        self.failures, self.problem = 0, ""
        if found == self.addresses:
            if recovered:
                logs.info("resolved again", name=self.name, addresses=len(found))
            return recovered
        gone, new = set(self.addresses) - set(found), set(found) - set(self.addresses)
        logs.info(
            "resolved",
            name=self.name,
            addresses=len(found),
            new=",".join(sort_addresses(list(new))),
            gone=",".join(sort_addresses(list(gone))),
        )
        self.addresses = found
        return True

    async def _find(self) -> tuple[str, ...]:
        if self._may_have_tasks:
            tasks = await self._find_tasks()
            if tasks is not None:
                return tasks
        try:
            found = await self._lookup(self.name)
        except LookupFailed:
            # If it is created now, then perhaps as a service: the next look-up asks for its tasks at once.
            if not self._has_tasks:
                self._no_tasks_since = float("-inf")
            raise
        return tuple(found[:1]) if self._mode == "off" else sort_addresses(found)

    async def _find_tasks(self) -> tuple[str, ...] | None:
        """Return the addresses of the replicas; None if the plain name is to be asked."""
        now = self._clock()
        if not self._has_tasks and now - self._no_tasks_since < NO_TASKS_S:
            return None
        try:
            found = sort_addresses(await self._lookup(f"tasks.{self.name}", timeout_s=TASKS_TIMEOUT_S))
        except LookupFailed as error:
            if not self._has_tasks:
                self._no_tasks_since = now
                return None
            # It is a service of the Swarm. Its virtual address is no better than its last replicas,
            # unless the service is gone and something else has its name.
            if not error.is_final:
                raise
            if self._no_tasks_since == float("-inf"):
                self._no_tasks_since = now
            if now - self._no_tasks_since < NO_TASKS_S:
                raise
            self._has_tasks = False
            self._no_tasks_since = now
            return None
        self._has_tasks = True
        self._no_tasks_since = float("-inf")
        return found
