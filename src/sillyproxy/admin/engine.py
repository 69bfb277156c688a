"""The admin side of the controller as one thing: what it remembers, and the listener that shows it."""

from __future__ import annotations

import asyncio
import socket
import time

from sillyproxy.admin.app import build_app
from sillyproxy.admin.board import Board
from sillyproxy.admin.events import Chronicle
from sillyproxy.admin.history import History
from sillyproxy.admin.live import Live
from sillyproxy.admin.server import serve_admin


class AdminSide:
    """Events, history and frames of a board. `again`: another controller was here before."""

    def __init__(self, board: Board, *, again: bool) -> None:
        self._board = board
        # Of the next controller it is another, as its seconds are counted anew.
        epoch = f"{int(time.time() * 1000):x}"
        self._live = Live(board, History(board, epoch=epoch))
        self._chronicle = Chronicle(board, again=again)

    def look(self) -> None:
        """Note what is different on the board; who watches sees it at once."""
        if self._chronicle.look():
            self._live.stir()

    async def serve(self, sock: socket.socket) -> None:
        """Serve until cancelled. What breaks here is raised."""
        ticking = asyncio.create_task(self._live.run())
        serving = asyncio.create_task(serve_admin(build_app(self._board, self._live), sock))
        try:
            done, _ = await asyncio.wait({ticking, serving}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._live.close()
            ticking.cancel()
            serving.cancel()
            await asyncio.wait({ticking, serving})
