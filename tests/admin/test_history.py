"""The last quarter of an hour: nothing is lost in it, and nobody pays for it unasked."""

from __future__ import annotations

import json
import random

import pytest

from sillyproxy.admin.history import KEPT, POINTS, UNUSED_AFTER
from sillyproxy.admin.view import build_frame
from sillyproxy.metrics.layout import Row, Worker
from sillyproxy.rollout.sample import Window, read_sample
from tests.admin.boards import Proxy


def color_of(frame: dict[str, object], name: str) -> dict[str, object]:
    colors = frame["colors"]
    assert isinstance(colors, list)
    found: dict[str, object] = next(color for color in colors if color["name"] == name)
    return found


def test_second_has_what_happened_in_it() -> None:
    """Each second has the requests that ended in it, summed over the workers, and none of any other."""
    proxy = Proxy()
    proxy.serve("blue", 5)
    proxy.tick()
    proxy.serve("blue", 3, failed=1)
    proxy.serve("blue", 2, worker=1)
    proxy.serve("green", 1)
    proxy.tick()

    first, second = (read_sample(data) for data in json.loads(proxy.history.samples(0)))
    assert (first.seq, second.seq) == (1, 2)
    assert (first.colors["blue"].requests, second.colors["blue"].requests) == (5, 5)
    assert (second.colors["blue"].errors, second.colors["green"].requests) == (1, 1)
    assert sum(second.colors["blue"].durations.values()) == 5


def test_what_was_before_is_not_of_the_first_second() -> None:
    """A controller that is started again does not show hours of traffic as one second."""
    proxy = Proxy()
    proxy.serve("blue", 100_000)
    proxy.history = proxy.make_history("second")
    proxy.tick()
    assert proxy.history.window(60).colors["blue"].requests == 0


def test_window_is_the_sum_of_its_seconds() -> None:
    """Past a busy quarter of an hour, a window that moves is the sum of the seconds that it covers."""
    chance = random.Random(3)
    proxy = Proxy()
    for second in range(KEPT + 100):
        proxy.serve(chance.choice(["blue", "green"]), chance.randrange(3), chance.uniform(1, 50))
        proxy.tick()
        if second % 10 == 0:
            proxy.history.window(60)
            proxy.history.window(KEPT)
    seconds = [read_sample(data) for data in json.loads(proxy.history.samples(0))]
    assert len(seconds) == KEPT
    for length in (10, 60, KEPT):
        assert proxy.history.window(length).colors == Window(seconds[-length:]).colors


def test_nothing_is_summed_for_nobody() -> None:
    """A window that nobody has asked for in a minute costs nothing any more."""
    proxy = Proxy()
    proxy.history.window(60)
    for _ in range(UNUSED_AFTER + 1):
        proxy.tick()
    assert not proxy.history._sums
    proxy.serve("blue", 1)
    proxy.tick()
    assert proxy.history.window(60).colors["blue"].requests == 1


def test_reload_does_not_break_the_history() -> None:
    """
    A color that a reload adds begins with its first request, and one that it takes away is seen for as long
    as its requests are in the window; nothing of either is counted for another.
    """
    proxy = Proxy()
    proxy.serve("green", 7)
    proxy.tick()
    proxy.reload(GREEN="", SILLYPROXY_COLORS="blue,red", RED="http://c")
    proxy.serve("red", 2)
    proxy.tick()

    frame = build_frame(proxy.board, proxy.history, 60)
    assert [color["name"] for color in frame["colors"]] == ["blue", "red", "green"]
    assert (color_of(frame, "green")["requests"], color_of(frame, "green")["present"]) == (7, False)
    assert (color_of(frame, "red")["requests"], color_of(frame, "red")["weight"]) == (2, 1.0)
    for _ in range(60):
        proxy.tick()
    assert [color["name"] for color in build_frame(proxy.board, proxy.history, 60)["colors"]] == [
        "blue",
        "red",
    ]


def test_frame_can_be_made_between_a_reload_and_the_next_second() -> None:
    """A color that has just come is in the frame at once, with nothing counted."""
    proxy = Proxy()
    proxy.tick()
    proxy.reload(SILLYPROXY_COLORS="blue,green,red", RED="http://c", RED_WEIGHT="5")
    red = color_of(build_frame(proxy.board, proxy.history, 60), "red")
    assert (red["requests"], red["share_asked"], red["p50_ms"]) == (0, 0.5, None)


def test_death_of_a_worker_is_no_negative_second() -> None:
    """A worker's successor goes on with its counts; no second has fewer than no requests."""
    proxy = Proxy()
    proxy.serve("blue", 5)
    proxy.counts[0].rows[1][Row.INFLIGHT] = 3
    proxy.counts[0].publish()
    proxy.tick()
    assert proxy.history.readings[1].inflight == 3
    proxy.counts[0] = type(proxy.counts[0])(proxy.counts[0]._block, 8)
    proxy.counts[0].publish()
    proxy.tick()
    proxy.serve("blue", 1)
    proxy.tick()
    requests = [read_sample(data).colors["blue"].requests for data in json.loads(proxy.history.samples(0))]
    assert requests == [5, 0, 1]
    assert proxy.history.readings[1].inflight == 0


def test_rates_are_of_the_time_that_passed() -> None:
    """After a pause of the machine a second has what happened in five, and the rate is that of five."""
    proxy = Proxy()
    proxy.serve("blue", 50)
    proxy.tick(5.0)
    assert build_frame(proxy.board, proxy.history, 60)["totals"]["requests_per_s"] == 10.0


def test_retries_and_fallbacks_are_counted() -> None:
    """A frame has how many requests were sent again, and how many another color had to take."""
    proxy = Proxy()
    proxy.counts[0].rows[1][Row.RETRY_REFUSED] = 2
    proxy.counts[0].rows[1][Row.RETRY_RESET] = 1
    proxy.counts[0].add_fallback(1, 2)
    proxy.counts[0].worker[Worker.ACCEPTED] = 3
    proxy.counts[0].publish()
    proxy.tick()
    blue = color_of(build_frame(proxy.board, proxy.history, 60), "blue")
    assert (blue["retries"], blue["fallbacks"]) == (3, 1)


def test_points_are_those_that_were_not_seen_yet() -> None:
    """Who has had the points until 5 gets those after 5; who comes new, at most five minutes of them."""
    proxy = Proxy()
    for _ in range(8):
        proxy.tick()
    assert [point["seq"] for point in json.loads(proxy.history.points(5))] == [6, 7, 8]
    assert json.loads(proxy.history.points(8)) == json.loads(proxy.history.points(99)) == []
    for _ in range(POINTS):
        proxy.tick()
    assert len(json.loads(proxy.history.points(0))) == POINTS
    assert json.loads(proxy.history.point())["seq"] == 8 + POINTS


def test_a_frame_without_any_second_is_whole() -> None:
    """In its first second the proxy shows its colors, and no rate or percentile that it cannot know."""
    frame = build_frame(Proxy().board, Proxy().history, 60)
    blue = color_of(frame, "blue")
    assert (blue["share_asked"], blue["share_seen"], blue["error_rate"], blue["p99_ms"]) == (
        0.8,
        None,
        None,
        None,
    )
    assert frame["totals"]["requests_per_s"] == 0.0
    assert frame["comparisons"][0]["verdict"] == "too_few"


def test_percentiles_of_a_frame_are_those_of_its_window() -> None:
    """A frame over five minutes has the percentiles of five minutes, a frame over one those of the last."""
    proxy = Proxy()
    proxy.serve("blue", 300, 80.0)
    proxy.tick()
    for _ in range(60):
        proxy.serve("blue", 1, 2.0)
        proxy.tick()
    over = {window: color_of(build_frame(proxy.board, proxy.history, window), "blue") for window in (60, 300)}
    assert over[60]["p95_ms"] == pytest.approx(2.0, rel=0.03)
    assert over[300]["p50_ms"] == pytest.approx(80.0, rel=0.03)
    assert (over[60]["requests"], over[300]["requests"]) == (60, 360)


def test_gone_color_is_not_compared() -> None:
    """A color that is not configured any more is not judged."""
    proxy = Proxy()
    for name in ("blue", "green"):
        proxy.serve(name, 50)
    proxy.tick()
    assert len(build_frame(proxy.board, proxy.history, 60)["comparisons"]) == 1
    proxy.reload(GREEN="")
    assert build_frame(proxy.board, proxy.history, 60)["comparisons"] == []
