"""Whether a color is as good as another: seldom wrong, never surer than it may be, and said in words."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.metrics.layout import bucket_of
from sillyproxy.rollout.compare import (
    TOO_FEW,
    Comparison,
    Measure,
    compare,
    compare_all,
    newcombe,
    pick_baseline,
    wilson,
)
from sillyproxy.rollout.quantiles import Z95, Z999
from sillyproxy.rollout.sample import ColorSample

Draw = Callable[[random.Random], float]


def make(durations_ms: list[float], errors: int = 0, weight: float | None = 1.0) -> ColorSample:
    """Return a color with these durations, of which the first `errors` failed."""
    return ColorSample(
        codes=(0, 0, len(durations_ms) - errors, 0, 0, errors),
        durations=Counter(bucket_of(int(ms * 1e6)) for ms in durations_ms),
        weight=weight,
    )


def spread(count: int, times: float = 1.0, seed: int = 7) -> list[float]:
    """Return durations as an application has them: 10 ms in the middle, and a tail."""
    chance = random.Random(seed)
    return [times * 10 * chance.lognormvariate(0, 0.5) for _ in range(count)]


def of(comparison: Comparison, name: str) -> Measure:
    return next(measure for measure in comparison.measures if measure.measure == name)


def test_slower_color_is_worse_and_it_is_said_where() -> None:
    """A color that takes half as long again is called worse, with the percentiles and by how much."""
    found = compare("blue", make(spread(4000)), "green", make(spread(1000, 1.5, seed=8)))

    assert found.verdict == "worse"
    assert found.text.startswith("green is worse than blue: ")
    assert "ms slower at p95" in found.text
    measure = of(found, "p95")
    assert measure.verdict == "worse"
    assert measure.text.startswith("green is ")
    assert measure.text.endswith("; not chance")
    assert measure.low is not None
    assert measure.high is not None
    assert measure.difference is not None
    assert 0 < measure.low < measure.difference < measure.high


def test_failing_color_is_worse() -> None:
    """A color that fails one request in fifty is called worse, and with how many points more."""
    found = compare("blue", make(spread(4000)), "green", make(spread(1000, seed=8), errors=20))

    assert found.verdict == "worse"
    assert found.text == "green is worse than blue: fails 2.0 points more"
    assert of(found, "error_rate").text == (
        "green fails 2.0 % of requests, blue 0.0 %: 1.3 to 3.1 points more; not chance"
    )


def test_equal_colors_are_as_good() -> None:
    """Of two colors that are alike it is said that they are, once there are enough requests."""
    found = compare("blue", make(spread(30_000)), "green", make(spread(20_000, seed=8)))
    assert (found.verdict, found.text) == ("same", "green is as good as blue")
    assert {measure.verdict for measure in found.measures} == {"same"}


def test_better_color_is_better() -> None:
    """A color that is faster and fails as seldom is called better."""
    found = compare("blue", make(spread(30_000)), "green", make(spread(20_000, 0.5, seed=8)))
    assert found.verdict == "better"
    assert re.match(r"green is better than blue: 5(\.\d)? ms faster at p50, ", found.text)


def test_difference_too_small_to_matter_is_none() -> None:
    """A difference of which nobody would ever know is no reason to stop, however sure it is."""
    found = compare("blue", make(spread(200_000)), "green", make(spread(200_000, 1.09, seed=8)))
    assert of(found, "p50").verdict == "same"
    assert re.fullmatch(r"green is 0\.\d+ ms slower at p50; too little to matter", of(found, "p50").text)


@pytest.mark.parametrize(("before", "after"), [(1000, TOO_FEW - 1), (TOO_FEW - 1, 1000), (0, 0), (0, 1000)])
def test_of_few_requests_nothing_is_said(before: int, after: int) -> None:
    """While either color has had fewer than thirty requests there is no verdict, however they went."""
    found = compare("blue", make(spread(before)), "green", make(spread(after, 100), errors=after))
    assert found.verdict == "too_few"
    assert found.text.startswith("too few requests")
    assert {measure.verdict for measure in found.measures} == {"too_few"}
    assert all(measure.low is None and measure.high is None for measure in found.measures)


def test_tail_that_is_not_known_yet_is_left_open() -> None:
    """With a hundred requests nothing is known of the slowest one in a hundred, and that is said."""
    found = compare("blue", make(spread(1000)), "green", make(spread(100, seed=8)))
    assert of(found, "p99").verdict == "too_few"
    assert of(found, "p99").text == "too few requests of green to tell p99: 100"


def test_tail_that_is_far_worse_is_told_of_few_requests() -> None:
    """One request in ten that hangs is found with two hundred requests, though not by how much at most."""
    hanging = spread(180, seed=8) + [5000.0] * 20
    found = compare("blue", make(spread(10_000)), "green", make(hanging))
    measure = of(found, "p99")
    assert (measure.verdict, measure.high) == ("worse", None)
    assert "at least" in measure.text


def test_no_failure_in_few_requests_is_not_called_as_good() -> None:
    """That none of forty requests failed does not show that green is as good; it is said what may be."""
    found = compare("blue", make(spread(400)), "green", make(spread(40, seed=8)))
    measure = of(found, "error_rate")
    assert measure.verdict == "unsure"
    assert measure.text == ("green fails 0.0 % of requests, blue 0.0 %; up to 8.8 points more is possible")
    assert found.verdict == "unsure"


def test_what_may_be_chance_is_said_to_be() -> None:
    """Two failures of a hundred, where blue has none of four hundred, could be chance."""
    found = compare("blue", make(spread(400)), "green", make(spread(100, seed=8), errors=1))
    assert of(found, "error_rate").text == "green fails 1.0 % of requests, blue 0.0 %; could be chance"
    assert found.text == "green may be worse than blue: fails 1.0 points more; could be chance"


def test_baseline_is_the_color_with_most_of_the_traffic() -> None:
    """Colors are compared with the one of the largest weight; of equal ones with the first."""
    assert pick_baseline({"blue": ColorSample(weight=1.0), "green": ColorSample(weight=4.0)}) == "green"
    assert pick_baseline({"blue": ColorSample(weight=1.0), "green": ColorSample(weight=1.0)}) == "blue"
    assert pick_baseline({"blue": ColorSample(), "green": ColorSample(weight=0.0)}) == "green"
    assert pick_baseline({"blue": ColorSample()}) == ""


def test_each_other_color_is_compared_with_the_baseline() -> None:
    """With three colors there are two comparisons; one that is not configured any more has none."""
    colors = {name: make(spread(50), weight=weight) for name, weight in (("a", 1.0), ("b", 4.0), ("c", 2.0))}
    colors["gone"] = make(spread(50), weight=None)
    assert [(found.baseline, found.candidate) for found in compare_all(colors)] == [("b", "a"), ("b", "c")]
    assert compare_all({"blue": make(spread(50))}) == ()
    assert compare_all({}) == ()


rates = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(rates, rates)
def test_interval_holds_the_difference_and_can_be_turned_around(
    b: tuple[int, int], c: tuple[int, int]
) -> None:
    """The interval of a difference holds what was seen, and turns its sign with the colors."""
    low, high = newcombe(*b, *c, Z95)
    wide = newcombe(*b, *c, Z999)
    seen = c[0] / c[1] - b[0] / b[1]
    assert wide[0] <= low <= seen <= high <= wide[1]
    assert newcombe(*c, *b, Z95) == pytest.approx((-high, -low))


@given(rates)
def test_rate_is_in_its_interval(rate: tuple[int, int]) -> None:
    """An error rate's interval holds it, and nothing below 0 or above 1."""
    low, high = wilson(*rate, Z95)
    assert 0 <= low <= rate[0] / rate[1] <= high <= 1


@pytest.mark.parametrize(
    ("sizes", "true_rates"),
    [
        ((400, 100), (0.0, 0.02)),
        ((400, 100), (0.01, 0.01)),
        ((2000, 60), (0.05, 0.1)),
        ((50, 50), (0.3, 0.3)),
    ],
)
def test_interval_holds_the_true_difference_of_rates_as_often_as_it_says(
    sizes: tuple[int, int], true_rates: tuple[float, float]
) -> None:
    """Of a thousand canaries the true difference of error rates is in the interval of about 950."""
    chance = random.Random(20252)
    true = true_rates[1] - true_rates[0]
    held = 0
    for _ in range(1000):
        errors = [
            sum(chance.random() < rate for _ in range(size))
            for size, rate in zip(sizes, true_rates, strict=True)
        ]
        low, high = newcombe(errors[0], sizes[0], errors[1], sizes[1], Z95)
        held += low <= true <= high
    assert held >= 930


@pytest.mark.parametrize("sizes", [(400, 100), (3000, 750)])
def test_interval_holds_the_true_difference_of_percentiles_as_often_as_it_says(
    sizes: tuple[int, int],
) -> None:
    """The true difference of p95 is in the interval of at least 19 canaries in 20."""
    chance = random.Random(20253)
    true = 10 * (2.718281828 ** (0.7 * 1.644854) - 2.718281828 ** (0.5 * 1.644854))
    rounds, held = 200, 0
    for _ in range(rounds):
        before = [10 * chance.lognormvariate(0, 0.5) for _ in range(sizes[0])]
        after = [10 * chance.lognormvariate(0, 0.7) for _ in range(sizes[1])]
        measure = of(compare("blue", make(before), "green", make(after)), "p95")
        assert measure.low is not None
        held += measure.low <= true and (measure.high is None or true <= measure.high)
    assert held / rounds >= 0.94


def test_equal_colors_are_hardly_ever_called_worse() -> None:
    """
    Green that is exactly as good as blue is called worse in less than one look of a hundred, at four
    measures a look: no canary is stopped for nothing.
    """
    chance = random.Random(20254)
    wrong = 0
    for _ in range(400):
        before, after = ([10 * chance.lognormvariate(0, 0.8) for _ in range(size)] for size in (600, 150))
        failed = [sum(chance.random() < 0.02 for _ in range(size)) for size in (600, 150)]
        found = compare("blue", make(before, failed[0]), "green", make(after, failed[1]))
        wrong += found.verdict in ("worse", "better")
    assert wrong <= 4


def test_worse_color_is_found_in_a_minute_of_a_small_canary() -> None:
    """Green that is half as slow again is found with 300 requests, nineteen times in twenty."""
    chance = random.Random(20255)
    found = 0
    for _ in range(100):
        before, after = (
            [times * 10 * chance.lognormvariate(0, 0.5) for _ in range(size)]
            for times, size in ((1.0, 1200), (1.5, 300))
        )
        found += compare("blue", make(before), "green", make(after)).verdict == "worse"
    assert found >= 95
