"""What nodes have found becomes Devices that nothing uses until somebody approves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from kubeedge.api.client import KubeClient
from kubeedge.api.devices import DEVICEMODELS, DEVICES
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge_cloud.admin.devices import DeviceRoutes
from kubeedge_cloud.admin.scans import ScanRoutes
from kubeedge_cloud.devicecontroller import core, discoveries
from kubeedge_cloud.devicecontroller.core import FINALIZER
from tests.unit.cli.test_cloud_devices import no_node
from tests.unit.controllers.world import TENANT, World, in_world
from tests.unit.devices.test_controller import MODEL, cloud

ROW: Object = {
    "finder": "modbus",
    "protocol": "modbus",
    "config": {"host": "10.0.0.1", "slaveID": 1},
    "info": {"vendor": "Acme"},
}
NAME = "edge1-modbus-10-0-0-1-1"


async def found(world: World, name: str = "modbus-10-0-0-1-1", age: float = 0, **more: object) -> None:
    row = {**ROW, "time": int((world.wall() - age) * 1000), **more}
    await world.agents[TENANT, NodeName("edge1")].report(f"discoveries/_/{name}", row)


async def reason(world: World, name: str = NAME) -> str:
    try:
        device = await world.get(DEVICES, name)
    except NotFound:
        return ""
    return {one["type"]: str(one["reason"]) for one in device.get("status", {}).get("conditions", ())}.get("Ready", "")


async def names(world: World) -> list[str]:
    return [one["metadata"]["name"] for one in await world.all(DEVICES)]


@in_world
async def test_a_device_that_is_found_waits_for_approval(world: World) -> None:
    async def of(tenant: TenantId) -> KubeClient:
        return world.api()

    routes = DeviceRoutes(of, no_node)
    await world.join("edge1")
    async with cloud(world):
        await world.api().create(DEVICEMODELS, "default", MODEL)
        await found(world)

        async def waits() -> bool:
            return await reason(world) == "NotApproved"

        await world.until(waits, "the Device of what was found")
        device = await world.get(DEVICES, NAME)
        assert device["spec"]["protocol"] == {"protocolName": "modbus", "configData": ROW["config"]}
        assert FINALIZER not in device["metadata"].get("finalizers", ())
        assert f"devices/default/{NAME}" not in await world.desired("edge1"), "its node hears nothing of it"
        with pytest.raises(Invalid):
            await routes.route("POST", TENANT, ["default", NAME], {"model": 7})
        answer = await routes.route("POST", TENANT, ["default", NAME], {"model": "thermostat", "name": "boiler"})
        assert answer is not None and (answer["id"], answer["ready"]) == ("default/boiler", "Pending")

        async def is_there() -> bool:
            return "devices/default/boiler" in await world.desired("edge1")

        await world.until(is_there, "the row of the approved device")
        assert await names(world) == ["boiler"]
        with pytest.raises(Conflict, match="approved already") as refused:
            await routes.route("POST", TENANT, ["default", "boiler"], {})
        assert "scan again" in refused.value.__notes__[0]
        await found(world)
        await found(world, "modbus-2", config={"host": "10.0.0.2"})
        await world.until(lambda: _is(world, "edge1-modbus-2"), "another one")
        assert await names(world) == ["boiler", "edge1-modbus-2"], (
            "what was approved by another name is not found again"
        )
        for body, model in (({}, "modbus"), ({"model": "thermostat"}, "thermostat")):
            if model != "modbus":
                await found(world, "modbus-3", config={"host": "10.0.0.3"})
                await world.until(lambda: _is(world, "edge1-modbus-3"), "a third one")
            name = "edge1-modbus-2" if model == "modbus" else "edge1-modbus-3"
            answer = await routes.route("POST", TENANT, ["default", name], body)
            assert answer is not None and answer["ready"] == ("ModelMissing" if model == "modbus" else "Pending")
            made = await world.get(DEVICES, name)
            assert made["spec"]["deviceModelRef"] == {"name": model}
            assert made["metadata"]["annotations"]["kubeedge.io/approved"] == "true"


async def _is(world: World, name: str) -> bool:
    return name in await names(world)


@in_world
async def test_what_was_deleted_stays_away_when_the_cloud_starts_again(world: World) -> None:
    await world.join("edge1")
    async with cloud(world):
        await found(world)
        await world.until(lambda: _is(world, NAME), "the Device")
        await world.api().delete(DEVICES, "default", NAME)
        await world.settle(700)
    async with cloud(world):
        await found(world, "modbus-new")
        await world.until(lambda: _is(world, "edge1-modbus-new"), "a Device of a new scan")
        assert await names(world) == ["edge1-modbus-new"]


@in_world
async def test_a_node_that_finds_without_end_or_lies_makes_no_more_than_so_many(world: World) -> None:
    await world.join("edge1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discoveries, "MAX_WAITING", 3)
        async with cloud(world):
            await found(world, "broken", protocol=7)
            await found(world, "odd", config=[])
            await found(world, "..", config={})
            for n in range(6):
                await found(world, f"m{n}")

            async def three() -> bool:
                return len(await names(world)) == 3

            await world.until(three, "as many Devices as may wait")
            await world.settle(5)
            assert await three()


@in_world
async def test_what_is_found_beyond_all_bounds_costs_the_cloud_little(world: World) -> None:
    """Neither a look at all Devices for each row, nor a line in the log, nor an object as large as the store takes."""
    looked, said = 0, list[str]()

    def approved(device: Object) -> bool:
        nonlocal looked
        looked += 1
        return core.is_approved(device)

    await world.join("edge1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discoveries, "MAX_WAITING", 3)
        patch.setattr(discoveries.log, "warning", lambda text, *values: said.append(text % values))
        patch.setattr(discoveries, "core", SimpleNamespace(APPROVED=core.APPROVED, is_approved=approved))
        async with cloud(world):
            await found(world, "large", info={"a": "x" * 70_000})
            for n in range(3):
                await found(world, f"m{n}")
                await world.until(lambda n=n: _is(world, f"edge1-m{n}"), "a Device")  # type: ignore[misc]
            await world.settle(10)
            looked = 0
            said.clear()
            for n in range(40):
                await found(world, f"more{n}")
            await world.settle(2)
            assert await names(world) == ["edge1-m0", "edge1-m1", "edge1-m2"]
            assert 3 <= looked <= 6
            assert len([line for line in said if "wait for approval" in line]) <= 2


@in_world
async def test_a_node_is_asked_to_scan_and_answers(world: World) -> None:
    await world.join("edge1")
    routes = ScanRoutes(world.store, world.wall)
    async with cloud(world):
        asked = await routes.route("PUT", TENANT, ["edge1"], {"networks": ["10.0.0.0/30"], "seconds": 5})
        assert asked is not None
        row = (await world.desired("edge1"))["scans/_/scan"]
        assert row["id"] == asked["id"] and row["networks"] == ["10.0.0.0/30"]
        assert (await routes.route("GET", TENANT, ["edge1"], {}) or {})["state"] == "none"
        await world.agents[TENANT, NodeName("edge1")].report("scans/_/scan", {"id": row["id"], "state": "done"})

        async def done() -> bool:
            return (await routes.route("GET", TENANT, ["edge1"], {}) or {})["state"] == "done"

        await world.until(done, "the answer")
    for node, body, error in (
        ("edge2", {"networks": ["10.0.0.0/30"]}, NotFound),
        ("edge1", {"networks": ["x"]}, Invalid),
        ("edge1", {"networks": "10.0.0.0/30"}, Invalid),
        ("edge1", {"seconds": 1e9}, Invalid),
    ):
        with pytest.raises(error):
            await routes.route("PUT", TENANT, [node], cast(Object, body))
    assert await routes.route("DELETE", TENANT, ["edge1"], {}) is None


@pytest.mark.parametrize(
    ("config", "is_same"),
    [({}, True), ({"slaveID": 1}, True), ({"slaveID": 2}, False), ({"port": 1502}, False), ({"port": 502}, True)],
)
def test_each_unit_behind_an_address_is_a_device(config: dict[str, object], is_same: bool) -> None:
    def device(**config: object) -> Object:
        protocol = {"protocolName": "modbus", "configData": {"host": "10.0.0.1", **config}}
        return {"spec": {"nodeName": "edge1", "protocol": protocol}}

    assert discoveries._is_same(device(port=502), device(**config)) is is_same
