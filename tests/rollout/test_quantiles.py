"""Percentiles: as near to those of the raw durations as promised, and as sure as they say."""

from __future__ import annotations

import random
from collections import Counter
from math import comb

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sillyproxy.metrics.layout import BUCKETS, bucket_limit_ns, bucket_of
from sillyproxy.rollout.quantiles import Z95, Z999, Distribution, rank_of, ranks

PARTS = (0.5, 0.95, 0.99)
FIRST_NS, LAST_NS = bucket_limit_ns(0), bucket_limit_ns(BUCKETS - 1)
# Half of the widest bucket, which is the first of an octave.
NEAR = max(
    (high - low) / (high + low)
    for low, high in ((bucket_limit_ns(n - 1), bucket_limit_ns(n)) for n in range(1, BUCKETS))
)


def count(durations_ns: list[int]) -> Distribution:
    return Distribution(Counter(bucket_of(duration) for duration in durations_ns))


def raw(durations_ns: list[int], part: float) -> float:
    """Return the percentile by its definition: the nearest rank; ms."""
    return sorted(durations_ns)[rank_of(part, len(durations_ns)) - 1] / 1e6


def test_buckets_are_narrow_enough() -> None:
    """Percentiles are within 3 % of the raw ones because no bucket is wider than that allows."""
    assert NEAR < 0.032


@given(
    st.lists(st.integers(FIRST_NS, LAST_NS - 1), min_size=1, max_size=200),
    st.sampled_from([0.01, *PARTS, 0.999, 1.0]),
)
@example([FIRST_NS], 0.5)
@example([LAST_NS - 1], 0.99)
def test_percentile_is_near_the_raw_one(durations_ns: list[int], part: float) -> None:
    """Whatever the durations, a percentile is at most half a bucket away from that of the raw ones."""
    wanted = raw(durations_ns, part)
    assert count(durations_ns).quantile(part) == pytest.approx(wanted, rel=NEAR + 1e-9)


@given(st.lists(st.integers(0, 2 * LAST_NS), min_size=1, max_size=50), st.lists(st.floats(0.001, 1)))
def test_percentiles_are_in_order(durations_ns: list[int], parts: list[float]) -> None:
    """p50 is never above p95, nor p95 above p99."""
    distribution = count(durations_ns)
    shown = [distribution.quantile(part) or 0.0 for part in sorted(parts)]
    assert shown == sorted(shown)


def test_no_requests_have_no_percentile() -> None:
    """Where nothing was counted there is no percentile, and it is not 0 ms."""
    assert Distribution({}).quantile(0.5) is None
    assert Distribution({}).interval(0.5, Z95) is None


@given(st.integers(1, 10**7), st.sampled_from(PARTS))
def test_rank_is_exact(total: int, part: float) -> None:
    """The 95th percentile of 100 values is the 95th, whatever floating point makes of 0.95."""
    wanted = -(-total * round(part * 100) // 100)
    assert rank_of(part, total) == wanted


def chance_below(total: int, part: float, rank: int) -> float:
    """Return the exact chance that fewer than `rank` of `total` durations are below the true quantile."""
    return sum(comb(total, k) * part**k * (1 - part) ** (total - k) for k in range(rank))


@pytest.mark.parametrize("z", [Z95, Z999])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("total", [1, 2, 10, 30, 31, 99, 400, 599, 601, 700, 1000])
def test_ranks_are_those_of_the_exact_binomial(total: int, part: float, z: float) -> None:
    """
    The interval of a percentile is as sure as it says, exactly: each side is missed with half of the chance
    that is left, and one rank closer it would be too often.
    """
    tail = {Z95: 0.025, Z999: 0.0005}[z]
    first, last = ranks(part, total, z)

    slack = 1.05  # the normal distribution takes over where there are many
    assert chance_below(total, part, first) <= tail * slack
    assert chance_below(total, part, first + 1) > tail / slack
    if last is None:
        assert 1 - chance_below(total, part, total) > tail / slack
    else:
        assert 1 - chance_below(total, part, last) <= tail * slack
        assert 1 - chance_below(total, part, last - 1) > tail / slack


@pytest.mark.parametrize(("z", "least"), [(Z95, 0.94), (Z999, 0.997)])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("size", [30, 120, 2000])
def test_interval_holds_the_true_percentile_as_often_as_it_says(
    size: int, part: float, z: float, least: float
) -> None:
    """Of a thousand canaries the true percentile is in the interval of 950, or of 999 with the surer one."""
    chance = random.Random(20251)
    true_ms = {
        0.5: 10.0,
        0.95: 10 * 2.718281828 ** (0.8 * 1.644854),
        0.99: 10 * 2.718281828 ** (0.8 * 2.326348),
    }
    rounds = 1000 if size < 1000 else 200
    held = 0
    for _ in range(rounds):
        durations = [int(10e6 * chance.lognormvariate(0, 0.8)) for _ in range(size)]
        interval = count(durations).interval(part, z)
        assert interval is not None
        held += interval.low <= true_ms[part] and (interval.high is None or true_ms[part] <= interval.high)
    assert held / rounds >= least
