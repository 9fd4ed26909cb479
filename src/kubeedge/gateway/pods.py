"""Connections to the pods behind a backend: from the cloud over KubeBus L4, through the pod's own node; from a node as the kernel routes them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from kubeedge.api.names import TenantId
from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.gateway.model import PodEndpoint, RouteBackend
from kubeedge.kit.streams import StreamPair
from kubeedge.kubebus.http.client_proxy import ConnectUpstream
from kubeedge.kubebus.http.forward import STREAM_BUFFER
from kubeedge.kubebus.pod_streams import PODS_PORT, to_pod

_TRIES = 3  # pods that are tried, while none has been reached


def chosen(backends: Sequence[RouteBackend], rng: random.Random) -> RouteBackend | None:
    """By weight. None: there is none, or none with a weight."""
    weights = [backend.weight for backend in backends]
    return rng.choices(backends, weights)[0] if any(weights) else None


#: raises OSError, TimeoutError, KubeEdgeError
OpenPod = Callable[[TenantId, PodEndpoint], Awaitable[StreamPair]]


def over_l4(connect: ConnectUpstream) -> OpenPod:
    """Of the cloud, whose machine is on no tenant's network; `connect` opens L4 connections to nodes."""

    async def to_endpoint(tenant: TenantId, endpoint: PodEndpoint) -> StreamPair:
        return await to_pod(await connect(tenant, endpoint.node, PODS_PORT), endpoint.address, endpoint.port)

    return to_endpoint


async def by_address(tenant: TenantId, endpoint: PodEndpoint) -> StreamPair:
    """Of a node: pods of its own, and on its tenant's network those of other nodes."""
    return await asyncio.open_connection(endpoint.address, endpoint.port, limit=STREAM_BUFFER)


class PodConnector:
    """`to_endpoint` opens connections; one that takes longer than `seconds` has failed."""

    def __init__(self, to_endpoint: OpenPod, seconds: float) -> None:
        self._open, self._seconds = to_endpoint, seconds

    async def open(self, tenant: TenantId, endpoint: PodEndpoint) -> StreamPair:
        """Connects to one pod. Raises OSError, TimeoutError, KubeEdgeError."""
        async with asyncio.timeout(self._seconds):
            return await self._open(tenant, endpoint)

    async def reach(self, tenant: TenantId, endpoints: Sequence[PodEndpoint]) -> tuple[PodEndpoint, StreamPair]:
        """Connects to the first of a few pods that can be reached. Raises Unavailable."""
        failed: Exception = Unavailable("there is no pod")
        for endpoint in endpoints[:_TRIES]:
            try:
                return endpoint, await self.open(tenant, endpoint)
            except (OSError, KubeEdgeError) as exc:
                failed = exc
        raise Unavailable(f"no pod could be reached: {str(failed) or type(failed).__name__}") from failed
