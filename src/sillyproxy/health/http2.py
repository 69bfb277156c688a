"""
One request over HTTP/2 for a check, and what comes back, read as strictly as the workers read it.

And what gRPC's own health check asks and is answered (grpc.health.v1, `Health/Check`).
"""

from __future__ import annotations

import asyncio
from typing import Final

from sillyproxy.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_SIZE,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEAD_BYTES,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WITH_PRIORITY,
    frame,
    settings_frame,
    unpad,
)
from sillyproxy.http2.heads import Malformed, read_response
from sillyproxy.http2.hpack import Field, FieldBlocks, write_field

GRPC_PATH: Final = b"/grpc.health.v1.Health/Check"
_SERVING: Final = 1
_STATES: Final = {0: "unknown", 2: "not serving", 3: "service unknown"}


class Answer:
    """What came: `status`, `fields` with those of the trailers behind them, `body`."""

    def __init__(self) -> None:
        self.status = 0
        self.fields: list[Field] = []
        self.body = b""


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    fields: list[Field],
    body: bytes,
    max_bytes: int,
) -> Answer:
    """Return what comes to a request. Raise Malformed, ConnectionProblem, OSError, IncompleteReadError."""
    block = b"".join(write_field(name, value) for name, value in fields)
    flags = END_HEADERS if body else END_HEADERS | END_STREAM
    writer.write(PREFACE + settings_frame({ENABLE_PUSH: 0}) + frame(HEADERS, flags, 1, block))
    if body:
        writer.write(frame(DATA, END_STREAM, 1, body))
    await writer.drain()
    answer = Answer()
    blocks = FieldBlocks(max_bytes)
    partial = b""
    left = max_bytes
    while True:
        high, low, kind, flags, stream = HEAD.unpack(await reader.readexactly(HEAD_BYTES))
        size = high << 16 | low
        left -= HEAD_BYTES + size
        if size > DEFAULT_FRAME_SIZE or left < 0:
            raise Malformed("too much")
        payload = await reader.readexactly(size)
        if kind == SETTINGS and not flags & ACK:
            writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            writer.write(frame(PING, ACK, 0, payload))
        elif kind in (GOAWAY, RST_STREAM) and not answer.status:
            raise Malformed("refused")
        elif kind in (HEADERS, CONTINUATION):
            if kind == HEADERS:
                partial = unpad(payload, flags, headers=True) if flags & (PADDED | WITH_PRIORITY) else payload
                ended = flags & END_STREAM != 0
            else:
                partial += payload
            if flags & END_HEADERS:
                _take_fields(answer, blocks.read(partial), ended=ended)
                if ended:
                    return answer
        elif kind == DATA and stream == 1:
            answer.body += unpad(payload, flags) if flags & PADDED else payload
            if flags & END_STREAM:
                return answer


def _take_fields(answer: Answer, fields: list[Field], *, ended: bool) -> None:
    if answer.status < 200:
        answer.status = read_response(fields, ended=ended, is_head=False).status
        answer.fields = fields
    else:
        answer.fields = answer.fields + fields


def grpc_question(service: bytes) -> bytes:
    """Return HealthCheckRequest as gRPC sends it: a length, and protobuf's field 1."""
    message = b"\x0a%c%b" % (len(service), service) if service else b""
    return b"\0%b%b" % (len(message).to_bytes(4, "big"), message)


def why_not_serving(answer: Answer) -> str:
    """Return why a HealthCheckResponse is no good one; empty if it is."""
    if answer.status != 200:
        return f"status {answer.status}"
    codes = [value for name, value in answer.fields if name == b"grpc-status"]
    if codes != [b"0"]:
        return f"grpc-status {codes[-1].decode('latin-1')[:20]}" if codes else "malformed"
    # A message of one field, 1, a number; 0 is left out.
    state = answer.body[6] if answer.body[5:6] == b"\x08" and len(answer.body) == 7 else 0
    return "" if state == _SERVING else _STATES.get(state, "malformed")
