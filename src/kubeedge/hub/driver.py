"""Drives one hub session over one WebSocket; both ends use it. All decisions live in core.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kubeedge.errors import ChannelDetached, KubeEdgeError, PeerError
from kubeedge.hub.core import Attached, Detached, Received, Session, SessionEvent

QUEUED_MESSAGES = 64  # of one stream; its user acknowledges, so that an honest peer stays far below


class WebSocket(Protocol):
    """What we need of websockets.asyncio's connections."""

    async def send(self, message: bytes) -> None: ...

    async def recv(self) -> str | bytes: ...

    async def close(self, code: int = 1000, reason: str = "") -> None: ...


@dataclass(slots=True)
class Counters:
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Channel:
    """An attached session, as its users see it: streams of messages, and the end."""

    def __init__(self, socket: WebSocket, session: Session, clock: Callable[[], float]) -> None:
        self._socket = socket
        self._session = session
        self._clock = clock
        self._streams: dict[int, asyncio.Queue[bytes]] = {}
        self._writing = asyncio.Lock()
        self._timer_changed = asyncio.Event()
        self.peer: dict[str, Any] = {}
        self.counters = Counters()

    @property
    def rtt(self) -> float | None:
        return self._session.rtt

    async def send(self, kind: int, payload: bytes) -> None:
        """Waits while the network is slower than we are. Raises ChannelDetached."""
        self._session.send(kind, payload)
        await self._flush()

    def stream(self, kind: int) -> Callable[[], Awaitable[bytes]]:
        """A function that awaits the next message of that kind."""
        return self._queue(kind).get

    def probe(self) -> None:
        """The network changed: find out soon whether the peer is still there."""
        self._session.probe(self._clock())
        self._timer_changed.set()

    async def run(self, use: Callable[[Channel], Awaitable[None]]) -> str:
        """Open the session, run `use` while it is attached, close; the reason why it ended.

        An error of `use` is raised after the channel has been closed.
        """
        self._session.open(self._clock())
        used: asyncio.Task[None] | None = None
        timers = asyncio.create_task(self._keep_time(), name="hub session timers")
        reason = "closed by us"
        close_code = 1000
        try:
            await self._flush()
            async for event in self._events(timers):
                match event:
                    case Attached(hello):
                        self.peer = hello
                        used = asyncio.create_task(_as_task(use(self)), name="user of the hub channel")
                        used.add_done_callback(lambda _: timers.cancel())
                    case Received(kind, payload):
                        try:
                            self._queue(kind).put_nowait(payload)
                        except asyncio.QueueFull:
                            raise PeerError(
                                f"more than {QUEUED_MESSAGES} messages of kind {kind} wait", close_code=1008
                            ) from None
                    case Detached(why):
                        reason = why
                        break
                if used and used.done():
                    break
        except PeerError as exc:
            reason, close_code = str(exc), exc.close_code
        except ChannelDetached as exc:
            reason = str(exc)
        finally:
            timers.cancel()
            if used:
                used.cancel()
            await asyncio.gather(timers, *([used] if used else []), return_exceptions=True)
            await self._say_goodbye(reason, close_code)
        if used and not used.cancelled() and (error := used.exception()):
            expected, unexpected = _split(error)
            if unexpected:
                raise unexpected
            return str(expected)
        return reason

    async def _events(self, timers: asyncio.Task[Detached]) -> AsyncIterator[SessionEvent]:
        """What is received, until the peer is gone or a timer says so."""
        while True:
            receiving = asyncio.create_task(self._receive(), name="hub session receive")
            try:
                await asyncio.wait((receiving, timers), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not receiving.done():
                    receiving.cancel()
                    await asyncio.gather(receiving, return_exceptions=True)
            if not receiving.cancelled():
                message = receiving.result()
                if message is None:
                    yield Detached("the connection was closed")
                    return
                for event in self._session.receive(message, self._clock()):
                    yield event
                await self._flush()
            if timers.done():
                yield Detached("closed by us") if timers.cancelled() else timers.result()
                return

    async def _receive(self) -> bytes | None:
        try:
            message = await self._socket.recv()
        except Exception as exc:  # the library's ConnectionClosed family, or the transport's OSError
            if type(exc).__module__.startswith("websockets") or isinstance(exc, OSError):
                return None
            raise
        if isinstance(message, str):
            raise PeerError("a text message", close_code=1003)
        self.counters.messages_in += 1
        self.counters.bytes_in += len(message)
        return message

    async def _keep_time(self) -> Detached:
        while True:
            self._timer_changed.clear()
            at = self._session.next_timer()
            delay = None if at is None else max(0.0, at - self._clock())
            try:
                async with asyncio.timeout(delay):
                    await self._timer_changed.wait()
            except TimeoutError:
                pass
            for event in self._session.handle_timer(self._clock()):
                if isinstance(event, Detached):
                    return event
            with contextlib.suppress(ChannelDetached):
                await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            for message in self._session.messages_to_send():
                try:
                    await self._socket.send(message)
                except Exception as exc:
                    if type(exc).__module__.startswith("websockets") or isinstance(exc, OSError):
                        raise ChannelDetached("the connection was closed") from exc
                    raise
                self.counters.messages_out += 1
                self.counters.bytes_out += len(message)

    async def _say_goodbye(self, reason: str, close_code: int) -> None:
        """Politely, but not for long: the peer may be gone."""
        self._session.close(reason)
        with contextlib.suppress(ChannelDetached, TimeoutError, OSError):
            async with asyncio.timeout(1.0):
                await self._flush()
                await self._socket.close(close_code, reason[:100])

    def _queue(self, kind: int) -> asyncio.Queue[bytes]:
        return self._streams.setdefault(kind, asyncio.Queue(QUEUED_MESSAGES))


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """(what may happen to a channel, what may not), out of an error or a group of them."""
    if isinstance(error, BaseExceptionGroup):
        expected, unexpected = error.split(KubeEdgeError)
        while isinstance(expected, BaseExceptionGroup):
            expected = expected.exceptions[0]
        return expected, unexpected
    return (error, None) if isinstance(error, KubeEdgeError) else (None, error)


async def _as_task(awaitable: Awaitable[None]) -> None:
    await awaitable
