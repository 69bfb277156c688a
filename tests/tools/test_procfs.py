"""What a process uses."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sillyproxy.tools.procfs import Figures, read_figures

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max processes             63474                63474                processes
Max open files            {soft}                 524288               files
"""


def make_process(root: Path, *, name: str = "python3", soft: str = "1024", files: int = 3) -> None:
    """Write what a kernel would tell of process 7."""
    folder = root / "7"
    (folder / "fd").mkdir(parents=True)
    for number in range(files):
        (folder / "fd" / str(number)).touch()
    after = ["S", *map(str, range(4, 14)), str(3 * TICKS_PER_S), str(TICKS_PER_S // 2), "0", "0"]
    (folder / "stat").write_text(f"7 ({name}) {' '.join(after)}\n")
    (folder / "statm").write_text("9000 250 40 1 0 500 0\n")
    (folder / "limits").write_text(LIMITS.format(soft=soft))


@pytest.mark.parametrize("name", ["python3", "a) S 1 2 (b", "two words"])
def test_process_whatever_its_name(tmp_path: Path, name: str) -> None:
    """Memory, CPU time and the limit are read right, whatever a process calls itself."""
    make_process(tmp_path, name=name)

    usage = read_figures(7, tmp_path)

    assert usage is not None
    assert (usage.memory_bytes, usage.cpu_s, usage.max_files) == (250 * PAGE_BYTES, 3.5, 1024)


def test_no_limit_is_none(tmp_path: Path) -> None:
    """A process that may open any number of files has no limit, not a limit of some number."""
    make_process(tmp_path, soft="unlimited")

    usage = read_figures(7, tmp_path)

    assert usage is not None
    assert usage.max_files is None


def test_process_that_is_gone_is_none(tmp_path: Path) -> None:
    """A worker that has just died has no figures; nobody fails over it."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()

    assert read_figures(process.pid) is None
    assert read_figures(7, tmp_path) is None


def test_answer_that_is_no_number_is_none(tmp_path: Path) -> None:
    """Where the kernel answers something else (a sandbox), there are no figures rather than wrong ones."""
    make_process(tmp_path)
    (tmp_path / "7" / "stat").write_text("7 (python3) S 1\n")

    assert read_figures(7, tmp_path) is None


def read_self() -> Figures:
    usage = read_figures(os.getpid())
    assert usage is not None
    return usage


def test_open_files_are_counted() -> None:
    """Each descriptor counts, and counts no more once it is closed; the limit is the one in force."""
    before = read_self()
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    during = read_self()
    for file in files:
        os.close(file)

    assert during.open_files == before.open_files + 50
    assert read_self().open_files == before.open_files
    assert before.max_files == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_memory_and_cpu_time_are_those_used() -> None:
    """Memory grows by what is written to, CPU time by what is worked."""
    before = read_self()
    # Mapped anew: an allocator may hand out what the process holds already.
    held = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(held), mmap.PAGESIZE):
        held[offset] = 1
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    after = read_self()

    held.close()
    assert after.memory_bytes - before.memory_bytes > 48 << 20
    assert after.cpu_s - before.cpu_s >= 0.1 - 2 / TICKS_PER_S
    assert abs(after.cpu_s - time.process_time()) < 1
