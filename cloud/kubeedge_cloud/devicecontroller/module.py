"""Module "devicecontroller": a TenantDeviceController for every tenant whose leader this process is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from kubeedge.api.client import KubeClient
from kubeedge.api.devices import DEVICES
from kubeedge.api.names import TenantId
from kubeedge.apiserver.offload import Offload
from kubeedge.apiserver.quota import UNLIMITED, TenantLimits
from kubeedge.kit.metrics import Family
from kubeedge.store.model import Store
from kubeedge_cloud.controllers.served_resources import client_serving
from kubeedge_cloud.devicecontroller import observe
from kubeedge_cloud.devicecontroller.driver import TenantDeviceController
from kubeedge_cloud.processes.membership import Alone, Membership, led
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord


class DeviceController:
    """`cluster_client` gives the API of a tenant's own cluster, in which devices are served once cloud/crds is applied there."""

    name = "devicecontroller"

    def __init__(
        self,
        store: Store,
        client_for: Callable[[TenantId], KubeClient],
        tenants: TenantManager,
        *,
        grace: float,
        cluster_client: Callable[[TenantRecord], KubeClient] | None = None,
        limits: Callable[[TenantId], TenantLimits] | None = None,
        member: Membership | None = None,
        offload: Offload | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`grace`: seconds from the loss of a node's channel until its devices are unknown; `limits`: what a tenant's objects may have, and so
        the rows of its devices (copies.py); `offload`: where large devices are worked on."""
        self._store, self._client_for, self._tenants = store, client_for, tenants
        self._cluster_client = cluster_client
        self._grace = grace
        self._limits = limits
        self._member = member or Alone()
        self._offload = offload or Offload()
        self._wall = wall
        self._served: dict[TenantId, TenantDeviceController] = {}  # that this process leads

    def families(self) -> list[Family]:
        """Figures of the devices of all tenants that this process leads, for the metrics."""
        return observe.families({tenant: one.figures for tenant, one in self._served.items()})

    async def run(self, ready: asyncio.Event) -> None:
        """Serves tenants as they come and go, and stands by for those that another process leads."""
        await for_each_tenant(self._tenants, self._serve, ready, what="devicecontroller")

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        work = f"devicecontroller/{record.name}"

        async def run(ready: asyncio.Event) -> None:
            client = await client_serving(DEVICES, record, self._client_for, self._cluster_client, ready)
            controller = self._served[record.name] = TenantDeviceController(
                record.name,
                self._store,
                client,
                self._tenants,
                grace=self._grace,
                fence=partial(self._member.fence, work),
                limit=partial(self._limit, record),
                offload=self._offload,
                wall=self._wall,
            )
            try:
                await controller.run(ready)
            finally:
                del self._served[record.name]

        await led(self._member, work, run, serving)

    def _limit(self, record: TenantRecord) -> int:
        return UNLIMITED if self._limits is None else self._limits(record.name).size
