"""The overlay on this machine: the TUN, its addresses and routes, and what of the machine's own networks is in its way."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from kubeedge.api.names import PortId
from kubeedge.errors import Unavailable
from kubeedge.kubebus import router
from kubeedge.kubebus.core import RELAY, TENANT, KubeBusSettings
from kubeedge.kubebus.l2.messages import Subnet
from kubeedge.kubebus.l3.netsetup import Overlay, configure
from kubeedge.kubebus.l3.plane import Plane
from kubeedge.kubebus.l3.tun import open_tun

log = logging.getLogger("kubeedge.kubebus")


class OverlayInterface:
    """It is opened with each run of the module: a TUN that was deleted is created again."""

    def __init__(self, settings: KubeBusSettings) -> None:
        self._settings = settings
        self._overlay: Overlay | None = None
        self.port = PortId(-1)  # of the plane
        self.subnets: Sequence[Subnet] = ()  # networks behind this node
        self.conflicts: tuple[str, ...] = ()  # networks of this machine that have addresses of the overlay
        self.shadowed = False  # by one of them: the overlay is not reached

    async def open(self, plane: Plane) -> None:
        """Makes the TUN interface with its address and routes. Raises Unavailable without the right to, Invalid for settings that the
        kernel refuses."""
        s = self._settings
        tun = open_tun(s.tun)
        if not tun.vnet_hdr:
            log.warning("this kernel gives %s no offload: packets go one by one", s.tun)
        elif not tun.uso:
            log.info("this kernel takes no large UDP packets for %s: they are cut in software", s.tun)
        self.port = plane.add_tun(tun.fd, tenant=TENANT, vnet_hdr=tun.vnet_hdr, uso=tun.uso)
        self._overlay = await configure(
            s.tun, s.address, mtu=s.mtu, routes=s.overlay[1:], own=(s.pod_cidr,), address_ipv6=s.ipv6.address
        )
        self._tell_conflicts()
        for prefix in s.own:
            plane.add_route(TENANT, prefix, s.number)
        # errors for others come from us, those for our own kernel from the router behind the TUN: the cloud
        for source in s.sources:
            plane.set_source(TENANT, source)
        for source in s.cloud_sources:
            plane.set_source(TENANT, source, tun=True)
        for prefix in s.overlay:
            plane.add_route(TENANT, prefix, RELAY)
        if s.router is not None:
            self.subnets = await router.open_router(s.router, s.tun, s.overlay)
            for subnet in self.subnets:
                plane.add_route(TENANT, subnet.prefix, s.number, mtu=subnet.mtu)

    def close(self) -> None:
        """The data plane, which has the TUN, ends."""
        self._overlay, self.port = None, PortId(-1)

    def network_changed(self) -> None:
        """Addresses and routes of this machine changed: adjust ours."""
        if self._overlay is None:
            return
        try:
            self._overlay.adjust()
        except Unavailable as exc:  # without its interface the module ends, and makes it again
            log.warning("%s", exc)
        self._tell_conflicts()

    def _tell_conflicts(self) -> None:
        conflicts = tuple(str(c) for c in self._overlay.conflicts) if self._overlay is not None else ()
        for text in conflicts:
            if text not in self.conflicts:
                log.warning("%s; `addresses` of the cloud chooses other ranges for a tenant", text)
        for text in self.conflicts:
            if text not in conflicts:
                log.info("resolved: %s", text)
        self.conflicts = conflicts
        self.shadowed = self._overlay is not None and any(c.shadowed for c in self._overlay.conflicts)
