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
from sillyproxy.proxy.logfile import MAX_LINE_BYTES
from sillyproxy.proxy.record import (
    LONGEST_ID,
    LONGEST_METHOD,
    LONGEST_TARGET,
    Names,
    Recorder,
)

if TYPE_CHECKING:
    from sillyproxy.config.schema import AccessLog
    from sillyproxy.errors import Problem
    from sillyproxy.proxy.logfile import LineWriter

_JSON_FIRST: Final = (
    b'{"time":"%b","client":%b,"method":"%b","target":"%b","status":%d,"color":%b,"endpoint":%b,'
    b'"bytes_in":%d,"bytes_out":%d,"duration_ms":%.3f,"request_id":"%b"'
)
_JSON_FIRST_BYTE: Final = b',"first_byte_ms":%.3f'
_JSON_TRACE: Final = b',"trace_id":"%b","span_id":"%b"'
_JSON: Final = _JSON_FIRST + b"%b}\n"
_JSON_ANSWERED: Final = _JSON_FIRST + _JSON_FIRST_BYTE + b"}\n"
_JSON_TRACED: Final = _JSON_FIRST + _JSON_FIRST_BYTE + _JSON_TRACE + b"}\n"
_TEXT: Final = b'%b %b "%b %b" %d color=%b endpoint=%b bytes=%d duration=%.3fms id=%b%b\n'

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

    def work_off(self) -> None:
        """Make a line of each that is pending."""
        names = self._names
        samples = self.samples
        lines = self.lines
        for (
            moment, weight,
            edge, ip, method, target, _, plan, _, number,
            color, endpoint, trace,
            status, bytes_in, bytes_out,
            duration_ns, first_ns, retries, problem,
        ) in self.take():  # fmt: skip
            # The grammar lets nothing else through that would have to be escaped, but of whom it refuses.
            if (
                plan is None
                or b"\\" in target
                or len(target) > LONGEST_TARGET
                or len(method) > LONGEST_METHOD
            ):
                method = json_text(method, LONGEST_METHOD)
                target = json_text(target, LONGEST_TARGET)
            if plan is None or not (request_id := plan.request_id):
                # As Exchange.request_id.
                request_id = b"%b%08x" % (edge.id_prefix, number)
            elif not is_plain(request_id, LONGEST_ID):
                request_id = json_text(request_id, LONGEST_ID)
            values = (
                moment.stamp,
                names[ip],
                method,
                target,
                status,
                b"null" if color is None else names[color.name],
                b"null" if endpoint is None else names[endpoint.name],
                bytes_in,
                bytes_out,
                duration_ns / 1e6,
                request_id,
                first_ns / 1e6,
            )
            if problem is None and first_ns >= 0 and not (retries or samples):
                # As nearly always: one `%` for all of it.
                lines += _JSON_ANSWERED % values if trace is None else _JSON_TRACED % (values + trace[:2])
                continue
            tail = b"" if problem is None else _json_problem(problem)
            if first_ns >= 0:
                tail += _JSON_FIRST_BYTE % (first_ns / 1e6)
            if trace is not None:
                tail += _JSON_TRACE % trace[:2]
            if retries:
                tail += b',"retries":%d' % retries
            if samples:
                tail += b',"sample":%b' % weight
            lines += _JSON % (*values[:-1], tail)


def _json_problem(problem: Problem) -> bytes:
    reason = json_text(problem.detail.encode(), LONGEST_TARGET)
    return b',"error":"%b","reason":"%b"' % (problem.kind.encode(), reason)


class TextRecorder(Recorder):
    """One line of words, as people and `grep` read it."""

    __slots__ = ("_names",)

    def __init__(self, writer: LineWriter | None = None, share: float = 1.0, start: float = 0.0) -> None:
        super().__init__(writer, share, start)
        self._names = Names(lambda name: word(name.encode(), _LONGEST_NAME))

    def work_off(self) -> None:
        """Make a line of each that is pending."""
        names = self._names
        samples = self.samples
        lines = self.lines
        for (
            moment, weight,
            edge, ip, method, target, _, plan, _, number,
            color, endpoint, trace,
            status, _, bytes_out,
            duration_ns, first_ns, retries, problem,
        ) in self.take():  # fmt: skip
            # The grammar lets nothing through that is not one word.
            if plan is None or len(target) > LONGEST_TARGET or len(method) > LONGEST_METHOD:
                method = word(method, LONGEST_METHOD)
                target = word(target, LONGEST_TARGET)
            if plan is None or not (request_id := plan.request_id):
                # As Exchange.request_id.
                request_id = b"%b%08x" % (edge.id_prefix, number)
            else:
                request_id = word(request_id, LONGEST_ID)
            tail = b"" if problem is None else _text_problem(problem)
            if first_ns >= 0:
                tail += b" first_byte=%.3fms" % (first_ns / 1e6)
            if retries:
                tail += b" retries=%d" % retries
            if trace is not None:
                tail += b" trace=%b span=%b" % trace[:2]
            if samples:
                tail += b" sample=%b" % weight
            lines += _TEXT % (
                moment.stamp,
                names[ip],
                method,
                target,
                status,
                b"-" if color is None else names[color.name],
                b"-" if endpoint is None else names[endpoint.name],
                bytes_out,
                duration_ns / 1e6,
                request_id,
                tail,
            )


def _text_problem(problem: Problem) -> bytes:
    return b' error=%b reason="%b"' % (problem.kind.encode(), problem.detail.encode())


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
        self._entry = Entry()

    def work_off(self) -> None:
        """Make a line of each that is pending."""
        entry = self._entry
        for facts in self.take():
            entry.read(facts)
            values = tuple([get(entry) for get in self._getters])
            line = self._format % values
            if len(line) > MAX_LINE_BYTES:
                room = self._room
                line = self._format % tuple(
                    [cut(value, room) if isinstance(value, bytes) else value for value in values]
                )
            self.lines += line
