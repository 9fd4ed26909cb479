"""Which part of the administration API answers a request.

GET  /v1/status                        POST /v1/stop
GET  /v1/nodes?tenant=T                GET  /v1/sync?tenant=T&node=N
     /v1/tenants...                    (tenants.py, kubeconfigs.py)
     /v1/links, routes, routers, ping  (network.py)

GET /metrics and the form of errors are the control socket's (kubeedge.control.module).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from kubeedge.kit.http1 import Request
from kubeedge_cloud.admin.network import NetworkRoutes
from kubeedge_cloud.admin.tenants import TenantRoutes
from kubeedge_cloud.status.nodes import NodeOverview
from kubeedge_cloud.status.process import ProcessStatus
from kubeedge_cloud.status.sync import SyncStatus

_ANSWER_FIRST = 0.1  # seconds that the answer to a stop has before the process stops


class AdminRoutes:
    """`stop` ends the process, `clock` is wall-clock time in seconds since 1970."""

    def __init__(
        self,
        *,
        tenants: TenantRoutes,
        network: NetworkRoutes,
        status: ProcessStatus,
        nodes: NodeOverview,
        sync: SyncStatus,
        stop: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._tenants = tenants
        self._network = network
        self._status = status
        self._nodes = nodes
        self._sync = sync
        self._stop = stop
        self._clock = clock

    async def answer(self, request: Request) -> Mapping[str, Any] | None:
        """The answer to a request; None when there is no such route. Raises any KubeEdgeError."""
        match request.method, request.path:
            case "GET", "/v1/status":
                return await self._status.read(self._clock())
            case "GET", "/v1/nodes":
                return {"nodes": await self._nodes.list(self._clock(), last(request, "tenant"))}
            case "GET", "/v1/sync":
                return await self._sync.read(last(request, "tenant"), last(request, "node"))
            case "POST", "/v1/stop":
                asyncio.get_running_loop().call_later(_ANSWER_FIRST, self._stop)
                return {}
        answer = await self._tenants.answer(request)
        return answer if answer is not None else await self._network.answer(request)


def last(request: Request, name: str) -> str:
    """The last value of a parameter of the query; "" without one."""
    return (request.query.get(name) or [""])[-1]
