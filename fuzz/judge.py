"""
Hold our reading of a message against h11's.

`Judge.judge` returns what became of a case, in a word, and raises `Disagreement` if the two
readers differ in a way that is not on the list. The lists are short and each entry is
narrow: it says what has to be seen in the bytes, by code that shares nothing with our
rules, and which RFC's section decides who is right.

Wherever both accept, method, target, framing, body, the body's end and every end-to-end
field are the same; and what we pass on is read again by h11, which has to accept it and
find the same message and nothing behind it, as the next hop would.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NamedTuple

from fuzz import theirs
from fuzz.generate import Case
from fuzz.ours import Reading, RequestReader, ResponseReader, split
from fuzz.theirs import Theirs
from sillyproxy import errors
from sillyproxy.errors import Problem
from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE


class Disagreement(AssertionError):
    """The two readers differ and no listed difference explains it."""


class Difference(NamedTuple):
    """One way in which we and h11 differ on purpose, and what decides it."""

    name: str
    rule: str


# We accept, h11 refuses.
EMPTY_LINES: Final = Difference(
    "empty lines before a request", "RFC 9112, 2.2: a server ignores at least one"
)
CHUNK_BWS: Final = Difference(
    "white space around a chunk extension's ; or =", "RFC 9112, 7.1.1 (BWS): parsed, and not passed on"
)
FRAMING_TRAILER: Final = Difference(
    "Content-Length or Transfer-Encoding among the trailers", "RFC 9110, 6.5.1: ignored; not passed on"
)
ACCEPTED: Final = (EMPTY_LINES, CHUNK_BWS, FRAMING_TRAILER)


class Strictness(NamedTuple):
    """We refuse, h11 accepts: `seen` tells it from h11's reading and the bytes; `problems` is what we say."""

    name: str
    rule: str
    problems: tuple[Problem, ...]
    seen: Callable[[Theirs, _Bytes], bool]


class _Bytes:
    """A message cut up as a lenient reader would: what the reasons look at."""

    def __init__(self, data: bytes, *, response: bool) -> None:
        self.lines: list[bytes] = []
        self.partial: list[bytes] = []
        self.size_lines: list[bytes] = []
        self.trailer: list[bytes] = []
        self.body_at = len(data)
        at = 0
        while True:
            blank = re.compile(rb"\n\r?\n").search(data, at)
            end = blank.end() if blank else len(data)
            lines = data[at:end].split(b"\n")
            self.lines += lines[:-2] if blank else lines
            if blank is None:
                return
            # A head's last line end is part of it, for its line end may be bare too.
            self.lines.append(lines[-2])
            at = end
            if not (response and re.match(rb"HTTP/[0-9]\.[0-9] 1[0-9][0-9]", lines[0])):
                break
        self.body_at = at

    def walk_chunks(self, data: bytes) -> bytes:
        """Note size lines and trailer; return the message without BWS and framing fields in the trailer."""
        at = self.body_at
        out = [data[:at]]
        while True:
            eol = data.find(b"\r\n", at)
            digits = re.match(rb"[0-9A-Fa-f]{1,20}", data[at:])
            if eol < 0 or digits is None:
                out.append(data[at:])
                return b"".join(out)
            line = data[at:eol]
            self.size_lines.append(line)
            out.append(digits[0] + _without_bws(line[digits.end() :]) + b"\r\n")
            at = eol + 2
            size = int(digits[0], 16)
            if not size:
                break
            out.append(data[at : at + size + 2])
            at += size + 2
        section, blank, rest = (b"\r\n" + data[at:]).partition(b"\r\n\r\n")
        self.trailer = section[2:].split(b"\n")
        kept = [
            line
            for line in section.split(b"\r\n")[1:]
            if line.partition(b":")[0].lower() not in (b"content-length", b"transfer-encoding")
        ]
        out.append(b"".join(line + b"\r\n" for line in kept) if blank else section[2:])
        out.append(blank[2:] + rest)
        return b"".join(out)

    def count(self, name: bytes) -> int:
        return sum(line.partition(b":")[0].lower() == name for line in self.lines)


def _without_bws(extension: bytes) -> bytes:
    """Return a chunk extension without the white space around `;` and `=` outside quoted strings."""
    parts = re.split(rb'("(?:[^"\\]|\\.)*")', extension)
    return b"".join(
        part if index % 2 else re.sub(rb"[ \t]*([;=])[ \t]*", rb"\1", part)
        for index, part in enumerate(parts)
    )


_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HOST_BYTES = frozenset(b"-._~!$&'()*+,;=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def is_extension(text: bytes) -> bool:
    """Tell whether text is `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`."""
    at = 0

    def skip_space() -> None:
        nonlocal at
        while at < len(text) and text[at] in b" \t":
            at += 1

    def skip_token() -> bool:
        nonlocal at
        start = at
        while at < len(text) and text[at] in _TOKEN:
            at += 1
        return at > start

    def skip_quoted() -> bool:
        nonlocal at
        at += 1
        while at < len(text) and text[at] != 0x22:
            at += text[at] == 0x5C
            if at >= len(text) or _is_control(text[at]):
                return False
            at += 1
        at += 1
        return at <= len(text)

    while at < len(text):
        skip_space()
        if text[at : at + 1] != b";":
            return False
        at += 1
        skip_space()
        if not skip_token():
            return False
        before = at
        skip_space()
        if text[at : at + 1] == b"=":
            at += 1
            skip_space()
            if not (skip_quoted() if text[at : at + 1] == b'"' else skip_token()):
                return False
        else:
            at = before
    return True


def is_host(value: bytes) -> bool:
    """Tell whether value is `uri-host [ ":" port ]`: RFC 3986, 3.2.2 and 3.2.3, a port below 65536."""
    if value.startswith(b"["):
        literal, bracket, port = value[1:].partition(b"]")
        if not bracket or (port and not port.startswith(b":")):
            return False
        port = port[1:]
        if literal[:1] in b"vV" and literal:
            version, dot, address = literal[1:].partition(b".")
            if (
                not dot
                or not re.fullmatch(rb"[0-9A-Fa-f]+", version)
                or not address
                or set(address) - _HOST_BYTES - {0x3A}
            ):
                return False
        else:
            try:
                if b"%" in literal:
                    return False
                IPv6Address(literal.decode("ascii"))
            except (AddressValueError, UnicodeDecodeError):
                return False
    else:
        name, _, port = value.partition(b":")
        if set(re.sub(rb"%[0-9A-Fa-f]{2}", b"", name)) - _HOST_BYTES:
            return False
    return not port or (len(port) < 6 and set(port) <= set(b"0123456789") and int(port) < 65536)


def _is_control(byte: int) -> bool:
    return (byte < 0x20 and byte != 9) or byte == 0x7F


def _has_bare_lf(lines: list[bytes]) -> bool:
    return any(not line.endswith(b"\r") for line in lines)


def _has_control(lines: list[bytes]) -> bool:
    return any(_is_control(byte) for line in lines for byte in line.removesuffix(b"\r"))


def _has_fold(lines: list[bytes]) -> bool:
    return any(line.startswith((b" ", b"\t")) for line in lines)


def _authority(target: bytes) -> bytes:
    return re.split(rb"[/?]", target.partition(b"://")[2])[0]


def _is_absolute(target: bytes) -> bool:
    return target.lower().startswith((b"http://", b"https://"))


_E = errors
_HEAD = (_E.MALFORMED, _E.BAD_LINE, _E.BAD_FIELD, _E.BAD_RESPONSE)
_CHUNK = (_E.BAD_CHUNK, _E.BAD_RESPONSE)

# In the order in which they are looked for.
STRICTER: Final = (
    Strictness(
        "a bare LF ends a line of the head",
        "RFC 9112, 2.2: MAY be recognised; here it never is",
        _HEAD,
        lambda h, b: _has_bare_lf(b.lines),
    ),
    Strictness(
        "a folded line in the head",
        "RFC 9112, 5.2: a server refuses it",
        _HEAD,
        lambda h, b: _has_fold(b.lines[1:]),
    ),
    Strictness(
        "a control character in the head",
        "RFC 9110, 5.5; RFC 9112, 4: not in the grammar",
        _HEAD,
        lambda h, b: _has_control(b.lines),
    ),
    Strictness(
        'one of "#<> in the target',
        "RFC 9112, 3.2; RFC 3986, 2 and 3.5: not in the grammar",
        (_E.BAD_LINE,),
        lambda h, b: bool(set(h.target) & set(b'"#<>')),
    ),
    Strictness(
        "a major version other than 1",
        "RFC 9110, 2.5 and 15.6.6",
        (_E.BAD_VERSION, _E.BAD_RESPONSE),
        lambda h, b: (
            not h.version.startswith(b"1.") or any(re.match(rb"HTTP/[^1]", line) for line in b.lines)
        ),
    ),
    Strictness(
        "CONNECT", "RFC 9110, 9.3.6: no tunnels here", (_E.NO_CONNECT,), lambda h, b: h.method == b"CONNECT"
    ),
    Strictness(
        "* as the target of another method than OPTIONS",
        "RFC 9112, 3.2.4",
        (_E.BAD_TARGET,),
        lambda h, b: h.target == b"*" and h.method != b"OPTIONS",
    ),
    Strictness(
        "a target that is no path, no http URI and not *",
        "RFC 9112, 3.2",
        (_E.BAD_TARGET,),
        lambda h, b: not h.target.startswith(b"/") and h.target != b"*" and not _is_absolute(h.target),
    ),
    Strictness(
        "an http URI with no or a bad authority",
        "RFC 9110, 4.2.1 and 4.2.4",
        (_E.BAD_TARGET,),
        lambda h, b: (
            _is_absolute(h.target)
            and (_authority(h.target)[:1] in (b"", b":") or not is_host(_authority(h.target)))
        ),
    ),
    Strictness(
        "no Host in HTTP/1.2 and above",
        "RFC 9112, 3.2; RFC 9110, 2.5",
        (_E.BAD_HOST,),
        lambda h, b: not h.get_all(b"host") and h.version > b"1.1",
    ),
    Strictness(
        "a Host that is none",
        "RFC 9110, 7.2; RFC 3986, 3.2.2",
        (_E.BAD_HOST,),
        lambda h, b: any(not is_host(value) for value in h.get_all(b"host")),
    ),
    Strictness(
        "Content-Length more than once",
        "RFC 9112, 6.3: same values MAY be merged; refused here",
        (_E.BAD_LENGTH, _E.BAD_RESPONSE),
        lambda h, b: b.count(b"content-length") > 1,
    ),
    Strictness(
        "Content-Length is a list, or 10^18 and more",
        "RFC 9110, 8.6; RFC 9112, 6.3",
        (_E.BAD_LENGTH, _E.BAD_RESPONSE),
        lambda h, b: any(re.search(rb"(?i)^content-length:.*(?:,|[0-9]{19})", line) for line in b.lines),
    ),
    Strictness(
        "Transfer-Encoding with Content-Length",
        "RFC 9112, 6.1: a request smuggled or a response split",
        (_E.BAD_CODING, _E.BAD_RESPONSE),
        lambda h, b: b.count(b"transfer-encoding") > 0 and b.count(b"content-length") > 0,
    ),
    Strictness(
        "Transfer-Encoding in HTTP/1.0",
        "RFC 9112, 6.1: faulty framing",
        (_E.BAD_CODING, _E.BAD_RESPONSE),
        lambda h, b: (
            b.count(b"transfer-encoding") > 0
            and (h.version == b"1.0" or any(line.startswith(b"HTTP/1.0") for line in b.lines))
        ),
    ),
    Strictness(
        "a status code outside 100 to 599",
        "RFC 9110, 15: invalid",
        (_E.BAD_RESPONSE,),
        lambda h, b: h.status > 599,
    ),
    Strictness(
        "a chunk size of more than 15 digits",
        "RFC 9112, 7.1: overflow must be prevented",
        _CHUNK,
        lambda h, b: any(re.match(rb"[0-9A-Fa-f]{16}", line) for line in b.size_lines),
    ),
    Strictness(
        "white space behind a chunk size",
        "RFC 9112, 7.1: not in the grammar",
        _CHUNK,
        lambda h, b: any(re.fullmatch(rb"[0-9A-Fa-f]+.*[ \t]", line) for line in b.size_lines),
    ),
    Strictness(
        "a malformed chunk extension",
        "RFC 9112, 7.1.1",
        _CHUNK,
        lambda h, b: any(not is_extension(line.lstrip(b"0123456789ABCDEFabcdef")) for line in b.size_lines),
    ),
    Strictness(
        "a bare LF ends a line of the trailers",
        "RFC 9112, 2.2: for heads alone, if at all",
        _CHUNK,
        lambda h, b: _has_bare_lf(b.trailer[:-1]),
    ),
    Strictness(
        "a folded line in the trailers", "RFC 9112, 5.2 and 7.1.2", _CHUNK, lambda h, b: _has_fold(b.trailer)
    ),
    Strictness(
        "a control character in the trailers",
        "RFC 9110, 5.5: not in the grammar",
        _CHUNK,
        lambda h, b: _has_control(b.trailer),
    ),
)

# Fields that a proxy handles itself, so that they are not expected to come through as they were.
_OURS = frozenset(
    b"connection keep-alive proxy-connection transfer-encoding upgrade te http2-settings forwarded color "
    b"host expect via traceparent".split()
)
_RESPONSE_OURS = _OURS - set(b"host expect via color forwarded http2-settings traceparent".split())
_NEVER_SENT = (
    b"keep-alive",
    b"proxy-connection",
    b"http2-settings",
    b"forwarded",
    b"color",
    b"x-forwarded-for",
    b"traceparent",
)
_KEPT_THOUGH_NOMINATED = frozenset((b"content-length", b"host", b"date"))


class Judge:
    """Judges cases one after the other; its readers remember heads, as a worker's do."""

    def __init__(self) -> None:
        self._requests = RequestReader()
        self._responses = ResponseReader()

    def judge(self, case: Case) -> str:
        """Return the outcome. Raises Disagreement."""
        try:
            return self._judge_response(case) if case.kind == "response" else self._judge_request(case)
        except Disagreement:
            raise
        except Exception as error:
            raise Disagreement(f"{type(error).__name__}: {error}") from error

    def _judge_request(self, case: Case) -> str:
        data = case.data
        whole = self._requests.read((data,))
        parts = self._requests.read(split(data, case.cuts))
        _check_same(whole, parts)
        stripped = data
        while stripped.startswith(b"\r\n"):
            stripped = stripped[2:]
        if stripped == b"\r":
            return _name(EMPTY_LINES)
        found = theirs.read_request(stripped)
        if parts.problem is not None and parts.head:
            # What was passed on before the fault was seen must not read as a whole request.
            passed = theirs.read_request(parts.forward)
            _check(not passed.refused and not passed.complete, "refused, but a whole request was passed on")
        outcome = self._compare(whole, found, stripped, theirs.read_request, response=False)
        if whole.problem is None and whole.head:
            _compare_requests(whole, found)
        if stripped is not data and outcome == "both accept" and theirs.read_request(data).refused:
            return _name(EMPTY_LINES)
        return outcome

    def _judge_response(self, case: Case) -> str:
        data, method = case.data, case.method
        interim, whole = self._responses.read((data,), method)
        _, parts = self._responses.read(split(data, case.cuts), method)
        _check_same(whole, parts)

        def read(data: bytes) -> Theirs:
            return theirs.read_response(data, method)

        found = read(data)
        outcome = self._compare(whole, found, data, read, response=True)
        if whole.problem is None and not found.refused:
            _check(len(interim) == found.interim, "another number of interim responses")
        if whole.problem is None and whole.head:
            _compare_responses(whole, found, read)
        return outcome

    def _compare(
        self, ours: Reading, found: Theirs, data: bytes, read: Callable[[bytes], Theirs], *, response: bool
    ) -> str:
        """Compare what both say of the message as a whole; put `found` right where a difference is listed."""
        if ours.problem is not None:
            if found.refused:
                return "both refuse"
            return self._explain(ours, found, data, read, response=response)
        outcome = "both accept" if ours.complete else "both wait"
        if found.refused:
            _check(ours.head and ours.framing == CHUNKED, f"we accept what h11 refuses: {found.refused}")
            cut = _Bytes(data, response=response)
            corrected = cut.walk_chunks(data)
            again = read(corrected)
            _check(not again.refused, f"we accept what h11 refuses: {found.refused}")
            outcome = _name(FRAMING_TRAILER if _names_framing(cut.trailer) else CHUNK_BWS)
            for name in Theirs.__slots__:
                setattr(found, name, getattr(again, name))
        _check(ours.head == found.head, f"head read: ours {ours.head}, h11 {found.head}")
        _check(ours.complete == found.complete, f"complete: ours {ours.complete}, h11 {found.complete}")
        return outcome

    def _explain(
        self, ours: Reading, found: Theirs, data: bytes, read: Callable[[bytes], Theirs], *, response: bool
    ) -> str:
        problem = ours.problem
        assert problem is not None
        if not found.complete and (ours.head or not found.head):
            # We need not wait for the end to know; h11 agrees once it has one.
            later = read(data + b"\r\n\r\n")
            if later.refused:
                return "refused before its end"
            found = later
            data += b"\r\n\r\n"
        cut = _Bytes(data, response=response)
        if found.get_all(b"transfer-encoding"):
            cut.walk_chunks(data)
        for reason in STRICTER:
            if problem in reason.problems and reason.seen(found, cut):
                return f"stricter: {reason.name}"
        raise Disagreement(f"we refuse ({problem.detail}) what h11 accepts, for no listed reason")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Disagreement(otherwise)


def _name(difference: Difference) -> str:
    return f"more lenient: {difference.name}"


def _names_framing(trailer: list[bytes]) -> bool:
    return any(
        line.partition(b":")[0].lower() in (b"content-length", b"transfer-encoding") for line in trailer
    )


def _check_same(whole: Reading, parts: Reading) -> None:
    """However the bytes are cut, the reading is the same."""
    _check((whole.problem is None) == (parts.problem is None), f"cut up: {whole.problem} and {parts.problem}")
    if whole.problem is None:
        _check(whole == parts, f"cut up, another reading: {whole} and {parts}")


def _parse(fields: bytes) -> list[tuple[bytes, bytes]]:
    pairs = []
    for line in fields.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        pairs.append((name.lower(), value.strip(b" \t")))
    return pairs


def _nominated(found: Theirs) -> set[bytes]:
    options = b",".join(found.get_all(b"connection")).lower().split(b",")
    return {option.strip(b" \t") for option in options} - _KEPT_THOUGH_NOMINATED


def _check_framing(ours: Reading, found: Theirs, *, otherwise: int) -> None:
    lengths = found.get_all(b"content-length")
    framing = CHUNKED if found.get_all(b"transfer-encoding") else int(lengths[0]) if lengths else otherwise
    _check(ours.framing == framing, f"framing: ours {ours.framing}, h11 {framing}")
    _check(ours.payload == found.payload, f"body: ours {ours.payload!r}, h11 {found.payload!r}")
    if ours.complete:
        _check(ours.rest == found.rest, f"behind the body: ours {ours.rest!r}, h11 {found.rest!r}")


def _compare_requests(ours: Reading, found: Theirs) -> None:
    _check(ours.method == found.method, f"method: {ours.method!r}, h11 {found.method!r}")
    target = found.target
    hosts = found.get_all(b"host")
    if _is_absolute(target):
        authority = _authority(target)
        target = target.partition(b"://")[2][len(authority) :]
        if not target:
            target = b"*" if found.method == b"OPTIONS" else b"/"
        elif not target.startswith(b"/"):
            target = b"/" + target
        hosts = [authority]
    _check(ours.target == target, f"target: {ours.target!r}, h11 {found.target!r}")
    _check(all(is_host(host) for host in hosts), f"accepted as Host: {hosts}")
    _check((ours.minor == 0) == (found.version == b"1.0"), f"version: 1.{ours.minor}, h11 {found.version!r}")
    _check_framing(ours, found, otherwise=0)

    sent = _parse(ours.fields)
    hidden = _OURS | _nominated(found)
    hidden |= {name for name, _ in found.headers + sent if name.startswith(b"x-forwarded-")}
    # The exchange adds an id of ours where there is none, and our span as the parent.
    if found.get_all(b"x-request-id") == [b""]:
        hidden |= {b"x-request-id"}
    if ours.trace is None:
        _check(not {b"traceparent", b"tracestate"} & {name for name, _ in sent}, f"a trace of nobody: {sent}")
        hidden |= {b"tracestate"}
    expected = [(n, v) for n, v in found.headers if n not in hidden]
    _check([(n, v) for n, v in sent if n not in hidden] == expected, f"fields: {sent}, h11 {found.headers}")
    names = [name for name, _ in sent]
    _check([v for n, v in sent if n == b"host"] == hosts, f"Host: {sent}")
    if b"via" not in hidden - _OURS:
        vias = [v for n, v in sent if n == b"via"]
        _check(vias[-1] == b"1.%d sillyproxy" % ours.minor, f"Via: {sent}")
    _check(not any(name in _NEVER_SENT for name in names), f"passed on: {sent}")

    forward = ours.forward
    if not hosts and ours.minor == 0:
        # RFC 9112, 3.2: what we send is HTTP/1.1; the exchange adds the endpoint's own Host.
        line, _, rest = forward.partition(b"\r\n")
        forward = line + b"\r\nHost: endpoint\r\n" + rest
    again = theirs.read_request(forward)
    _check(not again.refused, f"the next hop refuses {ours.forward!r}: {again.refused}")
    _check(
        again.complete == ours.complete and not (again.complete and again.rest), "the next hop's end differs"
    )
    _check(
        (again.method, again.target, again.payload) == (ours.method, ours.target, ours.payload),
        f"the next hop reads another request: {ours.forward!r}",
    )
    _check(
        bool(again.get_all(b"transfer-encoding")) == (ours.framing == CHUNKED),
        "the next hop frames otherwise",
    )


def _compare_responses(ours: Reading, found: Theirs, read: Callable[[bytes], Theirs]) -> None:
    _check(ours.status == found.status, f"status: {ours.status}, h11 {found.status}")
    if ours.status == 101:
        return
    if ours.framing != 0 or ours.complete != found.complete or ours.payload:
        _check_framing(ours, found, otherwise=UNTIL_CLOSE)
    elif ours.complete:
        _check(ours.rest == found.rest, f"behind the body: ours {ours.rest!r}, h11 {found.rest!r}")
    sent = _parse(ours.fields)
    hidden = _RESPONSE_OURS | _nominated(found) | ({b"content-length"} if ours.status == 204 else set())
    expected = [(n, v) for n, v in found.headers if n not in hidden]
    _check([(n, v) for n, v in sent if n not in hidden] == expected, f"fields: {sent}, h11 {found.headers}")
    again = read(ours.forward)
    _check(not again.refused, f"the client refuses {ours.forward!r}: {again.refused}")
    _check(
        again.complete == ours.complete and not (again.complete and again.rest), "the client's end differs"
    )
    _check((again.status, again.payload) == (ours.status, ours.payload), "the client reads another response")
