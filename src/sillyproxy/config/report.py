"""
The configuration as text to read: what is in force, what is wrong, what could be set.

For `sillyproxy check`, for standard error at a failed start, for `serve --help`, and for
`docs/reference/settings.md` (written by `scripts/settings_page.py`).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sillyproxy.config.merge import DEFAULT
from sillyproxy.config.parse import Problem
from sillyproxy.config.schema import Color, Config, Origin
from sillyproxy.config.settings import (
    BY_NAME,
    COLOR,
    COLOR_SECTIONS,
    COLOR_SETTINGS,
    PROXY_SECTIONS,
    PROXY_SETTINGS,
    SETTINGS,
    Section,
    Setting,
)
from sillyproxy.config.values import is_secret, mask, show_upstreams, show_weight

NOT_SET: Final = "(not set)"

# A value longer than this moves its own line only, not the column of all others.
_COLUMN: Final = 44

URL, WEIGHT = (BY_NAME[name] for name in (COLOR, f"{COLOR}_WEIGHT"))


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
    """
    Return the configuration in force: a line for each color, then for each setting, with its origin.

    A setting of a color that has no effect there has no line.
    """
    rows = list(_color_rows(config))
    settings = [
        (row.name, row.value, row.origin)
        for row in settings_in_force(config)
        if row.setting not in (URL, WEIGHT)
    ]
    return "\n".join([*_table(rows), "", *_table(settings)])


class InForce(NamedTuple):
    """A setting with the value that has effect, as it may be shown, and where it comes from."""

    name: str
    value: str
    origin: str
    setting: Setting


def settings_in_force(config: Config) -> Iterator[InForce]:
    """
    Yield every setting: of each color, then of the proxy.

    Of a color that is absent that alone; a setting of a color that has no effect there is left out.
    """
    present = {color.name: color for color in config.colors}
    for name in config.color_names:
        color = present.get(name)
        if color is None:
            variable = URL.name_for(name)
            yield InForce(variable, URL.absent, _source(config, variable), URL)
            continue
        for setting in COLOR_SETTINGS:
            if not _without_effect(setting, color):
                variable = setting.name_for(name)
                yield InForce(variable, *_in_force(config, setting, color, variable), setting)
    for setting in PROXY_SETTINGS:
        yield InForce(setting.name, *_in_force(config, setting, config, setting.name), setting)


def name_changes(before: Config, after: Config, at_most: int = 8) -> str:
    """
    Return what a reload changed, as an operator would write it down.

    A secret that changed is named, without either value.
    """
    old, new = ({row.name: row.value for row in settings_in_force(config)} for config in (before, after))
    texts = [
        f"{name} {old.get(name, NOT_SET)} → {new.get(name, NOT_SET)}"
        for name in dict.fromkeys((*new, *old))
        if old.get(name) != new.get(name)
    ]
    texts += [
        f"{name} changed"
        for name in dict.fromkeys((*before.origins, *after.origins))
        if is_secret(name) and old.get(name) == new.get(name) and _text(before, name) != _text(after, name)
    ]
    if before.tls.certificates != after.tls.certificates or before.tls.client_ca != after.tls.client_ca:
        texts.append("certificates renewed")
    if len(texts) > at_most:
        texts[at_most - 1 :] = [f"and {len(texts) - at_most + 1} more"]
    return ", ".join(texts)


def help_text(width: int = 100) -> str:
    """Return every setting with its meaning and its default, for `serve --help`."""
    parts: list[str] = []
    for setting in SETTINGS:
        default = setting.default or setting.absent
        text = f"{setting.help} Takes {setting.kind.takes}. Default: {default}.".replace("`", "")
        wrapped = textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
        parts += [f"  {setting.name}", *wrapped]
    return "\n".join(parts)


def settings_page() -> str:
    """Return docs/reference/settings.md."""
    return f"""\
<!-- Made from src/sillyproxy/config/settings.py by scripts/settings_page.py; edit the table there. -->
# Settings

Sillyproxy is configured by environment variables. `sillyproxy check` shows the configuration in force and
where each value comes from, or all that is wrong with it. A wrong value stops the start (exit status 2) or
the reload (the old configuration goes on); an unknown `SILLYPROXY_…` variable, or an unknown `<COLOR>_…`
variable of a color that has a URL, is a warning. Files named by `SILLYPROXY_ENV_FILE` win over the
environment, the command line over both.

## Of a color

`<COLOR>` is the color's name in capitals, `-` written as `_`: the URL of `blue-canary` is `BLUE_CANARY`. No
variable may belong to two colors (`a-b` with `a_b`, or `blue` with `blue-weight`). At most 31 names have a
row in the counts, and keep it: when reloads have named more in all, a restart is needed.

{_page_sections(COLOR_SECTIONS)}

## Of the proxy

{_page_sections(PROXY_SECTIONS)}

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
- A URL is `http://host[:port][/base]`, `https://…` or, for HTTP/2 in clear text, `h2c://…`; the port is 80 or
  443 unless named, the host a name (underscores are fine), an IPv4 address or an IPv6 address in brackets. A
  trailing slash of the base is ignored; a comma in it is written `%2C`. User, query and fragment are refused.
  `unix:/path` is a socket.
- Status codes are single ones, ranges or classes: `200`, `200-399`, `2xx`; from 200 to 599, at most 32 items.
- A percentage is a number from 0 to 100, with or without its sign: `50%`, `50`. Below 1 the sign is needed,
  because `0.5` might be meant as a half.
- The path of a health check begins with `/`; a query may follow; anything but URL characters is written
  `%XX`. It is asked for after the base of the color's URL.
- A network is `10.0.0.0/8`, `fd00::/8` or a single address. An address with bits beyond its prefix
  (`10.0.0.1/8`) is refused.
- A color's name begins with a letter or a digit and goes on with letters, digits, `-` and `_`; capitals are
  lowered.

## Lines of a file

A file named by `SILLYPROXY_ENV_FILE` has a line `NAME=value` for each setting. What to mount, and what
happens when it changes: [Change the configuration without a restart](../howto/reload.md).

| line | value |
| --- | --- |
| `BLUE_WEIGHT=4` | `4` |
| `export BLUE_WEIGHT=4` | `4` |
| `BLUE_WEIGHT= 4 # of 5` | `4`: blanks around it are ignored, and what follows a blank and `#` |
| `BLUE_HEALTH=/up#1` | `/up#1`: without a blank before it, `#` is part of the value |
| `BLUE_HEALTH='/up # "1"'` | `/up # "1"`: everything between single quotes |
| `BLUE_HEALTH="/up \\"1\\" \\$a"` | `/up "1" $a`: in double quotes, `\\` before `"`, `$`, `` ` ``, `\\` |
| `BLUE=http://$HOST` | `http://$HOST`: nothing is put in the place of a name |
| `GREEN=` | none: it unsets what the environment or an earlier file says |
| `# all to blue`, or blank | nothing |

Anything else is a problem, told with file and line: no `=`, blanks before it, a quote that is not closed or
stands inside a value, a value of several lines. Of two lines with the same name the later holds. Line ends
may be LF or CR LF; the text is UTF-8, with or without a byte order mark.

A path may be a directory. Its files are read in the order of their names, subdirectories are not entered.
A file whose name is a variable in capitals (`GREEN_WEIGHT`) is the value of that variable, as when the keys
of a config map or secrets are mounted; any other has lines. Left out: names that begin with `.` or `#` or
end in `~` (an editor's copies), and what is not a file. A file named itself, not by its directory, always
has lines.

At most 256 files are read, of 1 MiB each. `SILLYPROXY_ENV_FILE` in a file is ignored, with a warning.
"""


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


def _without_effect(setting: Setting, color: Color) -> bool:
    """Tell whether the setting that this one needs is not set, or it is about TLS that nobody speaks."""
    if setting.field.startswith("tls."):
        return all(upstream.scheme != "https" for upstream in color.upstreams)
    return setting.needs not in ("", URL.name) and _get(color, BY_NAME[setting.needs]) is None


def _get(owner: Config | Color, setting: Setting) -> Any:
    """Return the value of a setting; what stands where there is none for a part that is not there."""
    for name in setting.field.split("."):
        if owner is None:
            return setting.kind.none
        owner = getattr(owner, name)
    return owner


def _in_force(config: Config, setting: Setting, owner: Config | Color, name: str) -> tuple[str, str]:
    """Return value and origin of a setting of the proxy or a color."""
    source = _source(config, name)
    value = _get(owner, setting)
    if value == setting.kind.none and not setting.default:
        return setting.absent, source
    text = mask(name, setting.kind.show(value))
    asked = config.origins.get(name, Origin(setting.default, DEFAULT)).text.lower()
    return (f"{text} (auto)" if asked == "auto" and text != "auto" else text), source


def _text(config: Config, name: str) -> str:
    origin = config.origins.get(name)
    return origin.text if origin else ""


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


def _page_sections(sections: Iterable[Section]) -> str:
    parts: list[str] = []
    for section in sections:
        parts += [f"### {section.title}", _page_table(section.settings)]
        if section.note:
            parts.append("\n".join(textwrap.wrap(section.note, 110, break_on_hyphens=False)))
    return "\n\n".join(parts)


def _page_table(settings: Iterable[Setting]) -> str:
    lines = ["| variable | meaning | takes | default |", "| --- | --- | --- | --- |"]
    for setting in settings:
        default = f"`{setting.default}`" if setting.default else setting.absent
        takes = re.sub(r"(http://[^ ,]+)", r"`\1`", setting.kind.takes)  # or it becomes a link
        cells = (f"`{setting.name}`", setting.help, takes, default)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
