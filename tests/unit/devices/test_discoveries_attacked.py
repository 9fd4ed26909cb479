"""A node that says about its findings what no node of ours says: its tenant's devices, and other tenants, do not notice."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from kubeedge.api import keys
from kubeedge.api.devices import DEVICEMODELS, DEVICES
from kubeedge.api.names import NodeName, Object
from kubeedge_cloud.devicecontroller import discoveries
from kubeedge_cloud.messages.module import NodeMessages
from tests.unit.controllers.world import TENANT, World, in_world
from tests.unit.devices.test_controller import MODEL, cloud, device, ready


@in_world
async def test_a_time_that_no_clock_has_ends_nothing(world: World) -> None:
    """It is there before the controllers begin: they would end at it with each start, and the cloud wait for them."""
    await world.join("edge1")
    prefix = keys.edge_reported(TENANT, NodeName("edge1"))
    for number, time in enumerate(("1" + "0" * 400, "-1" + "0" * 400, "1e300", "true", "null", "[]", '"x"')):
        row = b'{"protocol":"modbus","config":{"host":"10.0.0.%d"},"time":%s}' % (number, time.encode())
        await world.store.put(f"{prefix}discoveries/_/modbus-{number}", row)
    async with cloud(world):
        await world.api().create(DEVICEMODELS, "default", MODEL)
        await world.api().create(DEVICES, "default", device())
        await is_kept(world)
        assert [one["metadata"]["name"] for one in await world.all(DEVICES)] == ["hall"]


@pytest.mark.parametrize("when", ["before", "while it runs"])
def test_a_key_that_no_agent_writes_ends_nothing(when: str) -> None:
    @in_world
    async def scenario(world: World) -> None:
        await world.join("edge1")
        if when == "before":
            await attack(world)
        async with cloud(world):
            messages = NodeMessages(world.store, world.tenants, wall=world.wall)
            first = asyncio.Event()
            running = asyncio.create_task(messages.run(first))
            try:
                await asyncio.wait_for(first.wait(), 60)
                served = messages.served[TENANT]
                if when != "before":
                    await attack(world)
                await world.api().create(DEVICEMODELS, "default", MODEL)
                await world.api().create(DEVICES, "default", device())
                await is_kept(world)
                assert messages.served[TENANT] is served, "it was not started anew"
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    scenario()


def test_a_storm_of_findings_is_compared_with_many_devices_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tenant with 10,000 Devices each would take 60 ms, in which no other tenant is served."""
    turn, compared = 0, Counter[int]()
    real = discoveries._is_same

    def counted(one: Object, other: Object) -> bool:
        compared[turn] += 1
        return real(one, other)

    monkeypatch.setattr(discoveries, "_is_same", counted)

    async def turning() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    @in_world
    async def scenario(world: World) -> None:
        await world.join("edge1")
        async with cloud(world):
            for number in range(600):
                config = {"host": "10.0.0.1", "slaveID": number}
                spec = {"deviceModelRef": {"name": "m"}, "nodeName": "edge1"}
                one = {
                    "metadata": {"name": f"d{number}"},
                    "spec": {**spec, "protocol": {"protocolName": "modbus", "configData": config}},
                }
                await world.api().create(DEVICES, "default", one)
            clock = asyncio.create_task(turning())
            prefix = keys.edge_reported(TENANT, NodeName("edge1"))
            for number in range(590, 600):
                row = b'{"protocol":"modbus","config":{"host":"10.0.0.1","slaveID":%d}}' % number
                await world.store.put(f"{prefix}discoveries/_/storm-{number}", row)
            while sum(compared.values()) < 10 * 591:
                await asyncio.sleep(0)
            clock.cancel()
            assert len(await world.all(DEVICES)) == 600

    scenario()
    assert max(compared.values()) <= 2 * 128, compared.most_common(3)


async def is_kept(world: World) -> None:
    """The Device is looked after."""

    async def has_status() -> bool:
        return "status" in await world.get(DEVICES, "hall")

    await world.until(has_status, "the status of a Device")
    assert (await ready(world))[1] == "Pending"


async def attack(world: World) -> None:
    """A node's store may have any keys."""
    prefix = keys.edge_reported(TENANT, NodeName("edge1"))
    messages = ("messages", "messages/", "messages/x", "messages/_/x/y")
    for rest in (*messages, "devices", "devices/", "devices/x", "discoveries", "discoveries/x/y/z", "x", "/", "//"):
        await world.store.put(prefix + rest, b"{}")
