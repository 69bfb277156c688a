"""What the admin listener answers. Nothing here changes anything, so GET and HEAD are all it takes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sillyproxy.admin.board import Board
from sillyproxy.admin.exposition import expose
from sillyproxy.admin.status import build_status

# What is true now may not be true when it is read from a cache.
_FRESH = {"Cache-Control": "no-store"}


def build_app(board: Board) -> Starlette:
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

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/startupz", startupz),
            Route("/metrics", metrics),
            Route("/api/status", status),
        ]
    )
    app.router.redirect_slashes = False
    return app
