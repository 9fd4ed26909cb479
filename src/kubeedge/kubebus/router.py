"""The virtual router (section 3.1.2 of the paper): networks behind a node, and the routes to networks behind others.

    edge1 ══ relay ══ router on VM1 ── VM subnet ── VM2
                            └── bridge ── containers of VM1

A router is an agent with KubeBus on and a list of subnets. It announces them to the relay, which checks them against what the tenant allows
and announces them to its other nodes; those put the routes into their kernel. The machines behind the router need a return route: either the
route that `kubeedge routes` prints, or the router translates addresses (`masquerade`), and then only edges can begin connections.

Lives elsewhere: netlink (l3/netsetup.py), MTU and TCP segment sizes on the way (the data plane), who may offer what
(kubeedge_cloud.bushub).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import shutil
from collections.abc import Iterable, Sequence

from kubeedge.errors import Invalid, Unavailable
from kubeedge.kubebus.core import RELAY, TENANT, RouterSettings
from kubeedge.kubebus.l2.messages import MAX_ROUTES, Subnet
from kubeedge.kubebus.l3.netsetup import change_routes, forward_ipv6, mtu_of
from kubeedge.kubebus.l3.plane import Plane

log = logging.getLogger("kubeedge.kubebus")

TABLE = "kubeedge_router"  # of nftables: ours alone, replaced as a whole
_RETRY = 5.0  # seconds until routes that the kernel refused are tried again


async def open_router(settings: RouterSettings, tun: str, overlay: Sequence[str]) -> tuple[Subnet, ...]:
    """Prepare this machine; the subnets with their MTU. Raises Invalid for a subnet of the overlay, Unavailable without nft."""
    networks = [ipaddress.ip_network(text) for text in settings.subnets]
    for network in networks:
        for own in overlay:
            if network.overlaps(ipaddress.ip_network(own)):
                raise Invalid(f"{network} overlaps {own}, which KubeBus itself uses", path="modules.router.subnets")
    found = {} if settings.mtu else await mtu_of([str(n) for n in networks])
    if settings.masquerade:
        await _masquerade(tun, overlay)
    if any(network.version == 6 for network in networks):
        await forward_ipv6()
    return tuple(Subnet(str(n), settings.mtu or found.get(str(n), 0)) for n in networks)


async def _masquerade(tun: str, overlay: Sequence[str]) -> None:
    """What comes from the overlay leaves with this machine's own address. A kernel without translation of IPv6 has that of IPv4 all the same."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise Unavailable("modules.router.masquerade needs the program nft (package nftables)")
    for family, is_six in (("ip", False), ("ip6", True)):
        if not (sources := ", ".join(text for text in overlay if (":" in text) == is_six)):
            continue
        rules = f"""
        table {family} {TABLE} {{ }}
        delete table {family} {TABLE}
        table {family} {TABLE} {{
            chain post {{ type nat hook postrouting priority srcnat; policy accept;
                {family} saddr {{ {sources} }} oifname != "{tun}" masquerade
            }}
        }}
        """
        process = await asyncio.create_subprocess_exec(
            program, "-f", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )  # fmt: skip
        _, said = await process.communicate(rules.encode())
        if process.returncode:
            text = f"nft refused the rules of the router: {said.decode(errors='replace').strip()[:300]}"
            if not is_six:
                raise Unavailable(text)
            log.warning("networks behind this router are reached by IPv4 alone: %s", text)


class KernelRoutes:
    """Routes to a TUN, put into the kernel by a helper that runs when something changed.

    They have a metric of their own, so what this machine knows by itself comes first.
    """

    def __init__(self, tun: str) -> None:
        self._tun = tun
        self.wanted: dict[str, Subnet] = {}
        self._set: dict[str, Subnet] = {}  # as the kernel has it
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """A new TUN: it has none of them."""
        self._set = {}
        self._changed.set()

    def add(self, subnet: Subnet) -> None:
        """Wanted from now on; the kernel has it soon."""
        self.wanted[subnet.prefix] = subnet
        self._changed.set()

    def remove(self, prefix: str) -> bool:
        """The route is not wanted any more; returns whether it was."""
        self._changed.set()
        return self.wanted.pop(prefix, None) is not None

    async def run(self) -> None:
        """Until it is cancelled. A failure is logged, and tried again after some seconds."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = dict(self.wanted)
            add = [route for prefix, route in wanted.items() if self._set.get(prefix) != route]
            withdraw = [prefix for prefix in self._set if prefix not in wanted]
            if not add and not withdraw:
                continue
            try:
                await change_routes(self._tun, [(r.prefix, r.mtu) for r in add], withdraw)
            except Unavailable as exc:
                log.warning("%s; trying again", exc)
                await asyncio.sleep(_RETRY)
                self._changed.set()
            else:
                self._set = wanted


class LearnedRoutes:
    """Routes that the relay told a node: in its data plane at once, in its kernel soon. They stay while the relay is away."""

    def __init__(self, tun: str) -> None:
        self._kernel = KernelRoutes(tun)
        self._plane: Plane | None = None
        self._ours: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []

    @property
    def known(self) -> list[Subnet]:
        """The routes that were learned, by prefix."""
        return sorted(self._kernel.wanted.values(), key=lambda s: s.prefix)

    def begin(self, plane: Plane, ours: Iterable[str]) -> None:
        """A new plane and a new TUN: neither has any of them."""
        self._plane, self._ours = plane, [ipaddress.ip_network(p) for p in ours]
        known = self.known
        self._kernel.begin()
        self.change(known, ())

    def replace(self, routes: Sequence[Subnet], *, relay: str = "") -> None:
        """The routes of a welcome, in place of all that were known."""
        wanted = {route.prefix for route in routes}
        self.change(routes, [route.prefix for route in self.known if route.prefix not in wanted], relay=relay)

    def change(self, add: Sequence[Subnet], withdraw: Sequence[str], *, relay: str = "") -> None:
        """Some come and some go. What overlaps our own networks is not taken, nor what has the address of the relay: the links to it would
        lead into themselves."""
        if self._plane is None:
            return
        outside = _address(relay)
        for prefix in withdraw:
            self._forget(prefix)
        for route in add:
            network = ipaddress.ip_network(route.prefix)
            if network.prefixlen == 0 or any(network.overlaps(own) for own in self._ours):
                log.warning("the relay offers a route to %s, which is not taken", route.prefix)
                continue
            if outside is not None and outside in network:
                log.warning("the relay %s is itself in %s: this route to it is not taken", relay, route.prefix)
                self._forget(route.prefix)
                continue
            if len(self._kernel.wanted) >= MAX_ROUTES and route.prefix not in self._kernel.wanted:
                log.warning("more than %d routes; %s is not taken", MAX_ROUTES, route.prefix)
                continue
            self._kernel.add(route)
            self._plane.add_route(TENANT, route.prefix, RELAY, mtu=route.mtu)

    def _forget(self, prefix: str) -> None:
        if self._kernel.remove(prefix) and self._plane is not None:
            self._plane.remove_route(TENANT, prefix)

    async def run(self) -> None:
        """Keeps the kernel's routes as they are wanted, until it is cancelled."""
        await self._kernel.run()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in a text; None when the text is empty."""
    return ipaddress.ip_address(text.partition("%")[0]) if text else None
