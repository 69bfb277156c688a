"""What a head becomes for the next hop."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy import errors
from sillyproxy.errors import BadRequest, BadResponse
from sillyproxy.http1.forward import (
    RequestPlan,
    RequestPlans,
    ResponsePlan,
    ResponsePlans,
    chain_fields,
    decrement_max_forwards,
    peer_fields,
    read_max_forwards,
    replace_host,
    without_chunks,
)
from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE

HOST = b"\r\nHost: a"

# What a worker may remember of heads, for each kind of client: some megabytes, never more.
MEMORY_BYTES = 4 * 1024 * 1024

names = st.sampled_from(
    b"Host Connection Content-Length Transfer-Encoding TE Upgrade Expect Color Via X-Forwarded-For "
    b"X-Request-ID Forwarded Keep-Alive Date X Cookie H X-Forwarded".split()
)
values = st.sampled_from(
    (
        b"",
        b"a",
        b"a.example",
        b"close",
        b"X, close",
        b"5",
        b"0",
        b"chunked",
        b"websocket",
        b"h2c",
        b"trailers",
    )
)
lines = st.tuples(names, st.sampled_from([b":", b": ", b":\t"]), values).map(
    lambda parts: b"\r\n" + b"".join(parts)
)
blocks = st.lists(lines, max_size=6).map(lambda parts: HOST + b"".join(parts)) | st.lists(lines).map(b"".join)


def plan(block: bytes, *, trusted: bool = False, minor: int = 1, color: str = "Color") -> RequestPlan:
    return RequestPlans(color, trusted=trusted, minor=minor)[block]


def facts(what: RequestPlan | ResponsePlan) -> dict[str, Any]:
    return {name: getattr(what, name) for name in what.__slots__}


def fields_of(forward: bytes) -> dict[bytes, list[bytes]]:
    """Return the values by name, in lower case."""
    fields: dict[bytes, list[bytes]] = {}
    for line in forward.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return fields


# -- Plans are pure ------------------------------------------------------------------------


@given(st.lists(blocks, max_size=8), st.booleans(), st.integers(0, 1))
def test_a_head_is_read_the_same_however_often_it_comes(
    heads: list[bytes], trusted: bool, minor: int
) -> None:
    """
    What is remembered of a head is what reading it anew would give, whatever came in between.
    """
    remembering = RequestPlans("Color", trusted=trusted, minor=minor)

    def outcome(plans: RequestPlans, head: bytes) -> object:
        try:
            return facts(plans[head])
        except BadRequest as error:
            return error.problem

    for head in heads * 2:
        fresh = RequestPlans("Color", trusted=trusted, minor=minor)
        assert outcome(remembering, head) == outcome(fresh, head)


def test_a_head_that_differs_in_one_byte_is_another_head() -> None:
    """
    Nothing is remembered of one head for another: not by length, not by its beginning, not by case.
    """
    plans = RequestPlans("Color", trusted=False, minor=1)
    plans[HOST + b"\r\nContent-Length: 5"]

    assert plans[HOST + b"\r\nContent-Length: 6"].body == 6
    assert plans[HOST + b"\r\nContent_Length: 5"].body == 0
    assert plans[b"\r\nHost: b\r\nContent-Length: 5"].forward.startswith(b"\r\nHost: b\r\n")


def test_a_refused_head_stays_refused() -> None:
    """
    Sending a bad head twice does not make it good.
    """
    plans = RequestPlans("Color", trusted=False, minor=1)
    for _ in range(3):
        with pytest.raises(BadRequest):
            plans[HOST + b"\r\nContent-Length: x"]


@pytest.mark.parametrize("padding", [10, 1000, 8000, 60000])
def test_memory_stays_bounded_whatever_clients_send(padding: int) -> None:
    """
    A client that sends a new head each time makes the worker forget old ones, not grow.
    """
    plans = RequestPlans("Color", trusted=False, minor=1)
    rounds = 2 * MEMORY_BYTES // (padding + 300)
    tracemalloc.start()
    try:
        for number in range(rounds):
            plans[b"%b\r\nX-%d: %b" % (HOST, number, b"x" * padding)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < MEMORY_BYTES


def test_what_is_asked_for_again_and_again_is_remembered() -> None:
    """
    A service's own head is not forgotten because strangers send many others.
    """
    plans = RequestPlans("Color", trusted=False, minor=1)
    plans[HOST]  # what came once is only noted
    assert plans[HOST] is not None  # what comes once is only noted
    often = plans[HOST]
    for number in range(20_000):
        plans[b"%b\r\nX: %d" % (HOST, number)]
        if number % 100 == 0:
            assert plans[HOST] is often


def test_heads_are_read_right_while_others_are_forgotten() -> None:
    """
    However many different lines come by, each head is still read for what it is.
    """
    plans = RequestPlans("Color", trusted=False, minor=1)
    for number in range(5000):
        mark = b"%d" % number
        block = HOST + b"".join(
            (
                b"\r\nX-%b: %b" % (mark, b"x" * 200),
                b"\r\nConnection: X-%b" % mark,
                b"\r\nColor: %b" % mark,
                b"\r\nContent-Length: %b" % mark,
                b"\r\nCookie: %b" % mark,
            )
        )
        read = plans[block]
        sent = fields_of(read.forward)
        assert read.body == number
        assert set(sent) == {b"host", b"content-length", b"cookie", b"via", b"x-forwarded-host"}
        assert sent[b"cookie"] == sent[b"content-length"] == [mark]


# -- Requests ------------------------------------------------------------------------------


@given(blocks, st.integers(0, 1))
def test_what_concerns_one_connection_goes_no_further(block: bytes, minor: int) -> None:
    """
    Whatever the client's fields, the backend gets one Host, one word about the body's end, no field of
    the client's connection, no color but ours, and Via.
    """
    try:
        read = plan(block, minor=minor)
    except BadRequest:
        return
    sent = fields_of(read.forward)

    assert len(sent.get(b"host", [])) == (0 if read.hostless else 1)
    assert not {b"keep-alive", b"proxy-connection", b"http2-settings", b"color", b"forwarded"} & set(sent)
    assert b"x-forwarded-for" not in sent
    assert sent.get(b"transfer-encoding", []) == ([b"chunked"] if read.body == CHUNKED else [])
    assert [int(v) for v in sent.get(b"content-length", [])] in ([], [read.body])
    assert sent[b"via"][-1] == b"1.%d sillyproxy" % minor
    assert set(sent.get(b"connection", [])) <= {b"TE", b"Upgrade", b"TE, Upgrade"}
    assert b"\r\n\r\n" not in read.forward
    assert read.without_host.count(b"\r\nHost:") == 0


@pytest.mark.parametrize(
    "name", ["Color", "X-Color", "_c", "9", "!#$%&'*+-.^`|~", "host-color", "TEx", "x-forwarded-color"]
)
def test_the_color_is_ours_to_set(name: str) -> None:
    """
    Whatever SILLYPROXY_COLOR_HEADER names, a client's own field of that name is dropped, in any case,
    and no other field is.
    """
    for sent in (name, name.upper(), name.lower()):
        read = plan(b"%b\r\n%b: x\r\nA%b: y\r\n%bA: z" % (HOST, *([sent.encode()] * 3)), color=name)
        fields = fields_of(read.forward)
        assert name.lower().encode() not in fields
        assert fields[b"a" + name.lower().encode()] == [b"y"]
        if not name.startswith("x-forwarded-"):
            assert fields[name.lower().encode() + b"a"] == [b"z"]


def test_a_connection_option_takes_its_field_along() -> None:
    """
    Fields that Connection names stay on the client's side, but for those that a message needs.
    """
    read = plan(
        HOST + b"\r\nconnection: X-A, x-b\r\nX-A: 1\r\nx-B: 2\r\nX-C: 3\r\nConnection: host, content-length"
        b"\r\nContent-Length: 1"
    )
    sent = fields_of(read.forward)

    assert b"x-a" not in sent
    assert b"x-b" not in sent
    assert sent[b"x-c"] == [b"3"]
    assert (sent[b"host"], sent[b"content-length"], read.body) == ([b"a"], [b"1"], 1)


@pytest.mark.parametrize(
    ("minor", "connection", "close"),
    [
        (1, None, False),
        (1, b"close", True),
        (1, b"keep-alive, CLOSE", True),
        (1, b"closed", False),
        (0, None, True),
        (0, b"Keep-Alive", False),
        (0, b"keep-alive, close", True),
    ],
)
def test_a_client_says_whether_another_request_comes(
    minor: int, connection: bytes | None, close: bool
) -> None:
    """
    HTTP/1.1 stays open unless told otherwise, HTTP/1.0 closes unless told otherwise.
    """
    block = HOST if connection is None else HOST + b"\r\nConnection: " + connection

    assert plan(block, minor=minor).close is close


def test_a_websocket_is_asked_for_with_connection_and_upgrade() -> None:
    """
    An upgrade goes on only if the client's Connection names it, never to HTTP/2, never from HTTP/1.0.
    """
    ask = b"\r\nConnection: upgrade\r\nUpgrade: "

    assert plan(HOST + ask + b"websocket").upgrade == b"websocket"
    assert fields_of(plan(HOST + ask + b"websocket").forward)[b"connection"] == [b"Upgrade"]
    assert plan(HOST + ask + b"h2c").upgrade == b""
    assert plan(HOST + ask + b"H2C, websocket").upgrade == b"websocket"
    assert plan(HOST + b"\r\nUpgrade: websocket").upgrade == b""
    assert plan(HOST + ask + b"websocket", minor=0).upgrade == b""
    assert b"upgrade" not in fields_of(plan(HOST + ask + b"websocket", minor=0).forward)


def test_expect_is_for_http11() -> None:
    """
    100-continue counts from a client of HTTP/1.1; one of HTTP/1.0 cannot mean it.
    """
    block = HOST + b"\r\nExpect: 100-Continue"

    assert plan(block).expects
    assert fields_of(plan(block).forward)[b"expect"] == [b"100-Continue"]
    assert not plan(block, minor=0).expects
    assert b"expect" not in fields_of(plan(block, minor=0).forward)


def test_forwarding_fields_are_believed_of_trusted_proxies_alone() -> None:
    """
    SILLYPROXY_TRUSTED_PROXIES decides who may say where a request came from.
    """
    block = HOST + b"\r\nX-Forwarded-For: 1\r\nX-Forwarded-For: 2\r\nForwarded: for=1\r\nX-Forwarded-Host: b"
    block += b"\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /p"
    stranger, friend = plan(block), plan(block, trusted=True)

    assert stranger.chain is None
    assert fields_of(stranger.forward)[b"x-forwarded-host"] == [b"a"]
    assert b"x-forwarded-prefix" not in fields_of(stranger.forward)
    assert friend.chain == (b"1, 2", b"https", b"for=1")
    assert fields_of(friend.forward)[b"x-forwarded-host"] == [b"b"]
    assert fields_of(friend.forward)[b"x-forwarded-prefix"] == [b"/p"]


def test_the_peer_is_named_to_the_backend() -> None:
    """
    The backend learns the client's address; a trusted proxy's list is extended by the proxy's own.
    """
    assert fields_of(peer_fields("::1", b"http")) == {
        b"x-forwarded-for": [b"::1"],
        b"x-forwarded-proto": [b"http"],
    }
    assert fields_of(chain_fields((b"1.2.3.4", b"https", b"for=x"), "::1", b"http")) == {
        b"x-forwarded-for": [b"1.2.3.4, ::1"],
        b"x-forwarded-proto": [b"https"],
        b"forwarded": [b'for=x, for="[::1]"'],
    }
    assert fields_of(chain_fields((b"", b"", b""), "1.1.1.1", b"https")) == {
        b"x-forwarded-for": [b"1.1.1.1"],
        b"x-forwarded-proto": [b"https"],
    }


def test_a_whole_uris_host_wins_over_host() -> None:
    """
    A target that names a host is for that host, whatever Host says.
    """
    sent = fields_of(replace_host(plan(HOST + b"\r\nX: y"), b"b:1"))

    assert (sent[b"host"], sent[b"x-forwarded-host"], sent[b"x"]) == ([b"b:1"], [b"b:1"], [b"y"])


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (b"", errors.BAD_HOST),
        (HOST + HOST, errors.BAD_HOST),
        (HOST + b"\r\nX : y", errors.BAD_FIELD),
        (HOST + b"\r\nX: y\r\n z", errors.BAD_FIELD),
        (HOST + b"\nX: y", errors.BAD_FIELD),
        (HOST + b"\r\nX: \x00", errors.BAD_FIELD),
        (HOST + b"\r\nContent-Length: 1\r\nContent-Length: 1", errors.BAD_LENGTH),
        (HOST + b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", errors.BAD_CODING),
        (HOST + b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", errors.BAD_CODING),
    ],
)
def test_bad_fields_are_refused_for_what_is_wrong_with_them(block: bytes, problem: object) -> None:
    """
    The operator's log says what was wrong with a refused head.
    """
    with pytest.raises(BadRequest) as caught:
        plan(block)
    assert caught.value.problem is problem


def test_max_forwards_counts_down() -> None:
    """
    A TRACE or OPTIONS that may pass so many proxies may pass one less behind us.
    """
    fields = HOST + b"\r\nmax-forwards: 10 \r\nX: 3"

    assert read_max_forwards(fields) == 10
    assert decrement_max_forwards(fields) == HOST + b"\r\nmax-forwards: 9 \r\nX: 3"
    assert read_max_forwards(HOST + b"\r\nMax-Forwards: x") is None
    assert read_max_forwards(HOST) is None


# -- Responses -----------------------------------------------------------------------------


def answer(head: bytes) -> ResponsePlan:
    return ResponsePlans()[head]


def test_a_response_goes_on_as_it_is() -> None:
    """
    A backend's fields reach the client untouched and in order, but for those of its connection.
    """
    read = answer(
        b"HTTP/1.1 200 Fine\r\nDate: x\r\nSet-Cookie: a\r\nX:\t y \r\nSet-Cookie: b\r\nConnection: X-P"
        b"\r\nX-P: 1\r\nKeep-Alive: 5\r\nContent-Length: 5"
    )

    assert read.forward == (
        b"HTTP/1.1 200 Fine\r\nDate: x\r\nSet-Cookie: a\r\nX:\t y \r\nSet-Cookie: b\r\nContent-Length: 5"
    )
    assert (read.status, read.body, read.reusable, read.dated) == (200, 5, True, True)


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close", False),
    ],
)
def test_a_backend_says_whether_its_connection_may_be_used_again(head: bytes, reusable: bool) -> None:
    """
    No request is sent on a connection that the backend is about to close.
    """
    assert answer(head).reusable is reusable


@pytest.mark.parametrize(
    ("head", "forward", "body"),
    [
        (b"HTTP/1.1 200", b"HTTP/1.1 200 ", UNTIL_CLOSE),
        (b"HTTP/1.0 404 \r\nA: b", b"HTTP/1.1 404 \r\nA: b", UNTIL_CLOSE),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
            CHUNKED,
        ),
        (b"HTTP/1.1 204 No\r\nContent-Length: 5", b"HTTP/1.1 204 No", 5),
        (b"HTTP/1.1 103 Early\r\nLink: x", b"HTTP/1.1 103 Early\r\nLink: x", UNTIL_CLOSE),
        (b"HTTP/1.1 304 Not\r\nContent-Length: 5", b"HTTP/1.1 304 Not\r\nContent-Length: 5", 5),
    ],
)
def test_a_response_is_framed_anew(head: bytes, forward: bytes, body: int) -> None:
    """
    A client gets one clear word about where a response ends, in its own version.
    """
    read = answer(head)

    assert (read.forward, read.body) == (forward, body)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 600 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 OK\r\nX : y",
        b"HTTP/1.1 200 OK\r\n X: y",
        b"HTTP/1.1 200 OK\r\nX: y\rz",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
    ],
)
def test_nonsense_of_a_backend_does_not_reach_the_client(head: bytes) -> None:
    """
    A response that is none, or that contradicts itself, becomes a 502.
    """
    with pytest.raises(BadResponse):
        answer(head)


def test_a_switch_of_protocols_is_told_with_its_fields() -> None:
    """
    101 says to what, and 426 what would be needed; in any other response Upgrade is the connection's own.
    """
    for status in (101, 426):
        read = answer(b"HTTP/1.1 %d X\r\nUpgrade: websocket\r\nConnection: upgrade" % status)
        assert read.upgrade == b"websocket"
        assert read.forward.endswith(b"\r\nConnection: Upgrade\r\nUpgrade: websocket")
    assert b"Upgrade" not in answer(b"HTTP/1.1 200 OK\r\nUpgrade: h2c").forward


def test_an_old_client_is_not_told_of_chunks() -> None:
    """
    A client of HTTP/1.0 gets no Transfer-Encoding.
    """
    head = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y").forward

    assert without_chunks(head) == b"HTTP/1.1 200 OK\r\nX: y"
