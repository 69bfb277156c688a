"""
The table of every setting.

One row a setting: its name, how it is written, its default, its meaning. `config.parse`
reads values by it; `sillyproxy check`, `sillyproxy serve --help` and
`docs/reference/settings.md` show it. A setting that is not here does not exist.

`<COLOR>` in a name stands for a color's name in capitals, with `-` as `_`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sillyproxy.config import otlp, values
from sillyproxy.config.logformat import read_log_format
from sillyproxy.config.values import (
    MAX_BODY_BYTES,
    MAX_CONNECTIONS,
    MAX_HEADER_BYTES,
    MAX_IN_A_ROW,
    MAX_TOKEN,
    MAX_WORKERS,
    MIN_HEADER_BYTES,
    MIN_TOKEN,
    count_reader,
    duration_reader,
    size_reader,
    word_reader,
)

COLOR: Final = "<COLOR>"


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A way to write values.

    Its name, what may follow "use" in a sentence, text to value and back, and the value
    where nothing is set.
    """

    name: str
    takes: str
    read: Callable[[str], Any]
    show: Callable[[Any], str] = str
    none: Any = None


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One row.

    `default` is text as an operator would write it, empty for none; `absent` says what
    none means. `field` is the place of the value in a Config, or in a Color for settings of
    a color. A setting has no effect while the one that it `needs` is not set.
    """

    name: str
    kind: Kind
    default: str
    example: str
    help: str
    field: str
    absent: str = ""
    needs: str = ""

    @property
    def is_color(self) -> bool:
        """Whether each color has one of its own."""
        return self.name.startswith(COLOR)

    def name_for(self, color: str) -> str:
        """Return the variable of this setting for a color."""
        return self.name.replace(COLOR, values.variable_of(color))


@dataclass(frozen=True, slots=True)
class Section:
    """Settings that belong together. `note` says where their defaults come from, for the reference."""

    title: str
    settings: tuple[Setting, ...]
    note: str = ""


def _duration(minimum_s: float, least: str) -> Kind:
    takes = f"seconds, or a number with ms, s, m or h; {least}"
    return Kind("duration", takes, duration_reader(minimum_s), values.show_duration)


def _size(minimum: int, maximum: int, bounds: str) -> Kind:
    takes = f"bytes, or a whole number with k, m or g; {bounds}"
    return Kind("size", takes, size_reader(minimum, maximum), values.show_size)


def _count(minimum: int, maximum: int, bounds: str) -> Kind:
    return Kind("number", f"a whole number, {bounds}", count_reader(minimum, maximum))


def _word(*words: str) -> Kind:
    return Kind("word", f"{', '.join(words[:-1])} or {words[-1]}", word_reader(*words))


_LISTEN = "host:port, [IPv6]:port, :port (all addresses) or unix:/path"
_PAUSE = _duration(0.0, "0 for none")
_WAIT = _duration(0.001, "at least 1ms")

URLS: Final = Kind(
    "URLs",
    "http://host[:port][/base], https://…, h2c://… or unix:/path, or several separated by commas",
    values.read_upstreams,
    values.show_upstreams,
)
WEIGHT: Final = Kind("weight", "0 or more", values.read_weight, values.show_weight)
PROBE_PATH: Final = Kind(
    "path", "a path that begins with /, maybe with a query; grpc, or grpc:service", values.read_probe_path
)
STATUSES: Final = Kind(
    "statuses",
    "status codes, ranges or classes, separated by commas: 200-399, 2xx, 200,204",
    values.read_statuses,
    values.show_statuses,
)
PERCENT: Final = Kind("percent", "0% to 100%", values.read_percent, values.show_percent)
IN_A_ROW: Final = _count(1, MAX_IN_A_ROW, f"1 to {MAX_IN_A_ROW}")
PATHS: Final = Kind("paths", "files or directories, separated by commas", values.read_paths, ",".join, ())
NAMES: Final = Kind(
    "names",
    "letters, digits, - and _, at most 31 names separated by commas",
    values.read_color_names,
    ",".join,
)
WORKERS: Final = Kind("number", f"auto, or a whole number from 1 to {MAX_WORKERS}", values.read_workers)
CONNECTIONS: Final = _count(1, MAX_CONNECTIONS, "1 or more")
QUEUE: Final = _count(0, MAX_CONNECTIONS, "0 or more")
PLAIN_ADDRESSES: Final = Kind(
    "addresses",
    f"{_LISTEN}, or several separated by commas; off for TLS alone",
    values.read_plain_listeners,
    values.show_plain_listeners,
)
TLS_ADDRESSES: Final = Kind(
    "addresses",
    f"{_LISTEN}, or several separated by commas",
    values.read_tls_listeners,
    values.show_listeners,
    (),
)
PEM_FILES: Final = Kind("paths", "files, separated by commas", values.read_paths, ",".join, ())
PEM_FILE: Final = Kind("path", "a file", values.read_path, none="")
SERVER_NAME: Final = Kind("name", "a host name or an IP address", values.read_server_name, none="")
HSTS: Final = Kind(
    "HSTS", "seconds, then maybe ; includeSubDomains, then maybe ; preload", values.read_hsts, none=""
)
ADMIN: Final = Kind("address", f"{_LISTEN}, or off", values.read_admin, values.show_admin)
TOKEN: Final = Kind(
    "secret", f"{MIN_TOKEN} to {MAX_TOKEN} ASCII letters, digits and signs, no blanks", values.read_token
)
FIELD: Final = Kind("field name", "a field name that HTTP and proxies do not use", values.read_field_name)
LOG_TARGET: Final = Kind("log", "stdout, stderr, off or a file's path", values.read_log_target)
LOG_FORMAT: Final = Kind(
    "format", "text, json, common, combined or a template with a {field}", read_log_format
)
NETWORKS: Final = Kind(
    "networks",
    "networks (CIDR) or addresses, separated by commas",
    values.read_networks,
    values.show_networks,
    (),
)

COLLECTOR: Final = Kind("URL", "http://host[:port][/path], or https://", otlp.read_endpoint)
FIELDS: Final = Kind(
    "fields",
    "name=value, or several separated by commas; %XX in a value",
    otlp.read_fields,
    otlp.show_fields,
    (),
)
SERVICE: Final = Kind("name", f"at most {otlp.MAX_SERVICE} characters", otlp.read_service)

_WHERE: Final = (
    Setting(
        "<COLOR>",
        URLS,
        "",
        "http://myapp:8080",
        "Where the color runs. A base path goes before the path of each request.",
        field="upstreams",
        absent="the color is absent",
    ),
    Setting(
        "<COLOR>_WEIGHT",
        WEIGHT,
        "1",
        "1",
        "Its share of the traffic, relative to the other colors. 0: no new requests.",
        field="weight",
        needs="<COLOR>",
    ),
)

_HEALTH: Final = (
    Setting(
        "<COLOR>_HEALTH",
        PROBE_PATH,
        "",
        "/healthz",
        "Asks each endpoint for this path, after the base of its URL, all the time.",
        field="probe.path",
        absent="none; traffic alone tells who is well",
        needs="<COLOR>",
    ),
    Setting(
        "<COLOR>_HEALTH_INTERVAL",
        _duration(0.1, "at least 100ms"),
        "2s",
        "2s",
        "Time between two checks of an endpoint, a little more or less each time.",
        field="probe.interval_s",
        needs="<COLOR>_HEALTH",
    ),
    Setting(
        "<COLOR>_HEALTH_TIMEOUT",
        _WAIT,
        "1s",
        "1s",
        "Time for one check, from connecting to the status. At most the interval.",
        field="probe.timeout_s",
        needs="<COLOR>_HEALTH",
    ),
    Setting(
        "<COLOR>_HEALTH_RISE",
        IN_A_ROW,
        "2",
        "2",
        "Good checks in a row that bring an endpoint back.",
        field="probe.rise",
        needs="<COLOR>_HEALTH",
    ),
    Setting(
        "<COLOR>_HEALTH_FALL",
        IN_A_ROW,
        "3",
        "3",
        "Bad checks in a row that take an endpoint out. The first check of a new one decides alone.",
        field="probe.fall",
        needs="<COLOR>_HEALTH",
    ),
    Setting(
        "<COLOR>_HEALTH_STATUS",
        STATUSES,
        "200-399",
        "200-299",
        "Status codes of a good check.",
        field="probe.statuses",
        needs="<COLOR>_HEALTH",
    ),
)

_ENDPOINT_LIMITS: Final = (
    Setting(
        "<COLOR>_MAX_CONNECTIONS",
        CONNECTIONS,
        "",
        "100",
        "Requests under way at each endpoint at once, through the whole proxy: shared out among the "
        "workers, rounded up.",
        field="max_connections",
        absent="no limit",
        needs="<COLOR>",
    ),
    Setting(
        "<COLOR>_MAX_QUEUE",
        QUEUE,
        "1024",
        "100",
        "Requests that may wait for an endpoint with room, in the whole proxy. Past it: 503 with "
        "`Retry-After`.",
        field="max_queue",
        needs="<COLOR>_MAX_CONNECTIONS",
    ),
    Setting(
        "<COLOR>_QUEUE_TIMEOUT",
        _WAIT,
        "1s",
        "500ms",
        "Time that a request may wait for it. Past it: 503 with `Retry-After`.",
        field="queue_timeout_s",
        needs="<COLOR>_MAX_CONNECTIONS",
    ),
)

_ENDPOINT_TLS: Final = (
    Setting(
        "<COLOR>_TLS_CA",
        PEM_FILES,
        "",
        "/run/secrets/internal-ca.pem",
        "PEM files of the authorities that `https://` endpoints have their certificates from.",
        field="tls.ca_files",
        absent="those of the system",
        needs="<COLOR>",
    ),
    Setting(
        "<COLOR>_TLS_NAME",
        SERVER_NAME,
        "",
        "myapp.internal",
        "The name that is asked for (SNI), and that their certificates have to be for.",
        field="tls.name",
        absent="the host of the URL",
        needs="<COLOR>",
    ),
    Setting(
        "<COLOR>_TLS_VERIFY",
        _word("on", "off"),
        "on",
        "off",
        "`off`: whoever answers is believed. For tests, and networks that nobody else is in.",
        field="tls.verify",
        needs="<COLOR>",
    ),
    Setting(
        "<COLOR>_TLS_CERT",
        PEM_FILE,
        "",
        "/run/secrets/edge.pem",
        "PEM file of a certificate that is shown to endpoints which ask for one.",
        field="tls.cert_file",
        absent="none",
        needs="<COLOR>",
    ),
    Setting(
        "<COLOR>_TLS_KEY",
        PEM_FILE,
        "",
        "/run/secrets/edge.key",
        "PEM file of its key.",
        field="tls.key_file",
        absent="in the certificate's file",
        needs="<COLOR>_TLS_CERT",
    ),
    Setting(
        "<COLOR>_TLS_MIN",
        _word("1.2", "1.3"),
        "1.2",
        "1.3",
        "The oldest version of TLS that is spoken with them.",
        field="tls.minimum",
        needs="<COLOR>",
    ),
    Setting(
        "<COLOR>_PROXY_PROTOCOL",
        _word("off", "v1", "v2"),
        "off",
        "v2",
        "The version of the PROXY header that tells endpoints the client's address. Each request then has a "
        "connection of its own.",
        field="proxy_protocol",
        needs="<COLOR>",
    ),
)

COLOR_SECTIONS: Final = (
    Section("Where it runs, and its share", _WHERE),
    Section(
        "Active health checks",
        _HEALTH,
        "The defaults are HAProxy's: `inter` 2s, `rise` 2, `fall` 3, and `option httpchk` takes every 2xx "
        "and 3xx for good. Envoy calls them `interval`, `healthy_threshold`, `unhealthy_threshold` and "
        "`expected_statuses` (200 alone), and `timeout`, and has a default for the statuses alone.",
    ),
    Section(
        "Limits of its endpoints",
        _ENDPOINT_LIMITS,
        "HAProxy calls them `maxconn`, `maxqueue` (no limit by default) and `timeout queue` (by default "
        "`timeout connect`). The length of the queue is Envoy's `max_pending_requests`, 1024.",
    ),
    Section("How its endpoints are spoken to", _ENDPOINT_TLS),
)

_PROCESSES: Final = (
    Setting(
        "SILLYPROXY_LISTEN",
        PLAIN_ADDRESSES,
        ":8080",
        ":8080",
        "Addresses to serve on. `:8080` is all addresses, IPv4 and IPv6; port 0 is any free port.",
        field="listeners",
    ),
    Setting(
        "SILLYPROXY_HTTP2",
        _word("on", "off"),
        "on",
        "off",
        "Whether clients may speak HTTP/2: over TLS by ALPN, in clear text with prior knowledge.",
        field="http2",
    ),
    Setting(
        "SILLYPROXY_ADMIN",
        ADMIN,
        "127.0.0.1:9080",
        "127.0.0.1:9080",
        "Address of health, metrics, status and dashboard.",
        field="admin",
    ),
    Setting(
        "SILLYPROXY_ADMIN_TOKEN",
        TOKEN,
        "",
        "0b5c6e2f8a914d37",
        "Secret without which the admin listener answers `/healthz`, `/readyz` and `/startupz` alone: as "
        "Bearer token, or as password of Basic authentication with any user. Never shown.",
        field="admin_token",
        absent="none; whoever can connect may read",
    ),
    Setting(
        "SILLYPROXY_WORKERS",
        WORKERS,
        "auto",
        "2",
        "Worker processes. `auto`: the CPUs that this container may use (affinity and cgroup quota).",
        field="workers",
    ),
)

_TLS: Final = (
    Setting(
        "SILLYPROXY_TLS_LISTEN",
        TLS_ADDRESSES,
        "",
        ":8443",
        "Addresses to serve on with TLS.",
        field="tls.listeners",
        absent="none",
    ),
    Setting(
        "SILLYPROXY_TLS_CERT",
        PEM_FILES,
        "",
        "/run/secrets/edge.pem",
        "PEM files of a certificate and its chain each. Of several, the one that has the name that a client "
        "asks for (SNI); the first for all others. Read again when they change.",
        field="tls.cert_files",
        absent="none",
        needs="SILLYPROXY_TLS_LISTEN",
    ),
    Setting(
        "SILLYPROXY_TLS_KEY",
        PEM_FILES,
        "",
        "/run/secrets/edge.key",
        "PEM files of their private keys, in the same order.",
        field="tls.key_files",
        absent="in the certificates' files",
        needs="SILLYPROXY_TLS_CERT",
    ),
    Setting(
        "SILLYPROXY_TLS_MIN",
        _word("1.2", "1.3"),
        "1.2",
        "1.3",
        "The oldest version of TLS that is spoken.",
        field="tls.minimum",
        needs="SILLYPROXY_TLS_LISTEN",
    ),
    Setting(
        "SILLYPROXY_TLS_CLIENT_CA",
        PEM_FILES,
        "",
        "/run/secrets/clients-ca.pem",
        "PEM files of the authorities whose certificates clients have to show. The backend gets it in "
        "`Client-Cert`, its subject in `X-Client-Cert-Subject`.",
        field="tls.client_ca_files",
        absent="none; clients are not asked for one",
        needs="SILLYPROXY_TLS_LISTEN",
    ),
    Setting(
        "SILLYPROXY_TLS_CLIENT_AUTH",
        _word("required", "optional"),
        "required",
        "optional",
        "What becomes of a client without a certificate: none is served, or it is without those fields.",
        field="tls.client_auth",
        needs="SILLYPROXY_TLS_CLIENT_CA",
    ),
    Setting(
        "SILLYPROXY_TLS_REDIRECT",
        _word("off", "301", "302", "307", "308"),
        "off",
        "308",
        "Status that sends requests in clear text to `https://`. `off`: they are served.",
        field="tls.redirect",
        needs="SILLYPROXY_TLS_LISTEN",
    ),
    Setting(
        "SILLYPROXY_TLS_REDIRECT_PORT",
        _count(1, 65535, "1 to 65535"),
        "443",
        "8443",
        "The port to send them to, as clients see it.",
        field="tls.redirect_port",
        needs="SILLYPROXY_TLS_REDIRECT",
    ),
    Setting(
        "SILLYPROXY_TLS_HSTS",
        HSTS,
        "",
        "31536000; includeSubDomains",
        "Value of `Strict-Transport-Security` in responses over TLS that have none of their own.",
        field="tls.hsts",
        absent="none",
        needs="SILLYPROXY_TLS_LISTEN",
    ),
)

_COLORS: Final = (
    Setting(
        "SILLYPROXY_COLORS",
        NAMES,
        "blue,green",
        "blue,green",
        "Names of the colors to look for. `sillyproxy serve red` adds red.",
        field="color_names",
    ),
    Setting(
        "SILLYPROXY_COLOR_HEADER",
        FIELD,
        "Color",
        "Color",
        "Request header that carries the color to the backend.",
        field="color_header",
    ),
    Setting(
        "SILLYPROXY_ENV_FILE",
        PATHS,
        "",
        "/run/configs/edge.env",
        "Files of `NAME=value` lines, or directories of them. Read again when they change and at SIGHUP; "
        "they win over the process environment.",
        field="env_files",
        absent="none",
    ),
)

_LOGS: Final = (
    Setting(
        "SILLYPROXY_ACCESS_LOG",
        LOG_TARGET,
        "stdout",
        "stdout",
        "Where finished requests are written. A path has a slash in it.",
        field="access_log.target",
    ),
    Setting(
        "SILLYPROXY_ACCESS_LOG_FORMAT",
        LOG_FORMAT,
        "",
        "combined",
        "How they are written. A template is text with fields in braces: `{client} {status} {target}`.",
        field="access_log.format",
        absent="what `SILLYPROXY_LOG_FORMAT` says",
    ),
    Setting(
        "SILLYPROXY_ACCESS_LOG_SAMPLE",
        PERCENT,
        "100%",
        "10%",
        "Share of the requests that went well (a status below 400, and no problem) that are written; all "
        "others always are.",
        field="access_log.sample",
    ),
    Setting(
        "SILLYPROXY_LOG_FORMAT",
        _word("text", "json"),
        "text",
        "json",
        "Format of the proxy's own log, and of the access log unless that has its own.",
        field="log_format",
    ),
    Setting(
        "SILLYPROXY_LOG_LEVEL",
        _word("debug", "info", "warning", "error"),
        "info",
        "info",
        "The least level that the proxy's own log shows.",
        field="log_level",
    ),
)

_TRACES: Final = (
    Setting(
        "SILLYPROXY_TRACING",
        _word("off", "continue", "start"),
        "continue",
        "start",
        "What becomes of `traceparent` and `tracestate`. `continue`: a trace that a client has begun goes "
        "on, with our span as the parent; `start`: one begins here where there is none; `off`: they pass "
        "untouched.",
        field="tracing.mode",
    ),
    Setting(
        "SILLYPROXY_TRACING_SAMPLE",
        PERCENT,
        "100%",
        "10%",
        "Share of the traces that begin here that are sampled. One that goes on is, if who began it said so.",
        field="tracing.sample",
    ),
    Setting(
        "SILLYPROXY_OTLP_ENDPOINT",
        COLLECTOR,
        "",
        "http://collector:4318",
        "The OpenTelemetry collector that sampled spans are sent to, by OTLP over HTTP. Needs "
        "`sillyproxy[otel]`. Without a path, `/v1/traces` is added.",
        field="export.endpoint",
        absent="none; spans go nowhere",
    ),
    Setting(
        "SILLYPROXY_OTLP_HEADERS",
        FIELDS,
        "",
        "Authorization=Basic%20dXNlcjprZXk=",
        "Header fields that the collector asks for. Never shown.",
        field="export.headers",
        absent="none",
        needs="SILLYPROXY_OTLP_ENDPOINT",
    ),
    Setting(
        "SILLYPROXY_SERVICE_NAME",
        SERVICE,
        "sillyproxy",
        "edge",
        "What the proxy is called in traces (`service.name`).",
        field="export.service",
        needs="SILLYPROXY_OTLP_ENDPOINT",
    ),
)

_DISCOVERY: Final = (
    Setting(
        "SILLYPROXY_DISCOVERY",
        _word("auto", "dns", "off"),
        "auto",
        "auto",
        "How a host name becomes endpoints. `auto`: Swarm's `tasks.<name>` where it resolves, else every "
        "address of the name; `dns`: every address; `off`: connect by name.",
        field="discovery",
    ),
    Setting(
        "SILLYPROXY_DISCOVERY_INTERVAL",
        _duration(0.1, "at least 100ms"),
        "1",
        "1s",
        "Time between look-ups. A Swarm takes a task out of its DNS 2 s before it stops it.",
        field="discovery_interval_s",
    ),
)

_FAILING: Final = (
    Setting(
        "SILLYPROXY_EJECT_AFTER",
        _count(0, MAX_IN_A_ROW, f"0 (never) to {MAX_IN_A_ROW}"),
        "5",
        "5",
        "Failures in a row that eject an endpoint: it refuses, resets, does not answer in time, or answers "
        "502, 503 or 504. 0 switches the rule of error rates off as well.",
        field="outlier.eject_after",
    ),
    Setting(
        "SILLYPROXY_EJECT_TIME",
        _duration(0.1, "at least 100ms"),
        "30s",
        "30s",
        "Time out, times the number of the repetition; at most ten times it.",
        field="outlier.eject_s",
    ),
    Setting(
        "SILLYPROXY_SLOW_START",
        _PAUSE,
        "10s",
        "10s",
        "Time in which an endpoint that comes back gets its full share again.",
        field="outlier.slow_start_s",
    ),
    Setting(
        "SILLYPROXY_RETRY",
        _word("safe", "idempotent", "5xx"),
        "safe",
        "idempotent",
        "Requests that are sent a second time. `safe`: those that no endpoint can have acted on; "
        "`idempotent`: also GET, HEAD, OPTIONS, TRACE, PUT and DELETE whose body, if any, came with the "
        "head, if no response came; `5xx`: these also if the response was 500 to 599.",
        field="retry.kind",
    ),
    Setting(
        "SILLYPROXY_RETRY_BUDGET",
        PERCENT,
        "50%",
        "20%",
        "Share of the requests under way that may be second tries. 32 in each worker always may; 0: none.",
        field="retry.budget",
    ),
    Setting(
        "SILLYPROXY_GATE",
        _word("all", "any"),
        "all",
        "any",
        "Colors with a weight that must have answered once before the proxy is healthy (`/startupz`, "
        "`sillyproxy healthcheck`).",
        field="gate",
    ),
)

_TIMEOUTS: Final = (
    Setting(
        "SILLYPROXY_CONNECT_TIMEOUT",
        _WAIT,
        "1",
        "500ms",
        "Time to connect to an endpoint. A dead node swallows packets for 8 s before a Swarm takes it out.",
        field="timeouts.connect_s",
    ),
    Setting(
        "SILLYPROXY_RESPONSE_TIMEOUT",
        _WAIT,
        "60",
        "1m",
        "Time from a request's end to the response's head.",
        field="timeouts.response_s",
    ),
    Setting(
        "SILLYPROXY_HEADER_TIMEOUT",
        _WAIT,
        "10",
        "10s",
        "Time that a client may take for a request head.",
        field="timeouts.header_s",
    ),
    Setting(
        "SILLYPROXY_IDLE_TIMEOUT",
        _WAIT,
        "75",
        "75s",
        "Time that an idle keep-alive connection or a silent body may last.",
        field="timeouts.idle_s",
    ),
    Setting(
        "SILLYPROXY_DRAIN_DELAY",
        _PAUSE,
        "1",
        "1s",
        "Time after SIGTERM in which new connections are still served.",
        field="timeouts.drain_delay_s",
    ),
    Setting(
        "SILLYPROXY_DRAIN_TIMEOUT",
        _PAUSE,
        "8",
        "8s",
        "Time in which requests under way may end. Docker kills 10 s after SIGTERM by default.",
        field="timeouts.drain_timeout_s",
    ),
)

_LIMITS: Final = (
    Setting(
        "SILLYPROXY_MAX_HEADER_BYTES",
        _size(MIN_HEADER_BYTES, MAX_HEADER_BYTES, "1k to 1m"),
        "65536",
        "64k",
        "Size of a request head or a response head.",
        field="limits.header_bytes",
    ),
    Setting(
        "SILLYPROXY_MAX_BODY_BYTES",
        _size(0, MAX_BODY_BYTES, "0 for no limit"),
        "0",
        "10m",
        "Size of a request body.",
        field="limits.body_bytes",
    ),
    Setting(
        "SILLYPROXY_MAX_CONNECTIONS",
        CONNECTIONS,
        "",
        "10000",
        "Client connections in all. Past it a new one gets 503 and is closed.",
        field="limits.connections",
        absent="as many as the open-file limit allows",
    ),
    Setting(
        "SILLYPROXY_TRUSTED_PROXIES",
        NETWORKS,
        "",
        "10.0.0.0/8",
        "Networks whose `X-Forwarded-*` and `Forwarded` are believed and extended; all others' are replaced.",
        field="trusted_proxies",
        absent="none",
    ),
    Setting(
        "SILLYPROXY_PROXY_PROTOCOL",
        NETWORKS,
        "",
        "10.0.0.0/8",
        "Networks whose connections begin with a PROXY header (v1 or v2), which says who the client is. "
        "Those without one are closed; those of others begin with their request.",
        field="proxied_from",
        absent="none",
    ),
)

PROXY_SECTIONS: Final = (
    Section("Addresses and processes", _PROCESSES),
    Section(
        "TLS to clients",
        _TLS,
        "The versions and ciphers are those of Mozilla's intermediate profile that agree on a key anew for "
        "each connection (ECDHE) and authenticate what they encrypt (AEAD). More: [TLS](../howto/tls.md).",
    ),
    Section("Colors and where settings come from", _COLORS),
    Section(
        "Logs",
        _LOGS,
        "Formats, the fields of a template, sampling, and how to rotate a file (SIGUSR1): "
        "[Access log](../howto/access-log.md).",
    ),
    Section(
        "Traces",
        _TRACES,
        "`continue` is what the W3C asks of whoever takes part in a trace. That all are sampled is "
        "OpenTelemetry's default (`parentbased_always_on`). With `continue` only requests that bring a "
        "sampled `traceparent` reach the collector. More: [Traces](../howto/tracing.md).",
    ),
    Section("Discovery", _DISCOVERY),
    Section(
        "Endpoints that fail",
        _FAILING,
        "`EJECT_AFTER`, `EJECT_TIME` and its growth are Envoy's outlier detection: "
        "`consecutive_gateway_failure` 5, `base_ejection_time` 30s times the number of ejections, "
        "`max_ejection_time` 300s. Envoy ejects at most 10 % of the endpoints (`max_ejection_percent`) but "
        "always one; here half of a color's always stay. HAProxy has `observe layer7` with `error-limit` "
        "10, and no term: its health checks bring a server back. `SLOW_START` is HAProxy's `slowstart` and "
        "Envoy's `slow_start_window`, which are off by default. `RETRY` is HAProxy's `retry-on` and Envoy's "
        "`retry_on`; `RETRY_BUDGET` is Envoy's `retry_budget`: `budget_percent` 20 %, and "
        "`min_retry_concurrency` 3. Ours is wider, because by default it is spent only on requests that "
        "nobody has acted on.",
    ),
    Section("Timeouts", _TIMEOUTS),
    Section("Limits and trust", _LIMITS),
)
COLOR_SETTINGS: Final = tuple(setting for section in COLOR_SECTIONS for setting in section.settings)
PROXY_SETTINGS: Final = tuple(setting for section in PROXY_SECTIONS for setting in section.settings)
SETTINGS: Final = COLOR_SETTINGS + PROXY_SETTINGS
BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
