"""
Percentiles of durations that were counted in buckets, and how far they can be trusted.

A percentile is the middle of the bucket that it falls in: the point from which both edges are
equally far in proportion, as in DDSketch (Masson, Rim, Lee, "DDSketch", VLDB 2019). At 32 buckets
to an octave it is at most 1.6 % away from the percentile of the raw durations, whatever their
distribution. Interpolation within a bucket is often better and can be twice as bad: where most
requests take the same time, and a median is asked for, they are all at one edge.

Only below the first bucket's edge, and past the last one's, is there no such promise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from math import ceil, erfc, exp, floor, lgamma, log, log1p, sqrt
from typing import Final, NamedTuple

from sillyproxy.metrics.layout import bucket_limit_ns

# Standard deviations on both sides: a true value is outside once in 20 times, and once in 1000.
Z95: Final = 1.959964
Z999: Final = 3.290527

# From this variance of a binomial on its quantiles are taken from the normal distribution, with
# Cornish and Fisher's correction for skewness: by then that is off by less than one rank.
_MANY: Final = 150.0


class Interval(NamedTuple):
    """
    An estimate and between what the true value is, in ms.

    `high` is None where so few were counted that the true value may be anything above `low`.
    """

    value: float
    low: float
    high: float | None


class Distribution:
    """
    Durations, from counts by bucket.

    >>> from sillyproxy.metrics.layout import bucket_of
    >>> durations = Distribution({bucket_of(2_000_000): 90, bucket_of(30_000_000): 10})
    >>> [round(durations.quantile(part)) for part in (0.5, 0.9, 0.91)]
    [2, 2, 30]
    """

    def __init__(self, counts: Mapping[int, int]) -> None:
        self._buckets = sorted(counts)
        self._cumulated = list(accumulate(counts[bucket] for bucket in self._buckets))

    @property
    def total(self) -> int:
        """How many were counted."""
        return self._cumulated[-1] if self._cumulated else 0

    def quantile(self, part: float) -> float | None:
        """Return the duration that `part` of all took at most, in ms; None if none were counted."""
        if not self.total:
            return None
        low, high = self._edges(rank_of(part, self.total))
        return 2 * low * high / (low + high) if low else high / 2

    def interval(self, part: float, z: float) -> Interval | None:
        """
        Return the quantile with its confidence interval; None if none were counted.

        How many of n durations are below the true quantile is binomial, whatever their
        distribution; so the durations of certain ranks enclose it (Hahn and Meeker, "Statistical
        Intervals", 5.2). Of those, the far edges of their buckets: what is lost by counting in
        buckets is in it.
        """
        value = self.quantile(part)
        if value is None:
            return None
        first, last = ranks(part, self.total, z)
        low = self._edges(first)[0] if first else 0.0
        high = self._edges(last)[1] if last is not None else None
        return Interval(value, low, high)

    def _edges(self, rank: int) -> tuple[float, float]:
        """Return the edges of the bucket with the duration of this rank, counted from 1; ms."""
        bucket = self._buckets[bisect_left(self._cumulated, rank)]
        return (bucket_limit_ns(bucket - 1) / 1e6 if bucket else 0.0), bucket_limit_ns(bucket) / 1e6


def rank_of(part: float, total: int) -> int:
    """
    Return which of `total` values in order is the quantile: the first that `part` of all do not exceed.

    >>> rank_of(0.95, 100), rank_of(0.951, 100), rank_of(0.5, 1)
    (95, 96, 1)
    """
    # 0.07 * 100 is a little more than 7; that is not what was asked.
    return min(max(1, ceil(part * total - 1e-12 * total)), total)


def ranks(part: float, total: int, z: float) -> tuple[int, int | None]:
    """
    Return the ranks whose values enclose the true quantile, with the confidence of `z`.

    0, if no value is surely below it; None, if none is surely above.

    >>> ranks(0.5, 100, Z95), ranks(0.99, 100, Z95)
    ((40, 61), (97, None))
    """
    first = _most(total, part, z) + 1
    last = total - _most(total, 1 - part, z)
    return first, last if last <= total else None


def _most(total: int, part: float, z: float) -> int:
    """
    Return the largest k that a binomial is at most with no more than the chance of one tail.

    -1 if even 0 is more probable than that.
    """
    mean, variance = total * part, total * part * (1 - part)
    if variance > _MANY:
        skew = (z * z - 1) * (1 - 2 * part) / 6
        return floor(mean - z * sqrt(variance) + skew - 0.5)
    tail = erfc(z / sqrt(2)) / 2
    # Begun where there is nothing yet: at 0 the chance may be too small for a float.
    k = max(0, floor(mean - 15 * sqrt(variance) - 15))
    chance = exp(
        lgamma(total + 1) - lgamma(k + 1) - lgamma(total - k + 1) + k * log(part) + (total - k) * log1p(-part)
    )
    below, odds = chance, part / (1 - part)
    while below <= tail and k < total:
        chance *= (total - k) / (k + 1) * odds
        k += 1
        below += chance
    return k - 1
