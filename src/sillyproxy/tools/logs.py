"""
What an operator reads: one line an event, on standard error.

The text form is for people and `grep`, the JSON form for machines; both carry the same
facts. The library's `logging` costs ten times the memory and knows no fields, and its
handlers block: here a line is written only if standard error can take it at once, so
that a log nobody reads never holds up a request. Lines given up are counted.

    2026-11-22T14:25:00.123Z info sillyproxy: listening on 127.0.0.1:8080 workers=2
    {"time": "2026-…", "level": "info", "process": "sillyproxy", "message": "listening on …", "workers": 2}
"""

from __future__ import annotations

import os
import select
import sys
import time
from json import dumps
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")

# Linux takes a line of up to PIPE_BUF bytes whole, whoever else writes to the pipe.
MAX_LINE_BYTES: Final = select.PIPE_BUF

Value = str | int | float | bool | None


class CannotLog(Exception):
    """The access log cannot be written. The message is for the operator, whole."""


def check_writable(target: str) -> None:
    """Find out whether an access log can be written, before the workers do. Raise CannotLog."""
    if target in ("stdout", "stderr", "off"):
        return
    try:
        with open(target, "ab"):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotLog(f"cannot write the access log {target}: {reason}") from None


class _Log:
    """Where the lines of this process go. One a process; `setup` changes it."""

    def __init__(self) -> None:
        self.json = False
        self.threshold = LEVELS.index("info")
        self.process = "sillyproxy"
        self.dropped = 0


_log = _Log()


def setup(*, log_format: str = "text", level: str = "info", process: str = "sillyproxy") -> None:
    """Say how this process logs, and under what name."""
    _log.json = log_format == "json"
    _log.threshold = LEVELS.index(level)
    _log.process = process


def debug(message: str, **fields: Value) -> None:
    """Log what only someone who looks for a fault wants to know."""
    _emit(0, message, fields)


def info(message: str, **fields: Value) -> None:
    """Log what happened and is as it should be."""
    _emit(1, message, fields)


def warning(message: str, **fields: Value) -> None:
    """Log what an operator should look at."""
    _emit(2, message, fields)


def error(message: str, **fields: Value) -> None:
    """Log what is broken."""
    _emit(3, message, fields)


def dropped() -> int:
    """Return how many lines of this process were given up because nobody read them."""
    return _log.dropped


def format_line(
    when: float, level: str, process: str, message: str, fields: dict[str, Value], json: bool
) -> str:
    r"""
    Return one line, without its end.

    >>> format_line(0.5, "info", "sillyproxy", "worker died", {"pid": 7, "reason": "exit code 1"}, False)
    '1970-01-01T00:00:00.500Z info sillyproxy: worker died pid=7 reason="exit code 1"'
    >>> format_line(0.0, "info", "it", "ready", {"colors": 2}, True)
    '{"time": "1970-01-01T00:00:00.000Z", "level": "info", "process": "it", "message": "ready", "colors": 2}'
    """
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{int(when * 1000) % 1000:03d}Z"
    if json:
        return dumps({"time": stamp, "level": level, "process": process, "message": message} | fields)
    parts = [f"{stamp} {level} {process}: {message}"]
    parts += [f"{name}={_quote(value)}" for name, value in fields.items()]
    return " ".join(parts)


def _quote(value: Value) -> str:
    if value is None or value == "":
        return "-"
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & {" ", '"', "="}
    return text if plain else dumps(text)


def _emit(level: int, message: str, fields: dict[str, Value]) -> None:
    if level < _log.threshold:
        return
    line = format_line(time.time(), LEVELS[level], _log.process, message, fields, _log.json)
    data = line.encode("utf-8", "backslashreplace")[: MAX_LINE_BYTES - 1] + b"\n"
    try:
        descriptor = sys.stderr.fileno() if sys.stderr is not None else 2
        waiting = select.poll()
        waiting.register(descriptor, select.POLLOUT)
        if waiting.poll(0):
            os.write(descriptor, data)
        else:
            _log.dropped += 1
    except (OSError, ValueError):  # closed, or its reader is gone: there is nobody left to tell
        _log.dropped += 1
