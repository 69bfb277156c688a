"""Promise: the access log's file can be put away at any time, by a signal, and no line is lost or torn."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.harness import Proxy
from tests.wire.running import ask
from tests.wire.stress_tools import (
    GET,
    QuickOrigin,
    ask_many,
    find_controller,
    find_workers,
    loading,
    origin,
    serving,
    wait_at_rest,
    wait_until,
)


@pytest.fixture
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


def reopen(proxy: Proxy) -> None:
    """Do what logrotate does after it has renamed the file."""
    said = proxy.read_log().count("reopening the access log")
    proxy.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: proxy.read_log().count("reopening the access log") > said, "the supervisor")


def count_numbers(*logs: Path) -> Counter[int]:
    """Return how often each request is in the files; every line must be whole."""
    lines = [line for log in logs if log.exists() for line in log.read_text().splitlines()]
    return Counter(int(json.loads(line)["target"].partition("?n")[2] or 0) for line in lines)


@contextlib.contextmanager
def logging_to(log: Path, backend: QuickOrigin, **settings: str) -> Iterator[Proxy]:
    """A proxy of two workers that logs JSON to a file."""
    env = {
        "BLUE": backend.url,
        "SILLYPROXY_WORKERS": "2",
        "SILLYPROXY_ACCESS_LOG": str(log),
        "SILLYPROXY_ACCESS_LOG_FORMAT": "json",
    }
    with serving({**env, **settings}) as proxy:
        yield proxy


def numbered(number: int) -> tuple[bytes, bytes]:
    """Make a request that its line can be told from all others by."""
    return b"GET", GET % b"/?n%d" % number


def test_rotation_under_load_loses_no_line(backend: QuickOrigin, tmp_path: Path) -> None:
    """The file is renamed five times while clients ask: each request is in one, once, on a whole line."""
    log = tmp_path / "access.log"
    old = [tmp_path / f"access.log.{number}" for number in range(5)]
    with logging_to(log, backend) as proxy:
        with loading(proxy.port, 6, numbered) as load:
            for name in old:
                load.wait_answers(300)
                log.rename(name)
                reopen(proxy)
                wait_until(lambda: log.exists() and log.stat().st_size, "lines in the new file")
            load.wait_answers(300)
        wait_at_rest(proxy)
        count = sum(load.statuses.values())
        wait_until(lambda: len(count_numbers(log, *old)) >= count, "all lines")
        held = [os.readlink(fd) for pid in find_workers(proxy) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        assert held.count(str(log)) == 2, "each worker holds the new file, and no old one"
        assert not [name for name in held if "access.log." in name]
    numbers = count_numbers(log, *old)
    assert set(numbers.values()) == {1}
    assert sorted(numbers) == list(range(1, count + 1))
    assert not load.failures
    assert all(name.stat().st_size for name in (*old, log))


def test_file_that_cannot_be_opened_again_is_gone_on_with(backend: QuickOrigin, tmp_path: Path) -> None:
    """Where there is no new file to write to, the old one has every line, and the proxy says why."""
    directory = tmp_path / "logs"
    directory.mkdir()
    log = directory / "access.log"
    with logging_to(log, backend) as proxy:
        ask_many(proxy.port, 10)
        directory.rename(tmp_path / "moved")
        reopen(proxy)
        wait_until(
            lambda: proxy.read_log().count("cannot reopen the access log, keeping the old one") == 2,
            "both workers' complaint",
        )
        ask_many(proxy.port, 10)
        wait_at_rest(proxy)
    assert (tmp_path / "moved" / "access.log").read_text().count("\n") == 20


def test_without_a_file_there_is_nothing_to_open_again(backend: QuickOrigin) -> None:
    """SIGUSR1 to a proxy that logs to standard output is answered in its log, and does nothing."""
    with serving({"BLUE": backend.url, "SILLYPROXY_ACCESS_LOG": "stdout"}) as proxy:
        proxy.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "nothing to reopen, the access log is no file" in proxy.read_log(), "the answer")
        assert ask_many(proxy.port, 10) == {b"blue": 10}


def test_signal_to_every_process_rotates_and_stops_nothing(backend: QuickOrigin, tmp_path: Path) -> None:
    """`systemctl kill -s USR1` reaches workers and controller too: they serve on, the proxy stays ready."""
    log = tmp_path / "access.log"
    with logging_to(log, backend) as proxy:
        everybody = [*find_workers(proxy), find_controller(proxy)]
        log.rename(tmp_path / "old")
        for pid in everybody:
            os.kill(pid, signal.SIGUSR1)
        reopen(proxy)
        wait_until(log.exists, "the new file")
        assert ask_many(proxy.port, 100) == {b"blue": 100}
        assert ask(f"127.0.0.1:{proxy.admin_port}", "/readyz")[0] == 200
        assert [*find_workers(proxy), find_controller(proxy)] == everybody


def test_copytruncate_leaves_no_hole(backend: QuickOrigin, tmp_path: Path) -> None:
    """A file that somebody cuts to nothing is written from its beginning on: it is open for appending."""
    log = tmp_path / "access.log"
    with logging_to(log, backend) as proxy:
        ask_many(proxy.port, 100)
        wait_at_rest(proxy)
        wait_until(lambda: log.read_bytes().count(b"\n") == 100, "the first lines")
        os.truncate(log, 0)
        ask_many(proxy.port, 10, GET % b"/?n1")
        wait_at_rest(proxy)
        wait_until(lambda: log.read_bytes().count(b"\n") == 10, "the lines after the cut")
    assert count_numbers(log) == {1: 10}


HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "access-log.md"


def test_logrotate_by_the_file_of_the_manual(backend: QuickOrigin, tmp_path: Path) -> None:
    """The manual's file for logrotate, but for path and signal, rotates and loses no line."""
    logrotate = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if not logrotate:
        pytest.skip("needs logrotate")
    log = tmp_path / "access.log"
    (text,) = re.findall(r"^```text\n(/var/log/.*?)^```", HOWTO.read_text(), re.MULTILINE | re.DOTALL)
    with logging_to(log, backend) as proxy:
        text = re.sub(r"systemctl kill .*", f"kill -USR1 {proxy.process.pid}", text)
        # logrotate wants nobody else to be able to write beside the log.
        tmp_path.chmod(0o755)
        rules = tmp_path / "rules"
        rules.write_text(text.replace("/var/log/sillyproxy/access.log", str(log)))
        rules.chmod(0o644)
        with loading(proxy.port, 4, numbered) as load:
            load.wait_answers(300)
            command = [logrotate, "--force", "--state", str(tmp_path / "state"), str(rules)]
            subprocess.run(command, check=True, timeout=60)
            wait_until(lambda: log.exists() and log.stat().st_size, "lines in the new file")
            load.wait_answers(300)
        wait_at_rest(proxy)
        count = sum(load.statuses.values())
        wait_until(lambda: len(count_numbers(log, tmp_path / "access.log.1")) >= count, "all lines")
    assert set(count_numbers(log, tmp_path / "access.log.1").values()) == {1}
    assert not load.failures
