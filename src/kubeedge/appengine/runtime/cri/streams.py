"""The streams behind the URLs of Exec, Attach and PortForward: SPDY/3.1, which containerd and CRI-O of every version speak.

Streams of a command are told apart by the header streamType: error, stdin, stdout, stderr, resize. The one named error carries how it ended, as
a Status (meta/v1). A connection of port-forward has two, error and data.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from kubeedge.appengine.runtime.base import CHUNK, Output
from kubeedge.errors import PeerError
from kubeedge.kit import http1_client
from kubeedge.kit.streams import abort_writer
from kubeedge.streaming.byte_stream import SocketStream
from kubeedge.streaming.spdy_driver import SpdySession, SpdyStream

_CONNECT = 10.0  # seconds
_STATUS = 64 * 1024  # bytes of how a command ended


async def connect(url: str, protocol: str) -> SocketStream:
    """What the runtime's URL leads to, after the upgrade. Raises OSError, PeerError; also for a URL that leads to another machine."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    try:
        is_here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = False
    if parts.scheme != "http" or not is_here or not port:
        raise PeerError("the runtime serves its streams elsewhere than on a loopback address, over plain HTTP")
    async with asyncio.timeout(_CONNECT):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            http = http1_client.Connection(reader, writer)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            headers = (("host", parts.netloc), ("connection", "Upgrade"), ("upgrade", "SPDY/3.1"),
                       ("x-stream-protocol-version", protocol))  # fmt: skip
            answer = await http.request("POST", target, headers)
            if answer.status != 101:
                said = (await answer.read(4096)).decode(errors="replace").strip()
                raise PeerError(f"the runtime does not serve the streams: {answer.status} {said}")
            return SocketStream(reader, writer, http.trailing())
        except BaseException:
            abort_writer(writer)
            raise


class CriStreams:
    """Streams (base.py) of a process in a container, or of the container itself."""

    def __init__(
        self, byte_stream: SocketStream, *, exit_status: Callable[[], Awaitable[int | None]] | None = None
    ) -> None:
        """`exit_status`: of a container, which goes on without us."""
        self._byte_stream = byte_stream
        self._session = SpdySession(byte_stream, lambda stream: None, client=True)
        self._streams: dict[str, SpdyStream] = {}
        self._outputs: deque[Output] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._readers = 0
        self._exit_status = exit_status
        self._ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def open(self, *, stdin: bool, tty: bool, resizes: bool) -> CriStreams:
        """Opens what there is. Raises OSError."""
        wanted = (("error", True), ("stdin", stdin), ("stdout", True), ("stderr", not tty), ("resize", resizes))
        self._tasks.append(asyncio.create_task(self._run(), name="streams of a container"))
        for name in (name for name, there in wanted if there):
            self._streams[name] = await self._session.open({"streamtype": name})
        for kind in ("stdout", "stderr"):
            if kind in self._streams:
                self._readers += 1
                self._tasks.append(asyncio.create_task(self._read(kind), name=f"{kind} of a container"))
        self._tasks.append(asyncio.create_task(self._watch_end(), name="end of a command"))
        return self

    async def _run(self) -> None:
        with contextlib.suppress(OSError, PeerError):
            await self._session.run()

    async def _read(self, kind: str) -> None:
        stream = self._streams[kind]
        try:
            while data := await stream.read():
                for at in range(0, len(data), CHUNK):
                    self._outputs.append(Output("stderr" if kind == "stderr" else "stdout", data[at : at + CHUNK]))
                self._room.clear()
                self._changed.set()
                await self._room.wait()  # one piece at a time: what waits longer is bounded by the session
        finally:
            self._readers -= 1
            self._changed.set()

    async def _watch_end(self) -> None:
        said = b""
        while (data := await self._streams["error"].read()) and len(said) < _STATUS:
            said += data
        code: int | None = None
        if self._exit_status is not None:
            code = await self._exit_status()
        elif not self._closed:
            code = exit_code(said, was_cut=self._streams["error"].was_reset)
        if not self._ended.done():
            self._ended.set_result(code)

    async def receive(self) -> Output | None:
        while not self._outputs:
            if not self._readers or self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        output = self._outputs.popleft()
        if not self._outputs:
            self._room.set()
        return output

    async def send(self, data: bytes) -> None:
        stream = self._streams.get("stdin")
        if stream is not None:
            with contextlib.suppress(OSError):
                await stream.write(data)

    async def end_input(self) -> None:
        stream = self._streams.get("stdin")
        if stream is not None:
            with contextlib.suppress(OSError):
                await stream.end()

    def resize(self, rows: int, columns: int) -> None:
        stream = self._streams.get("resize")
        if stream is not None and not self._closed:
            size = json.dumps({"Width": columns, "Height": rows}).encode()
            self._session.core.send(stream.number, size)
            task = asyncio.create_task(self._flush(), name="size of a terminal")
            self._tasks.append(task)

    async def _flush(self) -> None:
        with contextlib.suppress(OSError):
            await self._session.flush()

    async def wait(self) -> int | None:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        self._closed = True
        self._changed.set()
        self._room.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._byte_stream.abort()
        if not self._ended.done():
            self._ended.set_result(None)


def exit_code(said: bytes, *, was_cut: bool = False) -> int:
    """Of a Status (meta/v1), as the stream named error has it; nothing is success. 126: it could not be started, or was broken off."""
    if not said:
        return 137 if was_cut else 0
    try:
        status = json.loads(said)
        if status.get("status") == "Success":
            return 0
        for cause in (status.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        pass
    return 126


async def forward(byte_stream: SocketStream, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a port of the pod, as a pair of asyncio's streams. Raises OSError."""
    session = SpdySession(byte_stream, lambda stream: None, client=True)
    headers = {"port": str(port), "requestid": "0"}
    ours, theirs = socket.socketpair()
    try:
        reader, writer = await asyncio.open_connection(sock=ours)
        inner = await asyncio.open_connection(sock=theirs)
        error = await session.open({"streamtype": "error", **headers})
        data = await session.open({"streamtype": "data", **headers})
        await error.end()
    except BaseException:
        ours.close()
        theirs.close()
        byte_stream.abort()
        raise
    task = asyncio.create_task(_join(session, byte_stream, error, data, *inner), name="port-forward of a container")
    _JOINED.add(task)
    task.add_done_callback(_JOINED.discard)
    return reader, writer


_JOINED: set[asyncio.Task[None]] = set()  # tasks that have no other reference


async def _join(
    session: SpdySession,
    byte_stream: SocketStream,
    error: SpdyStream,
    data: SpdyStream,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    async def out() -> None:
        while piece := await reader.read(CHUNK):
            await data.write(piece)
        await data.end()

    async def back() -> None:
        while piece := await data.read():
            writer.write(piece)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def refused() -> None:
        if await error.read():  # it says why; the client sees a connection that is cut
            raise ConnectionRefusedError("the port is not open in the pod")

    running = asyncio.create_task(session.run(), name="connection of a port-forward")
    try:
        async with asyncio.TaskGroup() as group:
            for part in (out, back, refused):
                group.create_task(part())
    except* (OSError, PeerError):
        pass
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        abort_writer(writer)
        byte_stream.abort()
