"""
Serve the admin application on a socket that is bound already.

Uvicorn does the HTTP. What it lacks is an end for clients that send nothing, or read
nothing, and room for those who come when there are many: it would refuse them, and the
container's health check among them. Here a new connection takes the place of the one
that has been of no use for the longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sillyproxy.admin.guard import HEADERS
from sillyproxy.admin.stream import CONNECTION
from sillyproxy.tools import logs

# A client has this long for each request and its response; all of ours but streams are immediate.
EXCHANGE_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 128
# Of these, event streams: fifty dashboards, and some that are being opened again.
MAX_STREAMS = 64
# The kernel would take megabytes for a client that does not read, and we would not know of it.
STREAM_BUFFER_BYTES = 65536
MAX_HEAD_BYTES = 16384
GONE = -1.0  # since when a connection has waited that is ended already


async def serve_admin(app: ASGIApp, sock: socket.socket) -> None:
    """Serve until cancelled."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        headers=list(HEADERS.items()),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    logger = logging.getLogger("uvicorn")
    logger.handlers = [_ToOurLog(logging.ERROR)]
    logger.propagate = False
    server = _Server(config)
    serving = asyncio.create_task(server.serve([sock]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        # Uvicorn would wait for clients without an end; what takes more than its 0.1 s is cut.
        server.should_exit = server.force_exit = True
        await serving


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the controller."""
        yield


class _Protocol(H11Protocol):
    """One connection of an admin client, with a deadline for each exchange that is no stream."""

    streaming = False
    _since = 0.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._app = self.app
        self.app = self._run
        self._set_deadline()
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with the connection at hand."""
        scope[CONNECTION] = self
        await self._app(scope, receive, send)

    def on_response_complete(self) -> None:
        self.streaming = False
        self._set_deadline()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end_deadline()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, with the headers of every other answer."""
        headers = [*HEADERS.items(), ("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=f"{msg}\n".encode()),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    # For an event stream.

    def begin_stream(self) -> bool:
        """Let the present exchange last; False if there are too many of its kind."""
        if sum(other.streaming for other in self._others()) >= MAX_STREAMS:
            return False
        self.streaming = True
        self._end_deadline()
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER_BYTES)
        return True

    def pending_bytes(self) -> int:
        """Return how much of what was sent waits for the client to read, besides what the kernel holds."""
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """End the connection, whatever waits."""
        self._since = GONE
        self.transport.abort()

    # Deadlines, and room for who comes.

    def _set_deadline(self) -> None:
        self._end_deadline()
        self._since = self.loop.time()
        self._deadline = self.loop.call_later(EXCHANGE_TIMEOUT_S, self.abort)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _make_room(self) -> None:
        """End the connection that has waited longest: for a request, or else for its client to read."""
        candidates = [other for other in self._others() if not other.streaming and other._since != GONE]
        victim = min(candidates, key=lambda other: (other._is_busy(), other._since), default=self)
        victim.abort()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _others(self) -> Iterator[_Protocol]:
        return (other for other in self.connections if isinstance(other, _Protocol) and other is not self)


class _ToOurLog(logging.Handler):
    """What uvicorn calls an error is one of ours: it goes where our lines go."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line."""
        logs.error("admin listener", reason=self.format(record))
