"""
Passive health: which endpoint has failed so often that it gets no requests for a while.

Two rules, both about requests that an endpoint had taken or should have taken:

- **in a row**: a number of gateway failures (no connection, a connection that broke before
  the response, none in time, a malformed or broken-off one, 502, 503, 504) with no other
  answer in between; Envoy's `consecutive_gateway_failure`, default 5.
- **error rate**: its errors (those, and every other 5xx) of the last seconds against its
  siblings'. Envoy compares each host's success rate with the mean of all, which needs five
  hosts and a hundred requests of each. We hold one endpoint against all its siblings
  together with a two-proportion z-test, which needs one sibling and some fifteen requests
  of an endpoint that fails half of them; five standard deviations, because it is asked
  at each error.

Never when fewer than half of a color's endpoints would be left: when most fail, it is not
the endpoint's fault, and the rest could not carry the load.

A third rule is about time, and ejects nobody: an endpoint whose answers, one after the other,
take many times as long as its color's usually do gets its next request only some of that time
later. With a queue of its own it would be found out by the balance; with few requests it has none.

Only failures cost anything here: success is one counter in the hot path.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final, Literal

from sillyproxy.config.schema import Outlier
from sillyproxy.traffic.endpoint import Endpoint

if TYPE_CHECKING:
    from sillyproxy.traffic.color import ColorAtWork

Reason = Literal["consecutive", "error_rate"]

# The memory of errors is halved this often.
HALF_LIFE_NS: Final = 5_000_000_000
# An endpoint's n-th ejection lasts n terms, at most these (Envoy: max_ejection_time / base_ejection_time).
LONGEST_TERMS: Final = 10
# Below so many errors, and so many requests of the siblings, there is no rate.
LEAST_ERRORS: Final = 5
LEAST_SIBLINGS: Final = 10
# A difference that matters: a part of all requests, and standard deviations.
LEAST_DIFFERENCE: Final = 0.1
DEVIATIONS: Final = 5.0

# Many times the median, but not what nobody would notice.
SLOW_TIMES: Final = 8
SLOW_AT_LEAST_NS: Final = 50_000_000
SLOW_TOGETHER_NS: Final = 1_000_000_000
SLOW_IN_A_ROW: Final = 3
# So that it has a fifth of the requests that its slowness would leave it.
REST_TIMES: Final = 4
LONGEST_REST_NS: Final = 5_000_000_000


def note_failure(
    color: ColorAtWork, endpoint: Endpoint, rules: Outlier, now_ns: int, *, gateway: bool, answered: bool
) -> Reason | None:
    """
    Note that a request failed at `endpoint`; return why it is an outlier now, None if it is none.

    `gateway`: it counts for the first rule. `answered`: there was a response, which was
    counted in `endpoint.answered`.
    """
    _age(color, now_ns)
    record = endpoint.record
    record.errors += 1
    record.broken += not answered
    if gateway:
        others = endpoint.answered - answered
        record.in_a_row = record.in_a_row + 1 if others == record.at else 1
    else:
        record.in_a_row = 0
    record.at = endpoint.answered
    if not rules.eject_after or endpoint.ejected_until_ns > now_ns or not may_eject(color, endpoint, now_ns):
        return None
    # One that has just come back and fails again is not better yet.
    on_probation = 0 < endpoint.ejected_until_ns <= now_ns < endpoint.returned_ns + endpoint.slow_ns
    if gateway and (record.in_a_row >= rules.eject_after or on_probation):
        return "consecutive"
    if _is_worse(color, endpoint):
        return "error_rate"
    return None


def describe(endpoint: Endpoint, rules: Outlier, reason: Reason) -> str:
    """Return in words why an endpoint is an outlier, while its record still tells."""
    if reason == "consecutive":
        if endpoint.record.in_a_row < rules.eject_after:
            return "failed again in its slow start"
        return f"{endpoint.record.in_a_row} failures in a row"
    return f"{endpoint.record.errors} of {_requests(endpoint)} requests failed"


def slow_from_ns(median_ns: int) -> int:
    """Return from when on an answer is far too late, where the median is `median_ns`; ns."""
    return max(SLOW_AT_LEAST_NS, SLOW_TIMES * median_ns)


def note_slow(color: ColorAtWork, endpoint: Endpoint, took_ns: int, now_ns: int) -> bool:
    """
    Note an answer that was far too late; True if it is one too many, and the endpoint rests now.

    Where its siblings' answers are late as well, it is not the endpoint that is slow.
    """
    record = endpoint.record
    in_between = endpoint.answered - record.slow_at > 1
    record.slow_in_a_row = 1 if in_between else record.slow_in_a_row + 1
    record.slow_at = endpoint.answered
    record.slow_seen_ns = now_ns
    since_ns = now_ns - took_ns - SLOW_TOGETHER_NS
    if record.slow_in_a_row < SLOW_IN_A_ROW or any(
        other.record.slow_in_a_row >= SLOW_IN_A_ROW - 1 and other.record.slow_seen_ns > since_ns
        for other in color.endpoints
        if other is not endpoint
    ):
        return False
    endpoint.rest(now_ns + min(REST_TIMES * took_ns, LONGEST_REST_NS))
    return True


def next_term(endpoint: Endpoint, rules: Outlier, now_ns: int) -> tuple[int, int]:
    """Return until when (monotonic ns) an endpoint is to be ejected now, and how many times that makes."""
    base_ns = int(rules.eject_s * 1e9)
    # Who has behaved for as long as the longest term begins anew.
    forgiven = now_ns - endpoint.ejected_until_ns > LONGEST_TERMS * base_ns
    times = 1 if forgiven else endpoint.ejections + 1
    return now_ns + base_ns * min(times, LONGEST_TERMS), times


def forget(endpoint: Endpoint) -> None:
    """Begin anew: what comes after an ejection is not to be judged by what was before."""
    record = endpoint.record
    record.in_a_row = record.errors = record.broken = 0
    record.begins = record.at = endpoint.answered


def may_eject(color: ColorAtWork, endpoint: Endpoint, now_ns: int) -> bool:
    """Tell whether at least half of the color's endpoints are left without this one."""
    left = sum(other is not endpoint and other.is_eligible(now_ns) for other in color.endpoints)
    return left > 0 and 2 * left >= len(color.endpoints)


def _age(color: ColorAtWork, now_ns: int) -> None:
    """Halve what is remembered when its time has come, of all endpoints together: they are compared."""
    if now_ns < color.window_ends_ns:
        return
    halvings = 1 + (now_ns - color.window_ends_ns) // HALF_LIFE_NS
    color.window_ends_ns = now_ns + HALF_LIFE_NS
    for endpoint in color.endpoints:
        record = endpoint.record
        record.errors >>= halvings
        record.broken >>= halvings
        record.begins = endpoint.answered - ((endpoint.answered - record.begins) >> halvings)


def _requests(endpoint: Endpoint) -> int:
    record = endpoint.record
    return max(record.errors, endpoint.answered - record.begins + record.broken)


def _is_worse(color: ColorAtWork, endpoint: Endpoint) -> bool:
    """Hold one endpoint's error rate against its siblings' (two-proportion z-test, pooled variance)."""
    errors, requests = endpoint.record.errors, _requests(endpoint)
    siblings = [other for other in color.endpoints if other is not endpoint]
    their_errors = sum(other.record.errors for other in siblings)
    their_requests = sum(map(_requests, siblings))
    if errors < LEAST_ERRORS or their_requests < LEAST_SIBLINGS:
        return False
    difference = errors / requests - their_errors / their_requests
    if difference < LEAST_DIFFERENCE:
        return False
    pooled = (errors + their_errors) / (requests + their_requests)
    deviation = sqrt(pooled * (1 - pooled) * (1 / requests + 1 / their_requests))
    return difference > DEVIATIONS * deviation
