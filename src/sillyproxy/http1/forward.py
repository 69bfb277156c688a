"""
What a head becomes for the next hop.

The same heads come again and again: a browser repeats its fields with every request, a
service its whole head, a backend its answer. Reading a head is a pure function of its
bytes, so the result, a *plan*, is remembered by them: a repeated head costs one hash
and one comparison instead of two regular expressions, and can never be read another
way than the first time. The memory is bounded and forgets what is not used.

RFC 9110, 7.6: fields that concern one connection alone go no further; Via is added.
"""

from __future__ import annotations

import re
from typing import Final, Generic, TypeVar

from sillyproxy import errors
from sillyproxy.errors import BadRequest, BadResponse
from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE
from sillyproxy.http1.grammar import FIELDS, STATUS_LINE
from sillyproxy.http1.head import is_host, read_options, read_request_body, read_response_body

# Connection cannot take away what a message needs to be understood (framing, Host); what
# else stands here is handled by itself.
_NOT_NOMINATED: Final = frozenset(
    b"close keep-alive upgrade te connection proxy-connection transfer-encoding content-length host "
    b"http2-settings".split()
)

# Keys and what is remembered, both generations together, for requests and responses each.
MEMORY_BYTES: Final = 2 * 1024 * 1024
_MAX_KEY_BYTES: Final = 8192
_OVERHEAD_BYTES: Final = 500


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
    "x-forwarded-[^:]++",
    "x-request-id",
)
_RESPONSE_NAMES: Final = (*_BOTH_WAYS, "date")


def _find_fields(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """
    Return the pattern that finds the lines of these fields; its groups are name and value.

    Each name is a letter as it is and a pattern behind it.

    Grouped by their first letter: the engine tries alternatives one by one, and most lines
    begin with none of them. A third quicker over a browser's head than a plain list.
    """
    by_letter: dict[str, list[str]] = {}
    for name in names:
        by_letter.setdefault(name[0], []).append(name[1:])
    letters = re.escape("".join(by_letter))
    alternatives = "|".join(f"{re.escape(letter)}(?:{'|'.join(rest)})" for letter, rest in by_letter.items())
    pattern = rf"\r\n((?=[{letters}{letters.upper()}])(?i:{alternatives})):[ \t]*+([^\r]*+)"
    return re.compile(pattern.encode())


_RESPONSE_SPECIAL: Final = _find_fields(_RESPONSE_NAMES)


class RequestPlan:
    """
    All that a field section decides about a request.

    `forward` are the fields as they go on, each line beginning with CRLF, Host first;
    `without_host` the same less Host and X-Forwarded-Host. `body` is a length or CHUNKED.
    `close`: no other request comes after this one. `upgrade`: the protocols asked for, empty
    if none. `expects`: 100-continue. `chain`: what a trusted proxy said in X-Forwarded-For,
    X-Forwarded-Proto and Forwarded; None from all others. `hostless`: HTTP/1.0 without Host.
    `common`: there is neither, as nearly always.
    """

    __slots__ = (
        "body",
        "chain",
        "close",
        "common",
        "expects",
        "forward",
        "hostless",
        "request_id",
        "upgrade",
        "without_host",
    )

    def __init__(self) -> None:
        self.forward = b""
        self.without_host = b""
        self.body = 0
        self.close = False
        self.upgrade = b""
        self.expects = False
        self.request_id = b""
        self.chain: tuple[bytes, bytes, bytes] | None = None
        self.hostless = False
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


Plan = TypeVar("Plan")


class _Memory(Generic[Plan]):
    """Two generations: what is asked for moves to the young one; when that is full, the old one goes."""

    __slots__ = ("_bytes", "_old", "young")

    def __init__(self) -> None:
        self.young: dict[bytes, Plan] = {}
        self._old: dict[bytes, Plan] = {}
        self._bytes = 0

    def recall(self, key: bytes) -> Plan | None:
        plan = self._old.get(key)
        if plan is not None:
            self.keep(key, plan)
        return plan

    def keep(self, key: bytes, plan: Plan) -> None:
        if len(key) > _MAX_KEY_BYTES:
            return
        self._bytes += 2 * len(key) + _OVERHEAD_BYTES
        if self._bytes > MEMORY_BYTES // 2:
            self._old = self.young
            self.young = {}
            self._bytes = 0
        self.young[key] = plan


class RequestPlans:
    """
    Plans for the requests of one kind of client.

    `color_header` is ours to set; `trusted` clients' forwarding fields are believed;
    `minor` is the client's HTTP/1 version.
    """

    def __init__(self, color_header: str, *, trusted: bool, minor: int) -> None:
        self._memory: _Memory[RequestPlan] = _Memory()
        self._trusted = trusted
        self._minor = minor
        self._color = color_header.lower().encode()
        color = color_header.lower()
        self._special = _find_fields((*_REQUEST_NAMES, color[0] + re.escape(color[1:])))

    def get(self, block: bytes) -> RequestPlan:
        """
        Return the plan for a field section (its lines begin with CRLF, none ends it).

        Raises BadRequest, saying why.
        """
        memory = self._memory
        plan = memory.young.get(block)
        if plan is None:
            plan = memory.recall(block)
            if plan is None:
                plan = self._make(block)
                memory.keep(block, plan)
        return plan

    def _make(self, block: bytes) -> RequestPlan:
        if FIELDS.fullmatch(block) is None:
            raise BadRequest(errors.BAD_FIELD)
        kept: list[bytes] = []
        seen: dict[bytes, bytes] = {}
        trusted_lines: list[bytes] = []
        at = 0
        for match in self._special.finditer(block):
            name = match[1].lower()
            value = match[2].rstrip(b" \t")
            start, end = match.span()
            kept.append(block[at:start])
            at = end
            if name in seen:
                if name == b"host":
                    raise BadRequest(errors.BAD_HOST)
                if name == b"content-length":
                    raise BadRequest(errors.BAD_LENGTH)
                value = seen[name] + b", " + value
            seen[name] = value
            if name in (b"content-length", b"x-request-id") or (name == b"expect" and self._minor):
                kept.append(block[start:end])
            elif name.startswith(b"x-forwarded-") and self._trusted:
                trusted_lines.append(name)
        kept.append(block[at:])
        fields = b"".join(kept)

        plan = RequestPlan()
        get = seen.get
        host = get(b"host")
        if host is None:
            if self._minor:
                raise BadRequest(errors.BAD_HOST)  # RFC 9112, 3.2
        elif not is_host(host):
            raise BadRequest(errors.BAD_HOST)
        plan.body = read_request_body(get(b"content-length"), get(b"transfer-encoding"), self._minor)
        options = read_options(get(b"connection", b""))
        if b"close" in options:
            plan.close = True
        elif not self._minor:
            plan.close = b"keep-alive" not in options
        nominated = [option for option in options if option not in _NOT_NOMINATED]
        if nominated:
            fields = _drop(fields, nominated)
        if self._minor and b"expect" in seen:
            plan.expects = seen[b"expect"].lower() == b"100-continue"
        plan.request_id = get(b"x-request-id", b"")

        tail = [fields]
        connection = []
        if b"trailers" in read_options(get(b"te", b"")):
            tail.append(b"\r\nTE: trailers")
            connection.append(b"TE")
        if self._minor and b"upgrade" in options and b"upgrade" in seen:
            # To switch to HTTP/2 in clear text would open a tunnel past every rule here (RFC 9113, 3.1).
            protocols = [p for part in seen[b"upgrade"].split(b",") if (p := part.strip(b" \t"))]
            plan.upgrade = b", ".join(p for p in protocols if p.lower() not in (b"h2c", b"h2"))
            if plan.upgrade:
                tail.append(b"\r\nUpgrade: " + plan.upgrade)
                connection.append(b"Upgrade")
        if connection:
            tail.append(b"\r\nConnection: " + b", ".join(connection))
        if plan.body == CHUNKED:
            tail.append(b"\r\nTransfer-Encoding: chunked")
        # RFC 9110, 7.6.3: a line more is the same list; Via's version is the one received.
        tail.append(b"\r\nVia: 1.%d sillyproxy" % self._minor)
        if self._trusted:
            plan.chain = (
                get(b"x-forwarded-for", b""),
                get(b"x-forwarded-proto", b""),
                get(b"forwarded", b""),
            )
            tail.extend(
                b"\r\n%b: %b" % (name.title(), seen[name])
                for name in dict.fromkeys(trusted_lines)
                if name not in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
            )
        plan.hostless = host is None
        plan.common = plan.chain is None and host is not None
        plan.without_host = b"".join(tail)
        host_line = b"" if host is None else b"\r\nHost: " + host
        forwarded_host = get(b"x-forwarded-host", b"") if self._trusted else b""
        plan.forward = host_line + plan.without_host + _forwarded_host_line(forwarded_host or host)
        return plan


def _forwarded_host_line(host: bytes | None) -> bytes:
    return b"\r\nX-Forwarded-Host: " + host if host else b""


def replace_host(plan: RequestPlan, authority: bytes) -> bytes:
    """Return the fields with the Host that an absolute-form target names (RFC 9112, 3.2.2)."""
    return b"\r\nHost: " + authority + plan.without_host + _forwarded_host_line(authority)


_MAX_FORWARDS: Final = re.compile(rb"(\r\n(?i:max-forwards):[ \t]*+)([0-9]{1,9})(?=[ \t]*+(?:\r\n|\Z))")


def read_max_forwards(fields: bytes) -> int | None:
    """Return Max-Forwards, which counts for OPTIONS and TRACE alone (RFC 9110, 7.6.2); None if absent."""
    match = _MAX_FORWARDS.search(fields)
    return int(match[2]) if match else None


def decrement_max_forwards(fields: bytes) -> bytes:
    """Return the fields with Max-Forwards one less."""
    return _MAX_FORWARDS.sub(lambda match: b"%b%d" % (match[1], int(match[2]) - 1), fields, count=1)


def peer_fields(ip: str) -> bytes:
    """Return the forwarding fields for a client that we do not take at its word."""
    return b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: http" % ip.encode()


def chain_fields(chain: tuple[bytes, bytes, bytes], ip: str) -> bytes:
    """Return a trusted proxy's forwarding fields, extended by its own address (RFC 7239, 4)."""
    addresses, proto, forwarded = chain
    node = ip.encode()
    lines = b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b" % (
        addresses + b", " + node if addresses else node,
        proto or b"http",
    )
    if forwarded:
        quoted = b'"[%b]"' % node if b":" in node else node
        lines += b"\r\nForwarded: %b, for=%b" % (forwarded, quoted)
    return lines


def _drop(fields: bytes, names: list[bytes]) -> bytes:
    """Return the fields without those named by Connection (RFC 9110, 7.6.1)."""
    dropped = frozenset(names)
    return b"".join(
        b"\r\n" + line for line in fields.split(b"\r\n")[1:] if line.partition(b":")[0].lower() not in dropped
    )


class ResponsePlans:
    """Plans for the responses of upstreams."""

    def __init__(self) -> None:
        self._memory: _Memory[ResponsePlan] = _Memory()

    def get(self, head: bytes) -> ResponsePlan:
        """Return the plan for a response head (without the empty line at its end). Raises BadResponse."""
        memory = self._memory
        plan = memory.young.get(head)
        if plan is None:
            plan = memory.recall(head)
            if plan is None:
                plan = self._make(head)
                memory.keep(head, plan)
        return plan

    def _make(self, head: bytes) -> ResponsePlan:
        line = STATUS_LINE.match(head)
        if line is None or FIELDS.fullmatch(head, line.end()) is None:
            raise BadResponse(errors.BAD_RESPONSE)
        minor = 0 if line[1] == b"0" else 1
        plan = ResponsePlan()
        plan.status = status = int(line[2])
        kept = [b"HTTP/1.1 %b %b" % (line[2], line[3] or b"")]
        seen: dict[bytes, bytes] = {}
        bodiless = status < 200 or status == 204
        at = line.end()
        for match in _RESPONSE_SPECIAL.finditer(head, at):
            name = match[1].lower()
            value = match[2].rstrip(b" \t")
            start, end = match.span()
            kept.append(head[at:start])
            at = end
            if name in seen:
                if name == b"content-length":
                    raise BadResponse(errors.BAD_RESPONSE)
                value = seen[name] + b", " + value
            seen[name] = value
            # RFC 9110, 8.6: no Content-Length in 1xx and 204.
            if name == b"date" or (name == b"content-length" and not bodiless):
                kept.append(head[start:end])
        kept.append(head[at:])
        fields = b"".join(kept)
        length, coding = seen.get(b"content-length"), seen.get(b"transfer-encoding")
        plan.body = read_response_body(length, coding, minor, otherwise=UNTIL_CLOSE)
        options = read_options(seen.get(b"connection", b""))
        plan.reusable = b"close" not in options and (minor == 1 or b"keep-alive" in options)
        plan.dated = b"date" in seen
        nominated = [option for option in options if option not in _NOT_NOMINATED and option != b"date"]
        if nominated:
            end = fields.find(b"\r\n")
            fields = fields[:end] + _drop(fields[end:], nominated) if end >= 0 else fields
        if plan.body == CHUNKED and not bodiless:
            fields += b"\r\nTransfer-Encoding: chunked"
        if b"upgrade" in seen and status in (101, 426):
            # RFC 9110, 15.2.2 and 15.5.22: these two are about Upgrade.
            plan.upgrade = seen[b"upgrade"]
            fields += b"\r\nConnection: Upgrade\r\nUpgrade: " + plan.upgrade
        plan.forward = fields
        return plan


def without_chunks(forward: bytes) -> bytes:
    """Return a response head for a client that knows no chunks (HTTP/1.0; RFC 9112, 7.1)."""
    return forward.replace(b"\r\nTransfer-Encoding: chunked", b"")
