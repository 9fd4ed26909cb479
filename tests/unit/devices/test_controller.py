"""The DeviceController beside the EdgeController, in a cloud in memory on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from kubeedge.api import keys
from kubeedge.api.devices import DEVICEMODELS, DEVICES
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.apiserver.devices import ROWS
from kubeedge.apiserver.offload import SMALL, Inline, Offload
from kubeedge.apiserver.quota import TenantLimits
from kubeedge.errors import NotFound
from kubeedge_cloud.devicecontroller.core import FINALIZER
from kubeedge_cloud.devicecontroller.module import DeviceController
from tests.unit.controllers.world import GRACE, TENANT, World, in_world

T = TypeVar("T")

MODEL: Object = {
    "metadata": {"name": "thermostat"},
    "spec": {
        "protocol": "virtual",
        "properties": [
            {"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"},
            {"name": "target", "type": "INT", "accessMode": "ReadWrite", "minimum": "5", "maximum": "30"},
        ],
    },
}


def device(target: str = "20", node: str = "edge1") -> Object:
    return {
        "metadata": {"name": "hall"},
        "spec": {
            "deviceModelRef": {"name": "thermostat"},
            "nodeName": node,
            "protocol": {"protocolName": "virtual", "configData": {"address": 7}},
            "properties": [{"name": "target", "desired": {"value": target}}],
        },
    }


@contextlib.asynccontextmanager
async def cloud(world: World, limit: int = 1 << 30, offload: Offload | None = None) -> AsyncIterator[None]:
    served = world.api().served
    if served.by_path("devices.kubeedge.io", "v1beta1", "devices") is None:
        for row in ROWS:
            served.register(row)
    limits = TenantLimits(1000, limit)
    controller = DeviceController(
        world.store, world.api, world.tenants,
        grace=GRACE, limits=lambda _: limits, wall=world.wall, offload=offload or Inline(),
    )  # fmt: skip
    async with world.cloud():
        ready = asyncio.Event()
        task = asyncio.create_task(controller.run(ready))
        try:
            await asyncio.wait_for(ready.wait(), 60)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def ready(world: World) -> tuple[str, str]:
    found = await world.get(DEVICES, "hall")
    (condition,) = found["status"]["conditions"]
    return condition["status"], condition["reason"]


async def report(world: World, node: str = "edge1", **more: object) -> None:
    uid = (await world.get(DEVICES, "hall"))["metadata"]["uid"]
    await world.agents[TENANT, NodeName(node)].report("devices/default/hall", {"uid": uid, **more})


@pytest.mark.parametrize("order", list(itertools.permutations("mdn")), ids="".join)
def test_model_device_and_node_come_in_any_order(order: tuple[str, ...]) -> None:
    @in_world
    async def scenario(world: World) -> None:
        async with cloud(world):
            for what in order:
                if what == "m":
                    await world.api().create(DEVICEMODELS, "default", MODEL)
                elif what == "d":
                    await world.api().create(DEVICES, "default", device())
                else:
                    await world.join("edge1")
                await world.settle(2)
            row = (await world.desired("edge1"))["devices/default/hall"]
            assert row["properties"]["target"]["desired"] == "20" and row["protocol"]["configData"] == {"address": 7}
            assert await ready(world) == ("Unknown", "Pending")

    scenario()


class Watched(Inline):
    """Keeps the size of what is not done at once."""

    def __init__(self) -> None:
        super().__init__()
        self.large: dict[TenantId, list[int]] = {}

    async def run(self, tenant: TenantId, size: int, work: Callable[[], T]) -> T:
        if size > SMALL:
            self.large.setdefault(tenant, []).append(size)
        return await super().run(tenant, size, work)


@in_world
async def test_a_large_model_holds_nobody_up_for_each_of_its_devices(world: World) -> None:
    """One of a megabyte takes 26 ms, for 64 devices at a time."""
    offload = Watched()
    async with cloud(world, offload=offload):
        await world.join("edge1")
        await world.api().create(DEVICEMODELS, "default", MODEL)
        await world.api().create(DEVICES, "default", device())
        await world.settle()
        assert (await world.desired("edge1"))["devices/default/hall"] and not offload.large
        data = {f"k{n}": "x" * 10 for n in range(SMALL // 10)}
        await world.api().merge_patch(DEVICEMODELS, "default", "thermostat", {"spec": {"protocolConfigData": data}})
        await world.settle()
        assert (await world.desired("edge1"))["devices/default/hall"]["protocol"]["configData"]["k1"] == "x" * 10
        assert set(offload.large) == {TENANT}


@in_world
async def test_reports_become_the_status_and_conditions_say_what_is_wrong(world: World) -> None:
    async with cloud(world):
        await world.api().create(DEVICES, "default", device())
        await world.settle()
        assert await ready(world) == ("False", "ModelMissing")
        await world.api().create(DEVICEMODELS, "default", MODEL)
        await world.settle()
        assert await ready(world) == ("False", "NodeMissing")
        agent = await world.join("edge1")
        await world.settle()
        now = int(world.wall() * 1000)
        await report(
            world, generation=1, state="online", seen=now, twins={"temperature": {"value": "19.5", "time": now}}
        )
        await world.settle()
        assert await ready(world) == ("False", "NotApplied")
        twins = {
            "temperature": {"value": "19.5", "time": now},
            "target": {"value": "20.0", "time": 5},
            "other": {"value": "1"},
            "third": 7,
        }
        await report(world, generation=1, state="online", seen=now, twins=twins)
        await world.settle()
        assert await ready(world) == ("True", "Ready")
        status = (await world.get(DEVICES, "hall"))["status"]
        assert [twin["propertyName"] for twin in status["twins"]] == ["temperature", "target"]
        await report(world, generation=1, state="offline", why="no answer in time", seen=now, twins=twins)
        await world.settle()
        (condition,) = (await world.get(DEVICES, "hall"))["status"]["conditions"]
        assert condition["reason"] == "DeviceOffline"
        assert condition["message"].startswith("its mapper says offline: no answer in time; last report 20")
        await report(world, generation=1, state="online", seen=now, twins=twins)
        await world.settle()
        stamp = status["twins"][1]["reported"]["metadata"]["timestamp"]
        assert int(stamp) >= now, "a node without a clock: the cloud says when"
        await world.api().merge_patch(
            DEVICES, "default", "hall", {"spec": {"properties": [{"name": "target", "desired": {"value": "31"}}]}}
        )
        await world.settle()
        assert await ready(world) == ("False", "ValueRefused")
        row = (await world.desired("edge1"))["devices/default/hall"]
        assert "desired" not in row["properties"]["target"], "no node gets what the model forbids"
        await world.api().merge_patch(
            DEVICES, "default", "hall", {"spec": {"properties": [{"name": "target", "desired": {"value": "21"}}]}}
        )
        await world.settle()
        assert await ready(world) == ("Unknown", "Pending")
        await agent.detach()
        await world.settle(GRACE - 2)
        assert await ready(world) == ("Unknown", "Pending")
        await world.settle(3)
        assert await ready(world) == ("Unknown", "NodeOffline")
        assert (await world.get(DEVICES, "hall"))["status"]["twins"] == status["twins"], "the last value stays"
        await agent.attach()
        await world.settle()
        assert await ready(world) == ("Unknown", "Pending")


@in_world
async def test_a_deletion_waits_for_the_edge_and_not_for_a_node_that_was_removed(world: World) -> None:
    async with cloud(world):
        await world.join("edge1")
        for _ in range(2):
            await world.api().create(DEVICEMODELS, "default", MODEL)
            await world.api().create(DEVICES, "default", device())
            await world.settle()
            assert (await world.get(DEVICES, "hall"))["metadata"]["finalizers"] == [FINALIZER]
            await world.api().delete(DEVICES, "default", "hall")
            await world.api().delete(DEVICEMODELS, "default", "thermostat")
            await world.settle()
            assert (await world.desired("edge1"))["devices/default/hall"]["deleting"] is True
            if _ == 0:
                await report(world, gone=True)
            else:
                await world.tenants.remove_node(TENANT, NodeName("edge1"))
            await world.settle(2)
            with pytest.raises(NotFound):
                await world.get(DEVICES, "hall")
            prefix = keys.edge_desired(TENANT, NodeName("edge1")) + "devices/"
            assert (await world.store.range(prefix, keys.prefix_end(prefix))).count == 0


@in_world
async def test_a_deletion_that_waits_for_a_node_that_is_away_says_so(world: World) -> None:
    async with cloud(world):
        agent = await world.join("edge1")
        await world.api().create(DEVICEMODELS, "default", MODEL)
        await world.api().create(DEVICES, "default", device())
        await world.settle()
        await agent.detach()
        await world.settle(GRACE + 1)
        await world.api().delete(DEVICES, "default", "hall")
        await world.settle()
        assert await ready(world) == ("Unknown", "Deleting")
        message = (await world.get(DEVICES, "hall"))["status"]["conditions"][0]["message"]
        assert "kubeedge node remove edge1" in message
        await agent.attach()
        await report(world, gone=True)
        await world.settle()
        with pytest.raises(NotFound):
            await world.get(DEVICES, "hall")


@in_world
async def test_a_device_moves_and_only_its_node_speaks_for_it(world: World) -> None:
    async with cloud(world):
        await world.join("edge1")
        await world.join("edge2")
        await world.api().create(DEVICEMODELS, "default", MODEL)
        await world.api().create(DEVICES, "default", device())
        await world.settle()
        await world.api().merge_patch(DEVICES, "default", "hall", {"spec": {"nodeName": "edge2"}})
        await world.settle()
        assert "devices/default/hall" not in await world.desired("edge1")
        assert "devices/default/hall" in await world.desired("edge2")
        await report(world, generation=2, state="online", twins={"target": {"value": "20"}})
        await world.settle()
        assert await ready(world) == ("Unknown", "Pending"), "edge1 has it no more"
        await report(world, "edge2", generation=2, state="online", twins={"target": {"value": "20"}})
        await world.settle()
        assert await ready(world) == ("True", "Ready")


@in_world
async def test_what_a_node_says_breaks_neither_the_device_nor_the_others(world: World) -> None:
    async with cloud(world):
        agent = await world.join("edge1")
        await world.api().create(DEVICEMODELS, "default", MODEL)
        await world.api().create(DEVICES, "default", device())
        await world.settle()
        prefix = keys.edge_reported(TENANT, NodeName("edge1"))
        uid = (await world.get(DEVICES, "hall"))["metadata"]["uid"]
        for value in (b"{", b"[1]", b'{"uid": 7}', b'{"uid": "other", "gone": true}', b"{" + b'"a":{' * 9000):
            await world.store.put(f"{prefix}devices/default/hall", value)
            await world.settle()
            assert await ready(world) == ("Unknown", "Pending")
        hostile: list[object] = [
            7,
            "x",
            [],
            {"target": {"value": 7}},
            {"target": {"value": "x" * 70_000, "time": True}},
        ]
        for twins in hostile:
            await agent.report(
                "devices/default/hall",
                {"uid": uid, "generation": "1", "state": ["on"], "seen": 1e99, "twins": twins, "refused": [1]},
            )
            await world.settle()
            assert (await world.get(DEVICES, "hall"))["status"]["twins"] == []
        await agent.report("devices/default/nobody", {"uid": uid, "state": "online"})
        await world.settle()
        assert len(await world.all(DEVICES)) == 1


@in_world
async def test_one_large_model_of_many_devices_fills_no_store(world: World) -> None:
    """A model of 20 KiB costs its tenant 20 KiB of quota, and was stored once more for each of its devices."""
    large = {"name": "p", "type": "STRING", "accessMode": "ReadOnly", "unit": "u" * 20_000}
    model = {"metadata": {"name": "thermostat"}, "spec": {"protocol": "virtual", "properties": [large]}}

    def one(n: int) -> Object:
        spec = {"deviceModelRef": {"name": "thermostat"}, "nodeName": f"edge{n % 2}"}
        return {"metadata": {"name": f"d{n}"}, "spec": spec}

    async def stored() -> list[str]:
        rows = [row for n in range(2) for row in await world.desired(f"edge{n}")]
        return sorted(row for row in rows if row.startswith("devices/"))

    async def reason(name: str) -> str:
        (condition,) = (await world.get(DEVICES, name))["status"]["conditions"]
        return str(condition["reason"])

    async with cloud(world, limit=100_000):
        for node in ("edge0", "edge1"):
            await world.join(node)
        await world.api().create(DEVICEMODELS, "default", model)
        for n in range(20):
            await world.api().create(DEVICES, "default", one(n))
        await world.settle(100)
        first = await stored()
        assert len(first) == 4, "of 20 KiB each"
        names = [row.rpartition("/")[2] for row in first]
        waits = next(f"d{n}" for n in range(20) if f"d{n}" not in names)
        assert await reason(names[0]) == "Pending" and await reason(waits) == "ExceededCopiesQuota"
    async with cloud(world, limit=100_000):  # another process begins with what there is
        await world.settle(100)
        assert await stored() == first
        gone = names[0]
        await world.api().merge_patch(DEVICES, "default", gone, {"spec": {"nodeName": ""}})
        await world.settle(100)
        assert len(await stored()) == 4 and first[0] not in await stored(), "the next one has its room"
