"""Which requests are sent a second time, and how many at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sillyproxy.config.schema import Config, Retry, RetryKind
from sillyproxy.metrics.layout import ROW_HEAD, WORKER_SIZE, Row, Worker
from sillyproxy.proxy.budget import ALWAYS, RetryBudget
from sillyproxy.proxy.teller import Teller

GET, POST = b"GET", b"POST"


class Edge:
    """As much of an edge as the budget looks at, with so many requests under way."""

    def __init__(self, kind: RetryKind = "safe", budget: float = 0.5, inflight: int = 0) -> None:
        self.config = Config(retry=Retry(kind, budget))
        self.worker_counts = [0] * WORKER_SIZE
        self.worker_counts[Worker.ACCEPTED] = inflight + 40
        for place in (Worker.ANSWERED, Worker.REPLIED, Worker.ABANDONED, Worker.LOST):
            self.worker_counts[place] = 10
        self.counts = SimpleNamespace(rows=[[0] * ROW_HEAD, [0] * ROW_HEAD])
        self.teller = Teller(lambda *_, **__: None, lambda: 0)


def make_exchange(**facts: object) -> Any:
    """Return what the budget looks at of a request: a GET that has come whole, unless told otherwise."""
    usual = {
        "retried": False,
        "untidy": False,
        "color": SimpleNamespace(slot=1, name="blue"),
        "method": GET,
        "repeats": 0,
        "upload": 0,
        "bytes_in": 0,
        "first": b"",
        "informed": 0,
    }
    return SimpleNamespace(**(usual | facts))


def make_budget(edge: Edge) -> RetryBudget:
    return RetryBudget(cast("Any", edge))


@pytest.mark.parametrize(
    ("share", "inflight", "allowed"),
    [(0.5, 1000, 500), (0.5, 10, ALWAYS), (0.1, 1000, 100), (1.0, 50, 50), (0.01, 0, ALWAYS)],
)
def test_second_tries_are_a_share_of_what_is_under_way(share: float, inflight: int, allowed: int) -> None:
    """
    SILLYPROXY_RETRY_BUDGET of the requests under way may be second tries, and a few always; the others
    are denied, and counted as such.
    """
    edge = Edge(budget=share, inflight=inflight)
    budget = make_budget(edge)
    granted = sum(budget.grant(make_exchange()) for _ in range(inflight + 100))

    assert granted == budget.under_way == allowed
    assert edge.counts.rows[1][Row.RETRY_DENIED] == inflight + 100 - allowed


def test_a_budget_of_nothing_allows_nothing() -> None:
    """
    SILLYPROXY_RETRY_BUDGET=0: no request is sent twice, not even the few.
    """
    edge = Edge(budget=0.0, inflight=1000)

    assert not make_budget(edge).grant(make_exchange())
    assert edge.counts.rows[1][Row.RETRY_DENIED] == 1


def test_a_request_is_in_the_budget_once() -> None:
    """
    One that goes from endpoint to endpoint takes one place, and gives it back at its end.
    """
    budget = make_budget(Edge())
    exchange = make_exchange()
    assert all(budget.grant(exchange) for _ in range(5))
    assert budget.under_way == 1
    assert exchange.retried

    budget.end()
    assert budget.under_way == 0


def test_who_ends_makes_room() -> None:
    """
    When second tries have ended others may begin.
    """
    budget = make_budget(Edge())
    for _ in range(3):
        assert all(budget.grant(make_exchange()) for _ in range(ALWAYS))
        assert not budget.grant(make_exchange())
        for _ in range(ALWAYS):
            budget.end()


def may_repeat(kind: RetryKind, status: int = 0, **facts: object) -> bool:
    return make_budget(Edge(kind)).may_repeat(make_exchange(**facts), status=status)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
def test_what_may_be_acted_on_twice_is_repeated_if_the_operator_says_so(method: bytes) -> None:
    """
    SILLYPROXY_RETRY: `safe` repeats nothing that may have been acted on; `idempotent` what RFC 9110 (9.2.2)
    calls so, if no answer came; `5xx` also if it was an error.
    """
    by_kind = {
        kind: (may_repeat(kind, method=method), may_repeat(kind, 503, method=method))
        for kind in ("safe", "idempotent", "5xx")
    }

    assert by_kind == {"safe": (False, False), "idempotent": (True, False), "5xx": (True, True)}


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"PROPFIND", b"get"])
def test_other_methods_are_never_repeated(method: bytes) -> None:
    """
    A POST is acted on once, whatever SILLYPROXY_RETRY says; so is what nobody knows.
    """
    assert not may_repeat("5xx", method=method)
    assert not may_repeat("5xx", 503, method=method)


def test_a_body_that_is_gone_cannot_be_repeated() -> None:
    """
    A request can be sent again as long as all of its body came along with its head.
    """
    assert may_repeat("idempotent", method=b"PUT", first=b"hello", bytes_in=5)
    assert not may_repeat("idempotent", method=b"PUT", first=b"hello", bytes_in=5000)
    assert not may_repeat("idempotent", method=b"PUT", first=b"hello", bytes_in=5, upload=-1)


def test_two_repeats_are_enough() -> None:
    """
    What three endpoints could not answer is told to the client.
    """
    assert [may_repeat("5xx", 500, repeats=repeats) for repeats in range(4)] == [True, True, False, False]


def test_a_request_whose_interim_answer_went_on_is_not_repeated() -> None:
    """
    After 103 the client has part of an answer, which another endpoint's may not fit.
    """
    assert not may_repeat("5xx", 500, informed=1)
