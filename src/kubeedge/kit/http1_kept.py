"""An HTTP/1.1 connection to one server that is kept from one request to the next, and made again when it is of no use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from kubeedge.kit.http1_client import Connection

OpenStreams: TypeAlias = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class KeptConnection:
    """`connect` makes one. One request at a time, and time limits, are the caller's: a request that is cancelled cuts the connection, so an answer that
    comes too late is nobody's."""

    def __init__(self, connect: OpenStreams) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    async def open(self) -> Connection:
        """The connection; a new one where there is none, or none that can be used. Raises what `connect` raises."""
        if self._connection is None or not self._connection.reusable:
            self.cut()
            self._connection = Connection(*await self._connect())
        return self._connection

    async def exchange(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, *, limit: int
    ) -> tuple[int, bytes]:
        """(status, body) of the answer. Whoever needs for the headers what `connect` has read calls `open` first. Raises as `ask`."""
        status, _, data = await self.ask(method, target, headers, body, limit=limit)
        return status, data

    async def ask(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, *, limit: int
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """(status, headers, body) of the answer. Raises BodyTooLarge for more than `limit` bytes, OSError and PeerError; then the connection is cut."""
        connection = await self.open()
        is_whole = False
        try:
            answer = await connection.request(method, target, headers, body)
            data = await answer.read(limit)
            is_whole = True
        finally:
            if not is_whole:
                self.cut()
        return answer.status, answer.headers, data

    async def close(self) -> None:
        """Ends the connection, when the server has taken what was written; the next request makes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def cut(self) -> None:
        """Ends the connection at once, whatever is on its way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
