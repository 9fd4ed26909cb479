"""One device of a mapper: connects, writes, reads, and tries again with growing delays. Lives elsewhere: what and when (core.py)."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

from kubeedge.errors import Invalid, KubeEdgeError, PeerError
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.tasks import until_one_ends
from kubeedge.mapper import methods
from kubeedge.mapper.core import DeviceCycle, errors_of
from kubeedge.mapper.methods import AskedMethod
from kubeedge.mapper.values import NOTHING, MappedDevice, MappedProperty

log = logging.getLogger("kubeedge.mapper")

_AGAIN = Backoff(0.5, 30.0, jitter=0.5)  # of connections to a device
_CALLS = 8  # of methods of a device that wait for their turn
_LOST = (OSError, EOFError, PeerError)  # after these a connection is of no use; TimeoutError is an OSError

_late: set[asyncio.Future[None]] = set()  # connections that are closed as soon as they are made

Handler: TypeAlias = Callable[..., Awaitable[Any] | Any]
ListenHandler: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Handlers:
    """What the author of a mapper has written. `timeout`: seconds that a call may take, but for plain functions: those have their own."""

    connect: Handler | None = None
    read: Handler | None = None
    read_many: Handler | None = None
    write: Handler | None = None
    listen: ListenHandler | None = None
    close: Handler | None = None
    methods: dict[str, Handler] = field(default_factory=dict)
    timeout: float = 10.0

    @property
    def polls(self) -> bool:
        """Values are asked for; else the device sends them."""
        return self.read is not None or self.read_many is not None

    async def call(self, function: Handler, *arguments: Any) -> Any:
        """What a handler gives. Raises TimeoutError after `timeout`, and what it raises."""
        if not inspect.iscoroutinefunction(function):
            return await asyncio.to_thread(function, *arguments)
        async with asyncio.timeout(self.timeout):
            return await function(*arguments)

    async def perform(self, client: Any, device: MappedDevice, call: AskedMethod) -> Any:
        """What a method gives: its handler's result, or nothing where it writes its parameters. Raises what handlers raise, and Invalid."""
        arguments = {}
        for name, text in call.parameters.items():
            if (prop := device.properties.get(name)) is None:
                raise device.invalid(f"property {name[:128]} is not in its DeviceModel")
            arguments[name] = prop.typed(text)
        if (handler := self.methods.get(call.method)) is not None:
            return await self.call(handler, client, arguments)
        if self.write is None:
            raise device.invalid(f"method {call.method[:128]} has no handler, and this mapper writes nothing")
        if not arguments:
            raise device.invalid(
                f"method {call.method[:128]} has no handler, and the call no parameters that it would write"
            )
        for name, value in arguments.items():
            await self.call(self.write, client, device.properties[name], value)
        return None

    async def end(self, client: Any) -> None:
        """Closes what `connect` gave, by the handler for it or by the client's own aclose() or close()."""
        if client is None:
            return
        if self.close is not None:
            await self.call(self.close, client)
        elif callable(close := getattr(client, "aclose", None) or getattr(client, "close", None)):
            if inspect.isawaitable(closed := close()):
                async with asyncio.timeout(self.timeout):
                    await closed


@dataclass(slots=True)
class MapperStats:
    """What a mapper has done since its start: calls of its handlers, and those that failed."""

    connects: int = 0
    connect_errors: int = 0
    reads: int = 0
    read_errors: int = 0
    writes: int = 0
    write_errors: int = 0
    reports: int = 0
    calls: int = 0
    call_errors: int = 0


class DeviceRunner:
    """`changed` is called when there may be something to report."""

    def __init__(
        self, handlers: Handlers, cycle: DeviceCycle, stats: MapperStats, changed: Callable[[DeviceRunner], None]
    ) -> None:
        self.cycle = cycle
        self._handlers = handlers
        self._stats = stats
        self._changed = changed
        self._wake = asyncio.Event()
        self._failures = 0
        self._told: set[str] = set()
        self._calls: deque[tuple[AskedMethod, Callable[[bytes], None]]] = deque()

    def wake(self) -> None:
        """There are new desired values."""
        self._wake.set()

    def call(self, call: AskedMethod, answer: Callable[[bytes], None]) -> None:
        """A method that is to be performed as soon as the device has no other work; `answer` is given a message (methods.py)."""
        if not self.cycle.is_connected:
            why = self.cycle.errors.get("") or "it is not connected yet"
            answer(methods.not_given(call, methods.AWAY, f"device {self.cycle.device.id}: {why}"))
        elif len(self._calls) >= _CALLS:
            answer(methods.not_given(call, methods.BUSY, f"{_CALLS} calls of device {self.cycle.device.id} wait"))
        else:
            self._calls.append((call, answer))
            self._wake.set()

    def report(self, values: Mapping[str, Any]) -> None:
        """Values that the device has sent by itself, or the exception that came instead. Raises Invalid, when some are of other types or none;
        the others are reported."""
        texts, wrong = {}, []
        now = asyncio.get_running_loop().time()
        for name, value in values.items():
            prop = self.cycle.device.properties.get(name)
            try:
                if isinstance(value, Exception):
                    raise Invalid(_text(value)) from value
                if prop is None:
                    raise self.cycle.device.invalid(f"property {name[:128]} is not in its DeviceModel")
                texts[name] = prop.text(value)
            except Invalid as exc:
                wrong.append(str(exc))
                if prop is not None:
                    self.cycle.not_read(name, str(exc), now)
        for name in texts:
            self.cycle.read(name, now)
        self._report(texts)
        self._tell()
        if wrong:
            raise Invalid("; ".join(wrong))

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            client = None
            try:
                client = await self._connect()
                await self._while_connected(client)
            except Exception as exc:
                self._failures += 1
                self.cycle.lost(_text(exc))
                self._tell(exc)
            finally:
                await self._close(client)
            self._changed(self)
            await asyncio.sleep(_AGAIN.delay(self._failures, random.random()))

    async def _connect(self) -> Any:
        self._stats.connects += 1
        try:
            client = None
            if self._handlers.connect is not None:
                client = await self._client(self._handlers.connect)
        except Exception:
            self._stats.connect_errors += 1
            raise
        self.cycle.connected()
        return client

    async def _client(self, connect: Handler) -> Any:
        """What `connect` gives. A thread cannot be stopped: what it gives when nobody wants it any more is closed, or the device would be taken."""
        if inspect.iscoroutinefunction(connect):
            return await self._handlers.call(connect, self.cycle.device)
        connecting = asyncio.ensure_future(self._handlers.call(connect, self.cycle.device))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            _late.add(closing := asyncio.ensure_future(self._close_late(connecting)))
            closing.add_done_callback(_late.discard)
            raise

    async def _close_late(self, connecting: asyncio.Future[Any]) -> None:
        try:
            await self._handlers.end(await connecting)
        except Exception as exc:
            log.debug("device %s: closing: %s", self.cycle.device.id, exc)

    async def _while_connected(self, client: Any) -> None:
        if (listen := self._handlers.listen) is None:
            return await self._serve(client)
        await until_one_ends(self._serve(client), listen(client))
        raise EOFError  # it has nothing to listen to any more

    async def _serve(self, client: Any) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            await self._perform(client)
            for prop, text in self.cycle.to_write(loop.time()):
                await self._write(client, prop, text)
            if due := self.cycle.due(loop.time()):
                await self._read(client, due)
            self._tell()
            self._changed(self)
            await self._until(self.cycle.next_at())

    async def _until(self, when: float) -> None:
        try:
            async with asyncio.timeout_at(when if when != float("inf") else None):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _write(self, client: Any, prop: MappedProperty, text: str) -> None:
        loop = asyncio.get_running_loop()
        self._stats.writes += 1
        try:
            if self._handlers.write is None:
                raise prop.invalid("this mapper writes nothing")
            await self._handlers.call(self._handlers.write, client, prop, prop.typed(text))
        except Exception as exc:
            self._stats.write_errors += 1
            self.cycle.not_written(prop.name, _text(exc), loop.time())
            _raise_if_lost(exc, prop)
        else:
            self._failures = 0
            self.cycle.wrote(prop.name, text, loop.time())
            if not self._handlers.polls or prop.is_pushed:
                self._report({prop.name: text})

    async def _perform(self, client: Any) -> None:
        """The calls that wait. One for which nobody waits any more is left out: it may have been made again."""
        for _ in range(len(self._calls)):  # those that come meanwhile have their turn after values
            call, answer = self._calls.popleft()
            if time.time() * 1000 >= call.expires:
                continue
            self._stats.calls += 1
            try:
                payload = methods.given(call, await self._handlers.perform(client, self.cycle.device, call))
            except BaseException as exc:
                self._stats.call_errors += 1
                answer(methods.not_given(call, methods.FAILED, f"method {call.method}: {_text(exc)}"))
                if not isinstance(exc, Exception) or isinstance(exc, _LOST):
                    raise
                continue
            answer(payload)
            for name in call.parameters:
                self.cycle.touched(name, asyncio.get_running_loop().time())

    async def _read(self, client: Any, due: Sequence[MappedProperty]) -> None:
        if self._handlers.read_many is not None:
            self._stats.reads += 1
            found: Mapping[str, Any]
            try:
                found = dict(await self._handlers.call(self._handlers.read_many, client, due))
            except _LOST:
                raise
            except Exception as exc:
                found = {prop.name: exc for prop in due}
            for prop in due:
                self._got(prop, found.get(prop.name, prop.invalid("no value was read")))
            return
        for prop in due:
            self._stats.reads += 1
            try:
                assert self._handlers.read is not None
                value = await self._handlers.call(self._handlers.read, client, prop)
            except Exception as exc:
                value = exc
            self._got(prop, value)
            if self._wake.is_set():  # what is to be written does not wait for the other readings
                return

    def _got(self, prop: MappedProperty, value: Any) -> None:
        """A value, or the exception that came instead of it. Raises ConnectionError when the connection is of no use."""
        now = asyncio.get_running_loop().time()
        if value is NOTHING:
            self.cycle.read(prop.name, now)
            return
        try:
            if isinstance(value, Exception):
                raise value
            text = prop.text(value)
        except Exception as exc:
            self._stats.read_errors += 1
            self.cycle.not_read(prop.name, _text(exc), now)
            _raise_if_lost(exc, prop)
            return
        self._failures = 0
        self.cycle.read(prop.name, now)
        self._report({prop.name: text})

    def _report(self, texts: Mapping[str, str]) -> None:
        self.cycle.report(texts, asyncio.get_running_loop().time(), int(time.time() * 1000))
        self._changed(self)

    async def _close(self, client: Any) -> None:
        self.cycle.is_connected = False
        for call, answer in self._calls:
            why = f"device {self.cycle.device.id}: its connection has ended"
            answer(methods.not_given(call, methods.AWAY, why))
        self._calls.clear()
        try:
            await self._handlers.end(client)
        except Exception as exc:
            log.debug("device %s: closing: %s", self.cycle.device.id, exc)

    def _tell(self, exc: Exception | None = None) -> None:
        """Log what is wrong, once; and that it is over."""
        lines = set(errors_of(self.cycle.device, self.cycle.errors))
        for line in sorted(lines - self._told):
            log.warning("%s", line, exc_info=exc if exc and not isinstance(exc, (*_LOST, KubeEdgeError)) else None)
        if self._told and not lines:
            log.info("device %s: works again", self.cycle.device.id)
        self._told = lines


def _text(exc: BaseException) -> str:
    """An exception for people; those of the end of a connection have no text of their own."""
    if isinstance(exc, TimeoutError) and not str(exc):
        return "no answer in time"
    if isinstance(exc, EOFError):
        return "the device has closed the connection"
    return str(exc)[:500] or type(exc).__name__


def _raise_if_lost(exc: Exception, prop: MappedProperty) -> None:
    if isinstance(exc, _LOST):
        raise ConnectionError(f"property {prop.name}: {_text(exc)}") from exc
