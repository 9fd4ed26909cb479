"""Routes of a cluster's other machines, by what its API says of the router."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kubeedge.api.names import TenantId
from kubeedge.api.resources import PODS
from kubeedge.apiserver.registry import Registry
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.vmroutes.module import VmRoutes, VmRoutesSettings
from tests.kit.topology import Topology, inside

pytestmark = pytest.mark.root

SETTINGS = VmRoutesSettings(
    namespace="default", labels={"component": "cloud"}, address="10.50.0.2", networks=["100.64.0.0/16", "10.244.0.0/16"]
)


async def until_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not condition():
            await asyncio.sleep(0.02)


async def router(api: Registry, address: str, ready: str = "True") -> None:
    found = await api.get(PODS, "default", "router")
    status = {"hostIP": address, "conditions": [{"type": "Ready", "status": ready}]}
    await api.update(PODS, "default", {**found, "status": status}, subresource="status")


def test_routes_follow_the_router_and_go_with_the_process() -> None:
    with Topology() as net:
        vm2, vm1 = net.host("vm2"), net.host("vm1")
        net.wire(vm2, "10.50.0.2/24", vm1, "10.50.0.1/24")
        vm2.ip("route", "add", "10.244.9.0/24", "via", "10.50.0.1")  # somebody else's

        def via(address: str) -> Callable[[], bool]:
            return lambda: all(f"{n} via {address} " in vm2.ip("route") for n in SETTINGS.networks)

        async def scenario(api: Registry, changed: Callable[[str], Awaitable[None]]) -> None:
            await changed("10.50.0.1")
            await until_true(via("10.50.0.1"))
            vm2.ip("route", "del", "10.244.0.0/16", "via", "10.50.0.1")
            await until_true(via("10.50.0.1"))
            await router(api, "10.50.0.1", "False")  # it starts again
            await changed("10.50.0.7")
            await until_true(via("10.50.0.7"))
            await changed("10.50.0.2")  # this very machine
            await until_true(lambda: "metric 5001" not in vm2.ip("route"))
            await changed("192.0.2.1")  # not on a network of this machine
            await changed("10.50.0.1")
            await until_true(via("10.50.0.1"))

        async def whole() -> None:
            store = MemoryStore()
            api = Registry(store, TenantId("a"))
            spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
            await api.create(
                PODS, "default", {"metadata": {"name": "router", "labels": {"component": "cloud"}}, "spec": spec}
            )
            running = asyncio.create_task(VmRoutes(SETTINGS, api).run(asyncio.Event()))
            try:
                await scenario(api, lambda address: router(api, address))
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await store.close()

        inside(vm2, lambda: asyncio.run(whole()))
        assert "metric 5001" not in vm2.ip("route") and "10.244.9.0/24 via 10.50.0.1" in vm2.ip("route")
