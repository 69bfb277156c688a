"""What the benchmark reads of processes and CPUs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from bench.machine import (
    Clock,
    Cpu,
    divide_cpu,
    read_clocks,
    read_stat,
    read_tree,
    share_cpus,
    subtract_clocks,
)


def test_program_name_with_brackets_and_spaces_does_not_shift_the_fields() -> None:
    """
    CPU time is read right whatever a program calls itself.
    """
    line = "42 (worker (1) S 9) S 7 42 42 0 -1 4194560 9 0 0 0 150 250 0 0 20 0 1"

    assert read_stat(line) == (7, 150, 250)


def test_exact_time_is_divided_as_the_ticks_are() -> None:
    """
    User and system time add up to the kernel's exact clock, not to the coarse ticks.
    """
    assert divide_cpu(100.0, 1, 3) == Cpu(100.0, 25.0, 75.0)


def test_time_without_a_tick_is_not_lost() -> None:
    """
    A process that ran for less than a tick still counts.
    """
    assert divide_cpu(40.0, 0, 0).total_us == 40.0


def test_process_born_during_a_measurement_counts_from_its_birth() -> None:
    """
    A worker that was started under load is not left out of the CPU time.
    """
    spent = subtract_clocks({1: Clock(1000, 0, 0)}, {1: Clock(3000, 0, 0), 2: Clock(5000, 0, 0)})

    assert {pid: cpu.total_us for pid, cpu in spent.items()} == {1: 2.0, 2: 5.0}


def test_process_that_ended_spoils_the_sample() -> None:
    """
    A subject whose worker died is not shown as a cheap one.
    """
    with pytest.raises(ProcessLookupError):
        subtract_clocks({1: Clock(1, 0, 0), 2: Clock(1, 0, 0)}, {1: Clock(2, 0, 0)})


def test_grandchildren_belong_to_the_tree() -> None:
    """
    The whole process tree is measured: master, workers, and what they start.
    """
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # now the grandchild runs
        tree = read_tree(process.pid)
        process.communicate("\n")

    assert len(tree) == 2


def test_clock_of_another_process_sees_its_work() -> None:
    """
    CPU time of a subject is what it used itself, in the kernel's own count.
    """
    script = "import time\nwhile time.process_time() < 0.2: pass\nprint(1, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        clock = read_clocks(process.pid)[process.pid]
        process.communicate("\n")

    assert clock.total_ns >= 200_000_000


@pytest.mark.parametrize(
    ("available", "workers", "expected"),
    [
        ({0, 1}, 1, ({1}, {0})),
        ({0, 1}, 2, ({0, 1}, {0, 1})),
        ({3}, 1, ({3}, {3})),
        ({0, 1, 2, 3}, 2, ({2, 3}, {0, 1})),
    ],
)
def test_subject_and_load_are_apart_where_there_are_cpus_for_both(
    available: set[int], workers: int, expected: tuple[set[int], set[int]]
) -> None:
    """
    The load does not take CPU from the subject, but for a machine too small to part them.
    """
    assert share_cpus(available, workers) == expected


def test_tree_of_a_process_holds_itself() -> None:
    """
    A subject of one process is measured too.
    """
    assert os.getpid() in read_tree(os.getpid())
