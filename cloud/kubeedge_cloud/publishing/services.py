"""Web services of the cloud for the nodes: what `publishing.services` of the configuration names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from kubeedge.api.names import TenantId, TenantNumber
from kubeedge.config import forms
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.server_proxy import ServerProxy
from kubeedge.kubebus.http.url import ServiceName, Target

FindTenant = Callable[[TenantId], Awaitable[TenantNumber | None]]


class CloudServices:
    """On L4 port 80 of every tenant. `tenant_number`: None for a tenant that does not exist."""

    def __init__(self, services: Sequence[str], tenant_number: FindTenant) -> None:
        self._services = [forms.cloud_service(text) for text in services]
        self._tenant_number = tenant_number

    def for_tenant(
        self, number: TenantNumber
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        """A handler of L4 connections."""

        async def resolve(service: ServiceName) -> Target | None:
            for tenant, name, (host, port) in self._services:
                if name == service and (not tenant or await self._tenant_number(TenantId(tenant)) == number):
                    return Target(host, port)
            return None

        # L4 admits only nodes of the tenant
        return ServerProxy(resolve, location="the cloud", limits=ProxyLimits()).handle
