"""The relay and its TUN, as the configuration has them."""

from __future__ import annotations

from kubeedge.api.names import NodeNumber, TenantId
from kubeedge.config.cloud import CloudConfig
from kubeedge.store.model import Store
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.bootstrap.endpoints import endpoint, hosts
from kubeedge_cloud.bushub.module import BusHub
from kubeedge_cloud.bushub.peers import PeersSettings
from kubeedge_cloud.bushub.settings import BusHubSettings
from kubeedge_cloud.bushub.tun import CloudTun
from kubeedge_cloud.certificates.module import ServerCertificate
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import AddressPlan


def bushub(
    config: CloudConfig,
    plan: AddressPlan,
    authority: Authority,
    certificate: ServerCertificate,
    tenants: TenantManager,
    store: Store,
) -> BusHub:
    """The module; processes on one etcd forward to each other."""
    c, on = config, config.listeners.relay
    tun = None
    if c.tun.enable:
        tun = CloudTun(
            tenant=TenantId(c.tun.tenant),
            name=c.tun.name,
            address=plan.cloud_address(c.tun.address),
            address_ipv6=plan.cloud_ipv6(plan.cloud_address(c.tun.address)),
            routes=(c.addresses.pods, *plan.networks_ipv6, *c.tun.routes),
            networks=plan.behind_the_cloud(c.tun.networks),
            mtu=c.tun.mtu,
        )
    settings = BusHubSettings(
        address=on.address,
        port=on.port,
        ca=authority.certificate_file,
        cert=certificate.cert,
        key=certificate.key,
        tun=tun,
        pods=c.addresses.pods,
        sources=plan.sources,
        congestion=c.relays.congestion,
    )
    if not c.store.etcd.endpoints:  # no other process can share this store
        return BusHub(settings, tenants)
    peers = PeersSettings(
        addresses=c.relays.addresses or tuple(endpoint(host, on.port) for host in hosts(config)),
        first_number=NodeNumber(plan.nodes + 1),
    )
    return BusHub(settings, tenants, store=store, peers=peers)
