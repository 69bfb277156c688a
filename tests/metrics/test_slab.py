"""The shared memory that carries counts from the workers to whoever asks."""

from __future__ import annotations

from itertools import zip_longest

from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.metrics.layout import (
    CONNECTS_AT,
    GAUGES,
    MAX_COLORS,
    ROW_GAUGES,
    ROW_HEAD,
    ROW_SIZE,
    ROWS_AT,
    Row,
    Worker,
)
from sillyproxy.metrics.slab import BLOCK_BYTES, Counts, block_of, bury, read_totals


def make_memory(workers: int) -> memoryview:
    return memoryview(bytearray(BLOCK_BYTES * workers))


def count(memory: memoryview, worker: int, *, factor: int = 1) -> Counts:
    """Let a worker count something everywhere, and publish it."""
    counts = Counts(block_of(memory, worker), 3)
    for place in Worker:
        counts.worker[place] += factor * (place + 1)
    counts.rows[1][Row.C2XX] += factor * 7
    counts.rows[2][ROW_HEAD + 5] += factor * 9
    counts.add_fallback(1, 2)
    counts.publish()
    return counts


def test_what_a_worker_counts_is_seen_once_it_is_published() -> None:
    """
    Counts are published as a whole: before, nothing of them is seen; after, all.
    """
    memory = make_memory(1)
    counts = Counts(block_of(memory, 0), 2)
    counts.worker[Worker.ACCEPTED] += 2
    counts.rows[1][Row.C5XX] += 1
    before = read_totals(memory, 1, 2)
    counts.publish()
    after = read_totals(memory, 1, 2)

    assert (before.worker[Worker.ACCEPTED], before.rows[1][Row.C5XX]) == (0, 0)
    assert (after.worker[Worker.ACCEPTED], after.rows[1][Row.C5XX]) == (2, 1)


def test_the_totals_are_the_sum_over_workers() -> None:
    """
    One page shows all workers together, each count for itself.
    """
    memory = make_memory(3)
    for worker in range(3):
        count(memory, worker, factor=worker + 1)
    totals = read_totals(memory, 3, 3)

    assert [totals.worker[place] for place in Worker] == [6 * (place + 1) for place in Worker]
    assert totals.rows[1][Row.C2XX] == 42
    assert totals.rows[2][ROW_HEAD + 5] == 54
    assert totals.rows[0] == [0] * len(totals.rows[0])
    assert totals.fallbacks[1 * MAX_COLORS + 2] == 3
    assert sum(totals.fallbacks) == 3


@given(st.lists(st.lists(st.integers(0, 2**55), min_size=1, max_size=60), min_size=1, max_size=64))
def test_no_count_spills_into_its_neighbor(workers: list[list[int]]) -> None:
    """
    However large the counts are and however many workers there are, each sum is its own.
    """
    memory = make_memory(len(workers))
    for worker, counted in enumerate(workers):
        block = block_of(memory, worker)
        for place, count_of_it in enumerate(counted):
            block[ROWS_AT + ROW_SIZE + ROW_HEAD + place] = count_of_it
    row = read_totals(memory, len(workers), 2).rows[1]

    sums = [sum(counts) for counts in zip_longest(*workers, fillvalue=0)]
    assert row == [0] * ROW_HEAD + sums + [0] * (ROW_SIZE - ROW_HEAD - len(sums))


def test_what_happens_seldom_is_counted_at_once_and_stays() -> None:
    """
    A rare count is seen without being published, in its color alone, and a successor adds to it.
    """
    memory = make_memory(2)
    Counts(block_of(memory, 0), 3).note(1, CONNECTS_AT + 3)
    old = Counts(block_of(memory, 1), 3)
    old.note(1, CONNECTS_AT + 3)
    old.publish()
    Counts(block_of(memory, 1), 3).note(1, CONNECTS_AT + 3)
    totals = read_totals(memory, 2, 3)

    assert totals.rows[1][CONNECTS_AT + 3] == sum(totals.rows[1]) == 3
    assert not any(totals.rows[2])


def test_a_worker_writes_its_own_block_alone() -> None:
    """
    No worker can spoil another's counts.
    """
    memory = make_memory(3)
    count(memory, 1)

    assert not any(memory[:BLOCK_BYTES])
    assert not any(memory[2 * BLOCK_BYTES :])


def test_the_successor_of_a_dead_worker_counts_on() -> None:
    """
    A worker that takes a dead one's place goes on from its counts, so that totals only grow, and begins
    with nothing under way.
    """
    memory = make_memory(1)
    old = count(memory, 0)
    old.rows[1][Row.INFLIGHT] = old.rows[1][Row.UPSTREAM_IDLE] = 5
    old.publish()
    new = Counts(block_of(memory, 0), 3)

    assert all(new.worker[gauge] == 0 for gauge in GAUGES)
    assert all(row[gauge] == 0 for row in new.rows for gauge in ROW_GAUGES)
    assert new.worker[Worker.ACCEPTED] == old.worker[Worker.ACCEPTED]
    assert new.rows[1][Row.C2XX] == 7
    assert new.fallbacks == old.fallbacks


def test_a_color_that_is_added_gets_a_row_and_the_others_keep_theirs() -> None:
    """
    A new color at run time changes no count of another; there are never more rows than there is room.
    """
    memory = make_memory(1)
    counts = count(memory, 0)
    counts.grow(5)
    counts.rows[4][Row.C3XX] += 1
    counts.publish()
    totals = read_totals(memory, 1, 5)
    counts.grow(MAX_COLORS + 10)

    assert (totals.rows[1][Row.C2XX], totals.rows[4][Row.C3XX]) == (7, 1)
    assert len(counts.rows) == MAX_COLORS


def test_what_a_killed_worker_had_under_way_is_counted_as_lost() -> None:
    """
    After a kill the books balance: accepted = answered + replied + abandoned + lost.
    """
    memory = make_memory(1)
    counts = Counts(block_of(memory, 0), 2)
    counts.worker[Worker.ACCEPTED] = 10
    counts.worker[Worker.ANSWERED] = 5
    counts.worker[Worker.REPLIED] = 1
    counts.worker[Worker.ABANDONED] = 1
    counts.worker[Worker.INFLIGHT] = 3
    counts.rows[1][Row.INFLIGHT] = 3
    counts.publish()
    lost = bury(block_of(memory, 0))
    totals = read_totals(memory, 1, 2)
    books = totals.worker

    assert lost == books[Worker.LOST] == 3
    ended = (Worker.ANSWERED, Worker.REPLIED, Worker.ABANDONED, Worker.LOST)
    assert books[Worker.ACCEPTED] == sum(books[place] for place in ended)
    assert books[Worker.INFLIGHT] == totals.rows[1][Row.INFLIGHT] == 0
    assert bury(block_of(memory, 0)) == 0
