"""
A color at work: its endpoints, and which of them gets the next request.

The balance is the power of two choices (Mitzenmacher, 2001): of two endpoints the one
with fewer exchanges under way. The first of the two comes in turn, the second by
chance, so that an idle color still goes round evenly, and a slow endpoint is found out
by its queue without anybody measuring it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sillyproxy.traffic.endpoint import Endpoint


class ColorAtWork:
    """
    One color of one generation.

    `slot` is its row in the counts, `row` the counts themselves, put here by whoever counts;
    `field` the header line that tells the backend its color. `endpoints` is replaced as a
    whole when discovery finds others; `leaving` are those that are gone and were still busy.
    """

    __slots__ = ("_next", "endpoints", "field", "label", "leaving", "name", "row", "slot", "weight")

    def __init__(self, name: str, slot: int, weight: float, field: bytes) -> None:
        self.name = name
        self.label = name.encode()
        self.slot = slot
        self.weight = weight
        self.field = field
        self.endpoints: tuple[Endpoint, ...] = ()
        self.leaving: tuple[Endpoint, ...] = ()
        self._next = 0
        self.row: list[int] = []

    def pick(self, random: Callable[[], float], now_ns: int) -> Endpoint | None:
        """Return the endpoint for the next request; None if the color has none, or avoids them all."""
        endpoints = self.endpoints
        if len(endpoints) == 1:
            endpoint = endpoints[0]
            return endpoint if endpoint.avoided_until_ns <= now_ns else None
        if not endpoints:
            return None
        count = len(endpoints)
        self._next = turn = (self._next + 1) % count
        first = endpoints[turn]
        second = endpoints[(turn + 1 + int(random() * (count - 1))) % count]
        if second.inflight < first.inflight:
            first, second = second, first
        if first.avoided_until_ns <= now_ns:
            return first
        if second.avoided_until_ns <= now_ns:
            return second
        return self.pick_other((), now_ns)

    def pick_other(
        self, tried: Collection[Endpoint], now_ns: int, *, desperate: bool = False
    ) -> Endpoint | None:
        """
        Return the least busy endpoint that is not among `tried`; None if there is none.

        With `desperate` also one that is avoided: when nothing else is left, asking it is
        better than giving up.
        """
        best: Endpoint | None = None
        for endpoint in self._in_turn():
            if endpoint in tried or not (desperate or endpoint.avoided_until_ns <= now_ns):
                continue
            if best is None or endpoint.inflight < best.inflight:
                best = endpoint
        return best

    def _in_turn(self) -> Sequence[Endpoint]:
        turn = self._next % len(self.endpoints) if self.endpoints else 0
        return self.endpoints[turn:] + self.endpoints[:turn]
