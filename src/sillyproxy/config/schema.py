"""
What the operator asked for: one immutable value.

A `Config` is made by `config.parse` from checked text and only read afterwards. It is
the only form in which configuration travels: supervisor, controller and workers all
hold the same frozen value and compile from it what they need.

Units are seconds and bytes throughout; a field's name ends in its unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Literal

Network = IPv4Network | IPv6Network
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Discovery = Literal["auto", "dns", "off"]
RetryKind = Literal["safe", "idempotent", "5xx"]
Gate = Literal["all", "any"]
TracingMode = Literal["off", "continue", "start"]
ClientAuth = Literal["required", "optional"]
Scheme = Literal["http", "https", "h2c", "unix"]
ProxyProtocol = Literal["off", "v1", "v2"]
Switch = Literal["on", "off"]
Redirect = Literal["off", "301", "302", "307", "308"]
TlsVersion = Literal["1.2", "1.3"]


@dataclass(frozen=True, slots=True)
class Listener:
    """
    An address to accept on: `host` and `port`, or the `path` of a unix socket. An empty host means all.

    `tls`: who connects has to speak TLS.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False

    @property
    def is_local(self) -> bool:
        """
        Whether nobody but this machine can connect.

        >>> [Listener(host, 80).is_local for host in ("", "127.0.0.1", "::1", "10.0.0.1")]
        [False, True, True, False]
        """
        return bool(self.path) or (bool(self.host) and ip_address(self.host).is_loopback)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """
    One URL of a color. `base` is its path without a trailing slash; it goes before the request's path.

    `h2c` is HTTP/2 in clear text. Of a unix socket, `host` is the path and `port` 0.
    """

    scheme: Scheme
    host: str
    port: int
    base: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base}"


@dataclass(frozen=True, slots=True)
class Probe:
    """
    An active health check of each endpoint: GET `path`, after the upstream's base, every `interval_s`.

    A path that is `grpc`, or `grpc:` and a service, stands for gRPC's own check.

    An answer within `timeout_s` whose status is in one of `statuses` (first and last, both
    included) is good. `rise` good ones in a row bring an endpoint back, `fall` bad ones take
    it away. The defaults are HAProxy's (`inter 2s rise 2 fall 3`).
    """

    path: str
    interval_s: float = 2.0
    timeout_s: float = 1.0
    rise: int = 2
    fall: int = 3
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)

    @property
    def is_grpc(self) -> bool:
        """Whether it is gRPC's own check."""
        return not self.path.startswith("/")

    @property
    def service(self) -> str:
        """The service that gRPC's check asks for; empty for all of the server."""
        return self.path.partition(":")[2]


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """
    TLS to the `https://` endpoints of a color.

    Their certificates are verified against `ca`, PEM, or the system's authorities if it is empty, and
    for `name` or the URL's host; unless `verify` is off. `chain` and `key`, PEM, are what we show; from
    `cert_file` and `key_file`.
    """

    ca_files: tuple[str, ...] = ()
    verify: Switch = "on"
    name: str = ""
    cert_file: str = ""
    key_file: str = ""
    minimum: TlsVersion = "1.2"
    ca: bytes = field(default=b"", repr=False)
    chain: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Color:
    """
    A deployed version of the application: its name, where it runs, its share of new requests.

    At most `max_connections` requests are under way at each of its endpoints, through the
    whole proxy (None: no limit); past it at most `max_queue` wait, each `queue_timeout_s` at most.
    `proxy_protocol`: the version of the PROXY header that its connections begin with.
    """

    name: str
    upstreams: tuple[Upstream, ...]
    weight: float = 1.0
    probe: Probe | None = None
    max_connections: int | None = None
    max_queue: int = 1024
    queue_timeout_s: float = 1.0
    tls: UpstreamTls = UpstreamTls()
    proxy_protocol: ProxyProtocol = "off"


@dataclass(frozen=True, slots=True)
class Outlier:
    """
    When real traffic ejects an endpoint.

    `eject_after` failures in a row do (0: nothing does), or an error rate far from its
    siblings'. The term is `eject_s` times the number of the ejection, at most ten times it
    (Envoy: `consecutive_gateway_failure` 5, `base_ejection_time` 30 s, `max_ejection_time`
    300 s). Who comes back gets its full share after `slow_start_s`.
    """

    eject_after: int = 5
    eject_s: float = 30.0
    slow_start_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Retry:
    """
    Which requests are sent a second time, and how many at once.

    `safe`: those of which no byte can have been acted on. `idempotent`: besides those that may
    be acted on twice (RFC 9110, 9.2.2), if no response came; `5xx`: or one of 500 to 599.
    `budget` is the share of the requests under way that may be second tries.
    """

    kind: RetryKind = "safe"
    budget: float = 0.5


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Every wait has an end; seconds."""

    connect_s: float = 1.0
    response_s: float = 60.0
    header_s: float = 10.0
    idle_s: float = 75.0
    drain_delay_s: float = 1.0
    drain_timeout_s: float = 8.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Every size has an end. `body_bytes` 0: no limit. `connections` None: what the file limit allows."""

    header_bytes: int = 65536
    body_bytes: int = 0
    connections: int | None = None


@dataclass(frozen=True, slots=True)
class AccessLog:
    """
    Where a finished exchange is written: `stdout`, `stderr`, `off`, or the path of a file; and how.

    `format` is a word of `logformat`, or a template; `sample` the share of those that went well that
    are written.
    """

    target: str = "stdout"
    format: str = "text"
    sample: float = 1.0

    @property
    def is_file(self) -> bool:
        """Whether it has a path, so that it can be opened again."""
        return self.target not in ("stdout", "stderr", "off")


@dataclass(frozen=True, slots=True)
class Tracing:
    """
    Our part in traces (W3C Trace Context).

    `off`: `traceparent` passes like any other field. `continue`: a trace that a request belongs
    to is gone on with, our span as the parent of the endpoint's. `start`: one begins here where
    there is none; `sample` of these are sampled.
    """

    mode: TracingMode = "continue"
    sample: float = 1.0


@dataclass(frozen=True, slots=True)
class Export:
    """
    Where sampled spans go: the URL of an OTLP collector (None: nowhere), and as what `service`.

    `headers` are fields that go with each request to it, a secret.
    """

    endpoint: str | None = None
    # Not in a traceback, nor where a Config is printed.
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    service: str = "sillyproxy"


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    A certificate that we show to clients: its `chain` and `key`, PEM, from the file `path`.

    `names` are the host names it is for, in lower case, maybe with `*` as the first label;
    `not_after` is its end, seconds since 1970.
    """

    path: str
    names: tuple[str, ...]
    not_after: int
    # Not in a traceback, nor where a Config is printed.
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """
    TLS to clients: where, and with which certificates; the first is for whoever names none of the others.

    `client_ca`, PEM, are the authorities whose certificates clients show, as `client_auth` says;
    empty: they are not asked. `redirect` is the status by which requests in clear text are sent to
    `redirect_port`; `hsts` the value of Strict-Transport-Security (RFC 6797), empty for none.
    """

    listeners: tuple[Listener, ...] = ()
    cert_files: tuple[str, ...] = ()
    key_files: tuple[str, ...] = ()
    client_ca_files: tuple[str, ...] = ()
    client_auth: ClientAuth = "required"
    minimum: TlsVersion = "1.2"
    redirect: Redirect = "off"
    redirect_port: int = 443
    hsts: str = ""
    certificates: tuple[Certificate, ...] = ()
    client_ca: bytes = field(default=b"", repr=False)

    @property
    def files(self) -> tuple[str, ...]:
        """All files that it was read from."""
        return (*self.cert_files, *self.key_files, *self.client_ca_files)


@dataclass(frozen=True, slots=True)
class Origin:
    """The text of one setting and where it came from (`environment`, `command line`, a file's path)."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Config:
    """
    The whole of it.

    `color_names` are the names looked for, in order; `colors` those that are present. `slots`
    are all names that were looked for since the start: a color's row in the counts is its place
    among them, plus one, and stays its own through every reload. `gate`: which colors must have
    answered before the proxy calls itself started.
    """

    color_names: tuple[str, ...] = ("blue", "green")
    colors: tuple[Color, ...] = ()
    color_header: str = "Color"
    listeners: tuple[Listener, ...] = (Listener("", 8080),)
    tls: Tls = Tls()
    http2: Switch = "on"
    proxied_from: tuple[Network, ...] = ()
    admin: Listener | None = Listener("127.0.0.1", 9080)
    # Not in a traceback, nor where a Config is printed.
    admin_token: str | None = field(default=None, repr=False)
    workers: int = 1
    access_log: AccessLog = AccessLog()
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    discovery: Discovery = "auto"
    discovery_interval_s: float = 1.0
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    trusted_proxies: tuple[Network, ...] = ()
    outlier: Outlier = Outlier()
    retry: Retry = Retry()
    gate: Gate = "all"
    tracing: Tracing = Tracing()
    export: Export = Export()
    env_files: tuple[str, ...] = ()
    slots: tuple[str, ...] = ("blue", "green")
    generation: int = 1
    origins: Mapping[str, Origin] = field(default_factory=dict)
