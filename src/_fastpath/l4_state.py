"""The states of an L4 connection: those of TCP (RFC 9293, section 3.3.2), with CLOSE_WAIT and FIN_WAIT folded into two flags.

In the order of kb_conn_state (l4/l4.h). The compiled modules are below all other packages but the errors, so what they answer with is here.
"""

from __future__ import annotations

import enum


class ConnectionState(enum.Enum):
    """The state that decides what a connection may send and receive."""

    SYN_SENT = "syn sent"
    SYN_RECEIVED = "syn received"
    ESTABLISHED = "established"
    CLOSED = "closed"  # both directions ended as they should
    RESET = "reset"  # broken; `error` says by what
