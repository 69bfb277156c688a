"""The command line: what it prints, and its exit status."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sillyproxy import __version__
from sillyproxy.__main__ import read_serve
from sillyproxy.config.settings import SETTINGS
from tests.wire.running import make_environment, run_command, running, wait_until


def test_version() -> None:
    """`--version` says which version this is."""
    done = run_command("--version")
    assert (done.returncode, __version__ in done.stdout) == (0, True)


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
def test_help_lists_every_setting(arguments: list[str]) -> None:
    """`--help` names every variable that there is."""
    done = run_command(*arguments)
    assert done.returncode == 0
    assert not [setting.name for setting in SETTINGS if setting.name not in done.stdout]


@pytest.mark.parametrize("arguments", [[], ["serve"], ["check"]])
def test_wrong_configuration_shows_every_problem(arguments: list[str]) -> None:
    """A wrong configuration: all problems on standard error, exit status 2, no traceback."""
    done = run_command(*arguments, BLUE="nonsense", GREEN="http://ok", GREEN_WEIGHT="ten")
    assert done.returncode == 2
    assert "BLUE=nonsense" in done.stderr
    assert "GREEN_WEIGHT=ten" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_shows_the_configuration_in_force() -> None:
    """`check` shows the colors and the settings, and starts nothing."""
    done = run_command("check", "red", "--listen", ":81", BLUE="http://app:8080", RED="http://red")
    assert done.returncode == 0
    assert "http://app:8080" in done.stdout
    assert "http://red" in done.stdout
    assert ":81" in done.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["serve", "--nonsense"], ["serve", "--listen"]])
def test_unknown_word_is_not_a_wrong_configuration(arguments: list[str]) -> None:
    """A mistake on the command line: one clear message and exit status 1, for 2 is the configuration's."""
    done = run_command(*arguments)
    assert done.returncode == 1
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


def test_warnings_are_logged_at_the_start() -> None:
    """What is doubtful in the configuration is in the log, with what was probably meant."""
    with running(SILLYPROXY_WORKER="2") as proxy:
        proxy.wait_line("warning.*SILLYPROXY_WORKER.*SILLYPROXY_WORKERS")


def test_colors_of_the_command_line_are_added() -> None:
    """`serve red` looks for RED besides BLUE and GREEN."""
    with running("red", BLUE="http://127.0.0.1:1", RED="http://127.0.0.1:2") as proxy:
        assert [color["name"] for color in proxy.status()["colors"]] == ["blue", "red"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], ((), None)),
        (["serve", "--addr", ":1", "red"], (("red",), ":1")),
        (["serve", "--listen=:1"], ((), ":1")),
        (["red"], None),
        (["serve", "-h"], None),
    ],
)
def test_plain_serve_is_read_without_a_library(typed: list[str], meant: object) -> None:
    """The everyday calls of `serve` are read here; any other goes to the library, help and mistakes too."""
    assert read_serve(typed) == meant


# healthcheck


@pytest.mark.parametrize("admin", ["127.0.0.1:0", ":0", "[::1]:0", "unix"])
def test_healthcheck_says_started(admin: str, tmp_path: Path) -> None:
    """`healthcheck` exits with 0 when the proxy has started, whatever address its admin listener has."""
    address = f"unix:{tmp_path}/admin.sock" if admin == "unix" else admin
    with closing(socket.create_server(("127.0.0.1", 0))) as backend:
        blue = f"http://127.0.0.1:{backend.getsockname()[1]}"
        with running(SILLYPROXY_ADMIN=address, BLUE=blue) as proxy:
            proxy.wait_line("controller: started")
            done = run_command("healthcheck", SILLYPROXY_ADMIN=proxy.admin)
            assert (done.returncode, done.stdout) == (0, "started\n")


def test_healthcheck_says_what_is_awaited() -> None:
    """`healthcheck` exits with 1 and says which color does not answer, which endpoint, and why."""
    with running() as proxy:
        proxy.wait_serving()

        def ask() -> tuple[int, str]:
            done = run_command("healthcheck", SILLYPROXY_ADMIN=proxy.admin)
            return done.returncode, done.stderr

        refused = (1, "sillyproxy: not started: blue: 127.0.0.1:1 refused\n")
        wait_until(lambda: ask() == refused, "the first try")


def test_healthcheck_says_that_it_drains() -> None:
    """`healthcheck` exits with 1 and gives the reason when the proxy drains."""
    with running(SILLYPROXY_DRAIN_DELAY="30") as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGTERM)
        proxy.wait_line("not ready: draining")
        done = run_command("healthcheck", SILLYPROXY_ADMIN=proxy.admin)
        assert (done.returncode, done.stderr) == (1, "sillyproxy: draining\n")


def test_healthcheck_without_a_proxy() -> None:
    """`healthcheck` exits with 1 and one line when nobody answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = run_command("healthcheck", SILLYPROXY_ADMIN=address)
    assert done.returncode == 1
    assert done.stderr.startswith(f"sillyproxy: no answer on {address}")
    assert "Traceback" not in done.stderr


def test_healthcheck_with_the_admin_listener_off() -> None:
    """With SILLYPROXY_ADMIN=off `healthcheck` cannot know, and says so."""
    done = run_command("healthcheck", SILLYPROXY_ADMIN="off")
    assert (done.returncode, "SILLYPROXY_ADMIN=off" in done.stderr) == (1, True)


def test_healthcheck_is_light() -> None:
    """A container runs `healthcheck` all the time: it loads no library, not even Python's own big ones."""
    code = (
        "import sys; from sillyproxy.__main__ import main; sys.argv[1:] = ['healthcheck']; main();"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {os.fspath(SOURCE)!r}); {code}"],
        env=make_environment({"SILLYPROXY_ADMIN": "off"}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(done.stdout.split()) & {"click", "socket", "typing", "dataclasses", "re", "enum"}


SOURCE = Path(__file__).parents[2] / "src"
