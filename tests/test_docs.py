"""What README and docs name is there: settings, metrics, links, failures, and lines of the log."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from sillyproxy import errors
from sillyproxy.config.settings import BY_NAME
from sillyproxy.metrics.table import METRICS
from sillyproxy.tools.logs import LEVELS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sillyproxy"
OPERATIONS = ROOT / "docs" / "operations.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
SETTING = re.compile(r"(?<![A-Z_])(?:SILLYPROXY|<COLOR>|BLUE|GREEN)_[A-Z][A-Z0-9_]*[A-Z0-9]")
ENDING = re.compile(r"_[A-Z][A-Z_]*[A-Z]")
METRIC = re.compile(r"\b(sillyproxy_[a-z0-9_]+)(?:\{([^}]*)\})?")
LINK = re.compile(r"\]\(([^()\s]+)\)")
LINE = re.compile(rf"({'|'.join(LEVELS)}) sillyproxy(?: worker \d+| controller)?: (.*)")
SHORT_LINE = re.compile(rf"({'|'.join(LEVELS)}): (.*)")
FIELD = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|\S+)')

# What looks like a setting and is none.
NOT_SETTINGS = frozenset({"BLUE_CANARY", "SILLYPROXY_RETRYS"})  # a color, a mistake
# Pictures that a long run draws, and that may not have been drawn yet.
DRAWN = re.compile(r"images/(?:faults|soak)[a-z-]*\.svg")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


Constants = dict[str, ast.expr | None]


class Message(NamedTuple):
    """A line that can be logged. An empty level, or no fields: only the program that runs knows them."""

    level: str
    text: re.Pattern[str]
    fields: frozenset[str] | None


# What the pages say.


@pages
def test_every_setting_that_is_named_exists(page: Path) -> None:
    """Whoever copies a variable's name out of a page gets one that sillyproxy knows."""
    named = set(SETTING.findall(page.read_text())) - NOT_SETTINGS
    assert sorted({re.sub("^(?:BLUE|GREEN)_", "<COLOR>_", name) for name in named} - BY_NAME.keys()) == []


@pages
def test_every_ending_of_a_setting_belongs_to_one(page: Path) -> None:
    """`_TIMEOUT`, short for a setting named before it, is how a setting ends."""
    endings = [code for code in CODE.findall(page.read_text()) if ENDING.fullmatch(code)]
    assert [ending for ending in endings if not any(name.endswith(ending) for name in BY_NAME)] == []


@pages
def test_every_metric_that_is_named_exists(page: Path) -> None:
    """A dashboard or an alert that is copied out of a page finds its metrics, with those labels."""
    known = {metric.shown: {*metric.labels} for metric in METRICS}
    for metric in METRICS:
        if metric.kind == "histogram":
            known |= {f"{metric.name}_{part}": {*metric.labels, "le"} for part in ("bucket", "sum", "count")}
    wrong = []
    for name, inside in METRIC.findall(page.read_text()):
        # `{color}` names a label, `{color="blue"}` a value besides.
        labels = set(re.findall(r"(\w+)\s*[=!]", inside)) or set(re.findall(r"\w+", inside))
        if not (name in known and labels <= known[name]):
            wrong.append((name, inside))
    assert wrong == []


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    """Every link within the repository leads to a file, and to a heading where it names one."""
    dead = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in link or DRAWN.search(link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    assert dead == []


@pages
def test_every_quoted_line_of_the_log_can_be_logged(page: Path) -> None:
    """A line of the log that a page quotes is one that sillyproxy writes: level, message, and fields."""
    messages = list(read_messages())
    lines = quoted_lines(page.read_text())
    assert [
        f"{level} {line}" for level, line in lines if not any(can_be(level, line, m) for m in messages)
    ] == []


def test_the_operations_page_quotes_the_log() -> None:
    """Whoever searches the operations page for a line of the log finds it there."""
    assert len(list(quoted_lines(OPERATIONS.read_text()))) > 20


def test_every_kind_of_failure_is_explained() -> None:
    """Each word that `error=` can have in the access log and in `Proxy-Status` is in the operations page."""
    kinds = {problem.kind for problem in vars(errors).values() if isinstance(problem, errors.Problem)}
    text = OPERATIONS.read_text()
    assert sorted(kind for kind in kinds if f"`{kind}`" not in text) == []
    assert set(re.findall(r"error=(\w+)", text)) <= kinds


# How they are read.


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ +(.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def quoted_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield level and rest of each line in blocks of `log`, and of each `level: message` in the text."""
    for language, block in FENCE.findall(text):
        if language != "log":
            continue
        for line in block.splitlines():
            match = LINE.fullmatch(line)
            assert match, f"not a line of the log: {line}"
            yield match[1], match[2]
    for code in CODE.findall(FENCE.sub("", text)):
        if match := SHORT_LINE.fullmatch(code):
            yield match[1], match[2]


def can_be(level: str, line: str, message: Message) -> bool:
    """Tell whether a line may be this message."""
    text = FIELD.split(line, maxsplit=1)[0]
    fields = {name for name, _ in FIELD.findall(line)}
    return (
        message.level in ("", level)
        and message.text.fullmatch(text.removesuffix(" …")) is not None
        and (message.fields is None or fields <= message.fields)
    )


def read_messages() -> Iterator[Message]:
    """Yield every message that the source can log."""
    trees = [ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")]
    constants = {
        target.id: node.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call):
            yield from _messages_of(node, constants)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            tell, what = node.elts
            if isinstance(tell, ast.Attribute) and tell.attr in LEVELS:
                yield from _make(tell.attr, what, None, constants)


def _messages_of(call: ast.Call, constants: Constants) -> Iterator[Message]:
    name = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
    if not call.args:
        return
    first = call.args[0]
    if name in LEVELS:
        yield from _make(name, first, _fields_of(call), constants)
    elif name in ("log", "tell") and (levels := _levels_in(first)):
        # One that is told now and then says how often it would have been told.
        fields = _fields_of(call) | ({"requests"} if name == "tell" else set())
        for level in levels:
            yield from _make(level, call.args[1], fields, constants)
    elif name == "tell":
        yield from _make("", first, _fields_of(call), constants)


def _levels_in(what: ast.expr) -> list[str]:
    """Return the levels that an argument may be: one, or one of two."""
    if isinstance(what, ast.IfExp):
        return [*_levels_in(what.body), *_levels_in(what.orelse)]
    return [str(what.value)] if isinstance(what, ast.Constant) and what.value in LEVELS else []


def _fields_of(call: ast.Call) -> frozenset[str]:
    """Return the names of a call's fields, of those that are there only now and then too."""
    named = {keyword.arg for keyword in call.keywords if keyword.arg}
    sometimes = (node for word in call.keywords if not word.arg for node in ast.walk(word.value))
    keys = (key for node in sometimes if isinstance(node, ast.Dict) for key in node.keys)
    return frozenset(named | {str(key.value) for key in keys if isinstance(key, ast.Constant)})


def _make(
    level: str, what: ast.expr, fields: frozenset[str] | None, constants: Constants
) -> Iterator[Message]:
    if isinstance(what, ast.Name):
        what = constants.get(what.id) or what
    if isinstance(what, ast.IfExp):
        yield from _make(level, what.body, fields, constants)
        yield from _make(level, what.orelse, fields, constants)
    elif isinstance(what, ast.Constant) and isinstance(what.value, str):
        yield Message(level, re.compile(re.escape(what.value)), fields)
    elif isinstance(what, ast.JoinedStr):
        parts = (re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in what.values)
        yield Message(level, re.compile("".join(parts)), fields)
