"""
How it is written where spans go: the URL of a collector, and the fields that it asks for.

The fields are a secret. What is wrong with one is told by its place, never by what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

from sillyproxy.config.values import BLANKS, TAKEN_FIELDS, Refused, read_authority, show_text

# OTLP 1.x, "OTLP/HTTP Request": where a collector takes traces, unless the URL says otherwise.
TRACES_PATH: Final = "/v1/traces"
MAX_SERVICE: Final = 128
MAX_FIELDS: Final = 32

_SCHEME = re.compile(r"(https?)://", re.IGNORECASE)
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


def read_endpoint(text: str) -> str:
    """
    Read the URL of a collector; without a path it gets OTLP's own.

    >>> read_endpoint("http://collector:4318"), read_endpoint("https://tempo/otlp/v1/traces")
    ('http://collector:4318/v1/traces', 'https://tempo/otlp/v1/traces')
    """
    match = _SCHEME.match(text)
    if not match:
        raise Refused("neither http:// nor https://")
    authority, slash, path = text[match.end() :].partition("/")
    if "@" in authority:
        raise Refused("a user or password in the URL is not supported", "use SILLYPROXY_OTLP_HEADERS")
    for mark, word in (("?", "query"), ("#", "fragment")):
        if mark in text:
            raise Refused(f"a URL with a {word} is not supported", f"remove what begins with {mark}")
    read_authority(authority)
    if not _PATH.fullmatch(slash + path):
        raise Refused("the path has characters that a URL may not have", "write them as %XX")
    return f"{match[1].lower()}://{authority}{slash + path if path else TRACES_PATH}"


def read_fields(text: str) -> tuple[tuple[str, str], ...]:
    """
    Read header fields, `name=value` separated by commas, as OTEL_EXPORTER_OTLP_HEADERS has them.

    >>> read_fields("Authorization=Basic%20YQ==, X-Scope-OrgID=7")
    (('Authorization', 'Basic YQ=='), ('X-Scope-OrgID', '7'))
    """
    fields: list[tuple[str, str]] = []
    refused: list[Refused] = []
    for number, item in enumerate(text.split(","), 1):
        name, equals, value = item.partition("=")
        name, value = name.strip(BLANKS), unquote(value.strip(BLANKS))
        wrong = _wrong_with(name, equals, value, [known for known, _ in fields])
        if wrong:
            refused.append(Refused(f"field {number} {wrong}"))
        fields.append((name, value))
    if len(fields) > MAX_FIELDS:
        refused.append(Refused(f"more than {MAX_FIELDS} fields"))
    if refused:
        raise ExceptionGroup("fields", refused)
    return tuple(fields)


def _wrong_with(name: str, equals: str, value: str, known: Sequence[str]) -> str:
    """Return what is wrong with a field, without a word of what it says; empty if nothing is."""
    if not equals:
        return "has no ="
    if not _NAME.fullmatch(name):
        return "has a name that is none"
    if name.lower() in TAKEN_FIELDS or name.lower().startswith("content-"):
        return "has a name that HTTP needs itself"
    if name.lower() in map(str.lower, known):
        return "has the name of one before it"
    if not value:
        return "has no value"
    if not all(" " <= char <= "~" for char in value):
        return "has a value that is not printable ASCII"
    return ""


def show_fields(fields: Sequence[tuple[str, str]]) -> str:
    """Return fields as `read_fields` reads them."""
    return ",".join(f"{name}={quote(value)}" for name, value in fields)


def read_service(text: str) -> str:
    """Read the name of a service."""
    if len(text) > MAX_SERVICE:
        raise Refused(f"longer than {MAX_SERVICE} characters", f"shorten {show_text(text[:20])}…")
    return text
