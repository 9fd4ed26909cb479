"""NetworkPolicies as a node has them, read from the rows that the cloud has made of them (ADR 56). Pure.

A row comes from users by way of the cloud. What makes no sense in a rule is left out, so that it allows less and not more; a policy whose pods
cannot be determined is about all pods of its namespace, and the node says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge.api import local_pods
from kubeedge.api.names import JsonObject
from kubeedge.api.selectors import LabelSelector, of_selector
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.ip import IpAddress, IpNetwork, address_of, network_of
from kubeedge.mesh.model import PROTOCOLS, dicts, items, mapping

MAX_RULES = 100  # of one direction
MAX_PORTS = 100  # of one rule
MAX_BLOCKS = 100  # of one rule
MAX_EXCEPT = 256  # of one block
MAX_PODS = 5_000  # of one rule
DIRECTIONS = ("ingress", "egress")


@dataclass(frozen=True, slots=True)
class PolicyPod:
    """A pod of this node. `pod`: as the table keeps it, with the ports of its containers."""

    namespace: str
    labels: Mapping[str, str]
    address: IpAddress
    pod: JsonObject

    def port(self, name: str, protocol: str) -> int:
        """The number of a port of that name; 0: it has none."""
        return local_pods.port_number(self.pod, name, protocol)


@dataclass(frozen=True, slots=True)
class PodSelection:
    """Pods of this node that a rule means. `namespaces` None: of all."""

    namespaces: frozenset[str] | None
    labels: LabelSelector

    def means(self, pod: PolicyPod) -> bool:
        """Whether the pod is one of these."""
        return (self.namespaces is None or pod.namespace in self.namespaces) and self.labels.matches(pod.labels)


@dataclass(frozen=True, slots=True)
class RemotePod:
    """A pod that a rule means, as the cloud last saw it. `ports`: by "NAME/PROTOCOL"."""

    address: IpAddress
    node: str
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedTraffic:
    """Traffic that is allowed. `ports`: (protocol, first, last); `names`: (name, protocol). `everybody`: no peer is named; `all_ports`: no port is.

    `blocks`: networks, each with what is not meant of it.
    """

    ports: tuple[tuple[str, int, int], ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    all_ports: bool = False
    everybody: bool = False
    blocks: tuple[tuple[IpNetwork, tuple[IpNetwork, ...]], ...] = ()
    selections: tuple[PodSelection, ...] = ()
    pods: tuple[RemotePod, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy:
    """`rules` by direction: what is allowed; a direction that is not in it is none of this policy's."""

    namespace: str
    name: str
    selector: LabelSelector
    rules: Mapping[str, tuple[AllowedTraffic, ...]]
    left_out: int = 0  # peers that are too many
    unreadable: str = ""  # why its pods cannot be determined

    @property
    def key(self) -> str:
        """ "NAMESPACE/NAME", as the tables of a node name the policy."""
        return f"{self.namespace}/{self.name}"

    def selects(self, pod: PolicyPod) -> bool:
        """Whether it is about the pod."""
        return pod.namespace == self.namespace and self.selector.matches(pod.labels)


def policy_of(namespace: str, name: str, value: JsonObject) -> NetworkPolicy:
    """A policy from its row, whatever is in it: what cannot be read allows nothing, or is about all pods."""
    spec = mapping(value.get("spec"))
    kinds = items(spec.get("policyTypes"))
    rules = {
        direction: tuple(_rule(rule) for rule in dicts(spec.get(direction))[:MAX_RULES])
        for direction in DIRECTIONS
        if direction.capitalize() in kinds
    }
    left_out = sum(
        count
        for direction in DIRECTIONS
        for rule in dicts(spec.get(direction))
        if isinstance(count := rule.get("left_out"), int)
    )
    unreadable = ""
    try:
        selector = of_selector(spec.get("podSelector"))
    except Invalid as exc:
        selector, unreadable = of_selector({}), str(exc)
    return NetworkPolicy(
        namespace=namespace, name=name, selector=selector, rules=rules, left_out=left_out, unreadable=unreadable
    )


def _rule(value: JsonObject) -> AllowedTraffic:
    ports, names = [], []
    listed = dicts(value.get("ports"))[:MAX_PORTS]
    for entry in listed:
        protocol, first = entry.get("protocol") or "TCP", entry.get("port")
        last = entry.get("endPort") or first
        if protocol not in PROTOCOLS:
            continue
        if first is None:
            ports.append((protocol, 0, 65_535))
        elif isinstance(first, str):
            names.append((first, protocol))
        elif type(first) is int and type(last) is int and 1 <= first <= last <= 65_535:  # true is no number
            ports.append((protocol, first, last))
    return AllowedTraffic(
        ports=tuple(ports),
        names=tuple(names),
        all_ports=not items(value.get("ports")),
        everybody=value.get("all") is True,
        blocks=tuple(_blocks(value)),
        selections=tuple(_selections(value)),
        pods=tuple(_pods(value)),
    )


def _blocks(value: JsonObject) -> Iterator[tuple[IpNetwork, tuple[IpNetwork, ...]]]:
    for block in dicts(value.get("blocks"))[:MAX_BLOCKS]:
        network = _network(block.get("cidr"))
        parts = [_network(text) for text in items(block.get("except"))[:MAX_EXCEPT]]
        if network is None or None in parts or len(items(block.get("except"))) > MAX_EXCEPT:
            continue  # without a part that cannot be read it would allow too much
        yield network, tuple(part for part in parts if part is not None and part.version == network.version)


def _selections(value: JsonObject) -> Iterator[PodSelection]:
    for entry in dicts(value.get("selectors"))[:MAX_BLOCKS]:
        namespaces = entry.get("namespaces")
        try:
            labels = of_selector(entry.get("podSelector"))
        except Invalid:
            continue
        yield PodSelection(None if namespaces == "*" else frozenset(map(str, items(namespaces))), labels)


def _pods(value: JsonObject) -> Iterator[RemotePod]:
    for entry in items(value.get("pods"))[:MAX_PODS]:
        if not isinstance(entry, list) or len(entry) != 3:
            continue
        try:
            address = address_of(str(entry[0]))
        except ValueError:
            continue
        ports = {
            name: number for name, number in mapping(entry[2]).items() if type(number) is int and 1 <= number <= 65_535
        }
        yield RemotePod(address, str(entry[1]), ports)


def _network(text: Any) -> IpNetwork | None:
    try:
        return network_of(text) if isinstance(text, str) else None
    except ValueError:
        return None
