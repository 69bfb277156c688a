"""
What the edge's protocols cost: `python -m bench.protocols [--rounds N] [--seconds S] [--out FILE]`.

TLS handshakes, GET over TLS kept alive, GET over HTTP/2 with 100 streams, and a unary call of gRPC;
CPU time of the whole process tree per request, one worker, all subjects in turn within a round. The
load is h2load's; the origin nginx, or nghttpd for gRPC (Debian's nginx-light, nghttp2-client and
nghttp2-server).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench import machine
from bench.process import BrokenError, Process, run_load
from bench.subjects import SUBJECTS, Job, Launch, envoy_binary, envoy_config

ORIGIN = """
{user}worker_processes 1;
daemon off;
pid origin.pid;
error_log origin.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "hello, world\\n"; }} }}
}}
"""


@dataclass(frozen=True)
class Keys:
    """A certificate, its key, and both in one file."""

    chain: Path
    key: Path
    both: Path


@dataclass(frozen=True)
class Scene:
    """One kind of traffic: what h2load is told, over which port (clear, TLS), to which origin."""

    name: str
    title: str
    arguments: tuple[str, ...]
    tls: bool
    grpc: bool = False
    each: bool = False  # a connection for each request


SCENES = (
    Scene("handshake", "TLS 1.3 handshake and one GET", ("--h1",), tls=True, each=True),
    Scene("tls", "GET over TLS, kept alive", ("--h1", "-c", "64"), tls=True),
    Scene("h2", "GET over HTTP/2, 100 streams, clear text", ("-c", "8", "-m", "100"), tls=False),
    Scene("h2tls", "GET over HTTP/2, 100 streams, TLS", ("-c", "8", "-m", "100"), tls=True),
    Scene("grpc", "gRPC unary call, 100 streams, clear text", ("-c", "8", "-m", "100"), tls=False, grpc=True),
)


@dataclass
class Sample:
    scene: str
    subject: str
    round: int
    problem: str = ""
    requests: int = 0
    per_s: float = 0.0
    cpu_us: float = 0.0


Starter = Callable[[Job, Keys, int, bool], Launch]


def _sillyproxy(job: Job, keys: Keys, tls_port: int, grpc: bool) -> Launch:
    plain = SUBJECTS["sillyproxy"].launch(job)
    scheme = "h2c" if grpc else "http"
    return Launch(
        plain.command,
        {
            **plain.environment,
            "BLUE": f"{scheme}://{job.blue}",
            "GREEN": f"{scheme}://{job.green}",
            "SILLYPROXY_TLS_LISTEN": f"127.0.0.1:{tls_port}",
            "SILLYPROXY_TLS_CERT": str(keys.chain),
            "SILLYPROXY_TLS_KEY": str(keys.key),
        },
    )


def _compiled(job: Job, keys: Keys, tls_port: int, grpc: bool) -> Launch:
    plain = _sillyproxy(job, keys, tls_port, grpc)
    path = SUBJECTS["compiled"].launch(job).environment["PYTHONPATH"]
    return Launch(plain.command, {**plain.environment, "PYTHONPATH": path})


def _nginx(job: Job, keys: Keys, tls_port: int, grpc: bool) -> Launch:
    launch = SUBJECTS["nginx"].launch(job)
    path = job.directory / "nginx.conf"
    listen = f"listen 127.0.0.1:{job.port} reuseport backlog=4096"
    text = path.read_text().replace(
        f"{listen};",
        f"{listen} http2; listen 127.0.0.1:{tls_port} ssl http2 reuseport backlog=4096; "
        f"ssl_certificate {keys.chain}; ssl_certificate_key {keys.key}; "
        "http2_max_concurrent_streams 128; ssl_session_cache shared:s:10m;",
    )
    if grpc:
        text = text.replace("proxy_pass http://$color;", "grpc_pass grpc://$color;", 1)
        text = text.replace("proxy_set_header", "grpc_set_header")
    path.write_text(text)
    return launch


def _haproxy(job: Job, keys: Keys, tls_port: int, grpc: bool) -> Launch:
    launch = SUBJECTS["HAProxy"].launch(job)
    path = job.directory / "haproxy.cfg"
    bind = f"bind 127.0.0.1:{job.port} backlog 4096"
    text = path.read_text().replace(
        bind,
        f"{bind} proto h2\n    bind 127.0.0.1:{tls_port} ssl crt {keys.both} alpn h2,http/1.1 backlog 4096",
    )
    if grpc:
        text = text.replace("pool-max-conn", "proto h2 pool-max-conn")
    path.write_text(text)
    return launch


def _envoy(job: Job, keys: Keys, tls_port: int, grpc: bool) -> Launch:
    config = json.loads(json.dumps(envoy_config(job)))
    resources = config["static_resources"]
    (plain,) = resources["listeners"]
    secure = json.loads(json.dumps(plain))
    secure["name"] = "secure"
    secure["address"]["socket_address"]["port_value"] = tls_port
    secure["filter_chains"][0]["transport_socket"] = {
        "name": "tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(keys.chain)},
                        "private_key": {"filename": str(keys.key)},
                    }
                ],
            },
        },
    }
    resources["listeners"].append(secure)
    if grpc:
        options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        for cluster in resources["clusters"]:
            cluster["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": options,
                    "explicit_http_config": {"http2_protocol_options": {}},
                }
            }
    path = job.directory / "envoy.json"
    path.write_text(json.dumps(config))
    command = [envoy_binary(), "-c", str(path), "--concurrency", str(job.workers)]
    return Launch([*command, "--disable-hot-restart", "--log-level", "error"])


def _caddy(job: Job, keys: Keys, tls_port: int, grpc: bool) -> Launch:
    launch = SUBJECTS["Caddy"].launch(job)
    path = job.directory / "Caddyfile"
    text = path.read_text()
    text = text.replace(
        "    admin off\n", "    admin off\n    servers {\n        protocols h1 h2 h2c\n    }\n"
    )
    if grpc:
        text = text.replace("transport http {", "transport http {\n            versions h2c")
    start = text.index("http://:")
    site = text[start:].replace(
        f"http://:{job.port} {{", f"https://:{tls_port} {{\n    tls {keys.chain} {keys.key}"
    )
    path.write_text(f"{text}\n{site}")
    return launch


STARTERS: dict[str, Starter] = {
    "sillyproxy": _sillyproxy,
    "compiled": _compiled,
    "nginx": _nginx,
    "HAProxy": _haproxy,
    "Envoy": _envoy,
    "Caddy": _caddy,
}


def make_keys(directory: Path) -> Keys:
    """An ECDSA P-256 certificate, as most have it now."""
    keys = Keys(directory / "cert.pem", directory / "key.pem", directory / "both.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "30", "-subj", "/CN=bench.example", "-keyout", str(keys.key), "-out", str(keys.chain)),
        ],
        check=True,
        capture_output=True,
    )
    keys.both.write_bytes(keys.chain.read_bytes() + keys.key.read_bytes())
    return keys


def load(scene: Scene, port: int, seconds: float, body: Path) -> list[str]:
    """Return the command of the load."""
    url = f"{'https' if scene.tls else 'http'}://127.0.0.1:{port}/index.html"
    command = ["h2load", *scene.arguments]
    if scene.grpc:
        command += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    if scene.each:
        return [*command, "-n", "200", "-c", "200", url]
    return [*command, "-D", f"{seconds:g}", url]


def measure(
    scene: Scene, pid: int, port: int, seconds: float, body: Path, cpus: set[int]
) -> tuple[int, float, float]:
    """Return requests, requests a second, and CPU time a request, µs."""
    before = machine.read_clocks(pid)
    start = time.monotonic()
    requests = 0
    rates = []
    while True:
        out = run_load(load(scene, port, seconds, body), cpus, seconds + 60)
        done = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", out)
        rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", out)
        codes = re.search(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", out)
        if not done or not rate or not codes:
            raise BrokenError(f"h2load said: {out[-300:]}")
        if int(done[3]) or any(map(int, codes.groups())):
            raise BrokenError(f"not all was well: {done[0]}; {codes[0]}")
        requests += int(done[1])
        rates.append(float(rate[1]))
        if not scene.each or time.monotonic() - start >= seconds:
            break
    spent = machine.subtract_clocks(before, machine.read_clocks(pid))
    return requests, median(rates), sum(cpu.total_us for cpu in spent.values())


@contextlib.contextmanager
def origins(directory: Path, cpus: set[int], *, grpc: bool) -> Iterator[tuple[str, str]]:
    """Two origins."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for name in ("blue", "green"):
            port = machine.find_port()
            home = directory / name
            home.mkdir(exist_ok=True)
            if grpc:
                (home / "index.html").write_bytes(b"\0\0\0\0\x06\x0a\x04abcd")
                command = [
                    "nghttpd",
                    "--no-tls",
                    "-a",
                    "127.0.0.1",
                    "-d",
                    str(home),
                    "--trailer",
                    "grpc-status: 0",
                    str(port),
                ]
            else:
                config = home / "origin.conf"
                user = (
                    "user root;\n"
                    if Path("/root").owner() == "root" and not Path("/root").stat().st_uid
                    else ""
                )
                config.write_text(ORIGIN.format(user=user, port=port))
                command = ["nginx", "-p", str(home), "-e", "origin.log", "-c", str(config)]
            process = stack.enter_context(Process(command, cpus, directory / f"{name}.log"))
            process.wait_listening(port)
            addresses.append(f"127.0.0.1:{port}")
        yield addresses[0], addresses[1]


def run(subjects: Sequence[str], scenes: Sequence[Scene], rounds: int, seconds: float) -> list[Sample]:
    """Measure all of it."""
    mine, others = machine.share_cpus(set(range(os.cpu_count() or 1)), 1)
    samples = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        keys = make_keys(directory)
        body = directory / "call"
        body.write_bytes(b"\0\0\0\0\x06\x0a\x04abcd")
        for round_number in range(rounds):
            for scene in scenes:
                with origins(directory, others, grpc=scene.grpc) as (blue, green):
                    turn = round_number % len(subjects)
                    for subject in (*subjects[turn:], *subjects[:turn]):
                        sample = Sample(scene.name, subject, round_number)
                        with tempfile.TemporaryDirectory(dir=directory) as home:
                            port, tls_port = machine.find_port(), machine.find_port()
                            job = Job(port, blue, green, 1, Path(home))
                            try:
                                launch = STARTERS[subject](job, keys, tls_port, scene.grpc)
                                log = Path(home) / "log"
                                with Process(launch.command, mine, log, launch.environment) as process:
                                    process.wait_listening(tls_port if scene.tls else port)
                                    time.sleep(1.0)
                                    at = tls_port if scene.tls else port
                                    counted = measure(scene, process.pid, at, seconds, body, others)
                                    requests, rate, cpu_us = counted
                                    sample.requests, sample.per_s = requests, rate
                                    sample.cpu_us = cpu_us / max(1, requests)
                            except BrokenError as error:
                                sample.problem = str(error)
                        samples.append(sample)
                        figures = f"{sample.cpu_us:8.1f} µs {sample.per_s:9.0f}/s {sample.problem}"
                        print(f"{scene.name:10} {subject:11} {figures}", flush=True)
    return samples


def summarize(samples: Sequence[Sample]) -> str:
    """A table: median CPU time a request, µs."""
    lines = ["| | " + " | ".join(STARTERS) + " |", "| --- |" + " ---: |" * len(STARTERS)]
    for scene in SCENES:
        cells = []
        for subject in STARTERS:
            mine = [s.cpu_us for s in samples if (s.scene, s.subject, s.problem) == (scene.name, subject, "")]
            cells.append(f"{median(mine):.1f}" if mine else "-")
        if any(cell != "-" for cell in cells):
            lines.append(f"| {scene.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.protocols", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--scenes", default=",".join(scene.name for scene in SCENES))
    parser.add_argument("--subjects", default=",".join(STARTERS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scenes = [scene for scene in SCENES if scene.name in options.scenes.split(",")]
    samples = run(options.subjects.split(","), scenes, options.rounds, options.seconds)
    print(summarize(samples))
    if options.out:
        result = {"machine": machine.describe(1), "samples": [asdict(sample) for sample in samples]}
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(any(sample.problem for sample in samples))


if __name__ == "__main__":
    main()
