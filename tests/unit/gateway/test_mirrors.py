"""Copies of requests: so many of all tenants, and of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.gateway.model import MirrorTarget, PodEndpoint, RouteBackend
from kubeedge.gateway.proxy import GatewayProxy
from kubeedge.gateway.table import HostTable
from kubeedge.kit.http1 import Request
from kubeedge.kubebus.http.accounts import Accounts
from kubeedge.kubebus.http.limits import ProxyLimits


class OnePod:
    table = HostTable({}, {})

    def is_tenant(self, name: str) -> bool:
        return False

    def endpoints(self, tenant: TenantId, backend: RouteBackend) -> list[PodEndpoint]:
        return [PodEndpoint(NodeName("n1"), "10.244.1.2", 80)]


async def nothing() -> AsyncIterator[bytes]:
    for piece in list[bytes]():
        yield piece


def test_a_tenant_with_slow_pods_leaves_room_for_the_copies_of_others() -> None:
    async def scenario() -> None:
        async def never(*_: object) -> Any:
            await asyncio.Event().wait()

        def no_slots() -> Any:
            raise NotImplementedError

        proxy = GatewayProxy(OnePod(), never, slots=no_slots, accounts=Accounts(), limits=ProxyLimits())
        mirror = MirrorTarget(RouteBackend("default", "slow"))
        for tenant in "abcdef":
            for _ in range(40):
                request = Request("GET", "/", [], lambda name: None, nothing())
                proxy._mirror(request, TenantId(tenant), mirror, "/", [])
        assert proxy._copied == {tenant: 16 for tenant in "abcd"}
        await proxy.aclose()
        await asyncio.sleep(0)
        assert not proxy._copied

    asyncio.run(scenario())
