"""
One request and its response, from beginning to end.

The phases in order: `begin` (a request head has come), `send` (an idle connection, or a new
one: `connected`), `_write_request`; `response.read_head` and `relay.relay_response`; and
`record`, which every exchange reaches once. The request's body goes its own way beside them
(`relay.relay_request`). What goes wrong is told in `failure`, what the states are in `states`.
"""

from __future__ import annotations

from functools import partial
from random import random
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from sillyproxy import errors
from sillyproxy.errors import BadRequest, Problem
from sillyproxy.http1.forward import chain_fields, hsts_line, peer_fields, read_host
from sillyproxy.http1.framing import CHUNKED, FORBIDDEN_TRAILERS, UNTIL_CLOSE, Chunked, ChunkError
from sillyproxy.http1.reply import (
    build_call_reply,
    build_options_reply,
    build_redirect,
    build_reply,
    build_trace_reply,
)
from sillyproxy.http1.trace import SAMPLED, Trace
from sillyproxy.metrics.layout import (
    CONNECTS_AT,
    DURATIONS_AT,
    SIZES_IN_AT,
    SIZES_OUT_AT,
    Row,
    Worker,
    bucket_of,
)
from sillyproxy.proxy.budget import IDEMPOTENT
from sillyproxy.proxy.edge import Edge
from sillyproxy.proxy.failure import broke, cut_short
from sillyproxy.proxy.limits import HALF_CLOSED_NS
from sillyproxy.proxy.loop import GONE
from sillyproxy.proxy.relay import relay_request, relay_response
from sillyproxy.proxy.response import read_head
from sillyproxy.proxy.states import ANSWERING, CONNECTING, FLUSHING, OVER, QUEUED, WAITING
from sillyproxy.proxy.teller import OFTEN_NS
from sillyproxy.proxy.upstream import Upstream, find_room

if TYPE_CHECKING:
    from sillyproxy.http1.forward import RequestPlan
    from sillyproxy.proxy.downstream import Downstream
    from sillyproxy.proxy.tunnel import Tunnel
    from sillyproxy.traffic.color import ColorAtWork
    from sillyproxy.traffic.endpoint import Endpoint

# The counts of every exchange as plain numbers: looking up an enumeration's member costs
# 0.2 µs, six times a request.
_ACCEPTED: Final = int(Worker.ACCEPTED)
_ANSWERED: Final = int(Worker.ANSWERED)
_DURATION_NS: Final = int(Row.DURATION_NS)
_BYTES_IN: Final = int(Row.BYTES_IN)
_BYTES_OUT: Final = int(Row.BYTES_OUT)

_MAX_TRIES: Final = 12


class Exchange:
    """
    The exchange that a client's connection is busy with; one object serves them all in turn.

    `upload` and `download` say what is still to come of the two bodies: bytes, CHUNKED,
    UNTIL_CLOSE, or 0 when all has come. `first` is what came of the request's body along
    with its head; the request can be sent again as long as that is all of it. `retried`: it
    was, `repeats` times although it may have been acted on. `has_waited`: in the queue. `sent_ns`
    is when it was sent to an endpoint last (or began to wait in the queue), `first_byte_ns` when
    the head of the final response was here, 0 if none was; monotonic. `trace` is its span, once
    somebody needs it.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "chunks_in",
        "chunks_out",
        "color",
        "down",
        "download",
        "edge",
        "endpoint",
        "fields",
        "first",
        "first_byte_ns",
        "has_waited",
        "informed",
        "keep",
        "method",
        "minor",
        "number",
        "plan",
        "repeats",
        "retried",
        "reusable",
        "sent_ns",
        "started_ns",
        "state",
        "status",
        "target",
        "trace",
        "tried",
        "tunnel",
        "untaken",
        "untidy",
        "upload",
        "upload_broken",
        "upstream",
    )

    def __init__(self, edge: Edge, down: Downstream) -> None:
        self.edge = edge
        self.down = down
        self.state = OVER
        self.upstream: Upstream | None = None
        self.color: ColorAtWork | None = None
        self.endpoint: Endpoint | None = None
        self.method = self.target = self.fields = self.first = b""
        self.number = 0
        self.plan: RequestPlan | None = None
        self.chunks_in: Chunked | None = None
        self.chunks_out: Chunked | None = None
        self.tried: list[Endpoint] = []
        self.minor = 1
        self.upload = self.download = 0
        self.bytes_in = self.bytes_out = 0
        self.status = 0
        self.sent_ns = self.first_byte_ns = 0
        self.informed = 0
        self.repeats = 0
        self.retried = False
        self.has_waited = False
        self.started_ns = 0
        self.keep = False
        self.upload_broken = False
        self.reusable = False
        self.untidy = False  # there is something for _tidy
        self.trace: Trace | None = None
        self.tunnel: Tunnel | None = None
        self.untaken = (0, 0)  # which exchange, and what its peer had not taken at the last look

    # -- 1. A request -------------------------------------------------------------------

    def begin(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        plan: RequestPlan,
        fields: bytes,
        rest: bytes,
        *,
        last_stop: bool = False,
    ) -> None:
        """
        Take on a request; `fields` go to the endpoint, `rest` is what came behind the head.

        With `last_stop` it may go no further than here (Max-Forwards: 0).
        Raises BadRequest, before anything was sent, if the beginning of the body is wrong.
        """
        edge = self.edge
        down = self.down
        self.method = method
        self.target = target
        self.minor = minor
        self.plan = plan
        self.fields = fields
        self.started_ns = now_ns = edge.loop.now_ns
        self.keep = not plan.close
        if plan.body == 0:
            down.inbox = rest
            down.deadline_ns = now_ns + edge.response_ns
        else:
            self._begin_upload(plan.body, rest)
        edge.worker_counts[_ACCEPTED] += 1
        edge.next_id = self.number = edge.next_id + 1
        if last_stop:
            self._answer_as_last_stop()
            return
        if edge.guards and self._is_stopped(plan):
            return
        table = edge.table
        color = table.turns[table.split.pick()]
        if color is None:
            self.reply(errors.NO_BACKEND)
            return
        self.color = color
        self.endpoint = endpoint = color.pick(random, now_ns)
        if endpoint is None:
            self.go_elsewhere(errors.NO_BACKEND, None)
            return
        self.send()

    def _is_stopped(self, plan: RequestPlan) -> bool:
        """Answer what goes no further: clear text that has to be TLS, and bodies that are too large."""
        edge = self.edge
        # Who stands before us may have done TLS for us.
        proto = self.down.scheme if plan.chain is None else plan.chain[1].lower() or self.down.scheme
        if edge.redirects and proto != b"https":
            self._redirect(edge.redirects)
            return True
        chunks = self.chunks_in
        if edge.max_body and (plan.body if chunks is None else chunks.payload_bytes) > edge.max_body:
            self.keep = False
            self.reply(errors.BODY_TOO_LARGE)
            return True
        return False

    def _redirect(self, status: int) -> None:
        """Send the client to where it is served with TLS."""
        host = read_host(self.fields)
        if not host or self.target == b"*":
            self.reply(errors.NO_REDIRECT)
            return
        self.keep = keep = self.may_keep()
        port = self.edge.config.tls.redirect_port
        authority = host if port == 443 else b"%b:%d" % (host, port)
        answer = build_redirect(
            status,
            b"https://%b%b" % (authority, self.target),
            date=self.edge.date(),
            close=not keep,
            minor=self.minor,
            head_only=self.method == b"HEAD",
        )
        self._say(answer, status)

    def _begin_upload(self, body: int, rest: bytes) -> None:
        self.untidy = True
        edge = self.edge
        down = self.down
        if body == CHUNKED:
            self.chunks_in = chunks = Chunked(drop=FORBIDDEN_TRAILERS | edge.drop_trailers)
            try:
                self.first = bytes(chunks.feed(rest))
            except ChunkError:
                raise BadRequest(errors.BAD_CHUNK) from None
            self.upload = 0 if chunks.done else CHUNKED
            down.inbox = chunks.rest
        else:
            self.first = rest[:body]
            self.upload = body - len(self.first)
            down.inbox = rest[body:]
        self.bytes_in = len(self.first)
        down.deadline_ns = edge.loop.now_ns + (edge.idle_ns if self.upload else edge.response_ns)

    def _answer_as_last_stop(self) -> None:
        """Answer OPTIONS or TRACE by ourselves (RFC 9110, 7.6.2)."""
        self.keep = keep = self.may_keep()
        date = self.edge.date()
        if self.method == b"OPTIONS":
            answer = build_options_reply(date=date, close=not keep)
        else:
            line = b"TRACE %b HTTP/1.%d" % (self.target, self.minor)
            answer = build_trace_reply(line + self.fields, date=date, close=not keep)
        self._say(answer, 200)

    # -- 2. To an endpoint --------------------------------------------------------------

    def send(self, *, is_turn: bool = False) -> None:
        """
        Send the request to `endpoint`, over an idle connection if there is one.

        Where it is as busy as it may be, or others wait already, to another or into the queue; but
        not one whose turn it is.
        """
        endpoint = self.endpoint
        color = self.color
        assert endpoint is not None
        assert color is not None
        if endpoint.inflight >= color.threshold and not is_turn:
            endpoint = color.pick_free(self.edge.loop.now_ns, self.tried) if color.threshold else None
            if endpoint is None:
                self._wait_for_room(color)
                return
            self.endpoint = endpoint
        endpoint.inflight += 1
        idle = endpoint.idle
        if self.method != b"GET":
            # What may not be sent twice is not sent where nobody may be listening any more.
            while idle and self.method not in IDEMPOTENT and idle[-1].has_ended():
                idle[-1].close()
        if idle:
            self.upstream = upstream = idle.pop()
            upstream.exchange = self
            self._write_request(upstream)
        else:
            self.connect(endpoint)

    def _wait_for_room(self, color: ColorAtWork) -> None:
        self.state = QUEUED
        self.endpoint = None
        if not self.edge.waiting.enter(self, color):
            self.state = CONNECTING
            self.reply(errors.QUEUE_FULL)

    def go_from_queue(self, color: ColorAtWork, endpoint: Endpoint) -> None:
        """There is room at `endpoint` now."""
        self.color, self.endpoint = color, endpoint
        self.state = CONNECTING
        self.has_waited = self.untidy = True
        down = self.down
        down.deadline_ns = self.edge.loop.now_ns + (
            self.edge.idle_ns if self.upload else self.edge.response_ns
        )
        self.send(is_turn=True)

    def leave_queue(self) -> None:
        """Wait no longer, if it waits."""
        if self.state == QUEUED:
            color = self.color
            assert color is not None
            self.edge.waiting.leave(self, color)
            self.state = CONNECTING

    def connect(self, endpoint: Endpoint) -> None:
        """Open a connection to `endpoint`, which counts the exchange already."""
        self.state = CONNECTING
        if endpoint.carriers and self._go_aboard(endpoint):
            return
        try:
            self.upstream = upstream = Upstream(self.edge, endpoint, self)
        except OSError as error:
            if self.edge.close_idle():
                # They are closed when this round is over; then there is room.
                self.edge.loop.soon(partial(self._connect_again, self.number, endpoint))
                return
            reason = error.strerror or str(error)
            self.edge.teller.tell("error", "no socket for an upstream connection", OFTEN_NS, reason=reason)
            self.leave_endpoint()
            self.reply(errors.NO_DESCRIPTOR)
            return
        color = self.color
        assert color is not None
        self.edge.counts.rows[color.slot][Row.UPSTREAM_CONNECTS] += 1
        if not upstream.connect():
            self.connect_failed(errors.REFUSED, Row.RETRY_REFUSED, "refused")

    def _go_aboard(self, endpoint: Endpoint) -> bool:
        """Be one of the exchanges of an HTTP/2 connection, if there is one with room."""
        plan = self.plan
        carrier = find_room(endpoint)
        # WebSocket and the like need a connection for themselves.
        if carrier is None or (plan is not None and plan.upgrade and endpoint.scheme == "https"):
            return False
        self.upstream = upstream = Upstream(self.edge, endpoint, self, carrier)
        self.await_response()
        self._write_request(upstream)
        return True

    def _connect_again(self, number: int, endpoint: Endpoint) -> None:
        if self.number == number and self.state == CONNECTING and self.upstream is None:
            self.connect(endpoint)

    def connected(self, took_ns: int) -> None:
        """The connection is open, after `took_ns`."""
        upstream = self.upstream
        color = self.color
        assert upstream is not None
        assert color is not None
        counts = self.edge.counts
        counts.rows[color.slot][Row.CONNECT_NS] += took_ns
        counts.note(color.slot, CONNECTS_AT + bucket_of(took_ns))
        if upstream.endpoint.failures:
            self.edge.passive.welcome(color, upstream.endpoint)
        self.await_response()
        self._write_request(upstream)

    def await_response(self) -> None:
        """Have a deadline for what comes next: more of the request, or the response."""
        edge = self.edge
        if self.upload:
            wait_ns = edge.idle_ns
        elif self.down.eof:
            wait_ns = min(HALF_CLOSED_NS, edge.response_ns)
        else:
            wait_ns = edge.response_ns
        self.down.deadline_ns = edge.loop.now_ns + wait_ns

    def connect_failed(self, problem: Problem, reason: Row, detail: str) -> None:
        """No connection could be opened: nothing was sent, so any request may go elsewhere."""
        endpoint = self.endpoint
        color = self.color
        assert endpoint is not None
        assert color is not None
        self.upstream = None
        self.edge.passive.avoid(color, endpoint, detail)
        self.leave_endpoint()
        self.give_up_on(endpoint)
        self.go_elsewhere(problem, reason)

    def give_up_on(self, endpoint: Endpoint) -> None:
        """Do not send this request there again."""
        self.tried.append(endpoint)
        self.untidy = True

    def go_elsewhere(self, problem: Problem, reason: Row | None) -> None:
        """Send the request to an endpoint that was not tried; if there is none, that is the end of it."""
        edge = self.edge
        color = self.color
        assert color is not None
        other = None
        if len(self.tried) < _MAX_TRIES:
            other = edge.table.pick_again(color, self.tried, edge.loop.now_ns)
        if other is None:
            edge.passive.note_down(color, problem)
            self.reply(problem)
            return
        if reason is not None and not edge.retries.grant(self):
            self.reply(problem)
            return
        if reason is not None:
            edge.counts.rows[color.slot][reason] += 1
        self.color, self.endpoint = other
        if self.color is not color:
            edge.fall_back(color, self.color, problem)
        self.await_response()
        self.send()

    def leave_endpoint(self) -> None:
        """The endpoint is not busy with it any more."""
        endpoint = self.endpoint
        if endpoint is not None:
            endpoint.inflight -= 1
            if self.edge.queued:
                self.edge.loop.soon(self.edge.waiting.serve)

    def _write_request(self, upstream: Upstream) -> None:
        """Send the head, and what came of the body with it, in one write."""
        plan = self.plan
        color = self.color
        down = self.down
        assert plan is not None
        assert color is not None
        self.state = WAITING
        self.sent_ns = self.edge.loop.now_ns
        # Whose request has an id of its own has it among its fields; the peer's fields end with
        # the beginning of ours.
        if plan.common:
            head = b"%b %b%b HTTP/1.1%b%b%b%08x%b\r\n\r\n%b" % (
                self.method,
                upstream.endpoint.base,
                self.target,
                self.fields,
                color.field,
                down.peer,
                self.number,
                self.edge.tracer.begin(self) if self.edge.tracer.starts else b"",
                self.first,
            )
        else:
            head = self._build_uncommon_head(plan, upstream.endpoint, color)
        # Inlined from Upstream.write: once for every request.
        try:
            sent = upstream.send(head)
        except BlockingIOError:
            sent = 0
        except OSError:
            broke(self, nothing_sent=True)
            return
        if self.upload:
            upstream.be_patient()
        if sent < len(head):
            upstream.keep_back(head[sent:])
        elif self.upload and down.readable:
            relay_request(self)

    def _build_uncommon_head(self, plan: RequestPlan, endpoint: Endpoint, color: ColorAtWork) -> bytes:
        """Return the request of a trusted proxy, one with an id of its own, or one without a Host."""
        down = self.down
        lines = [self.fields, color.field]
        if plan.hostless and not self.fields.startswith(b"\r\nHost: "):
            # RFC 9112, 3.2: what we send is HTTP/1.1, which needs one.
            lines.insert(0, b"\r\nHost: " + endpoint.authority)
        if plan.chain is None:
            lines += (down.identity, peer_fields(down.ip, down.scheme))
        else:
            lines.append(chain_fields(plan.chain, down.ip, down.scheme))
        if not plan.request_id:
            lines.append(b"\r\nX-Request-ID: " + self.request_id)
        lines.append(self.edge.tracer.line(self))
        return b"%b %b%b HTTP/1.1%b\r\n\r\n%b" % (
            self.method,
            b"" if self.target == b"*" else endpoint.base,
            self.target,
            b"".join(lines),
            self.first,
        )

    @property
    def request_id(self) -> bytes:
        """The client's id of its request, or ours."""
        given = self.plan.request_id if self.plan is not None else b""
        return given or b"%b%08x" % (self.edge.id_prefix, self.number)

    # -- 3. The request's body ----------------------------------------------------------

    def on_client(self, events: int) -> None:
        """The client has sent more, or has closed its side."""
        state = self.state
        if self.upload and state in (WAITING, ANSWERING):
            relay_request(self)
        elif events & GONE and not self.upload:
            # Its request is whole. It may want the answer, or have gone away altogether.
            self.down.read_ahead()
            self.down.deadline_ns = min(self.down.deadline_ns, self.edge.loop.now_ns + HALF_CLOSED_NS)

    def on_upstream_writable(self) -> None:
        """The endpoint has taken all there was."""
        if self.upload and self.state in (WAITING, ANSWERING):
            relay_request(self)
        elif self.state == WAITING:
            self.await_response()

    def go_on_relaying_request(self) -> None:
        """It is its turn again: others had theirs."""
        if self.upload and self.state in (WAITING, ANSWERING):
            relay_request(self)

    def upstream_write_failed(self) -> None:
        """
        The endpoint takes no more.

        It may have answered before it closed (413, say), and that answer is the client's.
        """
        self.upload_broken = self.untidy = True
        if self.state == WAITING:
            self.on_upstream(GONE)
        elif self.state == ANSWERING and self.upload == 0:
            cut_short(self)

    # -- 4. The response ----------------------------------------------------------------

    def on_upstream(self, events: int) -> None:
        """The endpoint has sent something, or has closed."""
        if self.state == WAITING:
            read_head(self, events)
        elif self.state == ANSWERING:
            relay_response(self, thorough=events & GONE != 0)

    def read_on(self) -> None:
        """Read what has come behind the first of the response's head."""
        if self.state == WAITING and self.upstream is not None:
            read_head(self, GONE)

    def may_keep(self) -> bool:
        """Tell whether the client's connection can carry another request after this one."""
        down = self.down
        return (
            self.keep and self.upload == 0 and (not down.eof or down.inbox != b"") and not self.edge.draining
        )

    def go_on_relaying_response(self) -> None:
        """It is its turn again: others had theirs."""
        if self.state == ANSWERING:
            relay_response(self)

    def on_client_writable(self) -> None:
        """The client has taken all there was."""
        if self.state == ANSWERING:
            relay_response(self)
        elif self.state == FLUSHING:
            self.finish(self.status)

    def response_complete(self) -> None:
        """All of the response is here."""
        upstream = self.upstream
        if upstream is not None:
            if self.reusable and self.upload == 0 and not upstream.outbox and not self.upload_broken:
                self.upstream = None
                self.leave_endpoint()
                upstream.release()
            else:
                self.drop_upstream()
        if self.upload:
            self.keep = False
        if self.down.outbox:
            self.state = FLUSHING
        else:
            self.finish(self.status)

    def tunnel_closed(self, bytes_in: int, bytes_out: int, *, linger: bool = False) -> None:
        """The tunnel is over; with `linger` the client is given time to read our last word."""
        self.tunnel = None
        self.bytes_in, self.bytes_out = bytes_in, bytes_out
        self.untidy = True
        self.edge.count_tunnel(self.color, -1)
        self.drop_upstream()
        self.record(101, Worker.ANSWERED, None)
        if linger:
            self.down.linger()
        else:
            self.down.close()

    # -- 5. What goes wrong -------------------------------------------------------------

    def abandon(self) -> None:
        """The client went away: nobody waits for the endpoint's answer."""
        # A response that ends with the connection must not look as if it had.
        is_cut = self.state == ANSWERING and self.download == UNTIL_CLOSE
        self.leave_queue()
        self.drop_upstream()
        self.record(499, Worker.ABANDONED, errors.ABANDONED)
        self.down.close(reset=is_cut)

    def crash(self) -> None:
        """End what a bug of ours has broken."""
        if self.state != OVER:
            self.leave_queue()
            self.drop_upstream()
            self.record(500, Worker.LOST, errors.INTERNAL)
        self.down.close(reset=True)

    def refuse(self, problem: Problem, line: bytes, began_ns: int) -> None:
        """Record what was no request we serve, and began to come at `began_ns`."""
        edge = self.edge
        self.method, self.target = line.split(b" ", 2)[:2] if line.count(b" ") > 1 else (b"-", b"-")
        self.method = self.method.translate(_LOGGABLE)[:32]
        self.target = self.target.translate(_LOGGABLE)
        self.plan = None
        self.started_ns = began_ns
        edge.next_id = self.number = edge.next_id + 1
        edge.worker_counts[Worker.ACCEPTED] += 1
        self.record(problem.status, Worker.REPLIED, problem)

    def reply(self, problem: Problem) -> None:
        """Answer by ourselves. The connection goes on if the request was read to its end."""
        self.keep = keep = self.may_keep()
        if self.plan is not None and self.plan.is_grpc:
            date = self.edge.date()
            answer = build_call_reply(problem, date=date, close=not keep, request_id=self.request_id)
            self._say(answer, problem.status, problem)
            return
        extra = b"Retry-After: 1\r\n" if problem.status == 503 else b""
        if self.down.scheme == b"https" and self.edge.config.tls.hsts:
            extra += hsts_line(self.edge.config.tls.hsts) + b"\r\n"
        answer = build_reply(
            problem,
            date=self.edge.date(),
            close=not keep,
            request_id=self.request_id,
            head_only=self.method == b"HEAD",
            extra=extra,
            minor=self.minor,
        )
        self._say(answer, problem.status, problem)

    def _say(self, answer: bytes, status: int, problem: Problem | None = None) -> None:
        down = self.down
        if down.outbox:
            down.outbox = bytes(down.outbox) + answer
        elif not down.write(answer):
            self.abandon()
            return
        keep = self.keep
        unread = self.upload != 0
        self.record(status, Worker.REPLIED, problem)
        if unread or down.outbox:
            down.linger()
        else:
            down.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns
            down.end(keep=keep)

    # -- 6. The end ---------------------------------------------------------------------

    def drop_upstream(self) -> None:
        """Close the connection to the endpoint, which ends whatever it still does for us."""
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            upstream.close()
            self.leave_endpoint()

    def finish(self, status: int) -> None:
        """The response is with the client."""
        keep = self.keep
        down = self.down
        ended_ns = self.record(status, _ANSWERED, None)
        down.deadline_ns = ended_ns + self.edge.idle_ns
        down.end(keep=keep)

    def record(self, status: int, outcome: int, problem: Problem | None) -> int:
        """Count and log the exchange, and be ready for the next. Return the time; monotonic ns."""
        edge = self.edge
        ended_ns = monotonic_ns()
        duration_ns = ended_ns - self.started_ns
        edge.worker_counts[outcome] += 1
        color = self.color
        if color is None:
            row = edge.no_color_row
        else:
            row = color.row
            if duration_ns > color.slow_from_ns:
                edge.passive.note_slow(self, duration_ns)
        row[status // 100 if status != 499 else 0] += 1
        row[_DURATION_NS] += duration_ns
        row[DURATIONS_AT + bucket_of(duration_ns)] += 1
        bytes_out = self.bytes_out
        row[_BYTES_OUT] += bytes_out
        row[SIZES_OUT_AT + bytes_out.bit_length()] += 1
        trace = self.trace
        if problem is not None and trace is None:
            trace = edge.tracer.join(self)  # it may have ended before it was sent anywhere
        if trace is not None and trace[3] & SAMPLED:
            edge.tracer.record(self, trace, status, duration_ns, problem)
        if edge.logs:
            edge.recorder.add(self, status, duration_ns, problem)
        if trace is not None:
            self.trace = None
        edge.loop.unsettled = True
        if edge.queued:
            edge.loop.soon(edge.waiting.serve)
        self.state = OVER
        self.color = self.endpoint = None
        self.bytes_out = self.first_byte_ns = 0
        if self.untidy:
            self._tidy(row, color.slot if color is not None else 0)
        return ended_ns

    def _tidy(self, row: list[int], slot: int) -> None:
        """Count and put back what most exchanges never touch."""
        if self.bytes_in:
            row[_BYTES_IN] += self.bytes_in
            self.edge.counts.note(slot, SIZES_IN_AT + self.bytes_in.bit_length())
        self.untidy = False
        self.bytes_in = self.upload = 0
        self.first = b""
        self.tried = []
        self.chunks_in = self.chunks_out = None
        self.informed = 0
        self.upload_broken = False
        self.repeats = 0
        self.has_waited = False
        if self.retried:
            self.retried = False
            self.edge.retries.end()


# A refused request's own words are not to be trusted in a log.
_LOGGABLE: Final = bytes(c if 0x21 <= c <= 0x7E and c != 0x22 else 0x3F for c in range(256))
