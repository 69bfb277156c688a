"""
A client of HTTP/2 that sends whatever it is told to, frame by frame, and reads strictly.

Frames are written here, from RFC 9113 and not from the proxy's code; field blocks are read by the
`hpack` library, and written without any compression.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import hpack

from tests.wire.harness import PATIENCE_S, Client, Ended

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL = 6, 8

Fields = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *value) for value in values))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def literal(name: str | bytes, value: str | bytes) -> bytes:
    """A field that enters no table (RFC 7541, 6.2.2)."""
    out = b"\0"
    for text in (name, value):
        data = text.encode() if isinstance(text, str) else text
        size = len(data)
        prefix = bytes((min(size, 127),))
        if size >= 127:
            size -= 127
            while size >= 128:
                prefix, size = prefix + bytes((size % 128 + 128,)), size // 128
            prefix += bytes((size,))
        out += prefix + data
    return out


def block(fields: Sequence[tuple[str | bytes, str | bytes]]) -> bytes:
    return b"".join(literal(name, value) for name, value in fields)


def request(path: str = "/", method: str = "GET", *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", "edge"), *more]


def headers(stream: int, fields: Sequence[tuple[str | bytes, str | bytes]], flags: int = END_STREAM) -> bytes:
    return frame(HEADERS, flags | END_HEADERS, stream, block(fields))


def get(stream: int = 1, path: str = "/", *more: tuple[str, str]) -> bytes:
    return headers(stream, request(path, "GET", *more))


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass
class Answer:
    """What came on one stream. `end`: `ended`, `reset` with its `code`, or empty so far."""

    interim: list[list[tuple[str, str]]] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    end: str = ""
    code: int = -1

    @property
    def status(self) -> int:
        return int(self.value(":status") or 0)

    def value(self, name: str) -> str | None:
        values = [value for given, value in self.fields if given == name]
        assert len(values) < 2, values
        return values[0] if values else None


class Peer(Client):
    """
    One connection. What came is in `answers` by stream, and in `frames` whatever it was.

    `credits`: it gives back at once what DATA takes of the windows. `goaway` has the codes that came.
    """

    def __init__(self, port: int, *values: tuple[int, int], greet: bool = True, credits: bool = True) -> None:
        super().__init__(port)
        self.start(values, greet=greet, credits=credits)

    def start(
        self, values: Sequence[tuple[int, int]] = (), *, greet: bool = True, credits: bool = True
    ) -> None:
        self.decoder = hpack.Decoder()
        self.answers: dict[int, Answer] = {}
        self.frames: list[Frame] = []
        self.goaway: list[tuple[int, int, bytes]] = []
        self.theirs: dict[int, int] = {}
        self.pongs: list[bytes] = []
        self.credits = credits
        self._next = 1
        if greet:
            self.send(PREFACE + settings(*values))

    def read_frame(self, timeout_s: float = PATIENCE_S) -> Frame:
        """Return the next frame, and do what it asks for; raises Ended."""
        stream = self.stream
        while len(stream.buffer) < 9:
            stream.fill(timeout_s)
        size = int.from_bytes(stream.buffer[:3], "big")
        assert size <= 16384, "a frame larger than was allowed"
        while len(stream.buffer) < 9 + size:
            stream.fill(timeout_s)
        head = stream.take(9)
        got = Frame(head[3], head[4], int.from_bytes(head[5:], "big"), stream.take(size))
        stream.raw.clear()
        self.frames.append(got)
        self._on_frame(got)
        return got

    def _on_frame(self, got: Frame) -> None:
        kind, flags, number, payload = got
        answer = self.answers.setdefault(number, Answer()) if number else Answer()
        assert not (number and answer.end == "ended" and kind in (DATA, HEADERS)), "more behind the end"
        if kind == SETTINGS and not flags & ACK:
            self.theirs.update(struct.iter_unpack(">HI", payload))
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING:
            if flags & ACK:
                self.pongs.append(payload)
            else:
                self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            last, code = struct.unpack(">II", payload[:8])
            self.goaway.append((last, code, payload[8:]))
        elif kind == RST_STREAM:
            answer.end, answer.code = "reset", int.from_bytes(payload, "big")
        elif kind == DATA:
            assert answer.fields, "DATA before the head"
            answer.body += payload
            if payload and self.credits:
                self.send(window(0, len(payload)))
                if not flags & END_STREAM:
                    self.send(window(number, len(payload)))
        elif kind in (HEADERS, CONTINUATION):
            self._on_block(got, answer)
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            answer.end = "ended"

    def _on_block(self, got: Frame, answer: Answer) -> None:
        payload = got.payload
        if not got.flags & END_HEADERS:
            while True:
                more = self.stream.take(9)
                assert (more[3], int.from_bytes(more[5:], "big")) == (CONTINUATION, got.stream)
                payload += self.stream.take(int.from_bytes(more[:3], "big"))
                if more[4] & END_HEADERS:
                    break
        fields = [(str(name), str(value)) for name, value in self.decoder.decode(payload)]
        assert all(name == name.lower() for name, _ in fields), fields
        if answer.fields:
            answer.trailers = fields
            assert got.flags & END_STREAM
        elif fields[0][1].startswith("1"):
            answer.interim.append(fields)
        else:
            answer.fields = fields
        assert not {"connection", "transfer-encoding", "keep-alive", "upgrade"} & dict(fields).keys(), fields

    def ask(self, fields: Fields, body: bytes | None = None) -> int:
        """Send a request with the next stream's number; return that."""
        number, self._next = self._next, self._next + 2
        self.send(headers(number, fields, 0 if body is not None else END_STREAM))
        if body is not None:
            pieces = [body[at : at + 16384] for at in range(0, len(body), 16384)] or [b""]
            for piece in pieces[:-1]:
                self.send(frame(DATA, 0, number, piece))
            self.send(frame(DATA, END_STREAM, number, pieces[-1]))
        return number

    def read_answer(self, number: int = 1) -> Answer:
        """Read until the stream is over; raises Ended if the connection is before."""
        answer = self.answers.setdefault(number, Answer())
        while not answer.end:
            self.read_frame()
        return answer

    def get(self, path: str = "/") -> Answer:
        return self.read_answer(self.ask(request(path)))

    def is_alive(self) -> bool:
        """Whether a PING is answered."""
        word = struct.pack(">Q", len(self.frames))
        self.send(frame(PING, 0, 0, word))
        try:
            while word not in self.pongs:
                self.read_frame()
        except Ended:
            return False
        return True

    def read_end(self) -> str:
        """Read until the connection is over; say how."""
        try:
            while True:
                self.read_frame()
        except Ended as end:
            return end.how
