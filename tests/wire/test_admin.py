"""The admin listener, with real processes behind it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from sillyproxy.metrics.table import METRICS
from tests.wire.running import Running, ask, running, wait_until

read_openmetrics: Any = openmetrics.text_string_to_metric_families


@pytest.fixture(scope="module")
def proxy() -> Iterator[Running]:
    with running(BLUE="http://127.0.0.1:1", BLUE_WEIGHT="4", GREEN="http://127.0.0.1:2") as proxy:
        proxy.wait_serving()
        for _ in range(3):
            proxy.get()
        yield proxy


def test_healthz(proxy: Running) -> None:
    """/healthz answers 200 while the process lives."""
    assert ask(proxy.admin, "/healthz") == (200, "ok\n")


def test_readyz(proxy: Running) -> None:
    """/readyz answers 200 with a usable color."""
    assert ask(proxy.admin, "/readyz") == (200, "ready\n")


def test_startupz(proxy: Running) -> None:
    """/startupz answers 503 until the colors have answered, and says what it waits for."""
    colors = "blue: 127.0.0.1:1 refused; green: 127.0.0.1:2 refused"
    wait_until(lambda: ask(proxy.admin, "/startupz") == (503, f"not started: {colors}\n"), "the first tries")


@pytest.mark.parametrize("path", ["/nonsense", "/static/", "/static/../app.py", "/healthz/", "/api"])
def test_other_paths_are_not_found(proxy: Running, path: str) -> None:
    """What is not there is 404."""
    assert ask(proxy.admin, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/startupz", "/metrics", "/api/status", "/api/live", "/api/events"]
)
def test_other_methods_are_not_allowed(proxy: Running, path: str, method: str) -> None:
    """Nothing on the admin listener can be changed."""
    assert ask(proxy.admin, path, method)[0] == 405


def test_metrics_are_prometheus_text(proxy: Running) -> None:
    """/metrics is what Prometheus reads, and holds every metric of the table."""
    status, body = ask(proxy.admin, "/metrics")
    assert status == 200
    assert {family.name for family in read_text(body)} == {metric.name for metric in METRICS}


def test_metrics_are_openmetrics_for_who_asks(proxy: Running) -> None:
    """With an Accept for OpenMetrics, that is what comes."""
    status, body = ask(proxy.admin, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert {family.name for family in read_openmetrics(body)} == {metric.name for metric in METRICS}


def test_metrics_are_summed_over_the_workers(proxy: Running) -> None:
    """A count is the sum over all workers, whichever of them served."""
    _, body = ask(proxy.admin, "/metrics")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in read_text(body)
        for sample in family.samples
    }
    assert samples["sillyproxy_requests_total", "2xx", "blue"] == 3
    assert samples["sillyproxy_exchanges_accepted_total",] == 3
    assert samples["sillyproxy_request_duration_seconds_count", "blue"] == 3
    assert samples["sillyproxy_request_duration_seconds_bucket", "0.0025", "blue"] == 0
    assert samples["sillyproxy_request_duration_seconds_bucket", "0.005", "blue"] == 3
    assert samples["sillyproxy_color_weight", "blue"] == 4


def test_status_tells_what_is_asked_and_what_is_seen(proxy: Running) -> None:
    """/api/status shows each color's share as asked and as seen, and balanced books."""
    status = proxy.status()
    blue, green = status["colors"]
    assert (blue["share_asked"], green["share_asked"]) == (0.8, 0.2)
    assert (blue["share_seen"], green["share_seen"]) == (1.0, 0.0)
    assert status["balance"] == {"accepted": 3, "accounted": 3, "balanced": True}


def test_status_tells_the_configuration_and_its_origins(proxy: Running) -> None:
    """/api/status shows each setting that was made and where; and the ports that are really listened on."""
    config = proxy.status()["config"]
    assert config["settings"]["BLUE_WEIGHT"] == {"value": "4", "origin": "environment"}
    assert config["listen"] == [proxy.address]


def test_status_tells_the_workers(proxy: Running) -> None:
    """/api/status shows the process of each worker and the generation that it serves by."""
    pids = [proxy.pid_of("worker 0"), proxy.pid_of("worker 1")]
    assert proxy.status()["workers"] == [
        {"index": index, "pid": pid, "generation": 1} for index, pid in enumerate(pids)
    ]


def test_endpoint_that_the_workers_avoid_is_down() -> None:
    """An endpoint that at least half of the workers avoid is shown as down, and up again when they return."""
    with running(SILLYPROXY_WORKERS="1") as proxy:
        proxy.wait_serving()

        def is_up() -> float:
            _, body = ask(proxy.admin, "/metrics")
            families = {family.name: family for family in read_text(body)}
            return families["sillyproxy_endpoint_up"].samples[0].value

        wait_until(lambda: proxy.get("/endpoints"), "endpoints in the worker")
        proxy.get("/avoid")
        wait_until(lambda: is_up() == 0, "the endpoint to be down")
        endpoint = proxy.status()["colors"][0]["endpoints"][0]
        assert (endpoint["state"], endpoint["reason"]) == ("avoided", "refused")
        assert endpoint["avoided_by"] == {"0": "refused"}
        proxy.get("/return")
        wait_until(lambda: is_up() == 1, "the endpoint to be up")


def test_opinion_of_a_dead_worker_is_forgotten() -> None:
    """What a killed worker thought of an endpoint does not outlive it."""
    with running(SILLYPROXY_WORKERS="1") as proxy:
        proxy.wait_serving()
        wait_until(lambda: proxy.get("/endpoints"), "endpoints in the worker")
        proxy.get("/avoid")
        wait_until(lambda: not proxy.status()["colors"][0]["endpoints"][0]["up"], "down")
        os.kill(proxy.pid_of("worker 0"), signal.SIGKILL)
        wait_until(lambda: proxy.status()["colors"][0]["endpoints"][0]["up"], "up")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"BLUE": ""}, "no color is configured"),
        ({"BLUE_WEIGHT": "0"}, "every color is at weight 0"),
        ({"BLUE": "http://no-such-host.invalid"}, "no endpoints: no-such-host.invalid"),
    ],
)
def test_not_ready_without_a_usable_color(settings: dict[str, str], reason: str) -> None:
    """A proxy that would answer 503 to everybody is not ready, and says why."""
    with running(**settings) as proxy:
        proxy.wait_line("not ready: ")
        status, body = ask(proxy.admin, "/readyz")
        assert status == 503
        assert body.startswith(f"not ready: {reason}")


def test_not_ready_does_not_stop_the_proxy() -> None:
    """A host that does not resolve at the start is no reason not to start."""
    with running(BLUE="http://no-such-host.invalid") as proxy:
        proxy.wait_line("cannot resolve name=no-such-host.invalid")
        assert proxy.get()


def test_admin_on_a_unix_socket(tmp_path: Path) -> None:
    """The admin listener may be a unix socket."""
    address = f"unix:{tmp_path}/admin.sock"
    with running(SILLYPROXY_ADMIN=address) as proxy:
        proxy.wait_serving()
        assert ask(address, "/readyz") == (200, "ready\n")


def test_admin_off() -> None:
    """With SILLYPROXY_ADMIN=off the proxy serves, and there is no admin listener."""
    with running(SILLYPROXY_ADMIN="off") as proxy:
        proxy.wait_line("controller: ready")
        wait_until(lambda: proxy.get("/endpoints"), "the worker to hear of the endpoints")
        assert not [line for line in proxy.lines if "admin on" in line]


def test_silent_clients_do_not_crowd_out_the_health_check() -> None:
    """However many clients connect to the admin listener and say nothing, the health check is answered."""
    with running() as proxy, ExitStack() as silent:
        proxy.wait_serving()
        host, _, port = proxy.admin.rpartition(":")
        for _ in range(300):
            silent.enter_context(closing(socket.create_connection((host, int(port)))))
        assert [ask(proxy.admin, path)[0] for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3


def test_metrics_are_cheap_to_ask_for(proxy: Running) -> None:
    """Asking for the metrics does not stop: fifty in a row are answered."""
    start = time.monotonic()
    assert {ask(proxy.admin, "/metrics")[0] for _ in range(50)} == {200}
    assert time.monotonic() - start < 20
