"""Drives one hub session over one WebSocket; both ends use it. All decisions live in core.py.

*Reading* is a task that never waits for writing: two ends that both send a lot would otherwise block each other for ever.
*Timers* are a handle of the loop, and never wait for writing either: a peer that is gone does not read, and must be found dead all the
same. What reading and timers have to say is *written* by a task that lives only while there is something; a user's send() writes
itself, and waits, which is the back pressure. A cloud process has thousands of channels: an idle one has one task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from kubeedge.errors import ChannelDetached, KubeEdgeError, PeerError, outward
from kubeedge.hub.core import Attached, ChannelSession, ChannelState, Detached, Received, shared_features
from kubeedge.hub.queued_bytes import QueuedBytes
from kubeedge.kit import tcp
from kubeedge.kit.signal import Signal

QUEUED_MESSAGES = 64  # of one stream; its user acknowledges, so that an honest peer stays far below
QUEUED_BYTES = 4 * 1024 * 1024  # likewise: a window of sync and its largest message
_TICK = 0.001  # seconds a timer waits at least: a loop's timers may fire a rounding error early
_TAKEN = 4096  # bytes acknowledged by the peer's kernel from which on its process reads: more than our own questions
_GOODBYE = 1.0  # seconds for an orderly close; the peer may be gone


class Transport(Protocol):
    """What carries a WebSocket, as far as a channel ends it."""

    def abort(self) -> None:
        """End at once, and drop what is not sent yet."""
        ...


class ChannelSocket(Protocol):
    """stream.Stream, or one of a simulated network. Errors are OSErrors; PeerError for what the other end may not do."""

    @property
    def transport(self) -> Transport:
        """The transport below, for abort() and for the figures of TCP (kit.tcp)."""
        ...

    async def send(self, message: bytes) -> None:
        """Send one binary message; waits while the network is slower than we are."""
        ...

    async def recv(self) -> bytes:
        """Receive the next binary message."""
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Perform the closing handshake, with a code of RFC 6455 section 7.4."""
        ...

    def on_unfinished(self, listener: Callable[[int], None]) -> None:
        """Tell how many bytes of a message are there without its end, of one that is large; 0 when it is whole."""
        ...


class ChannelCounters:
    """Messages and their bytes, without what WebSocket, TLS and TCP add."""

    __slots__ = ("bytes_in", "bytes_out", "messages_in", "messages_out")

    def __init__(self, messages_in: int = 0, messages_out: int = 0, bytes_in: int = 0, bytes_out: int = 0) -> None:
        self.messages_in = messages_in
        self.messages_out = messages_out
        self.bytes_in = bytes_in
        self.bytes_out = bytes_out


class _Inbox:
    """Messages of one stream that wait for their reader; `read` hears how many bytes it took."""

    def __init__(self, read: Callable[[int], None]) -> None:
        self._read = read
        self._messages: list[bytes] = []  # few; a deque takes half a kilobyte when it is empty
        self._bytes = 0
        self._there = Signal()

    def put(self, message: bytes) -> bool:
        """False: the reader is too far behind."""
        if len(self._messages) >= QUEUED_MESSAGES or (self._messages and self._bytes + len(message) > QUEUED_BYTES):
            return False
        self._messages.append(message)
        self._bytes += len(message)
        self._there.set()
        return True

    async def get(self) -> bytes:
        while not self._messages:
            self._there.clear()
            await self._there.wait()
        message = self._messages.pop(0)
        self._bytes -= len(message)
        self._read(len(message))
        return message


class Channel:
    """An attached session, as its users see it: streams of messages, and the end. Made inside a running event loop. `queued` is shared by
    the channels of a tenant."""

    def __init__(
        self,
        socket: ChannelSocket,
        session: ChannelSession,
        clock: Callable[[], float],
        queued: QueuedBytes[Channel] | None = None,
    ) -> None:
        self._queued: QueuedBytes[Channel] = queued if queued is not None else QueuedBytes()
        self._socket = socket
        self._session = session
        self._clock = clock
        self._inboxes: dict[int, _Inbox] = {}
        self._waiting: list[bytes] = []
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None  # while there is something to write
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[tuple[str, int, str]] = self._loop.create_future()
        self._seen: tcp.TcpProgress | None = None  # at the last look
        socket.on_unfinished(self._holds)
        self.peer: dict[str, Any] = {}
        self.counters = ChannelCounters()

    @property
    def rtt(self) -> float | None:
        """Seconds of the last round trip; None: not measured yet."""
        return self._session.rtt

    @property
    def features(self) -> frozenset[str]:
        """Features that both ends announced."""
        return shared_features(self.peer)

    async def send(self, kind: int, payload: bytes) -> None:
        """Waits while the network is slower than we are. Raises ChannelDetached."""
        self._session.send(kind, payload)
        await self._flush()

    def stream(self, kind: int) -> Callable[[], Awaitable[bytes]]:
        """A function that awaits the next message of that kind."""
        return self._inbox(kind).get

    def probe(self) -> None:
        """The network changed: find out soon whether the peer is still there."""
        self._session.probe(self._clock())
        self._speak()
        self._arm()

    def close(self, reason: str, code: int = 1000, *, say: str = "") -> None:
        """run() ends soon with that reason, which is sent to the peer; `say`: another text for it."""
        if not self._end.done():
            self._end.set_result((reason, code, say or reason))

    async def run(self, use: Callable[[Channel], Coroutine[Any, Any, None]]) -> str:
        """Open the session, run `use` while it is attached, close; the reason why it ended.

        An error of `use` that is not one of ours is raised after the channel has been closed.
        """
        self._session.open(self._clock())
        self._speak()
        self._arm()
        reading = asyncio.create_task(self._guard(partial(self._read, use)), name="hub session reading")
        reason, code, goodbye = "closed by us", 1001, "closed by us"
        try:
            reason, code, goodbye = await self._end
        finally:
            if self._timer is not None:
                self._timer.cancel()
            tasks = [reading] if self._writer is None else [reading, self._writer]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._queued.forget(self)
            await self._say_goodbye(goodbye, code)
        return reason

    async def _guard(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What goes wrong in a task is the end of the channel. Called here: a task may be cancelled before it begins."""
        try:
            await work()
        except PeerError as exc:
            self.close(str(exc), exc.close_code)
        except ChannelDetached as exc:
            self.close(str(exc))
        except KubeEdgeError as exc:  # of our user: a full disk, for example
            self.close(str(exc), 1011, say=outward(exc))
        except Exception as exc:
            if not self._end.done():
                self._end.set_exception(exc)

    async def _read(self, use: Callable[[Channel], Coroutine[Any, Any, None]]) -> None:
        user: asyncio.Task[None] | None = None
        try:
            while (message := await self._receive()) is not None:
                for event in self._session.receive(message, self._clock()):
                    match event:
                        case Attached(hello):
                            self.peer = hello
                            user = asyncio.create_task(
                                self._guard(partial(self._used, use)), name="user of the hub channel"
                            )
                            self._look()
                            self._arm()
                        case Received(kind, payload):
                            if not self._inbox(kind).put(payload):
                                raise PeerError(f"too many messages of kind {kind} wait", close_code=1008)
                            _end(self._queued.received(self, len(payload), self._clock()))
                        case Detached(reason):
                            return self.close(reason)
                self._speak()
            self.close("the connection was closed")
        finally:
            if user:
                user.cancel()
                await asyncio.gather(user, return_exceptions=True)

    async def _used(self, use: Callable[[Channel], Coroutine[Any, Any, None]]) -> None:
        try:
            await use(self)
        except BaseExceptionGroup as group:
            raise _the_one(group) from group
        self.close("closed by us")

    async def _receive(self) -> bytes | None:
        try:
            message = await self._socket.recv()
        except OSError:
            return None
        self.counters.messages_in += 1
        self.counters.bytes_in += len(message)
        return message

    def _arm(self) -> None:
        """Have the timer go off in time. One that goes off too early, as the peer has spoken since, is set again then."""
        at = self._session.next_timer()
        if at is None or self._end.done():
            return
        at = self._loop.time() + max(at - self._clock(), _TICK)
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._look()
        for event in self._session.handle_timer(self._clock()):
            if isinstance(event, Detached):
                return self.close(event.reason, 1001)
        self._speak()
        self._arm()

    def _speak(self) -> None:
        """Send what the session has to say, without waiting for it."""
        if self._session.has_messages and self._writer is None and not self._end.done():
            self._writer = self._loop.create_task(self._guard(self._write), name="hub session writing")

    def _look(self) -> None:
        """Before silence ends the channel: what does the kernel know? Our own loop may have been late, and a long message takes its time."""
        before, now = self._seen, tcp.progress(self._socket.transport)
        if now is None:
            return
        self._seen = now
        signs = []
        if now.received > (before.received if before else 0):
            signs.append(now.since_received)
        if before and now.acknowledged - before.acknowledged >= _TAKEN:
            signs.append(now.since_acknowledged)
        if signs:
            self._session.heard(self._clock() - min(signs))

    async def _write(self) -> None:
        try:
            while self._session.has_messages:
                await self._flush()
        finally:
            self._writer = None

    async def _flush(self) -> None:
        async with self._writing:
            self._waiting.extend(self._session.messages_to_send())
            while self._waiting:
                message = self._waiting.pop(0)  # a send that is cancelled has handed its message over
                _end(self._queued.sending(self, len(message), self._clock()))
                try:
                    await self._socket.send(message)
                except OSError as exc:
                    raise ChannelDetached("the connection was closed") from exc
                finally:
                    self._queued.sent(self)
                self.counters.messages_out += 1
                self.counters.bytes_out += len(message)

    async def _say_goodbye(self, reason: str, code: int) -> None:
        if self._session.state is not ChannelState.DETACHED:
            self._session.close(reason)
        with contextlib.suppress(ChannelDetached, TimeoutError, OSError):
            async with asyncio.timeout(_GOODBYE):
                await self._flush()
                await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))

    def _holds(self, size: int) -> None:
        _end(self._queued.coming(self, size, self._clock()))

    def _inbox(self, kind: int) -> _Inbox:
        return self._inboxes.setdefault(kind, _Inbox(partial(self._queued.read, self)))


def _end(channel: Channel | None) -> None:
    """One that the tenant's others need the room of."""
    if channel is not None:
        channel.close("too much waits in the channels of this tenant", 1013)


def _the_one(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of a group the error to report: one that must not happen, before one that may."""
    expected, unexpected = group.split(KubeEdgeError)
    error: BaseException = unexpected or expected or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
