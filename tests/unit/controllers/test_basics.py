"""What clients take for granted in a namespace: made, mended, and not in the way of its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubeedge.api.client import Resource
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import CONFIGMAPS, ENDPOINTS, NAMESPACES, SERVICEACCOUNTS, SERVICES
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import NotFound
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.controllers.basics.core import Server
from kubeedge_cloud.controllers.module import run_controllers
from tests.kit import virtual_time

SERVER = Server("PEM", ("203.0.113.1", "edge.example", "127.0.0.1", "2001:db8::1"), 6443)


@contextlib.asynccontextmanager
async def cluster(api: Registry, server: Server = SERVER) -> AsyncIterator[None]:
    ready = asyncio.Event()
    task = asyncio.create_task(run_controllers(api, ready, server=server))
    try:
        await asyncio.wait_for(ready.wait(), 60)
        await asyncio.sleep(1)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def scenario(test: Any) -> None:
    async def inside() -> None:
        store = MemoryStore()
        try:
            await test(Registry(store, TenantId("t"), foreground=True))
        finally:
            await store.close()

    virtual_time.run(inside())


async def names(api: Registry, resource: Resource) -> set[tuple[str, str]]:
    return {(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in (await api.list(resource)).items}


def test_every_namespace_has_an_account_and_the_certificate_and_default_has_the_service() -> None:
    async def test(api: Registry) -> None:
        async with cluster(api):
            await api.create(NAMESPACES, "", {"metadata": {"name": "new"}})
            await asyncio.sleep(1)
            spaces = {"default", "kube-system", "kube-public", "kube-node-lease", "new"}
            assert await names(api, SERVICEACCOUNTS) == {(space, "default") for space in spaces}
            assert await names(api, CONFIGMAPS) == {(space, "kube-root-ca.crt") for space in spaces}
            assert (await api.get(CONFIGMAPS, "new", "kube-root-ca.crt"))["data"] == {"ca.crt": "PEM"}
            service = await api.get(SERVICES, "default", "kubernetes")
            assert service["spec"]["clusterIP"] and service["spec"]["ports"][0]["targetPort"] == 6443
            subsets = (await api.get(ENDPOINTS, "default", "kubernetes"))["subsets"]
            assert [a["ip"] for a in subsets[0]["addresses"]] == ["203.0.113.1", "2001:db8::1"]

    scenario(test)


def test_what_is_removed_or_changed_by_hand_is_restored() -> None:
    async def test(api: Registry) -> None:
        async with cluster(api):
            await api.delete(SERVICEACCOUNTS, "default", "default")
            await api.delete(SERVICES, "default", "kubernetes")
            await api.merge_patch(CONFIGMAPS, "default", "kube-root-ca.crt", {"data": {"ca.crt": "mine"}})
            await asyncio.sleep(1)
            await api.get(SERVICEACCOUNTS, "default", "default")
            await api.get(SERVICES, "default", "kubernetes")
            assert (await api.get(CONFIGMAPS, "default", "kube-root-ca.crt"))["data"]["ca.crt"] == "PEM"
        async with cluster(api, Server("NEW", ("203.0.113.9",), 7443)):  # it moved, with a new authority
            assert (await api.get(CONFIGMAPS, "default", "kube-root-ca.crt"))["data"]["ca.crt"] == "NEW"
            subsets = (await api.get(ENDPOINTS, "default", "kubernetes"))["subsets"]
            assert subsets[0]["addresses"] == [{"ip": "203.0.113.9"}] and subsets[0]["ports"][0]["port"] == 7443
            ports: list[Object] = (await api.get(SERVICES, "default", "kubernetes"))["spec"]["ports"]
            assert ports[0]["targetPort"] == 7443

    scenario(test)


def test_a_namespace_ends_with_what_is_in_it() -> None:
    async def test(api: Registry) -> None:
        async with cluster(api):
            await api.create(NAMESPACES, "", {"metadata": {"name": "short"}})
            await asyncio.sleep(1)
            await api.delete(NAMESPACES, "", "short")
            await asyncio.sleep(5)
            with pytest.raises(NotFound):
                await api.get(NAMESPACES, "", "short")
            assert ("short", "default") not in await names(api, SERVICEACCOUNTS)

    scenario(test)


def test_nothing_is_written_without_a_need() -> None:
    async def test(api: Registry) -> None:
        async with cluster(api):
            before = api._store.revision
            await asyncio.sleep(600)
            assert api._store.revision == before

    scenario(test)
