"""
The table of every metric: its name, what it counts, its labels.

The exposition is built by it, and `docs/reference/metrics.md` is checked against it. A
counter's name is without the `_total` that it is shown with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sillyproxy.metrics.layout import BUCKETS, bucket_limit_ns

Kind = Literal["counter", "gauge", "histogram"]

# The edges that dashboards expect; seconds. Each is counted up to the nearest edge of the
# fine buckets, which is at most 1.6 % away: `le="0.1"` counts what took up to 0.100663296 s.
EDGES_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip

CHECK_RESULTS: Final = ("ok", "failed")

NO_COLOR: Final = "-"  # exchanges that ended before a color was chosen


@dataclass(frozen=True, slots=True)
class Metric:
    """One row."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def shown(self) -> str:
        """The name in the exposition."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _metric(name: str, kind: Kind, labels: str, text: str) -> Metric:
    return Metric(f"sillyproxy_{name}", kind, tuple(labels.split()), text)


REQUESTS = _metric("requests", "counter", "color code", "Exchanges that ended, by class of status code.")
DURATION = _metric(
    "request_duration_seconds", "histogram", "color", "From the request's head to the end of the response."
)
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
MEMORY_USED = _metric("memory_used_bytes", "gauge", "", "The container's working set; none without a limit.")
MEMORY_LIMIT = _metric("memory_limit_bytes", "gauge", "", "The container's memory limit, if it has one.")
SHEDDING = _metric("shedding", "gauge", "", "1 while memory runs out and new connections are refused.")
START_TIME = _metric("start_time_seconds", "gauge", "", "When the proxy started; seconds since 1970.")
BUILD = _metric("build_info", "gauge", "version", "Always 1.")

METRICS: Final = (
    REQUESTS, DURATION, BYTES_IN, BYTES_OUT, CUT_SHORT, COLOR_INFLIGHT, RETRIES, RETRIES_DENIED, FALLBACKS,
    RESTS, UPSTREAM, CONNECTS, CONNECT_FAILURES, WEIGHT, ENDPOINT_UP, CHECKS, EJECTIONS,
    QUEUE_WAITING, QUEUE_REJECTIONS,
    ACCEPTED, ANSWERED, REPLIED, ABANDONED, LOST, INFLIGHT,
    DOWNSTREAM, CONNECTIONS, REFUSED, HEAD_TIMEOUTS, TUNNELS, LOG_DROPPED,
    WORKERS, RESTARTS, GENERATION, RELOADS, CONFIG_REFUSED, LOOKUPS, NAME_STALE, READY, STARTED,
    MEMORY_USED, MEMORY_LIMIT, SHEDDING, START_TIME, BUILD,
)  # fmt: skip


def _nearest_bucket(edge_s: float) -> int:
    return min(range(BUCKETS), key=lambda bucket: abs(bucket_limit_ns(bucket) - edge_s * 1e9))


# How many fine buckets are at or below each edge.
_UP_TO: Final = tuple(_nearest_bucket(edge) + 1 for edge in EDGES_S)


def cumulate(fine: list[int]) -> list[tuple[float, int]]:
    """
    Return how many durations were at most each edge, from counts in fine buckets.

    >>> fine = [0] * BUCKETS
    >>> fine[0], fine[-1] = 2, 1
    >>> cumulate(fine)[0], cumulate(fine)[-1]
    ((0.0001, 2), (120.0, 2))
    """
    sums = [0]
    for count in fine:
        sums.append(sums[-1] + count)
    return [(edge, sums[up_to]) for edge, up_to in zip(EDGES_S, _UP_TO, strict=True)]
