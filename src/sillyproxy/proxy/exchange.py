"""
One request and its response, from beginning to end.

The phases in order: `begin` (a request head has come), `_send` (an idle connection, or a
new one: `connected`), `read_head` (the response's), `_answer`, `_relay_response`, and
`_finish`, which every exchange reaches once and which records it. The request's body
goes its own way beside them (`_relay_request`), because a response may begin before it
has ended. `_fail` sends a request elsewhere if no byte of it can have been acted on, and
answers by itself otherwise.

The state says which event is awaited; what is not awaited does nothing.
"""

from __future__ import annotations

from fcntl import ioctl
from random import random
from struct import Struct
from termios import TIOCOUTQ
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from sillyproxy import errors
from sillyproxy.errors import BadRequest, BadResponse, Problem
from sillyproxy.http1.forward import (
    chain_fields,
    peer_fields,
    without_chunks,
)
from sillyproxy.http1.framing import CHUNKED, FORBIDDEN_TRAILERS, UNTIL_CLOSE, Chunked, ChunkError
from sillyproxy.http1.reply import build_options_reply, build_reply, build_trace_reply
from sillyproxy.metrics.layout import ROW_HEAD, Row, Worker, bucket_of
from sillyproxy.proxy.budget import IDEMPOTENT
from sillyproxy.proxy.edge import HALF_CLOSED_NS, RELAY_BYTES, RELAY_ROUNDS, Edge
from sillyproxy.proxy.loop import GONE
from sillyproxy.proxy.tunnel import Tunnel
from sillyproxy.proxy.upstream import WAITING, Upstream

if TYPE_CHECKING:
    from sillyproxy.http1.forward import RequestPlan, ResponsePlan
    from sillyproxy.proxy.downstream import Downstream
    from sillyproxy.traffic.color import ColorAtWork
    from sillyproxy.traffic.endpoint import Endpoint

OVER: Final = 0  # nothing under way
CONNECTING: Final = 1  # to an endpoint
# WAITING = 2: for the response's head (upstream.py wants to know)
ANSWERING: Final = 3  # the response's body is on its way
FLUSHING: Final = 4  # all of the response is here, not all of it with the client
TUNNELLING: Final = 5
QUEUED: Final = 6  # every endpoint of the color is as busy as it may be

# The counts of every exchange as plain numbers: looking up an enumeration's member costs
# 0.2 µs, six times a request.
_ACCEPTED: Final = int(Worker.ACCEPTED)
_ANSWERED: Final = int(Worker.ANSWERED)
_DURATION_NS: Final = int(Row.DURATION_NS)
_BYTES_IN: Final = int(Row.BYTES_IN)
_BYTES_OUT: Final = int(Row.BYTES_OUT)

_FIRST_READ_BYTES: Final = 65536
_MAX_INFORMATIONAL: Final = 32
_MAX_TRIES: Final = 12
_INT: Final = Struct("i")


class Exchange:
    """
    The exchange that a client's connection is busy with; one object serves them all in turn.

    `upload` and `download` say what is still to come of the two bodies: bytes, CHUNKED,
    UNTIL_CLOSE, or 0 when all has come. `first` is what came of the request's body along
    with its head; the request can be sent again as long as that is all of it. `retried`: it
    was, `repeats` times although it may have been acted on.
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
        "informed",
        "keep",
        "method",
        "minor",
        "number",
        "plan",
        "repeats",
        "retried",
        "reusable",
        "started_ns",
        "state",
        "status",
        "target",
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
        self.informed = 0
        self.repeats = 0
        self.retried = False
        self.started_ns = 0
        self.keep = False
        self.upload_broken = False
        self.reusable = False
        self.untidy = False  # there is something for _tidy
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
        if edge.max_body and self._is_too_large(plan.body):
            self.keep = False
            self.reply(errors.BODY_TOO_LARGE)
            return
        table = edge.table
        color = table.turns[table.split.pick()]
        if color is None:
            self.reply(errors.NO_BACKEND)
            return
        self.color = color
        self.endpoint = endpoint = color.pick(random, now_ns)
        if endpoint is None:
            self._go_elsewhere(errors.NO_BACKEND, None)
            return
        self._send()

    def _is_too_large(self, body: int) -> bool:
        chunks = self.chunks_in
        return (body if chunks is None else chunks.payload_bytes) > self.edge.max_body

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
        self.keep = keep = self._may_keep()
        date = self.edge.date()
        if self.method == b"OPTIONS":
            answer = build_options_reply(date=date, close=not keep)
        else:
            line = b"TRACE %b HTTP/1.%d" % (self.target, self.minor)
            answer = build_trace_reply(line + self.fields, date=date, close=not keep)
        self._say(answer, 200)

    # -- 2. To an endpoint --------------------------------------------------------------

    def _send(self) -> None:
        """Send the request to `endpoint`, over an idle connection if there is one."""
        endpoint = self.endpoint
        color = self.color
        assert endpoint is not None
        assert color is not None
        if endpoint.inflight >= color.limit:
            endpoint = color.pick_free(self.edge.loop.now_ns)
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
            self._connect(endpoint)

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
        down = self.down
        down.deadline_ns = self.edge.loop.now_ns + (
            self.edge.idle_ns if self.upload else self.edge.response_ns
        )
        self._send()

    def _leave_queue(self) -> None:
        if self.state == QUEUED:
            color = self.color
            assert color is not None
            self.edge.waiting.leave(self, color)
            self.state = CONNECTING

    def _connect(self, endpoint: Endpoint) -> None:
        self.state = CONNECTING
        try:
            self.upstream = upstream = Upstream(self.edge, endpoint, self)
        except OSError as error:  # out of descriptors
            self.edge.log("error", "no socket for an upstream connection", reason=str(error))
            self._leave_endpoint()
            self.reply(errors.INTERNAL)
            return
        color = self.color
        assert color is not None
        self.edge.counts.rows[color.slot][Row.UPSTREAM_CONNECTS] += 1
        if not upstream.connect():
            self.connect_failed(errors.REFUSED, Row.RETRY_REFUSED, "refused")

    def connected(self) -> None:
        """The connection is open."""
        upstream = self.upstream
        color = self.color
        assert upstream is not None
        assert color is not None
        if upstream.endpoint.failures:
            self.edge.passive.welcome(color, upstream.endpoint)
        self._await_response()
        self._write_request(upstream)

    def _await_response(self) -> None:
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
        self._leave_endpoint()
        self._give_up_on(endpoint)
        self._go_elsewhere(problem, reason)

    def _give_up_on(self, endpoint: Endpoint) -> None:
        """Do not send this request there again."""
        self.tried.append(endpoint)
        self.untidy = True

    def _go_elsewhere(self, problem: Problem, reason: Row | None) -> None:
        """Send the request to an endpoint that was not tried; if there is none, that is the end of it."""
        edge = self.edge
        color = self.color
        assert color is not None
        other = None
        if len(self.tried) < _MAX_TRIES:
            other = edge.table.pick_again(color, self.tried, edge.loop.now_ns)
        if other is None or (reason is not None and not edge.retries.grant(self)):
            self.reply(problem)
            return
        if reason is not None:
            edge.counts.rows[color.slot][reason] += 1
        self.color, self.endpoint = other
        if self.color is not color:
            edge.fall_back(color, self.color, problem.kind)
        self._send()

    def _leave_endpoint(self) -> None:
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
        # Whose request has an id of its own has it among its fields; the peer's fields end with
        # the beginning of ours.
        if plan.common:
            head = b"%b %b%b HTTP/1.1%b%b%b%08x\r\n\r\n%b" % (
                self.method,
                upstream.endpoint.base,
                self.target,
                self.fields,
                color.field,
                down.peer,
                self.number,
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
            self._broke(nothing_sent=True)
            return
        if sent < len(head):
            upstream.keep_back(head[sent:])
        elif self.upload and down.readable:
            self._relay_request()

    def _build_uncommon_head(self, plan: RequestPlan, endpoint: Endpoint, color: ColorAtWork) -> bytes:
        """Return the request of a trusted proxy, one with an id of its own, or one without a Host."""
        down = self.down
        lines = [self.fields, color.field]
        if plan.hostless and not self.fields.startswith(b"\r\nHost: "):
            # RFC 9112, 3.2: what we send is HTTP/1.1, which needs one.
            lines.insert(0, b"\r\nHost: " + endpoint.authority)
        lines.append(peer_fields(down.ip) if plan.chain is None else chain_fields(plan.chain, down.ip))
        if not plan.request_id:
            lines.append(b"\r\nX-Request-ID: " + self.request_id)
        return b"%b %b%b HTTP/1.1%b\r\n\r\n%b" % (
            self.method,
            b"" if self.target == b"*" else endpoint.base,
            self.target,
            b"".join(lines),
            self.first,
        )

    @property
    def request_id(self) -> bytes:
        """The client's id of its request, or ours; empty for what was no request."""
        if self.plan is None:
            return b""
        return self.plan.request_id or b"%b%08x" % (self.edge.id_prefix, self.number)

    # -- 3. The request's body ----------------------------------------------------------

    def on_client(self, events: int) -> None:
        """The client has sent more, or has closed its side."""
        state = self.state
        if self.upload and state in (WAITING, ANSWERING):
            self._relay_request()
        elif events & GONE and not self.upload:
            # Its request is whole. It may want the answer, or have gone away altogether.
            self.down.read_ahead()
            self.down.deadline_ns = min(self.down.deadline_ns, self.edge.loop.now_ns + HALF_CLOSED_NS)

    def on_upstream_writable(self) -> None:
        """The endpoint has taken all there was."""
        if self.upload and self.state in (WAITING, ANSWERING):
            self._relay_request()
        elif self.state == WAITING:
            self._await_response()

    def _relay_request(self) -> None:
        """Pass on what has come of the request's body, until one side has no more or takes no more."""
        upstream = self.upstream
        down = self.down
        edge = self.edge
        assert upstream is not None
        if self.upload_broken or upstream.outbox:
            return
        buffer = edge.buffer
        down.deadline_ns = edge.loop.now_ns + edge.idle_ns
        for _ in range(RELAY_ROUNDS):
            size = min(self.upload, RELAY_BYTES) if self.upload > 0 else RELAY_BYTES
            try:
                count = down.sock.recv_into(buffer, size)
            except BlockingIOError:
                down.readable = False
                return
            except OSError:
                count = 0
            if not count:
                self.abandon()
                return
            data: bytes | memoryview = buffer[:count]
            if self.upload > 0:
                self.upload -= count
                self.bytes_in += count
            elif not (data := self._feed_upload(data)):
                if self.state == OVER:
                    return
                if self.upload:
                    continue
            if data and not upstream.write(data):
                self.upstream_write_failed()
                return
            if not self.upload:
                down.readable = True
                if self.state == WAITING:
                    self._await_response()
                return
            if upstream.outbox:
                return
        edge.loop.soon(self._go_on_relaying_request)

    def _feed_upload(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return what may go on of a chunked body; empty also if it is wrong and all is over."""
        chunks = self.chunks_in
        assert chunks is not None
        try:
            out = chunks.feed(data)
        except ChunkError:
            self._fail_upload(errors.BAD_CHUNK)
            return b""
        self.bytes_in += len(out)
        if self.edge.max_body and chunks.payload_bytes > self.edge.max_body:
            self._fail_upload(errors.BODY_TOO_LARGE)
            return b""
        if chunks.done:
            self.upload = 0
            self.down.inbox = chunks.rest
        return out

    def _go_on_relaying_request(self) -> None:
        if self.upload and self.state in (WAITING, ANSWERING):
            self._relay_request()

    def _fail_upload(self, problem: Problem) -> None:
        """The request's body cannot go on: the endpoint must not take what it has for the whole."""
        self.keep = False
        if self.state == ANSWERING:
            self._cut_short(by_endpoint=False)
        else:
            self._drop_upstream()
            self.reply(problem)

    def upstream_write_failed(self) -> None:
        """
        The endpoint takes no more.

        It may have answered before it closed (413, say), and that answer is the client's.
        """
        self.upload_broken = self.untidy = True
        if self.state == WAITING:
            self.on_upstream(GONE)
        elif self.state == ANSWERING and self.upload == 0:
            self._cut_short()

    # -- 4. The response ----------------------------------------------------------------

    def on_upstream(self, events: int) -> None:
        """The endpoint has sent something, or has closed."""
        if self.state == WAITING:
            self.read_head(events)
        elif self.state == ANSWERING:
            self._relay_response(thorough=events & GONE != 0)

    def read_head(self, events: int) -> None:
        """Read what has come of the response's head."""
        upstream = self.upstream
        assert upstream is not None
        try:
            data = upstream.recv(_FIRST_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._broke(nothing_sent=False)
            return
        more = events & GONE != 0 or len(data) == _FIRST_READ_BYTES
        if upstream.inbox:
            data = upstream.inbox + data
            upstream.inbox = b""
        responses = self.edge.responses
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > self.edge.max_head:
                self._wait_head(
                    upstream, data, more=more, too_large=end > 0 or len(data) > self.edge.max_head
                )
                return
            try:
                plan = responses[data[:end]]
            except BadResponse as error:
                self._fail(error.problem)
                return
            if plan.status >= 200:
                self._answer(plan, data, end, more=more)
                return
            if plan.status == 101:
                self._switch(plan, data[end + 4 :])
                return
            if not self._inform(plan):
                return
            data = data[end + 4 :]
            if not data:
                if more:
                    self.edge.loop.soon(self._read_on)
                return

    def _wait_head(self, upstream: Upstream, data: bytes, *, more: bool, too_large: bool) -> None:
        if too_large:
            self._fail(errors.RESPONSE_TOO_LARGE)
        elif not b"HTTP/1.".startswith(data[:7]) or b"\n" in data.replace(b"\r\n", b""):
            # Waiting for the end of what is no head would only turn a 502 into a 504.
            self._fail(errors.BAD_RESPONSE)
        else:
            upstream.inbox = data
            if more:
                self.edge.loop.soon(self._read_on)

    def _read_on(self) -> None:
        if self.state == WAITING and self.upstream is not None:
            self.read_head(GONE)

    def _inform(self, plan: ResponsePlan) -> bool:
        """Pass on an interim response (RFC 9110, 15.2); False if that was the end."""
        self.informed += 1
        self.untidy = True
        if self.informed > _MAX_INFORMATIONAL:
            self._fail(errors.BAD_RESPONSE)
            return False
        request = self.plan
        assert request is not None
        # HTTP/1.0 knows none (RFC 9110, 15.2); 100 is for who asked for it.
        if self.minor == 0 or (plan.status == 100 and not request.expects):
            return True
        down = self.down
        interim = plan.forward + b"\r\n\r\n"
        if down.outbox:
            if len(down.outbox) > RELAY_BYTES:
                return True
            down.outbox = bytes(down.outbox) + interim
        elif not down.write(interim):
            self.abandon()
            return False
        return True

    def _may_keep(self) -> bool:
        """Tell whether the client's connection can carry another request after this one."""
        down = self.down
        return (
            self.keep and self.upload == 0 and (not down.eof or down.inbox != b"") and not self.edge.draining
        )

    def _answer(self, plan: ResponsePlan, data: bytes, end: int, *, more: bool) -> None:
        """Send the response's head, and what came of its body with it."""
        down = self.down
        edge = self.edge
        upstream = self.upstream
        assert upstream is not None
        self.status = plan.status
        body = plan.body
        if self.method == b"HEAD" or plan.status in (204, 304):
            body = 0
        upstream.endpoint.answered += 1
        if plan.status >= 500:
            if self._repeat(errors.TERMINATED, status=plan.status):
                return
            self._blame(gateway=plan.status in _GATEWAY_ERRORS, answered=True)
        extra = len(data) - end - 4
        if extra == body and plan.dated and self.minor and not (self.upload or down.outbox):
            # The whole response is here, as nearly always.
            self.bytes_out = body
            if plan.reusable:
                upstream.endpoint.inflight -= 1
                self.upstream = None
                upstream.release()
            else:
                self._drop_upstream()
            self.keep = keep = self.keep and not (down.eof or edge.draining)
            out = plan.forward + (data[end:] if keep else b"\r\nConnection: close" + data[end:])
            # Inlined from Downstream.write: once for every response.
            try:
                sent = down.send(out)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.abandon()
                return
            if sent == len(out):
                down.deadline_ns = self._record(plan.status, _ANSWERED, None) + edge.idle_ns
                if keep:
                    down.go_on()
                else:
                    down.end(keep=False)
            else:
                self.download = 0
                self.state = FLUSHING
                down.keep_back(out[sent:])
                if edge.queued:
                    edge.loop.soon(edge.waiting.serve)
            return
        self._answer_in_parts(plan, body, data[end + 4 :], more=more)

    def _answer_in_parts(self, plan: ResponsePlan, body: int, rest: bytes, *, more: bool) -> None:
        down = self.down
        upstream = self.upstream
        assert upstream is not None
        head = plan.forward
        self.state = ANSWERING
        self.download = body
        if body == UNTIL_CLOSE:
            self.keep = False
        elif body == CHUNKED:
            self.keep = self.keep and self.minor == 1
            self.untidy = True
            self.chunks_out = Chunked(
                decode=self.minor == 0, drop=self.edge.drop_trailers | FORBIDDEN_TRAILERS
            )
        self.reusable = plan.reusable
        self.keep = keep = self._may_keep()
        if not plan.dated:
            head += b"\r\nDate: " + self.edge.date()
        if self.minor == 0:
            head = without_chunks(head)
        if not keep:
            head += b"\r\nConnection: close" if not plan.upgrade else b", close"
        elif self.minor == 0:
            head += b"\r\nConnection: keep-alive"
        out = self._take(rest)
        if out is None:
            # The head alone would promise a body that cannot come.
            self.state = WAITING
            self._fail(errors.BAD_RESPONSE, answered=True)
            return
        head += b"\r\n\r\n"
        head += out
        if down.outbox:
            down.outbox = bytes(down.outbox) + head
        elif not down.write(head):
            self.abandon()
            return
        if self.download == 0:
            self._response_complete()
        elif more and not down.outbox:
            self._relay_response()
        else:
            down.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns

    def _take(self, data: bytes | memoryview) -> bytes | memoryview | None:
        """Return what goes to the client of the bytes that came; None if they are wrong."""
        download = self.download
        if download == CHUNKED:
            chunks = self.chunks_out
            assert chunks is not None
            try:
                out = chunks.feed(data)
            except ChunkError:
                return None
            if chunks.done:
                self.download = 0
                if chunks.rest:
                    self.reusable = False
            self.bytes_out += len(out)
            return out
        if download >= 0:
            if len(data) > download:
                # Bytes behind the response belong to nobody.
                data = data[:download]
                self.reusable = False
            self.download = download - len(data)
        self.bytes_out += len(data)
        return data

    def _relay_response(self, *, thorough: bool = True) -> None:
        """
        Pass on what has come of the response's body, until one side has no more or takes no more.

        A read that does not fill the buffer has emptied the socket: unless `thorough`, which is
        for when its end may be behind it, or events were missed, nobody looks again for nothing.
        """
        upstream = self.upstream
        down = self.down
        edge = self.edge
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
                self._cut_short()
                return
            if not count:
                if self.download == UNTIL_CLOSE:
                    self.download = 0
                    self.reusable = False
                    self._response_complete()
                else:
                    self._cut_short()
                return
            out = self._take(buffer[:count])
            if out is None:
                self._cut_short()
                return
            if out and not down.write(out):
                self.abandon()
                return
            if self.download == 0:
                self._response_complete()
                return
            if down.outbox or (count < RELAY_BYTES and not thorough):
                return
        edge.loop.soon(self._go_on_relaying_response)

    def _go_on_relaying_response(self) -> None:
        if self.state == ANSWERING:
            self._relay_response()

    def on_client_writable(self) -> None:
        """The client has taken all there was."""
        if self.state == ANSWERING:
            self._relay_response()
        elif self.state == FLUSHING:
            self._finish(self.status)

    def _response_complete(self) -> None:
        """All of the response is here."""
        upstream = self.upstream
        if upstream is not None:
            if self.reusable and self.upload == 0 and not upstream.outbox and not self.upload_broken:
                self.upstream = None
                self._leave_endpoint()
                upstream.release()
            else:
                self._drop_upstream()
        if self.upload:
            self.keep = False
        if self.down.outbox:
            self.state = FLUSHING
        else:
            self._finish(self.status)

    def _switch(self, plan: ResponsePlan, rest: bytes) -> None:
        """The endpoint switches protocols: from here on bytes pass both ways (RFC 9110, 7.8)."""
        request = self.plan
        upstream = self.upstream
        down = self.down
        assert request is not None
        assert upstream is not None
        if not request.upgrade or not plan.upgrade or self.upload or upstream.outbox or down.outbox:
            self._fail(errors.UNASKED_UPGRADE)
            return
        self.status = 101
        self.state = TUNNELLING
        self.keep = False
        if not down.write(plan.forward + b"\r\n\r\n" + rest):
            self.abandon()
            return
        framed = plan.upgrade.lower() == b"websocket"
        self.tunnel = tunnel = Tunnel(self, down, upstream, rest, framed=framed)
        self.edge.worker_counts[Worker.TUNNELS_OPEN] += 1
        self.edge.loop.unsettled = True
        tunnel.start()

    def tunnel_closed(self, bytes_in: int, bytes_out: int, *, linger: bool = False) -> None:
        """The tunnel is over; with `linger` the client is given time to read our last word."""
        self.tunnel = None
        self.bytes_in, self.bytes_out = bytes_in, bytes_out
        self.untidy = True
        self.edge.worker_counts[Worker.TUNNELS_OPEN] -= 1
        self._drop_upstream()
        self._record(101, Worker.ANSWERED, None)
        if linger:
            self.down.linger()
        else:
            self.down.close()

    # -- 5. What goes wrong -------------------------------------------------------------

    def _broke(self, *, nothing_sent: bool) -> None:
        """The connection ended before a byte of the response."""
        upstream = self.upstream
        color = self.color
        assert upstream is not None
        assert color is not None
        pooled = upstream.used and not upstream.inbox and not self.informed
        whole = self.upload == 0 and not upstream.outbox
        silent = not upstream.inbox
        self._drop_upstream()
        # An idle connection may be closed just as it is taken. Then nobody has read the
        # request, unless it may be harmless to have it read twice (RFC 9110, 9.2.2).
        if pooled and (
            nothing_sent or (whole and self.bytes_in == len(self.first) and self.method in IDEMPOTENT)
        ):
            if self.edge.retries.grant(self):
                self.edge.counts.rows[color.slot][Row.RETRY_CLOSED] += 1
                endpoint = self.endpoint
                assert endpoint is not None
                endpoint.inflight += 1
                self._connect(endpoint)
                return
        elif silent and whole and self._repeat(errors.TERMINATED):
            return
        else:
            self._blame()
        self.reply(errors.TERMINATED)

    def _fail(self, problem: Problem, *, answered: bool = False) -> None:
        """There will be no answer of the endpoint's, and nothing of one went to the client."""
        self._drop_upstream()
        if problem.side == "upstream":
            self._blame(answered=answered)
        self.reply(problem)

    def _blame(self, *, gateway: bool = True, answered: bool = False) -> None:
        """Hold a failure against the endpoint."""
        endpoint = self.endpoint
        color = self.color
        if endpoint is not None and color is not None:
            self.edge.passive.blame(color, endpoint, gateway=gateway, answered=answered)

    def _repeat(self, problem: Problem, *, status: int = 0) -> bool:
        """Send a request elsewhere that may have been acted on, if the operator wants that; False if not."""
        edge = self.edge
        color = self.color
        endpoint = self.endpoint
        assert color is not None
        assert endpoint is not None
        if not edge.retries.may_repeat(self, status=status):
            return False
        if status and edge.table.pick_again(color, [*self.tried, endpoint], edge.loop.now_ns) is None:
            return False  # better the endpoint's answer than one of ours
        if not edge.retries.grant(self):
            return False
        self._drop_upstream()
        self._blame(gateway=not status or status in _GATEWAY_ERRORS, answered=status > 0)
        self.repeats += 1
        self._give_up_on(endpoint)
        self._go_elsewhere(problem, Row.RETRY_RESET)
        return True

    def _cut_short(self, *, by_endpoint: bool = True) -> None:
        """The response breaks off: so must the client's, and never look like a clean end."""
        color = self.color
        assert color is not None
        if by_endpoint:
            self.edge.counts.rows[color.slot][Row.CUT_SHORT] += 1
            self._blame(answered=True)
        bounded = self.download != UNTIL_CLOSE and not (self.download == CHUNKED and self.minor == 0)
        self._drop_upstream()
        down = self.down
        self._record(self.status, Worker.ANSWERED, errors.CUT_SHORT)
        # A length or a last chunk that does not come tells; where there is neither, a reset must.
        if bounded:
            down.linger()
        else:
            down.close(reset=True)

    def abandon(self) -> None:
        """The client went away: nobody waits for the endpoint's answer."""
        self._leave_queue()
        self._drop_upstream()
        self._record(499, Worker.ABANDONED, errors.ABANDONED)
        self.down.close()

    def expire(self) -> None:
        """What was awaited did not come in time."""
        down = self.down
        state = self.state
        if self._is_moving():
            down.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns
        elif state == QUEUED and not down.eof:
            color = self.color
            assert color is not None
            self._leave_queue()
            self.edge.counts.rows[color.slot][Row.QUEUE_TIMEOUT] += 1
            self.reply(errors.QUEUE_TIMEOUT)
        elif state == CONNECTING and not down.eof:
            down.deadline_ns = self.edge.loop.now_ns + self.edge.connect_ns
        elif self.tunnel is not None:
            self.tunnel.close()
        elif down.eof or state == FLUSHING or (state == ANSWERING and down.outbox):
            self.abandon()
        elif state == ANSWERING:
            self._cut_short()
        elif state == WAITING:
            upstream = self.upstream
            waits_for_client = self.upload and upstream is not None and not upstream.outbox
            self.keep = self.keep and self.upload == 0
            if waits_for_client:
                self._fail(errors.BODY_TIMEOUT)
            elif not self._repeat(errors.RESPONSE_TIMEOUT):
                self._fail(errors.RESPONSE_TIMEOUT)

    def _is_moving(self) -> bool:
        """
        Tell whether a peer that bytes wait for has taken some since this was asked last.

        The kernel calls a socket writable when a third of its buffer is free, megabytes: a
        reader that is slow, but never silent, may be longer about them than the idle timeout.
        """
        down = self.down
        upstream = self.upstream
        if self.tunnel is not None:
            return False
        if down.outbox and self.state in (ANSWERING, FLUSHING):
            fd = down.fd
        elif upstream is not None and upstream.outbox and not self.upload_broken:
            fd = upstream.fd
        else:
            return False
        before = self.untaken
        (left,) = _INT.unpack(ioctl(fd, TIOCOUTQ, bytes(_INT.size)))
        self.untaken = (self.started_ns, left)
        return self.untaken != before

    def evict(self) -> None:
        """The drain timeout is over, the process's or that of a color that is gone."""
        self._leave_queue()
        if self.tunnel is not None:
            self.tunnel.say_goodbye()
        elif self.state in (CONNECTING, WAITING):
            self.keep = False
            self._fail(errors.DRAINED)
        elif self.state == ANSWERING:
            self._cut_short(by_endpoint=False)
        elif self.state == FLUSHING:
            self.abandon()

    def crash(self) -> None:
        """End what a bug of ours has broken."""
        if self.state != OVER:
            self._leave_queue()
            self._drop_upstream()
            self._record(500, Worker.LOST, errors.INTERNAL)
        self.down.close(reset=True)

    def refuse(self, problem: Problem, line: bytes) -> None:
        """Record what was no request we serve."""
        edge = self.edge
        self.method, self.target = line.split(b" ", 2)[:2] if line.count(b" ") > 1 else (b"-", b"-")
        self.method = self.method.translate(_LOGGABLE)[:32]
        self.target = self.target.translate(_LOGGABLE)
        self.plan = None
        self.started_ns = edge.loop.now_ns
        edge.worker_counts[Worker.ACCEPTED] += 1
        self._record(problem.status, Worker.REPLIED, problem)

    def reply(self, problem: Problem) -> None:
        """Answer by ourselves. The connection goes on if the request was read to its end."""
        self.keep = keep = self._may_keep()
        answer = build_reply(
            problem,
            date=self.edge.date(),
            close=not keep,
            head_only=self.method == b"HEAD",
            extra=b"Retry-After: 1\r\n" if problem.status == 503 else b"",
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
        self._record(status, Worker.REPLIED, problem)
        if unread or down.outbox:
            down.linger()
        else:
            down.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns
            down.end(keep=keep)

    # -- 6. The end ---------------------------------------------------------------------

    def _drop_upstream(self) -> None:
        """Close the connection to the endpoint, which ends whatever it still does for us."""
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            upstream.close()
            self._leave_endpoint()

    def _finish(self, status: int) -> None:
        """The response is with the client."""
        keep = self.keep
        down = self.down
        ended_ns = self._record(status, _ANSWERED, None)
        down.deadline_ns = ended_ns + self.edge.idle_ns
        down.end(keep=keep)

    def _record(self, status: int, outcome: int, problem: Problem | None) -> int:
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
        row[ROW_HEAD + bucket_of(duration_ns)] += 1
        row[_BYTES_OUT] += self.bytes_out
        if edge.logs:
            edge.recorder.add(self, status, duration_ns, problem.kind if problem is not None else "")
        edge.loop.unsettled = True
        if edge.queued:
            edge.loop.soon(edge.waiting.serve)
        self.state = OVER
        self.color = self.endpoint = None
        self.bytes_out = 0
        if self.untidy:
            self._tidy(row)
        return ended_ns

    def _tidy(self, row: list[int]) -> None:
        """Count and put back what most exchanges never touch."""
        row[_BYTES_IN] += self.bytes_in
        self.untidy = False
        self.bytes_in = self.upload = 0
        self.first = b""
        self.tried = []
        self.chunks_in = self.chunks_out = None
        self.informed = 0
        self.upload_broken = False
        self.repeats = 0
        if self.retried:
            self.retried = False
            self.edge.retries.end()


# What gateways say of those behind them, or servers of themselves that cannot serve (RFC 9110, 15.6).
_GATEWAY_ERRORS: Final = (502, 503, 504)

# A refused request's own words are not to be trusted in a log.
_LOGGABLE: Final = bytes(c if 0x21 <= c <= 0x7E and c != 0x22 else 0x3F for c in range(256))
