"""Answers over the network: what is no answer is refused as a whole."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from typing import Any

import pytest

from sillyproxy.top.told import read_answer
from tests.top.telling import make_answer, make_event, make_part, make_seconds

GOOD = make_answer(make_seconds(1, 2, blue=make_part(3)), events=[make_event(1, 5e8, "started")])


def paths(data: Any, *path: Any) -> list[tuple[Any, ...]]:
    """Return the way to each value in plain data."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [(*path, key) for key, _ in items] + [
        found for key, value in items for found in paths(value, *path, key)
    ]


def change(path: tuple[Any, ...], value: object) -> Any:
    """Return a good answer with another value there."""
    data = copy.deepcopy(GOOD)
    inner: Any = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return data


def test_a_good_answer_is_read() -> None:
    """What a replica tells is what is shown."""
    answer = read_answer(GOOD)
    assert [sample.colors["blue"].requests for sample in answer.samples] == [3, 3]
    assert [color.name for color in answer.status.colors] == ["blue", "green"]
    assert [event.text for event in answer.status.events] == ["started"]


@pytest.mark.parametrize(
    "value", [None, [], {}, "text", 3, -1, 10**400, [1], {"a": 1}, [None], "\x1b[2J"], ids=repr
)
def test_whatever_stands_anywhere_in_an_answer_it_is_read_or_refused(value: object) -> None:
    """
    Another program at the address, another version: who talks nonsense is said to, and top goes on.
    Nothing that is read reaches the terminal as a command.
    """
    outcomes = set()
    for path in [(), *paths(GOOD)]:
        try:
            answer = read_answer(change(path, value) if path else value)
        except ValueError:
            outcomes.add("refused")
        else:
            assert "\\u001b" not in json.dumps(asdict(answer))
            outcomes.add("read")
    assert "refused" in outcomes


def test_a_color_that_is_gone_is_not_one_of_the_configuration() -> None:
    """A color without a weight was seen lately, and is not configured: it does not count as served."""
    data = change(("status", "colors", 1, "weight"), None)
    assert [color.name for color in read_answer(data).status.colors] == ["blue"]
