"""Sums of what happened: over seconds, over proxies, and over the network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.metrics.layout import BUCKETS
from sillyproxy.rollout.sample import (
    CLASSES,
    ColorSample,
    Sample,
    Window,
    beside,
    read_sample,
    sample_data,
)

counts = st.integers(0, 10**6)
codes = st.tuples(*[counts] * len(CLASSES))
parts = st.builds(
    ColorSample,
    codes=codes,
    durations=st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 10**6), max_size=8),
    sum_ns=counts,
    retries=counts,
    fallbacks=counts,
    inflight=counts,
    queued=counts,
    weight=st.none() | st.floats(0, 1e6),
    share_asked=st.floats(0, 1),
)
samples = st.builds(
    Sample,
    seq=counts,
    time=st.floats(0, 1e10),
    colors=st.dictionaries(st.sampled_from(["blue", "green", "red"]), parts),
    seconds=st.floats(0.5, 5),
    uncolored=codes,
)


@given(st.lists(samples, max_size=8), st.integers(0, 8))
def test_window_that_moves_is_a_window_made_anew(seen: list[Sample], gone: int) -> None:
    """
    After hours of seconds coming and going, the counts of a window are those of the seconds in it, to the
    last request.
    """
    window = Window(seen)
    for sample in seen[:gone]:
        window.take_away(sample)

    anew = Window(seen[gone:])
    assert window.colors == anew.colors
    assert window.uncolored == anew.uncolored
    assert window.seconds == pytest.approx(anew.seconds, abs=1e-6)


def test_color_that_left_is_in_the_window_for_as_long_as_its_requests() -> None:
    """A color that a reload took away is shown until the last second in which it was is over."""
    before = Sample(1, 1.0, {"blue": ColorSample(), "green": ColorSample()})
    after = Sample(2, 2.0, {"blue": ColorSample()})
    window = Window([before, after])
    assert set(window.colors) == {"blue", "green"}
    window.take_away(before)
    assert set(window.colors) == {"blue"}


@given(st.lists(parts, min_size=1, max_size=4))
def test_proxies_together_have_what_each_has(several: list[ColorSample]) -> None:
    """Of several replicas of the proxy everything that is counted is added; nothing is averaged."""
    whole = beside(several)

    assert whole.requests == sum(part.requests for part in several)
    assert sum(whole.durations.values()) == sum(sum(part.durations.values()) for part in several)
    assert whole.inflight == sum(part.inflight for part in several)


@given(samples)
def test_sample_survives_the_network(sample: Sample) -> None:
    """What one proxy writes as JSON another program reads as the same counts."""
    assert read_sample(json.loads(json.dumps(sample_data(sample)))) == sample


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"seq": 1, "time": 2.0, "colors": {"blue": None}},
        {"seq": 1, "time": 2.0, "colors": {"blue": {"codes": [1], "durations": {}, "sum_ns": 0}}},
        {"seq": 1, "time": 2.0, "colors": {"blue": {"codes": [0] * 6, "durations": {"-1": 1}, "sum_ns": 0}}},
        {
            "seq": 1,
            "time": 2.0,
            "colors": {"blue": {"codes": [0] * 6, "durations": {"9999": 1}, "sum_ns": 0}},
        },
        {"seq": 1, "time": 2.0, "colors": {"blue": {"codes": [0] * 6, "durations": {"x": 1}, "sum_ns": 0}}},
        {"seq": float("inf"), "time": 2.0, "colors": {}},
    ],
)
def test_nonsense_from_the_network_is_refused(data: Any) -> None:
    """A server that answers something else is told apart from a proxy, and breaks nothing."""
    with pytest.raises(ValueError, match="not a sample"):
        read_sample(data)
