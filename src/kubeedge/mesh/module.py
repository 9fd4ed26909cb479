"""Module "mesh": Services by name and by address on this node, from its store.

Lives here: what follows what. The table of Services and policies (table.py) follows the store; rules (proxy.py, enforcer.py) and answers (dns)
follow the table.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.ip import IpNetwork
from kubeedge.kit.resolv_conf import Resolvers
from kubeedge.kit.ticks import tick
from kubeedge.kubebus.l3.netlink import Netlink
from kubeedge.mesh.bridge_filter import BridgeFilter
from kubeedge.mesh.dns.server import DnsServer
from kubeedge.mesh.dns.upstream import Upstream
from kubeedge.mesh.dns.zone import Zone
from kubeedge.mesh.enforcer import STARTING as ENFORCER_STARTING
from kubeedge.mesh.enforcer import PolicyEnforcer
from kubeedge.mesh.proxy import STARTING, ServiceProxy
from kubeedge.mesh.service_routes import ServiceRoutes
from kubeedge.mesh.table import PODS, POLICIES, PREFIXES, STATUSES, MeshTable
from kubeedge.store.model import Store
from kubeedge.store.reflector import PrefixView, follow_view

log = logging.getLogger("kubeedge.mesh")

_LAN_RATE = 100  # queries of one machine of the LAN a second; a page of a browser has some ten
_LOOK = 2.0  # seconds between two looks at the links


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """`pods`: networks of the pods of this node; `reserved`: of all nodes and pods. `resolvers`: none for the machine's own. `bridge`: of the pods;
    `run`: the run directory."""

    node: str
    pods: Sequence[IpNetwork]
    reserved: Sequence[IpNetwork]
    dns: str
    domain: str
    resolvers: Sequence[str] = ()
    lan: Sequence[
        str
    ] = ()  # addresses of this node with their prefix lengths, where names are answered for their networks
    bridge: str = ""
    run: Path | None = None
    overlay: str = ""  # its interface; "": there is none
    ipv6: str = ""  # the node's address there; "": it has none


class Mesh:
    """`alone` says whether this node has no link to the others, and has had none for a while."""

    name = "mesh"

    def __init__(self, store: Store, settings: MeshSettings, alone: Callable[[], bool]) -> None:
        self._store = store
        self._settings = settings
        self._make(alone)
        self._alone = alone
        self._dns_problems: dict[str, str] = {}  # by address of a DNS server; "": it serves

    def _make(self, alone: Callable[[], bool]) -> None:
        settings = self._settings
        self.table = MeshTable(settings.node, settings.reserved)
        bridge = BridgeFilter(settings.run)
        self.proxy = ServiceProxy(self.table, settings.pods, alone, bridge)
        self.enforcer = PolicyEnforcer(self.table, bridge, settings.bridge, settings.pods)
        self._routes: ServiceRoutes | None = None
        if settings.overlay and settings.ipv6:
            self._routes = ServiceRoutes(settings.overlay, ipaddress.IPv6Address(settings.ipv6))
        self.zone = Zone(self.table, settings.domain)
        upstream = Upstream(Resolvers(settings.dns, settings.resolvers))
        self.dns = DnsServer(self.zone, upstream, settings.dns, settings.pods)
        outside = Zone(self.table, settings.domain, outside=True)
        interfaces = [ipaddress.ip_interface(text) for text in settings.lan]
        #: by address: for machines of the networks that this node is in
        self.lan = {str(i.ip): DnsServer(outside, None, str(i.ip), [i.network], rate=_LAN_RATE) for i in interfaces}

    @property
    def problem(self) -> str:
        """Why Services do not work here; "" when they do."""
        return "; ".join(dict.fromkeys(text for text in (self.proxy.problem, *self._dns_problems.values()) if text))

    @property
    def settled(self) -> bool:
        """Whether it is known if Services work here."""
        return self.proxy.problem != STARTING and self._settings.dns in self._dns_problems

    @property
    def policy_problem(self) -> str | None:
        """Why policies are not enforced here; "" when they are, None while it is not known."""
        return None if self.enforcer.problem == ENFORCER_STARTING else self.enforcer.problem

    async def run(self, ready: asyncio.Event) -> None:
        """Ready when the rules are written, or cannot be: pods start all the same."""
        self._make(self._alone)  # a restart begins with what the store has
        firsts = [asyncio.Event() for _ in PREFIXES]
        async with asyncio.TaskGroup() as group:
            for prefix, first in zip(PREFIXES, firsts, strict=True):
                group.create_task(self._follow(prefix, first), name=f"mesh {prefix}")
            for first in firsts:
                await first.wait()
            written, enforced = asyncio.Event(), asyncio.Event()
            group.create_task(self.proxy.run(written), name="service proxy")
            group.create_task(self.enforcer.run(enforced), name="network policies")
            for address, server in {self._settings.dns: self.dns, **self.lan}.items():
                group.create_task(self._serve_names(address, server), name=f"DNS server {address}")
            group.create_task(self._look_at_links(), name="mesh links")
            ready.set()

    async def _follow(self, prefix: str, first: asyncio.Event) -> None:
        view = PrefixView(self._store, prefix, keep=bytes)
        async with aclosing(follow_view(view)) as steps:
            async for changed in steps:
                services: set[str] = set()
                for key in sorted(changed):
                    services.update(self.table.apply(key, view.values.get(key)))
                if prefix in (PODS, STATUSES, POLICIES):
                    self.enforcer.look()
                if services:
                    self.proxy.changed(services)
                    for server in (self.dns, *self.lan.values()):
                        server.changed()
                first.set()

    async def _serve_names(self, address: str, server: DnsServer) -> None:
        failures, backoff = 0, Backoff(0.5, 30.0)
        while True:
            try:
                if server is self.dns:
                    _have_address(address)
                await server.run(_Flag(partial(self._dns_problems.__setitem__, address, "")))
            except OSError as exc:
                failures += 1
                taken = exc.errno == errno.EADDRINUSE
                why = "another DNS server has it" if taken else exc.strerror or str(exc)
                text = f"no DNS server on {address}: {why}"
                if text != self._dns_problems.get(address):
                    log.error("%s", text)
                self._dns_problems[address] = text
                await asyncio.sleep(backoff.delay(failures))

    async def _look_at_links(self) -> None:
        while True:
            self.proxy.look_at_links()
            if self._routes is not None:
                self._routes.want(self.table.cluster_ips, self.table.generation)
            await tick(_LOOK)

    async def admit(self, namespace: str, name: str, uid: str, addresses: Sequence[str]) -> None:
        """Returns when a pod with these addresses may begin: its policies are in the kernel."""
        await self.enforcer.admit(namespace, name, uid, addresses)

    # for `kubeedge mesh`, which loads what these need

    def services(self) -> dict[str, Any]:
        """The table of `kubeedge mesh services`."""
        from kubeedge.mesh import observe

        return observe.services(self.table, self.problem)

    def policies(self) -> dict[str, Any]:
        """The table of `kubeedge mesh policies`."""
        from kubeedge.mesh import observe

        return observe.policies(self.table, self.enforcer.problem)

    def endpoints(self) -> dict[str, Any]:
        """The table of `kubeedge mesh endpoints`."""
        from kubeedge.mesh import observe

        return observe.endpoints(self.table)

    def names(self) -> dict[str, Any]:
        """The answer of `kubeedge mesh dns`: what the DNS server knows and does, as a JSON object."""
        from kubeedge.mesh import observe

        problem = "; ".join(filter(None, self._dns_problems.values()))
        return observe.names(self.dns, self._settings.dns, self._settings.domain, problem, self.lan)

    def trace(self, name: str) -> dict[str, Any]:
        """`kubeedge mesh trace`. Raises NotFound."""
        from kubeedge.mesh.service_trace import trace

        return trace(self.table, name, self._settings.domain, alone=self._alone())


class _Flag(asyncio.Event):
    """Calls a function when it is set."""

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self._function = function

    def set(self) -> None:
        """Sets the event, then calls the function."""
        super().set()
        self._function()


def _have_address(address: str) -> None:
    """On lo: pods reach it by way of their gateway, which is this machine. Raises OSError."""
    ip = ipaddress.ip_address(address)
    with Netlink() as kernel:
        if ip.version == 6 or all(found.interface.ip != ip for found in kernel.addresses()):
            kernel.replace_address(socket.if_nametoindex("lo"), ipaddress.ip_interface(address))


def leave(address: str, run: Path) -> None:
    """What `kubeedge reset` takes away: the switch of bridges that was ours, the address of the DNS server. Raises OSError."""
    BridgeFilter(run).restore()
    with Netlink() as kernel:
        kernel.remove_address(socket.if_nametoindex("lo"), ipaddress.ip_interface(address))
