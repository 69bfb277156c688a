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
from sillyproxy.proxy.record import LONGEST_ID, LONGEST_METHOD, LONGEST_TARGET, Facts, Moment, Names

if TYPE_CHECKING:
    from sillyproxy.errors import Problem
    from sillyproxy.http1.forward import RequestPlan
    from sillyproxy.http1.trace import Trace
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.traffic.color import ColorAtWork
    from sillyproxy.traffic.endpoint import Endpoint

Getter = Callable[["Entry"], "bytes | int | float"]

# Bytes of a request field on a line.
LONGEST_VALUE: Final = 800
_LONGEST_NAME: Final = 300
_NOTHING: Final = b"-"

# Field sections whose values are remembered; longer ones are not.
_MAX_SECTIONS: Final = 256
_MAX_SECTION_BYTES: Final = 2048


class Entry:
    """The facts of the exchange whose line is being made, by name. One object serves all."""

    moment: Moment
    weight: bytes
    edge: Edge
    ip: str
    method: bytes
    target: bytes
    minor: int
    plan: RequestPlan | None
    fields: bytes
    number: int
    color: ColorAtWork | None
    endpoint: Endpoint | None
    trace: Trace | None
    status: int
    bytes_in: int
    bytes_out: int
    duration_ns: int
    first_ns: int
    retries: int
    problem: Problem | None

    def __init__(self) -> None:
        self.names = Names(lambda name: quoted(name.encode(), _LONGEST_NAME))

    def read(self, facts: Facts) -> None:
        """Take on another exchange."""
        (
            self.moment, self.weight,
            self.edge, self.ip, self.method, self.target, self.minor, self.plan, self.fields, self.number,
            self.color, self.endpoint, self.trace,
            self.status, self.bytes_in, self.bytes_out,
            self.duration_ns, self.first_ns, self.retries, self.problem,
        ) = facts  # fmt: skip


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

    def __call__(self, entry: Entry) -> bytes:
        """Return its value."""
        if entry.plan is None:
            return _NOTHING  # what was no request has none; these are an earlier one's
        section = entry.fields
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


def _time(entry: Entry) -> bytes:
    return entry.moment.stamp


def _clf_time(entry: Entry) -> bytes:
    return entry.moment.clf_stamp


def _epoch(entry: Entry) -> float:
    return entry.moment.ms / 1000


def _client(entry: Entry) -> bytes:
    return entry.names[entry.ip]


def _method(entry: Entry) -> bytes:
    method = entry.method
    return method if _is_sound(entry, method, LONGEST_METHOD) else quoted(method, LONGEST_METHOD)


def _target(entry: Entry) -> bytes:
    target = entry.target
    return target if _is_sound(entry, target, LONGEST_TARGET) else quoted(target, LONGEST_TARGET)


def _is_sound(entry: Entry, value: bytes, limit: int) -> bool:
    """Tell whether a part of the request line needs no escape: the grammar lets nothing else through."""
    return len(value) <= limit and entry.plan is not None and b"\\" not in value


def _protocol(entry: Entry) -> bytes:
    if entry.plan is None:
        return _NOTHING
    return entry.plan.protocol


def _request(entry: Entry) -> bytes:
    if entry.plan is None:
        # No version that we know of; Apache writes what came, and one dash for nothing.
        method, target = _method(entry), _target(entry)
        return _NOTHING if method == _NOTHING else b"%b %b" % (method, target)
    return b"%b %b %b" % (_method(entry), _target(entry), entry.plan.protocol)


def _request_id(entry: Entry) -> bytes:
    plan = entry.plan
    if plan is not None and plan.request_id:
        return quoted(plan.request_id, LONGEST_ID)
    return b"%b%08x" % (entry.edge.id_prefix, entry.number)  # as Exchange.request_id


def _color(entry: Entry) -> bytes:
    color = entry.color
    return _NOTHING if color is None else entry.names[color.name]


def _endpoint(entry: Entry) -> bytes:
    endpoint = entry.endpoint
    return _NOTHING if endpoint is None else entry.names[endpoint.name]


def _status(entry: Entry) -> int:
    return entry.status


def _bytes_in(entry: Entry) -> int:
    return entry.bytes_in


def _bytes_out(entry: Entry) -> int:
    return entry.bytes_out


def _clf_bytes(entry: Entry) -> bytes:
    return b"%d" % entry.bytes_out if entry.bytes_out else _NOTHING


def _duration_ms(entry: Entry) -> float:
    return entry.duration_ns / 1e6


def _retries(entry: Entry) -> int:
    return entry.retries


def _first_byte_ms(entry: Entry) -> bytes:
    return b"%.3f" % (entry.first_ns / 1e6) if entry.first_ns >= 0 else _NOTHING


def _trace_id(entry: Entry) -> bytes:
    return entry.trace[0] if entry.trace else _NOTHING


def _span_id(entry: Entry) -> bytes:
    return entry.trace[1] if entry.trace else _NOTHING


def _error(entry: Entry) -> bytes:
    return entry.problem.kind.encode() if entry.problem else _NOTHING


def _reason(entry: Entry) -> bytes:
    return quoted(entry.problem.detail.encode(), LONGEST_VALUE) if entry.problem else _NOTHING


def _sample(entry: Entry) -> bytes:
    return entry.weight


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
