"""A real Prometheus on a loopback port, as a test sees it."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.deploy.promtool import DEPLOY, RULES, find_program
from tests.wire.harness import find_free_port
from tests.wire.running import ask
from tests.wire.stress_tools import wait_until


class Prometheus:
    """It runs by the example configuration, but for where target and token are, and how often it looks."""

    def __init__(self, folder: Path, admin_port: int, token: str) -> None:
        self.port = find_free_port()
        (folder / "token").write_text(token)
        (folder / RULES.name).write_text(RULES.read_text())
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (scrape,) = config["scrape_configs"]
        scrape["scrape_interval"] = "1s"
        scrape["authorization"]["credentials_file"] = str(folder / "token")
        del scrape["dns_sd_configs"]
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{admin_port}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [
                find_program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ],
            stdout=(folder / "log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        self._log = folder / "log"

    def wait_ready(self) -> None:
        """Wait until it answers."""

        def is_ready() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            with contextlib.suppress(OSError, http.client.HTTPException):
                return ask(f"127.0.0.1:{self.port}", "/-/ready")[0] == 200
            return False

        wait_until(is_ready, "Prometheus")

    def get(self, path: str, **parameters: str) -> Any:
        """Ask its interface; fail if it is not content."""
        status, body = ask(f"127.0.0.1:{self.port}", f"/api/v1/{path}?{urlencode(parameters)}")
        assert status == 200, f"{parameters}: {body}"
        answer = json.loads(body)
        assert answer["status"] == "success", answer
        # "metric might not be a counter" and such.
        assert not answer.get("warnings"), f"{parameters}: {answer['warnings']}"
        return answer["data"]

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return what a query is now: labels and value of each series."""
        return [
            (series["metric"], float(series["value"][1]))
            for series in self.get("query", query=query)["result"]
        ]

    def value(self, query: str) -> float | None:
        """Return the one value of a query; None if there is none."""
        found = self.ask(query)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


@contextlib.contextmanager
def prometheus(folder: Path, admin_port: int, token: str) -> Iterator[Prometheus]:
    """Run one for a while."""
    server = Prometheus(folder, admin_port, token)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
