"""What the tables of this suite share: how a case is named, and what "refused" and "passed" mean."""

from __future__ import annotations

import pytest
from _pytest.mark.structures import ParameterSet

from tests.wire.harness import OK, SUBJECT, Edge, Received, Reply, Script, method_of


def case(name: str, *values: object) -> ParameterSet:
    """Return a table's row; its name says the standard's section and what is tried."""
    return pytest.param(*values, id=name)


def assert_refused(edge: Edge, request: bytes, *statuses: int, closes: bool = True) -> Reply:
    """Hold the proxy to: one of these statuses, nothing to the origin, and the connection closed."""
    edge.origin.restart()
    client = edge.connect()
    client.send(request)
    reply = client.read_reply(method_of(request))
    assert reply.status in statuses, f"{reply} for {request[:300]!r}; origin: {edge.received}"
    assert reply.is_whole, reply
    if closes:
        # Whoever cannot tell where this request ends must not look for the next one.
        assert client.wait_end() == "closed"
        assert not bytes(client.stream.buffer), f"answered more than once: {bytes(client.stream.raw)!r}"
    assert edge.received == [], f"reached the origin: {edge.received}"
    return reply


def assert_passed(edge: Edge, request: bytes, script: Script = OK) -> Received:
    """Hold the proxy to: the origin gets one well-formed request, the client the origin's 200."""
    reply = edge.ask(request, script)
    assert reply.status == 200, f"{reply} for {request[:300]!r}; origin: {edge.received} {edge.origin.faults}"
    assert reply.is_whole, reply
    received = edge.origin.wait()
    assert len(edge.received) == 1, edge.received
    assert edge.origin.faults == []
    return received


def assert_either(edge: Edge, request: bytes, *statuses: int) -> Received | None:
    """Where the standard leaves a choice: refused with one of these, or passed as one clean request."""
    reply = edge.ask(request)
    if reply.status == 200:
        received = edge.origin.wait()
        assert len(edge.received) == 1, edge.received
        assert edge.origin.faults == []
        return received
    assert reply.status in statuses, f"{reply} for {request[:300]!r}; origin: {edge.received}"
    assert edge.received == []
    return None


def assert_explained(reply: Reply, error: bytes = b"") -> None:
    """Hold a reply of the proxy's own to the contract: plain text, and RFC 9209's word for what failed."""
    if SUBJECT != "sillyproxy":
        return
    (status,) = reply.values("proxy-status")
    assert status.startswith(b"sillyproxy; error=" + error), status
    assert reply.values("content-type")[0].startswith(b"text/plain"), reply


def assert_bad_gateway(reply: Reply) -> None:
    """Hold the proxy to a whole 502 that says why."""
    assert reply.status == 502, reply
    assert reply.is_whole, reply
    assert_explained(reply)
