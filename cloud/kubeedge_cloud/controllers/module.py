"""Module "controllers": all controllers and the scheduler, for every tenant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from kubeedge.api.client import KubeClient
from kubeedge.api.names import NamespacedName, TenantId
from kubeedge_cloud.controllers.basics.core import Server
from kubeedge_cloud.controllers.basics.driver import BasicsController
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.daemonset.driver import DaemonSetController
from kubeedge_cloud.controllers.deployment.driver import DeploymentController
from kubeedge_cloud.controllers.endpoints.driver import EndpointsController
from kubeedge_cloud.controllers.gc.driver import NODE_QUARANTINE, GarbageCollector
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.controllers.replicaset.driver import ReplicaSetController
from kubeedge_cloud.controllers.scheduler.driver import Scheduler
from kubeedge_cloud.controllers.taints.driver import TaintEviction
from kubeedge_cloud.processes.membership import Alone, Membership, led
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord


class Controller(Protocol):
    """Hears of changes in the shared caches, and does its work from a queue of keys."""

    @property
    def queue(self) -> WorkQueue[NamespacedName]:
        """Run by the module, once all controllers listen."""
        ...

    def listen(self) -> None:
        """Begin to hear of changes; called once every cache is filled."""
        ...


async def run_controllers(
    client: KubeClient,
    ready: asyncio.Event,
    *,
    wall: Callable[[], float] = time.time,
    quarantine: float = NODE_QUARANTINE,
    server: Server | None = None,
) -> None:
    """The controllers of one cluster, until cancelled. They share one cache of every resource.

    `server` says where the API is; without it, the objects that represent it in the cluster are not created.
    """
    cluster = Cluster(client, wall=wall)
    collector = GarbageCollector(cluster, quarantine=quarantine)
    controllers: Sequence[Controller] = (
        DeploymentController(cluster),
        ReplicaSetController(cluster),
        DaemonSetController(cluster),
        Scheduler(cluster),
        EndpointsController(cluster),
        *([BasicsController(cluster, server)] if server is not None else []),
        TaintEviction(cluster),
    )
    async with asyncio.TaskGroup() as group:
        for informer in cluster.informers():
            group.create_task(informer.run(), name=f"watch of {informer.resource.plural}")
        for informer in cluster.informers():
            await informer.synced.wait()
        collector.listen()
        for controller in controllers:
            controller.listen()
        for queue in (collector.objects, collector.namespaces, collector.nodes):
            group.create_task(queue.run(), name=queue.name)
        for controller in controllers:
            group.create_task(controller.queue.run(), name=controller.queue.name)
        group.create_task(cluster.recorder.run(), name="events")
        group.create_task(collector.follow_resources(), name="discovery of custom resources")
        ready.set()


class ControllersModule:
    """For tenants with the embedded API; a tenant with a Kubernetes of its own has these controllers there."""

    name = "controllers"

    def __init__(
        self,
        client_for: Callable[[TenantId], KubeClient],
        tenants: TenantManager,
        *,
        member: Membership | None = None,
        wall: Callable[[], float] = time.time,
        server: Server | None = None,
    ) -> None:
        self._server = server
        self._client_for = client_for
        self._tenants = tenants
        self._member = member or Alone()
        self._wall = wall

    async def run(self, ready: asyncio.Event) -> None:
        """Serves tenants as they come and go, and stands by for those that another process leads."""
        await for_each_tenant(self._tenants, self._serve, ready, what="controllers")

    async def _serve(self, tenant: TenantRecord, serving: asyncio.Event) -> None:
        if tenant.cluster:
            serving.set()
            await asyncio.Event().wait()  # until the tenant goes, or gets the embedded API
        await led(
            self._member,
            f"controllers/{tenant.name}",
            lambda ready: run_controllers(self._client_for(tenant.name), ready, wall=self._wall, server=self._server),
            serving,
        )
