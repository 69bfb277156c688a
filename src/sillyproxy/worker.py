"""
A worker: one process of the data plane. Wiring only; what happens to a request is told in `proxy`.

Its life:

    SERVING    SIGTERM: responses announce the connection's end, connections still accepted  → LEAVING
    LEAVING    the drain delay is over (SIGINT: at once): who waits is accepted, then nobody  → DRAINING
    DRAINING   nothing is under way any more, or the drain timeout is over and all was evicted → exit 0
    LEAVING    SIGINT: the delay is over                                                      → DRAINING

A signal that comes twice is the same wish: service managers tell every process and the supervisor tells us
again. Who wants it to end at once tells the supervisor, which kills.

When its supervisor is gone (the lifeline ends) it drains like after SIGTERM.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterable
from functools import partial
from random import random
from threading import TIMEOUT_MAX, Thread
from typing import TYPE_CHECKING, Final

from sillyproxy.config import schema
from sillyproxy.config.schema import AccessLog, Config
from sillyproxy.metrics.layout import Worker
from sillyproxy.metrics.slab import Counts, block_of
from sillyproxy.metrics.spans import SpanWriter
from sillyproxy.proxy.downstream import IDLE
from sillyproxy.proxy.edge import SECOND_NS, Edge
from sillyproxy.proxy.formats import make_recorder
from sillyproxy.proxy.listener import Listener
from sillyproxy.proxy.logfile import open_writer, reopen
from sillyproxy.proxy.loop import LEVEL_IN
from sillyproxy.setup import WorkerSetup
from sillyproxy.tools import logs
from sillyproxy.tools.channel import (
    Address,
    Applied,
    Ejected,
    Ejection,
    Endpoints,
    EndpointState,
    Hello,
    Reopen,
    Serve,
)
from sillyproxy.traffic.endpoint import Endpoint

if TYPE_CHECKING:
    from sillyproxy.proxy.certificates import Certificates
    from sillyproxy.proxy.http2.server import Multiplexer
    from sillyproxy.proxy.transport import Transport

SERVING: Final = 0
LEAVING: Final = 1
DRAINING: Final = 2

_CONNECTIONS_OPEN: Final = int(Worker.CONNECTIONS_OPEN)

# Beside client and upstream connections a process needs a few descriptors for itself.
_OWN_DESCRIPTORS: Final = 64
_LOG_CLOSE_S: Final = 0.5
# Somebody waits for the end of one that leaves.
_LEAVING_TICK_S: Final = 0.02

_LAST_WORDS_NS: Final = 300_000_000

# A worker that knows no endpoint can only answer 503; the controller needs a moment to tell.
_WAIT_ENDPOINTS_NS: Final = 5 * SECOND_NS


def run(setup: WorkerSetup) -> int:
    """Serve until told to stop. Return the exit status."""
    return _Worker(setup).run()


class _Worker:
    def __init__(self, setup: WorkerSetup) -> None:
        config = setup.config
        self._setup = setup
        self._config = config
        self._phase = SERVING
        self._until_ns = 0
        self._is_open = False
        self._is_evicting = False
        self._is_surplus = False
        access_log = config.access_log
        recorder = make_recorder(access_log, open_writer(access_log.target), random())  # noqa: S311  (no secret)
        counts = Counts(setup.block, len(config.slots) + 1)
        tell_span = [SpanWriter(setup.spans).write] if setup.spans is not None else []
        self._edge = edge = Edge(
            config, counts, recorder, _log, self._report, self._report_ejection, *tell_span
        )
        edge.generations.on_applied = self._say_applied
        # What to accept on, by inode: a socket that is sent to us again is the same one.
        self._sockets = _by_inode(sock for _, sock in setup.listeners)
        self._tls_inodes = _tls_inodes(setup.listeners)
        self._listeners: dict[int, Listener] = {}
        self._certificates: Certificates | None = None
        self._tls_applied: tuple[schema.Tls, str] | None = None
        self._multiplexer: Multiplexer | None = None
        self._shake_hands: Callable[[socket.SocketType, str], object] | None = None
        self._most_workers = config.workers
        self._silent_until_ns = edge.loop.now_ns + _WAIT_ENDPOINTS_NS
        edge.loop.ticking = True
        self._channel = setup.channel
        edge.loop.add(self._channel.fileno(), self._on_channel, LEVEL_IN)
        edge.loop.add(setup.lifeline, self._on_lifeline, LEVEL_IN)
        if setup.control is not None:
            edge.loop.add(setup.control.fileno(), self._on_control, LEVEL_IN)
        self._signals, wakeup = socket.socketpair()
        self._signals.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _noted)
        edge.loop.add(self._signals.fileno(), self._on_signal, LEVEL_IN)
        edge.on_tick_too = self._on_tick

    def run(self) -> int:
        edge = self._edge
        self._channel.send(Hello(self._setup.index, os.getpid(), self._config.generation))
        # What is made from here on is made per connection and freed by its references;
        # what was made until here stays.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        edge.settle()
        edge.loop.run()
        edge.settle()
        if edge.recorder.writer:
            edge.recorder.writer.close(_LOG_CLOSE_S)
        return 0

    # What the controller says.

    def _on_channel(self, _events: int) -> None:
        for message in self._channel.receive():
            if isinstance(message, Endpoints):
                self._edge.set_endpoints(message)
                self._open()

    def _open(self) -> None:
        """Begin to accept. Who came before we knew any endpoint has waited in the queue, not got a 503."""
        if not self._is_open and self._phase == SERVING:
            self._is_open = True
            self._accept_on(self._sockets)
            self._tell_supervisor(self._edge.table.generation)

    def _accept_on(self, sockets: dict[int, socket.socket]) -> None:
        """Accept on these from now on; who waits on one of the others is accepted first."""
        limit = _connection_limit(self._config)
        self._apply_tls()
        self._edge.multiplex = self._multiplex if self._config.http2 == "on" else None
        for inode in self._listeners.keys() - sockets.keys():
            self._listeners.pop(inode).close()
        for inode, sock in sockets.items():
            if inode in self._listeners:
                self._listeners[inode].max_connections = limit
            else:
                self._listeners[inode] = Listener(
                    self._edge,
                    sock,
                    limit,
                    self._count_others,
                    self._shake_hands if inode in self._tls_inodes else None,
                )

    def _apply_tls(self) -> None:
        """Show the certificates of the configuration in force from now on."""
        tls = self._config.tls
        if self._certificates is None and not tls.listeners:
            return
        # Imported here it is in the memory of those alone that need it.
        from sillyproxy.proxy.certificates import Certificates
        from sillyproxy.proxy.handshake import Handshake
        from sillyproxy.tools.pem import make_server_context

        if self._certificates is None:
            self._certificates = Certificates(self._setup.tls or make_server_context())
            self._shake_hands = partial(Handshake, self._edge, self._certificates)
        if self._tls_applied != (tls, self._config.http2):
            self._tls_applied = (tls, self._config.http2)
            self._certificates.apply(tls, ["h2", "http/1.1"] if self._config.http2 == "on" else ["http/1.1"])

    def _multiplex(self, sock: Transport, ip: str, scheme: bytes, identity: bytes, data: bytes) -> None:
        if self._multiplexer is None:
            # Imported here it is in the memory of those alone that need it.
            from sillyproxy.proxy.http2.server import Multiplexer

            self._multiplexer = Multiplexer(self._edge)
        self._multiplexer.begin(sock, ip, scheme, identity, data)

    def _count_others(self) -> int:
        """Return how many clients the other workers serve, 20 ms ago at most; 0 if no limit was set."""
        memory = self._setup.memory
        if memory is None or self._config.limits.connections is None:
            return 0
        others = (index for index in range(self._most_workers) if index != self._setup.index)
        return sum(block_of(memory, index)[_CONNECTIONS_OPEN] for index in others)

    def _report(self, color: str, endpoint: Endpoint, up: bool, reason: str) -> None:
        address = Address(endpoint.upstream, endpoint.ip, endpoint.port)
        self._channel.send(EndpointState(self._setup.index, color, address, up, reason))

    def _report_ejection(self, color: str, endpoint: Endpoint, term: tuple[int, int], reason: str) -> None:
        address = Address(endpoint.upstream, endpoint.ip, endpoint.port)
        self._channel.send(Ejected(self._setup.index, color, address, Ejection(*term), reason))

    def _say_applied(self, generation: int) -> None:
        self._channel.send(Applied(self._setup.index, generation))
        self._tell_supervisor(generation)

    def _tell_supervisor(self, generation: int) -> None:
        if self._setup.control is not None and self._is_open:
            self._setup.control.send(Applied(self._setup.index, generation))

    # What the supervisor says.

    def _on_control(self, _events: int) -> None:
        assert self._setup.control is not None
        for message, sockets in self._setup.control.receive_with_sockets():
            if isinstance(message, Reopen):
                self._reopen_access_log()
            if not isinstance(message, Serve) or self._phase != SERVING:
                continue
            if self._setup.index >= message.config.workers:
                self._leave_to_others()
            else:
                self._tls_inodes = _tls_inodes(zip(message.listeners, sockets, strict=True))
                self._serve(message.config, _by_inode(sockets))

    def _serve(self, config: Config, sockets: dict[int, socket.socket]) -> None:
        """Serve by another configuration, or on other sockets. What stays is not touched."""
        before, self._config = self._config, config
        self._most_workers = max(self._most_workers, config.workers)
        if config != before:
            logs.setup(
                log_format=config.log_format,
                level=config.log_level,
                process=f"sillyproxy worker {self._setup.index}",
            )
            if config.access_log != before.access_log:
                self._change_access_log(config.access_log)
            self._edge.apply(config)
        for inode in sockets.keys() & self._sockets.keys():
            sockets.pop(inode).close()  # one copy is enough
            sockets[inode] = self._sockets[inode]
        for inode in self._sockets.keys() - sockets.keys():
            if not self._is_open:
                self._sockets[inode].close()
        self._sockets = sockets
        if self._is_open:
            self._accept_on(sockets)

    def _change_access_log(self, access_log: AccessLog) -> None:
        edge = self._edge
        try:
            recorder = make_recorder(access_log, open_writer(access_log.target))
        except OSError as error:
            logs.error("cannot open the access log, keeping the old one", reason=error.strerror)
            return
        before = edge.recorder
        before.flush()
        recorder.go_on_from(before)
        edge.recorder = recorder
        edge.logs = recorder.writer is not None
        if before.writer:
            # Its lines may have to wait for a slow reader; nobody waits with them.
            Thread(target=before.writer.close, args=(TIMEOUT_MAX,), daemon=True).start()

    def _reopen_access_log(self) -> None:
        """Write to the file that has the log's name now: the one before has been renamed."""
        recorder, path = self._edge.recorder, self._config.access_log.target
        if recorder.writer is None or not self._config.access_log.is_file:
            return
        recorder.flush()
        try:
            reopen(path, recorder.writer)
        except OSError as error:
            reason = error.strerror or str(error)
            logs.error("cannot reopen the access log, keeping the old one", path=path, reason=reason)

    # The end.

    def _on_lifeline(self, _events: int) -> None:
        self._edge.loop.remove(self._setup.lifeline)
        if self._setup.control is not None:
            self._edge.loop.remove(self._setup.control.fileno())
        logs.error("the supervisor is gone, draining")
        self._leave(self._config.timeouts.drain_delay_s)

    def _on_signal(self, _events: int) -> None:
        for number in self._signals.recv(64):
            if number not in (signal.SIGTERM, signal.SIGINT):
                continue
            if number == signal.SIGTERM:
                self._leave(self._config.timeouts.drain_delay_s)
            elif self._phase == LEAVING:
                self._drain()
            else:
                self._leave(0.0)

    def _leave(self, delay_s: float) -> None:
        if self._phase != SERVING:
            return
        edge = self._edge
        self._phase = LEAVING
        edge.draining = True
        edge.loop.set_tick(_LEAVING_TICK_S)
        edge.loop.ticking = True
        self._until_ns = edge.loop.now_ns + int(delay_s * SECOND_NS)
        if not delay_s:
            self._drain()

    def _leave_to_others(self) -> None:
        """
        End as one worker too many: the others accept, and there is no hurry.

        Who is connected is told with the next answer that the connection ends. One that is closed
        while it is idle may just be sending a request.
        """
        timeouts = self._config.timeouts
        self._is_surplus = True
        self._leave(0.0)
        self._until_ns += int(timeouts.drain_delay_s * SECOND_NS)

    def _drain(self) -> None:
        """Nobody new: see those out who are here."""
        edge = self._edge
        self._phase = DRAINING
        for listener in self._listeners.values():
            listener.close()
        self._until_ns = edge.loop.now_ns + int(self._config.timeouts.drain_timeout_s * SECOND_NS)
        edge.loop.ticking = True
        edge.generations.say_goodbyes(self._until_ns - edge.loop.now_ns)
        self._see_out()

    def _see_out(self) -> None:
        """Close who is idle; end when nobody is left, or when time is up."""
        edge = self._edge
        now_ns = edge.loop.now_ns
        for down in tuple(edge.connections):
            # One that was just accepted is given a moment to say what it came for.
            is_new = down.fresh and down.deadline_ns - edge.header_ns >= now_ns - SECOND_NS // 2
            if down.phase == IDLE and not is_new and not self._is_surplus:
                down.leave()
        if not edge.clients:
            edge.loop.stopped = True
        elif now_ns >= self._until_ns:
            if self._is_evicting:
                edge.loop.stopped = True
                return
            # Our last words, a Close or an error, want to be read before the sockets are gone.
            self._is_evicting = True
            self._until_ns = now_ns + _LAST_WORDS_NS
            logs.warning("drain timeout: closing what is still under way", connections=edge.clients)
            for handshake in tuple(edge.handshakes):
                handshake.close()
            for down in tuple(edge.connections):
                down.evict()
            for conn in tuple(edge.multiplexed):
                conn.leave()

    def _on_tick(self) -> None:
        if not self._is_open and self._phase == SERVING:
            self._edge.loop.ticking = True
            if self._edge.loop.now_ns >= self._silent_until_ns:
                logs.warning("the controller is silent, serving without it")
                self._open()
        if self._phase == LEAVING and self._edge.loop.now_ns >= self._until_ns:
            self._drain()
        elif self._phase == DRAINING:
            self._see_out()


def _noted(_number: int, _frame: object) -> None:
    """Let the interpreter write the signal's number to the wake-up socket, where the loop reads it."""


def _log(level: str, message: str, **fields: str | int | float | bool | None) -> None:
    getattr(logs, level)(message, **fields)


def _by_inode(sockets: Iterable[socket.socket]) -> dict[int, socket.socket]:
    return {os.fstat(sock.fileno()).st_ino: sock for sock in sockets}


def _tls_inodes(listeners: Iterable[tuple[schema.Listener, socket.socket]]) -> frozenset[int]:
    """Return the sockets on which TLS is spoken."""
    return frozenset(os.fstat(sock.fileno()).st_ino for listener, sock in listeners if listener.tls)


def _connection_limit(config: Config) -> int:
    """Return how many client connections there may be: the limit that was set, and what descriptors allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    # Each client may need an upstream connection besides.
    limit = max(1, (soft - _OWN_DESCRIPTORS) // 2) if soft != resource.RLIM_INFINITY else 1 << 30
    return limit if config.limits.connections is None else min(limit, config.limits.connections)
