"""
What the workers' traffic ejected, for all of them to know.

A worker that finds an outlier says so; the others are told, and so are workers that start
later. That it happened is remembered for ten terms after its end, because who is ejected
again stays away for longer. Time is an argument: the monotonic clock that all processes
of a machine share; ns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sillyproxy.health.target import Target
from sillyproxy.tools.channel import Ejection

# As long as the longest term: who has behaved for so many terms begins anew.
REMEMBERED_TERMS: Final = 10


class Held(NamedTuple):
    """One endpoint's newest ejection, and why."""

    ejection: Ejection
    reason: str


class Ejections:
    """The ejections of all colors, those that are over and not forgotten among them."""

    def __init__(self) -> None:
        self._held: dict[Target, Held] = {}

    def note(
        self, target: Target, siblings: Sequence[Target], ejection: Ejection, reason: str, now_ns: int
    ) -> bool:
        """
        Note what a worker says. Return whether it is news and holds.

        Two workers that find the same thing at the same time mean one ejection: the later
        end and the higher count hold. Never more than half of the color's endpoints, its
        `siblings` and itself, are ejected at a time.
        """
        known = self._held.get(target)
        if known is not None:
            ejection = Ejection(
                max(ejection.until_ns, known.ejection.until_ns), max(ejection.times, known.ejection.times)
            )
            if ejection == known.ejection:
                return False
        out = {one for one in siblings if self.is_ejected(one, now_ns)} | {target}
        if ejection.until_ns > now_ns and 2 * len(out) > len({*siblings, target}):
            return False
        self._held[target] = Held(ejection, reason)
        return True

    def get(self, target: Target) -> Held | None:
        """Return an endpoint's newest ejection, over or not; None if there is none to remember."""
        return self._held.get(target)

    def is_ejected(self, target: Target, now_ns: int) -> bool:
        """Whether an endpoint is ejected at `now_ns`."""
        known = self._held.get(target)
        return known is not None and known.ejection.until_ns > now_ns

    def end(self, target: Target, now_ns: int) -> None:
        """End an endpoint's term: it has proved itself."""
        known = self._held.get(target)
        if known is not None and known.ejection.until_ns > now_ns:
            self._held[target] = Held(Ejection(now_ns, known.ejection.times), known.reason)

    def tidy(self, colors: Mapping[str, Sequence[Target]], term_ns: int, now_ns: int) -> None:
        """Forget what is gone, what is long over, and what would hold more than half of a color."""
        present = {target for targets in colors.values() for target in targets}
        for target, held in list(self._held.items()):
            over_ns = now_ns - held.ejection.until_ns
            if target not in present or over_ns > REMEMBERED_TERMS * term_ns:
                del self._held[target]
        for targets in colors.values():
            out = [target for target in dict.fromkeys(targets) if self.is_ejected(target, now_ns)]
            out.sort(key=lambda target: self._held[target].ejection.until_ns, reverse=True)
            for target in out[len(set(targets)) // 2 :]:
                self.end(target, now_ns)
