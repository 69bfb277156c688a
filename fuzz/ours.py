"""
Drive our HTTP/1.1 rules over bytes, as the proxy's two connections do, without a socket.

`read_requests` does what `proxy.downstream` and the beginning of `proxy.exchange` do with a
client's bytes, `read_response` what `proxy.exchange` does with an endpoint's: where a head
is cut out, when one that is incomplete is given up, what follows its body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sillyproxy import errors
from sillyproxy.errors import BadRequest, BadResponse, Problem
from sillyproxy.http1.forward import RequestPlan, RequestPlans, ResponsePlans, replace_host
from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE, Chunked, ChunkError
from sillyproxy.http1.grammar import ORIGIN_LINE
from sillyproxy.http1.head import check_partial_head, read_request_line
from sillyproxy.http1.trace import Parent

MAX_HEAD_BYTES = 65536
_CRLF2 = b"\r\n\r\n"


@dataclass(slots=True)
class Reading:
    """
    What one reader makes of one message.

    `head`: its head was read. `complete`: all of it, body too. `forward` is what goes on to
    the next hop up to here, `payload` the body without its chunks, `rest` what came behind.
    `trace`: who asked, if it belongs to one.
    `problem`: why it is refused.
    """

    method: bytes = b""
    target: bytes = b""
    authority: bytes | None = None
    minor: int = 1
    status: int = 0
    framing: int = 0
    fields: bytes = b""
    body: bytes = b""
    payload: bytes = b""
    rest: bytes = b""
    head: bool = False
    complete: bool = False
    trace: Parent | None = None
    problem: Problem | None = None

    @property
    def forward(self) -> bytes:
        """What the next hop gets."""
        if not self.head:
            return b""
        if self.status:
            return self.fields + _CRLF2 + self.body
        return b"%b %b HTTP/1.1%b\r\n\r\n%b" % (self.method, self.target, self.fields, self.body)


class RequestReader:
    """Reads requests of one client; `plans` by HTTP/1's minor version, as in `proxy.edge`."""

    def __init__(self, color_header: str = "Color", *, trusted: bool = False) -> None:
        self.plans: tuple[RequestPlans, RequestPlans] = (
            RequestPlans(color_header, trusted=trusted, minor=0),
            RequestPlans(color_header, trusted=trusted, minor=1),
        )

    def read(self, pieces: Iterable[bytes], max_head: int = MAX_HEAD_BYTES) -> Reading:
        """Return what becomes of the first request in the bytes, given piece by piece."""
        reading = Reading()
        body: _Body | None = None
        inbox = b""
        try:
            for piece in pieces:
                if body is None:
                    inbox = self._read_head(inbox + piece, reading, max_head)
                    if not reading.head:
                        continue
                    body = _Body(reading.framing)
                    piece = inbox
                body.feed(piece, reading)
        except BadRequest as error:
            reading.problem = error.problem
        except ChunkError:
            reading.problem = errors.BAD_CHUNK
        if body is None:
            reading.rest = inbox
        return reading

    def _read_head(self, data: bytes, reading: Reading, max_head: int) -> bytes:
        """Fill in the head, if it is complete, and return what is left to read."""
        while data.startswith(b"\r\n"):
            data = data[2:]
        eol = data.find(b"\r\n")
        end = data.find(_CRLF2, max(eol, 0))
        if end < 0 or end > max_head:
            check_partial_head(data[: max_head + 1] if end < 0 else data[:end], max_head)
            return data
        line = ORIGIN_LINE.fullmatch(data, 0, eol)
        if line is not None:
            reading.method, reading.target = line.groups()
        else:
            reading.method, reading.target, reading.minor, reading.authority = read_request_line(data[:eol])
        plan: RequestPlan = self.plans[reading.minor][data[eol:end]]
        reading.fields = plan.forward if reading.authority is None else replace_host(plan, reading.authority)
        reading.framing = plan.body
        reading.trace = plan.trace
        reading.head = True
        return data[end + 4 :]

    def read_all(self, data: bytes) -> tuple[list[Reading], Reading | None]:
        """Return all requests of a connection, in order, and the one that ended it, if any."""
        readings: list[Reading] = []
        while data:
            reading = self.read((data,))
            if not reading.complete:
                return readings, reading
            readings.append(reading)
            data = reading.rest
        return readings, None


class ResponseReader:
    """Reads responses of endpoints."""

    def __init__(self) -> None:
        self.plans = ResponsePlans()

    def read(self, pieces: Iterable[bytes], method: bytes) -> tuple[list[Reading], Reading]:
        """Return the interim responses and the final one to a request by `method`."""
        interim: list[Reading] = []
        reading = Reading()
        body: _Body | None = None
        inbox = b""
        try:
            for piece in pieces:
                inbox = inbox + piece if body is None else piece
                while body is None:
                    end = inbox.find(_CRLF2)
                    if end < 0:
                        if not b"HTTP/1.".startswith(inbox[:7]) or b"\n" in inbox.replace(b"\r\n", b""):
                            raise BadResponse(errors.BAD_RESPONSE)
                        break
                    plan = self.plans[inbox[:end]]
                    inbox = inbox[end + 4 :]
                    reading.status = plan.status
                    reading.fields = plan.forward
                    reading.framing = plan.body
                    reading.head = True
                    if plan.status == 101:
                        reading.framing = 0
                        body = _Body(0)  # what follows is no HTTP: all of it is `rest`
                        continue
                    if plan.status < 200:
                        interim.append(reading)
                        reading = Reading()
                        continue
                    if method == b"HEAD" or plan.status in (204, 304):
                        reading.framing = 0
                    body = _Body(reading.framing)
                if body is not None:
                    body.feed(inbox, reading)
        except BadResponse as error:
            reading.problem = error.problem
        except ChunkError:
            reading.problem = errors.BAD_RESPONSE
        if body is None:
            reading.rest = inbox
        return interim, reading


class _Body:
    """Follows one body, chunked ones twice: as it goes on, and decoded."""

    def __init__(self, framing: int) -> None:
        self._left = framing
        self._chunks = Chunked()
        self._decoded = Chunked(decode=True)

    def feed(self, data: bytes, reading: Reading) -> None:
        if reading.complete:
            reading.rest += data
        elif reading.framing == CHUNKED:
            self._feed_chunks(data, reading)
        elif reading.framing == UNTIL_CLOSE:
            reading.body += data
            reading.payload = reading.body
        else:
            reading.body += data[: self._left]
            reading.payload = reading.body
            reading.rest += data[self._left :]
            self._left -= min(self._left, len(data))
            reading.complete = not self._left

    def _feed_chunks(self, data: bytes, reading: Reading) -> None:
        try:
            reading.payload += bytes(self._decoded.feed(data))
        finally:
            reading.body += bytes(self._chunks.feed(data))
        reading.complete = self._chunks.done
        reading.rest = self._chunks.rest
        assert self._decoded.done == self._chunks.done
        assert self._decoded.rest == self._chunks.rest
        assert self._decoded.payload_bytes == self._chunks.payload_bytes == len(reading.payload)


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return the bytes in pieces, cut at the sorted places `cuts`."""
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]
