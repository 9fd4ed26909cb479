"""The clusters of the tenants that have one of their own: a transport for each, for as long as its source stays the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeedge.api.names import TenantId
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.credentials import Credentials
from kubeedge_cloud.clusters.transport import ClusterTransport


class Clusters:
    """`make` gives the way to a source."""

    def __init__(
        self, make: Callable[[str], ClusterTransport] = lambda source: ClusterTransport(Credentials(source))
    ) -> None:
        self._make = make
        self._open: dict[TenantId, tuple[str, ClusterTransport, RemoteClient]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, tenant: TenantId, source: str) -> RemoteClient:
        """Finds or makes it; another source than before is another cluster."""
        known = self._open.get(tenant)
        if known is not None and known[0] == source:
            return known[2]
        self.forget(tenant)
        transport = self._make(source)
        client = RemoteClient(transport)
        self._open[tenant] = source, transport, client
        return client

    def known(self, tenant: TenantId) -> RemoteClient | None:
        """The client of a tenant's cluster; None when the tenant has the embedded API, or is not served yet."""
        found = self._open.get(tenant)
        return found[2] if found else None

    def forget(self, tenant: TenantId) -> None:
        """Close the connections to the cluster of a tenant, in the background."""
        if (known := self._open.pop(tenant, None)) is not None:
            task = asyncio.get_running_loop().create_task(known[1].close(), name=f"end of the cluster of {tenant}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def requests(self) -> dict[tuple[TenantId, str], int]:
        """Requests so far, by tenant and method."""
        return {(t, method): n for t, (_, way, _) in self._open.items() for method, n in way.requests.items()}
