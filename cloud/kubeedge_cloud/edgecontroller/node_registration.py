"""The Node of a machine in a cluster that is a user's own: made once, with the addresses that the cluster has for its pods.

A Node that is deleted in Kubernetes is not made again: its record goes (cluster_nodes.py), and the machine joins anew to come back. A Node
that others have made, a kubelet's, is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from kubeedge.api import meta
from kubeedge.api.client import KubeClient
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.node_registration import NOTHING, NodeRegistration
from kubeedge.api.resources import CONFIGMAPS, NODES
from kubeedge.api.status import AlreadyExists
from kubeedge.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from kubeedge.store.model import Compare, Op
from kubeedge_cloud.clusters.core import USER_AGENT
from kubeedge_cloud.clusters.history import precedes
from kubeedge_cloud.edgecontroller import core
from kubeedge_cloud.tenants.ipv6_plan import Ipv6Plan
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import NodeRecord

_ALLOCATED = 5.0  # seconds in which a cluster that allocates addresses for pods has done so
_LOOK = 0.1  # seconds
_WORD = 128  # characters of a uid or a version; those of Kubernetes have 36 and 20
_SYSTEM, _AUTHENTICATION = "kube-system", "extension-apiserver-authentication"  # a ConfigMap of every API server


def owner_of(cloud: str, tenant: TenantId) -> str:
    """Whose a Node is, in its annotation: two clouds, or two tenants, may have nodes in one cluster."""
    return f"{cloud}/{tenant}"


@dataclass(slots=True)
class Allocator:
    """Whether a cluster gives the addresses of pods itself. False: it was not seen to do so."""

    seen: bool = False


async def register_node(
    client: KubeClient,
    tenants: TenantManager,
    record: NodeRecord,
    owner: str,
    *,
    allocator: Allocator,
    cached: Callable[[NodeName], Object | None] = lambda name: None,
    identity: Callable[[], Awaitable[str]] | None = None,
) -> NodeRecord:
    """Find or make the Node; the record with its uid and its pods' addresses. `cached` knows Nodes without a request, `identity` which cluster it
    is. Raises Refused for a Node that is not ours and for addresses outside of addresses.pods, Unavailable while the cluster takes its time to give
    addresses."""
    node, version = await _make_or_find(client, record, owner)
    if not core.is_managed(node, owner):
        raise Refused(
            f"the cluster has a Node {record.name} that is not one of this cloud's: choose another name, or delete that Node first"
        )
    uid = _word(meta.metadata(node)["uid"])
    try:
        planned = replace(record, ipv6=tenants.plan.ipv6_of(record.number))
        addresses = await _addresses(client, node, planned, allocator, cached)
        addresses = _check_networks(record, addresses, tenants.pods, tenants.plan.ipv6)
    except Refused:
        if (
            not record.uid and not record.version
        ):  # made just now, and of no use; one that was lost is not made and deleted again and again
            with contextlib.suppress(NotFound, Conflict):
                await client.delete(NODES, "", record.name, uid=uid)
        raise
    cluster = await (identity() if identity else identity_of(client))
    return await tenants.note_object(record.tenant, record.name, uid, addresses, cluster, version)


async def was_made_later(client: KubeClient, record: NodeRecord) -> bool:
    """Whether the cluster, which is known to be the same, has not got as far as it was when the Node was made: it was restored from a backup, and
    nobody deleted the Node."""
    if not record.cluster:
        return False
    found = await client.list(NODES, field_selector=f"metadata.name={record.name}")
    return not found.items and precedes(found.resource_version, record.version)


async def remove_nodes(client: KubeClient, owner: str) -> None:
    """Remove all Nodes that `owner` has registered."""
    for node in (await client.list(NODES)).items:
        if core.is_managed(node, owner):
            with contextlib.suppress(NotFound):
                await client.delete(NODES, "", meta.name_of(node), uid=str(meta.metadata(node)["uid"]))


async def identity_of(client: KubeClient) -> str:
    """Which cluster that is, whatever its address: the uid of an object that each of them has once, and that our account may read. "": it
    cannot be told."""
    try:
        found = await client.get(CONFIGMAPS, _SYSTEM, _AUTHENTICATION)
    except (NotFound, Refused):
        return ""
    return _word(meta.metadata(found).get("uid") or "")


def _word(said: Any) -> str:
    """What a cluster calls something, for the record of a node, whose size is ours to bound."""
    if len(text := str(said)) > _WORD:
        raise Refused(f"the cluster says {text[:40]!r}... where at most {_WORD} characters are expected")
    return text


async def _make_or_find(client: KubeClient, record: NodeRecord, owner: str) -> tuple[Object, str]:
    """And the resourceVersion with which it was made now. One request for a Node that is not there, which is the usual case. One that was lost with
    the history of its cluster gets the addresses that its machine has."""
    name, had = record.name, record.pod_cidrs if record.version and not record.uid else ()
    if had:
        _check_addresses(record, (await client.list(NODES)).items, _LOST)
    try:
        made = await client.create(NODES, "", core.new_node(name, had, owner, record.registration))
    except AlreadyExists:
        return await client.get(NODES, "", name), ""
    return made, _word(meta.metadata(made).get("resourceVersion") or "")


async def _addresses(
    client: KubeClient,
    node: Object,
    record: NodeRecord,
    allocator: Allocator,
    cached: Callable[[NodeName], Object | None],
) -> Sequence[str]:
    """The cluster's, or those of our plan in a cluster without an allocator, as `record` has them."""
    for attempt in range(round(_ALLOCATED / _LOOK)):
        if found := _pod_cidrs(node):
            allocator.seen |= attempt > 0
            return found
        await asyncio.sleep(_LOOK)
        node = cached(record.name) or await client.get(NODES, "", record.name)
    others: Sequence[Object] = ()
    if not allocator.seen:  # asked only as long as that: it is a long list
        others = (await client.list(NODES)).items
        allocator.seen = any(_is_allocated(other) for other in others)
    if allocator.seen:
        # it has many to give, a few a second: ours could be another node's in a moment
        raise Unavailable(f"the cluster has not given node {record.name} addresses for its pods yet", retry_after=1.0)
    _check_addresses(record, others, _PLANNED)
    patch = {"spec": {"podCIDR": record.pod_cidr, "podCIDRs": record.pod_cidrs}}
    try:
        node = await client.merge_patch(NODES, "", record.name, patch)
    except (Invalid, Conflict):  # in this moment it was allocated: what is there cannot be changed
        node = await client.get(NODES, "", record.name)
    return _pod_cidrs(node) or record.pod_cidrs


def _pod_cidrs(node: Object) -> Sequence[str]:
    """As the Node has them; none yet: (). The first one is podCIDR, or the list is none of an API server."""
    spec = node.get("spec") or {}
    first, listed = spec.get("podCIDR"), spec.get("podCIDRs") or []
    if not first:
        return ()
    return [str(text) for text in listed[:2]] if listed[:1] == [first] else [str(first)]


#: what is said of addresses that another Node has
_PLANNED = (
    "{ours} is for the pods of node {node} by the plan of this cloud, and node {other} of the cluster has {theirs}: let the cluster allocate addresses for "
    "pods, or set addresses.pods of cloud.yaml to a part of its network that is free"
)
_LOST = (
    "node {node} had {ours} for its pods before the cluster was restored from a backup, and node {other} has {theirs} now: join the machine again "
    "(`kubeedge token create --node {node} --replace`, `kubeedge join --force`)"
)


def _check_addresses(record: NodeRecord, nodes: Sequence[Object], said: str) -> None:
    """Raises Refused when those of the record are another Node's: of another tenant or cloud that plans for the same cluster, or its operator's."""
    for ours in map(ip_network, record.pod_cidrs):
        for node in nodes:
            for theirs in _pod_cidrs(node) if meta.name_of(node) != record.name else ():
                if ip_network(theirs, strict=False).overlaps(ours):
                    raise Refused(said.format(ours=ours, node=record.name, other=meta.name_of(node), theirs=theirs))


def _check_networks(record: NodeRecord, addresses: Sequence[str], pods: str, ipv6: Ipv6Plan | None) -> Sequence[str]:
    """Those of IPv4, and of IPv6 if there is a plan for it: else they are the cluster's own affair. Raises Refused for addresses outside of the
    network of all pods, whatever the cluster says: every relay takes them for a route, and what is no network at all would stop it in the middle of
    other tenants' links."""
    four = [text for text in addresses if ":" not in text] or list(addresses)
    six = [text for text in addresses if ":" in text and text not in four] if ipv6 is not None else []
    try:
        network = ip_network(four[0])
        fits = network.version == 4 and network.subnet_of(ip_network(pods))  # type: ignore[arg-type]
    except ValueError:
        fits = False
    if not fits:
        raise Refused(
            f"the cluster gives node {record.name} {four[0][:64]} for its pods, which is not in addresses.pods ({pods}) of cloud.yaml"
        )
    if six and ipv6 is not None and not ipv6.has(six[0]):
        raise Refused(
            f"the cluster gives node {record.name} {six[0][:64]} for its pods, which is not in addresses.podsIpv6 ({ipv6.pods}) of cloud.yaml"
        )
    return [four[0], *six[:1]]


def _is_allocated(node: Object) -> bool:
    """Whether the addresses of its pods come from the cluster, and not from us."""
    setters = (e for e in meta.metadata(node).get("managedFields") or () if "f:podCIDR" in _spec_fields(e))
    return any(entry.get("manager") != USER_AGENT for entry in setters)


def _spec_fields(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return (entry.get("fieldsV1") or {}).get("f:spec") or {}


class ClusterRegistry:
    """What the bootstrap port asks who a node is: as the Tenant Manager, and a tenant with a cluster has a Node there before the join ends."""

    def __init__(
        self,
        tenants: TenantManager,
        owner: str,
        client_of: Callable[[TenantId], Awaitable[KubeClient | None]],
    ) -> None:
        self._tenants = tenants
        self._owner = owner
        self._client_of = client_of
        self._allocators: dict[TenantId, Allocator] = {}

    async def join_of(self, tenant: TenantId, node: NodeName) -> str | None:
        return await self._tenants.join_of(tenant, node)

    async def entitle(self, tenant: TenantId, node: NodeName, join: str) -> tuple[Sequence[Compare], Sequence[Op]]:
        return await self._tenants.entitle(tenant, node, join)

    async def register(
        self, tenant: TenantId, node: NodeName, join: str, registration: NodeRegistration = NOTHING
    ) -> Mapping[str, Any]:
        """Raises Refused for the name of a Node that is not ours and for addresses that are not, Unavailable while the cluster is away."""
        found = await self._tenants.register(tenant, node, join, registration)
        client = await self._client_of(tenant)
        if client is None:
            return found
        record = await self._tenants.node(tenant, node)
        if record is None:
            raise Conflict(f"node {node} was removed in this very moment")
        try:
            allocator = self._allocators.setdefault(tenant, Allocator())
            owner = owner_of(self._owner, tenant)
            record = await register_node(client, self._tenants, record, owner, allocator=allocator)
        except Refused:
            if not record.uid:
                await self._tenants.remove_node(tenant, node)
            raise
        six = {"ipv6": record.ipv6.encode()} if record.ipv6 else {}
        return {**found, "podCIDR": record.pod_cidr, **six}
