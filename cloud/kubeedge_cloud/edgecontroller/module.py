"""Module "edgecontroller": a TenantEdgeController for every tenant whose leader this process is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from kubeedge.api.client import KubeClient
from kubeedge.api.names import NodeName, NodeNumber, TenantId, TenantNumber
from kubeedge.apiserver.quota import UNLIMITED, TenantLimits
from kubeedge.store.model import Store
from kubeedge_cloud.edgecontroller import core
from kubeedge_cloud.edgecontroller.copies import COPIES
from kubeedge_cloud.edgecontroller.driver import TenantEdgeController
from kubeedge_cloud.edgecontroller.kubelet_endpoint import KubeletEndpoint
from kubeedge_cloud.edgecontroller.node_registration import owner_of
from kubeedge_cloud.edgecontroller.state import EdgeState
from kubeedge_cloud.processes.membership import Alone, Membership, led
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord


class NodeClients(KubeClient, Protocol):
    """The API of a cluster that knows nodes by identities of their own."""

    def as_node(self, node: NodeName) -> KubeClient:
        """A client with the identity of a node."""
        ...

    async def moved(self) -> None:
        """Returns once it leads to another server than when this was called."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeControllerSettings:
    """When the Node of a lost node becomes NotReady."""

    node_grace: float = 10.0  # seconds from the loss of a node's channel to NotReady
    kubelet: Callable[[TenantNumber, NodeNumber], KubeletEndpoint | None] = lambda tenant, node: (
        None
    )  # in clusters of users
    owner: str = ""  # this cloud, in the annotation of its Nodes in clusters of users


class EdgeController:
    """`wall` gives seconds since 1970, for the timestamps in objects; `limits` what a tenant's objects may have (copies.py)."""

    name = "edgecontroller"

    def __init__(
        self,
        store: Store,
        client_for: Callable[[TenantId], KubeClient],
        tenants: TenantManager,
        settings: EdgeControllerSettings,
        *,
        cluster_client: Callable[[TenantRecord], NodeClients] | None = None,
        limits: Callable[[TenantId], TenantLimits] | None = None,
        member: Membership | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._member = member or Alone()
        self._store = store
        self._client_for = client_for
        self._cluster_client = cluster_client
        self._tenants = tenants
        self._settings = settings
        self._wall = wall
        self._limits = limits

    async def run(self, ready: asyncio.Event) -> None:
        """Serves tenants as they come and go, and stands by for those that another process leads."""
        await for_each_tenant(self._tenants, self._serve, ready, what="edgecontroller")

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        work = f"edgecontroller/{record.name}"

        def run(serving: asyncio.Event) -> Awaitable[None]:
            cluster = self._cluster_client(record) if record.cluster and self._cluster_client else None
            state = EdgeState(
                record.name,
                self._store,
                cluster or self._client_for(record.name),
                node_grace=self._settings.node_grace,
                wall=self._wall,
                as_node=cluster.as_node if cluster else None,
                owner=owner_of(self._settings.owner, record.name) if cluster else core.EMBEDDED,
                kubelet=lambda node: self._settings.kubelet(record.number, node.number) if cluster else None,
            )
            fence = partial(self._member.fence, work)
            controller = TenantEdgeController(state, self._tenants, fence=fence, limit=partial(self._limit, record))
            return _until_moved(cluster, controller.run(serving)) if cluster else controller.run(serving)

        await led(self._member, work, run, serving)

    def _limit(self, record: TenantRecord) -> int:
        if self._limits is None:
            return UNLIMITED
        return COPIES * self._limits(record.name).size


async def _until_moved(cluster: NodeClients, controller: Coroutine[Any, Any, None]) -> None:
    """What is cached of one server says nothing about another: with that all is begun anew."""
    running, moved = asyncio.create_task(controller), asyncio.create_task(cluster.moved())
    try:
        await asyncio.wait((running, moved), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
    finally:
        for task in (running, moved):
            task.cancel()
        await asyncio.gather(running, moved, return_exceptions=True)
