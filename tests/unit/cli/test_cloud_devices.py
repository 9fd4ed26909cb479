"""`kubeedge devices` in the cloud: the program, the administrator's socket, and a tenant's API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

from kubeedge.api.client import KubeClient
from kubeedge.api.devices import DEVICEMODELS, DEVICES
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import Resources
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.devices import ROWS
from kubeedge.apiserver.registry import Registry
from kubeedge.control.module import ControlServer
from kubeedge.errors import Conflict, Unavailable
from kubeedge.kit.http1 import start_unix_server
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.admin.devices import DeviceRoutes
from kubeedge_cloud.admin.tenants import TenantRoutes, Tenants
from kubeedge_cloud.bootstrap.tokens import TokenStore
from tests.unit.cli.test_commands import Tenants as OneTenant
from tests.unit.cli.test_devices import kubeedge
from tests.unit.devices.test_controller import MODEL, device

TENANT = TenantId("default")


async def no_node(tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    raise Unavailable(f"no link to {node}")


def test_devices_are_listed_shown_and_set(tmp_path: Path) -> None:
    api = Registry(MemoryStore(), TENANT, served=Resources((*BUILT_IN, *ROWS)))
    socket = tmp_path / "cloud.sock"

    async def of(tenant: TenantId) -> KubeClient:
        return api

    async def answered(*arguments: str) -> tuple[int, Any]:
        status, text = await kubeedge("devices", *arguments, "--socket", str(socket), "-o", "json")
        return status, text if status else json.loads(text)

    async def run() -> None:
        await api.create(DEVICES, "default", device())
        routes = TenantRoutes(
            cast(Tenants, OneTenant()), cast(TokenStore, None), lambda: 0.0, devices=DeviceRoutes(of, no_node)
        )
        server = await start_unix_server(socket, ControlServer(socket, routes.answer, str).handle)
        try:
            status, text = await answered("set", "hall", "target=21")
            assert status == 1 and "DeviceModel default/thermostat does not exist" in text
            await api.create(DEVICEMODELS, "default", MODEL)
            status, found = await answered("list", "--cloud")
            assert found == {
                "devices": [
                    {"id": "default/hall", "node": "edge1", "state": "unknown", "ready": "-", "lastOnlineTime": ""}
                ]
            }
            status, found = await answered("set", "default/hall", "target=21")
            assert {one["property"]: one["desired"] for one in found["properties"]} == {
                "temperature": "-",
                "target": "21",
            }
            for values, why in (
                (("target=31",), "property target is greater than the maximum, 30"),
                (("target=22", "temperature=1"), "property temperature is read-only"),
                (("humidity=1",), "property humidity is not in the DeviceModel"),
                (("=1",), "'=1' is no PROPERTY=VALUE"),
            ):
                status, text = await answered("set", "hall", *values)
                assert status in (1, 2) and why in text, text
            status, found = await answered("get", "hall", "--cloud")
            assert found["properties"][1]["desired"] == "21", "of values that are refused none is set"
            status, found = await answered("set", "hall", "target=")
            assert found["properties"][1]["desired"] == "-"
            methods = [{"name": "warm_up", "propertyNames": ["target"]}]
            await api.merge_patch(DEVICES, "default", "hall", {"spec": {"methods": methods}})
            status, found = await answered("get", "hall", "--cloud")
            assert [one["name"] for one in found["methods"]] == ["warm_up"]
            for call, why in (
                (("warm_up", "target=31"), "greater than the maximum, 30"),
                (("cool",), "no method 'cool', but warm_up"),
                (("warm_up", "target=21"), "node edge1 cannot be reached"),
            ):
                status, text = await answered("call", "hall", *call, "--cloud")
                assert status == 1 and why in text, text
            status, text = await answered("get", "attic", "--cloud")
            assert status == 1 and "attic" in text
        finally:
            server.close()
            await server.wait_closed()

    asyncio.run(run())


def test_who_writes_the_same_device_at_the_same_moment_loses_nothing() -> None:
    api = Registry(MemoryStore(), TENANT, served=Resources((*BUILT_IN, *ROWS)))

    class Busy:
        """Somebody else writes between our reading and our writing, twice."""

        left = 2

        def __getattr__(self, name: str) -> Any:
            return getattr(api, name)

        async def update(self, *arguments: Any) -> Any:
            if self.left:
                self.left -= 1
                raise Conflict("another client wrote first")
            return await api.update(*arguments)

    busy = Busy()

    async def of(tenant: TenantId) -> KubeClient:
        return cast(KubeClient, busy)

    async def run() -> None:
        await api.create(DEVICEMODELS, "default", MODEL)
        await api.create(DEVICES, "default", device())
        found = await DeviceRoutes(of, no_node).route("PUT", TENANT, ["default", "hall"], {"target": "9"})
        assert found is not None and found["properties"][1]["desired"] == "9" and not busy.left

    asyncio.run(run())
