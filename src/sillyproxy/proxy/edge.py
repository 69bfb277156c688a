"""
What everything in the data plane of one worker shares.

One `Edge` a worker: the loop, the table of colors, the counts, the plans, the limits.
It is handed down once and looked up by name; nothing here is global.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from ipaddress import ip_address
from os import urandom
from time import gmtime, strftime, time
from typing import TYPE_CHECKING, Final, Protocol

from sillyproxy.config.schema import Config, UpstreamTls
from sillyproxy.errors import Problem
from sillyproxy.http1.forward import RequestPlans, ResponsePlans, hsts_line, peer_fields
from sillyproxy.metrics.layout import Row, Worker
from sillyproxy.metrics.slab import Counts
from sillyproxy.metrics.spans import Span
from sillyproxy.proxy.budget import RetryBudget
from sillyproxy.proxy.generations import Generations
from sillyproxy.proxy.limits import RELAY_BYTES
from sillyproxy.proxy.limits import SECOND_NS as SECOND_NS
from sillyproxy.proxy.loop import Loop
from sillyproxy.proxy.passive import FELL_BACK, PassiveHealth, Term
from sillyproxy.proxy.record import Recorder
from sillyproxy.proxy.teller import OFTEN_NS, Teller
from sillyproxy.proxy.tracing import Tracer
from sillyproxy.proxy.upstream import expire_idle
from sillyproxy.proxy.waiting import WaitingRoom
from sillyproxy.tools.channel import Endpoints
from sillyproxy.traffic.color import ColorAtWork
from sillyproxy.traffic.endpoint import Endpoint
from sillyproxy.traffic.table import Table

if TYPE_CHECKING:
    import socket
    import ssl

    from sillyproxy.proxy.downstream import Downstream
    from sillyproxy.proxy.exchange import Exchange
    from sillyproxy.proxy.prelude import Prelude
    from sillyproxy.proxy.tls import TlsTransport
    from sillyproxy.proxy.transport import Transport
    from sillyproxy.proxy.upstream import Upstream

# Clients whose forwarding fields are kept ready.
_MAX_PEERS: Final = 4096

# The longest round is that of one or two of these.
_LAG_NS: Final = 5 * SECOND_NS

# The address of a client that has none: it came over a unix socket (RFC 7239, 6.2).
UNKNOWN: Final = "unknown"


class Multiplexed(Protocol):
    """A client's connection that carries several exchanges at a time."""

    def tick(self, now_ns: int) -> None:
        """Look for what is overdue."""

    def leave(self) -> None:
        """Take no more exchanges, and close when those that are under way are over."""


# Takes a connection, its client's address, its scheme, the client's identity, and what was read already.
Multiplex = Callable[["Transport", str, bytes, bytes, bytes], None]


def _forget(_span: Span) -> None:
    """Nobody wants to know."""


def _plans_by(config: Config) -> tuple[str, bool]:
    """Return what requests are read by, beside who sends them."""
    return config.color_header, config.tracing.mode != "off"


class Edge:
    """
    The shared state of one worker's data plane.

    `handshakes` are what comes before a request, with their deadlines.
    `connections` are those of HTTP/1.1, and of the streams of `multiplexed` ones: `lanes` of them;
    `multiplex` makes such a connection, None if clients may not speak HTTP/2. `leaving_carriers` are
    those to endpoints that take no more exchanges.
    `log` takes (level, message, fields); what `report` and `report_ejection` take, `PassiveHealth`
    says, and `tell_span` each exchange of a sampled trace. `shedding`: nobody new is to be let in.
    `queued` exchanges wait for an endpoint with room.
    """

    table: Table

    def __init__(
        self,
        config: Config,
        counts: Counts,
        recorder: Recorder,
        log: Callable[..., None],
        report: Callable[[str, Endpoint, bool, str], None],
        report_ejection: Callable[[str, Endpoint, Term, str], None],
        tell_span: Callable[[Span], None] = _forget,
    ) -> None:
        self.counts = counts
        self.worker_counts = counts.worker
        self.recorder = recorder
        self.logs = recorder.writer is not None
        self._peers: dict[bytes, dict[str, bytes]] = {b"http": {}, b"https": {}}
        self.log = log
        self.teller = Teller(log, lambda: self.loop.now_ns)
        self.passive = PassiveHealth(self, report, report_ejection)
        self.waiting = WaitingRoom(self)
        self.retries = RetryBudget(self)
        self.tracer = Tracer(config.tracing, tell_span)
        self.queued = 0
        self._tunnels: dict[int, int] = {}
        self.shedding = False
        self.connections: set[Downstream] = set()
        self.handshakes: dict[Prelude, int] = {}
        self.multiplexed: set[Multiplexed] = set()
        self.multiplex: Multiplex | None = None
        self.leaving_carriers: set[Multiplexed] = set()
        self.lanes = 0
        self.next_virtual_fd = -1
        self.connecting: dict[Upstream, int] = {}
        self.spare_exchanges: list[Exchange] = []
        self.draining = False
        self.on_tick_too: Callable[[], None] | None = None
        self.buffer = memoryview(bytearray(RELAY_BYTES))
        self.id_prefix = urandom(6).hex().encode()
        self.next_id = 0
        self._date = b""
        self._date_second = 0
        self._lag_before_ns = self._lag_until_ns = 0
        self._contexts: dict[str, tuple[UpstreamTls, ssl.SSLContext, ssl.SSLContext]] = {}
        self._set(config)
        self.loop = Loop(self._tick_s(), self.tick, self.settle, self.crash)
        self.generations = Generations(self, config)

    def apply(self, config: Config) -> None:
        """
        Serve by `config` from now on, instead of the one before.

        All at once, but for the table of colors, which may have to wait for its endpoints.
        """
        before = self.config
        self._set(config)
        self.tracer.apply(config.tracing)
        if _plans_by(before) != _plans_by(config) or before.trusted_proxies != config.trusted_proxies:
            for down in self.connections:
                down.plans = self.plans_for(down.ip, multiplexed=down.multiplexed)
        if before.tls.hsts != config.tls.hsts:
            for down in self.connections:
                down.responses = self.responses[down.scheme]
        if not self.draining:
            self.loop.set_tick(self._tick_s())
        self.generations.apply(config)

    def _tick_s(self) -> float:
        """Return how often to look for what is overdue: a quarter of the shortest wait."""
        waits = [self.header_ns, self.response_ns, self.idle_ns, self.connect_ns]
        waits += [
            int(color.queue_timeout_s * SECOND_NS) for color in self.config.colors if color.max_connections
        ]
        return max(0.02, min(0.25, min(waits) / SECOND_NS / 4))

    def _set(self, config: Config) -> None:
        timeouts, limits = config.timeouts, config.limits
        before = getattr(self, "config", None)
        self.config = config
        self.trusts = bool(config.trusted_proxies)
        self.connect_ns = int(timeouts.connect_s * SECOND_NS)
        self.response_ns = int(timeouts.response_s * SECOND_NS)
        self.header_ns = int(timeouts.header_s * SECOND_NS)
        self.idle_ns = int(timeouts.idle_s * SECOND_NS)
        self.max_head = limits.header_bytes
        self.max_body = limits.body_bytes
        self.redirects = int(config.tls.redirect) if config.tls.redirect != "off" else 0
        self.proxied_from = config.proxied_from
        self._wants_header = {
            color.name: color.proxy_protocol for color in config.colors if color.proxy_protocol != "off"
        }
        self._make_contexts(config)
        self.guards = bool(self.max_body or self.redirects)
        if before is None or before.tls.hsts != config.tls.hsts:
            plans = ResponsePlans()
            hsts = hsts_line(config.tls.hsts)
            self.responses = {b"http": plans, b"https": ResponsePlans(hsts) if hsts else plans}
        if before is None or _plans_by(before) != _plans_by(config):
            header, traced = _plans_by(config)
            self._plans = {
                (trusted, multiplexed): tuple(
                    RequestPlans(header, trusted=trusted, minor=minor, traced=traced, protocol=protocol)
                    for minor in (0, 1)
                )
                for trusted in (False, True)
                for multiplexed, protocol in ((False, b""), (True, b"HTTP/2.0"))
            }
            self.plans = self._plans[False, False]
        self.drop_trailers = frozenset((config.color_header.lower().encode(),))
        self.counts.grow(len(config.slots) + 1)
        self.no_color_row = self.counts.rows[0]

    def _make_contexts(self, config: Config) -> None:
        """Have a context for each color with TLS endpoints; one that stays the same stays."""
        before = self._contexts
        self._contexts = {}
        for color in config.colors:
            if all(upstream.scheme != "https" for upstream in color.upstreams):
                continue
            known = before.get(color.name)
            if known is None or known[0] != color.tls:
                # Imported here it is in the memory of those alone that need it.
                from sillyproxy.tools.pem import make_client_context

                tls = color.tls
                both, old = (
                    make_client_context(
                        tls.ca,
                        verify=tls.verify == "on",
                        chain=tls.chain,
                        key=tls.key,
                        minimum=tls.minimum,
                        protocols=protocols,
                    )
                    for protocols in (["h2", "http/1.1"], ["http/1.1"])
                )
                known = (tls, both, old)
            self._contexts[color.name] = known
        # A request that is under way may still have to connect by a configuration that is gone.
        for name in before.keys() - self._contexts.keys():
            self._contexts[name] = before[name]

    def secure(
        self, color: ColorAtWork, endpoint: Endpoint, sock: socket.SocketType, *, alone: bool
    ) -> TlsTransport:
        """Return TLS over a connection to an endpoint of `color`; `alone`: it is not to be HTTP/2."""
        from sillyproxy.proxy.tls import TlsTransport

        tls, both, old = self._contexts[color.name]
        return TlsTransport(old if alone else both, sock, server=False, name=tls.name or endpoint.host)

    def header_of(self, color: ColorAtWork) -> str:
        """Return the version of the PROXY header that a color's connections begin with; empty if none."""
        return self._wants_header.get(color.name, "")

    def plans_for(self, ip: str, *, multiplexed: bool) -> tuple[RequestPlans, ...]:
        """Return the plans by which a client's requests are read."""
        return self._plans[self.trusts and self.is_trusted(ip), multiplexed]

    @property
    def clients(self) -> int:
        """How many connections there are of clients, whatever they speak."""
        return len(self.connections) - self.lanes + len(self.handshakes) + len(self.multiplexed)

    def is_trusted(self, ip: str) -> bool:
        """Tell whether a client's forwarding fields are believed."""
        if ip == UNKNOWN:
            return False
        address = ip_address(ip)
        return any(address in network for network in self.config.trusted_proxies)

    def is_proxied(self, ip: str) -> bool:
        """Tell whether who connects from here begins with a PROXY header."""
        if ip == UNKNOWN:
            return False
        address = ip_address(ip)
        return any(address in network for network in self.proxied_from)

    def peer_fields(self, ip: str, scheme: bytes) -> bytes:
        """Return the forwarding fields of a client, and the beginning of its requests' ids."""
        peers = self._peers[scheme]
        fields = peers.get(ip)
        if fields is None:
            if len(peers) >= _MAX_PEERS:
                peers.clear()
            fields = peers[ip] = b"%b\r\nX-Request-ID: %b" % (peer_fields(ip, scheme), self.id_prefix)
        return fields

    def set_endpoints(self, news: Endpoints) -> None:
        """Use these endpoints from now on."""
        self.generations.hear(news)

    def close_idle(self) -> bool:
        """Give up the connection that has been idle the longest; False if there is none."""
        # The oldest of each come first.
        idle = [e.idle[0] for color in self.table.colors for e in color.endpoints if e.idle]
        if not idle:
            return False
        min(idle, key=lambda upstream: upstream.idle_since_ns).close()
        return True

    def date(self) -> bytes:
        """Return the value of Date (RFC 9110, 5.6.7)."""
        now = int(time())
        if now != self._date_second:
            self._date_second = now
            self._date = strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime(now)).encode()
        return self._date

    def fall_back(self, color: ColorAtWork, other: ColorAtWork, problem: Problem) -> None:
        """Count a request that goes to another color."""
        self.counts.add_fallback(color.slot, other.slot)
        reason = color.why_nobody(self.loop.now_ns) or problem.detail
        self.teller.tell("warning", FELL_BACK, OFTEN_NS, color=color.name, to=other.name, reason=reason)

    def count_tunnel(self, color: ColorAtWork | None, change: int) -> None:
        """Count one tunnel more, or one less."""
        self.worker_counts[Worker.TUNNELS_OPEN] += change
        if color is not None:
            self._tunnels[color.slot] = self._tunnels.get(color.slot, 0) + change

    def tick(self) -> None:
        """Close what is overdue."""
        now_ns = self.loop.now_ns
        overdue = [down for down in self.connections if down.deadline_ns < now_ns]
        for down in overdue:
            down.expire()
        while self.connecting:
            upstream, deadline_ns = next(iter(self.connecting.items()))
            if deadline_ns > now_ns:
                break
            upstream.expire()
        while self.handshakes:
            handshake, deadline_ns = next(iter(self.handshakes.items()))
            if deadline_ns > now_ns:
                break
            handshake.expire()
        for conn in tuple(self.multiplexed):
            conn.tick(now_ns)
        pooled = False
        for color in self.table.colors:
            for endpoint in color.endpoints:
                if endpoint.idle:
                    expire_idle(endpoint.idle, now_ns - self.idle_ns)
                    pooled = pooled or bool(endpoint.idle)
                if endpoint.carriers:
                    for carrier in tuple(endpoint.carriers):
                        carrier.tick(now_ns)
                    pooled = True
        for leaving in tuple(self.leaving_carriers):
            leaving.tick(now_ns)
        self.generations.tick(now_ns)
        self.passive.tick(now_ns)
        # An endpoint may have come back by itself.
        self.waiting.serve()
        # While nobody is connected nothing can become overdue, and nobody need wake up.
        self.loop.ticking = (
            pooled
            or self.draining
            or self.generations.busy
            or bool(self.connections or self.connecting or self.handshakes or self.multiplexed)
        )
        self.loop.unsettled = True
        if self.on_tick_too is not None:
            self.on_tick_too()

    def _tell_dropped(self) -> None:
        writer = self.recorder.writer
        if writer is not None:
            self.teller.tell(
                "warning",
                "access log lines given up",
                OFTEN_NS,
                of_requests=False,
                so_far=writer.dropped,
                reason=writer.reason,
            )

    def settle(self) -> None:
        """Show others what happened: publish the counts, write the log."""
        self.recorder.flush()
        worker = self.worker_counts
        worker[Worker.INFLIGHT] = (
            worker[Worker.ACCEPTED]
            - worker[Worker.ANSWERED]
            - worker[Worker.REPLIED]
            - worker[Worker.ABANDONED]
            - worker[Worker.LOST]
        )
        worker[Worker.CONNECTIONS_OPEN] = self.clients
        self._settle_lag(self.loop.now_ns)
        if self.recorder.dropped != worker[Worker.LOG_DROPPED]:
            worker[Worker.LOG_DROPPED] = self.recorder.dropped
            self._tell_dropped()
        for color in self.table.colors:
            row = self.counts.rows[color.slot]
            busy = sum(e.inflight for e in color.endpoints) + sum(e.inflight for e in color.leaving)
            row[Row.INFLIGHT] = row[Row.UPSTREAM_ACTIVE] = busy
            row[Row.UPSTREAM_IDLE] = sum(len(e.idle) for e in color.endpoints)
            row[Row.QUEUED] = self.waiting.length(color.name)
        for slot, number in self._tunnels.items():
            self.counts.rows[slot][Row.TUNNELS] = number
        if self.table.leaving:
            self.generations.settle_leaving()
        self.counts.publish()

    def _settle_lag(self, now_ns: int) -> None:
        """Show the longest round of this stretch of time and of the one before."""
        lag_ns = max(self.loop.longest_ns, self._lag_before_ns)
        if now_ns >= self._lag_until_ns:
            # After a time without a round there is none before.
            is_fresh = now_ns < self._lag_until_ns + _LAG_NS
            self._lag_before_ns = self.loop.longest_ns if is_fresh else 0
            self.loop.longest_ns = 0
            self._lag_until_ns = now_ns + _LAG_NS
        self.worker_counts[Worker.LOOP_LAG_NS] = lag_ns
        self.worker_counts[Worker.PUBLISHED_NS] = now_ns

    def crash(self, call: Callable[..., None]) -> None:
        """
        End what a bug of ours has broken, and nothing else.

        The traceback goes to the log whole; the connection that it happened on is closed.
        """
        self.log("error", "internal error", traceback=traceback.format_exc())
        owner = getattr(call, "__self__", None)
        crash = getattr(owner, "crash", None)
        if crash is not None:
            crash()
