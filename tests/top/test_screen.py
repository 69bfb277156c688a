"""The picture: nothing is wider or higher than the terminal, and what matters is always on it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sillyproxy.top.plain import Plain
from sillyproxy.top.screen import draw
from tests.top.telling import make_color, make_event, make_part, make_seconds
from tests.top.test_frame import WALL, make_frame

CANARY = make_seconds(
    1,
    60,
    blue=make_part(80, took_ms=[1.0], share=0.8),
    green=make_part(20, 2, took_ms=[30.0], share=0.2),
)
COLORS = [make_color("blue", 4.0, 0.8, a1="up"), make_color("green", 1.0, 0.2, a2="up", a3="ejected")]


def make_canary(replicas: int = 3, silent: int = 1) -> dict[str, Any]:
    """Return the frame of a canary in which green is worse, with much to tell."""
    events = [make_event(n, WALL - 60 * n, f"event {n} of a proxy", level="warning") for n in range(20)]
    answers = [{"colors": COLORS, "events": events, "version": f"1.{n}"} for n in range(replicas)]
    return make_frame(*answers, *["no answer within 1 s"] * silent, samples=CANARY)


def draw_text(frame: dict[str, Any], width: int, height: int) -> str:
    """Return the picture as text."""
    return "\n".join(line.plain for line in draw(frame, "tasks.proxy:9080", width, height, "q quit"))


@pytest.mark.parametrize("height", [1, 2, 5, 10, 24, 40, 200])
@pytest.mark.parametrize("width", [1, 10, 40, 60, 80, 120, 300])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    """However small or large the terminal is, the picture is no larger."""
    for frame in (make_canary(), make_canary(30, 5), make_frame("no answer"), make_frame()):
        lines = draw(frame, "tasks.proxy:9080", width, height, "q quit")
        assert len(lines) <= height
        assert max(line.cell_len for line in lines) <= width


@pytest.mark.parametrize(("width", "height"), [(60, 20), (80, 24), (120, 40)])
def test_what_decides_is_on_every_terminal(width: int, height: int) -> None:
    """The verdict, both colors' figures, an endpoint that is out and a silent replica are always seen."""
    picture = draw_text(make_canary(), width, height)
    flat = " ".join(picture.split())
    assert "✗ green is worse than blue: fails 10 points more" in flat
    for seen in (
        "80 %",
        "20 %",
        "10.0 %!",
        "30.",
        "10.0.0.3:8080",
        "ejected",
        "no answer within 1 s",
        "event 0",
    ):
        assert seen in picture, seen


def test_a_cut_section_says_how_much_is_missing() -> None:
    """Nothing is left out silently."""
    picture = draw_text(make_canary(), 80, 24)
    (missing,) = re.findall(r"^events  (\d+) more$", picture, re.MULTILINE)
    assert int(missing) + picture.count("of a proxy") == 20
    assert "more" not in draw_text(make_canary(), 80, 200).replace("points more", "")


def test_what_is_worse_has_a_sign_and_not_only_a_color() -> None:
    """Who sees no color, or has NO_COLOR set, sees the same."""
    lines = draw_text(make_canary(), 120, 60).splitlines()
    (green,) = [line for line in lines if line.startswith("green   ") and "!" in line]
    assert green.count("!") == 4
    assert [line[:3] for line in lines if "no answer" in line] == ["  ✗"]
    assert {line[2] for line in lines if "version 1." in line} == {"✓", "≠"}


def test_what_several_replicas_report_is_one_event() -> None:
    """A reload that all replicas made is one line, and says how many."""
    picture = draw_text(make_canary(), 120, 60)
    assert picture.count("event 3 of a proxy") == 1
    assert "3 replicas event 3" in picture


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["connection refused"], "no replica answers"),
        ([{"colors": [make_color("blue", 1.0, 1.0)]}], "only blue is configured"),
        ([{"colors": []}], "no color is configured"),
    ],
)
def test_without_a_comparison_it_is_said_why(answers: list[Any], said: str) -> None:
    """Where there is nothing to compare the place of the verdict says so."""
    frame = make_frame(*answers, samples=[])
    assert said in draw_text(frame, 80, 24)
    assert said in "\n".join(Plain().block(frame))


def test_lines_for_a_pipe_say_it_all_and_tell_an_event_once() -> None:
    """In a pipe a block has everything, uncut; an event is in the first block after it alone."""
    plain, frame = Plain(), make_canary()
    first, second = plain.block(frame), plain.block(frame)
    assert "  verdict: green is worse than blue" in first[1]
    assert sum("event 19 of a proxy" in line for line in first) == 3
    assert [line for line in first if not line.startswith("  event ")] == second
    assert all(line.startswith("  ") for line in first[1:])
