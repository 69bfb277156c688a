"""Sampled spans reach a collector, and no collector can harm a request."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.wire.harness import Client, Origin, Proxy, find_free_port, run
from tests.wire.otlp_tools import Receiver, receiving, values_of
from tests.wire.running import ask, run_command
from tests.wire.stress_tools import (
    QuickOrigin,
    find_controller,
    origin,
    read_metrics,
    request,
    serving,
    wait_until,
)

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
SECRET = "hunter2hunter2"


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


def spans_by_result(proxy: Proxy) -> dict[str, int]:
    """Return what the proxy says became of spans."""
    metrics = read_metrics(proxy)
    return {
        result: int(metrics[f'sillyproxy_spans_total{{result="{result}"}}'])
        for result in ("exported", "dropped", "failed")
    }


def wait_spans(receiver: Receiver, count: int) -> list[Span]:
    """Wait until so many spans have come; return them."""
    wait_until(lambda: len(receiver.spans) >= count, f"{count} spans")
    return receiver.spans


def send(port: int, *requests: bytes) -> list[int]:
    """Send requests one after the other over one connection; return the statuses of their answers."""
    client = Client(port)
    statuses = []
    for one in requests:
        client.send(one)
        statuses.append(client.read_reply().status)
    client.close()
    return statuses


def test_a_traced_request_arrives_as_one_span(collector: Receiver, backend: QuickOrigin) -> None:
    """
    A request with a sampled traceparent is one span at the collector: the client's trace, its span as the
    parent, what was asked and answered, by which color and endpoint, and when.
    """
    settings = {"SILLYPROXY_OTLP_ENDPOINT": collector.url, "SILLYPROXY_SERVICE_NAME": "edge"}
    with serving({"BLUE": backend.url, **settings}) as proxy:
        before_ns = time.time_ns()
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port)
        connection.request(
            "GET", "/bytes/10?q=1&sig=x", headers={"traceparent": SAMPLED, "X-Request-ID": "id-1"}
        )
        connection.getresponse().read()
        connection.close()
        (span,) = wait_spans(collector, 1)
        after_ns = time.time_ns()

        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert len(span.span_id) == 8
        assert (span.name, span.kind, span.status.code) == (
            "GET",
            Span.SPAN_KIND_SERVER,
            Status.STATUS_CODE_UNSET,
        )
        assert before_ns <= span.start_time_unix_nano < span.end_time_unix_nano <= after_ns
        values = values_of(list(span.attributes))
        first_byte_s = values.pop("sillyproxy.first_byte_s")
        assert isinstance(first_byte_s, float)
        assert 0 < first_byte_s * 1e9 <= span.end_time_unix_nano - span.start_time_unix_nano
        assert values == {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "url.scheme": "http",
            "url.path": "/bytes/10",
            "url.query": "q=1&sig=REDACTED",
            "server.address": "127.0.0.1",
            "server.port": proxy.port,
            "client.address": "127.0.0.1",
            "network.protocol.version": "1.1",
            "sillyproxy.color": "blue",
            "sillyproxy.endpoint": backend.address,
            "sillyproxy.tries": 1,
            "sillyproxy.request_id": "id-1",
        }
        (resource,) = collector.resources
        assert resource["service.name"] == "edge"
        assert resource["host.name"] == socket.gethostname()
        assert collector.paths == ["/v1/traces"]
        wait_until(lambda: spans_by_result(proxy)["exported"] == 1, "the count")


def test_a_reply_of_the_proxys_own_arrives_as_an_error(collector: Receiver) -> None:
    """
    A 503 because no backend is there is a span too: an error, with its kind and how often it was tried.
    """
    settings = {"BLUE": f"http://127.0.0.1:{find_free_port()}", "SILLYPROXY_OTLP_ENDPOINT": collector.url}
    with serving(settings, ready=False) as proxy:
        (status,) = send(proxy.port, request(traceparent=SAMPLED))
        (span,) = wait_spans(collector, 1)
        values = values_of(list(span.attributes))

        assert status >= 502
        assert (span.parent_span_id.hex(), span.status.code) == (PARENT, Status.STATUS_CODE_ERROR)
        assert (values["http.response.status_code"], values["error.type"]) == (status, "connection_refused")


def test_what_is_not_sampled_never_arrives(collector: Receiver, backend: QuickOrigin) -> None:
    """
    Neither a trace that its beginner does not sample nor a request without one reaches the collector.
    """
    with serving({"BLUE": backend.url, "SILLYPROXY_OTLP_ENDPOINT": collector.url}) as proxy:
        send(proxy.port, request(traceparent=SAMPLED[:-1] + "0"), request(), request(traceparent=SAMPLED))
        wait_spans(collector, 1)  # the last: what came before it would be there
    assert [span.parent_span_id.hex() for span in collector.spans] == [PARENT]


def test_traces_that_begin_here_have_no_parent(collector: Receiver, backend: QuickOrigin) -> None:
    """
    With SILLYPROXY_TRACING=start every request is a trace; several workers' spans all arrive.
    """
    settings = {"SILLYPROXY_TRACING": "start", "SILLYPROXY_WORKERS": "3"}
    with serving({"BLUE": backend.url, "SILLYPROXY_OTLP_ENDPOINT": collector.url, **settings}) as proxy:
        for _ in range(30):
            send(proxy.port, request())
        spans = wait_spans(collector, 30)
    assert len({span.trace_id for span in spans}) == 30
    assert {span.parent_span_id for span in spans} == {b""}


def test_every_span_arrives_or_is_counted(collector: Receiver, backend: QuickOrigin) -> None:
    """
    Of 2,000 requests as fast as can be each is a span at the collector, once, or counted as dropped.
    """
    with serving({"BLUE": backend.url, "SILLYPROXY_OTLP_ENDPOINT": collector.url}) as proxy:
        send(proxy.port, *[request(traceparent=SAMPLED, X_Request_ID=f"n{n}") for n in range(2000)])
        wait_until(lambda: sum(spans_by_result(proxy).values()) == 2000, "2,000 spans")
        results = spans_by_result(proxy)
        ids = [values_of(list(span.attributes))["sillyproxy.request_id"] for span in collector.spans]

        assert results["failed"] == 0
        assert results["exported"] == len(ids) == len(set(ids))
        assert results["exported"] >= 1000


def test_what_waits_is_sent_at_the_end(collector: Receiver, backend: QuickOrigin) -> None:
    """
    A proxy that is stopped right after a request still tells of it.
    """
    with serving({"BLUE": backend.url, "SILLYPROXY_OTLP_ENDPOINT": collector.url}) as proxy:
        send(proxy.port, request(traceparent=SAMPLED))
    assert [span.trace_id.hex() for span in collector.spans] == [TRACE]


def test_a_dead_collector_costs_spans_alone(backend: QuickOrigin) -> None:
    """
    While nobody listens where spans should go, every request is answered, the lost spans are counted, and
    the log says so once, with the reason.
    """
    dead = f"http://127.0.0.1:{find_free_port()}"
    with serving({"BLUE": backend.url, "SILLYPROXY_OTLP_ENDPOINT": dead}) as proxy:
        statuses = send(proxy.port, *[request(traceparent=SAMPLED)] * 50)
        wait_until(lambda: spans_by_result(proxy)["failed"] == 50, "50 failed spans")
        wait_until(lambda: "spans are lost" in proxy.read_log(), "a line in the log")
        statuses += send(proxy.port, *[request(traceparent=SAMPLED)] * 50)
        wait_until(lambda: spans_by_result(proxy)["failed"] == 100, "50 more")

        assert set(statuses) == {200}
        (line,) = re.findall(r"warning sillyproxy controller: spans are lost.*", proxy.read_log())
        assert re.search(r'failed=\d+ dropped=0 reason=".*refused.*" endpoint=http://127', line)


def test_a_hanging_collector_costs_spans_alone(collector: Receiver, backend: QuickOrigin) -> None:
    """
    A collector that takes connections and never answers holds up neither a request nor the proxy's end, and
    once it answers again new spans arrive.
    """
    collector.hold.clear()
    with serving({"BLUE": backend.url, "SILLYPROXY_OTLP_ENDPOINT": collector.url}) as proxy:
        statuses = send(proxy.port, *[request(traceparent=SAMPLED)] * 50)
        wait_until(lambda: spans_by_result(proxy)["failed"] == 50, "50 failed spans")
        collector.hold.set()
        statuses += send(proxy.port, request(traceparent=SAMPLED))
        wait_until(lambda: spans_by_result(proxy)["exported"] == 1, "a span that is exported again")
        collector.hold.clear()
        before = len(collector.paths)
        statuses += send(proxy.port, request(traceparent=SAMPLED))
        wait_until(lambda: len(collector.paths) > before, "a batch under way")
        # serving() stops it here, and fails if it is not gone in time
    assert set(statuses) == {200}


def test_a_collector_that_refuses_is_told_of(collector: Receiver, backend: QuickOrigin) -> None:
    """
    A collector that wants other credentials refuses: the log has its status, and not the secret.
    """
    collector.status = 401
    secret = {"SILLYPROXY_OTLP_HEADERS": f"Authorization=Bearer%20{SECRET}"}
    settings = {"BLUE": backend.url, "SILLYPROXY_OTLP_ENDPOINT": collector.url, **secret}
    with serving({**settings, "SILLYPROXY_LOG_LEVEL": "debug"}) as proxy:
        send(proxy.port, request(traceparent=SAMPLED))
        wait_until(lambda: "spans are lost" in proxy.read_log(), "a line in the log")
        assert "401" in proxy.read_log()
        assert collector.fields[0]["authorization"] == f"Bearer {SECRET}"
        shown = proxy.read_log() + ask(f"127.0.0.1:{proxy.admin_port}", "/api/status")[1]
        shown += run_command("check", **settings).stdout
        assert "SILLYPROXY_OTLP_HEADERS" in shown
        assert SECRET not in shown


def test_a_wrong_secret_is_not_shown_either() -> None:
    """
    A secret that cannot be read is complained of by its place, never by what it says.
    """
    wrong = run_command("check", BLUE="http://a", SILLYPROXY_OTLP_HEADERS=f"a=b,{SECRET}")
    assert "field 2 has no =" in wrong.stdout + wrong.stderr
    assert SECRET not in wrong.stdout + wrong.stderr


def test_without_the_extra_the_proxy_says_so_and_serves(backend: QuickOrigin, tmp_path: Path) -> None:
    """
    An endpoint without sillyproxy[otel] is one line of the log that says what to install; requests are
    answered, and what would have been exported is counted.
    """
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    settings = {"SILLYPROXY_OTLP_ENDPOINT": "http://127.0.0.1:4318", "PYTHONPATH": path}
    with serving({"BLUE": backend.url, **settings}) as proxy:
        assert send(proxy.port, request(traceparent=SAMPLED)) == [200]
        wait_until(lambda: spans_by_result(proxy)["dropped"] == 1, "a dropped span")
        assert (
            len(re.findall(r"error.*: cannot export spans: pip install sillyproxy\[otel\]", proxy.read_log()))
            == 1
        )


def test_nothing_of_it_is_loaded_unless_it_is_asked_for(collector: Receiver, backend: QuickOrigin) -> None:
    """
    Without an endpoint nothing of OpenTelemetry is in memory, and sampled spans are not counted as lost.
    """
    compiled = "/google/_upb/"  # protobuf's, which the exporter needs
    with serving({"BLUE": backend.url}) as proxy:
        send(proxy.port, request(traceparent=SAMPLED))
        wait_until(lambda: "trace_id" in read_openmetrics(proxy), "an exemplar")
        assert spans_by_result(proxy) == {"exported": 0, "dropped": 0, "failed": 0}
        assert compiled not in Path(f"/proc/{find_controller(proxy)}/maps").read_text()
    with serving({"BLUE": backend.url, "SILLYPROXY_OTLP_ENDPOINT": collector.url}) as proxy:
        send(proxy.port, request(traceparent=SAMPLED))
        wait_spans(collector, 1)
        assert compiled in Path(f"/proc/{find_controller(proxy)}/maps").read_text()


def read_openmetrics(proxy: Proxy) -> str:
    """Return the metrics as a Prometheus asks for them."""
    kind = "application/openmetrics-text; version=1.0.0"
    return ask(f"127.0.0.1:{proxy.admin_port}", "/metrics", Accept=kind)[1]


def test_a_bucket_names_its_newest_trace(backend: QuickOrigin) -> None:
    """
    In OpenMetrics the bucket of a traced request's duration carries its trace, without any collector.
    """
    with serving({"BLUE": backend.url}) as proxy:
        send(proxy.port, request("/sleep/0.12", traceparent=SAMPLED))
        wait_until(lambda: "trace_id" in read_openmetrics(proxy), "an exemplar")
        (line,) = [line for line in read_openmetrics(proxy).splitlines() if "trace_id" in line]
        match = re.fullmatch(
            r'sillyproxy_request_duration_seconds_bucket\{color="blue",le="([\d.]+)"\} [\d.]+'
            r' # \{trace_id="(\w+)"\} ([\d.]+) [\d.]+',
            line,
        )
        assert match
        assert match[2] == TRACE
        assert 0.12 <= float(match[3]) <= float(match[1])


def test_a_reload_changes_where_spans_go(collector: Receiver, backend: QuickOrigin, tmp_path: Path) -> None:
    """
    A collector that comes in a reload gets what is asked from then on, of workers that come with it too; one
    that is taken away gets no more.
    """
    file = tmp_path / "settings"
    file.write_text("")
    with serving({"BLUE": backend.url, "SILLYPROXY_ENV_FILE": str(file)}) as proxy:

        def reload(text: str, generation: int) -> None:
            file.write_text(text)
            status = f"127.0.0.1:{proxy.admin_port}"
            wait_until(
                lambda: (
                    {worker["generation"] for worker in json.loads(ask(status, "/api/status")[1])["workers"]}
                    == {generation}
                ),
                "the reload",
            )

        reload(f"SILLYPROXY_OTLP_ENDPOINT={collector.url}/my/traces\nSILLYPROXY_WORKERS=3\n", 2)
        for _ in range(20):
            send(proxy.port, request(traceparent=SAMPLED))
        wait_spans(collector, 20)
        reload("", 3)
        send(proxy.port, request(traceparent=SAMPLED))
    assert len(collector.spans) == 20
    assert set(collector.paths) == {"/my/traces"}


def test_opentelemetry_reads_what_the_backend_is_sent() -> None:
    """
    OpenTelemetry's own propagator finds in what we pass on the client's trace, sampled, and its state.
    """
    server = Origin()
    with run({"BLUE": server.url}, server) as edge:
        edge.ask(request(traceparent=SAMPLED, tracestate="a=1,b=2"))
        (received,) = edge.received
    server.close()
    carrier = {name: received.values(name)[0].decode() for name in ("traceparent", "tracestate")}
    context = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    assert context.is_valid
    assert context.trace_flags.sampled
    assert f"{context.trace_id:032x}" == TRACE
    assert f"{context.span_id:016x}" != PARENT
    assert dict(context.trace_state) == {"a": "1", "b": "2"}
