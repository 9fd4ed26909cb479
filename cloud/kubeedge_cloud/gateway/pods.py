"""Connections to the pods behind a backend: over KubeBus L4, through the pod's own node."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.kit.streams import StreamPair
from kubeedge.kubebus.http.client_proxy import ConnectUpstream
from kubeedge.kubebus.pod_streams import PODS_PORT, to_pod
from kubeedge_cloud.gateway.backends import PodEndpoint
from kubeedge_cloud.gateway.model import RouteBackend

_TRIES = 3  # pods that are tried, while none has been reached


def chosen(backends: Sequence[RouteBackend], rng: random.Random) -> RouteBackend | None:
    """By weight. None: there is none, or none with a weight."""
    weights = [backend.weight for backend in backends]
    return rng.choices(backends, weights)[0] if any(weights) else None


class PodConnector:
    """`connect` opens L4 connections to nodes; one that takes longer than `seconds` has failed."""

    def __init__(self, connect: ConnectUpstream, seconds: float) -> None:
        self._connect, self._seconds = connect, seconds

    async def open(self, tenant: TenantId, endpoint: PodEndpoint) -> StreamPair:
        """Connects to one pod. Raises OSError, TimeoutError, KubeEdgeError."""
        async with asyncio.timeout(self._seconds):
            stream = await self._connect(tenant, NodeName(endpoint.node), PODS_PORT)
            return await to_pod(stream, endpoint.address, endpoint.port)

    async def reach(self, tenant: TenantId, endpoints: Sequence[PodEndpoint]) -> tuple[PodEndpoint, StreamPair]:
        """Connects to the first of a few pods that can be reached. Raises Unavailable."""
        failed: Exception = Unavailable("there is no pod")
        for endpoint in endpoints[:_TRIES]:
            try:
                return endpoint, await self.open(tenant, endpoint)
            except (OSError, KubeEdgeError) as exc:
                failed = exc
        raise Unavailable(f"no pod could be reached: {str(failed) or type(failed).__name__}") from failed
