"""
Several sources, one draft.

A draft is text that nobody has checked yet: the name of each setting, its text, and
where that text came from. Where two sources name the same setting the livelier wins
(the command line over a file, a file over the environment), and the winner's origin
stays with it, so that an error can say where to look.

An empty text is kept: it unsets what a less lively source has set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sillyproxy.config.schema import Origin
from sillyproxy.config.settings import BY_NAME

Draft = Mapping[str, Origin]

ENVIRONMENT: Final = "environment"
COMMAND_LINE: Final = "command line"
DEFAULT: Final = "default"


def read_environment(environ: Mapping[str, str]) -> Draft:
    """Return the process environment as a draft, all of it: `parse` knows what is ours."""
    return {name: Origin(text, ENVIRONMENT) for name, text in environ.items()}


def read_command_line(listen: str | None = None) -> Draft:
    """Return the options of `serve` as a draft."""
    return {} if listen is None else {"SILLYPROXY_LISTEN": Origin(listen, COMMAND_LINE)}


def merge(*drafts: Draft) -> Draft:
    """
    Return one draft of several, the liveliest last.

    >>> merge({"BLUE": Origin("http://a", "environment")}, {"BLUE": Origin("http://b", "edge.env")})
    {'BLUE': Origin(text='http://b', source='edge.env')}
    """
    merged: dict[str, Origin] = {}
    for draft in drafts:
        merged.update(draft)
    return merged


def add_colors(draft: Draft, colors: Sequence[str]) -> Draft:
    """
    Return the draft with the colors of the command line after those it names.

    >>> add_colors({}, ["red"])["SILLYPROXY_COLORS"]
    Origin(text='blue,green,red', source='default and command line')
    """
    named = draft.get("SILLYPROXY_COLORS")
    if named is None or not named.text.strip():
        named = Origin(BY_NAME["SILLYPROXY_COLORS"].default, DEFAULT)
    names = [name.strip() for name in named.text.split(",")]
    seen = {name.lower() for name in names}
    # `serve blue` asks for nothing new: blue is looked for anyway.
    extra: list[str] = []
    for color in (part.strip() for text in colors for part in text.split(",")):
        if color and color.lower() not in seen:
            seen.add(color.lower())
            extra.append(color)
    if not extra:
        return draft
    origin = Origin(",".join([named.text, *extra]), f"{named.source} and {COMMAND_LINE}")
    return merge(draft, {"SILLYPROXY_COLORS": origin})
