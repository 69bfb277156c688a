"""
A color at work: its endpoints, and which of them gets the next request.

The balance is the power of two choices (Mitzenmacher, 2001): of two endpoints the one
with fewer exchanges under way. The first of the two comes in turn, the second by
chance, so that an idle color still goes round evenly, and a slow endpoint is found out
by its queue without anybody measuring it. One that starts slowly is passed over by chance,
the more often the newer it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from sillyproxy.traffic.endpoint import NEVER_NS, Endpoint

NO_LIMIT: Final = 1 << 30


class ColorAtWork:
    """
    One color of one generation.

    `slot` is its row in the counts, `row` the counts themselves, put here by whoever counts;
    `field` the header line that tells the backend its color. `endpoints` is replaced as a
    whole when discovery finds others; `leaving` are those that are gone and were still busy.
    No endpoint is given more than `limit` exchanges at a time; `threshold` is the same, or 0 while
    somebody waits already, so that nobody is served before. `window_ends_ns` and `slow_from_ns`
    are `outlier`'s: when it halves its memory, and from when on an answer is far too late.
    """

    __slots__ = (
        "_next",
        "endpoints",
        "field",
        "label",
        "leaving",
        "limit",
        "name",
        "row",
        "slot",
        "slow_from_ns",
        "threshold",
        "weight",
        "window_ends_ns",
    )

    def __init__(self, name: str, slot: int, weight: float, field: bytes, limit: int = NO_LIMIT) -> None:
        self.name = name
        self.label = name.encode()
        self.slot = slot
        self.weight = weight
        self.field = field
        self.limit = self.threshold = limit
        self.window_ends_ns = 0
        self.slow_from_ns = NEVER_NS
        self.endpoints: tuple[Endpoint, ...] = ()
        self.leaving: tuple[Endpoint, ...] = ()
        self._next = 0
        self.row: list[int] = []

    def pick(self, random: Callable[[], float], now_ns: int) -> Endpoint | None:
        """
        Return the endpoint for the next request; None if the color has none, or none may be used.

        Whether it has room for one more (`limit`) is the caller's to look at.
        """
        endpoints = self.endpoints
        if len(endpoints) == 1:
            endpoint = endpoints[0]
            return endpoint if endpoint.back_at_ns <= now_ns else None
        if not endpoints:
            return None
        count = len(endpoints)
        self._next = turn = (self._next + 1) % count
        first = endpoints[turn]
        second = endpoints[(turn + 1 + int(random() * (count - 1))) % count]
        if second.inflight < first.inflight:
            first, second = second, first
        if first.full_from_ns <= now_ns or random() < first.share(now_ns):
            return first
        if second.full_from_ns <= now_ns or random() < second.share(now_ns):
            return second
        return self.pick_other((), now_ns)

    def pick_other(
        self, tried: Collection[Endpoint], now_ns: int, *, desperate: bool = False
    ) -> Endpoint | None:
        """
        Return the least busy endpoint that is not among `tried`; None if there is none.

        One that starts slowly only if all do. With `desperate` also one that is avoided or
        ejected: when nothing else is left, asking it is better than giving up. Never one that
        is unhealthy: it has asked for peace by itself.
        """
        best: Endpoint | None = None
        best_rank = (False, 0)
        for endpoint in self._in_turn():
            if endpoint in tried or endpoint.unhealthy or not (desperate or endpoint.back_at_ns <= now_ns):
                continue
            rank = (not desperate and endpoint.full_from_ns > now_ns, endpoint.inflight)
            if best is None or rank < best_rank:
                best, best_rank = endpoint, rank
        return best

    def why_nobody(self, now_ns: int) -> str:
        """Return in words why no endpoint can be used; empty if one can."""
        if not self.endpoints:
            return "no endpoints"
        unhealthy = sum(endpoint.unhealthy for endpoint in self.endpoints)
        avoided = sum(not endpoint.is_eligible(now_ns) for endpoint in self.endpoints) - unhealthy
        if unhealthy + avoided < len(self.endpoints):
            return ""
        parts = [f"{unhealthy} unhealthy"] * (unhealthy > 0) + [f"{avoided} avoided"] * (avoided > 0)
        return f"of {len(self.endpoints)} endpoints {' and '.join(parts)}"

    def pick_free(self, now_ns: int, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the least busy endpoint with room for one more that was not tried; None if there is none."""
        free = [
            e for e in self.endpoints if e.inflight < self.limit and e.back_at_ns <= now_ns and e not in tried
        ]
        return min(free, key=lambda endpoint: endpoint.inflight, default=None)

    def _in_turn(self) -> Sequence[Endpoint]:
        turn = self._next % len(self.endpoints) if self.endpoints else 0
        return self.endpoints[turn:] + self.endpoints[:turn]
