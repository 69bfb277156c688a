"""`sillyproxy top`, over real proxies with requests going through them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from tests.wire.harness import Proxy, find_free_port
from tests.wire.running import PATIENCE_S, make_environment, run_command, wait_until
from tests.wire.stress_tools import GET, QuickOrigin, ask_many, loading, origin, serving

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLORED = re.compile(r"\x1b\[[0-9;]*\b(3[0-7]|38|9[0-7])\b[0-9;]*m")


@pytest.fixture(scope="module")
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


@pytest.fixture
def pair(backend: QuickOrigin) -> Iterator[tuple[Proxy, Proxy]]:
    """Two replicas of a proxy with a canary at 20 %."""
    env = {"BLUE": backend.url, "GREEN": backend.url, "BLUE_WEIGHT": "4", "GREEN_WEIGHT": "1"}
    with serving(env) as one, serving(env) as two:
        yield one, two


def admin_of(proxy: Proxy) -> str:
    return f"127.0.0.1:{proxy.admin_port}"


def read_frame(*addresses: str) -> dict[str, Any]:
    """Return what `top --json` prints."""
    done = run_command("top", *addresses, "--json", "--window", "300")
    assert (done.returncode, done.stderr) == (0, "")
    frame: dict[str, Any] = json.loads(done.stdout)
    return frame


def read_requests(frame: dict[str, Any]) -> Counter[str]:
    """Return the requests of each color."""
    return Counter({color["name"]: color["requests"] for color in frame["colors"]})


class Terminal:
    """A terminal of this size with `sillyproxy top` on it; `seen` is all that it wrote."""

    def __init__(
        self, *arguments: str, size: tuple[int, int] = (80, 24), code: str = "", **settings: str
    ) -> None:
        self.end, side = pty.openpty()
        self.resize(*size)
        command = ["-c", code] if code else ["-m", "sillyproxy"]
        environment = make_environment({"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | settings)
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            if name not in settings:
                environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, *command, "top", *arguments],
            env=environment,
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.before = termios.tcgetattr(side)
        self.side = side
        self.seen = ""

    def resize(self, columns: int, lines: int) -> None:
        ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def read(self) -> str:
        """Return all that was written so far, without the control sequences."""
        while select.select([self.end], [], [], 0)[0]:
            data = os.read(self.end, 65536)
            self.seen += data.decode(errors="replace")
        return CONTROL.sub("", self.seen)

    def wait(self, pattern: str) -> None:
        """Wait until this is written after what was waited for last."""
        start = len(self.read()) if not self.seen else 0

        def is_there() -> bool:
            return re.search(pattern, self.read()[start:]) is not None

        try:
            wait_until(is_there, pattern)
        except AssertionError:
            pytest.fail(f"{pattern!r} is not in\n{self.read()[-4000:]}")

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self.read()
        self.seen = ""

    def wait_end(self) -> int:
        status = self.process.wait(PATIENCE_S)
        self.read()
        return status

    def is_as_before(self) -> bool:
        """Whether keys are echoed again, the cursor is seen, and the screen is the one from before."""
        return (
            termios.tcgetattr(self.side) == self.before
            and self.seen.rfind("\x1b[?25h") > self.seen.rfind("\x1b[?25l")
            and self.seen.rfind("\x1b[?1049l") > self.seen.rfind("\x1b[?1049h")
        )

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.side)
        os.close(self.end)


@contextlib.contextmanager
def terminal(*arguments: str, **how: Any) -> Iterator[Terminal]:
    screen = Terminal(*arguments, **how)
    try:
        yield screen
    finally:
        screen.close()


# One picture.


def test_what_two_replicas_answered_is_summed_to_the_request(pair: tuple[Proxy, Proxy]) -> None:
    """
    What top shows of each color is, to the request, what both replicas together have answered: as JSON and
    in lines.
    """
    one, two = pair
    answered = ask_many(one.port, 700) + ask_many(two.port, 300)
    expected = {color.decode(): count for color, count in answered.items()}
    addresses = admin_of(one), f"http://{admin_of(two)}/"

    wait_until(lambda: read_requests(read_frame(*addresses)) == expected, f"{expected}")

    frame = read_frame(*addresses)
    assert [color["share_asked"] for color in frame["colors"]] == [0.8, 0.2]
    assert [color["endpoints"][0]["known_to"] for color in frame["colors"]] == [2, 2]
    assert all(color["p50_ms"] > 0 for color in frame["colors"])
    done = run_command("top", *addresses, "--once", "--window", "300")
    assert done.returncode == 0
    assert f"in the window {expected['blue']} requests, 0 errors" in done.stdout
    assert f"in the window {expected['green']} requests, 0 errors" in done.stdout
    assert "2 of 2 replicas ready" in done.stdout


def test_a_replica_that_is_dead_is_named_and_the_others_are_shown(pair: tuple[Proxy, Proxy]) -> None:
    """A replica that does not answer is named with the reason; the figures are the others'; exit 0."""
    dead = f"127.0.0.1:{find_free_port()}"
    done = run_command("top", admin_of(pair[0]), dead, admin_of(pair[1]), "--once")
    assert done.returncode == 0
    assert "2 of 3 replicas ready" in done.stdout
    assert f"  replica {dead}: connection refused\n" in done.stdout


def test_nobody_answers() -> None:
    """Where no replica answers, one picture is no picture: it says why, and the exit status is 1."""
    done = run_command("top", f"127.0.0.1:{find_free_port()}", "--once")
    assert (done.returncode, done.stderr) == (1, "")
    assert "no replica answers" in done.stdout
    assert "connection refused" in done.stdout


def test_replicas_that_ask_for_different_shares_are_marked(backend: QuickOrigin) -> None:
    """While an update rolls, what is asked for is between old and new, and who differs is marked."""
    colors = {"BLUE": backend.url, "GREEN": backend.url}
    with serving(colors | {"GREEN_WEIGHT": "0"}) as old, serving(colors) as new:
        frame = read_frame(admin_of(old), admin_of(new))
    assert [color["share_asked"] for color in frame["colors"]] == [0.75, 0.25]
    assert sorted(replica["differs"] for replica in frame["replicas"]) == [False, True]


def test_the_token_is_asked_for_and_taken_from_wherever_the_proxy_has_it(
    backend: QuickOrigin, tmp_path: Path
) -> None:
    """
    Without the token it is said what is missing; with it, from the command line, the environment or the files
    of SILLYPROXY_ENV_FILE, there is a picture. The proxy of this machine needs no address.
    """
    token = "a-long-enough-secret-of-the-edge"
    with serving({"BLUE": backend.url, "SILLYPROXY_ADMIN_TOKEN": token}) as proxy:
        address = admin_of(proxy)
        file = tmp_path / "edge.env"
        file.write_text(f"SILLYPROXY_ADMIN={address}\nSILLYPROXY_ADMIN_TOKEN={token}\n")

        without = run_command("top", "--once", SILLYPROXY_ADMIN=address)
        wrong = run_command("top", address, "--once", "--token", "another")
        typed = run_command("top", address, "--once", "--token", token)
        environment = run_command("top", "--once", SILLYPROXY_ADMIN=address, SILLYPROXY_ADMIN_TOKEN=token)
        files = run_command("top", "--once", SILLYPROXY_ENV_FILE=str(file))

    assert (without.returncode, wrong.returncode) == (1, 1)
    assert "it asks for a token: SILLYPROXY_ADMIN_TOKEN" in without.stdout
    assert "it does not accept this token" in wrong.stdout
    assert token not in typed.stdout
    for done in (typed, environment, files):
        assert (done.returncode, "only blue is configured" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense:port"], "nonsense:port is no address"),
        (["--window", "7"], "7"),
        (["--interval", "0"], "0"),
    ],
)
def test_a_mistake_on_the_command_line_is_said_in_a_line(arguments: list[str], said: str) -> None:
    """A mistake in what was typed: what is wrong, exit status 1, no traceback."""
    done = run_command("top", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_admin_listener_there_is_nothing_to_ask() -> None:
    """With SILLYPROXY_ADMIN=off and no address, top says so."""
    done = run_command("top", SILLYPROXY_ADMIN="off")
    assert (done.returncode, "SILLYPROXY_ADMIN=off" in done.stderr) == (1, True)


# For as long as one looks.


def test_in_a_pipe_a_block_of_lines_comes_each_interval(pair: tuple[Proxy, Proxy]) -> None:
    """Piped, there is a block of lines each interval, until Ctrl-C, which is no failure."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sillyproxy", "top", *map(admin_of, pair), "--interval", "0.2"],
        env=make_environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    blocks = 0
    for line in process.stdout:
        blocks += not line.startswith(" ")
        if blocks == 3:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, "")


def test_on_a_terminal_a_canary_that_fails_is_seen(backend: QuickOrigin, pair: tuple[Proxy, Proxy]) -> None:
    """
    On a terminal the picture follows what happens: green fails behind a replica, and the picture says
    that it is worse than blue. NO_COLOR is honoured; q gives the terminal back as it was, with exit status 0.
    """
    env = {"BLUE": backend.url, "GREEN": backend.url, "GREEN_WEIGHT": "1"}
    with origin() as failing, serving(env | {"GREEN": failing.url, "SILLYPROXY_EJECT_AFTER": "0"}) as proxy:
        failing.mood = lambda number: "/status/500" if number % 3 == 0 else ""
        with (
            loading(proxy.port, 4, lambda number: (b"GET", GET % b"/"), pause_s=0.002),
            terminal(admin_of(proxy), admin_of(pair[0]), "--interval", "0.3", NO_COLOR="1") as screen,
        ):
            screen.wait(r"✗ green is worse than blue: fails \d+ points more")
            screen.wait(r"blue +req/s [ ·]*[▁▂▃▄▅▆▇█]")
            screen.wait(r"green +[\d.]+ % +[\d.]+ % +[\d,.]+ +[\d.]+ %!")
            assert not COLORED.search(screen.seen)

            screen.forget()
            screen.type("w")
            screen.wait("window 5 min")

            screen.forget()
            screen.resize(60, 16)
            wait_until(lambda: is_drawn_for(screen, 60), "a picture of 60 columns")

            screen.type("q")
            assert screen.wait_end() == 0
            assert screen.is_as_before()


def is_drawn_for(screen: Terminal, columns: int) -> bool:
    """Whether the last whole picture has lines of that many columns at most."""
    screen.read()
    pictures = screen.seen.split("\x1b[H")
    lines = CONTROL.sub("", pictures[-2]).splitlines() if len(pictures) > 2 else []
    return bool(lines) and max(map(len, lines)) == columns


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(number: signal.Signals, pair: tuple[Proxy, Proxy]) -> None:
    """Ctrl-C, SIGTERM: the terminal is as before, the exit status is 0, and nothing else is written."""
    with terminal(admin_of(pair[0])) as screen:
        screen.wait("ready")
        if number == signal.SIGINT:
            screen.type("\x03")
        else:
            screen.process.send_signal(number)
        assert screen.wait_end() == 0
        assert screen.is_as_before()
        assert "Traceback" not in screen.seen


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(pair: tuple[Proxy, Proxy]) -> None:
    """Stopped with Ctrl-Z, the shell finds its terminal as it was; continued, the picture is drawn again."""
    with terminal(admin_of(pair[0])) as screen:
        screen.wait("ready")
        screen.type("\x1a")
        wait_until(lambda: read_state(screen.process.pid) == "T", "the stop")
        screen.read()
        assert screen.is_as_before()

        screen.forget()
        screen.process.send_signal(signal.SIGCONT)
        screen.wait("ready")
        screen.type("q")
        assert screen.wait_end() == 0


def read_state(pid: int) -> str:
    """Return the state of a process, as `ps` shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_without_rich_there_are_lines_and_what_to_install(pair: tuple[Proxy, Proxy]) -> None:
    """On a terminal without `rich`, one line says what to install, and the figures come as lines."""
    code = (
        "import sys; sys.modules['rich'] = sys.modules['rich.live'] = None;"
        "from sillyproxy.__main__ import main; sys.exit(main())"
    )
    with terminal(admin_of(pair[0]), code=code) as screen:
        screen.wait(r"pip install 'sillyproxy\[top\]'")
        screen.wait(r"  verdict: ")
        screen.type("\x03")
        assert screen.wait_end() == 0


def test_a_replica_that_dies_while_one_looks_is_shown_and_the_rest_goes_on(pair: tuple[Proxy, Proxy]) -> None:
    """A replica is killed: within seconds it is shown as silent, since when, and the others go on."""
    one, two = pair
    with terminal(admin_of(one), admin_of(two), "--interval", "0.3") as screen:
        screen.wait("2 of 2 replicas ready")
        os.killpg(two.process.pid, signal.SIGKILL)
        screen.wait("1 of 2 replicas ready")
        screen.wait(r"✗ +\S+ +.*connection refused, last heard \d+ s")
        screen.forget()
        screen.wait("1 of 2 replicas ready")
