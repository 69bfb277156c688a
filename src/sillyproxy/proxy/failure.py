"""
What goes wrong after a request was sent, and what becomes of it then.

It is sent again only if no byte of it can have been acted on, or if the operator allows
more (`budget`); else the client is told, or its response is broken off where that of the
endpoint was. The endpoint is held responsible for what was its doing (`passive`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sillyproxy import errors
from sillyproxy.errors import Problem
from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE
from sillyproxy.metrics.layout import Row, Worker
from sillyproxy.proxy.budget import IDEMPOTENT
from sillyproxy.proxy.states import ANSWERING, CONNECTING, FLUSHING, QUEUED, WAITING
from sillyproxy.proxy.transport import Transport, untaken

if TYPE_CHECKING:
    from sillyproxy.proxy.exchange import Exchange

# What gateways say of those behind them, or servers of themselves that cannot serve (RFC 9110, 15.6).
GATEWAY_ERRORS: Final = (502, 503, 504)


def broke(exchange: Exchange, *, nothing_sent: bool, is_silent: bool = False) -> None:
    """
    The connection ended before a byte of the response.

    `is_silent`: because the endpoint's machine says nothing any more, so that nobody there has
    closed it and nobody would answer at once.
    """
    upstream = exchange.upstream
    color = exchange.color
    assert upstream is not None
    assert color is not None
    pooled = upstream.used and not upstream.inbox and not exchange.informed
    whole = exchange.upload == 0 and not upstream.outbox
    silent = not upstream.inbox
    exchange.drop_upstream()
    endpoint = exchange.endpoint
    assert endpoint is not None
    if is_silent:
        exchange.edge.passive.lose(color, endpoint)
    # An idle connection may be closed just as it is taken. Then nobody has read the
    # request, unless it may be harmless to have it read twice (RFC 9110, 9.2.2).
    if pooled and (
        nothing_sent or (whole and exchange.bytes_in == len(exchange.first) and exchange.method in IDEMPOTENT)
    ):
        if exchange.edge.retries.grant(exchange):
            # A stream is refused over a connection that stays: the second time is the last.
            if is_silent or (upstream.private and endpoint in exchange.tried):
                exchange.give_up_on(endpoint)
                exchange.go_elsewhere(errors.TERMINATED, Row.RETRY_CLOSED)
                return
            exchange.edge.counts.rows[color.slot][Row.RETRY_CLOSED] += 1
            endpoint.inflight += 1
            if upstream.private:
                exchange.give_up_on(endpoint)
            exchange.connect(endpoint)
            return
    elif silent and whole and repeat(exchange, errors.TERMINATED):
        return
    elif not is_silent:
        blame(exchange, errors.TERMINATED.detail)
    exchange.reply(errors.TERMINATED)


def fail(exchange: Exchange, problem: Problem, *, answered: bool = False) -> None:
    """There will be no answer of the endpoint's, and nothing of one went to the client."""
    exchange.drop_upstream()
    if problem.side == "upstream":
        blame(exchange, problem.detail, answered=answered)
    exchange.reply(problem)


def malformed(exchange: Exchange, problem: Problem, data: bytes, *, answered: bool = False) -> None:
    """What the endpoint says is no response, and `data` is how it begins."""
    endpoint = exchange.endpoint
    color = exchange.color
    if endpoint is not None and color is not None:
        exchange.edge.passive.note_malformed(color, endpoint, problem, data)
    fail(exchange, problem, answered=answered)


def blame(exchange: Exchange, what: str, *, gateway: bool = True, answered: bool = False) -> None:
    """Hold a failure against the endpoint; `what` it was, in a few words."""
    endpoint = exchange.endpoint
    color = exchange.color
    if endpoint is not None and color is not None:
        exchange.edge.passive.blame(color, endpoint, what, gateway=gateway, answered=answered)


def repeat(exchange: Exchange, problem: Problem, *, status: int = 0) -> bool:
    """Send a request elsewhere that may have been acted on, if the operator wants that; False if not."""
    edge = exchange.edge
    color = exchange.color
    endpoint = exchange.endpoint
    assert color is not None
    assert endpoint is not None
    if not edge.retries.may_repeat(exchange, status=status):
        return False
    if status and edge.table.pick_again(color, [*exchange.tried, endpoint], edge.loop.now_ns) is None:
        return False  # better the endpoint's answer than one of ours
    if not edge.retries.grant(exchange):
        return False
    exchange.drop_upstream()
    what = f"status {status}" if status else problem.detail
    blame(exchange, what, gateway=not status or status in GATEWAY_ERRORS, answered=status > 0)
    exchange.repeats += 1
    exchange.first_byte_ns = 0  # that response is nobody's
    exchange.give_up_on(endpoint)
    exchange.go_elsewhere(problem, Row.RETRY_RESET)
    return True


def cut_short(exchange: Exchange, *, by_endpoint: bool = True) -> None:
    """The response breaks off: so must the client's, and never look like a clean end."""
    color = exchange.color
    assert color is not None
    if by_endpoint:
        exchange.edge.counts.rows[color.slot][Row.CUT_SHORT] += 1
        blame(exchange, errors.CUT_SHORT.detail, answered=True)
    bounded = exchange.download != UNTIL_CLOSE and not (exchange.download == CHUNKED and exchange.minor == 0)
    exchange.drop_upstream()
    down = exchange.down
    exchange.record(exchange.status, Worker.ANSWERED, errors.CUT_SHORT)
    # A length or a last chunk that does not come tells; where there is neither, a reset must.
    if bounded:
        down.linger()
    else:
        down.close(reset=True)


def expire(exchange: Exchange) -> None:
    """What was awaited did not come in time."""
    down = exchange.down
    state = exchange.state
    if _is_moving(exchange):
        down.deadline_ns = exchange.edge.loop.now_ns + exchange.edge.idle_ns
    elif state == QUEUED and not down.eof:
        color = exchange.color
        assert color is not None
        exchange.leave_queue()
        exchange.edge.counts.rows[color.slot][Row.QUEUE_TIMEOUT] += 1
        exchange.reply(errors.QUEUE_TIMEOUT)
    elif state == CONNECTING and not down.eof:
        down.deadline_ns = exchange.edge.loop.now_ns + exchange.edge.connect_ns
    elif exchange.tunnel is not None:
        exchange.tunnel.close()
    elif down.eof or state == FLUSHING or (state == ANSWERING and down.outbox):
        exchange.abandon()
    elif state == ANSWERING:
        cut_short(exchange)
    elif state == WAITING:
        upstream = exchange.upstream
        plan = exchange.plan
        if plan is not None and plan.timeout_ns and down.deadline_ns < exchange.started_ns + plan.timeout_ns:
            # The call says itself how long it may take.
            down.deadline_ns = exchange.started_ns + plan.timeout_ns
            return
        waits_for_client = exchange.upload and upstream is not None and not upstream.outbox
        exchange.keep = exchange.keep and exchange.upload == 0
        if waits_for_client:
            fail(exchange, errors.BODY_TIMEOUT)
        elif not repeat(exchange, errors.RESPONSE_TIMEOUT):
            fail(exchange, errors.RESPONSE_TIMEOUT)


def end_call(exchange: Exchange) -> None:
    """The time is over that a call of gRPC had given itself."""
    if exchange.state in (QUEUED, CONNECTING, WAITING):
        exchange.leave_queue()
        fail(exchange, errors.CALL_TIMEOUT)
    elif exchange.state == ANSWERING:
        cut_short(exchange, by_endpoint=False)


def _is_moving(exchange: Exchange) -> bool:
    """
    Tell whether a peer that bytes wait for has taken some since this was asked last.

    The kernel calls a socket writable when a third of its buffer is free, megabytes: a
    reader that is slow, but never silent, may be longer about them than the idle timeout.
    """
    down = exchange.down
    upstream = exchange.upstream
    if exchange.tunnel is not None:
        return False
    peer: Transport
    if down.outbox and exchange.state in (ANSWERING, FLUSHING):
        peer = down.sock
    elif upstream is not None and upstream.outbox and not exchange.upload_broken:
        peer = upstream.sock
    else:
        return False
    before = exchange.untaken
    exchange.untaken = (exchange.started_ns, untaken(peer))
    return exchange.untaken != before


def evict(exchange: Exchange) -> None:
    """The drain timeout is over, the process's or that of a color that is gone."""
    exchange.leave_queue()
    if exchange.tunnel is not None:
        exchange.tunnel.say_goodbye()
    elif exchange.state in (CONNECTING, WAITING):
        exchange.keep = False
        fail(exchange, errors.DRAINED)
    elif exchange.state == ANSWERING:
        cut_short(exchange, by_endpoint=False)
    elif exchange.state == FLUSHING:
        exchange.abandon()
