"""What the kernel knows of a process."""

from __future__ import annotations

import os
from pathlib import Path

from sillyproxy.tools.procfs import read_figures


def test_figures_are_those_of_the_process() -> None:
    """Memory, files and CPU time of a process are what the kernel says of it."""
    before = read_figures(os.getpid())
    with open(os.devnull) as _, open(os.devnull) as _:
        after = read_figures(os.getpid())
    assert before is not None
    assert after is not None
    assert after.open_files == before.open_files + 2
    assert 1 << 20 < before.memory_bytes < 1 << 40
    assert after.cpu_s >= before.cpu_s > 0
    assert before.max_files is None or before.max_files > before.open_files


def test_process_that_is_gone_has_none(tmp_path: Path) -> None:
    """A process that ended meanwhile, or is none, has no figures, and asking breaks nothing."""
    assert read_figures(1, tmp_path) is None
    assert read_figures(1 << 30) is None


def test_strange_name_does_not_mislead(tmp_path: Path) -> None:
    """A program may be named so that it looks like the end of its name; an older kernel counts no files."""
    folder = tmp_path / "7"
    (folder / "fd").mkdir(parents=True)
    (folder / "statm").write_text("10 5 1 1 0 1 0\n")
    (folder / "stat").write_text("7 (a) R 9) S " + " ".join(map(str, range(1, 40))) + "\n")
    (folder / "limits").write_text(
        "Max open files            unlimited            unlimited            files\n"
    )
    figures = read_figures(7, tmp_path)
    assert figures is not None
    assert figures.memory_bytes == 5 * os.sysconf("SC_PAGE_SIZE")
    assert figures.cpu_s == (11 + 12) / os.sysconf("SC_CLK_TCK")
    assert figures.max_files is None
