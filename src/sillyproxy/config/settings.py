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

from sillyproxy.config import values
from sillyproxy.config.values import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_WORKERS,
    MIN_HEADER_BYTES,
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
    none means. `field` is the place of the value in a Config, for settings of the proxy.
    A `later` setting is known and does nothing yet.
    """

    name: str
    kind: Kind
    default: str
    example: str
    help: str
    field: str = ""
    absent: str = ""
    later: bool = False

    @property
    def is_color(self) -> bool:
        """Whether each color has one of its own."""
        return self.name.startswith(COLOR)

    def name_for(self, color: str) -> str:
        """Return the variable of this setting for a color."""
        return self.name.replace(COLOR, values.variable_of(color))


def _duration(minimum_s: float, least: str) -> Kind:
    takes = f"seconds, or a number with ms, s, m or h; {least}"
    return Kind("duration", takes, duration_reader(minimum_s), values.show_duration)


def _size(minimum: int, maximum: int, bounds: str) -> Kind:
    takes = f"bytes, or a whole number with k, m or g; {bounds}"
    return Kind("size", takes, size_reader(minimum, maximum), values.show_size)


def _word(*words: str) -> Kind:
    return Kind("word", f"{', '.join(words[:-1])} or {words[-1]}", word_reader(*words))


_LISTEN = "host:port, [IPv6]:port, :port (all addresses) or unix:/path"
_PAUSE = _duration(0.0, "0 for none")
_WAIT = _duration(0.001, "at least 1ms")

URLS: Final = Kind(
    "URLs",
    "http://host[:port][/base], or several separated by commas",
    values.read_upstreams,
    values.show_upstreams,
)
WEIGHT: Final = Kind("weight", "0 or more", values.read_weight, values.show_weight)
PATH: Final = Kind("path", "a path that begins with /", str)
PATHS: Final = Kind("paths", "files or directories, separated by commas", str)
NAMES: Final = Kind(
    "names",
    "letters, digits, - and _, at most 31 names separated by commas",
    values.read_color_names,
    ",".join,
)
WORKERS: Final = Kind("number", f"auto, or a whole number from 1 to {MAX_WORKERS}", values.read_workers)
CONNECTIONS: Final = Kind("number", "a whole number, 1 or more", values.read_connections)
ADDRESSES: Final = Kind(
    "addresses",
    f"{_LISTEN}, or several separated by commas",
    values.read_listeners,
    values.show_listeners,
)
ADMIN: Final = Kind("address", f"{_LISTEN}, or off", values.read_admin, values.show_admin)
FIELD: Final = Kind("field name", "a field name that HTTP and proxies do not use", values.read_field_name)
LOG_TARGET: Final = Kind("log", "stdout, stderr, off or a file's path", values.read_log_target)
NETWORKS: Final = Kind(
    "networks",
    "networks (CIDR) or addresses, separated by commas",
    values.read_networks,
    values.show_networks,
    (),
)

COLOR_SETTINGS: Final = (
    Setting(
        "<COLOR>",
        URLS,
        "",
        "http://myapp:8080",
        "Where the color runs. A base path goes before the path of each request.",
        absent="the color is absent",
    ),
    Setting(
        "<COLOR>_WEIGHT",
        WEIGHT,
        "1",
        "1",
        "Its share of the traffic, relative to the other colors. 0: no new requests.",
    ),
    Setting(
        "<COLOR>_HEALTH",
        PATH,
        "",
        "/healthz",
        "Path of an active health check.",
        absent="passive checks alone",
        later=True,
    ),
)

PROXY_SETTINGS: Final = (
    Setting(
        "SILLYPROXY_LISTEN",
        ADDRESSES,
        ":8080",
        ":8080",
        "Addresses to serve on. `:8080` is all addresses, IPv4 and IPv6; port 0 is any free port.",
        field="listeners",
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
        "SILLYPROXY_WORKERS",
        WORKERS,
        "auto",
        "2",
        "Worker processes. `auto`: the CPUs that this container may use (affinity and cgroup quota).",
        field="workers",
    ),
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
        "Files or directories of `NAME=value` lines. Watched; they win over the process environment.",
        absent="none",
        later=True,
    ),
    Setting(
        "SILLYPROXY_ACCESS_LOG",
        LOG_TARGET,
        "stdout",
        "stdout",
        "Where finished requests are written. A path has a slash in it.",
        field="access_log.target",
    ),
    Setting(
        "SILLYPROXY_LOG_FORMAT",
        _word("text", "json"),
        "text",
        "json",
        "Format of the access log and of the proxy's own log.",
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
)

SETTINGS: Final = COLOR_SETTINGS + PROXY_SETTINGS
BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
