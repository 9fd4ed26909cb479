"""The name in the TLS handshake of a connection, looked at while the kernel keeps its bytes: whoever serves the connection reads them again."""

from __future__ import annotations

import asyncio
import socket

from kubeedge.errors import Invalid
from kubeedge.gateway import client_hello
from kubeedge.kit import tcp

_SECONDS = 10.0  # for the whole first record


async def server_name(connection: socket.socket) -> str:
    """The host name that a client asks for; "": none. Raises OSError (TimeoutError, too), Invalid. The socket does not block."""
    needed = client_hello.HEADER
    async with asyncio.timeout(_SECONDS):
        while True:
            # readable once so much is there, so that a part of it wakes nobody (socket(7))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
            await tcp.readable(connection)
            seen = connection.recv(needed, socket.MSG_PEEK)
            if len(seen) < needed:
                raise Invalid("the connection ended before a TLS handshake")
            if len(seen) == (whole := client_hello.needed(seen)):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
                return client_hello.server_name(seen)
            needed = whole
