"""The API of a tenant, for controllers of resources that a cluster of its own may not have yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import TenantId
from kubeedge.errors import KubeEdgeError
from kubeedge_cloud.tenants.model import TenantRecord

_LOOK = 30.0  # seconds between two looks whether a cluster has the CustomResourceDefinitions


async def client_serving(
    resource: Resource,
    record: TenantRecord,
    client_for: Callable[[TenantId], KubeClient],
    cluster_client: Callable[[TenantRecord], KubeClient] | None,
    ready: asyncio.Event,
) -> KubeClient:
    """Of the tenant's own cluster, once that serves the resource (cloud/crds), or of the embedded API, which always does. `ready` is set before somebody
    waits for a cluster: others must not wait for one that may never have it."""
    if not record.cluster or cluster_client is None:
        return client_for(record.name)
    client = cluster_client(record)
    ready.set()
    while True:
        try:
            if resource in await client.resources():
                return client
        except (KubeEdgeError, OSError):
            pass  # it comes back
        await asyncio.sleep(_LOOK)
