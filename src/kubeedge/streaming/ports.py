"""Ports of a pod: what both forms of port-forward know of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

#: connects to a port of the pod; raises OSError or KubeEdgeError
Dial: TypeAlias = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def port_number(text: str) -> int:
    """Of a port that a client has named; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536 else 0


def not_forwarded(port: int, exc: Exception) -> bytes:
    """What a client is told of a connection that could not be made."""
    reason = (exc.strerror if isinstance(exc, OSError) else "") or str(exc) or type(exc).__name__
    return f"error forwarding port {port}: {reason}".encode()
