"""
The forms of an access log line: text, JSON, and templates, Apache's formats among them.

Values are bytes from the connection on, and lines are made of them by one `%` each. Only what is
not plain is escaped (`escape`), and what the grammar of requests rules out is not looked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sillyproxy.config.logformat import TEMPLATES, read_template
from sillyproxy.proxy.escape import cut, is_plain, json_text, word
from sillyproxy.proxy.fields import Entry, conversion_of, getter_of
from sillyproxy.proxy.record import (
    LONGEST_ID,
    LONGEST_METHOD,
    LONGEST_TARGET,
    MAX_LINE_BYTES,
    Names,
    Recorder,
    retries_of,
)

if TYPE_CHECKING:
    from sillyproxy.config.schema import AccessLog
    from sillyproxy.errors import Problem
    from sillyproxy.proxy.exchange import Exchange
    from sillyproxy.proxy.logfile import LineWriter

_JSON: Final = (
    b'{"time":"%b","client":%b,"method":"%b","target":"%b","status":%d,"color":%b,"endpoint":%b,'
    b'"bytes_in":%d,"bytes_out":%d,"duration_ms":%.3f,"request_id":"%b"%b}\n'
)
_JSON_FIRST_BYTE: Final = b',"first_byte_ms":%.3f'
_JSON_TRACE: Final = b',"trace_id":"%b","span_id":"%b"'
_TEXT: Final = b'%b %b "%b %b" %d color=%b endpoint=%b bytes=%d duration=%.3fms id=%b%b\n'
_TEXT_FIRST_BYTE: Final = b" first_byte=%.3fms"
_TEXT_TRACE: Final = b" trace=%b span=%b"

# An address, a color and an endpoint have no more than this.
_LONGEST_NAME: Final = 300


def make_recorder(access_log: AccessLog, writer: LineWriter | None, start: float = 0.0) -> Recorder:
    """Return what makes the lines that are asked for; with no writer it makes none."""
    share = access_log.sample
    if writer is None:
        return Recorder(None, share, start)
    if access_log.format == "text":
        return TextRecorder(writer, share, start)
    if access_log.format == "json":
        return JsonRecorder(writer, share, start)
    return TemplateRecorder(TEMPLATES.get(access_log.format, access_log.format), writer, share, start)


class JsonRecorder(Recorder):
    """One JSON object a line. What is not there is null, or left out at its end."""

    __slots__ = ("_names",)

    def __init__(self, writer: LineWriter | None = None, share: float = 1.0, start: float = 0.0) -> None:
        super().__init__(writer, share, start)
        self._names = Names(lambda name: b'"%b"' % json_text(name.encode(), _LONGEST_NAME))

    def add(self, exchange: Exchange, status: int, duration_ns: int, problem: Problem | None) -> None:
        """Note one finished exchange, and what was wrong with it."""
        if self.samples and self.passes_over(status, problem):
            return
        if (ended_ns := exchange.started_ns + duration_ns) >= self._until_ns:
            self.tell_time(ended_ns)
        plan = exchange.plan
        method = exchange.method
        target = exchange.target
        # The grammar lets nothing else through that would have to be escaped, but of whom it refuses.
        if len(target) > LONGEST_TARGET or b"\\" in target or plan is None or len(method) > LONGEST_METHOD:
            method = json_text(method, LONGEST_METHOD)
            target = json_text(target, LONGEST_TARGET)
        if plan is None or not (request_id := plan.request_id):
            # Inlined from Exchange.request_id: once for every line.
            request_id = b"%b%08x" % (exchange.edge.id_prefix, exchange.number)
        elif not is_plain(request_id, LONGEST_ID):
            request_id = json_text(request_id, LONGEST_ID)
        tail = b"" if problem is None else self._problem(problem)
        if first_byte_ns := exchange.first_byte_ns:
            tail += _JSON_FIRST_BYTE % ((first_byte_ns - exchange.started_ns) / 1e6)
        if (trace := exchange.trace) is not None:
            tail += _JSON_TRACE % trace[:2]
        if exchange.untidy or self.samples:
            tail += self._rest(exchange)
        names = self._names
        color = exchange.color
        endpoint = exchange.endpoint
        self.lines += _JSON % (
            self.stamp,
            names[exchange.down.ip],
            method,
            target,
            status,
            b"null" if color is None else names[color.name],
            b"null" if endpoint is None else names[endpoint.name],
            exchange.bytes_in,
            exchange.bytes_out,
            duration_ns / 1e6,
            request_id,
            tail,
        )

    @staticmethod
    def _problem(problem: Problem) -> bytes:
        reason = json_text(problem.detail.encode(), LONGEST_TARGET)
        return b',"error":"%b","reason":"%b"' % (problem.kind.encode(), reason)

    def _rest(self, exchange: Exchange) -> bytes:
        """Return what few lines have."""
        tail = b""
        if retries := retries_of(exchange):
            tail += b',"retries":%d' % retries
        if self.samples:
            tail += b',"sample":%b' % self.weight
        return tail


class TextRecorder(Recorder):
    """One line of words, as people and `grep` read it."""

    __slots__ = ("_names",)

    def __init__(self, writer: LineWriter | None = None, share: float = 1.0, start: float = 0.0) -> None:
        super().__init__(writer, share, start)
        self._names = Names(lambda name: word(name.encode(), _LONGEST_NAME))

    def add(self, exchange: Exchange, status: int, duration_ns: int, problem: Problem | None) -> None:
        """Note one finished exchange, and what was wrong with it."""
        if self.samples and self.passes_over(status, problem):
            return
        if (ended_ns := exchange.started_ns + duration_ns) >= self._until_ns:
            self.tell_time(ended_ns)
        plan = exchange.plan
        method = exchange.method
        target = exchange.target
        # The grammar lets nothing through that is not one word.
        if len(target) > LONGEST_TARGET or plan is None or len(method) > LONGEST_METHOD:
            method = word(method, LONGEST_METHOD)
            target = word(target, LONGEST_TARGET)
        if plan is None or not (request_id := plan.request_id):
            # Inlined from Exchange.request_id: once for every line.
            request_id = b"%b%08x" % (exchange.edge.id_prefix, exchange.number)
        else:
            request_id = word(request_id, LONGEST_ID)
        tail = b"" if problem is None else self._problem(problem)
        if first_byte_ns := exchange.first_byte_ns:
            tail += _TEXT_FIRST_BYTE % ((first_byte_ns - exchange.started_ns) / 1e6)
        if (trace := exchange.trace) is not None:
            tail += _TEXT_TRACE % trace[:2]
        if exchange.untidy or self.samples:
            tail += self._rest(exchange)
        names = self._names
        color = exchange.color
        endpoint = exchange.endpoint
        self.lines += _TEXT % (
            self.stamp,
            names[exchange.down.ip],
            method,
            target,
            status,
            b"-" if color is None else names[color.name],
            b"-" if endpoint is None else names[endpoint.name],
            exchange.bytes_out,
            duration_ns / 1e6,
            request_id,
            tail,
        )

    @staticmethod
    def _problem(problem: Problem) -> bytes:
        return b' error=%b reason="%b"' % (problem.kind.encode(), problem.detail.encode())

    def _rest(self, exchange: Exchange) -> bytes:
        """Return what few lines have."""
        tail = b""
        if retries := retries_of(exchange):
            tail += b" retries=%d" % retries
        if self.samples:
            tail += b" sample=%b" % self.weight
        return tail


class TemplateRecorder(Recorder):
    """What a template says: its literals, and between them what its fields say."""

    __slots__ = ("_entry", "_format", "_getters", "_room")

    def __init__(
        self, template: str, writer: LineWriter | None = None, share: float = 1.0, start: float = 0.0
    ) -> None:
        super().__init__(writer, share, start)
        literals, fields = read_template(template)
        texts = [literal.encode("utf-8", "replace") for literal in literals]
        parts = [texts[0].replace(b"%", b"%%")]
        for field, text in zip(fields, texts[1:], strict=True):
            parts += (conversion_of(field), text.replace(b"%", b"%%"))
        self._format = b"".join(parts) + b"\n"
        self._getters = tuple(getter_of(field) for field in fields)
        # What each value may take up where all of them together are too long; and its dots.
        self._room = (MAX_LINE_BYTES - 1 - sum(map(len, texts))) // max(1, len(fields)) - 3
        self._entry = Entry(self)

    def add(self, exchange: Exchange, status: int, duration_ns: int, problem: Problem | None) -> None:
        """Note one finished exchange, and what was wrong with it."""
        if self.samples and self.passes_over(status, problem):
            return
        if (ended_ns := exchange.started_ns + duration_ns) >= self._until_ns:
            self.tell_time(ended_ns)
        entry = self._entry
        entry.status = status
        entry.duration_ns = duration_ns
        entry.problem = problem
        values = tuple([get(entry, exchange) for get in self._getters])
        line = self._format % values
        if len(line) > MAX_LINE_BYTES:
            room = self._room
            line = self._format % tuple(
                [cut(value, room) if isinstance(value, bytes) else value for value in values]
            )
        self.lines += line
