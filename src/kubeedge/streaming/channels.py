"""A client of exec or attach over a WebSocket: {v4,v5}.channel.k8s.io, and channel.k8s.io, whose end is told as text, which is
also what a client gets that names no protocol.

first byte of a message     0 stdin, 1 stdout, 2 stderr, 3 how it ended, 4 size of the terminal
255, in v5                  the second byte names the channel that the client has ended
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, Literal

from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.kit.tasks import first_of
from kubeedge.streaming.byte_stream import HELD, SocketStream, cost
from kubeedge.streaming.command import CommandOptions, size_of
from kubeedge.streaming.status import encoded_status, told_as_text
from kubeedge.streaming.websocket import WebSocket

_STDIN, _ERROR, _RESIZE, _CLOSE = 0, 3, 4, 255
_OUTPUTS = {"stdout": 1, "stderr": 2}
UNREAD = 256 * 1024  # bytes of input that wait; then no more is read


class ChannelCommand:
    """A command whose streams are channels of a WebSocket."""

    def __init__(
        self, connection: SocketStream, protocol: str, options: CommandOptions, held: HeldBytes | None = None
    ) -> None:
        """`protocol`: one of negotiation.COMMAND_WEBSOCKET. `held`: of all sessions of the node."""
        self._connection = connection
        self._held = held or HeldBytes(HELD)
        self._socket = WebSocket(connection, self._held)
        self._half_close = protocol == "v5.channel.k8s.io"
        self._structured = protocol not in ("channel.k8s.io", "")  # the end as a Status; else as text
        self._wanted = {name for name, there in (("stdout", options.stdout), ("stderr", options.stderr)) if there}
        self._stdin = options.stdin
        self._input: deque[bytes] = deque()
        self._unread = 0
        self._input_ended = not options.stdin
        self._size: tuple[int, int] | None = None  # the newest that was not asked for yet
        self._gone = False
        self._changed = asyncio.Condition()
        self._room = asyncio.Event()

    async def run(self) -> None:
        try:
            await self._socket.send(bytes([_OUTPUTS["stdout"] if "stdout" in self._wanted else _ERROR]))
            while (message := await self._socket.receive()) is not None:
                if message:
                    await self._take(message)
                if self._unread > UNREAD:
                    self._room.clear()
                    await first_of(self._room.wait(), self._connection.lost())
                    if self._unread > UNREAD:
                        return
        finally:
            self._gone = True
            async with self._changed:
                self._changed.notify_all()

    async def ready(self) -> None:
        return

    async def input(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._input or self._input_ended or self._gone)
        if not self._input:
            return b""
        data = self._input.popleft()
        self._count(-cost(data))
        if self._unread <= UNREAD:
            self._room.set()
        return data

    async def size(self) -> tuple[int, int] | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._size is not None or self._gone)
        size, self._size = self._size, None
        return size

    async def output(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if stream in self._wanted:
            await self._socket.send(bytes([_OUTPUTS[stream]]) + data)

    async def finish(self, status: dict[str, Any]) -> None:
        said = encoded_status(status) if self._structured else told_as_text(status)
        await self._socket.send(bytes([_ERROR]) + said)
        await self._socket.end()

    def _count(self, size: int) -> None:
        self._unread += size
        self._held.hold(self._connection, "input", self._unread)

    async def _take(self, message: bytes) -> None:
        match message[0]:
            case 0 if self._stdin and not self._input_ended and len(message) > 1:
                data = message[1:]
                self._input.append(data)
                self._count(cost(data))
            case 4:
                self._size = _size(message[1:]) or self._size
            case 255 if self._half_close and message[1:2] == bytes([_STDIN]):
                self._input_ended = True
            case _:
                return
        async with self._changed:
            self._changed.notify_all()


def _size(data: bytes) -> tuple[int, int] | None:
    if len(data) > 1024:
        return None
    try:
        return size_of(json.loads(data))
    except (ValueError, RecursionError):
        return None
