"""
The states of an exchange: which event it waits for. What is not awaited does nothing.

    OVER → CONNECTING → WAITING → ANSWERING → FLUSHING → OVER
    OVER → WAITING              over an idle connection
    CONNECTING, OVER ↔ QUEUED   while every endpoint of the color is as busy as it may be
    WAITING → OVER              the whole response came, and went, at once
    WAITING → TUNNELLING        101
    WAITING → CONNECTING        sent again elsewhere
    any → OVER                  something went wrong, and the client was told or is gone
"""

from __future__ import annotations

from typing import Final

OVER: Final = 0  # nothing under way
CONNECTING: Final = 1  # to an endpoint
WAITING: Final = 2  # for the response's head
ANSWERING: Final = 3  # the response's body is on its way
FLUSHING: Final = 4  # all of the response is here, not all of it with the client
TUNNELLING: Final = 5
QUEUED: Final = 6
