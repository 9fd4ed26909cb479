"""Calls of methods that come without end, at a mapper: readings go on, and answers that cannot be sent take no memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import pytest

from kubeedge.errors import Invalid
from kubeedge.kit.tasks import TaskSet, cancel_and_wait
from kubeedge.mapper import Mapper
from kubeedge.mapper.core import DeviceCycle
from kubeedge.mapper.driver import DeviceRunner, Handlers, MapperStats
from kubeedge.mapper.link import BrokerLink
from kubeedge.mapper.methods import AskedMethod
from kubeedge.mapper.values import MappedDevice, MappedProperty

DOOR = "default/door"


def call(number: int = 0) -> AskedMethod:
    return AskedMethod(DOOR, str(number), "open", {}, int(time.time() * 1000) + 60_000)


def device(report_cycle: float = 0.0) -> MappedDevice:
    prop = MappedProperty(DOOR, "angle", "INT", collect_cycle=0.01, report_cycle=report_cycle)
    return MappedDevice(DOOR, "acme", {}, {"angle": prop})


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(within())


def test_values_are_read_however_many_calls_come() -> None:
    read = asyncio.Event()
    performed = 0

    async def again(client: Any, arguments: Mapping[str, Any]) -> None:
        nonlocal performed
        performed += 1
        runner.call(call(performed), lambda payload: None)
        await asyncio.sleep(0)

    async def reading(client: Any, prop: MappedProperty) -> int:
        if performed > 100:
            read.set()
        return 7

    handlers = Handlers(read=reading, methods={"open": again})
    runner = DeviceRunner(handlers, DeviceCycle(device(), {}, is_polled=True), MapperStats(), lambda runner: None)

    async def scenario() -> None:
        running = asyncio.create_task(runner.run())
        try:
            while not runner.cycle.is_connected:
                await asyncio.sleep(0)
            runner.call(call(), lambda payload: None)
            await read.wait()
        finally:
            await cancel_and_wait(running)

    run(scenario)


class Slow:
    """A broker that acknowledges nothing."""

    is_attached = True
    answers = 0

    async def answer(self, device: str, payload: bytes) -> None:
        self.answers += 1
        await asyncio.Event().wait()


def test_answers_that_the_broker_does_not_take_have_a_bound() -> None:
    async def scenario() -> None:
        mapper, link = Mapper("acme"), Slow()
        async with TaskSet("test") as tasks:
            mapper._set, mapper._link = tasks, cast(BrokerLink, link)
            cycle = DeviceCycle(device(), {}, is_polled=True)
            mapper._runners[DOOR] = DeviceRunner(mapper.handlers, cycle, mapper.stats, mapper._changed)
            for number in range(1000):  # it is not connected: each of them is answered so
                mapper.called(call(number))
            await asyncio.sleep(0)
            assert link.answers == len(tasks) == 64

    run(scenario)


def test_nothing_is_left_of_a_device_that_is_gone() -> None:
    async def scenario() -> None:
        mapper = Mapper("acme")
        mapper._link = cast(BrokerLink, Slow())
        async with TaskSet("test") as tasks:
            mapper._set = tasks
            for _ in range(2):
                mapper.listed({DOOR: (device(60.0), {})})
                runner = mapper._runners[DOOR]
                mapper._at(runner, asyncio.get_running_loop().time() + 60.0)
                assert mapper._later
                mapper.listed({})
                mapper._at(runner, asyncio.get_running_loop().time() + 60.0)  # its last report was on its way
                assert not mapper._later

    run(scenario)


def test_a_method_that_nobody_performs_is_not_said_to_be_done() -> None:
    async def scenario() -> None:
        wrote: list[Any] = []

        async def write(client: object, prop: MappedProperty, value: object) -> None:
            wrote.append(value)

        async def opened(client: object, arguments: Mapping[str, Any]) -> Any:
            return {"angle": 90, "arguments": dict(arguments)}

        handlers = Handlers(write=write)
        with pytest.raises(Invalid, match="method open has no handler, and the call no parameters"):
            await handlers.perform(None, device(), call())
        handlers.methods["open"] = opened
        found = await handlers.perform(None, device(), call())
        assert found == {"angle": 90, "arguments": {}} and not wrote

    run(scenario)


def test_a_connection_that_a_thread_makes_too_late_is_closed() -> None:
    """Its device is another one meanwhile, and may have one connection to give."""
    going, closed = threading.Event(), threading.Event()

    class Client:
        def close(self) -> None:
            closed.set()

    def connect(device: MappedDevice) -> Client:
        going.wait(20)
        return Client()

    handlers = Handlers(connect=connect, read=lambda client, prop: 7)
    runner = DeviceRunner(handlers, DeviceCycle(device(), {}, is_polled=True), MapperStats(), lambda runner: None)

    async def scenario() -> None:
        running = asyncio.create_task(runner.run())
        await asyncio.sleep(0.05)
        await cancel_and_wait(running)  # at once, however long the thread takes
        going.set()
        assert await asyncio.to_thread(closed.wait, 20)

    run(scenario)
