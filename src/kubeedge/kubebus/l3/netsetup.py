"""Addresses, routes and rules of an overlay's interface.

The overlay's own networks are in a table of their own, before the machine's: a network at home that uses the same addresses takes none of the
overlay's packets.

    priority 5120   from ADDRESS lookup main     answers of this machine as a host of such a network stay in it
    priority 5130   from all lookup 5130         the overlay; `throw` routes there lead on to main: our own pods, and gateways and resolvers
                                                 of this machine that such a network has

They are in the main table, too, behind what the machine knows by itself: for kernels without policy routing, and for operators who look there. So
are the routes to networks behind other nodes, which are never to come before the machine's own; and the pods' network on a machine of a cluster,
whose pods have a part of it.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from kubeedge.errors import Unavailable
from kubeedge.kit import ipv6
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.ip import IpNetwork
from kubeedge.kubebus.l3.netlink import MAIN, THROW, UNICAST, LocalAddress, Netlink, Route, Rule

log = logging.getLogger("kubeedge.kubebus")

TABLE = 5130
_ANSWERS, _OVERLAY = 5120, 5130  # priorities of the rules
_METRIC = 5000  # in the main table: what the machine knows by itself comes first
_NO_RULES = {errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EINVAL}
_SIOCGIFMTU = 0x8921


@dataclass(frozen=True, slots=True)
class AddressConflict:
    """A network of this machine that has addresses of the overlay."""

    interface: str
    network: str
    overlay: str
    kept: tuple[str, ...] = ()  # gateways and resolvers, which are reached in it
    shadowed: bool = False  # the kernel has no rules: it is the overlay that is not reached

    def __str__(self) -> str:
        if self.shadowed:
            effect = f"this kernel has no policy routing, so nothing in {self.overlay} is reached through KubeBus"
        else:
            effect = f"hosts of {self.network} cannot be reached from here"
            effect += f", except {', '.join(self.kept)}" if self.kept else ""
        return f"{self.interface} is in {self.network} and KubeBus uses {self.overlay}: {effect}"


@dataclass(slots=True)
class Overlay:
    """What one interface has of it. `address` with its prefix ("100.64.0.1/16"); `own`: networks of this machine within the overlay;
    `shared`: those of `routes` of which other machines have parts: the machine's own routes to them come first."""

    interface: str
    address: str
    mtu: int
    routes: Sequence[str] = ()
    own: Sequence[str] = ()
    shared: Sequence[str] = ()
    address_ipv6: str = ""  # the same of IPv6; "": none, and `routes` has none of its networks
    conflicts: tuple[AddressConflict, ...] = ()
    _answering: set[Rule] = field(default_factory=set)

    @property
    def networks(self) -> list[IpNetwork]:
        """The network of the address, then those that are routed to the interface. Those of IPv6 are in the main table alone: addresses of a ULA are
        nobody else's."""
        return [ipaddress.ip_interface(self.address).network, *(ipaddress.ip_network(r) for r in self.routes)]

    @property
    def _first(self) -> list[IpNetwork]:
        """Those that come before what the machine knows by itself."""
        shared = {ipaddress.ip_network(text) for text in self.shared}
        return [network for network in self.networks if network not in shared]

    def configure(self) -> None:
        """Set the address, bring the interface up, route to it, allow forwarding. Idempotent. Raises Unavailable with the kernel's reason."""
        try:
            with Netlink() as kernel:
                index = socket.if_nametoindex(self.interface)
                kernel.replace_address(index, ipaddress.ip_interface(self.address))
                kernel.bring_up(index, self.mtu)
                if self.address_ipv6:
                    kernel.replace_address(index, ipaddress.ip_interface(self.address_ipv6))
                for network in self.networks:
                    kernel.replace_route(self._route(network, index, MAIN, _METRIC))
                self._adjust(kernel, index)
            _write_if_other(Path("/proc/sys/net/ipv4/ip_forward"), "1")
        except OSError as exc:
            raise Unavailable(f"cannot set up {self.interface}: {exc}") from exc

    def adjust(self) -> None:
        """The machine's addresses or routes have changed. Raises Unavailable."""
        try:
            with Netlink() as kernel:
                self._adjust(kernel, socket.if_nametoindex(self.interface))
        except OSError as exc:
            raise Unavailable(f"cannot adjust the routes of {self.interface}: {exc}") from exc

    def _route(self, network: IpNetwork, index: int, table: int, metric: int) -> Route:
        text = self.address if network.version == 4 else self.address_ipv6
        return Route(network, index, table, metric, source=ipaddress.ip_interface(text).ip if text else None)

    def _adjust(self, kernel: Netlink, index: int) -> None:
        routes = kernel.routes()
        found = [route for route, _ in self._overlapping(routes, index)]
        kept = [address for address in _needed(routes) if any(address in route.network for route in found)]
        rules = self._apply(kernel, index, routes, kept)
        if rules:
            self._keep_answers(kernel, {route.index for route in found}, kernel.addresses())
        self.conflicts = self.compare(routes, index, rules=rules)

    def _overlapping(self, routes: Sequence[Route], index: int) -> list[tuple[Route, IpNetwork]]:
        return [
            (route, network)
            for route in routes
            for network in self._first
            if self._is_foreign(route, index) and network.version == 4 and route.network.overlaps(network)
        ]

    def compare(self, routes: Sequence[Route], index: int = 0, *, rules: bool = True) -> tuple[AddressConflict, ...]:
        """The networks of this machine that overlap the overlay's. `index` is the overlay's own interface (0: none yet), `rules` whether the
        kernel has policy routing."""
        needed = _needed(routes)
        return tuple(
            AddressConflict(
                socket.if_indextoname(route.index) if route.index else "a route",
                str(route.network), str(network), tuple(str(n) for n in needed if n in route.network), not rules,
            ) for route, network in self._overlapping(routes, index)
        )  # fmt: skip

    def _is_foreign(self, route: Route, index: int) -> bool:
        ours = any(route.network.subnet_of(n) for n in map(ipaddress.IPv4Network, self.own))  # type: ignore[arg-type]
        return (
            route.table == MAIN and route.kind == UNICAST and route.index != index and route.network.prefixlen > 0
            and route.metric != _METRIC and not ours
        )  # fmt: skip

    def _apply(
        self, kernel: Netlink, index: int, routes: Sequence[Route], kept: Iterable[ipaddress.IPv4Address]
    ) -> bool:
        """Our table. False: this kernel has no rules."""
        aside = [*map(ipaddress.ip_network, self.own), *(ipaddress.ip_network(address) for address in kept)]
        throw = {Route(network, 0, TABLE, index, kind=THROW) for network in aside if network.version == 4}
        try:
            kernel.add_rule(Rule(_OVERLAY, TABLE))
        except OSError as exc:
            if exc.errno not in _NO_RULES:
                raise
            return False
        wanted = [*throw, *(self._route(n, index, TABLE, index) for n in self._first if n.version == 4)]
        present = set(routes)
        for route in wanted:  # only what is missing: each change wakes who watches the machine's routes
            if route not in present:
                kernel.replace_route(route)
        indices = {i for i, _ in socket.if_nameindex()} - {index}
        for route in routes:  # of before, and of interfaces that are gone
            if route.table == TABLE and route.kind == THROW and route.metric not in indices and route not in throw:
                kernel.remove_route(route)
        return True

    def _keep_answers(self, kernel: Netlink, interfaces: set[int], addresses: Iterable[LocalAddress]) -> None:
        wanted = {
            Rule(_ANSWERS, MAIN, ipaddress.IPv4Network(a.interface.ip)) for a in addresses if a.index in interfaces
        }
        here = {a.interface.ip for a in addresses}
        for rule in kernel.rules():
            gone = rule.source is not None and rule.source.network_address not in here
            if rule.priority == _ANSWERS and rule not in wanted and (gone or rule in self._answering):
                kernel.remove_rule(rule)
        for rule in wanted:
            kernel.add_rule(rule)
        self._answering = wanted


def _needed(routes: Iterable[Route]) -> list[ipaddress.IPv4Address]:
    """Gateways and resolvers: without them the machine has no uplink, whatever the overlay's addresses are."""
    found = [r.gateway for r in routes if r.table == MAIN and isinstance(r.gateway, ipaddress.IPv4Address)]
    try:
        lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines()[:200]
    except OSError:
        lines = []
    for words in map(str.split, lines):
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(ipaddress.IPv4Address(words[1]))
            except ValueError:
                continue  # IPv6
    return list(dict.fromkeys(found))


def conflicts(address: str, routes: Sequence[str]) -> tuple[AddressConflict, ...]:
    """Before there is an interface: which networks of this machine have addresses of the overlay? None where the kernel does not say."""
    overlay = Overlay("", address, 0, routes)
    try:
        with Netlink() as kernel:
            return overlay.compare(kernel.routes())
    except OSError:
        return ()


def remove_rules() -> None:
    """Interfaces take their routes along; rules, and the `throw` routes, stay until they are removed: unless there is another overlay.
    Raises OSError."""
    with Netlink() as kernel:
        if any(route.table == TABLE and route.kind == UNICAST for route in kernel.routes()):
            return
        for rule in kernel.rules():
            if (rule.priority, rule.table) in ((_OVERLAY, TABLE), (_ANSWERS, MAIN)):
                kernel.remove_rule(rule)
        for route in kernel.routes():
            if route.table == TABLE:
                kernel.remove_route(route)


async def configure(
    interface: str,
    address: str,
    *,
    mtu: int,
    routes: Sequence[str],
    own: Sequence[str] = (),
    shared: Sequence[str] = (),
    address_ipv6: str = "",
) -> Overlay:
    """Set up the TUN interface with its addresses and routes. Raises Unavailable with the kernel's reason."""
    overlay = Overlay(interface, address, mtu, routes, own, shared, address_ipv6)
    overlay.configure()
    if address_ipv6:
        try:
            await forward_ipv6()
        except Unavailable as exc:  # /proc/sys may be read-only: what IPv4 has is there all the same
            log.warning("%s: packets of IPv6 are not passed on", exc)
    return overlay


async def change_routes(interface: str, add: Sequence[tuple[str, int]], withdraw: Sequence[str]) -> None:
    """Routes (prefix, mtu; 0 is the interface's) to and from the interface. Idempotent. Raises Unavailable."""
    try:
        with Netlink() as kernel:
            index = socket.if_nametoindex(interface)
            for prefix in withdraw:
                kernel.remove_route(Route(ipaddress.ip_network(prefix), index, metric=_METRIC))
            for prefix, mtu in add:
                kernel.replace_route(Route(ipaddress.ip_network(prefix), index, metric=_METRIC, mtu=mtu))
    except OSError as exc:
        raise Unavailable(f"cannot change the routes of {interface}: {exc}") from exc


async def mtu_of(networks: Sequence[str]) -> dict[str, int]:
    """The MTU of the interface that leads to each network; what has no route is left out. Raises Unavailable."""
    try:
        with Netlink() as kernel:
            return {network: mtu for network in networks if (mtu := _mtu_of(kernel, network))}
    except OSError as exc:
        raise Unavailable(f"cannot look up the interfaces of subnets: {exc}") from exc


async def forward_ipv6() -> None:
    """Let this machine forward IPv6. Raises Unavailable."""
    try:
        ipv6.forward()
    except OSError as exc:
        raise Unavailable(f"cannot let this machine forward IPv6: {exc}") from exc


def _mtu_of(kernel: Netlink, network: str) -> int:
    """The MTU of the interface by which a packet into the network would leave."""
    subnet = ipaddress.ip_network(network)
    last = min(subnet.num_addresses - 1, 5)
    for address in dict.fromkeys(subnet[min(n, last)] for n in (1, 2, 3, 4, 5, 0)):
        try:
            route = kernel.route_to(address)
            if route.kind == UNICAST:  # else this machine's own address: its interface would be lo
                return min(_interface_mtu(socket.if_indextoname(route.index)), 65_535)
        except OSError:
            return 0
    return 0


def _interface_mtu(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFMTU, struct.pack("16si20x", name.encode(), 0))
    mtu: int = struct.unpack_from("16si", answer)[1]
    return mtu


def _write_if_other(path: Path, value: str) -> None:
    if path.read_text().strip() != value:
        path.write_text(value)
