"""
Bodies: bytes from one side to the other, as fast as the slower one takes them.

A connection holds at most one read of a body that the other side has not taken yet; until
it has, nothing more is read, and the kernel stops the sender. The request's body and the
response's go their own ways, because a response may begin before its request has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sillyproxy import errors
from sillyproxy.errors import Problem
from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE, ChunkError
from sillyproxy.proxy.failure import cut_short
from sillyproxy.proxy.limits import RELAY_BYTES, RELAY_ROUNDS
from sillyproxy.proxy.states import ANSWERING, OVER, WAITING

if TYPE_CHECKING:
    from sillyproxy.proxy.exchange import Exchange


def relay_request(exchange: Exchange) -> None:
    """Pass on what has come of the request's body, until one side has no more or takes no more."""
    upstream = exchange.upstream
    down = exchange.down
    edge = exchange.edge
    assert upstream is not None
    if exchange.upload_broken or upstream.outbox:
        return
    buffer = edge.buffer
    down.deadline_ns = edge.loop.now_ns + edge.idle_ns
    for _ in range(RELAY_ROUNDS):
        size = min(exchange.upload, RELAY_BYTES) if exchange.upload > 0 else RELAY_BYTES
        try:
            count = down.sock.recv_into(buffer, size)
        except BlockingIOError:
            down.readable = False
            return
        except OSError:
            count = 0
        if not count:
            exchange.abandon()
            return
        data: bytes | memoryview = buffer[:count]
        if exchange.upload > 0:
            exchange.upload -= count
            exchange.bytes_in += count
        elif not (data := _feed_upload(exchange, data)):
            if exchange.state == OVER:
                return
            if exchange.upload:
                continue
        if data and not upstream.write(data):
            exchange.upstream_write_failed()
            return
        if not exchange.upload:
            down.readable = True
            if exchange.state == WAITING:
                exchange.await_response()
            return
        if upstream.outbox:
            return
    edge.loop.soon(exchange.go_on_relaying_request)


def _feed_upload(exchange: Exchange, data: bytes | memoryview) -> bytes | memoryview:
    """Return what may go on of a chunked body; empty also if it is wrong and all is over."""
    chunks = exchange.chunks_in
    assert chunks is not None
    try:
        out = chunks.feed(data)
    except ChunkError:
        _fail_upload(exchange, errors.BAD_CHUNK)
        return b""
    exchange.bytes_in += len(out)
    if exchange.edge.max_body and chunks.payload_bytes > exchange.edge.max_body:
        _fail_upload(exchange, errors.BODY_TOO_LARGE)
        return b""
    if chunks.done:
        exchange.upload = 0
        exchange.down.inbox = chunks.rest
    return out


def _fail_upload(exchange: Exchange, problem: Problem) -> None:
    """The request's body cannot go on: the endpoint must not take what it has for the whole."""
    exchange.keep = False
    if exchange.state == ANSWERING:
        cut_short(exchange, by_endpoint=False)
    else:
        exchange.drop_upstream()
        exchange.reply(problem)


def relay_response(exchange: Exchange, *, thorough: bool = True) -> None:
    """
    Pass on what has come of the response's body, until one side has no more or takes no more.

    A read that does not fill the buffer has emptied the socket: unless `thorough`, which is
    for when its end may be behind it, or events were missed, nobody looks again for nothing.
    """
    upstream = exchange.upstream
    down = exchange.down
    edge = exchange.edge
    if upstream is None or down.outbox:
        return
    buffer = edge.buffer
    down.deadline_ns = edge.loop.now_ns + edge.idle_ns
    for _ in range(RELAY_ROUNDS):
        try:
            count = upstream.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError:
            cut_short(exchange)
            return
        if not count:
            if exchange.download == UNTIL_CLOSE:
                exchange.download = 0
                exchange.reusable = False
                exchange.response_complete()
            else:
                cut_short(exchange)
            return
        out = take(exchange, buffer[:count])
        if out is None:
            cut_short(exchange)
            return
        if out and not down.write(out):
            exchange.abandon()
            return
        if exchange.download == 0:
            exchange.response_complete()
            return
        if down.outbox or (count < RELAY_BYTES and not thorough):
            return
    edge.loop.soon(exchange.go_on_relaying_response)


def take(exchange: Exchange, data: bytes | memoryview) -> bytes | memoryview | None:
    """Return what goes to the client of the bytes that came; None if they are wrong."""
    download = exchange.download
    if download == CHUNKED:
        chunks = exchange.chunks_out
        assert chunks is not None
        try:
            out = chunks.feed(data)
        except ChunkError:
            return None
        if chunks.done:
            exchange.download = 0
            if chunks.rest:
                exchange.reusable = False
        exchange.bytes_out += len(out)
        return out
    if download >= 0:
        if len(data) > download:
            # Bytes behind the response belong to nobody.
            data = data[:download]
            exchange.reusable = False
        exchange.download = download - len(data)
    exchange.bytes_out += len(data)
    return data
