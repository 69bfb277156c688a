"""What happened lately: each thing once, in words, with the color that it happened to."""

from __future__ import annotations

import pytest

from sillyproxy.admin.board import EVENTS_KEPT, EjectedView, Kind, Level, ReloadView, WorkerView
from sillyproxy.admin.events import Chronicle
from sillyproxy.metrics.layout import Worker
from sillyproxy.tools.channel import Address
from tests.admin.boards import Proxy


class Watched(Proxy):
    """A proxy whose events are written down; `news` are those since it was asked last."""

    def __init__(self, **settings: str) -> None:
        super().__init__(**settings)
        self.ejected: dict[tuple[str, Address], EjectedView] = {}
        self.unhealthy: dict[tuple[str, Address], str] = {}
        self.board.ejected = lambda: self.ejected
        self.board.unhealthy = lambda: self.unhealthy
        self.addresses = tuple(Address(0, f"10.0.0.{n}", 80) for n in range(1, 6))
        self.board.endpoints = {"blue": self.addresses, "green": self.addresses[:1]}
        self.meet_workers()
        self.chronicle = Chronicle(self.board, clock=lambda: self.now)
        self.news()

    def news(self) -> list[tuple[Kind, Level, str, str | None]]:
        """Look; return kind, level, text and color of what is new."""
        self.chronicle.look()
        found = [(event.kind, event.level, event.text, event.color) for event in self.board.events]
        self.board.events.clear()
        return found

    def texts(self) -> list[str]:
        return [text for _, _, text, _ in self.news()]


def test_nothing_new_is_no_event() -> None:
    """While nothing happens there are no events, however often the controller looks."""
    proxy = Watched()
    assert proxy.news() == []
    assert proxy.chronicle.look() is False


def test_start_is_told() -> None:
    """The first event is the start, with version and colors; of another controller, that as well."""
    proxy = Proxy()
    Chronicle(proxy.board)
    assert proxy.board.events[0].text.endswith("started with blue, green")
    proxy.board.events.clear()
    Chronicle(proxy.board, again=True)
    assert proxy.board.events[0].text == "the controller was started again; the workers served on"


def test_reload_is_told_with_what_it_changed() -> None:
    """A new configuration is told with its generation and each setting that changed."""
    proxy = Watched()
    proxy.reload(BLUE_WEIGHT="3", GREEN_WEIGHT="2")
    assert proxy.news() == [
        ("reload", "info", "configuration 2 is in force: BLUE_WEIGHT 4 → 3, GREEN_WEIGHT 1 → 2", None)
    ]


def test_refused_configuration_is_told_once() -> None:
    """A refused configuration is told with what is wrong with it, once; the next one again."""
    proxy = Watched()
    proxy.board.reload = ReloadView("refused", 1.0, ("BLUE_WEIGHT=x  (environment)  no", "another"), 1)
    assert proxy.news() == [
        ("refused", "error", "configuration refused: BLUE_WEIGHT=x  (environment)  no (and 1 more)", None)
    ]
    assert proxy.news() == []
    proxy.board.reload = ReloadView("refused", 2.0, ("another",), 1)
    assert proxy.texts() == ["configuration refused: another"]


def test_ejection_and_return_are_told_with_why() -> None:
    """An endpoint that is ejected is told with for how long and why, and its return."""
    proxy = Watched()
    key = ("blue", proxy.addresses[0])
    proxy.ejected[key] = EjectedView(proxy.now + 30, 1, "5 failures in a row")
    assert proxy.news() == [
        ("ejection", "warning", "10.0.0.1:80 ejected for 30 s: 5 failures in a row", "blue")
    ]
    del proxy.ejected[key]
    assert proxy.news() == [("return", "info", "10.0.0.1:80 back, the ejection is over", "blue")]


def test_endpoints_that_fail_together_are_one_event() -> None:
    """Of five endpoints that fail in the same way at once there is one event, which names the first three."""
    proxy = Watched()
    proxy.unhealthy.update({("blue", address): "refused" for address in proxy.addresses})
    assert proxy.texts() == [
        "5 endpoints (10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80 and 2 more): fails its checks: refused"
    ]


def test_avoided_endpoint_is_told() -> None:
    """An endpoint that cannot be connected to is told, and when it can be again."""
    proxy = Watched()
    for worker in (0, 1):
        proxy.board.note_endpoint(worker, "green", proxy.addresses[0], up=False, reason="refused")
    assert proxy.news() == [("ejection", "warning", "10.0.0.1:80 avoided: refused", "green")]
    proxy.board.note_endpoint(0, "green", proxy.addresses[0], up=True, reason="")
    proxy.board.note_endpoint(1, "green", proxy.addresses[0], up=True, reason="")
    assert proxy.texts() == ["10.0.0.1:80 back, can be connected to"]


def test_death_of_a_worker_is_told_and_its_successor() -> None:
    """A worker that dies is an error, with its process; so is told who took its place."""
    proxy = Watched()
    proxy.counts[1].worker[Worker.PID] = 0
    proxy.counts[1].publish()
    assert proxy.news() == [("worker", "error", "worker 1 (process 101) ended", None)]
    proxy.counts[1].worker[Worker.PID] = 300
    proxy.counts[1].publish()
    proxy.board.workers[1] = WorkerView(300, 1)
    assert proxy.texts() == ["worker 1 is back (process 300)"]


def test_worker_that_a_reload_adds_or_sends_away_is_told() -> None:
    """Workers that come and go by a reload are told, and not as deaths."""
    proxy = Watched()
    proxy.board.block(2)[Worker.PID] = 102
    proxy.board.workers[2] = WorkerView(102, 2)
    assert proxy.texts() == ["worker 2 has come"]
    proxy.reload(SILLYPROXY_WORKERS="1")
    proxy.board.block(2)[Worker.PID] = 0
    assert proxy.texts() == ["configuration 2 is in force: SILLYPROXY_WORKERS 2 → 1"]
    del proxy.board.workers[2]
    assert proxy.texts() == ["worker 2 has left"]


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"draining": True}, "drain", "draining: what is under way may end, nothing new should come"),
        ({"shedding": True}, "memory", "memory runs out: new clients are refused"),
        ({"endpoints": {}}, "readiness", "not ready: no endpoints: not looked up or checked yet"),
    ],
)
def test_what_happens_to_the_whole_proxy_is_told(change: dict[str, object], kind: str, text: str) -> None:
    """Drain, memory that runs out, and lost readiness are each one event."""
    proxy = Watched()
    for name, value in change.items():
        setattr(proxy.board, name, value)
    assert [(found[0], found[2]) for found in proxy.news()] == [(kind, text)]
    assert proxy.news() == []


def test_opened_gate_is_told() -> None:
    """That the colors have answered, and the proxy has started, is an event."""
    proxy = Proxy()
    waits = ["blue: refused"]
    proxy.board.awaited = lambda: waits[0]
    chronicle = Chronicle(proxy.board)
    chronicle.look()
    waits[0] = ""
    proxy.board.events.clear()
    chronicle.look()
    assert [event.text for event in proxy.board.events] == ["started: the colors have answered"]


def test_ids_grow_and_the_oldest_are_forgotten() -> None:
    """A proxy that runs for months keeps the newest hundred events; each has a number of its own."""
    proxy = Proxy()
    chronicle = Chronicle(proxy.board)
    for number in range(2 * EVENTS_KEPT):
        proxy.board.shedding = number % 2 == 0
        chronicle.look()
    ids = [event.id for event in proxy.board.events]
    assert len(ids) == EVENTS_KEPT
    assert ids == sorted(set(ids))
