"""
The response: its head is read, judged, and passed on with what came of its body.

Nearly always all of it is here at once, and goes to the client in one write; `relay` carries
the rest of the others. Interim responses go first, and 101 makes the two connections a tunnel.
"""

from __future__ import annotations

from errno import ECANCELED, ETIMEDOUT
from typing import TYPE_CHECKING, Final

from sillyproxy import errors
from sillyproxy.errors import BadResponse
from sillyproxy.http1.forward import without_chunks
from sillyproxy.http1.framing import CHUNKED, FORBIDDEN_TRAILERS, UNTIL_CLOSE, Chunked
from sillyproxy.metrics.layout import FIRST_BYTES_AT, Row, Worker, bucket_of
from sillyproxy.proxy.failure import GATEWAY_ERRORS, blame, broke, fail, malformed, repeat
from sillyproxy.proxy.limits import RELAY_BYTES
from sillyproxy.proxy.loop import GONE
from sillyproxy.proxy.relay import relay_response, take
from sillyproxy.proxy.states import ANSWERING, FLUSHING, TUNNELLING, WAITING
from sillyproxy.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from sillyproxy.http1.forward import ResponsePlan
    from sillyproxy.proxy.exchange import Exchange
    from sillyproxy.proxy.upstream import Upstream

_FIRST_READ_BYTES: Final = 65536
_MAX_INFORMATIONAL: Final = 32
_ANSWERED: Final = int(Worker.ANSWERED)
_FIRST_BYTE_NS: Final = int(Row.FIRST_BYTE_NS)


def read_head(exchange: Exchange, events: int) -> None:
    """Read what has come of the response's head."""
    upstream = exchange.upstream
    assert upstream is not None
    try:
        data = upstream.recv(_FIRST_READ_BYTES)
    except BlockingIOError:
        return
    except OSError as error:
        # An endpoint of HTTP/2 may have said that it did nothing of the request.
        untouched = error.errno == ECANCELED and exchange.bytes_in == len(exchange.first)
        broke(exchange, nothing_sent=untouched, is_silent=error.errno == ETIMEDOUT)
        return
    if not data:
        broke(exchange, nothing_sent=False)
        return
    more = events & GONE != 0 or len(data) == _FIRST_READ_BYTES
    if upstream.inbox:
        data = upstream.inbox + data
        upstream.inbox = b""
    responses = exchange.down.responses
    while True:
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > exchange.edge.max_head:
            _wait_head(
                exchange, upstream, data, more=more, too_large=end > 0 or len(data) > exchange.edge.max_head
            )
            return
        try:
            plan = responses[data[:end]]
        except BadResponse as error:
            malformed(exchange, error.problem, data)
            return
        if plan.status >= 200:
            _answer(exchange, plan, data, end, more=more)
            return
        if plan.status == 101:
            _switch(exchange, plan, data[end + 4 :])
            return
        if not _inform(exchange, plan):
            return
        data = data[end + 4 :]
        if not data:
            if more:
                exchange.edge.loop.soon(exchange.read_on)
            return


def _wait_head(exchange: Exchange, upstream: Upstream, data: bytes, *, more: bool, too_large: bool) -> None:
    if too_large:
        malformed(exchange, errors.RESPONSE_TOO_LARGE, data)
    elif not b"HTTP/1.".startswith(data[:7]) or b"\n" in data.replace(b"\r\n", b""):
        # Waiting for the end of what is no head would only turn a 502 into a 504.
        malformed(exchange, errors.BAD_RESPONSE, data)
    else:
        upstream.inbox = data
        if more:
            exchange.edge.loop.soon(exchange.read_on)


def _inform(exchange: Exchange, plan: ResponsePlan) -> bool:
    """Pass on an interim response (RFC 9110, 15.2); False if that was the end."""
    exchange.informed += 1
    exchange.untidy = True
    if exchange.informed > _MAX_INFORMATIONAL:
        fail(exchange, errors.BAD_RESPONSE)
        return False
    request = exchange.plan
    assert request is not None
    # HTTP/1.0 knows none (RFC 9110, 15.2); 100 is for who asked for it.
    if exchange.minor == 0 or (plan.status == 100 and not request.expects):
        return True
    down = exchange.down
    interim = plan.forward + b"\r\n\r\n"
    if down.outbox:
        if len(down.outbox) > RELAY_BYTES:
            return True
        down.outbox = bytes(down.outbox) + interim
    elif not down.write(interim):
        exchange.abandon()
        return False
    return True


def _answer(exchange: Exchange, plan: ResponsePlan, data: bytes, end: int, *, more: bool) -> None:
    """Send the response's head, and what came of its body with it."""
    down = exchange.down
    edge = exchange.edge
    upstream = exchange.upstream
    assert upstream is not None
    exchange.status = plan.status
    exchange.first_byte_ns = now_ns = edge.loop.now_ns
    color = exchange.color
    assert color is not None
    took_ns = now_ns - exchange.sent_ns
    row = color.row
    row[_FIRST_BYTE_NS] += took_ns
    row[FIRST_BYTES_AT + bucket_of(took_ns)] += 1
    body = plan.body
    if exchange.method == b"HEAD" or plan.status in (204, 304):
        body = 0
    upstream.endpoint.answered += 1
    if plan.status >= 500:
        if repeat(exchange, errors.TERMINATED, status=plan.status):
            return
        blame(exchange, f"status {plan.status}", gateway=plan.status in GATEWAY_ERRORS, answered=True)
    extra = len(data) - end - 4
    if extra == body and plan.dated and exchange.minor and not (exchange.upload or down.outbox):
        # The whole response is here, as nearly always.
        exchange.bytes_out = body
        if plan.reusable:
            upstream.endpoint.inflight -= 1
            exchange.upstream = None
            upstream.release()
        else:
            exchange.drop_upstream()
        exchange.keep = keep = exchange.keep and not (down.eof or edge.draining)
        out = plan.forward + (data[end:] if keep else b"\r\nConnection: close" + data[end:])
        # Inlined from Downstream.write: once for every response.
        try:
            sent = down.send(out)
        except BlockingIOError:
            sent = 0
        except OSError:
            exchange.abandon()
            return
        if sent == len(out):
            down.deadline_ns = exchange.record(plan.status, _ANSWERED, None) + edge.idle_ns
            if keep:
                down.go_on()
            else:
                down.end(keep=False)
        else:
            exchange.download = 0
            exchange.state = FLUSHING
            down.keep_back(out[sent:])
            if edge.queued:
                edge.loop.soon(edge.waiting.serve)
        return
    _answer_in_parts(exchange, plan, body, data[end + 4 :], more=more)


def _answer_in_parts(exchange: Exchange, plan: ResponsePlan, body: int, rest: bytes, *, more: bool) -> None:
    down = exchange.down
    upstream = exchange.upstream
    assert upstream is not None
    head = plan.forward
    exchange.state = ANSWERING
    exchange.download = body
    if body == UNTIL_CLOSE:
        exchange.keep = False
    elif body == CHUNKED:
        exchange.keep = exchange.keep and exchange.minor == 1
        exchange.untidy = True
        exchange.chunks_out = Chunked(
            decode=exchange.minor == 0, drop=exchange.edge.drop_trailers | FORBIDDEN_TRAILERS
        )
    exchange.reusable = plan.reusable
    exchange.keep = keep = exchange.may_keep()
    if not plan.dated:
        head += b"\r\nDate: " + exchange.edge.date()
    if exchange.minor == 0:
        head = without_chunks(head)
    if not keep:
        head += b"\r\nConnection: close" if not plan.upgrade else b", close"
    elif exchange.minor == 0:
        head += b"\r\nConnection: keep-alive"
    out = take(exchange, rest)
    if out is None:
        # The head alone would promise a body that cannot come.
        exchange.state = WAITING
        malformed(exchange, errors.BAD_RESPONSE, rest, answered=True)
        return
    head += b"\r\n\r\n"
    head += out
    if down.outbox:
        down.outbox = bytes(down.outbox) + head
    elif not down.write(head):
        exchange.abandon()
        return
    if exchange.download == 0:
        exchange.response_complete()
    elif more and not down.outbox:
        relay_response(exchange)
    else:
        down.deadline_ns = exchange.edge.loop.now_ns + exchange.edge.idle_ns


def _switch(exchange: Exchange, plan: ResponsePlan, rest: bytes) -> None:
    """The endpoint switches protocols: from here on bytes pass both ways (RFC 9110, 7.8)."""
    request = exchange.plan
    upstream = exchange.upstream
    down = exchange.down
    assert request is not None
    assert upstream is not None
    if not request.upgrade or not plan.upgrade or exchange.upload or upstream.outbox or down.outbox:
        fail(exchange, errors.UNASKED_UPGRADE)
        return
    upstream.be_patient()
    exchange.status = 101
    exchange.state = TUNNELLING
    exchange.keep = False
    if not down.write(plan.forward + b"\r\n\r\n" + rest):
        exchange.abandon()
        return
    framed = plan.upgrade.lower() == b"websocket"
    exchange.tunnel = tunnel = Tunnel(exchange, down, upstream, rest, framed=framed)
    exchange.edge.count_tunnel(exchange.color, 1)
    exchange.edge.loop.unsettled = True
    tunnel.start()
