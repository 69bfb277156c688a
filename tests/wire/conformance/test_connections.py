"""Keep-alive, pipelining and the end of connections on both sides (RFC 9112, section 9)."""

from __future__ import annotations

import threading
import time

import pytest

from tests.wire.conformance.judge import case
from tests.wire.harness import CLOSE, OK, READ, Client, Edge, Ended, Exchange, wait_for


def get(target: bytes, fields: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (target, fields)


def echo_target(exchange: Exchange) -> None:
    """Answer with the request's target; after a while if it asks for that."""
    exchange.read_body()
    target = exchange.request.target
    if target.startswith(b"/slow"):
        time.sleep(0.15)
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(target), target))


def test_connection_is_kept_for_the_next_request(edge: Edge) -> None:
    """
    RFC 9112, 9.3: HTTP/1.1 connections persist.
    """
    edge.origin.restart(echo_target)
    client = edge.connect()
    for i in range(20):
        client.send(get(b"/%d" % i))
        assert client.read_reply().body == b"/%d" % i


def test_backend_connection_is_kept_for_the_next_request(edge: Edge) -> None:
    """
    Requests one after the other share a pooled connection, whoever asks.
    """
    for _ in range(10):
        assert edge.ask(get(b"/")).status == 200
        time.sleep(0.01)
    before = edge.origin.connections
    for _ in range(10):
        assert edge.ask(get(b"/")).status == 200
        time.sleep(0.01)
    assert edge.origin.connections <= before + 1


CLOSING = [
    case("9112-9.6 close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    case("9112-9.6 in another case", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n"),
    case("9112-9.6 in a list", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE ,y\r\n\r\n"),
    case(
        "9112-9.6 in a second field",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n",
    ),
    case("9112-9.3 HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    case("9112-9.6 close beats keep-alive", b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"),
]


@pytest.mark.parametrize("request_bytes", CLOSING)
def test_connection_is_closed_when_asked(edge: Edge, request_bytes: bytes) -> None:
    """
    RFC 9112, 9.6: after the response to a request with close the proxy says close, closes, and reads no more.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(request_bytes + get(b"/never"))
    reply = client.read_reply()
    assert (reply.status, reply.body) == (200, b"ok")
    assert client.wait_end() in ("closed", "reset")
    assert not bytes(client.stream.buffer)
    assert len(edge.received) == 1
    if b"HTTP/1.1" in request_bytes:
        assert b"close" in reply.list("connection")


def test_client_of_http_1_0_may_ask_to_keep_the_connection(edge: Edge) -> None:
    """
    RFC 9112, 9.3 and C.2.2: keep-alive is granted with a word or not at all.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    request = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n"
    client.send(request)
    reply = client.read_reply()
    assert (reply.status, reply.end) == (200, "length")
    if b"keep-alive" in reply.list("connection"):
        client.send(request)
        assert client.read_reply().status == 200
    else:
        assert client.wait_end() == "closed"


def test_chunked_response_to_http_1_0_ends_with_the_connection(edge: Edge) -> None:
    """
    Without a length and without chunked only the close says where the body ends, keep-alive or not.
    """
    edge.origin.restart(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    client = edge.connect()
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    reply = client.read_reply()
    assert (reply.body, reply.end) in ((b"ok", "close"), (b"ok", "length"))
    assert reply.end == "length" or b"keep-alive" not in reply.list("connection")


PIPELINES = [
    case("9112-9.3.2 two", [b"/1", b"/2"]),
    case("9112-9.3.2 the first slow", [b"/slow1", b"/2", b"/3"]),
    case("9112-9.3.2 every other slow", [b"/1", b"/slow2", b"/3", b"/slow4", b"/5"]),
    case("9112-9.3.2 fifty", [b"/%d" % i for i in range(50)]),
]


@pytest.mark.parametrize("targets", PIPELINES)
def test_pipelined_requests_are_answered_in_order(edge: Edge, targets: list[bytes]) -> None:
    """
    RFC 9112, 9.3.2: responses come in the order of the requests, each whole.
    """
    edge.origin.restart(echo_target)
    client = edge.connect()
    client.send(b"".join(get(target) for target in targets))
    assert [client.read_reply().body for _ in targets] == targets


def test_pipelined_requests_of_all_kinds_are_told_apart(edge: Edge) -> None:
    """
    RFC 9112, 9.3.2: bodies, chunked bodies, HEAD and GET behind each other.
    """
    edge.origin.restart(echo_target)
    client = edge.connect()
    post = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    head = b"HEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n"
    chunked = b"PUT /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        head_only = exchange.request.method == b"HEAD"
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head_only else b"ok"))

    edge.origin.restart(script)
    client.send(post + head + chunked + get(b"/4"))
    replies = [client.read_reply(method) for method in (b"POST", b"HEAD", b"PUT", b"GET")]
    assert [r.status for r in replies] == [200] * 4
    assert [(r.target, r.body) for r in edge.received] == [
        (b"/1", b"hello"),
        (b"/2", b""),
        (b"/3", b"hello"),
        (b"/4", b""),
    ]


def test_malformed_request_in_a_pipeline_is_answered_in_its_turn(edge: Edge) -> None:
    """
    The good request before it is answered first; what comes behind it is never read.
    """
    edge.origin.restart(echo_target)
    client = edge.connect()
    client.send(get(b"/slow1") + b"GET /2 HTTP/1.1\r\nHost : a\r\n\r\n" + get(b"/3"))
    assert client.read_reply().body == b"/slow1"
    assert client.read_reply().status == 400
    assert client.wait_end() == "closed"
    assert not bytes(client.stream.buffer)
    assert [r.target for r in edge.received] == [b"/slow1"]


@pytest.mark.parametrize("packets", [case("FIN in one packet", 1), case("FIN on its own", 2)])
def test_client_that_half_closes_gets_its_response(edge: Edge, packets: int) -> None:
    """
    RFC 9112, 9.6 and common clients (`nc -N`): the end of requests is not the end of interest.
    """
    edge.origin.restart(echo_target)
    client = edge.connect()
    if packets == 1:
        client.send_last(get(b"/slow"))
    else:
        client.send(get(b"/slow"))
        client.half_close()
    assert client.read_reply().body == b"/slow"
    assert client.wait_end() == "closed"


def test_pipelined_requests_of_a_client_that_half_closes_are_answered(edge: Edge) -> None:
    """
    `printf ... | nc`: the requests before the end are answered in order, up to a response that says close.
    """
    edge.origin.restart(echo_target)
    client = edge.connect()
    client.send_last(get(b"/1") + get(b"/slow2") + get(b"/3"))
    for target in (b"/1", b"/slow2", b"/3"):
        reply = client.read_reply()
        assert reply.body == target
        if b"close" in reply.list("connection"):
            break
    assert client.wait_end() == "closed"
    assert not bytes(client.stream.buffer)


@pytest.mark.parametrize(
    "response",
    [
        case(
            "9112-9.6 Connection: close",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        ),
        case("9112-9.3 HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ],
)
def test_backend_connection_that_is_to_close_is_not_used_again(edge: Edge, response: bytes) -> None:
    """
    RFC 9112, 9.6: a backend that said close gets no further request there, even if it stays open.
    """
    edge.origin.restart(response)
    client = edge.connect()
    for _ in range(3):
        client.send(get(b"/"))
        assert client.read_reply().status == 200
    numbers = [request.connection for request in edge.received]
    assert len(set(numbers)) == 3


def test_unread_body_is_not_the_next_request_on_a_pooled_connection(edge: Edge) -> None:
    """
    A backend that answers before the body came: the rest of the body must not become a request.
    """
    edge.origin.restart(lambda exchange: exchange.send(OK))
    client = edge.connect()
    body = get(b"/smuggled")
    client.send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert client.read_reply().status == 200
    client.send(body)
    assert edge.ask(get(b"/next")).status == 200
    assert [r.target for r in edge.received] == [b"/next"]
    assert edge.origin.faults == []


def test_client_that_goes_away_ends_the_request_at_the_backend(edge: Edge) -> None:
    """
    Nobody waits for the answer, so the backend's connection is closed and it may stop working.
    """
    edge.origin.restart(Exchange.wait_end)
    client = edge.connect()
    client.send(get(b"/"))
    request = edge.origin.wait()
    client.close()
    assert wait_for(lambda: request.ended in ("closed", "reset"))


def test_client_that_resets_ends_the_request_at_the_backend(edge: Edge) -> None:
    """
    The same when the client dies.
    """
    edge.origin.restart(Exchange.wait_end)
    client = edge.connect()
    client.send(get(b"/"))
    request = edge.origin.wait()
    client.reset()
    assert wait_for(lambda: request.ended in ("closed", "reset"))


def test_client_that_goes_away_in_its_upload_cuts_it_short(edge: Edge) -> None:
    """
    The backend sees the body break off at once.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello")
    request = edge.origin.wait(complete=False)
    client.close()
    assert wait_for(lambda: request.ended in ("closed", "reset"))
    assert not request.complete


def test_client_that_goes_away_in_its_download_ends_it(edge: Edge) -> None:
    """
    A backend does not pour a body into nothing.
    """
    done = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                exchange.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
                time.sleep(0.001)
        except OSError:
            done.set()
            exchange.close()

    edge.origin.restart(script)
    client = edge.connect()
    client.send(get(b"/"))
    client.read_exactly(2000)
    client.close()
    assert done.wait(10)


def test_early_refusal_of_an_upload_reaches_the_client(edge: Edge) -> None:
    """
    RFC 9112, 9.5: a backend that answers 413 and closes amid an upload is heard, not taken for broken.
    """

    def script(exchange: Exchange) -> None:
        exchange.read_some()
        exchange.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        exchange.half_close()
        exchange.wait_end()
        exchange.close()

    edge.origin.restart(script)
    client = edge.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 10_000)
    reply = client.read_reply()
    assert (reply.status, reply.body) == (413, b"no")


def test_early_response_does_not_stop_an_upload_that_the_backend_still_reads(edge: Edge) -> None:
    """
    RFC 9112, 9.3: a backend may answer first and read on.
    """
    edge.origin.restart([OK, READ])
    client = edge.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    assert client.read_reply().status == 200
    client.send(b"world")
    try:
        client.stream.fill(0.2)
    except Ended as end:
        # A proxy may also close after an early response; then the body is cut short, not changed.
        if end.how != "silent":
            return
    assert edge.origin.wait().body == b"helloworld"


def test_backend_that_closes_while_idle_is_not_noticed_by_clients(edge: Edge) -> None:
    """
    Pooled connections that a backend closes are dropped; the next request takes a new one.
    """
    assert edge.ask(get(b"/")).status == 200
    edge.origin.close_connections()
    for _ in range(5):
        reply = edge.ask(get(b"/"), [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", CLOSE])
        assert reply.status == 200


@pytest.mark.parametrize(
    "noise",
    [
        case(
            "9112-9.2 a response that nobody asked for",
            b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled",
        ),
        case("9110-15.5.9 408 to an idle connection", b"HTTP/1.1 408 X\r\nContent-Length: 0\r\n\r\n"),
        case("9112-9.2 half a response", b"HTTP/1.1 2"),
        case("9112-9.2 an empty line", b"\r\n"),
    ],
)
def test_bytes_on_an_idle_backend_connection_answer_nobody(edge: Edge, noise: bytes) -> None:
    """
    RFC 9112, 9.2: what a backend says unasked is not the next client's response.
    """
    assert edge.ask(get(b"/"), [OK, 0.05, noise]).body == b"ok"
    time.sleep(0.15)
    for _ in range(3):
        reply = edge.ask(get(b"/"), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
        assert (reply.status, reply.body) == (200, b"next")


def test_many_clients_at_once_get_their_own_answers(edge: Edge) -> None:
    """
    Forty connections, ten requests each, all at once: nobody gets another's response.
    """
    edge.origin.restart(echo_target)
    wrong: list[bytes] = []

    def ask(number: int) -> None:
        client = Client(edge.proxy.port)
        for i in range(10):
            target = b"/%d/%d" % (number, i)
            client.send(get(target))
            if (reply := client.read_reply()).body != target:
                wrong.append(target + b" got " + reply.body)
        client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
