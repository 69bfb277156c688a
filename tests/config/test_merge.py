"""Several sources become one draft."""

from __future__ import annotations

import pytest

from sillyproxy.config.merge import add_colors, merge, read_command_line, read_environment
from sillyproxy.config.schema import Origin


def test_livelier_source_wins_and_keeps_its_origin() -> None:
    """
    `--listen` wins over the variable, and an error in it will point to the command line.
    """
    draft = merge(read_environment({"SILLYPROXY_LISTEN": ":1", "BLUE": "b"}), read_command_line(":2"))

    assert draft == {"SILLYPROXY_LISTEN": Origin(":2", "command line"), "BLUE": Origin("b", "environment")}


def test_command_line_that_says_nothing_changes_nothing() -> None:
    """
    Without `--listen` the variable holds.
    """
    assert read_command_line() == {}


@pytest.mark.parametrize(
    ("named", "colors", "expected"),
    [
        (None, ["red"], "blue,green,red"),
        ("", ["red"], "blue,green,red"),
        ("blue", ["red", "Violet"], "blue,red,Violet"),
        ("blue,", ["red"], "blue,,red"),  # still a problem, not repaired in silence
        ("blue,green", ["r!d"], "blue,green,r!d"),
        (None, ["red,violet", " red ", ""], "blue,green,red,violet"),
    ],
)
def test_colors_of_the_command_line_come_after_the_others(
    named: str | None, colors: list[str], expected: str
) -> None:
    """
    `serve red` adds red after the colors of the variable, or after blue and green.
    """
    draft = {} if named is None else {"SILLYPROXY_COLORS": Origin(named, "environment")}

    assert add_colors(draft, colors)["SILLYPROXY_COLORS"].text == expected


@pytest.mark.parametrize("colors", [[], ["blue"], ["BLUE", "green"], [""]])
def test_color_that_is_there_already_is_not_added(colors: list[str]) -> None:
    """
    `serve blue` asks for nothing new and is no mistake.
    """
    assert add_colors({}, colors) == {}


def test_origin_of_added_colors_names_both_sources() -> None:
    """
    A bad name is looked for in both places that the list was made of.
    """
    draft = {"SILLYPROXY_COLORS": Origin("blue", "environment")}

    assert add_colors(draft, ["red"])["SILLYPROXY_COLORS"].source == "environment and command line"
