"""Where each count lives, and into which bucket a duration falls."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.metrics.layout import (
    BLOCK_SIZE,
    BUCKETS,
    CONNECTS_AT,
    DURATIONS_AT,
    FALLBACKS_AT,
    FIRST_BYTES_AT,
    FIRST_EXPONENT,
    MAX_COLORS,
    OCTAVES,
    QUEUE_WAITS_AT,
    ROW_HEAD,
    ROW_SIZE,
    ROWS_AT,
    SIZES,
    SIZES_IN_AT,
    SIZES_OUT_AT,
    WORKER_SIZE,
    Row,
    Worker,
    bucket_limit_ns,
    bucket_of,
)

LAST_NS = 1 << (FIRST_EXPONENT + OCTAVES)


@given(st.integers(1 << FIRST_EXPONENT, LAST_NS - 1))
def test_a_duration_lies_in_its_bucket(duration_ns: int) -> None:
    """
    A duration is below its bucket's upper edge and not below the one before, so that percentiles are true.
    """
    bucket = bucket_of(duration_ns)

    assert duration_ns < bucket_limit_ns(bucket)
    assert bucket == 0 or duration_ns >= bucket_limit_ns(bucket - 1)


@given(st.integers(0, BUCKETS - 1))
def test_percentiles_are_good_to_a_few_percent(bucket: int) -> None:
    """
    A bucket is at most 3.1 % wide, whatever the scale: its middle is 1.6 % from all that it counts.
    """
    lower = bucket_limit_ns(bucket - 1) if bucket else 1 << FIRST_EXPONENT

    assert 0 < bucket_limit_ns(bucket) - lower <= lower / 32


@given(st.integers(0, 1 << 62))
def test_every_duration_has_a_bucket(duration_ns: int) -> None:
    """
    The shortest and the longest exchange are counted too, in the first and the last bucket.
    """
    assert 0 <= bucket_of(duration_ns) < BUCKETS
    if duration_ns < 1 << FIRST_EXPONENT:
        assert bucket_of(duration_ns) == 0
    if duration_ns >= LAST_NS:
        assert bucket_of(duration_ns) == BUCKETS - 1


@given(st.integers(0, LAST_NS), st.integers(0, LAST_NS))
def test_longer_durations_are_in_later_buckets(one: int, other: int) -> None:
    """
    Buckets are in the order of durations.
    """
    assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


def test_no_two_counts_share_a_place() -> None:
    """
    Each count has a place of its own within its worker's block, with room for new ones.
    """
    assert len(Worker) == len(set(Worker)) == max(Worker) + 1 <= WORKER_SIZE
    assert len(Row) == len(set(Row)) == max(Row) + 1 <= ROW_HEAD
    parts = [DURATIONS_AT, FIRST_BYTES_AT, SIZES_OUT_AT, CONNECTS_AT, QUEUE_WAITS_AT, SIZES_IN_AT, ROW_SIZE]
    sizes = [BUCKETS, BUCKETS, SIZES, BUCKETS, BUCKETS, SIZES]
    assert parts[0] == ROW_HEAD
    assert [after - before for before, after in itertools.pairwise(parts)] == sizes
    assert WORKER_SIZE <= FALLBACKS_AT
    assert FALLBACKS_AT + MAX_COLORS * MAX_COLORS <= ROWS_AT
    assert ROWS_AT + MAX_COLORS * ROW_SIZE <= BLOCK_SIZE
