"""
The configuration as text to read: what is in force, what is wrong, what could be set.

For `sillyproxy check`, for standard error at a failed start, for `serve --help`, and for
`docs/reference/settings.md` (written by `scripts/settings_page.py`).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Final

from sillyproxy.config.merge import DEFAULT
from sillyproxy.config.parse import Problem
from sillyproxy.config.schema import Config, Origin
from sillyproxy.config.settings import COLOR_SETTINGS, PROXY_SETTINGS, SETTINGS, Setting
from sillyproxy.config.values import show_text, show_upstreams, show_weight

SECRET_WORDS: Final = ("TOKEN", "SECRET", "PASSWORD", "KEY")

# A value longer than this moves its own line only, not the column of all others.
_COLUMN: Final = 44

URL, WEIGHT, _ = COLOR_SETTINGS


def problems_text(problems: Sequence[Problem], outcome: str = "nothing was started") -> str:
    """Return all problems as an operator reads them; `outcome` is what became of the configuration."""
    head = f"sillyproxy: {_count(len(problems), 'problem')} in the configuration, {outcome}"
    return "\n".join([head, *_lines(problems)])


def warnings_text(warnings: Sequence[Problem]) -> str:
    """Return all warnings as an operator reads them; empty if there are none."""
    if not warnings:
        return ""
    return "\n".join(
        [f"sillyproxy: {_count(len(warnings), 'warning')} in the configuration", *_lines(warnings)]
    )


def config_text(config: Config) -> str:
    """Return the configuration in force: a line for each color, then for each setting, with its origin."""
    rows = list(_color_rows(config))
    settings = [
        (s.name, _in_force(config, s), _source(config, s.name)) for s in PROXY_SETTINGS if not s.later
    ]
    return "\n".join([*_table(rows), "", *_table(settings)])


def help_text(width: int = 100) -> str:
    """Return every setting with its meaning and its default, for `serve --help`."""
    parts: list[str] = []
    for setting in SETTINGS:
        later = " Not in force yet." if setting.later else ""
        default = setting.default or setting.absent
        text = f"{setting.help} Takes {setting.kind.takes}. Default: {default}.{later}".replace("`", "")
        wrapped = textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
        parts += [f"  {setting.name}", *wrapped]
    return "\n".join(parts)


def settings_page() -> str:
    """Return docs/reference/settings.md."""
    return f"""\
<!-- Made from src/sillyproxy/config/settings.py by scripts/settings_page.py; edit the table there. -->
# Settings

Sillyproxy is configured by environment variables. `sillyproxy check` shows the configuration in force and
where each value comes from, or all that is wrong with it. A wrong value stops the start (exit status 2); an
unknown `SILLYPROXY_…` variable, or an unknown `<COLOR>_…` variable of a color that has a URL, is a warning.

## Of a color

`<COLOR>` is the color's name in capitals, `-` written as `_`: the URL of `blue-canary` is `BLUE_CANARY`. No
variable may belong to two colors (`a-b` with `a_b`, or `blue` with `blue-weight`).

{_page_table(COLOR_SETTINGS)}

## Of the proxy

{_page_table(PROXY_SETTINGS)}

## How values are written

- White space around a value, and around the items of a list, is ignored. Any other character that does not
  print is refused.
- **An empty value is no value**: `GREEN=` is the same as no `GREEN` at all, and the default holds.
- Words (`auto`, `off`, `json` …) and units may be in capitals or not.
- A duration is a number of seconds, or a number with a unit: `500ms`, `2s`, `1.5m`, `1h`; at most 7 days.
- A size is a number of bytes, or a whole number with a unit: `64k` (65536), `10m`, `1g`.
- A weight is a decimal number from 0 to 1000000: `1`, `0.5`, `80`. No exponent, sign or percent sign.
- An address is `:8080` (all addresses, IPv4 and IPv6), `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`
  (127.0.0.1) or `unix:/path` (at most 107 bytes). Host names are refused, because they may change under a
  running proxy.
- A URL is `http://host[:port][/base]`; the port is 80 unless named, the host a name (underscores are fine),
  an IPv4 address or an IPv6 address in brackets. A trailing slash of the base is ignored; a comma in it is
  written `%2C`. User, query and fragment are refused. `https://` is not supported yet.
- A network is `10.0.0.0/8`, `fd00::/8` or a single address. An address with bits beyond its prefix
  (`10.0.0.1/8`) is refused.
- A color's name begins with a letter or a digit and goes on with letters, digits, `-` and `_`; capitals are
  lowered.
"""


def mask(name: str, text: str) -> str:
    """Return the text of a setting as it may be shown: not at all if its name says that it is a secret."""
    return "***" if any(word in name.upper() for word in SECRET_WORDS) else show_text(text)


def _color_rows(config: Config) -> Iterable[tuple[str, str, str]]:
    total = sum(color.weight for color in config.colors)
    present = {color.name: color for color in config.colors}
    for name in config.color_names:
        color = present.get(name)
        if color is None:
            yield name, "absent", f"{URL.name_for(name)} is not set"
            continue
        share = f"{100 * color.weight / total if total else 0:.4g} %"
        weight = f"weight {show_weight(color.weight)} ({_source(config, WEIGHT.name_for(name))})"
        yield (
            name,
            f"{share} of requests, {weight}",
            f"{show_upstreams(color.upstreams)} ({_source(config, URL.name_for(name))})",
        )


def _in_force(config: Config, setting: Setting) -> str:
    value = attrgetter(setting.field)(config)
    if value == setting.kind.none and not setting.default:
        return setting.absent
    text = mask(setting.name, setting.kind.show(value))
    asked = config.origins.get(setting.name, Origin(setting.default, DEFAULT)).text.lower()
    return f"{text} (auto)" if asked == "auto" and text != "auto" else text


def _source(config: Config, name: str) -> str:
    origin = config.origins.get(name)
    return origin.source if origin else DEFAULT


def _lines(problems: Sequence[Problem]) -> list[str]:
    return _table([(problem.setting, f"({problem.source})", problem.reason) for problem in problems])


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [
        max((len(cell) for cell in column if len(cell) <= _COLUMN), default=0)
        for column in zip(*rows, strict=True)
    ]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _count(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _page_table(settings: Iterable[Setting]) -> str:
    lines = ["| variable | meaning | takes | default |", "| --- | --- | --- | --- |"]
    for setting in settings:
        default = f"`{setting.default}`" if setting.default else setting.absent
        later = " **Known, but does not take effect yet.**" if setting.later else ""
        takes = re.sub(r"(http://[^ ,]+)", r"`\1`", setting.kind.takes)  # or it becomes a link
        cells = (f"`{setting.name}`", setting.help + later, takes, default)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
