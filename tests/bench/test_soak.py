"""The parts of the soak that decide what counts as lost, and what as growth."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bench.soak import PAGE, find_faults, read_lines
from bench.soak_backend import build_bytes, read_chunked
from bench.soak_churn import ACTIONS, find_roles
from bench.soak_load import RATES, Clients, build_request
from bench.soak_summary import build_report, explain, measure_growth, print_report


def make_event(what: str, at_s: float = 10.0, detail: str = "") -> dict[str, Any]:
    return {"what": what, "began_s": at_s, "ended_s": at_s + 0.01, "detail": detail, "problem": ""}


def make_failure(kind: str, how: str, begun_s: float, ended_s: float, reason: str = "") -> dict[str, Any]:
    return {"kind": kind, "how": how, "begun_s": begun_s, "ended_s": ended_s, "reason": reason}


def test_post_under_way_on_a_killed_backend_is_explained() -> None:
    """
    What was being acted on when its backend died cannot be asked again.
    """
    failure = make_failure("post", "WrongError", 9.98, 10.02, "502 sillyproxy; error=connection_terminated")

    assert explain(failure, [make_event("kill backend")]) == "under way on a backend that was killed"


def test_get_without_an_answer_yet_is_not_explained_by_a_killed_backend() -> None:
    """
    What can be asked again elsewhere has no excuse; what had begun to arrive has one.
    """
    event = make_event("kill backend")

    assert not explain(make_failure("get", "WrongError", 9.98, 10.02, "502"), [event])
    assert explain(make_failure("stream", "CutError", 9.0, 10.02), [event])


@pytest.mark.parametrize(("begun_s", "ended_s"), [(10.2, 10.3), (9.0, 9.8)])
@pytest.mark.parametrize("what", ["kill backend", "kill worker"])
def test_request_before_or_after_an_accident_is_not_explained_by_it(
    what: str, begun_s: float, ended_s: float
) -> None:
    """
    Only what was under way at that moment may break.
    """
    assert not explain(make_failure("post", "CutError", begun_s, ended_s), [make_event(what)])


def test_reply_of_the_proxy_is_not_explained_by_a_killed_worker() -> None:
    """
    A worker that is dead sends no 502; whoever got one was not in it.
    """
    event = make_event("kill worker")

    assert not explain(make_failure("get", "WrongError", 9.9, 10.1, "502"), [event])
    assert explain(make_failure("get", "IncompleteReadError", 9.9, 10.1), [event])


@pytest.mark.parametrize("what", sorted(set(ACTIONS) - {"kill backend", "kill worker"}))
@pytest.mark.parametrize("how", ["WrongError", "CutError", "IncompleteReadError", "TimeoutError"])
def test_nothing_planned_explains_a_failed_request(what: str, how: str) -> None:
    """
    Reloads, removals and restarts of the controller may cost no request.
    """
    assert not explain(make_failure("post", how, 9.9, 10.1), [make_event(what)])


def test_websocket_may_be_told_to_go_when_what_it_ran_on_goes() -> None:
    """
    1001 is a farewell; another code, or one without a reason, is not.
    """
    told = make_failure("websocket", "ToldError", 2.0, 17.0, "closed with 1001")

    assert explain(told, [make_event("remove backend")]) == "told to go: remove backend"
    assert explain(told, [make_event("workers", detail="2")]) == "told to go: workers"
    assert not explain(told, [make_event("workers", detail="3")])
    assert not explain(told, [make_event("weights")])
    assert not explain(told | {"reason": "closed with 1006"}, [make_event("remove backend")])
    assert not explain(told | {"ended_s": 60.0}, [make_event("remove backend")])
    assert not explain(told | {"begun_s": 12.0}, [make_event("remove backend")])
    assert not explain(told | {"ended_s": 9.0}, [make_event("remove backend")])


def test_report_counts_what_is_explained_and_shows_the_rest() -> None:
    """
    A failure that nothing explains is in the report with all that is known of it.
    """
    bad = make_failure("get", "WrongError", 20.0, 20.1, "503")
    good = make_failure("post", "CutError", 9.9, 10.1)
    lines = [
        {
            "at_s": at,
            "ended": {"get": 5},
            "p50_ms": 1.0,
            "p99_ms": 2.0,
            "failures": [bad, good] if at == 20 else [],
        }
        for at in range(1, 31)
    ]
    samples = [
        {"at_s": at, "rss_mib": {"worker 0": 20.0 + at}, "fds": {"worker 0": 9}, "pss_mib": 50.0}
        for at in range(1, 31)
    ]
    report = build_report(lines, [make_event("kill backend")], samples)

    assert report["unexplained"] == [bad | {"why": ""}]
    assert sum(report["explained"].values()) == 1
    assert report["requests"] == {"get": 150}
    by_name = {one["what"]: one for one in report["growth"]}
    assert by_name["MiB resident of worker 0"]["per_hour"] == pytest.approx(3600)
    assert by_name["MiB of all (PSS)"]["per_hour"] == 0
    assert "| **1** | **anything else** |" in print_report(report)


def test_run_with_anything_wrong_is_not_a_good_run() -> None:
    """
    A failure, an action without effect, a traceback, books that do not balance: each makes the soak fail.
    """
    report: dict[str, Any] = {"unexplained": [], "problems": [], "tracebacks": 0}
    rest: dict[str, Any] = {"is_at_rest": True, "balance": {"balanced": True}}

    assert find_faults({"report": report, "rest": rest}) == []
    wrong: dict[str, Any]
    for wrong in (
        {"unexplained": [{}]},
        {"problems": ["weights at 3 s: not in force"]},
        {"tracebacks": 1},
    ):
        assert len(find_faults({"report": report | wrong, "rest": rest})) == 1
    for wrong_rest in ({"is_at_rest": False}, {"balance": {"balanced": False}}):
        assert len(find_faults({"report": report, "rest": rest | wrong_rest})) == 1


def test_growth_of_what_is_not_there_all_the_time_is_not_invented() -> None:
    """
    A third worker comes and goes: without figures at both ends of the run there is no growth.
    """
    values: list[float | None] = [None] * 70 + [5.0] * 30

    assert measure_growth("descriptors", range(100), values) is None


def test_worker_that_took_anothers_place_is_the_one_that_counts() -> None:
    """
    The figures of a role are those of its process of now.
    """
    log = "controller started pid=3\nworker 0 started pid=4\nworker 1 started pid=5\nworker 1 started pid=9\n"

    assert find_roles(2, log) == {"supervisor": 2, "controller": 3, "worker 0": 4, "worker 1": 9}


def test_load_that_did_not_come_to_its_end_is_no_result(tmp_path: Any) -> None:
    """
    Half a run is not taken for a whole one.
    """
    path = tmp_path / "load"
    path.write_text('{"at_s": 1}\n{}\n')
    assert read_lines(path) == [{"at_s": 1}]

    path.write_text('{"at_s": 1}\n')
    with pytest.raises(Exception, match="not come to its end"):
        read_lines(path)


def test_every_kind_of_client_exists() -> None:
    """
    A rate belongs to something that a client does.
    """
    assert all(asyncio.iscoroutinefunction(getattr(Clients, kind)) for kind in RATES)


def test_bodies_are_told_apart() -> None:
    """
    A response that was meant for somebody else is noticed.
    """
    assert build_bytes("1", 1000) != build_bytes("2", 1000)
    assert build_request("GET", "/x", "A: b") == (
        b"GET /x HTTP/1.1\r\nHost: shop.example.com\r\nA: b\r\n\r\n"
    )


async def test_backend_reads_chunks_to_their_end() -> None:
    """
    The hash that comes back is of the whole body, however it was sent, and the next request begins after it.
    """
    reader = asyncio.StreamReader()
    reader.feed_data(b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\nGET")

    assert await read_chunked(reader) == b"abcdefg"
    assert await reader.read(3) == b"GET"


def test_page_has_a_place_for_the_figures() -> None:
    """
    A whole run finds where its figures belong.
    """
    assert "<!-- figures -->\n" in PAGE.read_text()
    assert "\n<!-- /figures -->" in PAGE.read_text()
