"""
How an access log line is written: a word for one of the known formats, or a template of fields.

    {time} {client} "{method} {target}" {status} {duration_ms} {http:User-Agent}

A template is read once, into the text between the fields and the fields themselves; what a
field says of an exchange is `proxy.fields`' to know, under the same names as in the table here.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sillyproxy.config.values import Refused, nearest, show_text

# Text between the fields, and how many fields: so that each has room on a line of 4096 bytes.
MAX_LITERAL_BYTES: Final = 1024
MAX_FIELDS: Final = 64

# `{http:NAME}`: a field of the request.
HTTP: Final = "http:"


class LogField(NamedTuple):
    """One field: its name, what it says, and where that comes from."""

    name: str
    meaning: str
    source: str


FIELDS: Final = (
    LogField("time", "When the exchange ended: RFC 3339, UTC, milliseconds.", "the clock"),
    LogField("clf_time", "The same as Apache writes it, in brackets, to the second.", "the clock"),
    LogField("epoch", "The same in seconds since 1970, with milliseconds.", "the clock"),
    LogField("client", "The client's IP address; `unknown` over a unix socket.", "the connection"),
    LogField(
        "request", "Method, target and protocol as one text; `-` if no request line came.", "the request"
    ),
    LogField("method", "The method.", "the request"),
    LogField("target", "Path and query as the client sent them.", "the request"),
    LogField("protocol", "`HTTP/1.0` or `HTTP/1.1`.", "the request"),
    LogField("status", "The status that the client got; 499: it went away before.", "the response"),
    LogField("color", "The color that was asked.", "the split"),
    LogField("endpoint", "The endpoint that was asked last.", "the balance"),
    LogField("bytes_in", "Bytes of the request's body.", "counted"),
    LogField("bytes_out", "Bytes of the response's body from the color.", "counted"),
    LogField("clf_bytes", "The same as Apache writes it: `-` for 0.", "counted"),
    LogField("duration_ms", "Milliseconds from the request's head to the end of the response.", "measured"),
    LogField("first_byte_ms", "The same to the head of the response; `-` where none came.", "measured"),
    LogField("retries", "How often it was sent again.", "counted"),
    LogField("request_id", "`X-Request-ID`: the client's own, or ours.", "the request"),
    LogField("trace_id", "The trace that it belongs to; `-` for none.", "`traceparent`, or the proxy"),
    LogField("span_id", "The proxy's part in it.", "the proxy"),
    LogField("error", "What went wrong: an error type of RFC 9209.", "the proxy"),
    LogField("reason", "The same in words.", "the proxy"),
    LogField("sample", "The share of lines like this one that are written, as a part of 1.", "the setting"),
)
NAMES: Final = tuple(field.name for field in FIELDS)

# Apache's NCSA formats are templates as well. RFC 1413's identity and the user are never known here.
COMMON: Final = '{client} - - {clf_time} "{request}" {status} {clf_bytes}'
COMBINED: Final = COMMON + ' "{http:Referer}" "{http:User-Agent}"'
TEMPLATES: Final = {"common": COMMON, "combined": COMBINED}
WORDS: Final = ("text", "json", *TEMPLATES)

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_HTTP_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


class Template(NamedTuple):
    """
    A template that was read: `literals` stand around and between the `fields`, one more than these.

    A field is a name of the table, or `http:` and a field's name in lower case.
    """

    literals: tuple[str, ...]
    fields: tuple[str, ...]


def read_log_format(text: str) -> str:
    """
    Read a format; a word in lower case, or a template as it is.

    Raises Refused, or a group of them: one for each field that is wrong.
    """
    if text.lower() in WORDS:
        return text.lower()
    if "{" not in text:
        close = nearest(text.lower(), WORDS)
        raise Refused(
            "neither a known word nor a template with a {field}", f"did you mean {close} ?" if close else ""
        )
    read_template(text)
    return text


def read_template(text: str) -> Template:
    """
    Read a template. Raises an ExceptionGroup of Refused: one for each thing that is wrong.

    >>> read_template("{status} {{x}} {http:User-Agent}!")
    Template(literals=('', ' {x} ', '!'), fields=('status', 'http:user-agent'))
    """
    literals = [""]
    fields: list[str] = []
    problems: list[Refused] = []
    for match in _PART.finditer(text):
        part, name = match[0], match[1]
        if name is not None:
            try:
                fields.append(_read_field(name))
                literals.append("")
            except Refused as error:
                problems.append(error)
        elif part in ("{", "}"):
            problems.append(Refused(f"a {part} without its other half", f"write {part * 2} for a brace"))
        else:
            literals[-1] += part[0] if part in ("{{", "}}") else part
    if not problems and len(fields) > MAX_FIELDS:
        problems.append(Refused(f"more than {MAX_FIELDS} fields", "use fewer"))
    if sum(len(literal.encode("utf-8", "replace")) for literal in literals) > MAX_LITERAL_BYTES:
        problems.append(Refused(f"more than {MAX_LITERAL_BYTES} bytes beside its fields", "use fewer"))
    if problems:
        raise ExceptionGroup("a template", problems)
    return Template(tuple(literals), tuple(fields))


def _read_field(name: str) -> str:
    if name in NAMES:
        return name
    lowered = name.lower()
    if lowered.startswith(HTTP):
        if _HTTP_NAME.fullmatch(name[len(HTTP) :]):
            return lowered
        raise Refused(f"{{{show_text(name)}}} names no request field", "write for instance {http:User-Agent}")
    if close := nearest(lowered, NAMES):
        raise Refused(f"unknown field {{{show_text(name)}}}", f"did you mean {{{close}}} ?")
    # Who writes {user-agent} means what the request says.
    if "-" in name and _HTTP_NAME.fullmatch(name):
        raise Refused(f"unknown field {{{show_text(name)}}}", f"did you mean {{http:{name}}} ?")
    close = nearest(lowered, NAMES, 0) or NAMES[0]
    raise Refused(f"unknown field {{{show_text(name)}}}", f"the nearest known one is {{{close}}}")
