"""Module "clustercalls": the port for clusters of users' own, and the address of it in their CustomResourceDefinitions."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from kubeedge.api.client import KubeClient
from kubeedge.api.names import TenantId
from kubeedge.apiserver.module import ApiServerModule
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.tasks import until_one_ends
from kubeedge_cloud.clustercalls.server import ClusterServer
from kubeedge_cloud.clustercalls.webhook import ConversionWebhook
from kubeedge_cloud.processes.membership import Membership, led
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord

#: API servers keep a few connections, programs have one for each call
CONNECTIONS = ConnectionLimits(silent=256, queued=256, unauthenticated=256, authenticated=256, per_identity=64)


class ClusterCalls:
    """`cluster_client` gives the client of a tenant's cluster; `config` is the webhook's clientConfig."""

    name = "clustercalls"

    def __init__(
        self,
        tenants: TenantManager,
        cluster_client: Callable[[TenantRecord], KubeClient],
        make_server: Callable[[Callable[[TenantId], KubeClient | None]], ClusterServer],
        context: ssl.SSLContext,
        config: Mapping[str, Any],
        *,
        address: str,
        port: int,
        member: Membership,
    ) -> None:
        self._tenants = tenants
        self._cluster_client = cluster_client
        self._config = config
        self._member = member
        self._clients: dict[TenantId, KubeClient] = {}
        self._listener = ApiServerModule(
            make_server(self._clients.get), context, address=address, port=port, connections=CONNECTIONS
        )

    async def run(self, ready: asyncio.Event) -> None:
        """Serves until it is cancelled. Raises OSError when the port is taken."""
        followed = asyncio.Event()
        await until_one_ends(
            self._listener.run(ready), for_each_tenant(self._tenants, self._serve, followed, what="clustercalls")
        )

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        if not record.cluster:
            serving.set()
            await asyncio.get_running_loop().create_future()
        self._clients[record.name] = client = self._cluster_client(record)
        work = f"clustercalls/{record.name}"

        async def run(ready: asyncio.Event) -> None:
            ready.set()
            await ConversionWebhook(record.name, client, self._config).run()

        try:
            await led(self._member, work, run, serving)
        finally:
            self._clients.pop(record.name, None)
