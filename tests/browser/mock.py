"""
The admin listener played: the page's files, and a scene of scenes.py over the admin API.

    python -m tests.browser.mock canary 9081    then open http://127.0.0.1:9081/
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.browser.scenes import SCENES, Scene, points_of

STATIC = Path(__file__).parents[2] / "src" / "sillyproxy" / "admin" / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)  # fmt: skip
HISTORY = 300


class Mock:
    """
    A proxy's admin listener that says what its scene says.

    `scene`, `epoch` and `silent` may be changed while it runs: the next frames are of them.
    `step_s` is how long one of its seconds takes. `asked` are the streams that were asked
    for: the window, and the id that the client said it had last.
    """

    def __init__(self, scene: Scene, *, step_s: float = 0.1, port: int = 0) -> None:
        self.scene = scene
        self.epoch = "one"
        self.silent = False
        self.status = 200
        self.step_s = step_s
        self.asked: list[tuple[str, str | None]] = []
        self._oldest = 0  # the first second that it remembers
        self._stopping = threading.Event()
        self._cut = threading.Event()
        self._begun = time.monotonic()
        mock = self

        class Handler(_Handler):
            pass

        Handler.mock = mock
        self.server = _Server(("127.0.0.1", port), Handler)
        self.port: int = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def seq(self) -> int:
        """Return the newest second's number."""
        return HISTORY + int((time.monotonic() - self._begun) / self.step_s)

    def cut(self) -> None:
        """Close every stream that is open."""
        self._cut.set()
        self._cut = threading.Event()

    def close(self) -> None:
        """Stop."""
        self._stopping.set()
        self.cut()
        self.server.shutdown()
        self.server.server_close()

    def restart(self, epoch: str) -> None:
        """Be another controller: numbers begin anew, and nothing before is remembered."""
        self.epoch = epoch
        self._begun = time.monotonic()
        self._oldest = self.seq
        self.cut()

    def stream(self, window: str, last: str | None) -> Iterator[str]:
        """Yield what a client of the stream is sent, until it is cut."""
        cut, epoch = self._cut, self.epoch
        self.asked.append((window, last))
        known, _, number = (last or "").rpartition("-")
        newest = self.seq
        first = max(self._oldest, newest - HISTORY + 1)
        if known == epoch:
            first = max(first, int(number) + 1)
        points = [points_of(self.scene, seq) for seq in range(first, newest + 1)]
        yield "retry: 200\n"
        yield _event("history", {"epoch": epoch, "step_s": 1, "points": points})
        while not cut.is_set() and not self._stopping.is_set():
            if not self.silent:
                frame = {**self.scene(newest), "epoch": epoch, "seq": newest, "window_s": int(window)}
                data = {"point": points_of(self.scene, newest), "frame": frame}
                yield f"id: {epoch}-{newest}\n" + _event("frame", data)
            newest += 1
            while self.seq < newest and not cut.wait(self.step_s / 10):
                pass


def _event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser that leaves is no error."""


class _Handler(BaseHTTPRequestHandler):
    mock: Mock
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        url = urlsplit(self.path)
        window = parse_qs(url.query).get("window", ["60"])[0]
        if url.path == "/":
            self._send_file("index.html")
        elif match := re.fullmatch(r"/static/([a-z]+\.[a-z]+)", url.path):
            self._send_file(match[1])
        elif url.path == "/api/events":
            self._send_stream(window)
        else:
            self.send_error(404)

    def _send_file(self, name: str) -> None:
        path = STATIC / name
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", TYPES[path.suffix])
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _send_stream(self, window: str) -> None:
        if self.mock.status != 200:
            self.send_error(self.mock.status)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            for text in self.mock.stream(window, self.headers.get("Last-Event-ID")):
                self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def main() -> None:
    """Play a scene until interrupted."""
    name, port = [*sys.argv[1:], "canary", "9081"][:2]
    mock = Mock(SCENES[name], step_s=1.0, port=int(port))
    print(f"{name} on {mock.url}")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
