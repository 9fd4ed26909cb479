"""Settings of `modules.mesh`."""

from __future__ import annotations

from kubeedge.config import forms
from kubeedge.config.load import section, setting
from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGatewaysConfig:
    """`modules.mesh.gateways`: Gateways and Ingresses that listen on this node; see docs/guide/gateway.md."""

    enable: bool = setting(
        False, "Gateways and Ingresses of class kubeedge-node, and others of its controller, on this node"
    )
    address: str = setting(
        "",
        'address of this machine at which they listen, shared by host names and ports; "": none but `addresses`',
        form=forms.own_address_or_none,
    )
    addresses: tuple[str, ...] = setting(
        (), "further addresses of this machine, each for one Gateway, with all its ports", form=forms.own_address
    )
    connections: int = setting(256, "connections of clients", low=1, high=10_000)
    per_client: int = setting(64, "of them from one address; of IPv6 one /64", low=1, high=10_000)
    concurrent: int = setting(
        64, "requests in progress, and connections that are not HTTP; one takes 512 KiB at most", low=1, high=4_096
    )
    rate: float = setting(
        0.0, "requests a second, after a burst of as many; 0: as many as there are", low=0, high=100_000
    )
    timeout: float = setting(60.0, "seconds without a sign of an answer", low=1, high=3_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    """`modules.mesh`: Services on this node; see docs/guide/services.md."""

    enable: bool = setting(
        False,
        "Services by name and by address for the pods of this node and for the node itself, with or without the cloud",
    )
    dns: str = setting(
        "169.254.20.10",
        "address of the DNS server, which is put on lo: the name server of the pods; of no network that this node is in",
        form=forms.address,
    )
    domain: str = setting("cluster.local", "the domain of the cluster", form=forms.host)
    resolvers: tuple[str, ...] = setting(
        (),
        "addresses that are asked for all other names, instead of the name servers in /etc/resolv.conf",
        form=forms.address,
    )
    lan: tuple[str, ...] = setting(
        (),
        "addresses of this machine with their prefix lengths, as 192.168.1.5/24: names of Services, and no others, are answered there for machines of "
        "that network, which has to be a private one",
        form=forms.private_interface,
    )
    gateways: NodeGatewaysConfig = section(NodeGatewaysConfig())
