"""
What the fields of a template say of an exchange; the table of them is `config.logformat`.

Values are escaped as Apache escapes them, so that no client ends a line or closes a quote; what
is not there is `-`. A request's own fields are looked up in those that go on to the endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sillyproxy.config.logformat import HTTP
from sillyproxy.proxy.escape import quoted
from sillyproxy.proxy.record import LONGEST_ID, LONGEST_METHOD, LONGEST_TARGET, Names, Recorder, retries_of

if TYPE_CHECKING:
    from sillyproxy.errors import Problem
    from sillyproxy.proxy.exchange import Exchange

Getter = Callable[["Entry", "Exchange"], "bytes | int | float"]

# Bytes of a request field on a line.
LONGEST_VALUE: Final = 800
_LONGEST_NAME: Final = 300
_NOTHING: Final = b"-"

# Field sections whose values are remembered; longer ones are not.
_MAX_SECTIONS: Final = 256
_MAX_SECTION_BYTES: Final = 2048


class Entry:
    """The exchange whose line is being made: what itself does not know. One object serves all."""

    __slots__ = ("duration_ns", "names", "problem", "recorder", "status")

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.status = 0
        self.duration_ns = 0
        self.problem: Problem | None = None
        self.names = Names(lambda name: quoted(name.encode(), _LONGEST_NAME))


def conversion_of(field: str) -> bytes:
    """Return how a field's value is written: text, a whole number, or milliseconds."""
    return _CONVERSIONS.get(field, b"%b")


def getter_of(field: str) -> Getter:
    """Return what knows a field's value, by its name in a template that was read."""
    return HttpField(field[len(HTTP) :]) if field.startswith(HTTP) else GETTERS[field]


class HttpField:
    """A field of the request; several of the same name are one list (RFC 9110, 5.3)."""

    __slots__ = ("_line", "_name", "_values")

    def __init__(self, name: str) -> None:
        self._name = b"\r\n%b:" % name.encode()
        self._line = re.compile(rb"\r\n(?i:%b):([^\r\n]*)" % re.escape(name.encode()))
        self._values: dict[bytes, bytes] = {}

    def __call__(self, _entry: Entry, exchange: Exchange) -> bytes:
        """Return its value."""
        if exchange.plan is None:
            return _NOTHING  # what was no request has none; these are an earlier one's
        section = exchange.fields
        value = self._values.get(section)
        if value is None:
            value = self._find(section)
            if len(section) <= _MAX_SECTION_BYTES:
                if len(self._values) >= _MAX_SECTIONS:
                    self._values.clear()
                self._values[section] = value
        return value

    def _find(self, section: bytes) -> bytes:
        # A regular expression that ignores case takes ten times as long to find nothing.
        if self._name not in section.lower():
            return _NOTHING
        values = [value.strip(b" \t") for value in self._line.findall(section)]
        return quoted(b", ".join(values), LONGEST_VALUE)


def _time(entry: Entry, _exchange: Exchange) -> bytes:
    return entry.recorder.stamp


def _clf_time(entry: Entry, _exchange: Exchange) -> bytes:
    return entry.recorder.clf_stamp


def _epoch(entry: Entry, _exchange: Exchange) -> float:
    return entry.recorder.now_ms / 1000


def _client(entry: Entry, exchange: Exchange) -> bytes:
    return entry.names[exchange.down.ip]


def _method(_entry: Entry, exchange: Exchange) -> bytes:
    method = exchange.method
    return method if _is_sound(exchange, method, LONGEST_METHOD) else quoted(method, LONGEST_METHOD)


def _target(_entry: Entry, exchange: Exchange) -> bytes:
    target = exchange.target
    return target if _is_sound(exchange, target, LONGEST_TARGET) else quoted(target, LONGEST_TARGET)


def _is_sound(exchange: Exchange, value: bytes, limit: int) -> bool:
    """Tell whether a part of the request line needs no escape: the grammar lets nothing else through."""
    return len(value) <= limit and exchange.plan is not None and b"\\" not in value


def _protocol(_entry: Entry, exchange: Exchange) -> bytes:
    if exchange.plan is None:
        return _NOTHING
    return b"HTTP/1.1" if exchange.minor else b"HTTP/1.0"


def _request(entry: Entry, exchange: Exchange) -> bytes:
    if exchange.plan is None:
        # No version that we know of; Apache writes what came, and one dash for nothing.
        method, target = _method(entry, exchange), _target(entry, exchange)
        return _NOTHING if method == _NOTHING else b"%b %b" % (method, target)
    return b"%b %b HTTP/1.%d" % (_method(entry, exchange), _target(entry, exchange), exchange.minor)


def _request_id(_entry: Entry, exchange: Exchange) -> bytes:
    request_id = exchange.request_id
    plan = exchange.plan
    if plan is not None and not plan.request_id:
        return request_id  # our own
    return quoted(request_id, LONGEST_ID)


def _color(entry: Entry, exchange: Exchange) -> bytes:
    color = exchange.color
    return _NOTHING if color is None else entry.names[color.name]


def _endpoint(entry: Entry, exchange: Exchange) -> bytes:
    endpoint = exchange.endpoint
    return _NOTHING if endpoint is None else entry.names[endpoint.name]


def _status(entry: Entry, _exchange: Exchange) -> int:
    return entry.status


def _bytes_in(_entry: Entry, exchange: Exchange) -> int:
    return exchange.bytes_in


def _bytes_out(_entry: Entry, exchange: Exchange) -> int:
    return exchange.bytes_out


def _clf_bytes(_entry: Entry, exchange: Exchange) -> bytes:
    return b"%d" % exchange.bytes_out if exchange.bytes_out else _NOTHING


def _duration_ms(entry: Entry, _exchange: Exchange) -> float:
    return entry.duration_ns / 1e6


def _retries(_entry: Entry, exchange: Exchange) -> int:
    return retries_of(exchange)


def _first_byte_ms(_entry: Entry, exchange: Exchange) -> bytes:
    first_byte_ns = exchange.first_byte_ns
    return b"%.3f" % ((first_byte_ns - exchange.started_ns) / 1e6) if first_byte_ns else _NOTHING


def _trace_id(_entry: Entry, exchange: Exchange) -> bytes:
    return exchange.trace[0] if exchange.trace else _NOTHING


def _span_id(_entry: Entry, exchange: Exchange) -> bytes:
    return exchange.trace[1] if exchange.trace else _NOTHING


def _error(entry: Entry, _exchange: Exchange) -> bytes:
    return entry.problem.kind.encode() if entry.problem else _NOTHING


def _reason(entry: Entry, _exchange: Exchange) -> bytes:
    return quoted(entry.problem.detail.encode(), LONGEST_VALUE) if entry.problem else _NOTHING


def _sample(entry: Entry, _exchange: Exchange) -> bytes:
    return entry.recorder.weight


GETTERS: Final[dict[str, Getter]] = {
    "time": _time,
    "clf_time": _clf_time,
    "epoch": _epoch,
    "client": _client,
    "request": _request,
    "method": _method,
    "target": _target,
    "protocol": _protocol,
    "status": _status,
    "color": _color,
    "endpoint": _endpoint,
    "bytes_in": _bytes_in,
    "bytes_out": _bytes_out,
    "clf_bytes": _clf_bytes,
    "duration_ms": _duration_ms,
    "first_byte_ms": _first_byte_ms,
    "retries": _retries,
    "request_id": _request_id,
    "trace_id": _trace_id,
    "span_id": _span_id,
    "error": _error,
    "reason": _reason,
    "sample": _sample,
}
_CONVERSIONS: Final = {
    "status": b"%d",
    "bytes_in": b"%d",
    "bytes_out": b"%d",
    "retries": b"%d",
    "duration_ms": b"%.3f",
    "epoch": b"%.3f",
}
