"""Records of tenants and nodes, and the address plan. Pure.

    /tenants/T             {"name", "number", "createdAt"}, and "objects", "size": its own quota; "cluster": whose API it uses
    /tenant-numbers/NNNNN  name of the tenant that has the number
    /t/T/nodes/N           {"name", "number", "address", "podCIDR", "tenantNumber", "createdAt", "join"}, and "ipv6", "uid", "cluster", "labels",
                           "taints"
    /t/T/numbers/NNNNN     name of the node that has the number
    /t/T/subnets/N         ["10.0.0.0/24", ...]: networks that may be behind node N, a virtual router

The number keys are claims: record and claim are written in one transaction that requires both to be absent, so two
callers never get one number, whatever process they are in.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Any

from kubeedge.api import keys, node_ipv6, node_registration
from kubeedge.api.names import NodeName, NodeNumber, TenantId, TenantNumber
from kubeedge.api.node_ipv6 import NONE, NodeIpv6
from kubeedge.api.node_registration import NOTHING, NodeRegistration
from kubeedge.config.cloud import Addresses
from kubeedge.errors import Invalid, Refused, Unavailable
from kubeedge.kit.ip import IpNetwork
from kubeedge_cloud.tenants.ipv6_plan import Ipv6Plan

MAX_TENANTS = 65_535  # the data plane's tenant numbers; 0 is none


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """The value of /tenants/T. The number names the tenant's network in L4."""

    name: TenantId
    number: TenantNumber
    created_at: str = ""  # RFC 3339
    objects: int = 0  # that it may store; 0: as the configuration says
    size: int = 0  # bytes of them; likewise
    cluster: str = ""  # path of a kubeconfig, or "in-cluster"; "": the embedded API

    def encode(self) -> bytes:
        """JSON without what the tenant does not have of its own."""
        fields = (("objects", self.objects), ("size", self.size), ("cluster", self.cluster))
        own = {name: value for name, value in fields if value}
        return _json({"name": self.name, "number": self.number, "createdAt": self.created_at, **own})


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """The value of /t/T/nodes/N: a node's numbers and addresses, which stay the same until it is removed."""

    tenant: TenantId
    name: NodeName
    number: NodeNumber
    tenant_number: TenantNumber
    address: str  # on the overlay, with its prefix length: "100.64.0.7/16"
    pod_cidr: str
    created_at: str = ""  # RFC 3339
    join: str = ""  # only certificates of this join stand for the node; "": it joined before joins had an id
    uid: str = ""  # of its Node in a cluster of the tenant's own; "": none was made
    cluster: str = ""  # which cluster that is (edgecontroller.node_registration.identity_of); "": not known
    registration: NodeRegistration = NOTHING  # what its machine said of the Node that is made for it
    version: str = ""  # the resourceVersion with which its Node was made; "": not known
    ipv6: NodeIpv6 = NONE

    @property
    def pod_cidrs(self) -> list[str]:
        """As a Node has them in spec.podCIDRs: of IPv4, and of IPv6 if it has any."""
        return [self.pod_cidr, *([self.ipv6.pod_cidr] if self.ipv6 else [])]

    def encode(self) -> bytes:
        """JSON with the names of fields in camel case; the tenant is in the key."""
        return _json(
            {
                "name": self.name,
                "number": self.number,
                "tenantNumber": self.tenant_number,
                "address": self.address,
                "podCIDR": self.pod_cidr,
                "createdAt": self.created_at,
                **({"ipv6": self.ipv6.encode()} if self.ipv6 else {}),
                **({"join": self.join} if self.join else {}),
                **({"uid": self.uid} if self.uid else {}),
                **({"cluster": self.cluster} if self.cluster else {}),
                **({"version": self.version} if self.version else {}),
                **self.registration.encode(),
            }
        )


_SERVICES = "10.96.0.0/12"  # the default of kubeadm; a plan from before it was a setting may overlap it


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """Where nodes and pods live: node n has the n-th address of `overlay`, the cloud itself the last one. And node n has the n-th network of `node_bits` in `pods`, as kube-controller-manager's --cluster-cidr and
    --node-cidr-mask-size cut it. Every tenant has the same plan. Raises Invalid for a plan without room for a node."""

    pods: str = "10.244.0.0/16"
    node_bits: int = 24
    overlay: str = "100.64.0.0/16"
    services: str = _SERVICES
    tenant_services: tuple[str, ...] = ()  # TENANT=NETWORK
    services_ipv6: str = ""  # "": Services have addresses of IPv4 alone
    ipv6: Ipv6Plan | None = None  # None: nodes and pods have IPv4 alone

    def __post_init__(self) -> None:
        for text in (self.services, *self._services_of_tenants.values()):
            network = _network(text)
            if network.prefixlen > 29:
                raise Invalid(f"the network of Services {text} is too small: its prefix has at most 29 bits")
            if text != _SERVICES and (network.overlaps(self._overlay) or network.overlaps(self._network)):
                raise Invalid(
                    f"the network of Services {text} has addresses in common with {self.overlay} or {self.pods}"
                )
        if (six := self._services_ipv6) is not None and six.prefixlen > 125:
            raise Invalid(f"the network of Services {six} is too small: its prefix has at most 125 bits")
        if six is not None and self.ipv6 is not None and self.ipv6.overlaps(six):
            raise Invalid(
                f"the network of Services {six} has addresses in common with {self.ipv6.overlay} or {self.ipv6.pods}"
            )
        if self._overlay.prefixlen > 29:
            raise Invalid(f"the overlay {self.overlay} is too small: its prefix has at most 29 bits")
        if self._overlay.overlaps(self._network):
            raise Invalid(f"the overlay {self.overlay} and the pods {self.pods} have addresses in common")
        if not self._network.prefixlen < self.node_bits <= 30:
            raise Invalid(
                f"a node's pods need a prefix between {self._network.prefixlen + 1} and 30 bits, not {self.node_bits}"
            )

    @property
    def _network(self) -> IPv4Network:
        return _network(self.pods)

    @property
    def _services_of_tenants(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.tenant_services)

    @property
    def _services_ipv6(self) -> IPv6Network | None:
        try:
            return IPv6Network(self.services_ipv6) if self.services_ipv6 else None
        except ValueError as exc:
            raise Invalid(f"{self.services_ipv6!r} is not an IPv6 network") from exc

    def services_of(self, tenant: TenantId) -> list[IpNetwork]:
        """The networks of the cluster IPs of a tenant's Services: of IPv4, and of IPv6 if Services can have both."""
        four, six = _network(self._services_of_tenants.get(tenant, self.services)), self._services_ipv6
        return [four, six] if six is not None else [four]

    @property
    def _overlay(self) -> IPv4Network:
        return _network(self.overlay)

    @property
    def nodes(self) -> int:
        """How many nodes a tenant can have; the network of number 0, the cloud's, stays empty."""
        return min(self._most, (1 << (self.node_bits - self._network.prefixlen)) - 1)

    @property
    def _most(self) -> int:
        """Addresses without the network, the cloud itself and the broadcast address; numbers have 16 bits."""
        return min(self._overlay.num_addresses - 3, 65_533)

    def address(self, number: NodeNumber) -> str:
        """On the overlay, with its prefix length."""
        if not 1 <= number <= self._most:
            raise Invalid(f"node number {number} is not between 1 and {self._most}")
        return f"{self._overlay[number]}/{self._overlay.prefixlen}"

    def cloud_address(self, wanted: str) -> str:
        """The cloud's own on the overlay: `wanted`, "" for the last one. Raises Invalid for one that is a node's."""
        address = wanted or self.cloud
        if (number := self.number(address)) is not None and number <= self.nodes:
            raise Invalid(
                f"{address} is the address of node number {number}; {self.cloud} and those below it are free",
                path="tun.address",
            )
        return address

    def number(self, address: str) -> NodeNumber | None:
        """Which node an address on the overlay would be of; None: it is not on the overlay, or no node's."""
        ip = ip_interface(address).ip
        if not isinstance(ip, IPv4Address) or ip not in self._overlay:
            return None
        number = int(ip) - int(self._overlay.network_address)
        return NodeNumber(number) if 1 <= number <= self._most else None

    @property
    def cloud(self) -> str:
        """The cloud's own address on the overlay."""
        return f"{self._overlay[-2]}/{self._overlay.prefixlen}"

    def widened(self, ipv6: NodeIpv6) -> NodeIpv6:
        """What a node has, with the plan's network of all pods where its own pods are in that."""
        if not ipv6 or self.ipv6 is None or not self.ipv6.has(ipv6.pod_cidr):
            return ipv6
        return replace(ipv6, pod_network=self.ipv6.pods)

    def ipv6_of(self, number: NodeNumber, pod_cidr: str = "") -> NodeIpv6:
        """What the node with that number has of IPv6; NONE without a plan for it. `pod_cidr`: as a cluster has given it."""
        return self.ipv6.of(number, pod_cidr) if self.ipv6 is not None else NONE

    @property
    def sources(self) -> Sequence[str]:
        """The cloud's own addresses on the overlay, without prefix lengths."""
        return [text.split("/")[0] for text in (self.cloud, self.cloud_ipv6(self.cloud)) if text]

    @property
    def networks_ipv6(self) -> Sequence[str]:
        """Of all nodes and all pods; () without a plan for IPv6."""
        return self.ipv6.networks if self.ipv6 is not None else ()

    def cloud_ipv6(self, address: str) -> str:
        """The cloud's own of IPv6, which goes with that of IPv4: with its prefix length; "" without a plan for IPv6."""
        if self.ipv6 is None:
            return ""
        offset = int(ip_interface(address).ip) - int(self._overlay.network_address)
        if (
            not 1 <= offset <= 65_535
        ):  # a larger overlay: processes have its last addresses, and so the last ones here, each another one
            from_the_end = self._overlay.num_addresses - 2 - offset
            offset = 65_535 - from_the_end % (65_535 - self.nodes)
        return self.ipv6.address(offset)

    def behind_the_cloud(self, subnets: Sequence[str]) -> Sequence[str]:
        """`tun.networks`, in one form. Raises Invalid for what the overlay itself has; the network of all pods stands for the pods that no
        node has."""
        found = networks(subnets)
        for text in found:
            network = ip_network(text)
            of_pods = self.ipv6.pods if self.ipv6 is not None and network.version == 6 else self.pods
            for own in map(ip_network, (self.overlay, self.pods, *self.networks_ipv6)):
                if network.version == own.version and network.overlaps(own) and network != ip_network(of_pods):
                    raise Invalid(
                        f"{text} overlaps {own}, which nodes use; {of_pods} as a whole may be named",
                        path="tun.networks",
                    )
        return found

    def pod_cidr(self, number: NodeNumber) -> str:
        """The pod network of the node with that number, "10.244.7.0/24" say. Raises Invalid outside of 1..nodes."""
        if not 1 <= number <= self.nodes:
            raise Invalid(f"node number {number} is not between 1 and {self.nodes}")
        first = int(self._network.network_address) + (number << (32 - self.node_bits))
        return f"{IPv4Address(first)}/{self.node_bits}"


def plan_of(a: Addresses) -> AddressPlan:
    """The plan of a configuration. Raises Invalid."""
    six = Ipv6Plan(a.pods_ipv6, a.node_bits_ipv6, a.overlay_ipv6) if a.pods_ipv6 else None
    return AddressPlan(a.pods, a.node_bits, a.overlay, a.services, a.tenant_services, a.services_ipv6, six)


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as exc:
        raise Invalid(f"{text!r} is not an IPv4 network") from exc


def check_join(node: NodeName, shown: str, join: str | None) -> None:
    """Raises Refused unless the certificates of the join `shown` stand for the node; `join` is the one that its record names, None without a record."""
    if join is None:
        raise Refused(f"node {node} is not known; join it again")
    if shown != join:
        raise Refused(
            f"another machine joined as node {node}; if this is the right one, join it again "
            "with a token made with --replace"
        )


def same_node(one: NodeRecord, other: NodeRecord | None) -> bool:
    """Whether what was made by one record is right by the other; None: the node was removed."""
    return other is not None and (one.number, one.join) == (other.number, other.join)


def lowest_free(taken: Collection[int], limit: int, what: str) -> int:
    """Raises Unavailable, naming the limit, when none is free."""
    used = frozenset(taken)
    for number in range(1, limit + 1):
        if number not in used:
            return number
    raise Unavailable(f"all {limit} {what} are taken: remove one that is no longer needed")


def node_key(tenant: TenantId, node: NodeName) -> str:
    """Key of the node's record."""
    return keys.nodes(tenant) + node


def decode_tenant(value: bytes) -> TenantRecord:
    """The tenant record in a row. Raises Invalid."""
    fields = _fields(value, "tenant")
    return TenantRecord(
        TenantId(str(fields["name"])),
        TenantNumber(_number(fields)),
        str(fields.get("createdAt", "")),
        int(fields.get("objects", 0)),
        int(fields.get("size", 0)),
        str(fields.get("cluster", "")),
    )


def decode_node(tenant: TenantId, value: bytes) -> NodeRecord:
    """The node record in a row. Raises Invalid."""
    fields = _fields(value, "node")
    return NodeRecord(
        tenant,
        NodeName(str(fields["name"])),
        NodeNumber(_number(fields)),
        TenantNumber(int(fields.get("tenantNumber", 0))),
        str(fields.get("address", "")),
        str(fields.get("podCIDR", "")),
        str(fields.get("createdAt", "")),
        str(fields.get("join", "")),
        str(fields.get("uid", "")),
        str(fields.get("cluster", "")),
        node_registration.decode(fields),
        str(fields.get("version", "")),
        node_ipv6.decode(fields.get("ipv6")),
    )


def _fields(value: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError) as exc:
        raise Invalid(f"the record of a {what} is not JSON: {value[:80]!r}") from exc
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        raise Invalid(f"the record of a {what} has no name: {value[:80]!r}")
    return fields


def _number(fields: dict[str, Any]) -> int:
    number = fields.get("number")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise Invalid(f"the record of {fields['name']!r} has number {number!r}, not a positive integer")
    return number


def _json(fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()


MAX_SUBNETS = 60  # behind one node


def networks(subnets: Sequence[str]) -> Sequence[str]:
    """The subnets in their normal form. Raises Invalid."""
    if len(subnets) > MAX_SUBNETS:
        raise Invalid(f"{len(subnets)} networks; a node may have {MAX_SUBNETS}")
    try:
        found = tuple(sorted({str(ip_network(text)) for text in subnets}))
    except ValueError as exc:
        raise Invalid(f"not a network: {exc}") from exc
    if any(text.endswith("/0") for text in found):
        raise Invalid("a default route cannot be behind a node; name the networks")
    return found


def encode_subnets(subnets: Sequence[str]) -> bytes:
    """The value of /t/T/subnets/N: a JSON list of prefixes."""
    return _json(list(subnets))


def decode_subnets(value: bytes) -> Sequence[str]:
    """The subnets that encode_subnets() wrote. Raises ValueError for what is not JSON."""
    return tuple(str(text) for text in json.loads(value))
