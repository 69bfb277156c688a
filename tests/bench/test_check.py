"""A subject that does other work is refused before it is measured."""

from __future__ import annotations

import dataclasses

import pytest
from bench.check import Seen, judge
from bench.process import BrokenError

GOOD = [
    Seen(color, color, "127.0.0.1", "HTTP/1.1", "shop.example.com", "7")
    for color in ["blue"] * 80 + ["green"] * 20
]


def test_right_work_is_accepted() -> None:
    """
    80 to 20, both fields set, connections kept: this is the work.
    """
    assert judge(GOOD).blue_share == 0.8


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (GOOD[:50] + GOOD[80:], "went to blue"),
        ([dataclasses.replace(one, color="forged") for one in GOOD], "color of their pool"),
        ([dataclasses.replace(one, forwarded_for="") for one in GOOD], "X-Forwarded-For"),
        ([dataclasses.replace(one, protocol="HTTP/1.0") for one in GOOD], "not HTTP/1.1"),
        ([dataclasses.replace(one, host="127.0.0.1:81") for one in GOOD], "client's Host"),
        ([dataclasses.replace(one, connection=str(n)) for n, one in enumerate(GOOD)], "not reused"),
    ],
)
def test_other_work_is_refused_by_name(seen: list[Seen], complaint: str) -> None:
    """
    Less work is not shown as more speed, and the reason is told.
    """
    with pytest.raises(BrokenError, match=complaint):
        judge(seen)
