"""Which color answers: the shares are exact, over any window, for any weights and any start."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sillyproxy.traffic.split import GOLDEN, Split

starts = st.floats(0, 1, exclude_max=True)
weights = st.lists(
    st.integers(0, 1000).map(float) | st.decimals(0, 100, places=3).map(float), min_size=2, max_size=6
).filter(any)


def bound(window: int) -> int:
    """
    Return how far a count may be from its share, over `window` turns in a row.

    Denjoy and Koksma: over as many turns as a Fibonacci number (the denominators of the
    golden ratio's convergents) the count of an interval differs from its share by at most
    its indicator's variation, 2, wherever the turns begin. Any number is a sum of a few
    Fibonacci numbers (Zeckendorf), at most half as many as there are below it: 6 of them
    make 10,000, so the bound there is 12, and it grows as the logarithm.
    """
    fibonacci = [1, 2]
    while fibonacci[-1] < window:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    terms = 0
    for number in reversed(fibonacci):
        if number <= window:
            window -= number
            terms += 1
    return 2 * terms


@given(weights, starts, st.integers(0, 500), st.integers(1, 3000))
@example([80.0, 20.0], 0.0, 0, 3000)
@example([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 0.99999, 0, 2584)
@example([0.001, 100.0], 0.5, 13, 3000)
def test_every_window_gives_each_color_its_share(
    weights: list[float], start: float, skipped: int, window: int
) -> None:
    """
    Of any N requests in a row each color answers its share to within a few, whatever the weights,
    wherever the worker began and however many it has served.
    """
    split = Split(weights, start)
    for _ in range(skipped):
        split.pick()
    counts = [0] * len(weights)
    for _ in range(window):
        counts[split.pick()] += 1

    total = sum(weights)
    off = [abs(count - window * weight / total) for count, weight in zip(counts, weights, strict=True)]
    assert max(off) <= bound(window) + 1e-6


def test_ten_thousand_requests_at_80_to_20_are_within_five() -> None:
    """
    10,000 requests at 80/20: each color within 5 of 8,000 and 2,000, from wherever a worker starts.
    """
    for step in range(40):
        split = Split([80, 20], step / 40)
        green = sum(split.pick() for _ in range(10_000))
        assert abs(green - 2000) <= 5


def test_a_canary_of_one_percent_is_seen_at_an_even_pace() -> None:
    """
    A canary of 1 % gets neither a burst nor a drought: of any 1,000 requests it gets 7 to 13, and never
    two in a row.
    """
    split = Split([99, 1], 0.3)
    turns = [split.pick() for _ in range(20_000)]
    sums = [0, *accumulate(turns)]
    windows = [sums[at + 1000] - sums[at] for at in range(len(turns) - 1000)]

    assert min(windows) >= 7
    assert max(windows) <= 13
    assert (1, 1) not in pairwise(turns)


@given(weights, starts)
def test_color_of_weight_zero_gets_no_request(weights: list[float], start: float) -> None:
    """
    Weight 0 drains a color: it is never picked, whatever the others weigh.
    """
    weights = [0.0, *weights, 0.0]
    split = Split(weights, start)

    assert all(weights[split.pick()] > 0 for _ in range(200))


@pytest.mark.parametrize("weights", [[], [0.0], [0.0, 0.0, 0.0]])
def test_without_weight_there_is_no_color(weights: list[float]) -> None:
    """
    With no color, or all of them drained, there is nobody to answer.
    """
    split = Split(weights, 0.7)

    assert [split.pick() for _ in range(3)] == [-1, -1, -1]
    assert sum(split.shares) == 0


@given(st.floats(1e-6, 1e6), starts)
def test_a_color_alone_gets_everything(weight: float, start: float) -> None:
    """
    One color takes all requests, whatever its weight.
    """
    split = Split([weight], start)

    assert {split.pick() for _ in range(100)} == {0}
    assert split.shares == (1.0,)


@given(weights, starts, st.sampled_from([2.0, 4.0, 0.5, 1024.0]))
def test_weights_are_relative(weights: list[float], start: float, factor: float) -> None:
    """
    4 and 1 mean the same as 80 and 20.
    """
    one = Split(weights, start)
    other = Split([weight * factor for weight in weights], start)

    assert [one.pick() for _ in range(100)] == [other.pick() for _ in range(100)]


@given(weights)
def test_shares_are_the_weights_fractions(weights: list[float]) -> None:
    """
    What is shown as a color's share is its weight over the sum of all.
    """
    total = sum(map(Fraction, weights))

    for share, weight in zip(Split(weights, 0.0).shares, weights, strict=True):
        assert share == pytest.approx(float(Fraction(weight) / total))


@given(weights, starts)
def test_the_same_start_gives_the_same_turns(weights: list[float], start: float) -> None:
    """
    The order is decided by weights and start alone: no clock, no chance.
    """
    one, other = Split(weights, start), Split(weights, start)

    assert [one.pick() for _ in range(50)] == [other.pick() for _ in range(50)]


def test_a_million_turns_stay_on_the_golden_road() -> None:
    """
    Rounding does not add up: after a million turns the shares are as exact as after a thousand.
    """
    split = Split([3, 1], 0.25)
    green = sum(split.pick() for _ in range(1_000_000))

    assert abs(green - 250_000) <= bound(1_000_000)
    assert pytest.approx((5**0.5 - 1) / 2, abs=1e-16) == GOLDEN


def test_replicas_do_not_march_in_step() -> None:
    """
    Workers that start elsewhere send the canary's requests at other times.
    """
    first, second = Split([80, 20], 0.1), Split([80, 20], 0.6)
    together = sum(first.pick() == second.pick() == 1 for _ in range(1000))

    assert together == 0
