"""
What a row of good and bad checks means for one endpoint.

    NEW        counts as healthy: nothing is known            good → HEALTHY, bad → STARTING
    STARTING   unhealthy, and was never seen healthy          good → HEALTHY
    HEALTHY                                                   `fall` bad in a row → UNHEALTHY
    UNHEALTHY                                                 `rise` good in a row → HEALTHY

The first check decides at once, as in HAProxy and Envoy: a new endpoint that works should
not wait for `rise` checks, and one that does not work should not be tried out on clients
until it has failed `fall`. One that is still starting is let in with its first good check.
"""

from __future__ import annotations

from typing import Final

NEW: Final = "new"
STARTING: Final = "starting"
HEALTHY: Final = "healthy"
UNHEALTHY: Final = "unhealthy"

GOOD: Final = "good"
BAD: Final = "bad"

ONCE: Final = "once"
RISE: Final = "rise"
FALL: Final = "fall"

# In a state: the check that moves it, how many of them in a row, and where to.
TRANSITIONS: Final = {
    NEW: {GOOD: (ONCE, HEALTHY), BAD: (ONCE, STARTING)},
    STARTING: {GOOD: (ONCE, HEALTHY)},
    HEALTHY: {BAD: (FALL, UNHEALTHY)},
    UNHEALTHY: {GOOD: (RISE, HEALTHY)},
}


class Verdict:
    """
    The state of one endpoint, `rise` and `fall` being its probe's.

    >>> verdict = Verdict(rise=2, fall=2)
    >>> [verdict.note(good) for good in (True, False, False, True, True)]
    [True, False, True, False, True]
    """

    __slots__ = ("_in_a_row", "_needed", "state")

    def __init__(self, rise: int, fall: int, state: str = NEW) -> None:
        self.state = state
        self._needed = {ONCE: 1, RISE: rise, FALL: fall}
        self._in_a_row = 0

    @property
    def is_unhealthy(self) -> bool:
        """Whether the endpoint is to get no requests."""
        return self.state in (STARTING, UNHEALTHY)

    @property
    def is_known(self) -> bool:
        """Whether it was ever checked."""
        return self.state != NEW

    def note(self, good: bool) -> bool:
        """Note a check. Return whether it changed the state."""
        step = TRANSITIONS[self.state].get(GOOD if good else BAD)
        if step is None:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        needed, state = step
        if self._in_a_row < self._needed[needed]:
            return False
        self.state = state
        self._in_a_row = 0
        return True

    def begin_again(self, rise: int, fall: int) -> Verdict:
        """
        Return the verdict for the same endpoint under another probe.

        What served goes on serving until the new probe says otherwise as often as it must;
        what did not is let in by the new probe's first good check: the old may have been wrong.
        """
        return Verdict(rise, fall, STARTING if self.is_unhealthy else self.state)
