"""The modules of Services on a node: `modules.mesh` of the configuration, and its Gateways where they are switched on."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

from kubeedge.agent.parts import Parts
from kubeedge.api.names import TenantId
from kubeedge.beehive.module import Module
from kubeedge.conditions.core import DOWN_FOR
from kubeedge.mesh.module import Mesh, MeshSettings


def mesh_modules(parts: Parts) -> list[Module]:
    """The service proxy, the DNS server and the policies; Gateways are imported only if they are switched on."""
    own, c, bus = parts.credentials, parts.config.modules.mesh, parts.bus
    settings = MeshSettings(
        node=own.node,
        pods=tuple(map(ip_network, own.pod_cidrs)),
        reserved=tuple(map(ip_network, own.overlay)),
        dns=c.dns,
        domain=c.domain,
        resolvers=c.resolvers,
        lan=c.lan,
        bridge=parts.config.modules.appengine.bridge,
        run=parts.config.paths.run,
        overlay=parts.config.modules.kubebus.tun if bus is not None else "",
        ipv6=own.ipv6.ip,
    )

    def alone() -> bool:
        down = bus is not None and not bus.status.up
        return down and bus is not None and asyncio.get_running_loop().time() - bus.status.since >= DOWN_FOR

    parts.mesh = mesh = Mesh(parts.store, settings, alone)
    if not c.gateways.enable:
        return [mesh]
    from kubeedge.gateway.module import NodeGateways, NodeGatewaySettings
    from kubeedge.kubebus.http.limits import ProxyLimits
    from kubeedge.mesh.backends import ServiceBackends

    limits = ProxyLimits(
        answer=c.gateways.timeout,
        concurrent=c.gateways.concurrent,
        rate=c.gateways.rate,
        burst=max(c.gateways.rate, 1.0),
        connections=c.gateways.connections,
        per_client=c.gateways.per_client,
        pooled=2,
    )
    where = NodeGatewaySettings(
        tenant=TenantId(own.tenant), address=c.gateways.address, addresses=c.gateways.addresses, limits=limits
    )
    parts.gateways = NodeGateways(parts.store, where, ServiceBackends(lambda: mesh.table, alone).in_turn)
    return [mesh, parts.gateways]
