"""A color at work: which of its endpoints gets the next request."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.traffic.color import ColorAtWork
from sillyproxy.traffic.endpoint import Endpoint

NOW = 1_000_000_000


def make_color(count: int) -> ColorAtWork:
    color = ColorAtWork("blue", 1, 1.0, b"\r\nColor: blue")
    color.endpoints = tuple(Endpoint(0, f"10.0.0.{n}", 80) for n in range(count))
    return color


def test_a_color_without_endpoints_has_none_to_offer() -> None:
    """
    A color whose name resolves to nothing takes no request.
    """
    color = make_color(0)

    assert color.pick(Random(1).random, NOW) is None
    assert color.pick_other((), NOW, desperate=True) is None


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_idle_endpoints_take_even_turns(count: int) -> None:
    """
    Where nothing is under way, requests go round: no replica idles while another works.
    """
    color = make_color(count)
    chance = Random(2).random
    picks = Counter(color.pick(chance, NOW) for _ in range(count * 50))

    assert set(picks.values()) == {50}


@given(st.integers(2, 8), st.integers())
def test_a_busy_endpoint_is_found_out_by_its_queue(count: int, seed: int) -> None:
    """
    An endpoint that answers slowly gathers requests under way and is given no more while others
    have fewer.
    """
    color = make_color(count)
    slow = color.endpoints[0]
    slow.inflight = 100
    chance = Random(seed).random

    assert all(color.pick(chance, NOW) is not slow for _ in range(50))


def test_load_evens_out_over_endpoints() -> None:
    """
    Requests that never end are spread evenly: no endpoint has many more than another.
    """
    color = make_color(5)
    chance = Random(4).random
    for _ in range(1000):
        endpoint = color.pick(chance, NOW)
        assert endpoint is not None
        endpoint.inflight += 1
    loads = [endpoint.inflight for endpoint in color.endpoints]

    assert max(loads) - min(loads) <= 4


@given(st.integers(1, 8), st.sets(st.integers(0, 7)), st.integers())
def test_an_avoided_endpoint_is_given_nothing_while_another_is_there(
    count: int, dead: set[int], seed: int
) -> None:
    """
    Endpoints that could not be connected to are left alone, and all others still serve.
    """
    color = make_color(count)
    for index in dead:
        if index < count:
            color.endpoints[index].fail(NOW)
    alive: set[Endpoint | None] = {e for e in color.endpoints if e.is_eligible(NOW)}
    chance = Random(seed).random
    picks = {color.pick(chance, NOW) for _ in range(60)}

    assert picks == (alive or {None})


@given(st.integers(1, 6), st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)), st.booleans())
def test_another_endpoint_is_one_that_was_not_tried(
    count: int, tried: set[int], dead: set[int], desperate: bool
) -> None:
    """
    A request that is sent again goes to an endpoint that has not had it, to a sick one only when
    nothing else is left, and to the least busy of them.
    """
    color = make_color(count)
    for index, endpoint in enumerate(color.endpoints):
        endpoint.inflight = (index * 7) % 5
        if index in dead:
            endpoint.fail(NOW)
    had = [endpoint for index, endpoint in enumerate(color.endpoints) if index in tried]
    left = [e for e in color.endpoints if e not in had and (desperate or e.is_eligible(NOW))]
    other = color.pick_other(had, NOW, desperate=desperate)

    if not left:
        assert other is None
    else:
        assert other in left
        assert other.inflight == min(endpoint.inflight for endpoint in left)


def test_a_request_is_never_sent_to_an_unhealthy_endpoint() -> None:
    """
    One that is avoided or ejected is better than nothing; one that is unhealthy has asked for peace.
    """
    color = make_color(3)
    avoided, ejected, unhealthy = color.endpoints
    avoided.fail(NOW)
    ejected.eject(NOW + 1, 1, 0)
    unhealthy.set_health(unhealthy=True, now_ns=NOW, slow_ns=0)

    assert color.pick(Random(1).random, NOW) is None
    assert color.pick_other((), NOW) is None
    assert color.pick_other((ejected,), NOW, desperate=True) is avoided
    assert color.pick_other((avoided,), NOW, desperate=True) is ejected
    assert color.pick_other((avoided, ejected), NOW, desperate=True) is None
    assert color.pick_free(NOW) is None


@given(st.integers(1, 6), st.data())
def test_whatever_is_wrong_with_some_the_others_serve(count: int, data: st.DataObject) -> None:
    """
    In any mixture of avoided, ejected, unhealthy and slowly starting endpoints requests go to those
    that may have them, and none fails while there is one.
    """
    color = make_color(count)
    for endpoint in color.endpoints:
        for trouble in data.draw(
            st.sets(st.sampled_from(["avoided", "ejected", "unhealthy", "new", "rests"]))
        ):
            if trouble == "avoided":
                endpoint.fail(NOW)
            elif trouble == "ejected":
                endpoint.eject(NOW + 1, 1, 10**10)
            elif trouble == "unhealthy":
                endpoint.set_health(unhealthy=True, now_ns=NOW, slow_ns=0)
            elif trouble == "new":
                endpoint.eject(NOW, 1, 10**10)
            else:
                endpoint.rest(NOW + 1)
    may = {endpoint for endpoint in color.endpoints if endpoint.is_eligible(NOW)}
    chance = Random(data.draw(st.integers()))
    picks = {color.pick(chance.random, NOW) for _ in range(30)}

    assert picks == {None} if not may else picks <= may


def test_a_slow_start_leaves_the_others_to_those_who_are_warm() -> None:
    """
    What a starting endpoint does not take goes to the warm ones, evenly; where all have just
    started nobody waits for anybody.
    """
    color = make_color(3)
    for endpoint in color.endpoints[:1]:
        endpoint.eject(NOW, 1, 10**10)
    chance = Random(7).random
    picks = Counter(color.pick(chance, NOW) for _ in range(3000))
    new, *warm = (picks[endpoint] for endpoint in color.endpoints)
    assert new < 0.12 * 1000
    assert min(warm) > 1300

    for endpoint in color.endpoints[1:]:
        endpoint.eject(NOW, 1, 10**10)
    picks = Counter(color.pick(chance, NOW) for _ in range(3000))
    assert min(picks.values()) > 500
    assert None not in picks


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 5))
def test_a_free_endpoint_has_room_for_one_more(loads: list[int], limit: int) -> None:
    """
    With <COLOR>_MAX_CONNECTIONS an endpoint that has as many as it may is not free, and of those that
    are the least busy is taken.
    """
    color = make_color(len(loads))
    color.limit = limit
    for endpoint, load in zip(color.endpoints, loads, strict=True):
        endpoint.inflight = load
    free = color.pick_free(NOW)

    if min(loads) >= limit:
        assert free is None
    else:
        assert free is not None
        assert free.inflight == min(loads)
