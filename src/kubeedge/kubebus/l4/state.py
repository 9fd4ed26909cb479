"""The states of an L4 connection: those of TCP (RFC 9293, section 3.3.2), with CLOSE_WAIT and FIN_WAIT folded into two flags."""

from __future__ import annotations

import enum


class ConnectionState(enum.Enum):
    """The state that decides what a connection may send and receive."""

    SYN_SENT = "syn sent"
    SYN_RECEIVED = "syn received"
    ESTABLISHED = "established"
    CLOSED = "closed"  # both directions ended as they should
    RESET = "reset"  # broken; `error` says by what
