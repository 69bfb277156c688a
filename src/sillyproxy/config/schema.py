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
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

Network = IPv4Network | IPv6Network
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Discovery = Literal["auto", "dns", "off"]


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to accept on: `host` and `port`, or the `path` of a unix socket. An empty host means all."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One URL of a color. `base` is its path without a trailing slash; it goes before the request's path."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    base: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base}"


@dataclass(frozen=True, slots=True)
class Color:
    """A deployed version of the application: its name, where it runs, its share of new requests."""

    name: str
    upstreams: tuple[Upstream, ...]
    weight: float = 1.0


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
    """Where a finished exchange is written: `stdout`, `stderr`, `off`, or the path of a file; and how."""

    target: str = "stdout"
    format: LogFormat = "text"


@dataclass(frozen=True, slots=True)
class Origin:
    """The text of one setting and where it came from (`environment`, `command line`, a file's path)."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Config:
    """The whole of it. `color_names` are the names looked for, in order; `colors` those that are present."""

    color_names: tuple[str, ...] = ("blue", "green")
    colors: tuple[Color, ...] = ()
    color_header: str = "Color"
    listeners: tuple[Listener, ...] = (Listener("", 8080),)
    admin: Listener | None = Listener("127.0.0.1", 9080)
    workers: int = 1
    access_log: AccessLog = AccessLog()
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    discovery: Discovery = "auto"
    discovery_interval_s: float = 1.0
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    trusted_proxies: tuple[Network, ...] = ()
    generation: int = 1
    origins: Mapping[str, Origin] = field(default_factory=dict)
