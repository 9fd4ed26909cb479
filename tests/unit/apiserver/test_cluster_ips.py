"""Cluster IPs of both families, as Kubernetes' API server gives them, in a registry over a real store."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kubeedge.api.names import TenantId
from kubeedge.api.resources import SERVICES
from kubeedge.api.status import InvalidObject
from kubeedge.apiserver.registry import Registry
from kubeedge.store.memory import MemoryStore

FOUR, SIX = ipaddress.ip_network("10.96.0.0/24"), ipaddress.ip_network("fd00:10:96::/112")


def run(scenario: Callable[[World], Awaitable[None]], *networks: Any) -> None:
    async def go() -> None:
        store = MemoryStore()
        try:
            await scenario(World(store, networks or (FOUR, SIX)))
        finally:
            await store.close()

    asyncio.run(go())


class World:
    def __init__(self, store: MemoryStore, networks: Any) -> None:
        self.store = store
        self.api = Registry(store, TenantId("a"), services=networks)

    async def make(self, name: str = "web", **spec: Any) -> dict[str, Any]:
        made = await self.api.create(
            SERVICES, "default", {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}
        )
        return dict(made["spec"])

    async def patch(self, name: str = "web", **spec: Any) -> dict[str, Any]:
        return dict((await self.api.merge_patch(SERVICES, "default", name, {"spec": spec}))["spec"])

    async def claims(self) -> set[str]:
        prefix = "/t/a/registry/_addresses/services/"
        kvs = (await self.store.range(prefix, prefix[:-1] + "0")).kvs
        return {kv.key.removeprefix(prefix) for kv in kvs}


def families(spec: dict[str, Any]) -> list[str]:
    versions = [f"IPv{ipaddress.ip_address(address).version}" for address in spec["clusterIPs"]]
    assert spec["ipFamilies"] == versions and spec["clusterIP"] == spec["clusterIPs"][0]
    for address in spec["clusterIPs"]:
        assert ipaddress.ip_address(address) in (FOUR if "." in address else SIX)
    return versions


def test_a_service_has_the_families_that_it_asks_for() -> None:
    async def scenario(world: World) -> None:
        for n, (asked, expected, policy) in enumerate(
            [
                ({}, ["IPv4"], "SingleStack"),
                ({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack"),
                ({"clusterIP": "fd00:10:96::77"}, ["IPv6"], "SingleStack"),
                ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack"),
                ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}, ["IPv6", "IPv4"], "RequireDualStack"),
                (
                    {"ipFamilyPolicy": "RequireDualStack", "clusterIPs": ["10.96.0.9", "FD00:10:96::9"]},
                    ["IPv4", "IPv6"],
                    "RequireDualStack",
                ),
            ]
        ):
            made = await world.make(f"s{n}", **asked)
            assert (families(made), made["ipFamilyPolicy"]) == (expected, policy), asked
        assert made["clusterIPs"] == ["10.96.0.9", "fd00:10:96::9"]
        assert len(await world.claims()) == 9

    run(scenario)


def test_a_service_gets_a_second_address_and_gives_it_back() -> None:
    async def scenario(world: World) -> None:
        one = await world.make()
        both = await world.patch(ipFamilyPolicy="PreferDualStack")
        assert families(both) == ["IPv4", "IPv6"] and both["clusterIP"] == one["clusterIP"]
        assert await world.claims() == set(both["clusterIPs"])
        same = await world.patch(sessionAffinity="ClientIP")
        assert same["clusterIPs"] == both["clusterIPs"]
        again = await world.patch(ipFamilyPolicy="SingleStack")
        assert again["clusterIPs"] == [one["clusterIP"]] and again["ipFamilies"] == ["IPv4"]
        assert await world.claims() == {one["clusterIP"]}
        await world.patch(ipFamilyPolicy="RequireDualStack")
        name = await world.patch(type="ExternalName", externalName="a.example", clusterIP=None, clusterIPs=None)
        assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(name)
        assert await world.claims() == set()
        await world.make("gone", ipFamilyPolicy="PreferDualStack")
        await world.api.delete(SERVICES, "default", "gone")
        assert await world.claims() == set()

    run(scenario)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"ipFamilies": ["IPv4", "IPv6"]}, "must be 'RequireDualStack' or 'PreferDualStack'"),
        ({"ipFamilyPolicy": "SingleStack", "clusterIPs": ["10.96.0.1", "fd00:10:96::1"]}, "must be 'RequireDualStack'"),
        (
            {"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.96.0.1", "10.96.0.2"]},
            "one valid IP address of each",
        ),
        (
            {"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.96.0.1", "fd00:10:96::1%lo"]},
            "one valid IP address",
        ),
        ({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.96.0.1", "fd99::1"]}, "not in the valid range"),
        ({"ipFamilies": ["IPv6"], "clusterIP": "10.96.0.1"}, "expected an IPv6 value"),
        ({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.2"]}, "must be the same as `clusterIP`"),
        ({"ipFamilies": ["IPv5"]}, "Unsupported value"),
        ({"ipFamilies": ["IPv4", "IPv4"]}, "Duplicate value"),
        ({"ipFamilyPolicy": "Both"}, "Unsupported value"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(spec: dict[str, Any], message: str) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(InvalidObject, match=message):
            await world.make(**spec)
        assert await world.claims() == set()

    run(scenario)


def test_an_api_of_one_family_has_one_address_for_those_who_prefer_two() -> None:
    async def scenario(world: World) -> None:
        made = await world.make(ipFamilyPolicy="PreferDualStack")
        assert families(made) == ["IPv4"] and made["ipFamilyPolicy"] == "PreferDualStack"
        for spec, message in (
            ({"ipFamilyPolicy": "RequireDualStack"}, "this cluster is not configured for dual-stack services"),
            ({"ipFamilies": ["IPv6"]}, "not configured on this cluster"),
        ):
            with pytest.raises(InvalidObject, match=message):
                await world.make("other", **spec)
        headless = await world.make("headless", clusterIP="None")
        assert (headless["ipFamilies"], headless["ipFamilyPolicy"]) == (["IPv4", "IPv6"], "RequireDualStack")
        chosen = await world.make("chosen", clusterIP="None", selector={"app": "web"})
        assert (chosen["ipFamilies"], chosen["clusterIPs"]) == (["IPv4"], ["None"])

    run(scenario, FOUR)


def test_a_service_keeps_its_second_address_when_the_network_is_taken_away() -> None:
    async def scenario(world: World) -> None:
        both = await world.make(ipFamilyPolicy="RequireDualStack")
        world.api = Registry(world.store, TenantId("a"), services=(FOUR,))
        kept = await world.patch(sessionAffinity="ClientIP")
        assert kept["clusterIPs"] == both["clusterIPs"]

    run(scenario)


def test_an_address_belongs_to_one_service_in_both_families() -> None:
    async def scenario(world: World) -> None:
        first = await world.make(ipFamilyPolicy="RequireDualStack")
        with pytest.raises(InvalidObject, match="already allocated"):
            await world.make("other", ipFamilies=["IPv6"], clusterIP=first["clusterIPs"][1])
        with pytest.raises(InvalidObject, match="already allocated"):
            await world.make("other", clusterIP=first["clusterIPs"][1].upper())

    run(scenario)
