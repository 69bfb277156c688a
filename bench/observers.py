"""Whoever looks at a proxy while it works: dashboards that stay open, and a scrape now and then."""

from __future__ import annotations

import http.client
import selectors
import socket
import threading
import time
from types import TracebackType

EVENTS = b"GET /api/events?window=60 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


class Observers:
    """
    `dashboards` event streams of the admin listener on `port`, read to the end, and a scrape each `scrape_s`.

    `frames` and `scrapes` count what they were told, `problems` what went wrong.
    """

    def __init__(self, port: int, *, dashboards: int, scrape_s: float) -> None:
        self.frames = self.scrapes = 0
        self.problems: list[str] = []
        self._port = port
        self._dashboards = dashboards
        self._scrape_s = scrape_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._look, self._scrape)]

    def __enter__(self) -> Observers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        with selectors.DefaultSelector() as selector:
            for _ in range(self._dashboards):
                sock = socket.create_connection(("127.0.0.1", self._port), 10)
                sock.sendall(EVENTS)
                selector.register(sock, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(0.2):
                    stream = key.fileobj
                    assert isinstance(stream, socket.socket)
                    data = stream.recv(1 << 18)
                    self.frames += data.count(b"event: frame")
                    if not data:
                        self.problems.append("a dashboard was cut off")
                        selector.unregister(stream)
                        stream.close()
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()

    def _scrape(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            try:
                connection.request("GET", "/metrics")
                response = connection.getresponse()
                if response.status != 200 or b"sillyproxy_requests_total" not in response.read():
                    self.problems.append(f"scrape: {response.status}")
                self.scrapes += 1
            except OSError as error:
                self.problems.append(f"scrape: {error}")
            finally:
                connection.close()
            due += self._scrape_s
            self._stop.wait(max(0.0, due - time.monotonic()))
