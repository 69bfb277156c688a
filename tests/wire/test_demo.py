"""`sillyproxy demo`, as somebody who tries sillyproxy for the first time sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from sillyproxy.demo.load import Load
from sillyproxy.demo.processes import Processes
from sillyproxy.demo.story import Step, Story
from tests.wire.running import ask, make_environment, wait_until

PATIENCE_S = 120.0
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MARK = "DEMO_TEST_MARK"  # every process of a demo inherits it

pytestmark = pytest.mark.slow


class Demo:
    """A running demo, and all processes that it started."""

    def __init__(self, *arguments: str, stdout: int = subprocess.PIPE, **settings: str) -> None:
        self.mark = uuid.uuid4().hex
        environment = make_environment({MARK: self.mark, "TERM": "xterm-256color"} | settings)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sillyproxy", "demo", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out or "", err

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read standard output up to a line that matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := re.search(pattern, line):
                return match
        pytest.fail(f"the output ended without {pattern!r}")

    def running(self) -> dict[int, str]:
        """Return the pid and the command line of each of its processes that live."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes():
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def others(self) -> dict[int, str]:
        """Return its processes but for itself."""
        return {pid: command for pid, command in self.running().items() if pid != self.process.pid}


@pytest.fixture
def start() -> Iterator[Callable[..., Demo]]:
    """Start demos; whatever is left of them in the end is killed."""
    demos: list[Demo] = []

    def start_one(*arguments: str, stdout: int = subprocess.PIPE, **settings: str) -> Demo:
        demos.append(Demo(*arguments, stdout=stdout, **settings))
        return demos[-1]

    yield start_one
    for demo in demos:
        for pid in demo.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        demo.process.communicate()


def test_piped_demo_tells_the_story_in_lines_loses_nothing_and_leaves_nothing(
    start: Callable[..., Demo],
) -> None:
    """
    In a pipe the demo says a line a step, with the shares that were asked for and 0 failed, exits 0, and
    no process of it is left. What the caller's environment says about colors is not its business.
    """
    demo = start(BLUE="http://127.0.0.1:1", GREEN_WEIGHT="7", V2="1", SILLYPROXY_LISTEN="nonsense")

    status, out, err = demo.finish()

    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    shares = (
        r"blue 100\.0 %",
        r"blue 100\.0 %",
        r"blue (\S+) % green (\S+) %",
        r"green 100\.0 %",
        r"blue 100\.0 %",
    )
    titles = "v1 alone", "scale to four", "canary 20 %", "all green", "rollback"
    assert len(lines) == 5
    for number, (line, title, share) in enumerate(zip(lines, titles, shares, strict=True), 1):
        assert re.fullmatch(rf"step {number}/5 {title}: {share} of [0-9,]+ requests, 0 failed", line), line
    blue, green = (float(part) for part in re.findall(r"([0-9.]+) %", lines[2])[1:])
    assert abs(blue - 80) < 1.5
    assert abs(green - 20) < 1.5
    assert re.search(r"^total: [0-9,]+ requests, 0 failed, [0-9]+ s$", out, re.MULTILINE)
    for answer in ("unknown v1-1", "blue v1-4", "<h1>v2-1 (unknown)</h1>", "<h1>v2-4 (green)</h1>"):
        assert answer in out
    assert demo.running() == {}


def test_on_a_terminal_the_demo_draws_and_leaves_a_table(start: Callable[..., Demo]) -> None:
    """
    On a terminal the demo shows the shares while they come in, and at the end a table of all steps stays;
    NO_COLOR is honoured, and the cursor is given back.
    """
    terminal, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    demo = start(stdout=side, NO_COLOR="1", PYTHONIOENCODING="utf-8")
    os.close(side)

    seen = bytearray()
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
    os.close(terminal)
    status, _, err = demo.finish()

    assert (status, err) == (0, "")
    text = seen.decode()
    picture, _, table = (CONTROL.sub("", part) for part in text.rpartition("\x1b[?25h"))
    assert "step 3/5 canary 20 %" in picture
    assert "asked  20 %" in picture
    assert not re.search(r"\x1b\[[0-9;]*\b(3[0-7]|38|9[0-7])\b[0-9;]*m", text)
    assert re.search(r"3 canary 20 %.*(79|80)\.\d %.*\b0\s", table), table
    assert re.search(r"in all\s+[0-9,]+\s+0\s", table), table


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_demo_that_is_stopped_halfway_leaves_no_process(
    number: signal.Signals, start: Callable[..., Demo]
) -> None:
    """
    Ctrl-C, SIGTERM or the end of the terminal: the demo stops all that it started, and its status says why.
    """
    demo = start()
    demo.read_until(r"^step 1/5")

    demo.process.send_signal(number)

    status, _, err = demo.finish()
    assert (status, err) == (128 + number, "")
    assert demo.running() == {}


def test_kept_demo_serves_until_ctrl_c(start: Callable[..., Demo]) -> None:
    """
    With --keep the last step's proxies go on serving at the address that is printed; Ctrl-C ends it with 0.
    """
    demo = start("--keep")
    address = demo.read_until(r"^  proxy http://(\S+)/ ")[1]

    assert re.fullmatch(r"blue v1-\d\n", ask(address, "/")[1])

    demo.process.send_signal(signal.SIGINT)
    status, _, err = demo.finish()
    assert (status, err) == (0, "")
    assert demo.running() == {}


@pytest.mark.parametrize(
    ("what", "name"), [("myapp.py", r"v1-\d"), ("serve", r"proxy \d of step \d")], ids=["backend", "proxy"]
)
def test_demo_whose_process_dies_says_which(what: str, name: str, start: Callable[..., Demo]) -> None:
    """
    A process that dies is no part of the story: the demo ends with 1, names it, and cleans up.
    """
    demo = start()
    demo.read_until(r"^step 1/5")
    children = Path(f"/proc/{demo.process.pid}/task/{demo.process.pid}/children").read_text().split()
    victim = next(pid for pid in map(int, children) if what in demo.others().get(pid, ""))

    os.kill(victim, signal.SIGKILL)

    status, _, err = demo.finish()
    assert status == 1
    assert re.fullmatch(rf"sillyproxy demo: {name} (died \(SIGKILL\)|did not start).*\n", err), err
    wait_until(lambda: not demo.running(), "the end of every process")


def make_canary(blue: int, green: int, replicas: int = 4) -> Step:
    """Return the third step of a story, with these many answers of each color."""
    step = Story(Processes()).steps[2]
    for number in range(blue):
        step.tally.record(200, f"blue v1-{number % replicas + 1}\n")
    for _ in range(green):
        step.tally.record(200, "<h1>v2-1 (green)</h1>")
    return step


def test_step_with_the_asked_shares_from_all_replicas_is_as_expected() -> None:
    """The demo does not cry wolf: a few requests beside the share are the split's own precision."""
    assert make_canary(803, 197).problems() == []


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (make_canary(760, 240), "blue answered 760 requests in place of 800"),
        (make_canary(800, 200, replicas=3), "answers came from v1-1, v1-2, v1-3, v2-1 and not from"),
        (make_canary(1000, 0), "green answered 0 requests in place of 200"),
    ],
    ids=["share", "replica", "color"],
)
def test_step_that_does_not_show_what_it_should_says_so(step: Step, problem: str) -> None:
    """A share that is off, a replica or a color that is missing: the demo says which, with numbers."""
    assert any(found.startswith(f"step 3, canary 20 %: {problem}") for found in step.problems()), (
        step.problems()
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the connection ended without an answer"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nblue",
            "the connection ended in the middle of an answer",
        ),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nsick", "503 'sick'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblue", "200 'blue'"),
    ],
    ids=["none", "half", "error", "other"],
)
async def test_load_counts_whatever_is_not_a_page_as_a_failure(answer: bytes, reason: str) -> None:
    """What the demo calls 0 failed: no answer, half an answer, an error or another page is a failure."""

    async def be_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(be_server, "127.0.0.1", 0)
    async with server:
        load = Load()
        load.addresses = ["{}:{}".format(*server.sockets[0].getsockname())]
        load.start()
        async with asyncio.timeout(PATIENCE_S):
            while load.tally.requests < 10:
                await asyncio.sleep(0.01)
        await load.stop()

    assert load.tally.failed == load.tally.requests
    assert all(found.endswith(reason) for found in load.tally.failures), load.tally.failures
