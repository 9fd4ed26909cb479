"""The cloud process's own interface on the network of one tenant: a TUN with an address, and the routes that lead into it.

An address has one owner. Where several processes share a store each claims its own there (peers.py), and one that finds it taken goes
without a TUN, reports that, and tries again now and then: the relay, the API and everything else of that process work meanwhile. A TUN that
was deleted under us is made again.

On a machine of a cluster it is the virtual router of the paper's Figure 3: `networks` are behind this machine, and nodes are told of them. The
pods' network among them means the pods that no node has; the data plane's routes to nodes are more specific.

Lives elsewhere: netlink (kubeedge.kubebus.l3.netsetup), which networks are behind which node (core.py, driver.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from kubeedge.api.names import NodeNumber, PortId, TenantId, TenantNumber
from kubeedge.errors import KubeEdgeError
from kubeedge.kit import ipv6
from kubeedge.kubebus.l2.messages import Subnet
from kubeedge.kubebus.l3.netsetup import configure, mtu_of
from kubeedge.kubebus.l3.plane import Plane
from kubeedge.kubebus.l3.tun import open_tun
from kubeedge.kubebus.router import KernelRoutes

log = logging.getLogger("kubeedge.bushub")

_ASK_AGAIN = 3.0  # seconds until a taken address is asked for again, or a TUN made again that could not be
POD_NETWORK = "10.244.0.0/16"

#: (tenant, address): "" when the address is ours now, or the name of the process that has it
ClaimAddress = Callable[[TenantNumber, str], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTun:
    """This machine's own interface on one tenant's network."""

    tenant: TenantId
    name: str = "kb0"
    address: str = "100.64.255.254/16"
    address_ipv6: str = ""  # "": nodes have none
    routes: Sequence[str] = (POD_NETWORK,)
    networks: Sequence[str] = ()  # behind this machine, for the nodes of the tenant
    mtu: int = 1500

    @property
    def sources(self) -> list[str]:
        """Our addresses, of ICMP errors."""
        return [text.split("/")[0] for text in (self.address, self.address_ipv6) if text]

    @property
    def shared(self) -> list[str]:
        """Networks of nodes, other parts of which are behind this machine."""
        return [network for network in self.networks if network in self.routes]


class OwnTun:
    """The TUN interface of this cloud process on one tenant's overlay. `number`: ours in the data plane. `claim` takes the address: "" when
    it is ours, else a message that names its owner."""

    def __init__(
        self, settings: CloudTun, tenant: TenantNumber, plane: Plane, number: NodeNumber, claim: ClaimAddress | None
    ) -> None:
        self._settings = settings
        self._plane = plane
        self._number = number
        self._claim = claim
        self._gone = asyncio.Event()
        self.tenant = tenant
        self.routes = KernelRoutes(settings.name)
        self.port = PortId(-1)  # in the data plane; -1: there is no TUN
        self.networks: Sequence[Subnet] = ()  # that nodes are told of; none before it was opened
        self.on_open: Callable[[], None] = lambda: None
        self.problem = ""  # why there is none

    async def open(self) -> None:
        """Returns without a TUN when another process has the address. Raises OSError, or Unavailable when the kernel refuses or the
        store is away."""
        s = self._settings
        if self._claim is not None and (owner := await self._claim(self.tenant, s.address)):
            problem = (
                f"no {s.name}: {owner} has the address {s.address.split('/')[0]} of tenant {s.tenant}; each cloud process "
                "needs a `tun.address` of its own, like 100.64.255.253/16"
            )
            if problem != self.problem:
                log.error("%s", problem)
            self.problem = problem
            return
        mtus = await mtu_of(s.networks)
        tun = open_tun(s.name)
        self._gone.clear()
        self.port = self._plane.add_tun(tun.fd, tenant=self.tenant, vnet_hdr=tun.vnet_hdr, uso=tun.uso)
        six = self._ipv6()
        routes = [route for route in s.routes if ":" not in route or six]
        overlay = await configure(s.name, s.address, mtu=s.mtu, routes=routes, shared=s.shared, address_ipv6=six)
        for conflict in overlay.conflicts:
            log.warning("%s; `addresses` chooses other ranges for a tenant", conflict)
        self._plane.add_route(self.tenant, s.address.split("/")[0] + "/32", self._number)
        if six:
            self._plane.add_route(self.tenant, six.split("/")[0] + "/128", self._number)
        for network in s.networks:
            # the kernel says itself what is too large for the way to a pod
            self._plane.add_route(
                self.tenant, network, self._number, mtu=0 if network in s.shared else mtus.get(network, 0)
            )
        self.networks = [Subnet(n, mtus.get(n, 0)) for n in s.networks if n not in s.shared]
        self.problem = ""
        self.routes.begin()
        self.on_open()

    def _ipv6(self) -> str:
        """Our address of IPv6; "" where the kernel has none."""
        if self._settings.address_ipv6 and (why := ipv6.problem()):
            log.warning("pods are not reached by IPv6 from this machine: %s", why)
            return ""
        return self._settings.address_ipv6

    def on_down(self, reason: str) -> None:
        """The data plane has lost it."""
        self.port = PortId(-1)
        self.problem = f"no {self._settings.name}: {reason}"
        log.error("%s is gone (%s); it is made again", self._settings.name, reason)
        self._gone.set()

    async def run(self) -> None:
        """Keep the TUN device and its routes, after open()."""
        while True:
            if self.port >= 0:
                await self._serve()
            else:
                await asyncio.sleep(_ASK_AGAIN)
            if self.port < 0:
                await self._open_again()

    async def _serve(self) -> None:
        routes = asyncio.create_task(self.routes.run(), name="routes of the cloud's TUN")
        gone = asyncio.create_task(self._gone.wait(), name="end of the cloud's TUN")
        try:
            await asyncio.wait((routes, gone), return_when=asyncio.FIRST_COMPLETED)
            if routes.done():
                await routes
        finally:
            routes.cancel()
            gone.cancel()
            await asyncio.gather(routes, gone, return_exceptions=True)

    async def _open_again(self) -> None:
        try:
            await self.open()
        except (OSError, KubeEdgeError) as exc:
            if self.port >= 0:  # half made: the next attempt starts over
                self._plane.drop(self.port, "it could not be configured")
                self.port = PortId(-1)
            self.problem = f"no {self._settings.name}: {exc}"
            log.error("%s", self.problem)
        else:
            if self.port >= 0:
                log.info(
                    "%s is there tenant=%s address=%s",
                    self._settings.name,
                    self._settings.tenant,
                    self._settings.address,
                )
