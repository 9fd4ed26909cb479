"""Settings of `modules.mesh`."""

from __future__ import annotations

from kubeedge.config import forms
from kubeedge.config.load import setting
from kubeedge.kit.dataclasses import dataclass


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
