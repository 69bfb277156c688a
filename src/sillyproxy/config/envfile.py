"""
Lines of `NAME=value`, as a shell, Compose and systemd read them, where these agree.

Comments, blank lines, `export` and quotes are understood; nothing is put in the place of
`$NAME`. What one of them would read otherwise than another (a quote in the middle of a
value, blanks before the `=`) is a problem, not a guess.
"""

from __future__ import annotations

import re
from typing import Final

from sillyproxy.config.parse import Problem, Reading
from sillyproxy.config.schema import Origin
from sillyproxy.config.values import BLANKS

FILES: Final = "SILLYPROXY_ENV_FILE"
# A file that is something else altogether has as many bad lines as it has lines.
MAX_BAD_LINES: Final = 10

_LINE = re.compile(r"(?:export[ \t]+)?(?P<name>[A-Za-z0-9_]+)=(?P<value>.*)", re.DOTALL)
_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z0-9_]+)[ \t]*")
# A value that ends at the end of the line or at a comment: quoted either way, or bare.
_SINGLE = re.compile(r"'([^']*)'(?:[ \t]+#.*|[ \t]*)", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\["\\$`])*)"(?:[ \t]+#.*|[ \t]*)', re.DOTALL)
_COMMENT = re.compile(r"(?<=[ \t])#.*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)")
# A file with a name of this form, in a directory, is one value: as secrets are mounted.
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def read_lines(text: str, source: str) -> Reading:
    """Return the draft that a file's text is, and a problem for each line that is not `NAME=value`."""
    draft: dict[str, Origin] = {}
    problems: list[Problem] = []
    warnings: list[Problem] = []
    bad_lines = 0
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        origin = f"{source}, line {number}"
        try:
            name, value = _read_line(line.strip(BLANKS))
        except _BadLine as error:
            bad_lines += 1
            if bad_lines <= MAX_BAD_LINES:
                problems.append(Problem(error.name or FILES, None, origin, str(error)))
            continue
        if name == FILES:
            warnings = [Problem(FILES, None, origin, "only the process environment names files; ignored")]
        elif name:
            draft[name] = Origin(value, origin)
    if bad_lines > MAX_BAD_LINES:
        more = bad_lines - MAX_BAD_LINES
        problems.append(Problem(FILES, None, source, f"{more} more lines that are not NAME=value"))
    return Reading(draft, tuple(problems), tuple(warnings))


def is_variable(name: str) -> bool:
    """Tell whether a file of this name, in a directory, is one value and not lines."""
    return _VARIABLE.fullmatch(name) is not None


def read_value(name: str, text: str, source: str) -> Reading:
    """Return the draft that the file of one variable is: its content, without blanks around it."""
    text = text.removeprefix("\ufeff").strip(BLANKS)
    if name == FILES:
        return Reading(
            {}, (), (Problem(FILES, None, source, "only the process environment names files; ignored"),)
        )
    match = _LINE.fullmatch(text)
    if "\n" in text or (match and not match["name"][0].isdigit()):
        # Whoever wrote lines into a file EDGE would look long for what became of them.
        reason = (
            f"a file with a name in capitals is the value of {name}; name it otherwise for NAME=value lines"
        )
        return Reading({name: Origin(text, source)}, (), (Problem(name, None, source, reason),))
    return Reading({name: Origin(text, source)})


class _BadLine(ValueError):
    """A line that is not `NAME=value`, and the variable that it seems to be about."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(reason)
        self.name = name


def _read_line(line: str) -> tuple[str, str]:
    """Return name and value; the name is empty where there is nothing to read."""
    if not line or line.startswith("#"):
        return "", ""
    match = _LINE.fullmatch(line)
    if not match:
        spaced = _NAME.match(line)
        if spaced and line[spaced.end() :].startswith("="):
            raise _BadLine(f"blanks before the =; write {spaced[1]}=value", spaced[1])
        if "=" not in line:
            raise _BadLine("a line without =; write NAME=value, or # before a comment")
        raise _BadLine("what is before the = is not a name; use letters, digits and _")
    name, value = match["name"], match["value"]
    for quote, form in (("'", _SINGLE), ('"', _DOUBLE)):
        if value.lstrip(BLANKS).startswith(quote):
            quoted = form.fullmatch(value.lstrip(BLANKS))
            if not quoted:
                raise _BadLine(_why_not_quoted(value.lstrip(BLANKS), quote), name)
            return name, quoted[1] if quote == "'" else _ESCAPED.sub(r"\1", quoted[1])
    value = _COMMENT.sub("", value).strip(BLANKS)
    if "'" in value or '"' in value:
        raise _BadLine("a quote inside a value; put quotes around the whole of it", name)
    return name, value


def _why_not_quoted(value: str, quote: str) -> str:
    if quote not in value[1:]:
        return f"no {quote} at the end of the line; a value is on one line"
    if quote == '"' and "\\" in value:
        return 'after a backslash in double quotes only " \\ $ and ` are understood; use single quotes'
    return f"more than a comment after the closing {quote}"
