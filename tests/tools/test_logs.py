"""The log of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sillyproxy.tools.logs import Value, format_line

SOURCE = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ('"', r'"\""'),
        ("a\nb", r'"a\nb"'),
        ("", "-"),
        (None, "-"),
        (7, "7"),
    ],
)
def test_value_is_quoted_where_it_must_be(value: Value, shown: str) -> None:
    """A line can be taken apart again: a value with a space, a quote or a line end is in quotes."""
    assert format_line(0, "info", "it", "m", {"k": value}, json=False).endswith(f" k={shown}")


def test_json_holds_the_same_facts() -> None:
    """The JSON form has a field for each fact."""
    line = format_line(1.5, "warning", "it", "what", {"k": "a\nb", "n": 1}, json=True)
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "warning",
        "process": "it",
        "message": "what",
        "k": "a\nb",
        "n": 1,
    }


def run_logging(code: str, stderr: int) -> str:
    program = (
        f"import sys; sys.path.insert(0, {os.fspath(SOURCE)!r}); from sillyproxy.tools import logs; {code}"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=30,
        check=True,
    ).stdout


def test_log_that_nobody_reads_holds_up_nobody() -> None:
    """With a full pipe for standard error lines are dropped and counted, and the process goes on."""
    reader, writer = os.pipe()
    code = "[logs.info('x' * 1000) for _ in range(500)]; print(logs.dropped() > 0)"
    assert run_logging(code, writer) == "True\n"
    os.close(writer)
    os.close(reader)


def test_log_whose_reader_is_gone_holds_up_nobody() -> None:
    """With nobody at the other end of standard error the process goes on."""
    reader, writer = os.pipe()
    os.close(reader)
    assert run_logging("logs.info('x'); print(logs.dropped())", writer) == "1\n"
    os.close(writer)


def test_level_is_a_threshold() -> None:
    """SILLYPROXY_LOG_LEVEL=warning shows warnings and errors alone."""
    code = "logs.setup(level='warning'); logs.debug('d'); logs.info('i'); logs.warning('w'); logs.error('e')"
    reader, writer = os.pipe()
    run_logging(code, writer)
    os.close(writer)
    with os.fdopen(reader) as log:
        assert [line.split(": ")[1] for line in log.read().splitlines()] == ["w", "e"]
