"""
What a head becomes for the next hop.

A *plan* is all that a head decides: how the message is framed, what becomes of the
connection, and the bytes that go on. Plans are made from a head's bytes and nothing
else, and remembered by them (`memory`).

RFC 9110, 7.6: fields that concern one connection alone go no further; Via is added.
"""

from __future__ import annotations

import re
from typing import Final

from sillyproxy import errors
from sillyproxy.errors import BadRequest, BadResponse
from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE
from sillyproxy.http1.grammar import STATUS_LINE
from sillyproxy.http1.head import is_host, read_options, read_request_body, read_response_body
from sillyproxy.http1.memory import FieldLines, Plans
from sillyproxy.http1.trace import Parent, read_traceparent

# Connection cannot take away what a message needs to be understood (framing, Host); what
# else stands here is handled by itself.
_NOT_NOMINATED: Final = frozenset(
    b"close keep-alive upgrade te connection proxy-connection transfer-encoding content-length host "
    b"http2-settings".split()
)

_BOTH_WAYS: Final = (
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "te",
)
_REQUEST_NAMES: Final = (
    *_BOTH_WAYS,
    "host",
    "expect",
    "http2-settings",
    "forwarded",
    "x-forwarded-*",
    "x-request-id",
    "client-cert",
    "client-cert-chain",
    "x-client-cert-*",
)
# Of gRPC, which there is over HTTP/2 alone.
_CALL_NAMES: Final = ("content-type", "grpc-timeout")
_TRACE_NAMES: Final = ("traceparent", "tracestate")
_RESPONSE_NAMES: Final = (*_BOTH_WAYS, "date")
_KEPT: Final = (b"date", b"strict-transport-security")


class RequestPlan:
    """
    All that a field section decides about a request.

    `forward` are the fields as they go on, each line beginning with CRLF, Host first;
    `without_host` the same less Host and X-Forwarded-Host. `body` is a length or CHUNKED.
    `close`: no other request comes after this one. `upgrade`: the protocols asked for, empty
    if none. `expects`: 100-continue. `chain`: what a trusted proxy said in X-Forwarded-For,
    X-Forwarded-Proto and Forwarded; None from all others. `hostless`: HTTP/1.0 without Host.
    `request_id`: the client's own. `trace`: who asked, if it belongs to a trace. `common`: there
    is none of these four, as nearly always. `protocol` is the version that the client speaks. `is_grpc`:
    it is a call of gRPC, whose answer is to be there within `timeout_ns`, 0 if it does not say.
    """

    __slots__ = (
        "body",
        "chain",
        "close",
        "common",
        "expects",
        "forward",
        "hostless",
        "is_grpc",
        "protocol",
        "request_id",
        "timeout_ns",
        "trace",
        "upgrade",
        "without_host",
    )

    def __init__(self) -> None:
        self.forward = b""
        self.protocol = b""
        self.is_grpc = False
        self.timeout_ns = 0
        self.without_host = b""
        self.body = 0
        self.close = False
        self.upgrade = b""
        self.expects = False
        self.request_id = b""
        self.chain: tuple[bytes, bytes, bytes] | None = None
        self.hostless = False
        self.trace: Parent | None = None
        self.common = True


class ResponsePlan:
    """
    All that a response head decides.

    `forward` is the status line and the fields as they go on, without the empty line;
    `body` a length, CHUNKED or UNTIL_CLOSE (HEAD, 204 and 304 know better); `reusable`:
    the upstream keeps its connection; `dated`: it has a Date; `upgrade`: what 101 switches to.
    """

    __slots__ = ("body", "dated", "forward", "reusable", "status", "upgrade")

    def __init__(self) -> None:
        self.forward = b""
        self.status = 0
        self.body = 0
        self.reusable = False
        self.dated = False
        self.upgrade = b""


class RequestPlans(Plans[RequestPlan]):
    """
    Plans for the requests of one kind of client, by their field sections.

    In a section each line begins with CRLF, and none ends it. `color_header` is ours to set;
    `trusted` clients' forwarding fields are believed; `minor` is the client's HTTP/1 version, or that
    of the grammar where it speaks `protocol`; with `traced` a trace that it belongs to is gone on with,
    else its fields are like any other.
    """

    def __init__(
        self, color_header: str, *, trusted: bool, minor: int, traced: bool = True, protocol: bytes = b""
    ) -> None:
        self._trusted = trusted
        self._protocol = protocol or b"HTTP/1.%d" % minor
        self._minor = minor
        traces = _TRACE_NAMES if traced else ()
        calls = _CALL_NAMES if protocol else ()
        self._lines = FieldLines([*_REQUEST_NAMES, *traces, *calls, color_header.lower()])
        kept = (b"content-length", b"x-request-id", *(name.encode() for name in calls))
        self._kept = frozenset((*kept, b"expect") if minor else kept)
        super().__init__(self._read)

    def _read(self, block: bytes) -> RequestPlan:
        """Make the plan for a field section. Raises BadRequest, saying why."""
        lines = block.split(b"\r\n")
        if lines.pop(0):
            raise BadRequest(errors.BAD_FIELD)
        try:
            special = self._lines.find(lines)
        except ValueError:
            raise BadRequest(errors.BAD_FIELD) from None
        seen: dict[bytes, bytes] = {}
        dropped = set()
        for line, name, value in special:
            if name in seen:
                if name == b"host":
                    raise BadRequest(errors.BAD_HOST)
                if name == b"content-length":
                    raise BadRequest(errors.BAD_LENGTH)
                value = seen[name] + b", " + value
            seen[name] = value
            if name not in self._kept:
                dropped.add(line)
        plan = RequestPlan()
        plan.protocol = self._protocol
        if seen.get(b"content-type", b"").lower().startswith(b"application/grpc"):
            plan.is_grpc = b"content-type" in self._kept
            plan.timeout_ns = read_timeout(seen.get(b"grpc-timeout", b""))
        if b"traceparent" in seen or b"tracestate" in seen:
            plan.trace = read_traceparent(seen.get(b"traceparent", b""))
            if plan.trace is not None:
                dropped -= {line for line, name, _ in special if name == b"tracestate"}
        if dropped:
            lines = [line for line in lines if line not in dropped]

        host = seen.get(b"host")
        if host is None:
            if self._minor:
                raise BadRequest(errors.BAD_HOST)  # RFC 9112, 3.2
        elif not is_host(host):
            raise BadRequest(errors.BAD_HOST)
        if b"content-length" in seen or b"transfer-encoding" in seen:
            length, coding = seen.get(b"content-length"), seen.get(b"transfer-encoding")
            plan.body = read_request_body(length, coding, self._minor)
        plan.close = not self._minor
        plan.request_id = seen.get(b"x-request-id", b"")
        if not plan.request_id and b"x-request-id" in seen:
            lines = [line for line in lines if line.partition(b":")[0].lower() != b"x-request-id"]
        tail = [b"", *lines]
        if b"connection" in seen or b"te" in seen:
            self._read_connection(plan, seen, tail)
        if self._minor and b"expect" in seen:
            plan.expects = seen[b"expect"].lower() == b"100-continue"
        if plan.body == CHUNKED:
            tail.append(b"Transfer-Encoding: chunked")
        # RFC 9110, 7.6.3: a line more is the same list; Via's version is the one received.
        tail.append(b"Via: %b sillyproxy" % self._protocol[5:])
        if self._trusted:
            self._believe(plan, seen, tail)
        plan.hostless = host is None
        plan.common = not (self._trusted or plan.hostless or plan.trace or b"x-request-id" in seen)
        plan.without_host = without_host = b"\r\n".join(tail)
        if host:
            forwarded_host = host if not self._trusted else seen.get(b"x-forwarded-host") or host
            plan.forward = b"\r\nHost: %b%b\r\nX-Forwarded-Host: %b" % (host, without_host, forwarded_host)
        else:
            plan.forward = without_host if host is None else b"\r\nHost: " + without_host
        return plan

    def _read_connection(self, plan: RequestPlan, seen: dict[bytes, bytes], lines: list[bytes]) -> None:
        """Do what Connection, Upgrade and TE ask for; `lines` go on."""
        options = read_options(seen.get(b"connection", b""))
        if b"close" in options:
            plan.close = True
        elif b"keep-alive" in options:
            plan.close = False
        nominated = [option for option in options if option not in _NOT_NOMINATED]
        if nominated:
            lines[1:] = _drop(lines[1:], nominated)
            if b"x-request-id" in nominated:
                plan.request_id = b""
        ours = []
        if b"te" in seen and b"trailers" in read_options(seen[b"te"]):
            lines.append(b"TE: trailers")
            ours.append(b"TE")
        if self._minor and b"upgrade" in options and b"upgrade" in seen:
            # To switch to HTTP/2 in clear text would open a tunnel past every rule here (RFC 9113, 3.1).
            protocols = [p for part in seen[b"upgrade"].split(b",") if (p := part.strip(b" \t"))]
            plan.upgrade = b", ".join(p for p in protocols if p.lower() not in (b"h2c", b"h2"))
            if plan.upgrade:
                lines.append(b"Upgrade: " + plan.upgrade)
                ours.append(b"Upgrade")
        if ours:
            lines.append(b"Connection: " + b", ".join(ours))

    @staticmethod
    def _believe(plan: RequestPlan, seen: dict[bytes, bytes], lines: list[bytes]) -> None:
        """Note what a trusted proxy says of its client; `lines` go on."""
        plan.chain = (
            seen.get(b"x-forwarded-for", b""),
            seen.get(b"x-forwarded-proto", b""),
            seen.get(b"forwarded", b""),
        )
        lines.extend(
            b"%b: %b" % (name.title(), value)
            for name, value in seen.items()
            if (name.startswith(b"x-forwarded-") and name[12:] not in (b"for", b"proto", b"host"))
            or name.startswith((b"client-cert", b"x-client-cert-"))
        )


_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_NS: Final = {b"H": 3600 * 10**9, b"M": 60 * 10**9, b"S": 10**9, b"m": 10**6, b"u": 1000, b"n": 1}


def read_timeout(text: bytes) -> int:
    """
    Return the time that a call of gRPC may take; ns, 0 if that is not said, or said wrongly.

    >>> read_timeout(b"250m"), read_timeout(b"1H")
    (250000000, 3600000000000)
    """
    match = _TIMEOUT.fullmatch(text)
    return max(1, int(match[1]) * _UNIT_NS[match[2]]) if match else 0


def replace_host(plan: RequestPlan, authority: bytes) -> bytes:
    """Return the fields with the Host that an absolute-form target names (RFC 9112, 3.2.2)."""
    return b"\r\nHost: %b%b\r\nX-Forwarded-Host: %b" % (authority, plan.without_host, authority)


_HOST: Final = re.compile(rb"\r\nHost: (\[[^\]]*\]|[^:\r]*)")


def read_host(fields: bytes) -> bytes:
    """Return the host without its port of fields as they go on; empty if there is none."""
    match = _HOST.match(fields)
    return match[1] if match else b""


_MAX_FORWARDS: Final = re.compile(rb"(\r\n(?i:max-forwards):[ \t]*+)([0-9]{1,9})(?=[ \t]*+(?:\r\n|\Z))")


def read_max_forwards(fields: bytes) -> int | None:
    """Return Max-Forwards, which counts for OPTIONS and TRACE alone (RFC 9110, 7.6.2); None if absent."""
    match = _MAX_FORWARDS.search(fields)
    return int(match[2]) if match else None


def decrement_max_forwards(fields: bytes) -> bytes:
    """Return the fields with Max-Forwards one less."""
    return _MAX_FORWARDS.sub(lambda match: b"%b%d" % (match[1], int(match[2]) - 1), fields, count=1)


def peer_fields(ip: str, scheme: bytes) -> bytes:
    """Return the forwarding fields for a client that we do not take at its word; it came by `scheme`."""
    return b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b" % (ip.encode(), scheme)


def chain_fields(chain: tuple[bytes, bytes, bytes], ip: str, scheme: bytes) -> bytes:
    """Return a trusted proxy's forwarding fields, extended by its own address (RFC 7239, 4)."""
    addresses, proto, forwarded = chain
    node = ip.encode()
    lines = b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b" % (
        addresses + b", " + node if addresses else node,
        proto or scheme,
    )
    if forwarded:
        quoted = b'"[%b]"' % node if b":" in node else node
        lines += b"\r\nForwarded: %b, for=%b" % (forwarded, quoted)
    return lines


def _drop(lines: list[bytes], names: list[bytes]) -> list[bytes]:
    """Return the lines without those of fields named by Connection (RFC 9110, 7.6.1)."""
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


class ResponsePlans(Plans[ResponsePlan]):
    """
    Plans for the responses of upstreams, by their heads without the empty line at the end.

    `hsts` is a line that goes to clients unless there is one of its name (RFC 6797, 7.1).
    """

    def __init__(self, hsts: bytes = b"") -> None:
        self._hsts = hsts
        self._lines = FieldLines([*_RESPONSE_NAMES, *(("strict-transport-security",) if hsts else ())])
        super().__init__(self._read)

    def _read(self, head: bytes) -> ResponsePlan:
        """Make the plan for a response head. Raises BadResponse."""
        lines = head.split(b"\r\n")
        status_line = STATUS_LINE.fullmatch(lines.pop(0))
        if status_line is None:
            raise BadResponse(errors.BAD_RESPONSE)
        try:
            special = self._lines.find(lines)
        except ValueError:
            raise BadResponse(errors.BAD_RESPONSE) from None
        digit, code, phrase = status_line.groups()
        minor = 0 if digit == b"0" else 1
        plan = ResponsePlan()
        plan.status = status = int(code)
        bodiless = status < 200 or status == 204
        seen: dict[bytes, bytes] = {}
        dropped = set()
        for line, name, value in special:
            if name in seen:
                if name == b"content-length":
                    raise BadResponse(errors.BAD_RESPONSE)
                value = seen[name] + b", " + value
            seen[name] = value
            # RFC 9110, 8.6: no Content-Length in 1xx and 204.
            if name not in _KEPT and (name != b"content-length" or bodiless):
                dropped.add(line)
        if dropped:
            lines = [line for line in lines if line not in dropped]
        length, coding = seen.get(b"content-length"), seen.get(b"transfer-encoding")
        plan.body = read_response_body(length, coding, minor, otherwise=UNTIL_CLOSE)
        plan.reusable = minor == 1
        plan.dated = b"date" in seen
        if b"connection" in seen:
            options = read_options(seen[b"connection"])
            plan.reusable = b"close" not in options and (minor == 1 or b"keep-alive" in options)
            nominated = [option for option in options if option not in _NOT_NOMINATED and option != b"date"]
            if nominated:
                lines = _drop(lines, nominated)
        if plan.body == CHUNKED and not bodiless:
            lines.append(b"Transfer-Encoding: chunked")
        if b"upgrade" in seen and status in (101, 426):
            # RFC 9110, 15.2.2 and 15.5.22: these two are about Upgrade.
            plan.upgrade = seen[b"upgrade"]
            lines += (b"Connection: Upgrade", b"Upgrade: " + plan.upgrade)
        if self._hsts and status >= 200 and b"strict-transport-security" not in seen:
            lines.append(self._hsts)
        plan.forward = b"\r\n".join((b"HTTP/1.1 %b %b" % (code, phrase or b""), *lines))
        return plan


def hsts_line(value: str) -> bytes:
    """Return Strict-Transport-Security as a line; empty without a value."""
    return b"Strict-Transport-Security: " + value.encode() if value else b""


def without_chunks(forward: bytes) -> bytes:
    """Return a response head for a client that knows no chunks (HTTP/1.0; RFC 9112, 7.1)."""
    return forward.replace(b"\r\nTransfer-Encoding: chunked", b"")
