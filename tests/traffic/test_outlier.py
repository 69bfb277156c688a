"""Passive health: which endpoint is ejected, for how long, and how it comes back."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.config.schema import Outlier
from sillyproxy.traffic import outlier
from sillyproxy.traffic.color import ColorAtWork
from sillyproxy.traffic.endpoint import FIRST_TERM_NS, Endpoint

SECOND = 1_000_000_000
NOW = 1_000 * SECOND
RULES = Outlier(eject_after=5, eject_s=30, slow_start_s=10)
SLOW_NS = 10 * SECOND


def make_color(count: int) -> ColorAtWork:
    color = ColorAtWork("blue", 1, 1.0, b"\r\nColor: blue")
    color.endpoints = tuple(Endpoint(0, f"10.0.0.{n}", 80) for n in range(count))
    return color


def fail(
    color: ColorAtWork, endpoint: Endpoint, now_ns: int = NOW, *, status: int = 0, rules: Outlier = RULES
) -> outlier.Reason | None:
    """Let a request fail: with that status, or (0) without an answer."""
    endpoint.answered += status > 0
    return outlier.note_failure(
        color, endpoint, rules, now_ns, gateway=status in (0, 502, 503, 504), answered=status > 0
    )


def eject(endpoint: Endpoint, now_ns: int = NOW, rules: Outlier = RULES) -> int:
    """Do as the data plane does when a rule says so; return the end of the term."""
    until_ns, times = outlier.next_term(endpoint, rules, now_ns)
    endpoint.eject(until_ns, times, int(rules.slow_start_s * SECOND))
    outlier.forget(endpoint)
    return until_ns


def serve(
    color: ColorAtWork, rates: list[float], *, requests: int, seed: int, status: int = 500
) -> list[tuple[int, str]]:
    """
    Let requests come at 200 a second, of which each endpoint fails its part.

    Return who was found to be an outlier, and why; nobody is ejected for it.
    """
    random = Random(seed)
    found: list[tuple[int, str]] = []
    for number in range(requests):
        now_ns = NOW + number * SECOND // 200
        endpoint = color.pick(random.random, now_ns)
        assert endpoint is not None
        index = color.endpoints.index(endpoint)
        if random.random() < rates[index]:
            reason = fail(color, endpoint, now_ns, status=status)
            if reason is not None:
                found.append((index, reason))
        else:
            endpoint.answered += 1
    return found


# In a row.


@pytest.mark.parametrize("status", [0, 502, 503, 504], ids=["no answer", "502", "503", "504"])
def test_gateway_failures_in_a_row_eject(status: int) -> None:
    """
    The fifth failure in a row makes an endpoint an outlier, not the fourth: connections that broke,
    answers that did not come in time, and 502, 503, 504.
    """
    color = make_color(2)

    assert [fail(color, color.endpoints[0], status=status) for _ in range(5)] == [None] * 4 + ["consecutive"]


@pytest.mark.parametrize("after", [1, 3, 10])
def test_how_many_failures_is_the_operators_choice(after: int) -> None:
    """
    SILLYPROXY_EJECT_AFTER says at which failure in a row an endpoint is ejected.
    """
    color = make_color(2)
    rules = Outlier(eject_after=after)
    found = [fail(color, color.endpoints[0], rules=rules) for _ in range(after)]

    assert found == [None] * (after - 1) + ["consecutive"]


@given(st.lists(st.sampled_from([0, 503]), min_size=1, max_size=4), st.sampled_from([200, 404, 500]))
def test_another_answer_in_between_ends_the_row(failures: list[int], between: int) -> None:
    """
    Fewer than five failures, an answer, fewer than five failures: not an outlier, whatever the answer was
    (a 500 is the application's word, not a gateway's).
    """
    color = make_color(2)
    endpoint = color.endpoints[0]
    for _ in range(20):
        assert [fail(color, endpoint, status=status) for status in failures] == [None] * len(failures)
        if between == 500:
            assert fail(color, endpoint, status=500) is None
        else:
            endpoint.answered += 1
        # The rate is not what is asked here: all fail alike.
        color.endpoints[1].record.errors = endpoint.record.errors
        color.endpoints[1].record.broken = endpoint.record.errors


def test_500s_are_no_failures_in_a_row() -> None:
    """
    An application that answers nothing but 500 is not gone: without siblings that do better it stays.
    """
    color = make_color(2)

    assert [fail(color, color.endpoints[0], status=500) for _ in range(50)] == [None] * 50


def test_failures_of_siblings_are_their_own() -> None:
    """
    Failures in a row are counted for each endpoint by itself.
    """
    color = make_color(4)

    assert not any(fail(color, endpoint) for _ in range(4) for endpoint in color.endpoints)


def test_nothing_is_ejected_where_the_operator_says_so() -> None:
    """
    SILLYPROXY_EJECT_AFTER=0 turns both rules off.
    """
    color = make_color(4)
    for sibling in color.endpoints[1:]:
        sibling.answered = 1000
    rules = Outlier(eject_after=0)

    assert not any(fail(color, color.endpoints[0], rules=rules) for _ in range(100))


# The error rate.


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rates", [[0.5, 0, 0, 0], [0.3, 0.01, 0.01, 0.01], [0.9, 0], [1.0, 0.2, 0.2]])
def test_error_rate_far_from_the_siblings_ejects(rates: list[float], seed: int) -> None:
    """
    An endpoint that answers 500 far more often than its siblings is found within seconds, and it
    alone.
    """
    found = serve(make_color(len(rates)), rates, requests=1500, seed=seed)

    assert set(found) == {(0, "error_rate")}


def test_half_of_the_answers_wrong_is_found_within_fifty_requests() -> None:
    """
    What one of four replicas costs that answers 500 to every other request: a dozen of its own errors
    at most, before it is out.
    """
    for seed in range(30):
        color = make_color(4)
        random = Random(seed)
        errors = 0
        for number in range(2000):
            now_ns = NOW + number * SECOND // 200
            endpoint = color.pick(random.random, now_ns)
            assert endpoint is not None
            if endpoint is color.endpoints[0] and random.random() < 0.5:
                errors += 1
                if fail(color, endpoint, now_ns, status=500):
                    break
            else:
                endpoint.answered += 1
        assert errors <= 16


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_equal_rates_eject_nobody(count: int, rate: float) -> None:
    """
    Where all replicas fail alike (a broken release, a database that is down) chance makes none of them
    an outlier, in 4,000 requests and however often that is tried.
    """
    for seed in range(3):
        assert not serve(make_color(count), [rate] * count, requests=4000, seed=seed)


def test_a_few_errors_more_eject_nobody() -> None:
    """
    Four percent of errors where the others have one are no reason to lose a replica.
    """
    for seed in range(3):
        assert not serve(make_color(4), [0.04, 0.01, 0.01, 0.01], requests=4000, seed=seed)


def test_too_few_requests_make_no_rate() -> None:
    """
    With fewer than five errors, or siblings that nobody asked, there is nothing to compare.
    """
    color = make_color(3)
    one, two, three = color.endpoints
    assert not any(fail(color, one, status=500) for _ in range(50))
    two.answered = three.answered = 1000

    color = make_color(3)
    fail(color, color.endpoints[0], status=500)
    for sibling in color.endpoints[1:]:
        sibling.answered = 1000
    assert not any(fail(color, color.endpoints[0], status=500) for _ in range(3))
    assert fail(color, color.endpoints[0], status=500) == "error_rate"


def test_old_errors_are_forgotten() -> None:
    """
    Errors of a minute ago do not count: a bad moment at the start of a replica is over.
    """
    color = make_color(3)
    one, two, three = color.endpoints
    for round_ in range(60):
        two.answered += 20
        three.answered += 20
        one.answered += 19
        assert fail(color, one, NOW + round_ * 60 * SECOND, status=500) is None


# Never too many.


@given(st.integers(1, 9), st.integers(0, 2**9))
def test_never_fewer_than_half_are_left(count: int, order: int) -> None:
    """
    However many endpoints fail, at least half of a color's are still asked; one alone is never ejected.
    """
    color = make_color(count)
    endpoints = list(color.endpoints)
    Random(order).shuffle(endpoints)
    for endpoint in endpoints:
        for _ in range(5):
            if fail(color, endpoint):
                eject(endpoint)
    left = sum(endpoint.is_eligible(NOW) for endpoint in endpoints)

    assert left == count - count // 2


def test_who_is_out_for_another_reason_counts_as_out() -> None:
    """
    An endpoint that is unhealthy, or cannot be connected to, carries nothing: of four with two such, no
    other is ejected.
    """
    color = make_color(4)
    one, two, three, _ = color.endpoints
    one.set_health(unhealthy=True, now_ns=NOW, slow_ns=SLOW_NS)
    assert outlier.may_eject(color, three, NOW)
    two.fail(NOW)

    assert not outlier.may_eject(color, three, NOW)
    assert outlier.may_eject(color, three, NOW + FIRST_TERM_NS)


def test_an_operator_reads_what_it_was() -> None:
    """
    The reason is told in numbers: so many in a row, so many of how many, or that it failed once more.
    """
    color = make_color(2)
    one = color.endpoints[0]
    for _ in range(4):
        fail(color, one)
    reason = fail(color, one)
    assert reason == "consecutive"
    assert outlier.describe(one, RULES, reason) == "5 failures in a row"

    until_ns = eject(one)
    reason = fail(color, one, until_ns)
    assert reason == "consecutive"
    assert outlier.describe(one, RULES, reason) == "failed again in its slow start"

    color = make_color(2)
    one, two = color.endpoints
    for _ in range(5):
        assert fail(color, one, status=500) is None
        one.answered += 1
    two.answered += 100
    reason = fail(color, one, status=500)
    assert reason == "error_rate"
    # The window begins with the first failure, which is or is not one of its requests.
    assert outlier.describe(one, RULES, reason) in ("6 of 10 requests failed", "6 of 11 requests failed")


# The term.


def test_a_term_grows_with_each_repetition() -> None:
    """
    30 s, 60 s, 90 s … and never more than ten times the first: an endpoint that fails again and again is
    asked ever more seldom, but not given up.
    """
    endpoint = make_color(2).endpoints[0]
    now_ns = NOW
    terms = []
    for _ in range(12):
        until_ns = eject(endpoint, now_ns)
        terms.append((until_ns - now_ns) // SECOND)
        now_ns = until_ns + SECOND

    assert terms == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    assert endpoint.ejections == 12


def test_good_behaviour_is_rewarded() -> None:
    """
    Who has been back for as long as the longest term (300 s) begins anew, with the shortest.
    """
    endpoint = make_color(2).endpoints[0]
    for _ in range(4):
        until_ns = eject(endpoint)

    assert outlier.next_term(endpoint, RULES, until_ns + 300 * SECOND)[1] == 5
    assert outlier.next_term(endpoint, RULES, until_ns + 300 * SECOND + 1)[1] == 1


def test_an_ejected_endpoint_is_not_ejected_again() -> None:
    """
    Requests that were under way when their endpoint was ejected do not prolong its term.
    """
    color = make_color(4)
    endpoint = color.endpoints[0]
    eject(endpoint)

    assert not any(fail(color, endpoint, NOW + 29 * SECOND) for _ in range(20))


# Back again.


def test_an_ejected_endpoint_gets_nothing_until_its_end() -> None:
    """
    Ejection is for a time, to the nanosecond; nobody needs to bring the endpoint back.
    """
    color = make_color(3)
    until_ns = eject(color.endpoints[0])
    random = Random(1).random

    assert color.endpoints[0] not in {color.pick(random, until_ns - 1) for _ in range(200)}
    assert color.endpoints[0] in {color.pick(random, until_ns) for _ in range(200)}


def test_the_share_grows_through_the_slow_start() -> None:
    """
    Who comes back gets a tenth of its share at first and all of it ten seconds later.
    """
    color = make_color(2)
    endpoint = color.endpoints[0]
    until_ns = eject(endpoint)
    random = Random(5).random
    parts = []
    for second in range(11):
        at_ns = until_ns + second * SECOND
        picks = [color.pick(random, at_ns) for _ in range(2000)]
        parts.append(picks.count(endpoint) / 2000)

    assert [endpoint.share(until_ns + s * SECOND) for s in (0, 5, 10, 11)] == [0.1, 0.5, 1.0, 1.0]
    assert parts[0] < 0.12
    assert all(later > earlier - 0.03 for earlier, later in pairwise(parts))
    assert parts[-1] == pytest.approx(0.5, abs=0.02)


def test_without_a_slow_start_an_endpoint_is_back_at_once() -> None:
    """
    SILLYPROXY_SLOW_START=0: at the end of its term an endpoint has its full share.
    """
    endpoint = make_color(2).endpoints[0]
    until_ns = eject(endpoint, rules=Outlier(slow_start_s=0))

    assert (endpoint.share(until_ns - 1), endpoint.share(until_ns)) == (0.0, 1.0)


def test_a_failure_on_probation_ejects_at_once() -> None:
    """
    One that has just come back and fails its first request is not better yet: no need for five.
    """
    color = make_color(2)
    endpoint = color.endpoints[0]
    until_ns = eject(endpoint)

    assert fail(color, endpoint, until_ns + 9 * SECOND) == "consecutive"


def test_a_500_on_probation_is_no_gateway_failure() -> None:
    """
    An application's own error does not send back who has just returned.
    """
    color = make_color(2)
    endpoint = color.endpoints[0]
    until_ns = eject(endpoint)

    assert fail(color, endpoint, until_ns + 9 * SECOND, status=500) is None


def test_probation_ends_with_the_slow_start() -> None:
    """
    After its slow start an endpoint has the same credit as all others, even if it was ejected before.
    """
    color = make_color(2)
    endpoint = color.endpoints[0]
    until_ns = eject(endpoint)

    assert fail(color, endpoint, until_ns + 10 * SECOND) is None


@pytest.mark.parametrize("trouble", ["refused", "rests"])
def test_probation_does_not_come_back(trouble: str) -> None:
    """
    An hour after its ejection a single connection that is refused, or a rest, is no reason to eject.
    """
    color = make_color(4)
    endpoint = color.endpoints[0]
    later_ns = eject(endpoint) + 3600 * SECOND
    if trouble == "refused":
        endpoint.fail(later_ns)
    else:
        endpoint.rest(later_ns + SECOND)

    assert fail(color, endpoint, later_ns) is None


def test_what_was_before_an_ejection_does_not_count_after_it() -> None:
    """
    An endpoint that is back is judged by what it does now.
    """
    color = make_color(2)
    one, two = color.endpoints
    two.answered = 1000
    for _ in range(4):
        fail(color, one, status=500)
    until_ns = eject(one)
    two.answered += 1000
    later_ns = until_ns + 11 * SECOND

    assert [fail(color, one, later_ns, status=503) for _ in range(4)] == [None] * 4


# Far too late.


def test_a_slow_endpoint_rests_after_its_third_late_answer_in_a_row() -> None:
    """
    One late answer, or two, mean nothing; the third in a row lets an endpoint rest, for four times as
    long as it took, while another can be asked.
    """
    color = make_color(2)
    slow, quick = color.endpoints
    for _ in range(3):
        assert slow.share(NOW) == 1.0
        slow.answered += 1
        outlier.note_slow(color, slow, SECOND // 2, NOW)
    random = Random(3).random

    assert {color.pick(random, NOW + 2 * SECOND - 1) for _ in range(100)} == {quick}
    assert {color.pick(random, NOW + 2 * SECOND) for _ in range(100)} == {slow, quick}


def test_a_quick_answer_in_between_is_enough() -> None:
    """
    An endpoint that answers in time now and then has slow pages, not a slow machine.
    """
    color = make_color(2)
    endpoint = color.endpoints[0]
    for _ in range(50):
        for _ in range(2):
            endpoint.answered += 1
            outlier.note_slow(color, endpoint, SECOND, NOW)
        endpoint.answered += 1

    assert endpoint.share(NOW) == 1.0


def test_rest_is_bounded_and_nobody_rests_alone() -> None:
    """
    However late the answers, the rest lasts 5 s at most; where all rest, or one is alone, it is asked.
    """
    for count in (1, 3):
        color = make_color(count)
        for endpoint in color.endpoints:
            for _ in range(3):
                endpoint.answered += 1
                outlier.note_slow(make_color(1), endpoint, 100 * SECOND, NOW)
        random = Random(3).random
        assert {color.pick(random, NOW) for _ in range(200)} == set(color.endpoints)
        assert color.endpoints[0].share(NOW + 5 * SECOND) == 1.0


def test_endpoints_that_are_late_together_do_not_rest() -> None:
    """
    Where the siblings' answers are late as well it is the machine, or the proxy: nobody rests.
    """
    color = make_color(3)
    for _ in range(5):
        for endpoint in color.endpoints:
            endpoint.answered += 1
            outlier.note_slow(color, endpoint, SECOND, NOW)

    assert [endpoint.share(NOW) for endpoint in color.endpoints] == [1.0] * 3


@pytest.mark.parametrize(("median_ms", "from_ms"), [(0.1, 50), (1, 50), (6.25, 50), (10, 80), (500, 4000)])
def test_late_is_many_times_the_usual(median_ms: float, from_ms: float) -> None:
    """
    Eight times the color's median is far too late, but nothing below 50 ms is.
    """
    assert outlier.slow_from_ns(int(median_ms * 1e6)) == from_ms * 1_000_000
