"""Promise: a weight is exact, not only likely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.wire.stress_tools import (
    GET,
    QuickOrigin,
    ask_many,
    ask_once,
    origin,
    read_metrics,
    serving,
    show,
    wait_until,
)


@pytest.fixture(scope="module")
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


def ask_split(backend: QuickOrigin, count: int, **weights: str) -> Counter[bytes]:
    """Return how many of `count` requests each color answered, in one worker with these weights."""
    env = {"SILLYPROXY_COLORS": ",".join(weights)}
    for color, weight in weights.items():
        env |= {color.upper(): backend.url, f"{color.upper()}_WEIGHT": weight}
    with serving(env) as proxy:
        answers = ask_many(proxy.port, count)
    show("split", **{color.decode(): number for color, number in answers.items()})
    return answers


def test_80_to_20_is_80_to_20(backend: QuickOrigin) -> None:
    """Of 10,000 requests at weights 80 and 20 each color answers its share to within 5."""
    answers = ask_split(backend, 10_000, blue="80", green="20")
    assert abs(answers[b"blue"] - 8000) <= 5
    assert abs(answers[b"green"] - 2000) <= 5


def test_canary_of_one_percent_is_ten_of_a_thousand(backend: QuickOrigin) -> None:
    """A canary at 1 % gets 10 of 1,000 requests, give or take 2."""
    assert abs(ask_split(backend, 1000, blue="99", green="1")[b"green"] - 10) <= 2


def test_five_colors_with_decimal_weights(backend: QuickOrigin) -> None:
    """Five colors whose weights are decimals get their shares to within 5 of 2,000."""
    weights = {"red": "0.5", "blue": "1.25", "green": "2.75", "black": "0.05", "white": "3.45"}
    answers = ask_split(backend, 2000, **weights)
    for color, weight in weights.items():
        assert abs(answers[color.encode()] - 2000 * float(weight) / 8) <= 5


def test_weight_0_gets_nothing(backend: QuickOrigin) -> None:
    """A color at weight 0 gets no request."""
    assert ask_split(backend, 500, blue="0", green="3") == {b"green": 500}


def test_no_weight_is_no_backend(backend: QuickOrigin) -> None:
    """With every color at weight 0 a request is answered with 503, and the reply says why."""
    env = {"BLUE": backend.url, "BLUE_WEIGHT": "0", "GREEN": backend.url, "GREEN_WEIGHT": "0"}
    with serving(env, ready=False) as proxy:
        reply = ask_once(proxy.port, GET % b"/")
    assert reply.status == 503
    assert reply.values("Proxy-Status") == [b"sillyproxy; error=destination_unavailable"]


def test_no_color_is_no_backend() -> None:
    """Without any color a request is answered with 503, and counted under no color."""
    with serving({}, ready=False) as proxy:
        assert ask_many(proxy.port, 20) == {b"503": 20}
        sample = 'sillyproxy_requests_total{code="5xx",color="-"}'
        wait_until(lambda: read_metrics(proxy)[sample] == 20, "the count")
