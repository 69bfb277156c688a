"""
The graphs of the Grafana dashboard: what each shows, in words and in PromQL.

`scripts/grafana_dashboard.py` makes Grafana's JSON of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple


def proxy(*more: str) -> str:
    """Return the selector of what is chosen at the top of the page: the proxies."""
    return "{" + ", ".join(('job=~"$job"', 'instance=~"$instance"', *more)) + "}"


def color(*more: str) -> str:
    """Return the selector of the proxies and colors that are chosen."""
    return proxy('color=~"$color"', *more)


P: Final = proxy()
C: Final = color()
FAILED: Final = color('result="failed"')


class Query(NamedTuple):
    """PromQL, and how its lines are called; `exemplar`: traces are shown as dots between them."""

    expr: str
    legend: str
    exemplar: bool = False


class Graph(NamedTuple):
    """Lines over time. `unit` is Grafana's word for it; `stacked`: they are parts of a whole."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    stacked: bool = False
    largest: float | None = None


def quantile(part: float, metric: str, *by: str, where: str = C) -> str:
    """Return the PromQL of a percentile."""
    labels = ", ".join((*by, "le"))
    buckets = f"rate({metric}_bucket{where}[$__rate_interval])"
    return f"histogram_quantile({part}, sum by ({labels}) ({buckets}))"


def rate(metric: str, *by: str, where: str = C) -> str:
    """Return the PromQL of a rate by the second."""
    summed = f"sum by ({', '.join(by)})" if by else "sum"
    return f"{summed} (rate({metric}{where}[$__rate_interval]))"


def latency(percent: int) -> Graph:
    """Return a graph of one percentile of the colors' durations."""
    return Graph(
        f"p{percent} by color",
        f"{percent} of 100 requests took at most this long. A dot is one request: click it for its trace.",
        "s",
        (
            Query(
                quantile(percent / 100, "sillyproxy_request_duration_seconds", "color"),
                "{{color}}",
                exemplar=True,
            ),
        ),
    )


ERRORS: Final = (
    rate("sillyproxy_requests_total", "color", where=color('code="5xx"'))
    + " / ("
    + rate("sillyproxy_requests_total", "color")
    + " > 0)"
)

CANARY: Final = (
    Graph(
        "Split: asked and seen",
        "The share of traffic that each color was given (dashed), and the share of requests that it had.",
        "percentunit",
        (
            Query(
                f"avg by (color) (sillyproxy_color_weight{C})"
                f" / scalar(sum(avg by (color) (sillyproxy_color_weight{P})))",
                "{{color}} asked",
            ),
            Query(
                rate("sillyproxy_requests_total", "color")
                + " / scalar("
                + rate("sillyproxy_requests_total", where=proxy('color!="-"'))
                + ")",
                "{{color}} seen",
            ),
        ),
        largest=1,
    ),
    Graph(
        "Requests a second by color",
        "Requests that ended.",
        "reqps",
        (Query(rate("sillyproxy_requests_total", "color"), "{{color}}"),),
    ),
    Graph(
        "Error rate by color",
        "The share of requests that ended with 5xx: the color's own, or the proxy's in its place.",
        "percentunit",
        (Query(ERRORS, "{{color}}"),),
    ),
    latency(50),
    latency(95),
    latency(99),
)

REQUESTS: Final = (
    Graph(
        "Answers by class of status",
        "other: the client went away.",
        "reqps",
        (Query(rate("sillyproxy_requests_total", "code"), "{{code}}"),),
        stacked=True,
    ),
    Graph(
        "Tried again, and gone elsewhere",
        "Second tries by reason, those that were denied because too many were under way, and requests that"
        " another color took.",
        "reqps",
        (
            Query(rate("sillyproxy_retries_total", "color", "reason"), "{{color}} again: {{reason}}"),
            Query(rate("sillyproxy_retries_denied_total", "color"), "{{color}} denied"),
            Query(rate("sillyproxy_fallbacks_total", "from", "to", where=P), "{{from}} → {{to}}"),
            Query(rate("sillyproxy_responses_cut_short_total", "color"), "{{color}} cut short"),
        ),
    ),
    Graph(
        "Under way",
        "Requests begun and not ended, and WebSockets and other tunnels.",
        "short",
        (
            Query(f"sum by (color) (sillyproxy_color_inflight{C})", "{{color}}"),
            Query(f"sum by (color) (sillyproxy_color_tunnels{C})", "{{color}} WebSockets"),
            Query(f"sum(sillyproxy_tunnels{P})", "tunnels"),
        ),
    ),
    Graph(
        "Bytes a second",
        "Of bodies, to the clients and (below zero) from them.",
        "Bps",
        (
            Query(rate("sillyproxy_response_body_bytes_total", "color"), "{{color}} out"),
            Query("-" + rate("sillyproxy_request_body_bytes_total", "color"), "{{color}} in"),
        ),
    ),
    Graph(
        "Size of bodies, p95",
        "",
        "bytes",
        (
            Query(quantile(0.95, "sillyproxy_response_body_size_bytes", "color"), "{{color}} response"),
            Query(quantile(0.95, "sillyproxy_request_body_size_bytes", "color"), "{{color}} request"),
        ),
    ),
    Graph(
        "How exchanges ended",
        "With a backend's response, a reply of our own, a client that went away, a worker that was killed.",
        "reqps",
        tuple(
            Query(rate(f"sillyproxy_exchanges_{how}_total", where=P), how)
            for how in ("answered", "replied", "abandoned", "lost")
        ),
        stacked=True,
    ),
)

UPSTREAM: Final = (
    Graph(
        "First byte of the response",
        "From the request sent to an endpoint to its response's head: what the color itself takes.",
        "s",
        (
            Query(quantile(0.5, "sillyproxy_upstream_first_byte_seconds", "color"), "{{color}} p50"),
            Query(quantile(0.95, "sillyproxy_upstream_first_byte_seconds", "color"), "{{color}} p95"),
        ),
    ),
    Graph(
        "Connects, p95",
        "Until a new connection to an endpoint was open.",
        "s",
        (Query(quantile(0.95, "sillyproxy_upstream_connect_seconds", "color"), "{{color}}"),),
    ),
    Graph(
        "Connects a second",
        "Opened, and failed. Kept connections need none.",
        "ops",
        (
            Query(rate("sillyproxy_upstream_connects_total", "color"), "{{color}} opened"),
            Query(rate("sillyproxy_upstream_connect_failures_total", "color"), "{{color}} failed"),
        ),
    ),
    Graph(
        "Endpoints up",
        "Of those that are known; a proxy that cannot reach one lowers the number.",
        "short",
        (
            Query(f"sum by (color) (min by (color, endpoint) (sillyproxy_endpoint_up{C}))", "{{color}} up"),
            Query(
                f"count by (color) (count by (color, endpoint) (sillyproxy_endpoint_up{C}))",
                "{{color}} known",
            ),
        ),
    ),
    Graph(
        "Ejections, rests, failed checks",
        "In five minutes.",
        "short",
        (
            Query(
                f"sum by (color, reason) (increase(sillyproxy_ejections_total{C}[5m]))",
                "{{color}} ejected: {{reason}}",
            ),
            Query(f"sum by (color) (increase(sillyproxy_endpoint_rests_total{C}[5m]))", "{{color}} rests"),
            Query(
                f"sum by (color) (increase(sillyproxy_health_checks_total{FAILED}[5m]))",
                "{{color}} failed checks",
            ),
        ),
    ),
    Graph(
        "Connections to endpoints",
        "",
        "short",
        (Query(f"sum by (color, state) (sillyproxy_upstream_connections{C})", "{{color}} {{state}}"),),
        stacked=True,
    ),
    Graph(
        "Queue",
        "Requests that wait for an endpoint with room.",
        "short",
        (Query(f"sum by (color) (sillyproxy_queue_waiting{C})", "{{color}} waiting"),),
    ),
    Graph(
        "Waits in the queue, p95",
        "Of the requests that had to wait.",
        "s",
        (Query(quantile(0.95, "sillyproxy_queue_wait_seconds", "color"), "{{color}}"),),
    ),
    Graph(
        "Turned away by the queue",
        "It was full, or the wait too long.",
        "reqps",
        (Query(rate("sillyproxy_queue_rejections_total", "color", "reason"), "{{color}} {{reason}}"),),
    ),
    Graph(
        "Names",
        "Look-ups by result, and names whose addresses are old.",
        "short",
        (
            Query(rate("sillyproxy_dns_lookups_total", "result", where=P), "{{result}} a second"),
            Query(f"max by (name) (sillyproxy_dns_stale{P}) > 0", "{{name}} is stale"),
        ),
        width=24,
    ),
)

PROCESSES: Final = (
    Graph(
        "Loop lag",
        "The longest that an event had to wait in a worker lately.",
        "s",
        (Query(f"sillyproxy_worker_loop_lag_seconds{P}", "{{instance}} worker {{worker}}"),),
    ),
    Graph(
        "CPU",
        "1 is a whole one.",
        "percentunit",
        (
            Query(
                f"rate(sillyproxy_process_cpu_seconds_total{P}[$__rate_interval])", "{{instance}} {{process}}"
            ),
        ),
    ),
    Graph(
        "Memory",
        "Resident, by process, and the container's with its limit.",
        "bytes",
        (
            Query(f"sillyproxy_process_memory_bytes{P}", "{{instance}} {{process}}"),
            Query(f"sillyproxy_memory_used_bytes{P}", "{{instance}} container"),
            Query(f"sillyproxy_memory_limit_bytes{P}", "{{instance}} limit"),
        ),
    ),
    Graph(
        "Open files",
        "The share of descriptors that a process has open, of those that it may.",
        "percentunit",
        (
            Query(
                f"sillyproxy_process_open_files{P} / sillyproxy_process_max_files{P}",
                "{{instance}} {{process}}",
            ),
        ),
    ),
    Graph(
        "Clients",
        "Connections that are open, and what a second brings.",
        "short",
        (
            Query(f"sum(sillyproxy_downstream_connections{P})", "open"),
            Query(rate("sillyproxy_downstream_accepts_total", where=P), "accepted a second"),
            Query(rate("sillyproxy_downstream_refusals_total", where=P), "refused a second"),
            Query(rate("sillyproxy_downstream_head_timeouts_total", where=P), "too slow a second"),
        ),
    ),
    Graph(
        "State",
        "1 is yes.",
        "short",
        (
            Query(f"sum(sillyproxy_ready{P})", "proxies ready"),
            Query(f"sum(sillyproxy_started{P})", "proxies started"),
            Query(f"sum(sillyproxy_workers{P})", "workers"),
            Query(f"sum(sillyproxy_config_refused{P})", "configurations refused"),
            Query(f"sum(sillyproxy_shedding{P})", "proxies short of memory"),
        ),
    ),
    Graph(
        "Reloads and restarts",
        "In five minutes.",
        "short",
        (
            Query(
                f"sum by (result) (increase(sillyproxy_config_reloads_total{P}[5m]))",
                "configurations {{result}}",
            ),
            Query(f"sum(increase(sillyproxy_worker_restarts_total{P}[5m]))", "workers that died"),
            Query(f"sum(changes(sillyproxy_start_time_seconds{P}[5m]))", "proxies restarted"),
        ),
        width=12,
    ),
    Graph(
        "Lost on the way to logs and traces",
        "Access log lines that nobody read, and spans by what became of them.",
        "cps",
        (
            Query(rate("sillyproxy_access_log_dropped_total", where=P), "log lines dropped"),
            Query(rate("sillyproxy_spans_total", "result", where=P), "spans {{result}}"),
        ),
        width=12,
    ),
    Graph(
        "TLS and HTTP/2",
        "Handshakes of clients by result; connections of HTTP/2, and those ended for what a client did.",
        "ops",
        (
            Query(rate("sillyproxy_tls_handshakes_total", "result", where=P), "TLS: {{result}}"),
            Query(rate("sillyproxy_http2_connections_total", where=P), "HTTP/2"),
            Query(rate("sillyproxy_http2_errors_total", where=P), "HTTP/2: ended"),
        ),
        width=12,
    ),
    Graph(
        "Certificates",
        "Time that each of our certificates has left.",
        "s",
        (
            Query(
                f"min by (path) (sillyproxy_tls_certificate_expiry_timestamp_seconds{P}) - time()", "{{path}}"
            ),
        ),
    ),
)

# The columns of the table: what is asked at this moment, by color.
AT_A_GLANCE: Final = (
    ("Weight", "short", f"avg by (color) (sillyproxy_color_weight{C})"),
    ("Requests a second", "reqps", rate("sillyproxy_requests_total", "color")),
    ("Errors", "percentunit", ERRORS),
    ("p50", "s", quantile(0.5, "sillyproxy_request_duration_seconds", "color")),
    ("p95", "s", quantile(0.95, "sillyproxy_request_duration_seconds", "color")),
    ("p99", "s", quantile(0.99, "sillyproxy_request_duration_seconds", "color")),
    ("Endpoints up", "short", f"sum by (color) (min by (color, endpoint) (sillyproxy_endpoint_up{C}))"),
)

ROWS: Final = (
    ("Colors", CANARY),
    ("Requests", REQUESTS),
    ("Endpoints", UPSTREAM),
    ("The proxy itself", PROCESSES),
)
