"""What carries the bytes of a streaming connection, and how long it may be silent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from kubeedge.kit.streams import abort_writer, close_writer

log = logging.getLogger("kubeedge.streaming")

IDLE = 4 * 3600.0  # seconds without a byte in either direction: the kubelet's streamingConnectionIdleTimeout
CHUNK = 64 * 1024  # bytes read at once
_PIECE = 64  # bytes that one costs besides its own
#: bytes of messages, of all sessions of a node: one is kept until it is whole, and may have 1 MiB
HELD = 8 * 1024 * 1024


def cost(piece: bytes) -> int:
    """Bytes of memory that a piece takes while it waits to be read: a client may send its input byte by byte."""
    return len(piece) + _PIECE


class ByteStream(Protocol):
    """Bytes in both directions. One reads at a time; several may write."""

    async def read(self) -> bytes:
        """What came; b"" at the end. Raises OSError, or PeerError when the other end broke the rules of what carries the bytes."""
        ...

    def write(self, data: bytes) -> None:
        """Queues bytes to be sent; drain() afterwards, or memory grows."""
        ...

    async def drain(self) -> None:
        """Waits while the other end does not read. Raises OSError."""
        ...

    async def lost(self) -> None:
        """Until the connection is gone; it is noticed also while nothing is read, where the transport can."""
        ...

    async def close(self) -> None:
        """Close the stream after what was written has gone out."""
        ...

    def abort(self) -> None:
        """Ends it at once; what was not sent is dropped."""
        ...


class SocketStream:
    """A ByteStream over a pair of asyncio streams. `first` came before, behind the head of the upgrade."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b"", *, idle: float = IDLE
    ) -> None:
        self._reader, self._writer, self._first = reader, writer, first
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._last = self._loop.time()

    async def read(self) -> bytes:
        data, self._first = self._first or await self._reader.read(CHUNK), b""
        self._last = self._loop.time()
        return data

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()
        self._last = self._loop.time()

    async def lost(self) -> None:
        with contextlib.suppress(OSError):
            await asyncio.shield(
                self._writer.wait_closed()
            )  # who stops waiting must not cancel the connection's own future

    async def close(self) -> None:
        await close_writer(self._writer)

    def abort(self) -> None:
        abort_writer(self._writer)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cut off while in here, once nothing has passed for too long."""
        watching = asyncio.create_task(self._watch(), name="idle limit of a streaming connection")
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while (left := self._last + self._idle - self._loop.time()) > 0:
            await asyncio.sleep(left)
        log.info("a streaming connection was silent for %g s: closed", self._idle)
        self.abort()
