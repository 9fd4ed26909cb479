"""A client of exec or attach: input, sizes of its terminal, output, and how it ended. Over SPDY here, over a WebSocket in channels.py.

SPDY has a stream for each, told apart by the header streamType: error, stdin, stdout, stderr, resize. The client opens them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Literal, Protocol

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.streaming.byte_stream import ByteStream
from kubeedge.streaming.spdy_driver import SpdySession, SpdyStream
from kubeedge.streaming.status import encoded_status, told_as_text

_SIZES = 4096  # bytes of sizes that may wait for their end
_LINGER = 5.0  # seconds for the client to hang up, once it knows how it ended


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """Which streams there are (PodExecOptions, PodAttachOptions)."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class Command(Protocol):
    """What serves exec and attach knows of the client."""

    async def run(self) -> None:
        """Reads what the client sends, until it is gone. Raises OSError, PeerError."""
        ...

    async def ready(self) -> None:
        """Wait until the client has opened what it asked for."""
        ...

    async def input(self) -> bytes:
        """The next input of the client; b"" at its end, or when the client is gone."""
        ...

    async def size(self) -> tuple[int, int] | None:
        """The next one, in rows and columns; None: there are no more."""
        ...

    async def output(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Waits while the client does not read. Raises OSError. Dropped when it did not ask for this stream."""
        ...

    async def finish(self, status: dict[str, Any]) -> None:
        """Tells a Status (meta/v1): how it ended. Raises OSError."""
        ...


class SpdyCommand:
    """The streams of exec or attach over SPDY/3.1."""

    def __init__(self, byte_stream: ByteStream, protocol: str, options: CommandOptions) -> None:
        """`protocol` is one of negotiation.COMMAND_SPDY."""
        self._structured = protocol == "v4.channel.k8s.io"  # the end as a Status; else as text
        resizes = options.tty and protocol != "v2.channel.k8s.io"
        wanted = (
            ("stdin", options.stdin),
            ("stdout", options.stdout),
            ("stderr", options.stderr),
            ("resize", resizes),
        )
        self._expected = {"error", *(name for name, there in wanted if there)}
        self._streams: dict[str, SpdyStream] = {}
        self._complete = asyncio.Event()
        self._session = SpdySession(byte_stream, self._opened, streams=len(self._expected))
        self._sizes = Sizes()

    async def run(self) -> None:
        await self._session.run()

    async def ready(self) -> None:
        await self._complete.wait()

    async def input(self) -> bytes:
        stream = self._streams.get("stdin")
        return await stream.read() if stream is not None else b""

    async def size(self) -> tuple[int, int] | None:
        stream = self._streams.get("resize")
        while stream is not None:
            if (size := self._sizes.next()) is not None:
                return size
            if not (data := await stream.read()):
                break
            self._sizes.feed(data)
        return None

    async def output(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        found = self._streams.get(stream)
        if found is not None:
            await found.write(data)

    async def finish(self, status: dict[str, Any]) -> None:
        error = self._streams.get("error")
        if error is not None:
            await error.write(encoded_status(status) if self._structured else told_as_text(status))
        for stream in self._streams.values():
            await stream.end()

    def _opened(self, stream: SpdyStream) -> None:
        kind = stream.headers.get("streamtype", "")
        if kind not in self._expected or kind in self._streams:
            self._session.forget(stream)
            return
        self._streams[kind] = stream
        if len(self._streams) == len(self._expected):
            self._complete.set()


class Sizes:
    """Sizes of a terminal as they come: JSON objects, one behind the other, {"Width": columns, "Height": rows}."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, data: bytes) -> None:
        """Raises PeerError for what goes on without an end."""
        self._text += data.decode("ascii", "replace")
        if len(self._text) > _SIZES:
            raise PeerError(f"{len(self._text)} bytes of sizes of a terminal that are none")

    def next(self) -> tuple[int, int] | None:
        """The next size; None while none is complete. What is no size is passed over."""
        while text := self._text.lstrip():
            try:
                found, end = json.JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                self._text = text
                return None
            self._text = text[end:]
            if (size := size_of(found)) is not None:
                return size
        self._text = ""
        return None


def size_of(found: Any) -> tuple[int, int] | None:
    """Rows and columns of a TerminalSize; None for what is none."""
    if not isinstance(found, dict):
        return None
    rows, columns = found.get("Height"), found.get("Width")
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= 0xFFFF for n in (rows, columns)):
        return None
    return int(rows), int(columns)  # type: ignore[arg-type]


async def until_hung_up(command: Command, reading: asyncio.Future[None]) -> None:
    """After finish(): to close while input of the client is on its way would reset the connection, and it might lose what it has not read.
    `reading` is command.run(); what comes is dropped."""

    async def drop() -> None:
        while await command.input():
            pass

    dropping = asyncio.create_task(drop(), name="input behind the end")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            await asyncio.wait((reading,))
    dropping.cancel()
