"""A mapper: handlers of a protocol, for all devices of this node that speak it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias, TypeVar

from kubeedge.errors import Invalid, KubeEdgeError, Misuse, NotFound
from kubeedge.kit.tasks import TaskSet, cancel_and_wait, until_one_ends
from kubeedge.mapper.broker import NodeBroker, endpoint, node_broker
from kubeedge.mapper.core import DeviceCycle
from kubeedge.mapper.driver import DeviceRunner, Handler, Handlers, ListenHandler, MapperStats
from kubeedge.mapper.link import BrokerLink
from kubeedge.mapper.methods import AskedMethod
from kubeedge.mapper.values import MappedDevice

log = logging.getLogger("kubeedge.mapper")

_ANSWERS = 64  # to calls of methods that are on their way at the same time; whoever waits for others hears nothing
H = TypeVar("H", bound=Handler)
L = TypeVar("L", bound=ListenHandler)
Background: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Mapper:
    """Give it handlers, coroutines or plain functions, with its decorators; then run it.

    connect(device) -> client       it is closed for you: by `close`, or by its own aclose() or close()
    read(client, prop) -> value     of one property; or read_many(client, props) -> {name: value or exception} of those that are due
    write(client, prop, value)      `value` has the property's type and is in its range
    listen(client)                  runs while the device is connected and takes what it sends (report); its end is the connection's
    close(client)
    method("NAME")(client, arguments) -> result     of a call of that method of a device; `arguments` have the types of their properties, the
                                                    result is any JSON. A method without a handler writes its arguments, by `write`

    OSError (TimeoutError is one), EOFError and PeerError of a handler end the connection, which is made again with growing delays. Any
    other exception is the property's alone. `timeout`: seconds for a call of a coroutine.
    """

    def __init__(self, protocol: str, *, timeout: float = 10.0) -> None:
        if not protocol or timeout <= 0:
            raise Misuse("a mapper has a protocol, and a timeout above 0")
        self.protocol = protocol
        self.stats = MapperStats()
        self.handlers = Handlers(timeout=timeout)
        self._runners: dict[str, DeviceRunner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: dict[str, list[asyncio.Task[None]]] = {}
        self._sending: set[str] = set()
        self._link: BrokerLink | None = None
        self._set: TaskSet | None = None
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._background: list[Background] = []
        self._answering: set[asyncio.Task[None]] = set()
        self._simulated: dict[str, Callable[[Mapping[str, Any]], None]] = {}

    # Decorators

    def connect(self, handler: H) -> H:
        """Decorator of the handler that connects to a device."""
        self.handlers.connect = handler
        return handler

    def read(self, handler: H) -> H:
        """Decorator of the handler that reads one property."""
        self.handlers.read = handler
        return handler

    def read_many(self, handler: H) -> H:
        """Decorator of the handler that reads all properties that are due, in as few requests as the protocol needs."""
        self.handlers.read_many = handler
        return handler

    def write(self, handler: H) -> H:
        """Decorator of the handler that writes one property."""
        self.handlers.write = handler
        return handler

    def listen(self, handler: L) -> L:
        """Decorator of the coroutine function that takes what a connected device sends by itself."""
        self.handlers.listen = handler
        return handler

    def close(self, handler: H) -> H:
        """Decorator of the handler that closes what `connect` gave."""
        self.handlers.close = handler
        return handler

    def method(self, name: str) -> Callable[[H], H]:
        """Decorator of the handler that performs a method of the devices (`spec.methods`)."""

        def decorate(handler: H) -> H:
            self.handlers.methods[name] = handler
            return handler

        return decorate

    def background(self, task: Background) -> Background:
        """Decorator of a coroutine function that runs beside the devices, as a server that they send to. Its end is the mapper's."""
        self._background.append(task)
        return task

    # For handlers

    def device(self, id: str) -> MappedDevice | None:
        """A device of the node by NAMESPACE/NAME; None: there is none of this protocol."""
        runner = self._runners.get(id)
        return None if runner is None else runner.cycle.device

    def report(self, device: MappedDevice, values: Mapping[str, Any]) -> None:
        """Values that a device has sent by itself, or the exception that came instead, in the thread of the event loop. Raises NotFound for a
        device that is not the node's any more, Invalid for values of other types and for exceptions; the other values are reported."""
        if (take := self._simulated.get(device.id)) is not None:
            return take(values)
        if (runner := self._runners.get(device.id)) is None:
            raise NotFound(f"device {device.id}: the node has it no more")
        runner.report(values)

    def reporter(self, device: MappedDevice) -> Callable[[Mapping[str, Any]], None]:
        """As `report`, of one device, and it raises nothing: the Device says what is wrong with its values."""

        def report(values: Mapping[str, Any]) -> None:
            with contextlib.suppress(Invalid, NotFound):
                self.report(device, values)

        return report

    def simulate(self, id: str, take: Callable[[Mapping[str, Any]], None] | None) -> None:
        """For tests (simulated.py): `take` gets what is reported of that device; None: nobody does."""
        if take is None:
            self._simulated.pop(id, None)
        else:
            self._simulated[id] = take

    # The whole

    @property
    def health(self) -> dict[str, Any]:
        """Whether the broker is there, and of each device its state and what is wrong."""
        devices = {
            name: {"state": runner.cycle.state, "errors": dict(runner.cycle.errors)}
            for name, runner in self._runners.items()
        }
        return {"broker": self._link is not None and self._link.is_attached, "devices": devices}

    def run(self, broker: str = "", *, metrics: str = "", **login: str) -> None:
        """Serve until SIGTERM or SIGINT. `broker`: HOST:PORT, or mqtts://HOST by TLS; by default what $KUBEEDGE_BROKER says, else 127.0.0.1:1883.
        `metrics`: HOST:PORT of /metrics, /healthz and /readyz; none by default. `login`: user, password_file, ca_file, cert_file, key_file, by
        default what the environment says (broker.py). Raises Invalid for a broker or a login that is none."""
        from kubeedge.mapper.foreground import run_until_told

        at = node_broker(broker, login)
        run_until_told(lambda: self._with_metrics(at, metrics) if metrics else self.serve(at))

    async def _with_metrics(self, broker: NodeBroker, metrics: str) -> None:
        from kubeedge.mapper.observe import metrics_server

        server = metrics_server(self.stats, lambda: self.health, *endpoint(metrics))
        await until_one_ends(server.run(asyncio.Event()), self.serve(broker))

    async def serve(self, broker: str | NodeBroker = "") -> None:
        """As `run`, within a loop: until it is cancelled, when all devices are closed."""
        self._link = BrokerLink(self, self.protocol, node_broker(broker) if isinstance(broker, str) else broker)
        async with TaskSet(f"mapper {self.protocol}") as self._set:
            try:
                await until_one_ends(self._link.run(), *(task() for task in self._background))
            finally:
                for timer in self._later.values():
                    timer.cancel()
                await cancel_and_wait(*self._tasks.values())
                self._runners.clear()
                self._tasks.clear()

    def listed(self, devices: Mapping[str, tuple[MappedDevice, dict[str, str]]]) -> None:
        """The link has the node's devices: those that are new or other ones start again, and no others."""
        for name in self._runners.keys() - devices.keys():
            self._stop(name)
        for name, (device, wanted) in devices.items():
            runner = self._runners.get(name)
            if runner is not None and runner.cycle.device == device:
                if runner.cycle.want(wanted, all_of_them=True):
                    runner.wake()
                continue
            self._stop(name)
            self._start(DeviceCycle(device, wanted, is_polled=self.handlers.polls))

    def _start(self, cycle: DeviceCycle) -> None:
        assert self._set is not None
        name = cycle.device.id
        runner = DeviceRunner(self.handlers, cycle, self.stats, self._changed)

        async def run() -> None:
            if before := self._ending.get(name):  # many devices have one connection to give
                await asyncio.wait(tuple(before))
                self._ending.pop(name, None)
            await runner.run()

        self._runners[name] = runner
        self._tasks[name] = self._set.start(run(), f"device {name}")

    def _stop(self, name: str) -> None:
        self._runners.pop(name, None)
        if (timer := self._later.pop(name, None)) is not None:
            timer.cancel()  # it has the runner, and with it all of the device
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()
            self._ending = {
                key: left for key, tasks in self._ending.items() if (left := [t for t in tasks if not t.done()])
            }
            self._ending.setdefault(name, []).append(task)

    def wanted(self, device: str, delta: Mapping[str, str]) -> None:
        """The link has new desired values."""
        runner = self._runners.get(device)
        if runner is not None and runner.cycle.want(delta):
            runner.wake()

    def called(self, call: AskedMethod) -> None:
        """The link has a call of a method."""
        if (runner := self._runners.get(call.device)) is not None:
            runner.call(call, lambda payload: self._answer(call.device, payload))

    def _answer(self, device: str, payload: bytes) -> None:
        if self._set is not None and self._link is not None and len(self._answering) < _ANSWERS:
            task = self._set.start(_sent(self._link, device, payload), f"result of a method of {device}")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    def attached(self) -> None:
        """The link is there, or there again."""
        for runner in self._runners.values():
            runner.cycle.forget_reports()
            self._changed(runner)

    def _changed(self, runner: DeviceRunner) -> None:
        name = runner.cycle.device.id
        if self._runners.get(name) is not runner or name in self._sending or self._set is None:
            return
        if self._link is None or not self._link.is_attached:
            return
        self._sending.add(name)
        self._set.start(self._send(runner, self._link), f"reports of {name}")

    async def _send(self, runner: DeviceRunner, link: BrokerLink) -> None:
        """Everything that there is to report, one message after the other: what comes meanwhile is in the next one."""
        loop, cycle = asyncio.get_running_loop(), runner.cycle
        try:
            while (batch := cycle.take(loop.time())) is not None:
                try:
                    await link.report(cycle.device.id, batch)
                except BaseException as exc:
                    cycle.not_sent(batch)
                    if isinstance(exc, OSError):
                        return  # `attached` calls again
                    raise
                cycle.sent(batch, loop.time())
                self.stats.reports += 1
        finally:
            self._sending.discard(cycle.device.id)
        self._at(runner, cycle.report_at())

    def _at(self, runner: DeviceRunner, when: float) -> None:
        """What waits for its report cycle has its turn then."""
        name = runner.cycle.device.id
        if self._runners.get(name) is not runner:
            return
        if (timer := self._later.pop(name, None)) is not None:
            timer.cancel()
        if when != float("inf"):
            self._later[name] = asyncio.get_running_loop().call_at(when, self._changed, runner)


async def _sent(link: BrokerLink, device: str, payload: bytes) -> None:
    with contextlib.suppress(OSError, KubeEdgeError):  # the broker is away, and whoever waits hears nothing in time
        await link.answer(device, payload)
