"""
The addresses that we hold for the others: which are bound, and how one set becomes the next.

A new set is bound whole before anything of the old is given up (`plan`); then it takes the old
one's place (`adopt`). An address that stays keeps its sockets, and with them who waits there.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sillyproxy.config.schema import Config, Listener
from sillyproxy.config.values import overlap
from sillyproxy.tools.channel import MAX_SOCKETS
from sillyproxy.tools.listen import Bound, CannotListen, bind, bind_more, listen


@dataclass(slots=True)
class Plan:
    """The addresses of a configuration, all bound; nobody is let in on the new ones yet."""

    bound: list[Bound] = field(default_factory=list)
    admin: Bound | None = None
    new: list[Bound] = field(default_factory=list)
    more: list[tuple[Bound, tuple[socket.socket, ...]]] = field(default_factory=list)

    def close(self) -> None:
        """Give up what was bound for it."""
        for bound in self.new:
            bound.unlink()
            bound.close()
        for _, sockets in self.more:
            for sock in sockets:
                sock.close()


class Addresses:
    """What is bound now: `bound` for the workers, `admin` for the controller; `inherited` before our time."""

    def __init__(self, inherited: Sequence[Bound] = ()) -> None:
        self._inherited = tuple(inherited)
        self.bound: list[Bound] = []
        self.admin: Bound | None = None

    def plan(self, config: Config) -> Plan:
        """
        Bind what `config` asks for and is not bound yet.

        Raise CannotListen or OSError, and all is as before.
        """
        plan = Plan()
        have = [*self.bound]
        try:
            for listener in self._asked(config):
                bound = self._find(listener, have)
                if bound is None:
                    plan.new.append(bound := self._bind(listener, config.workers))
                else:
                    have.remove(bound)
                    if missing := bind_more(bound, config.workers):
                        plan.more.append((bound, missing))
                plan.bound.append(bound)
            if config.admin is not None:
                plan.admin = self._find(config.admin, [self.admin] if self.admin else [])
                if plan.admin is None:
                    plan.new.append(admin := self._bind(config.admin, 1))
                    plan.admin = admin
            _check_number(plan, config.workers)
        except (CannotListen, OSError):
            plan.close()
            raise
        return plan

    def adopt(self, plan: Plan) -> list[Bound]:
        """
        Put a plan in force; return the addresses that are no more ours, still open.

        Raise CannotListen, and all is as before.
        """
        try:
            for bound in plan.new:
                if not bound.inherited:
                    listen(bound.listener, bound.sockets)
            for bound, sockets in plan.more:
                listen(bound.listener, sockets)
        except CannotListen:
            plan.close()
            raise
        for bound, sockets in plan.more:
            bound.sockets += sockets
        left = [bound for bound in self.all() if bound not in plan.bound and bound is not plan.admin]
        self.bound, self.admin = plan.bound, plan.admin
        return left

    def all(self) -> list[Bound]:
        """Return every address that is in use."""
        return [*self.bound, *([self.admin] if self.admin else [])]

    def unused(self) -> list[Listener]:
        """Return the inherited addresses that nobody serves: their clients wait in vain."""
        used = {replace(bound.listener, tls=False) for bound in self.all()}
        return [bound.listener for bound in self._inherited if bound.listener not in used]

    def sockets_of(self, place: int, workers: int) -> list[tuple[Listener, socket.socket]]:
        """Return what the worker at `place` among `workers` accepts on."""
        return [(bound.listener, sock) for bound in self.bound for sock in bound.sockets_of(place, workers)]

    def close_all(self, but: Sequence[socket.socket] = ()) -> None:
        """Close every socket in this process, but for these."""
        for bound in (*self.all(), *self._inherited):
            for sock in bound.sockets:
                if sock not in but:
                    sock.close()

    def unlink_all(self) -> None:
        """Remove the paths of our unix sockets."""
        for bound in self.all():
            bound.unlink()

    def _asked(self, config: Config) -> Sequence[Listener]:
        """Return where to serve: who says nothing and passes sockets on means these."""
        tls = config.tls.listeners
        if "SILLYPROXY_LISTEN" in config.origins:
            return (*config.listeners, *tls)
        others = [
            self._find_inherited(listener) for listener in (*tls, *([config.admin] if config.admin else ()))
        ]
        passed = [bound.listener for bound in self._inherited if bound not in others]
        return (*(passed or config.listeners), *tls)

    @staticmethod
    def _find(listener: Listener, among: Sequence[Bound]) -> Bound | None:
        return next((bound for bound in among if bound.is_asked_by(listener)), None)

    def _find_inherited(self, listener: Listener) -> Bound | None:
        # On a machine without IPv6 all addresses are those of IPv4.
        hosts = ("", "0.0.0.0") if listener.host in ("", "::") else (listener.host,)  # noqa: S104
        meant = [replace(listener, host=host, tls=False) for host in hosts]
        return next((bound for one in meant for bound in self._inherited if bound.listener == one), None)

    def _bind(self, listener: Listener, copies: int) -> Bound:
        inherited = self._find_inherited(listener)
        if inherited is not None:
            # A copy: ours is closed when the address leaves, and it may come back.
            copy = inherited.sockets[0].dup()
            real = replace(inherited.listener, tls=listener.tls)
            return Bound(listener, real, (copy,), shared=True, inherited=True)
        is_ours = any(overlap(listener, bound.listener) for bound in self.all())
        return bind(listener, copies, shared=is_ours)


def _check_number(plan: Plan, workers: int) -> None:
    """See that the sockets of a worker can be passed to it. Raise CannotListen."""
    more = {bound: len(sockets) for bound, sockets in plan.more}
    count = 0
    for bound in plan.bound:
        count += 1 if bound.shared else -(-(len(bound.sockets) + more.get(bound, 0)) // workers)
        if count > MAX_SOCKETS:
            raise CannotListen(bound.listener, "too many sockets for so few workers; restart")
