"""Module "vmroutes": keeps this machine's routes to the edge nodes, and takes them back when it ends.

kubeedge vm-routes --namespace kubeedge --label KEY=VALUE... --address ADDRESS-OF-THIS-MACHINE NETWORK...
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from kubeedge.api.client import KubeClient
from kubeedge.api.resources import PODS
from kubeedge.beehive.supervisor import Supervisor
from kubeedge.kit import logs
from kubeedge.kubebus.l3.netlink import MAIN, Netlink, Route
from kubeedge.networkwatch.driver import address_changes
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.core import IN_CLUSTER
from kubeedge_cloud.clusters.credentials import Credentials
from kubeedge_cloud.clusters.transport import ClusterTransport
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.vmroutes import core

log = logging.getLogger("kubeedge.vmroutes")

_METRIC = (
    5001  # behind the overlay's own routes, which the router's machine has, and behind what the machine knows by itself
)
_RETRY = 5.0  # seconds until routes that the kernel refused are tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRoutesSettings:
    """`address`: of this machine, as the cluster knows it; `labels`: of the router's pod in `namespace`."""

    namespace: str
    labels: Mapping[str, str]
    address: str
    networks: Sequence[str]  # IPv4, of the edge nodes and their pods


class VmRoutes:
    """Ready when the cluster has said where the router is, or that there is none."""

    name = "vmroutes"

    def __init__(self, settings: VmRoutesSettings, client: KubeClient) -> None:
        self._settings = settings
        self._client = client
        self._router = ""
        self._changed = asyncio.Event()

    async def run(self, ready: asyncio.Event) -> None:
        """Keep the routes until cancelled. What the kernel refuses is logged, and tried again."""
        pods = Informer(self._client, PODS, namespace=self._settings.namespace, keep=core.reduced)
        pods.on_change(lambda before, after: self._changed.set())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(pods.run(), name="pods of the router")
                group.create_task(self._follow_kernel(), name="routes of this machine")
                await pods.synced.wait()
                ready.set()
                self._changed.set()
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    self._look(pods)
        finally:
            self._bring_about({})

    async def _follow_kernel(self) -> None:
        """Whoever takes a route away, a network manager say, gets it back."""
        async with aclosing(address_changes()) as changes:  # type: ignore[type-var]
            async for _ in changes:
                self._changed.set()

    def _look(self, pods: Informer) -> None:
        s = self._settings
        router = core.router_of(pods, s.labels, self._router)
        if router != self._router:
            here = "this machine" if router == s.address else router
            log.info("the router is %s: %s", here, ", ".join(s.networks))
        self._router = router
        if not self._bring_about(core.gateways(s.networks, router, s.address)):
            asyncio.get_running_loop().call_later(_RETRY, self._changed.set)

    def _bring_about(self, wanted: Mapping[str, str]) -> bool:
        """Only what differs: each change wakes those who follow the routes. False: the kernel refused."""
        try:
            with Netlink() as kernel:
                known = {str(r.network): str(r.gateway) for r in kernel.routes() if self._is_ours(r)}
                for network, gateway in known.items() - wanted.items():
                    kernel.remove_route(_route(network, gateway))
                for network, gateway in wanted.items() - known.items():
                    kernel.replace_route(_route(network, gateway))
        except OSError as exc:
            log.warning(
                "no route to edge nodes by way of %s: %s. It has to be on a network of this machine; otherwise the network's own router needs "
                "the routes",
                self._router,
                exc,
            )
            return False
        return True

    def _is_ours(self, route: Route) -> bool:
        """Whether a route was made by this process or one before it."""
        return (
            route.metric == _METRIC
            and route.table == MAIN
            and route.gateway is not None
            and str(route.network) in self._settings.networks
        )


def _route(network: str, gateway: str) -> Route:
    return Route(IPv4Network(network), metric=_METRIC, gateway=IPv4Address(gateway))


def main(settings: VmRoutesSettings) -> int:
    """Runs until it is interrupted, with the account of its pod; the exit status."""
    logs.setup("info")

    async def whole() -> None:
        transport = ClusterTransport(Credentials(IN_CLUSTER))
        try:
            await Supervisor([[VmRoutes(settings, RemoteClient(transport))]]).run()
        finally:
            await transport.close()

    asyncio.run(whole())
    return 0
