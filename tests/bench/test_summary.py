"""From raw samples to the figures that are published."""

from __future__ import annotations

from typing import Any

import pytest
from bench.run import Sample, rotate
from bench.subjects import SUBJECTS
from bench.summary import Row, build_summary, find_disturbance, format_us, print_table, summarize


def make_sample(subject: str, round_number: int, cpu_us: float, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "requests": 10,
        "seconds": 2.0,
        "cpu_us": cpu_us * 10,
        "user_us": cpu_us * 4,
        "system_us": cpu_us * 6,
        "workers_us": cpu_us * 9,
    }
    return vars(Sample("tiny", subject, round_number, **(values | more)))


def row_of(rows: list[Row], subject: str) -> Row:
    return next(row for row in rows if row.subject == subject)


def test_figure_is_the_median_of_the_rounds() -> None:
    """
    One disturbed round does not move the published figure.
    """
    rows = summarize([make_sample("Go", number, cpu) for number, cpu in enumerate([30.0, 900.0, 40.0])])

    assert row_of(rows, "Go").cpu_us == 40.0


def test_ratio_is_of_the_medians() -> None:
    """
    "1.5 times nginx" compares the two published figures.
    """
    samples = [make_sample("nginx", number, cpu) for number, cpu in enumerate([20.0, 40.0, 30.0])]
    samples += [make_sample("Go", number, cpu) for number, cpu in enumerate([40.0, 45.0, 60.0])]

    assert row_of(summarize(samples), "Go").ratio == 1.5


def test_range_pairs_each_round_with_its_own_reference() -> None:
    """
    The range of ratios shows how steady the comparison was when the machine itself was not.
    """
    samples = [make_sample("nginx", number, cpu) for number, cpu in enumerate([10.0, 100.0])]
    samples += [make_sample("Go", number, cpu) for number, cpu in enumerate([20.0, 300.0])]
    row = row_of(summarize(samples), "Go")

    assert (row.ratio_low, row.ratio_high) == (2.0, 3.0)


def test_sample_with_a_problem_is_not_counted() -> None:
    """
    A run with failed requests does not make a subject look cheap.
    """
    samples = [make_sample("Go", 0, 50.0), make_sample("Go", 1, 1.0, problem="3 errors")]

    assert row_of(summarize(samples), "Go").cpu_us == 50.0


def test_without_the_reference_there_is_no_ratio() -> None:
    """
    Nothing is compared with a proxy that was not measured.
    """
    assert row_of(summarize([make_sample("Go", 0, 50.0)]), "Go").ratio is None


def test_user_and_system_add_up_to_the_whole() -> None:
    """
    The two parts of a bar are as long as its label says.
    """
    row = row_of(summarize([make_sample("Go", number, cpu) for number, cpu in enumerate([30.0, 50.0])]), "Go")

    assert row.user_us + row.system_us == pytest.approx(row.cpu_us)


def test_overhead_is_what_the_workers_did_not_spend() -> None:
    """
    What supervisor and controller cost is shown apart, and is in the headline too.
    """
    assert row_of(summarize([make_sample("sillyproxy", 0, 50.0)]), "sillyproxy").overhead_us == 5.0


def test_disturbed_scenario_is_named() -> None:
    """
    Whoever measures on a busy machine is told so.
    """
    samples = [make_sample("Go", number, 50.0, strangers=0.2) for number in range(3)]

    assert find_disturbance(summarize(samples)) == ["tiny"]


def test_order_rotates_so_that_each_goes_first_once() -> None:
    """
    No subject always runs after the one that warms or disturbs the machine.
    """
    subjects = list(SUBJECTS.values())
    rounds = [rotate(subjects, number) for number in range(len(subjects))]

    assert {order[0].name for order in rounds} == set(SUBJECTS)


def test_table_shows_every_subject_with_its_ratio() -> None:
    """
    The printed table tells what was measured and how it compares.
    """
    samples = [make_sample("nginx", 0, 20.0), make_sample("sillyproxy", 0, 25.0)]
    text = print_table(
        {
            "summary": build_summary(samples),
            "scenarios": {"tiny": {"title": "Tiny GET", "connections": 64}},
        }
    )
    line = next(line for line in text.splitlines() if "sillyproxy" in line)

    assert [*line.split()[1:3], line.split()[9]] == ["25.0", "µs", "1.25"]


@pytest.mark.parametrize(
    ("value_us", "expected"),
    [(0.41, "0.4 µs"), (33.14, "33.1 µs"), (250.4, "250 µs"), (1234.5, "1.23 ms"), (56789.0, "56.8 ms")],
)
def test_times_are_short_to_read(value_us: float, expected: str) -> None:
    """
    Three digits and a unit, whatever the size.
    """
    assert format_us(value_us) == expected
