"""
One server-sent event stream: a dashboard that is open.

It is told when it has taken what it was told before. One that is slow gets fewer frames and all the
points; one that takes nothing is ended, and comes back by itself if there is anybody.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from sillyproxy.admin.live import Live

# A client that has not taken what was sent so long ago is ended.
STALL_S: Final = 10.0

# Where the server puts the connection of a request.
CONNECTION: Final = "sillyproxy.connection"

_HEAD: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx in front of us is not to wait for the end
)


class Connection(Protocol):
    """What a stream needs to know of the connection that it has to itself."""

    def begin_stream(self) -> bool:
        """Take the connection for a stream; False if there are too many already."""

    def pending_bytes(self) -> int:
        """Return how much of what was sent waits for the client to read."""

    def abort(self) -> None:
        """End the connection, whatever waits."""


class EventStream:
    """The response to GET /api/events. `since` is the last point that the client has had."""

    def __init__(self, live: Live, connection: Connection, window_s: int, since: int) -> None:
        self._live = live
        self._connection = connection
        self._window_s = window_s
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client is gone, or takes nothing (ASGI)."""
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEAD)})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        news = asyncio.Event()
        gone = asyncio.create_task(_wait_gone(receive))
        gone.add_done_callback(lambda _: news.set())
        self._live.add(news)
        try:
            await self._tell(news, gone, send)
        except TimeoutError:
            self._connection.abort()
        finally:
            self._live.remove(news)
            gone.cancel()

    async def _tell(self, news: asyncio.Event, gone: asyncio.Task[None], send: Send) -> None:
        live, loop = self._live, asyncio.get_running_loop()
        events, taken_at = live.first_events(self._window_s, self._since), loop.time()
        token = live.token()
        while live.may_watch(token) and not gone.done():
            if events:
                self._since = live.history.seq
                # Uvicorn waits in here while much is pending.
                async with asyncio.timeout(STALL_S):
                    await send({"type": "http.response.body", "body": events, "more_body": True})
            await news.wait()
            news.clear()
            if not live.may_watch(token):
                break
            events = b""
            if not self._connection.pending_bytes():
                taken_at = loop.time()
                events = live.next_events(self._window_s, self._since)
            elif loop.time() - taken_at > STALL_S:
                raise TimeoutError
        await send({"type": "http.response.body", "body": b""})


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
