"""
Spans as OpenTelemetry's SDK sends them. The only module that imports it, and only if there is a collector.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from socket import gethostname
from typing import Final

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from sillyproxy import __version__
from sillyproxy.config.schema import Export
from sillyproxy.metrics.spans import Span
from sillyproxy.tracing.semconv import attributes_of, is_error, name_of

# For one batch, all its tries together.
TIMEOUT_S: Final = 5.0

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)
_SCOPE: Final = InstrumentationScope("sillyproxy", __version__)


class Sender:
    """The way to one collector."""

    def __init__(self, export: Export) -> None:
        self._resource = Resource(
            {"service.name": export.service, "service.version": __version__, "host.name": gethostname()}
        )
        self._exporter = OTLPSpanExporter(
            endpoint=export.endpoint,
            headers=dict(export.headers),
            timeout=TIMEOUT_S,
            compression=Compression.NoCompression,
        )
        self._said = _Said()
        # The SDK logs each failure, at length. We say once a minute what the matter is.
        log = logging.getLogger("opentelemetry")
        log.propagate = False
        log.handlers = [self._said]

    def send(self, spans: Sequence[tuple[Span, str]]) -> str:
        """Send spans, each with the name of its color. Return why it failed; empty if it did not."""
        self._said.first = ""
        result = self._exporter.export([self._make(span, color) for span, color in spans])
        return "" if result is SpanExportResult.SUCCESS else self._said.first or "not told"

    def _make(self, span: Span, color: str) -> ReadableSpan:
        trace_id = int(span.trace_id, 16)
        parent = SpanContext(trace_id, int(span.parent_id, 16), True, _SAMPLED) if span.parent_id else None
        return ReadableSpan(
            name=name_of(span),
            context=SpanContext(trace_id, int(span.span_id, 16), False, _SAMPLED),
            parent=parent,
            resource=self._resource,
            attributes=attributes_of(span, color),
            kind=SpanKind.SERVER,
            status=_ERROR if is_error(span) else _UNSET,
            start_time=span.began_ns,
            end_time=span.began_ns + span.duration_ns,
            instrumentation_scope=_SCOPE,
        )


class _Said(logging.Handler):
    """The first that the SDK has said of a batch: why it could not be sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()
