"""A collector as a test sees it: an HTTP server that reads OTLP, or does worse things."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | int | float


def values_of(attributes: Mapping[str, object] | list[KeyValue]) -> dict[str, Value]:
    """Return attributes as a dictionary."""
    assert not isinstance(attributes, Mapping)
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in attributes}


class Receiver:
    """
    A collector on a free port.

    `spans` are all that came, `resources` what they came from, `fields` the header fields of each request, in
    small letters. `status` is what it answers; `hold` cleared: it answers nothing until that is set.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Value]] = []
        self.fields: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.status = 200
        self.hold = threading.Event()
        self.hold.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.take(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, request: BaseHTTPRequestHandler) -> None:
        """Read one request, and answer it."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.paths.append(request.path)
        self.fields.append({name.lower(): value for name, value in request.headers.items()})
        self.hold.wait(60)
        if self.status == 200:
            assert request.headers["Content-Type"] == "application/x-protobuf"
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(values_of(list(group.resource.attributes)))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        with contextlib.suppress(OSError):
            request.send_response(self.status)
            request.send_header("Content-Length", "0")
            request.end_headers()

    def close(self) -> None:
        """Stop listening."""
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Start a collector, and stop it at the end."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()
