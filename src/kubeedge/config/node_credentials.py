"""What a node got when it joined: node.json beside its certificate."""

from __future__ import annotations

import json
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from kubeedge.api.node_ipv6 import NONE, NodeIpv6, decode
from kubeedge.config import forms
from kubeedge.config.edge import Paths
from kubeedge.config.load import build, required, section, setting
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, replace

MAX_CREDENTIALS = 64 * 1024  # bytes of node.json; it has half a kilobyte


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredentials:
    """node.json next to kubeedge.yaml: what the cloud answered at join. The node needs it to boot without the cloud."""

    tenant: str = required("the tenant that owns this node", form=forms.label)
    node: str = required("name of this node", form=forms.label)
    number: int = required("number of this node within its tenant; 0 is the cloud", low=1, high=65535)
    address: str = required(
        'address of this node on the overlay, for example "100.64.0.1/16"', form=forms.interface_address
    )
    pod_cidr: str = required("addresses of the pods of this node", form=forms.network)
    hub: tuple[str, ...] = required('"host:port" of the cloud processes, for the channel', form=forms.endpoint)
    relays: tuple[str, ...] = required(
        '"host:port" of the relays, for the links; empty if the cloud has no relay', form=forms.endpoint
    )
    bootstrap: tuple[str, ...] = required('"host:port" where certificates are renewed', form=forms.endpoint)
    pod_network: str = setting("10.244.0.0/16", "addresses of the pods of all nodes", form=forms.network)
    ipv6: NodeIpv6 = section(NONE, "the same of IPv6, if the cloud has it; in a file of its own")

    @property
    def pod_cidrs(self) -> tuple[str, ...]:
        """Of the pods of this node: of IPv4, and of IPv6 if there is any."""
        return (self.pod_cidr, *([self.ipv6.pod_cidr] if self.ipv6 else []))

    @property
    def overlay(self) -> tuple[str, ...]:
        """The networks of all nodes and all pods."""
        return self.pod_network, str(ip_interface(self.address).network), *reversed(self.ipv6.networks)

    @property
    def last_node(self) -> int:
        """Nodes have the numbers from 1 to this one; 0 and those behind it are processes of the cloud."""
        bits = ip_network(self.pod_cidr).prefixlen - ip_network(self.pod_network).prefixlen
        return (1 << max(0, bits)) - 1


def credentials_path(paths: Paths) -> Path:
    """The path of node.json, which `join` writes."""
    return paths.pki.parent / "node.json"


def credentials(values: dict[str, Any]) -> NodeCredentials:
    """Raises Invalid with the name of what is missing or wrong."""
    return build(NodeCredentials, values)


def ipv6_path(path: Path) -> Path:
    """The file of what a node has of IPv6, beside its node.json. An earlier version of the agent, which does not know of it, starts all the same."""
    return path.with_name("node-ipv6.json")


def _load_ipv6(path: Path) -> NodeIpv6:
    """The cloud says it again on each link: what cannot be read is none."""
    try:
        with ipv6_path(path).open("rb") as file:
            return decode(json.loads(file.read(MAX_CREDENTIALS)))
    except (OSError, ValueError, RecursionError, Invalid):
        return NONE


def load_credentials(path: Path) -> NodeCredentials:
    """Raises Invalid: this node has not joined, or the file is damaged."""
    again = "run `kubeedge join --force` with a new token"
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_CREDENTIALS))
        if not isinstance(values, dict):
            raise ValueError("it holds no mapping")
        return replace(credentials(values), ipv6=_load_ipv6(path))
    except FileNotFoundError as exc:
        raise Invalid(f"{path} does not exist: this node has not joined; run `kubeedge join` first") from exc
    except (OSError, ValueError, RecursionError, Invalid) as exc:
        raise Invalid(f"{path} is damaged: {exc}; {again}") from exc
