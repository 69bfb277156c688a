"""
The table of every metric: its name, what it counts, its labels.

The exposition is built by it, and `docs/reference/metrics.md` is checked against it. A
counter's name is without the `_total` that it is shown with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

from sillyproxy.metrics.layout import bucket_limit_ns, bucket_of

Kind = Literal["counter", "gauge", "histogram"]

# The edges of durations, in seconds: so near to each other that a percentile that is interpolated
# between two of them is good to a few percent. Each is counted up to the nearest edge of the fine
# buckets, which is at most 1.6 % away: `le="0.1"` counts what took up to 0.100663296 s.
_STEPS: Final = (1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)
EDGES_S: Final = (*(float(f"{step}e{ten}") for ten in range(-4, 2) for step in _STEPS), 100.0, 120.0)
# The same, for what is rarely looked at: a fifth of the series.
COARSE_EDGES_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
# The edges of sizes, in bytes: powers of 4. Each counts what is smaller.
EDGES_BYTES: Final = tuple(float(4**power) for power in range(3, 17))

CHECK_RESULTS: Final = ("ok", "failed")
SPAN_RESULTS: Final = ("exported", "dropped", "failed")

NO_COLOR: Final = "-"  # exchanges that ended before a color was chosen


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. `edges` are those of a histogram, without the last, which is infinite."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    edges: tuple[float, ...] = ()

    @property
    def shown(self) -> str:
        """The name in the exposition."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _metric(name: str, kind: Kind, labels: str, text: str) -> Metric:
    return Metric(f"sillyproxy_{name}", kind, tuple(labels.split()), text)


def _histogram(name: str, edges: tuple[float, ...], text: str) -> Metric:
    return Metric(f"sillyproxy_{name}", "histogram", ("color",), text, edges)


REQUESTS = _metric("requests", "counter", "color code", "Exchanges that ended, by class of status code.")
DURATION = _histogram(
    "request_duration_seconds", EDGES_S, "From the request's head to the end of the response."
)
FIRST_BYTE = _histogram(
    "upstream_first_byte_seconds", EDGES_S, "From the request sent to an endpoint to its response's head."
)
CONNECT = _histogram(
    "upstream_connect_seconds", COARSE_EDGES_S, "Until a connection to an endpoint was open."
)
QUEUE_WAIT = _histogram(
    "queue_wait_seconds",
    COARSE_EDGES_S,
    "How long requests waited for an endpoint with room, if they had to.",
)
SIZE_IN = _histogram("request_body_size_bytes", EDGES_BYTES, "Sizes of request bodies, where there was one.")
SIZE_OUT = _histogram("response_body_size_bytes", EDGES_BYTES, "Sizes of response bodies.")
BYTES_IN = _metric("request_body_bytes", "counter", "color", "Bytes of request bodies relayed.")
BYTES_OUT = _metric("response_body_bytes", "counter", "color", "Bytes of response bodies relayed.")
CUT_SHORT = _metric("responses_cut_short", "counter", "color", "Responses that the backend broke off.")
COLOR_INFLIGHT = _metric("color_inflight", "gauge", "color", "Exchanges under way.")
RETRIES = _metric("retries", "counter", "color reason", "Requests sent again to another endpoint, and why.")
RETRIES_DENIED = _metric(
    "retries_denied", "counter", "color", "Requests not sent again: too many second tries were under way."
)
RESTS = _metric(
    "endpoint_rests", "counter", "color", "Times that an endpoint was let rest: far slower than usual."
)
FALLBACKS = _metric(
    "fallbacks", "counter", "from to", "Requests that one color could not take and another did."
)
UPSTREAM = _metric("upstream_connections", "gauge", "color state", "Connections to endpoints.")
CONNECTS = _metric("upstream_connects", "counter", "color", "Connections to endpoints that were opened.")
CONNECT_FAILURES = _metric(
    "upstream_connect_failures", "counter", "color", "Connections to endpoints that could not be opened."
)
WEIGHT = _metric("color_weight", "gauge", "color", "The weight that was asked for.")
ENDPOINT_UP = _metric(
    "endpoint_up",
    "gauge",
    "color endpoint",
    "1 unless the endpoint is unhealthy, ejected, or avoided by half of the workers.",
)
CHECKS = _metric("health_checks", "counter", "color result", "Active health checks.")
EJECTIONS = _metric("ejections", "counter", "color reason", "Endpoints ejected for failing real requests.")
COLOR_TUNNELS = _metric("color_tunnels", "gauge", "color", "Upgraded connections (WebSocket) that are open.")
QUEUE_WAITING = _metric("queue_waiting", "gauge", "color", "Requests that wait for an endpoint with room.")
QUEUE_REJECTIONS = _metric(
    "queue_rejections", "counter", "color reason", "Requests that found no endpoint with room in time."
)

ACCEPTED = _metric("exchanges_accepted", "counter", "", "Exchanges begun.")
ANSWERED = _metric("exchanges_answered", "counter", "", "Exchanges ended with a backend's response.")
REPLIED = _metric("exchanges_replied", "counter", "", "Exchanges ended with a reply of the proxy's own.")
ABANDONED = _metric("exchanges_abandoned", "counter", "", "Exchanges ended because the client went away.")
LOST = _metric("exchanges_lost", "counter", "", "Exchanges under way in a worker that was killed.")
INFLIGHT = _metric("exchanges_inflight", "gauge", "", "Exchanges begun and not ended.")

DOWNSTREAM = _metric("downstream_connections", "gauge", "", "Client connections that are open.")
CONNECTIONS = _metric("downstream_accepts", "counter", "", "Client connections accepted.")
REFUSED = _metric(
    "downstream_refusals", "counter", "", "Client connections refused: over the limit, or out of memory."
)
HEAD_TIMEOUTS = _metric(
    "downstream_head_timeouts", "counter", "", "Client connections closed for a slow request head."
)
TLS_HANDSHAKES = _metric(
    "tls_handshakes", "counter", "result", "TLS handshakes of clients: full, resumed, or failed."
)
TLS_EXPIRY = _metric(
    "tls_certificate_expiry_timestamp_seconds", "gauge", "path", "When the certificate ends; Unix time."
)
H2_CONNECTIONS = _metric("http2_connections", "counter", "", "Client connections that spoke HTTP/2.")
H2_ERRORS = _metric(
    "http2_errors", "counter", "", "HTTP/2 connections closed because their client broke a rule or a limit."
)
TUNNELS = _metric("tunnels", "gauge", "", "Upgraded connections that are open.")
LOG_DROPPED = _metric("access_log_dropped", "counter", "", "Access log lines that nobody read in time.")

WORKERS = _metric("workers", "gauge", "", "Worker processes.")
RESTARTS = _metric("worker_restarts", "counter", "", "Workers that died and were replaced.")
GENERATION = _metric("config_generation", "gauge", "", "The number of the configuration in force.")
RELOADS = _metric("config_reloads", "counter", "result", "Configurations read after the first.")
CONFIG_REFUSED = _metric(
    "config_refused", "gauge", "", "1 while the newest configuration that was read was refused."
)
LOOKUPS = _metric("dns_lookups", "counter", "result", "Look-ups of host names.")
NAME_STALE = _metric(
    "dns_stale", "gauge", "name", "1 while a host's newest look-up failed and its last addresses are kept."
)
READY = _metric("ready", "gauge", "", "1 while /readyz says 200.")
STARTED = _metric("started", "gauge", "", "1 from when the colors have answered: /startupz says 200.")
OPEN_FILES = _metric("process_open_files", "gauge", "process", "Descriptors that a process has open.")
MAX_FILES = _metric("process_max_files", "gauge", "process", "Descriptors that it may have open.")
PROCESS_MEMORY = _metric(
    "process_memory_bytes", "gauge", "process", "Resident memory of a process, with pages that it shares."
)
CPU = _metric("process_cpu_seconds", "counter", "process", "CPU time of a process, user and system.")
LOOP_LAG = _metric(
    "worker_loop_lag_seconds", "gauge", "worker", "The longest that an event had to wait for others lately."
)
SPANS = _metric("spans", "counter", "result", "Sampled spans that were to be exported.")
MEMORY_USED = _metric("memory_used_bytes", "gauge", "", "The container's working set; none without a limit.")
MEMORY_LIMIT = _metric("memory_limit_bytes", "gauge", "", "The container's memory limit, if it has one.")
SHEDDING = _metric("shedding", "gauge", "", "1 while memory runs out and new connections are refused.")
START_TIME = _metric("start_time_seconds", "gauge", "", "When the proxy started; seconds since 1970.")
BUILD = _metric("build_info", "gauge", "version", "Always 1.")

METRICS: Final = (
    REQUESTS, DURATION, FIRST_BYTE, CONNECT, QUEUE_WAIT, SIZE_IN, SIZE_OUT, BYTES_IN,
    BYTES_OUT, CUT_SHORT, COLOR_INFLIGHT, RETRIES, RETRIES_DENIED, FALLBACKS,
    RESTS, UPSTREAM, CONNECTS, CONNECT_FAILURES, WEIGHT, ENDPOINT_UP, CHECKS, EJECTIONS,
    COLOR_TUNNELS, QUEUE_WAITING, QUEUE_REJECTIONS,
    ACCEPTED, ANSWERED, REPLIED, ABANDONED, LOST, INFLIGHT,
    DOWNSTREAM, CONNECTIONS, REFUSED, HEAD_TIMEOUTS, TLS_HANDSHAKES, TLS_EXPIRY, H2_CONNECTIONS, H2_ERRORS,
    TUNNELS, LOG_DROPPED,
    WORKERS, RESTARTS, GENERATION, RELOADS, CONFIG_REFUSED, LOOKUPS, NAME_STALE, READY, STARTED,
    OPEN_FILES, MAX_FILES, PROCESS_MEMORY, CPU, LOOP_LAG, SPANS,
    MEMORY_USED, MEMORY_LIMIT, SHEDDING, START_TIME, BUILD,
)  # fmt: skip


def _nearest_bucket(edge_s: float) -> int:
    edge_ns = edge_s * 1e9
    around = bucket_of(round(edge_ns))
    return min((around - 1, around), key=lambda bucket: abs(bucket_limit_ns(bucket) - edge_ns))


# The last fine bucket that each edge counts.
_LAST: Final = {
    EDGES_S: tuple(map(_nearest_bucket, EDGES_S)),
    COARSE_EDGES_S: tuple(map(_nearest_bucket, COARSE_EDGES_S)),
    EDGES_BYTES: tuple(int(edge).bit_length() - 1 for edge in EDGES_BYTES),
}


def cumulate(metric: Metric, fine: Sequence[int]) -> list[int]:
    """
    Return how many were at most each edge of a histogram, and how many at all, from counts in fine buckets.

    >>> cumulate(DURATION, [2, *[0] * 702, 1])[-3:]
    [2, 2, 3]
    >>> cumulate(SIZE_OUT, [7, 1, *[0] * 45, 1])[-2:]
    [8, 9]
    """
    sums = list(accumulate(fine))
    return [*(sums[last] for last in _LAST[metric.edges]), sums[-1]]
