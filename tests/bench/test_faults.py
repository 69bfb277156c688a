"""The parts of the fault benchmark that decide what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench.faults import put_tables
from bench.faults_load import plan_arrivals, read_response
from bench.faults_subjects import CLASSES, CONTENDERS, Setup
from bench.faults_summary import (
    Entry,
    Phases,
    build_bins,
    build_summary,
    find_quiet,
    merge_bins,
    print_table,
    summarize,
)

PHASES = Phases(5.0, 20.0, 10.0)


def make_entries(*errors_at_s: float, step_s: float = 0.01) -> list[Entry]:
    """A request every 10 ms over all phases, and one more that fails at each of these times."""
    fine = [Entry(step * step_s, 0.001, "ok", "r") for step in range(int(PHASES.whole_s / step_s))]
    return sorted(fine + [Entry(at, 0.002, "502", "") for at in errors_at_s], key=lambda entry: entry.due_s)


def make_sample(
    round_number: int, subject: str = "nginx", problem: str = "", **figures: Any
) -> dict[str, Any]:
    defaults = summarize(make_entries(), PHASES)
    return {
        "fault": "hang",
        "kind": "careful",
        "subject": subject,
        "round": round_number,
        "problem": problem,
        "bad_share": 0.25,
        "figures": defaults | figures,
    }


def test_subject_is_quiet_when_two_seconds_pass_without_an_error() -> None:
    """
    The time to react ends with the last error before two good seconds; a later relapse does not move it.
    """
    entries = make_entries(5.1, 6.0, 7.5, 20.0)

    assert find_quiet(entries, PHASES) == pytest.approx(2.5)


def test_subject_without_an_error_is_quiet_at_once() -> None:
    """
    Who shows the client nothing of the fault has reacted in no time.
    """
    assert find_quiet(make_entries(), PHASES) == 0.0


def test_subject_that_never_stops_failing_is_never_quiet() -> None:
    """
    Errors that end only with the fault itself are no reaction.
    """
    entries = make_entries(*(5.0 + step for step in range(20)))

    assert find_quiet(entries, PHASES) is None


def test_end_of_the_fault_is_not_taken_for_a_reaction() -> None:
    """
    What hangs in the last seconds is answered because the fault ends, not because the proxy noticed.
    """
    entries = make_entries(*(5.0 + step for step in range(18)))

    assert find_quiet(entries, PHASES) is None


def test_errors_count_in_the_phase_in_which_they_were_asked() -> None:
    """
    Errors after the fault are told apart from those during it.
    """
    figures = summarize(make_entries(6.0, 6.5, 30.0), PHASES)

    assert (figures["errors"], figures["errors_before_quiet"], figures["after_errors"]) == (2, 2, 1)
    assert figures["kinds"] == {"502": 2}
    assert figures["healthy_errors"] == 0


def test_relapse_is_an_error_but_not_before_the_reaction() -> None:
    """
    A proxy that tries the bad replica again on a client is shown with it.
    """
    figures = summarize(make_entries(5.5, 15.0), PHASES)

    assert (figures["errors"], figures["errors_before_quiet"]) == (2, 1)


def test_bins_hold_every_request_once() -> None:
    """
    The picture shows all requests, also those that were due at the very end.
    """
    entries = make_entries(34.9999)
    bins = build_bins(entries, PHASES.whole_s)

    assert sum(one["requests"] for one in bins) == len(entries)
    assert len(bins) == 70
    assert bins[-1]["errors"] == 1


def test_picture_adds_the_errors_of_the_rounds_up() -> None:
    """
    An error of one round is in the picture, whatever the other rounds were like.
    """
    rounds = [{"bins": build_bins(make_entries(*errors), PHASES.whole_s)} for errors in ((6.1,), (), ())]
    times, rates, _ = merge_bins(rounds)

    assert rates[times.index(6.0)] == pytest.approx(100 / 151)
    assert sum(rates) == pytest.approx(100 / 151)


def test_subject_that_is_never_quiet_in_most_rounds_is_told_so() -> None:
    """
    A median of "never" is "never", and a run with a problem is not counted.
    """
    samples = [make_sample(number, quiet_s=quiet) for number, quiet in enumerate([None, None, 1.0])]
    samples.append(make_sample(3, problem="it did not start", quiet_s=0.5))
    (row,) = build_summary(samples)

    assert row["quiet_s"] is None
    assert row["rounds"] == 3


def test_table_names_every_subject_of_its_fault_and_class() -> None:
    """
    A table is of one fault and one class of configuration.
    """
    rows = build_summary([make_sample(0, "nginx"), make_sample(0, "Envoy")])

    assert "| nginx |" in print_table(rows, "hang", "careful")
    assert "| Envoy |" in print_table(rows, "hang", "careful")
    assert print_table(rows, "hang", "defaults") == ""


def test_tables_of_a_page_are_replaced_and_nothing_else() -> None:
    """
    A new run changes the figures of the page and leaves its words.
    """
    page = "words\n<!-- a -->\nold\nold\n<!-- /a -->\nmore words\n"

    assert put_tables(page, {"a": "| \\1 |"}) == "words\n<!-- a -->\n| \\1 |\n<!-- /a -->\nmore words\n"
    with pytest.raises(ValueError, match="no place for b"):
        put_tables(page, {"b": "new"})


def test_page_has_a_place_for_every_table() -> None:
    """
    A whole run finds where its figures belong.
    """
    from bench.faults import PAGE
    from bench.faults_run import FAULTS

    put_tables(PAGE.read_text(), {f"{kind}-{fault}": "" for kind in CLASSES for fault in FAULTS})


def test_load_is_the_same_for_the_same_seed_and_never_bunches() -> None:
    """
    All subjects get the same arrivals, one in each slot.
    """
    arrivals = plan_arrivals(100, 2, seed=7)

    assert arrivals == plan_arrivals(100, 2, seed=7) != plan_arrivals(100, 2, seed=8)
    assert [int(due * 100) for due in arrivals] == list(range(200))


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "ok"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "502"),
        (b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\n<html>", "503"),
        (b"HTTP/1.1 200 OK\r\n\r\nwho knows", "no length"),
    ],
)
def test_outcome_is_ok_for_a_whole_200_alone(data: bytes, outcome: str) -> None:
    """
    What is not a 200 with its whole body is a failure.
    """
    response = read_response(data)

    assert response is not None
    assert response[0] == outcome


@pytest.mark.parametrize("contender", CONTENDERS.values(), ids=CONTENDERS.keys())
@pytest.mark.parametrize("kind", CLASSES)
def test_every_subject_has_the_same_timeouts_and_replicas(
    contender: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nobody is ahead because it may wait for longer or knows fewer replicas.
    """
    monkeypatch.setattr("bench.faults_subjects.subjects.envoy_binary", lambda: "envoy")
    replicas = [f"127.0.0.4{n}:80" for n in range(1, 5)]
    contender.launch(Setup(18080, replicas, kind == "careful", tmp_path))
    (text,) = (path.read_text() for path in tmp_path.iterdir())
    connect, response = {
        "sillyproxy": ("CONNECT_TIMEOUT=1\n", "RESPONSE_TIMEOUT=2\n"),
        "nginx": ("proxy_connect_timeout 1s;", "proxy_read_timeout 2s;"),
        "HAProxy": ("timeout connect 1s\n", "timeout server 2s\n"),
        "Envoy": ('"connect_timeout": "1s"', '"2s"'),
    }[contender.name]

    assert connect in text
    assert response in text
    for replica in replicas:
        assert replica in text or f'"{replica.partition(":")[0]}"' in text
    if contender.name == "Envoy":
        json.loads(text)
