"""An HTTP server on a TCP port without a connection limiter. Listeners of the product use kubeedge.kit.acceptor."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from kubeedge.kit.http1 import Limits, RequestHandler, serve_connection


async def start_tcp_server(
    host: str, port: int, handler: RequestHandler, *, tls: ssl.SSLContext | None = None, limits: Limits | None = None
) -> asyncio.Server:
    """Serve every connection with `handler`, until the server is closed."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, handler, limits=limits)

    extra: dict[str, Any] = {"ssl_handshake_timeout": 10.0, "ssl_shutdown_timeout": 1.0} if tls else {}
    return await asyncio.start_server(connected, host, port, ssl=tls, limit=256 * 1024, **extra)
