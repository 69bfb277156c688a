"""What bounds the data plane, where no setting does."""

from __future__ import annotations

from typing import Final

SECOND_NS: Final = 1_000_000_000

# One read of a body. Larger reads save calls, smaller ones stay in the processor's cache;
# measured best for 1 MiB bodies. It bounds what waits for a slow reader, per direction.
RELAY_BYTES: Final = 256 * 1024

# A bit of every round goes to each connection, not all of it to one with a fast peer.
RELAY_ROUNDS: Final = 8

# What a tunnel (WebSocket) may be silent: its ends have pings of their own.
TUNNEL_IDLE_NS: Final = 3600 * SECOND_NS

# An endpoint's machine that acknowledges nothing for so long is gone: its kernel would, however
# slow the application is. Retransmissions alone go on for a quarter of an hour.
SILENT_MACHINE_S: Final = 3

# A client that was told our last word has this long to read it.
LINGER_NS: Final = 2 * SECOND_NS

# A client that has closed its sending side may still want its answer, or be gone; that
# cannot be told apart before something is sent to it.
HALF_CLOSED_NS: Final = SECOND_NS
