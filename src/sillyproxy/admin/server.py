"""
Serve the admin application on a socket that is bound already.

Uvicorn does the HTTP. What it lacks is an end for clients that send nothing, or read
nothing: a few of them would take all the connections that it allows, and the container's
health check would find none left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from sillyproxy.tools import logs

# A client has this long for each request and its response; all of ours are immediate.
EXCHANGE_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 128
MAX_HEAD_BYTES = 16384


async def serve_admin(app: Starlette, sock: socket.socket) -> None:
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
        limit_concurrency=MAX_CONNECTIONS,
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
    """One connection of an admin client, with a deadline for each exchange."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def on_response_complete(self) -> None:
        self._set_deadline()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(EXCHANGE_TIMEOUT_S, self.transport.abort)


class _ToOurLog(logging.Handler):
    """What uvicorn calls an error is one of ours: it goes where our lines go."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line."""
        logs.error("admin listener", reason=self.format(record))
