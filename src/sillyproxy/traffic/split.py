"""
Choose the color that answers a request.

A `Split` is made once per configuration from the colors' weights. Every worker has its
own and starts it somewhere else, so choosing takes no lock and no message, and replicas
do not march in step.

Turns are the multiples of the golden ratio modulo 1 (Weyl's equidistribution; a
Kronecker sequence of the number worst approximated by fractions), held against the
cumulative shares. Of N turns in a row any share gets N times its size to within a few,
for every N and every start: the discrepancy grows as log N. No color comes in bursts,
weights need not be whole numbers, and a turn costs one addition. A random draw would
give a canary of 1 % between 4 and 16 of a thousand requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GOLDEN: Final = 0.6180339887498949


class Split:
    """
    The shares of one configuration, in the order of its colors.

    >>> split = Split([4, 1], start=0.0)
    >>> [split.pick() for _ in range(10)]
    [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    """

    __slots__ = ("_limits", "_turn", "shares")

    def __init__(self, weights: Sequence[float], start: float) -> None:
        """Weights are >= 0 and finite; `start` is in [0, 1)."""
        total = sum(weights)
        self.shares: tuple[float, ...] = tuple(weight / total if total else 0.0 for weight in weights)
        self._turn = start
        limits = []
        limit = 0.0
        for index, share in enumerate(self.shares):
            limit += share
            if share:
                limits.append((limit, index))
        if limits:
            # Rounding may leave the last limit below the highest turn.
            limits[-1] = (2.0, limits[-1][1])
        self._limits = tuple(limits)

    def go_on_from(self, other: Split) -> None:
        """Take the turn after another split's last, so that a new configuration begins no new sequence."""
        self._turn = other._turn

    def pick(self) -> int:
        """Return the index of the color whose turn it is; -1 when every weight is 0."""
        turn = self._turn + GOLDEN
        if turn >= 1.0:
            turn -= 1.0
        self._turn = turn
        for limit, index in self._limits:
            if turn < limit:
                return index
        return -1
