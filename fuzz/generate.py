# ruff: noqa: S311 (chance here has to be repeatable, not unguessable)
"""
Make up messages: from the grammar, then broken a little.

A message is a list of lines and a body, both from pools that hold what is legal, what
published request-smuggling attacks use, and what nobody should send. Mutations work on
lines (duplicate, drop, swap, fold, another line end) and on bytes (insert, delete,
change, repeat a stretch, cut off). Most messages get one fault or none, for a message
with five is refused for the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

CRLF = b"\r\n"


class Case(NamedTuple):
    """A message as bytes, where it is cut, and for a response the method of its request."""

    kind: str
    data: bytes
    cuts: tuple[int, ...]
    method: bytes = b"GET"


# fmt: off
METHODS = (b"GET", b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE")
ODD_METHODS = (
    b"CONNECT", b"get", b"M-SEARCH", b"!#$%&'*+-.^_`|~", b"", b"G ET", b"G\x00T", b"P\xf6ST", b"(GET)",
)
TARGETS = (b"/", b"/", b"/a/b?c=d&e=%20", b"//x//y", b"/%2F%00", b"/a|b[c]{d}\\^`", b"*", b"/?", b"/a;b=c")
ODD_TARGETS = (
    b"http://a.example/x?y", b"http://a.example", b"HTTPS://a.example:443?q", b"http://u@a.example/",
    b"http:///x",
    b"http://:80/", b"ftp://a.example/", b"a.example:80", b"x", b"", b"/a b", b"/a#b", b'/"', b"/<x>",
    b"/\x7f",
    b"/\xc3\xa4", b"/\x00", b"/\tx", b"?q", b"http://[::1]:8/p", b"http://[::1/p",
    b"http://a.example:99999/", b"**",
)
VERSIONS = (b"HTTP/1.1",) * 12 + (b"HTTP/1.0",) * 2
ODD_VERSIONS = (
    b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.01", b"HTTP/1,1", b"http/1.1",
    b"HTTP/11", b"HTTP/1.",
    b"HTTP /1.1", b"", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTPS/1.1", b"HTTP/1.\xb1",
)
HOSTS = (
    b"a.example", b"a.example:8080", b"[::1]", b"[::1]:80", b"127.0.0.1", b"", b"a_b.example", b"a%20b",
    b"a:",
)
ODD_HOSTS = (
    b"a.example:99999", b"a.example:x", b"[::1", b"::1", b"u@a.example", b"a b", b"a,b",
    b"a.example, b.example",
    b"\xe4.example", b"a/b", b"a.example:80:80", b"a%2", b"a\\b", b"[]", b"[v1.x]", b"a?b", b"a#b",
    b"a\x7f",
)
LENGTHS = (b"0", b"1", b"3", b"5", b"10", b"0005")
ODD_LENGTHS = (
    b"", b"-1", b"+5", b"5,5", b"5, 5", b"5, 6", b"0x5", b"5 5", b"5;", b"1_0", b"\xb2", b"5.0", b"9",
    b"9",
    b"9" * 20, b"9" * 21, b"5\x00", b"\x0b5", b"5\x0c", b"1e1", b",5", b"5,", b"NaN",
)
CODINGS = (b"chunked",) * 6 + (b"Chunked", b"CHUNKED")
ODD_CODINGS = (
    b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked, identity",
    b"identity, chunked", b",chunked", b"chunked,", b", ,chunked", b"xchunked", b"chunkedx",
    b"x chunked", b"chunked x",
    b"chunked;q=1", b'"chunked"', b"'chunked'", b"chunk", b"\x0bchunked", b"chunked\x0b", b"\x00chunked",
    b"chunked\x00",
    b"chu\xefked", b"cow", b"", b"chun ked", b"chunked\r", b"\xa0chunked", b"c\\hunked", b"chunked\t,",
    b"deflate;x",
)
FIELDS = (
    b"Accept: */*", b"User-Agent: fuzz/1.0 (x; y)", b"Cookie: a=b; c=d", b"X: ", b"X:", b"X:y",
    b"X:\t y\t ",
    b"X-Under_Score: 1", b"Accept-Encoding: gzip, br", b"Color: red", b"color:green", b"Via: 1.0 x",
    b"Max-Forwards: 3",
    b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Host: evil", b"Forwarded: for=1",
    b"Keep-Alive: timeout=5", b"!#$%&'*+-.^_`|~: 1",
    b"Proxy-Connection: close", b"X-Obs: \x80\xff\xe4", b"Date: x", b"X-Request-ID: abc",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"tracestate: a=1,b=2",
    b"Content_Length: 9",
    b"Transfer_Encoding: chunked", b"Content-Type: text/plain; charset=\"x\"", b"Empty:   ", b"Trailer: X",
)
CONNECTIONS = (
    b"Connection: close", b"Connection: keep-alive", b"Connection: X", b"Connection: Content-Length",
    b"Connection: Host",
    b"Connection: Transfer-Encoding", b"Connection: close, X-Under_Score", b"Connection: Color",
    b"Connection: ,, ,",
    b"Connection: TE", b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: h2c", b"TE: trailers",
    b"TE: gzip;q=1",
    b"HTTP2-Settings: AAMA", b"Expect: 100-continue", b"Expect: 200-ok", b"Connection: keep-alive, \xff",
)
ODD_FIELDS = (
    b"X : y", b"X\t: y", b" X: y", b"\tX: y", b": y", b"X", b"X\x00: y", b"X: a\x00b", b"X: a\rb",
    b"X: a\nb", b"X: a\x01b",
    b"X: a\x7fb", b"X: a\x0bb", b"X\xff: y", b"X(: y", b"X y: z", b"\x00: y", b"X: \x1b[0m",
    b"Content-Length : 3",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding\x0b: chunked", b" Transfer-Encoding: chunked",
    b"GET / HTTP/1.1",
    b"Content-Length: 3\rX: y", b"X: y\rTransfer-Encoding: chunked", b"Host : a",
    b"Transfer-Encoding\xa0: chunked",
    b'"X": y', b"X:: y", b"X: y\x85", b"X: \xe2\x80\xa8", b"Transfer-\rEncoding: chunked",
)
LINE_ENDS = (
    b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\t", b"", b"\x0b\r\n", b"\x00\r\n", b" \r\n",
    b"\r\n\r", b"\x85",
)
ODD_BYTES = b"\r\n\t \x00\x0b\x0c\x7f\x85\xa0\xff:;,=\"\\0aAxX-_()/\x1b\x01\x1c"

PAYLOADS = (
    b"a", b"abc", b"hello", b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", b"x",
    b"\x00\xff",
)
SIZES = (b"%x", b"%x", b"%x", b"%X", b"0%x", b"000%x", b"0000000000%x")
ODD_SIZES = (
    b"0x%x", b"+%x", b"-%x", b"%x ", b" %x", b"%x\t", b"%xg", b"%x,", b"%x_0", b"", b"%x.0",
    b"00000000000000%x", b"\n%x",
    b"000000000000000%x", b"0000000000000000000%x", b"00000000000000000000%x", b"ffffffffffffffff%x",
    b"%x\x00", b"%x\x0b",
    b"100000000%x", b"%x\r",
)
EXTENSIONS = (
    b";a", b";a=b", b';a="b"', b';a="b;c\\"d"', b";a;b=c", b"; a = b", b" ;a", b"\t;\ta", b';a=""',
)
ODD_EXTENSIONS = (
    b";", b";;", b";=", b";a=", b";a b", b';a="', b';a="b\\', b";a\rb", b";a\nb", b";a\x00", b" a",
    b";a=b c", b";a=\xff",
    b";\xff", b";a;", b';a="b"c', b";a=\x7f", b";a\r", b"; ", b"=a", b";a=\"\x80\"", b';a="\x00"',
)
TRAILERS = (
    b"X-Sum: 1", b"X:", b"Color: red", b"Content-MD5: x", b"Content-Length: 5",
    b"Transfer-Encoding: chunked", b"Host: b",
)
ODD_TRAILERS = (
    b"Content-Length: x", b"Content-Length: 5, 6", b"Transfer-Encoding: gzip", b"X : y", b" X: y",
    b"X: a\x00", b"X",
    b"X: a\nb", b"X: a\rb", b": x", b"X: \x01", b"GET / HTTP/1.1",
)
BEHIND = (b"", b"", b"", b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n", b"x", b"\r\n", b"0\r\n\r\n", b"\n")

STATUSES = (b"200",) * 8 + (b"204", b"304", b"404", b"500", b"301", b"100", b"103", b"101")
ODD_STATUSES = (
    b"099", b"000", b"600", b"999", b"20", b"2000", b"2x0", b"", b"-20", b" 200", b"200 ", b"+20",
    b"\xb200",
)
REASONS = (b" OK", b" OK", b" ", b"", b" Not Found", b" \xe4\tx", b"  two")
ODD_REASONS = (b" a\x00", b" a\x01b", b" a\rb", b"OK", b"\tOK", b" a\nb", b" \x7f")
RESPONSE_FIELDS = (
    b"Date: x", b"Server: s", b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"Content-Type: text/html",
    b"Via: 1.1 y", b"X:",
    b"Connection: close", b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Connection: Date, X",
    b"Upgrade: websocket",
    b"Connection: upgrade", b"ETag: \"x\"", b"X-Obs: \xff", b"Content_Length: 4", b"TE: x",
    b"Connection: Content-Length",
)
# fmt: on


class Generator:
    """Makes cases; the same seed and number give the same case."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random()

    def make(self, number: int) -> Case:
        """Return a case of requests: whole ones, or (two in five) a chunked body behind a good head."""
        random = self._random
        random.seed(self._seed << 40 | number)
        if random.random() < 0.4:
            data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + self._mutate_body(
                self._chunked(odd=random.random() < 0.4)
            )
            return Case("chunked", data, self._cuts(len(data)))
        data = self._mutate(self._request())
        return Case("request", data, self._cuts(len(data)))

    def make_response(self, number: int) -> Case:
        """Return a case of a response."""
        random = self._random
        random.seed(self._seed << 40 | 1 << 39 | number)
        data = self._mutate(self._response())
        method = b"HEAD" if random.random() < 0.1 else b"GET"
        return Case("response", data, self._cuts(len(data)), method)

    def _cuts(self, size: int) -> tuple[int, ...]:
        random = self._random
        if size < 2 or random.random() < 0.1:
            return ()
        return tuple(sorted(random.sample(range(1, size), min(random.choice((1, 1, 2, 3, 8)), size - 1))))

    def _pick(self, good: Sequence[bytes], odd: Sequence[bytes], chance: float = 0.04) -> bytes:
        random = self._random
        return random.choice(odd if random.random() < chance else good)

    def _request(self) -> tuple[list[bytes], bytes]:
        random = self._random
        target = self._pick(TARGETS, ODD_TARGETS, 0.12)
        method = b"OPTIONS" if target == b"*" and random.random() < 0.8 else self._pick(METHODS, ODD_METHODS)
        lines = [b"%b %b %b" % (method, target, self._pick(VERSIONS, ODD_VERSIONS))]
        hosts = random.choices((0, 1, 2), (2, 95, 3))[0]
        lines.extend(b"Host: " + self._pick(HOSTS, ODD_HOSTS, 0.08) for _ in range(hosts))
        lines.extend(self._fields(FIELDS + CONNECTIONS))
        framing, body = self._framing()
        lines.extend(framing)
        tail = lines[1:]
        random.shuffle(tail)
        return [lines[0], *tail], body

    def _response(self) -> tuple[list[bytes], bytes]:
        status = self._pick(STATUSES, ODD_STATUSES)
        lines = [b"%b %b%b" % (self._pick(VERSIONS, ODD_VERSIONS), status, self._pick(REASONS, ODD_REASONS))]
        lines.extend(self._fields(RESPONSE_FIELDS))
        framing, body = self._framing()
        lines.extend(framing)
        if status in (b"100", b"103"):
            body += b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        return lines, body

    def _fields(self, pool: Sequence[bytes]) -> list[bytes]:
        random = self._random
        return [
            self._vary_case(self._pick(pool, ODD_FIELDS, 0.02))
            for _ in range(random.choice((0, 1, 1, 2, 3, 6)))
        ]

    def _vary_case(self, line: bytes) -> bytes:
        roll = self._random.random()
        return line if roll < 0.8 else line.lower() if roll < 0.95 else line.upper()

    def _framing(self) -> tuple[list[bytes], bytes]:
        """Return field lines that frame a body, and a body that mostly fits."""
        random = self._random
        roll = random.random()
        behind = random.choice(BEHIND)
        if roll < 0.25:
            return [], behind
        if roll < 0.5:
            payload = random.choice(PAYLOADS)
            length = b"%d" % len(payload) if random.random() < 0.8 else self._pick(LENGTHS, ODD_LENGTHS, 0.7)
            return [self._vary_case(b"Content-Length: ") + length], payload + behind
        if roll < 0.85:
            coding = self._vary_case(b"Transfer-Encoding: ") + self._pick(CODINGS, ODD_CODINGS, 0.25)
            return [coding], self._chunked(odd=random.random() < 0.15)
        # More than one word about the body's end: how requests are smuggled.
        lines = [
            b"Content-Length: " + self._pick(LENGTHS, ODD_LENGTHS, 0.3)
            if random.random() < 0.5
            else b"Transfer-Encoding: " + self._pick(CODINGS, ODD_CODINGS, 0.4)
            for _ in range(random.choice((2, 2, 2, 3)))
        ]
        if random.random() < 0.3:
            lines = [random.choice(lines)] * 2
        return lines, self._chunked(odd=False)

    def _chunked(self, *, odd: bool) -> bytes:
        """Return a chunked body with what comes behind it, with one or two faults if `odd`."""
        random = self._random
        chance = 0.15 if odd else 0.0
        parts = []
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            payload = random.choice(PAYLOADS)
            claimed = (
                len(payload)
                if random.random() > chance / 2
                else max(1, len(payload) + random.choice((-1, 1, 2)))
            )
            size = self._pick(SIZES, ODD_SIZES, chance)
            parts.append(size % claimed if b"%" in size else size)
            if random.random() < 0.15:
                parts.append(self._pick(EXTENSIONS, ODD_EXTENSIONS, chance * 3))
            parts.append(self._end(chance))
            parts.append(payload)
            parts.append(self._end(chance))
        if random.random() > chance / 3:
            parts.append(random.choice((b"0", b"0", b"0", b"00", b"0;last")))
            parts.append(self._end(chance))
        for _ in range(random.choice((0, 0, 0, 1, 2))):
            parts.append(self._pick(TRAILERS, ODD_TRAILERS, chance))
            parts.append(self._end(chance))
        parts.append(self._end(chance))
        parts.append(random.choice(BEHIND))
        return b"".join(parts)

    def _end(self, chance: float) -> bytes:
        return CRLF if self._random.random() > chance / 2 else self._random.choice(LINE_ENDS)

    def _mutate(self, message: tuple[list[bytes], bytes]) -> bytes:
        """Return the message as bytes, with nothing, one thing or a few things broken."""
        random = self._random
        lines, body = message
        ends = [CRLF] * (len(lines) + 1)
        blank = random.choice((b"", b"", b"", b"", b"", b"", b"", b"\r\n", b"\r\n\r\n", b"\n"))
        for _ in range(random.choice((0, 0, 0, 0, 1, 1, 1, 2))):
            roll = random.randrange(8)
            at = random.randrange(len(lines))
            if roll == 0:
                lines.insert(random.randrange(len(lines) + 1), lines[at])
                ends.append(CRLF)
            elif roll == 1 and len(lines) > 1:
                del lines[at]
            elif roll == 2:
                other = random.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            elif roll == 3:
                ends[random.randrange(len(ends))] = random.choice(LINE_ENDS)
            elif roll == 4:
                lines[at] = random.choice((b" ", b"\t", b"X: \r\n ", b"\x00", b"\r")) + lines[at]
            else:
                lines[at] = self._break_bytes(lines[at])
        head = b"".join(line + end for line, end in zip(lines, ends, strict=False)) + ends[-1]
        data = (blank if random.random() < 0.2 else b"") + head + body
        if random.random() < 0.04:
            data = self._break_bytes(data)
        return data if random.random() < 0.95 else data[: random.randrange(len(data) + 1)]

    def _mutate_body(self, data: bytes) -> bytes:
        random = self._random
        for _ in range(random.choice((0, 0, 0, 0, 0, 1, 1, 2))):
            data = self._break_bytes(data)
        return data if random.random() < 0.95 else data[: random.randrange(len(data) + 1)]

    def _break_bytes(self, data: bytes) -> bytes:
        random = self._random
        at = random.randrange(len(data) + 1)
        odd = bytes((random.choice(ODD_BYTES) if random.random() < 0.8 else random.randrange(256),))
        roll = random.randrange(6)
        if roll < 2:
            return data[:at] + odd + data[at:]
        if roll == 2:
            return data[:at] + data[at + 1 :]
        if roll == 3:
            return data[:at] + odd + data[at + 1 :]
        stretch = data[at : at + random.randrange(1, 9)]
        if roll == 4:
            return data[:at] + stretch + data[at:]
        return data[:at] + data[at + len(stretch) :]
