"""One picture of all replicas: who says what, and what is made of it when they disagree."""

from __future__ import annotations

from typing import Any

import pytest

from sillyproxy.rollout.sample import Sample
from sillyproxy.top.frame import LINES_S, STEP_S, build_frame
from sillyproxy.top.merge import Fleet
from sillyproxy.top.told import read_answer
from tests.top.telling import make_answer, make_color, make_event, make_part, make_seconds

WALL = 1.7e9
NOW = 100.0
BUSY = make_seconds(1, 60, blue=make_part(80, share=0.8), green=make_part(20, share=0.2))


def make_frame(
    *answers: dict[str, Any] | str, samples: list[Sample] = BUSY, window_s: int = 60
) -> dict[str, Any]:
    """Return the frame of replicas that answered this; a text is why one did not."""
    fleet = Fleet()
    fleet.found("tasks.proxy", {f"10.0.1.{n}:9080": f"10.0.1.{n}" for n in range(len(answers))}, NOW)
    for number, (replica, answer) in enumerate(zip(fleet.replicas.values(), answers, strict=True)):
        if isinstance(answer, str):
            replica.fail(answer)
        else:
            who: dict[str, Any] = {"hostname": f"proxy-{number}", "time": WALL} | answer
            fleet.note(replica, read_answer(make_answer(samples, **who)), NOW, WALL)
    return build_frame(fleet, NOW + 0.5, WALL + 0.5, window_s, 1.0)


def test_shares_rates_and_counts_are_of_all_replicas() -> None:
    """Rates and shares are of the last ten seconds, counts of the window, and of all replicas together."""
    frame = make_frame({}, {})
    blue, green = frame["colors"]
    assert (blue["name"], blue["requests"], blue["requests_per_s"]) == ("blue", 9600, 160.0)
    assert (green["share_asked"], green["share_seen"]) == (0.2, 0.2)
    assert frame["totals"]["requests_per_s"] == 200.0
    assert frame["history_s"] == 60


def test_what_is_asked_for_is_as_much_as_each_replica_is_asked() -> None:
    """
    Half-way through an update one replica gives green a fifth, the other, on which there is three times the
    traffic, nothing: of all requests a twentieth is asked for, and that is what is seen.
    """
    old = make_answer(
        make_seconds(1, 60, blue=make_part(300)), hostname="a", colors=[make_color("blue", 1.0, 1.0)]
    )
    new = make_answer(BUSY, hostname="b")
    fleet = Fleet()
    fleet.found("tasks.proxy", {"a": "a", "b": "b"}, NOW)
    for replica, answer in zip(fleet.replicas.values(), (old, new), strict=True):
        fleet.note(replica, read_answer(answer), NOW, WALL)

    _, green = build_frame(fleet, NOW + 0.5, WALL + 0.5, 60, 1.0)["colors"]

    assert green["share_asked"] == pytest.approx(0.05)
    assert green["share_seen"] == pytest.approx(0.05)


def test_the_verdict_rests_on_the_requests_of_all_replicas() -> None:
    """
    Each replica alone has seen too few requests of green to tell; together they are enough. That is what
    summing them is for.
    """
    samples = make_seconds(
        1, 20, blue=make_part(4, took_ms=[1.0], share=0.8), green=make_part(1, 1, [1.0], share=0.2)
    )
    alone, together = make_frame({}, samples=samples), make_frame({}, {}, {}, samples=samples)
    assert alone["comparisons"][0]["verdict"] == "too_few"
    assert together["comparisons"][0]["verdict"] == "worse"
    assert together["comparisons"][0]["baseline"] == "blue"


def test_a_silent_replica_is_named_with_its_reason() -> None:
    """A replica that does not answer is in the list with why; the others are summed all the same."""
    frame = make_frame({}, "no answer within 1 s")
    assert [(one["address"], one["state"], one["reason"]) for one in frame["replicas"]] == [
        ("10.0.1.0:9080", "ready", ""),
        ("10.0.1.1:9080", "silent", "no answer within 1 s"),
    ]
    assert frame["colors"][0]["requests"] == 4800


@pytest.mark.parametrize(
    "other",
    [
        {"version": "2.0"},
        {"colors": [make_color("blue", 4.0), make_color("green", 4.0)]},
        {"colors": [make_color("blue")]},
    ],
    ids=["version", "weight", "color"],
)
def test_a_replica_that_serves_something_else_is_marked(other: dict[str, Any]) -> None:
    """While an update rolls, replicas whose version, weights or colors are not those of most are marked."""
    frame = make_frame({}, other, {})
    assert [one["differs"] for one in frame["replicas"]] == [False, True, False]


def test_a_replica_that_was_restarted_is_not_marked() -> None:
    """A generation counts the reloads of one process: a fresh replica with the same colors is no other."""
    frame = make_frame({"generation": 7}, {"generation": 1})
    assert [one["differs"] for one in frame["replicas"]] == [False, False]


def test_workers_that_serve_an_older_generation_are_counted() -> None:
    """Where a reload is still on its way to a worker, that is told."""
    workers = [{"index": 0, "pid": 1, "generation": 2}, {"index": 1, "pid": 2, "generation": 1}]
    (replica,) = make_frame({"generation": 2, "workers": workers})["replicas"]
    assert (replica["workers"], replica["workers_behind"]) == (2, 1)


def test_an_endpoint_is_shown_as_it_is_where_it_is_worst() -> None:
    """An endpoint that one of two replicas has ejected is not up, and it is said on how many it is not."""
    frame = make_frame(
        {"colors": [make_color("blue", a1="up", a2="up")]},
        {"colors": [make_color("blue", a1="ejected", a2="up")]},
    )
    first, second = frame["colors"][0]["endpoints"]
    assert (first["state"], first["down_on"], first["known_to"]) == ("ejected", ["proxy-1"], 2)
    assert (second["state"], second["down_on"]) == ("up", [])


def test_events_are_of_all_replicas_by_our_clock() -> None:
    """Events have the name of their replica, and the order in which they happened, whatever clocks say."""
    events = {"events": [make_event(1, WALL - 30, "a reload")]}
    late = {"events": [make_event(1, 1000.0 - 10, "an ejection")], "time": 1000.0}
    frame = make_frame(events, late)
    assert [(one["replica"], one["text"], one["time"] - WALL) for one in frame["events"]] == [
        ("proxy-1", "an ejection", -10),
        ("proxy-0", "a reload", -30),
    ]


def test_replicas_of_one_name_are_called_by_their_address() -> None:
    """Two proxies on one machine have its name; their addresses tell them apart."""
    frame = make_frame({"hostname": "edge", "epoch": "a"}, {"hostname": "edge", "epoch": "b"})
    assert [one["name"] for one in frame["replicas"]] == ["10.0.1.0:9080", "10.0.1.1:9080"]


def test_a_color_that_is_gone_is_shown_while_it_is_in_the_window() -> None:
    """A color that nobody has configured any more comes last, without a share, until its requests are old."""
    frame = make_frame({"colors": [make_color("green", 1.0, 1.0)]})
    assert [(one["name"], one["present"], one["share_asked"]) for one in frame["colors"]] == [
        ("green", True, 1.0),
        ("blue", False, 0.0),
    ]
    assert frame["comparisons"] == []


def test_lines_have_a_value_a_step_the_newest_last() -> None:
    """Five minutes are 30 values; what nobody told of has none, what was told of and was nothing is 0."""
    line = make_frame({}, samples=make_seconds(1, 25, blue=make_part(7)))["lines"]["blue"]
    assert len(line["requests_per_s"]) == LINES_S // STEP_S
    assert line["requests_per_s"][-4:] == [None, 7.0, 7.0, 7.0] or line["requests_per_s"][-4:] == [7.0] * 4
    assert line["requests_per_s"][0] is None
    assert line["error_rate"][-1] == 0.0
