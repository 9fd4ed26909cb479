"""port-forward: pairs of streams with one requestID, "data" and "error", each pair a TCP connection into the pod."""

from __future__ import annotations

import asyncio
import contextlib

from kubeedge.errors import KubeEdgeError
from kubeedge.kit.streams import close_writer, reset_writer
from kubeedge.kit.tasks import TaskSet
from kubeedge.streaming.byte_stream import ByteStream
from kubeedge.streaming.ports import Dial, not_forwarded, port_number
from kubeedge.streaming.spdy_driver import SpdySession, SpdyStream

_PAIR = 30.0  # seconds for the second stream of a pair: the kubelet's streamCreationTimeout
_CHUNK = 32 * 1024


class Forwarder:
    """One client. `dial` connects to a port of the pod."""

    def __init__(self, byte_stream: ByteStream, dial: Dial) -> None:
        self._dial = dial
        self._session = SpdySession(byte_stream, self._opened)
        self._tasks = TaskSet("connections of a port-forward")
        self._half: dict[str, tuple[SpdyStream, asyncio.TimerHandle]] = {}  # by requestID

    async def run(self) -> None:
        """Forward until the client is gone; its connections end then. Raises OSError or PeerError."""
        try:
            async with self._tasks:
                await self._session.run()
        finally:
            for _, timer in self._half.values():
                timer.cancel()

    def _opened(self, stream: SpdyStream) -> None:
        kind, port = stream.headers.get("streamtype", ""), port_number(stream.headers.get("port", ""))
        if kind not in ("data", "error") or not port:
            self._session.forget(stream)
            return
        # clients from before there was a requestID open "error" and "data" one after the other
        request = stream.headers.get("requestid") or str(stream.number - (2 if kind == "data" else 0))
        first = self._half.pop(request, None)
        if first is None:
            timer = asyncio.get_running_loop().call_later(_PAIR, self._give_up, request)
            self._half[request] = stream, timer
            return
        other, timer = first
        timer.cancel()
        if other.headers.get("streamtype") == kind:
            self._session.forget(other)
            self._session.forget(stream)
            return
        data, error = (stream, other) if kind == "data" else (other, stream)
        self._tasks.start(self._forward(data, error, port), f"port {port} of a pod")

    def _give_up(self, request: str) -> None:
        stream, _ = self._half.pop(request)
        self._session.forget(stream)

    async def _forward(self, data: SpdyStream, error: SpdyStream, port: int) -> None:
        try:
            reader, writer = await self._dial(port)
        except (OSError, KubeEdgeError) as exc:
            with contextlib.suppress(OSError):
                await error.write(not_forwarded(port, exc))
                await error.end()
        else:
            await _carry(data, reader, writer)
            with contextlib.suppress(OSError):
                await error.end()
        finally:
            self._session.forget(data)
            self._session.forget(error)
            with contextlib.suppress(OSError):
                await self._session.flush()


async def _carry(data: SpdyStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways, until both have ended or one has broken."""

    async def to_the_pod() -> None:
        while piece := await data.read():
            writer.write(piece)
            await writer.drain()
        if data.was_reset:
            raise ConnectionResetError("the client does not want it any more")
        writer.write_eof()

    async def to_the_client() -> None:
        while piece := await reader.read(_CHUNK):
            await data.write(piece)
        await data.end()

    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(to_the_pod(), name="port-forward to the pod")
            both.create_task(to_the_client(), name="port-forward to the client")
    except* OSError:
        reset_writer(writer)
    finally:
        await close_writer(writer)
