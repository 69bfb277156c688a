"""
The proxies before four replicas, each in two configurations.

`defaults`: what its authors chose, but for the timeouts, which are the same for all: 1 s to connect,
2 s for the response's head. `careful`: what its manual offers an operator who expects replicas to fail:
health checks every 2 s, passive ejection, a second try elsewhere for what may be asked twice, and
the balance that looks at requests under way.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import subjects
from bench.subjects import Launch

DEFAULTS, CAREFUL = "defaults", "careful"
CLASSES = (DEFAULTS, CAREFUL)
CONNECT_S, RESPONSE_S = 1, 2
WORKERS = 2


@dataclass(frozen=True)
class Setup:
    """What one run of a subject is to do. `replicas` are `address:port`."""

    port: int
    replicas: Sequence[str]
    is_careful: bool
    directory: Path


@dataclass(frozen=True)
class Contender:
    """A proxy: how to find its version (MissingError if it is not there), how to start it, how to show it."""

    name: str
    find: Callable[[], str]
    launch: Callable[[Setup], Launch]


def _write(setup: Setup, name: str, text: str) -> str:
    path = setup.directory / name
    path.write_text(text)
    return str(path)


def _launch_sillyproxy(setup: Setup) -> Launch:
    environment = {
        "BLUE": ",".join(f"http://{replica}" for replica in setup.replicas),
        "SILLYPROXY_COLORS": "blue",
        "SILLYPROXY_LISTEN": f"127.0.0.1:{setup.port}",
        "SILLYPROXY_ADMIN": f"127.0.0.1:{setup.port - 1}",
        "SILLYPROXY_WORKERS": str(WORKERS),
        "SILLYPROXY_ACCESS_LOG": "off",
        "SILLYPROXY_CONNECT_TIMEOUT": str(CONNECT_S),
        "SILLYPROXY_RESPONSE_TIMEOUT": str(RESPONSE_S),
    }
    if setup.is_careful:
        environment |= {"BLUE_HEALTH": "/healthz", "SILLYPROXY_RETRY": "5xx"}
    _write(setup, "environment", "".join(f"{name}={value}\n" for name, value in environment.items()))
    return Launch([sys.executable, "-m", "sillyproxy", "serve"], environment)


# max_fails=1 fail_timeout=10s and proxy_next_upstream "error timeout" are nginx's defaults. A group in
# a zone shares what is known among the workers; without one each learns for itself.
NGINX = """
{user}worker_processes {workers};
daemon off;
pid nginx.pid;
error_log error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    upstream blue {{
{servers}
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://blue;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_connect_timeout {connect}s;
            proxy_read_timeout {response}s;
{careful}
        }}
    }}
}}
"""
NGINX_CAREFUL = """\
            proxy_next_upstream error timeout http_500 http_502 http_503 http_504;
            proxy_next_upstream_tries 3;"""


def _launch_nginx(setup: Setup) -> Launch:
    shared = ["        zone blue 256k;", "        least_conn;"] if setup.is_careful else []
    limit = " max_fails=3 fail_timeout=10s" if setup.is_careful else ""
    text = NGINX.format(
        user="user root;\n" if os.geteuid() == 0 else "",
        workers=WORKERS,
        servers="\n".join([*shared, *(f"        server {replica}{limit};" for replica in setup.replicas)]),
        port=setup.port,
        connect=CONNECT_S,
        response=RESPONSE_S,
        careful=NGINX_CAREFUL if setup.is_careful else "",
    )
    config = _write(setup, "nginx.conf", text)
    return Launch(["nginx", "-p", str(setup.directory), "-e", "error.log", "-c", config])


HAPROXY = """
global
    nbthread {workers}
defaults
    mode http
    timeout connect {connect}s
    timeout client 60s
    timeout server {response}s
frontend front
    bind 127.0.0.1:{port}
    default_backend blue
backend blue
{careful}
{servers}
"""
# L7 retries go for every method unless they are forbidden for those that must not be sent twice.
HAPROXY_CAREFUL = """\
    balance leastconn
    option redispatch 1
    retries 3
    retry-on all-retryable-errors
    http-request disable-l7-retry unless METH_GET
    option httpchk GET /healthz
    timeout check 1s
    default-server check inter 2s rise 2 fall 3 observe layer7 error-limit 10 on-error mark-down"""


def _launch_haproxy(setup: Setup) -> Launch:
    text = HAPROXY.format(
        workers=WORKERS,
        port=setup.port,
        connect=CONNECT_S,
        response=RESPONSE_S,
        careful=HAPROXY_CAREFUL if setup.is_careful else "",
        servers="\n".join(f"    server r{n} {replica}" for n, replica in enumerate(setup.replicas, 1)),
    )
    return Launch(["haproxy", "-db", "-f", _write(setup, "haproxy.cfg", text)])


def _endpoint(replica: str) -> dict[str, object]:
    host, _, port = replica.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


# Envoy allows three retries at a time to a cluster unless it is told otherwise; half of the requests under
# way, and 32, is what sillyproxy allows by itself.
# The success rate rule's own thresholds (5 hosts, 100 requests each in an interval of 10 s) would never
# apply to four replicas.
ENVOY_CAREFUL_CLUSTER: dict[str, object] = {
    "lb_policy": "LEAST_REQUEST",
    "circuit_breakers": {
        "thresholds": [
            {"retry_budget": {"budget_percent": {"value": 50.0}, "min_retry_concurrency": 32}},
        ]
    },
    "outlier_detection": {
        "consecutive_5xx": 5,
        "interval": "2s",
        "base_ejection_time": "30s",
        "max_ejection_percent": 50,
        "success_rate_minimum_hosts": 3,
        "success_rate_request_volume": 50,
    },
    "health_checks": [
        {
            "timeout": "1s",
            "interval": "2s",
            "unhealthy_threshold": 3,
            "healthy_threshold": 2,
            "http_health_check": {"path": "/healthz"},
        }
    ],
}
ENVOY_CAREFUL_RETRY: dict[str, object] = {
    "retry_on": "5xx,reset,connect-failure",
    "num_retries": 2,
    "per_try_timeout": f"{RESPONSE_S}s",
    "retry_host_predicate": [
        {
            "name": "previous_hosts",
            "typed_config": {
                "@type": (
                    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                )
            },
        }
    ],
    "host_selection_retry_max_attempts": 3,
}


def build_envoy(setup: Setup) -> dict[str, object]:
    """Envoy's configuration. Its route timeout spans all tries, so a careful one leaves room for three."""
    cluster: dict[str, object] = {
        "name": "blue",
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_S}s",
        "load_assignment": {
            "cluster_name": "blue",
            "endpoints": [{"lb_endpoints": [_endpoint(replica) for replica in setup.replicas]}],
        },
    }
    route: dict[str, object] = {"cluster": "blue", "timeout": f"{RESPONSE_S}s"}
    if setup.is_careful:
        cluster |= ENVOY_CAREFUL_CLUSTER
        route |= {"timeout": f"{3 * RESPONSE_S + 1}s", "retry_policy": ENVOY_CAREFUL_RETRY}
    http = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{http}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{http}.http.router.v3.Router"}}],
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "front",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": setup.port}},
                    "filter_chains": [
                        {"filters": [{"name": "http_connection_manager", "typed_config": manager}]}
                    ],
                }
            ],
            "clusters": [cluster],
        }
    }


def _launch_envoy(setup: Setup) -> Launch:
    config = _write(setup, "envoy.json", json.dumps(build_envoy(setup), indent=2))
    return Launch(
        [
            *(subjects.envoy_binary(), "-c", config, "--concurrency", str(WORKERS)),
            *("--disable-hot-restart", "--log-level", "error"),
        ]
    )


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("sillyproxy", subjects.SUBJECTS["sillyproxy"].find, _launch_sillyproxy),
        Contender("nginx", subjects.SUBJECTS["nginx"].find, _launch_nginx),
        Contender("HAProxy", subjects.SUBJECTS["HAProxy"].find, _launch_haproxy),
        Contender("Envoy", subjects.SUBJECTS["Envoy"].find, _launch_envoy),
    )
}
