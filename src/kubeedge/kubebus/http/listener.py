"""A TCP listener for a client proxy: counted connections, dead clients noticed, a certain end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from kubeedge.kit.streams import abort_writer
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http.forward import STREAM_BUFFER

log = logging.getLogger("kubeedge.kubebus.http")

StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# A client that vanished without a word is noticed after about two minutes, though a stream to it has nothing to say.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


@contextlib.asynccontextmanager
async def listening(
    address: str, port: int, handle: StreamHandler, *, connections: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Serve while the block runs; yields where (port 0: the kernel's choice). Connections are cancelled at the end."""
    async with TaskSet("web connections") as tasks:

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(tasks) >= connections:
                log.warning("connection refused: %d are open already", connections)
                abort_writer(writer)
                return
            _keep_alive(writer)
            tasks.start(_run(handle, reader, writer), "web connection")

        extra: dict[str, Any] = {"ssl_handshake_timeout": 10.0, "ssl_shutdown_timeout": 1.0} if tls else {}
        server = await asyncio.start_server(connected, address, port, limit=STREAM_BUFFER, ssl=tls, **extra)
        try:
            yield server.sockets[0].getsockname()[:2]
        finally:
            server.close()


async def _run(handle: StreamHandler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await handle(reader, writer)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # the client is gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
