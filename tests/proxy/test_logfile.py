"""The way of whole lines into a file or a pipe."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sillyproxy.proxy.logfile import MAX_LINE_BYTES, MAX_WAITING_BYTES, LineWriter, open_writer, reopen

PATIENCE_S = 20.0


def open_file(path: Path) -> LineWriter:
    """Return the writer of a file."""
    writer = open_writer(str(path))
    assert writer is not None
    return writer


def watch_writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what is written from now on, one item a call."""
    written: list[bytes] = []
    write = os.write

    def watched(fd: int, data: bytes) -> int:
        written.append(bytes(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", watched)
    return written


def test_off_has_no_writer() -> None:
    """What is off has no thread and no descriptor."""
    assert open_writer("off") is None


def test_file_gets_a_batch_in_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A regular file takes all that is there at once."""
    written = watch_writes(monkeypatch)
    writer = open_file(tmp_path / "log")
    lines = b"".join(b"%d %b\n" % (number, b"x" * 200) for number in range(100))
    writer.write(bytearray(lines))
    writer.close(PATIENCE_S)

    assert (tmp_path / "log").read_bytes() == lines
    assert written == [lines]


def test_pipe_gets_whole_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is given whole lines, never more than it takes whole, so that writers do not mix."""
    ours, theirs = os.pipe()
    written = watch_writes(monkeypatch)
    writer = LineWriter(theirs, owned=True)
    lines = [b"%b\n" % (b"x" * (number * 37 % MAX_LINE_BYTES)) for number in range(100)]
    lines += [b"y" * (MAX_LINE_BYTES - 1) + b"\n"]
    for start in range(0, len(lines), 10):
        writer.write(bytearray(b"".join(lines[start : start + 10])))
    data = b""
    while len(data) < sum(map(len, lines)):
        data += os.read(ours, 65536)
    writer.close(PATIENCE_S)
    os.close(ours)

    assert data == b"".join(lines)
    assert all(len(part) <= MAX_LINE_BYTES and part.endswith(b"\n") for part in written)


def test_what_nobody_takes_is_given_up_and_counted() -> None:
    """Behind a reader that has stopped at most a mebibyte waits; lines past it are counted, nobody blocks."""
    ours, theirs = os.pipe()
    writer = LineWriter(theirs, owned=True)
    batch = b"x" * 1023 + b"\n"
    for _ in range(2 * MAX_WAITING_BYTES // 8192):
        writer.write(bytearray(batch * 8))
    assert writer.dropped >= MAX_WAITING_BYTES // 1024 - 8
    assert writer.reason == "nobody reads them"
    os.close(ours)
    writer.close(PATIENCE_S)


def test_lines_made_before_the_file_was_opened_again_are_in_the_old_one(tmp_path: Path) -> None:
    """What was handed over before a rename goes to the renamed file, what comes later to the new one."""
    path, old = tmp_path / "log", tmp_path / "log.1"
    writer = open_file(path)
    writer.write(bytearray(b"one\n"))
    path.rename(old)
    reopen(str(path), writer)
    writer.write(bytearray(b"two\n"))
    writer.close(PATIENCE_S)

    assert old.read_bytes() == b"one\n"
    assert path.read_bytes() == b"two\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_pipe_without_a_reader_is_no_file_to_go_on_with(tmp_path: Path) -> None:
    """A named pipe in the place of the file, which nobody reads, holds nobody up: the old file is kept."""
    path = tmp_path / "log"
    writer = open_file(path)
    path.rename(tmp_path / "old")
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        reopen(str(path), writer)
    writer.write(bytearray(b"one\n"))
    writer.close(PATIENCE_S)

    assert (tmp_path / "old").read_bytes() == b"one\n"


def failing_after(taken: int, times: int) -> Callable[[int, bytes], int]:
    """Return a write that takes so many bytes, then finds the disk full so many times, and then room."""
    write, state = os.write, {"left": taken, "times": times}

    def attempt(fd: int, data: bytes) -> int:
        if not state["times"]:
            return write(fd, data)
        if state["left"]:
            count = write(fd, data[: state["left"]])
            state["left"] = 0
            return count
        state["times"] -= 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return attempt


@pytest.mark.parametrize(
    ("taken", "found", "dropped"),
    [(0, b"four\nfive\n", 3), (4, b"one\nfour\nfive\n", 2), (6, b"one\ntw\nfour\nfive\n", 2)],
)
def test_full_disk_spoils_no_later_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int, found: bytes, dropped: int
) -> None:
    """When there is room again the next line is one of its own; lines given up are counted."""
    monkeypatch.setattr(os, "write", failing_after(taken, 1))
    writer = open_file(tmp_path / "log")
    writer.write(bytearray(b"one\ntwo\nthree\n"))
    writer.write(bytearray(b"four\nfive\n"))
    writer.close(PATIENCE_S)

    assert (tmp_path / "log").read_bytes() == found
    assert writer.dropped == dropped
    assert writer.reason == "no space left on device"
