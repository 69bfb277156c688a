"""What the admin listener answers. Nothing here changes anything, so GET and HEAD are all it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sillyproxy.admin.board import Board
from sillyproxy.admin.exposition import expose
from sillyproxy.admin.guard import Guard
from sillyproxy.admin.live import Live
from sillyproxy.admin.status import build_status
from sillyproxy.admin.stream import CONNECTION, Connection, EventStream
from sillyproxy.rollout.figures import WINDOWS

# What is true now may not be true when it is read from a cache.
_FRESH = {"Cache-Control": "no-store"}

# How many samples who names none gets.
SAMPLES: Final = 60

_MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def build_app(board: Board, live: Live) -> ASGIApp:
    """Return the application that shows this board."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_FRESH)

    async def readyz(_: Request) -> Response:
        if unready := board.unready():
            return PlainTextResponse(f"not ready: {unready}\n", 503, headers=_FRESH)
        return PlainTextResponse("ready\n", headers=_FRESH)

    async def startupz(_: Request) -> Response:
        if unstarted := board.unstarted():
            return PlainTextResponse(f"{unstarted}\n", 503, headers=_FRESH)
        return PlainTextResponse("started\n", headers=_FRESH)

    async def metrics(request: Request) -> Response:
        body, media_type = expose(board, request.headers.get("accept", ""))
        return Response(body, headers={**_FRESH, "Content-Type": media_type})

    async def status(_: Request) -> Response:
        return JSONResponse(build_status(board), headers=_FRESH)

    async def frame(request: Request) -> Response:
        window_s = _read_window(request)
        if window_s is None:
            return _BAD_WINDOW
        return Response(live.frame(window_s), media_type="application/json", headers=_FRESH)

    async def samples(request: Request) -> Response:
        asked = request.query_params
        newest = live.history.seq
        since = newest - SAMPLES
        if asked.get("epoch") == live.history.epoch:
            since = _read_number(asked.get("since", ""), since)
        return Response(live.samples(since), media_type="application/json", headers=_FRESH)

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/startupz", startupz),
            Route("/metrics", metrics),
            Route("/api/status", status),
            Route("/api/live", frame),
            Route("/api/samples", samples),
            Route("/api/events", _Events(live)),
            *_static_routes(),
        ]
    )
    app.router.redirect_slashes = False
    return Guard(app, lambda: board.config)


class _Events:
    """GET /api/events; as an application, because it writes to its connection itself."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        connection: Connection = scope[CONNECTION]
        window_s = _read_window(request)
        response: ASGIApp
        if window_s is None:
            response = _BAD_WINDOW
        elif request.method == "GET" and not connection.begin_stream():
            response = PlainTextResponse(
                "too many dashboards are open\n", 503, headers={**_FRESH, "Retry-After": "10"}
            )
        else:
            since = _read_event_id(request.headers.get("last-event-id", ""), self._live.history.epoch)
            response = EventStream(self._live, connection, window_s, min(since, self._live.history.seq))
        await response(scope, receive, send)


_BAD_WINDOW: Final = JSONResponse(
    {"error": f"window is none of {', '.join(map(str, WINDOWS))} seconds"}, 400, headers=_FRESH
)


def _read_window(request: Request) -> int | None:
    """Return the window that is asked for, in seconds; None if there is no such window."""
    window_s = _read_number(request.query_params.get("window", str(WINDOWS[0])), 0)
    return window_s if window_s in WINDOWS else None


def _read_event_id(text: str, epoch: str) -> int:
    """Return up to which sample a client has had the points; 0 if it was those of another controller."""
    before, _, seq = text.rpartition("-")
    return _read_number(seq, 0) if before == epoch else 0


def _read_number(text: str, otherwise: int) -> int:
    """Return a number from 0 to what a history can ever count; `otherwise` if it is none."""
    return int(text) if text.isdecimal() and len(text) <= 12 else otherwise


def _static_routes() -> list[Route]:
    """Return a route for each file of the page: `/` for index.html, `/static/…` for the rest."""
    routes = []
    folder = files("sillyproxy.admin").joinpath("static")
    for file in folder.iterdir() if folder.is_dir() else ():
        media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is None:
            continue
        path = "/" if file.name == "index.html" else f"/static/{file.name}"
        routes.append(Route(path, _serve_file(file.read_bytes(), media_type)))
    return routes


def _serve_file(body: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers with a file of the program; a browser asks each time whether it is the same."""
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"Content-Type": media_type, "Cache-Control": "no-cache", "ETag": tag}

    async def answer(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)

    return answer
