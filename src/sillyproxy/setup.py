"""What the supervisor hands to the processes that it forks."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sillyproxy.config.schema import Config, Listener
from sillyproxy.tools.channel import Channel

if TYPE_CHECKING:
    from ssl import SSLContext


@dataclass(slots=True)
class WorkerSetup:
    """
    For `worker.run`.

    The listening sockets are bound, listen, and are this worker's alone (SO_REUSEPORT; a
    unix socket is shared). They stay open in the supervisor, so that a worker's death
    leaves the connections in its accept queue to its successor. `block` is its part of
    the shared counts, `memory` all of them. `lifeline` reads end-of-file when the supervisor is gone.
    `control` brings what the supervisor says later: Serve, with the sockets to accept on from then.
    `spans` is its ring of finished spans (`metrics.spans`); None: nobody reads them. `tls` is the
    context that all workers begin with, so that a session goes on in any of them; None: each has its own.
    """

    index: int
    config: Config
    listeners: list[tuple[Listener, socket.socket]]
    channel: Channel
    block: memoryview
    lifeline: int
    memory: memoryview | None = None
    control: Channel | None = None
    spans: memoryview | None = None
    tls: SSLContext | None = None


@dataclass(slots=True)
class ControllerSetup:
    """
    For `controller.run`.

    `admin` is bound and listens, None if it is off. `channels` are the controller's ends,
    one a worker. `memory` is the whole of the shared counts, `spans` all rings of spans.
    `control` brings what the supervisor says later: Serve, with the controller's ends of all
    channels there are then, or Refused. `lasting` is what a controller leaves to its successor:
    64-bit integers, 0 at first. `started_at` is when the supervisor started; seconds since 1970.
    """

    config: Config
    admin: socket.socket | None
    channels: list[Channel]
    memory: memoryview
    spans: memoryview
    lifeline: int
    control: Channel
    lasting: memoryview
    started_at: float = 0.0
