"""The origins behind the proxies: two of each kind, blue and green, on the load's side of the CPUs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import find_port
from bench.process import Process

PAGES, BODIES = "pages", "bodies"

NGINX = """
{user}worker_processes 1;
worker_rlimit_nofile 18000;
daemon off;
pid origin.pid;
error_log origin.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    default_type text/html;
    sendfile on;
    open_file_cache max=16;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
{servers}
}}
"""

SERVER = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory};
        location = /tiny {{ return 200 "{color}\\n"; }}
        location = /seen {{
            return 200 "{color}|$http_color|$http_x_forwarded_for|$server_protocol|$http_host|$connection\\n";
        }}
        location /page {{ rewrite ^ /4k.bin break; }}
    }}
"""

FILES = {"4k.bin": 4096, "1m.bin": 1 << 20, "100m.bin": 100 << 20}


@dataclass(frozen=True)
class Origins:
    """`address:port` of blue and green, by kind."""

    pages: tuple[str, str]
    bodies: tuple[str, str]

    def of(self, kind: str) -> tuple[str, str]:
        return {PAGES: self.pages, BODIES: self.bodies}[kind]


def write_files(directory: Path) -> None:
    block = os.urandom(1 << 20)
    for name, size in FILES.items():
        with (directory / name).open("wb") as file:
            for start in range(0, size, len(block)):
                file.write(block[: size - start])


@contextmanager
def start_origins(directory: Path, cpus: set[int]) -> Iterator[Origins]:
    """
    nginx answers with small and large pages; `bench.origin` takes uploads and speaks WebSocket.

    nginx's own `return` would answer an upload before it has come, which is other work.
    """
    write_files(directory)
    blue, green, blue_bodies, green_bodies = (find_port() for _ in range(4))
    servers = "".join(
        SERVER.format(port=port, directory=directory, color=color)
        for color, port in (("blue", blue), ("green", green))
    )
    config = directory / "origin.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(user=user, servers=servers))
    with ExitStack() as stack:
        for command, ports in (
            (["nginx", "-p", str(directory), "-e", "origin.log", "-c", str(config)], (blue, green)),
            (
                [sys.executable, "-m", "bench.origin", str(blue_bodies), str(green_bodies)],
                (blue_bodies, green_bodies),
            ),
        ):
            process = Process(command, cpus, directory / f"origin-{ports[0]}.out")
            stack.enter_context(process)
            for port in ports:
                process.wait_listening(port)
        yield Origins(
            (f"127.0.0.1:{blue}", f"127.0.0.1:{green}"),
            (f"127.0.0.1:{blue_bodies}", f"127.0.0.1:{green_bodies}"),
        )
