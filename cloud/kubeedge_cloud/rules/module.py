"""Module "rules": a TenantRules for every tenant whose leader this process is."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from functools import partial

from kubeedge.api import rules
from kubeedge.api.client import KubeClient
from kubeedge.api.names import TenantId
from kubeedge.apiserver.logs import NodeStream
from kubeedge.apiserver.rule_counts import RuleCounts
from kubeedge.store.model import Store
from kubeedge_cloud.controllers.served_resources import client_serving
from kubeedge_cloud.processes.membership import Alone, Membership, led
from kubeedge_cloud.rules.driver import TenantRules
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord


class MessageRules:
    """`allowed`: networks that rules may reach besides the Internet. `cluster_client` gives the API of a tenant's own cluster."""

    name = "rules"

    def __init__(
        self,
        store: Store,
        client_for: Callable[[TenantId], KubeClient],
        tenants: TenantManager,
        *,
        allowed: Sequence[str] = (),
        cluster_client: Callable[[TenantRecord], KubeClient] | None = None,
        member: Membership | None = None,
        wall: Callable[[], float] = time.time,
        node_stream: NodeStream | None = None,
    ) -> None:
        """`node_stream` as TenantRules."""
        self._store, self._client_for, self._tenants = store, client_for, tenants
        self._cluster_client = cluster_client
        self._allowed = [ipaddress.ip_network(text) for text in allowed]
        self._member = member or Alone()
        self._wall = wall
        self._node_stream = node_stream
        self._counts = RuleCounts()

    async def run(self, ready: asyncio.Event) -> None:
        """Serves tenants as they come and go, and stands by for those that another process leads."""
        await for_each_tenant(self._tenants, self._serve, ready, what="rules")

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        work = f"rules/{record.name}"

        async def run(ready: asyncio.Event) -> None:
            client = await client_serving(rules.RULES, record, self._client_for, self._cluster_client, ready)
            await TenantRules(
                record.name,
                self._store,
                client,
                self._tenants,
                self._counts,
                allowed=self._allowed,
                wall=self._wall,
                fence=partial(self._member.fence, work),
                node_stream=self._node_stream,
            ).run(ready)

        await led(self._member, work, run, serving)
