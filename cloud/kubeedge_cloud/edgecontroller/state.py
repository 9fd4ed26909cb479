"""What one process knows of a tenant's nodes and pods, shared by the directions of a TenantEdgeController."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from kubeedge.api import meta
from kubeedge.api.client import KubeClient
from kubeedge.api.names import NamespacedName, NodeName, Object, TenantId
from kubeedge.api.resources import (
    CONFIGMAPS,
    CSIDRIVERS,
    ENDPOINTSLICES,
    NAMESPACES,
    NETWORKPOLICIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    VOLUMEATTACHMENTS,
)
from kubeedge.store.model import Store
from kubeedge_cloud.controllers.informer.client import CachedClient
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.controllers.objects import condition_of, key_of, uid_of
from kubeedge_cloud.controllers.recorder import Recorder
from kubeedge_cloud.edgecontroller import core
from kubeedge_cloud.edgecontroller.claims import is_attached, is_settled
from kubeedge_cloud.edgecontroller.kubelet_endpoint import KubeletEndpoint
from kubeedge_cloud.edgecontroller.polled import Polled
from kubeedge_cloud.edgecontroller.referenced import Referenced
from kubeedge_cloud.tenants.model import NodeRecord

_MIRROR = "kubernetes.io/config.mirror"  # annotation of a pod that shows a static one: its uid on the node


def mirrored(pod: Object) -> str:
    """The uid of the static pod that this one shows; "": it is a pod of the API's own."""
    return str((meta.metadata(pod).get("annotations") or {}).get(_MIRROR) or "")


def is_mirror(pod: Object) -> bool:
    """Whether it shows a static pod of its node."""
    return _MIRROR in (meta.metadata(pod).get("annotations") or {})


class EdgeState:
    """`node_grace`: seconds from the loss of a node's channel to NotReady."""

    def __init__(
        self,
        tenant: TenantId,
        store: Store,
        client: KubeClient,
        *,
        node_grace: float,
        wall: Callable[[], float] = time.time,
        as_node: Callable[[NodeName], KubeClient] | None = None,
        owner: str = core.EMBEDDED,
        kubelet: Callable[[NodeRecord], KubeletEndpoint | None] = lambda _: None,
    ) -> None:
        self.tenant = tenant
        self.store = store
        self.client = CachedClient(client)
        self.wall = wall
        self.recorder = Recorder(self.client, wall=wall)
        self._as_node = as_node
        self.owner = owner  # of Nodes that are ours
        self.kubelet = kubelet  # where a cluster finds that of a node; None: as the node says
        self._clients: dict[NodeName, CachedClient] = {}
        #: the cluster is a user's own: others look after its objects, too, and we are its nodes
        self.cluster = as_node is not None
        self.pods = self.client.informer(PODS, field_selector="spec.nodeName!=" if self.cluster else "")
        self.services = self.client.informer(SERVICES)
        #: a cluster says nothing of a change of an account's rights: they are asked for with each token
        self.accounts = None if self.cluster else self.client.informer(SERVICEACCOUNTS)
        self.slices = self.client.informer(ENDPOINTSLICES)
        self.policies = self.client.informer(NETWORKPOLICIES)
        self.namespaces = self.client.informer(NAMESPACES)
        self.nodes = self.client.informer(NODES)
        self.data: dict[str, Informer | Referenced] = {
            resource.plural: Referenced(resource, self.client_of) if self.cluster else self.client.informer(resource)
            for resource in (CONFIGMAPS, SECRETS)
        }
        if self.cluster:  # the embedded API has none of these
            for resource in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES):
                self.data[resource.plural] = Referenced(resource, self.client_of, partial(Polled, settled=is_settled))
            self.data[CSIDRIVERS.plural] = Referenced(CSIDRIVERS, self.client_of)
            self.data[VOLUMEATTACHMENTS.plural] = Referenced(
                VOLUMEATTACHMENTS, self.client_of, partial(Polled, settled=is_attached)
            )
        self.records: dict[NodeName, NodeRecord] = {}
        self.reported: dict[str, bytes] = {}  # "N/reported/..." -> value
        self.sessions: set[NodeName] = set()
        self.kubeconfigs: Sequence[str] | None = None  # that open the nodes' own APIs; None: the tenant has no records
        self.started = 0.0  # a node that was there then and is not attached yet has the grace period to come back
        self.node_grace = node_grace
        self._lost_at: dict[NodeName, float] = {}
        self._attached_at: dict[NodeName, float] = {}
        self._pods_on: dict[NodeName, dict[NamespacedName, None]] = {}  # an index: many nodes have few pods each

    def now(self) -> str:
        """The wall clock in RFC 3339, as Kubernetes writes times."""
        return meta.timestamp(self.wall())

    def client_of(self, node: NodeName) -> CachedClient:
        """For what is done in the name of a node: with its identity, where the API knows one."""
        if self._as_node is None or not node:
            return self.client
        if node not in self._clients:
            self._clients[node] = self.client.over(self._as_node(node))
        return self._clients[node]

    def refer(self, node: NodeName, references: Iterable[tuple[str, str, str]]) -> None:
        """(resource, namespace, name) of all data that the node's pods refer to; CLOUD: that we need ourselves."""
        found = tuple(references)
        for resource, data in self.data.items():
            if isinstance(data, Referenced):
                data.refer(node, [(namespace, name) for of, namespace, name in found if of == resource])

    def is_foreign(self, node: NodeName) -> bool:
        """The cluster has a Node of that name which is not ours, a kubelet's say: its pods are ignored."""
        obj = self.nodes.get("", node) if self.cluster else None
        return obj is not None and not self.is_ours(node, obj)

    def has_node(self, node: NodeName) -> bool:
        """Its Node is there, and ours. In a cluster without it nothing is known of what the node should have: it may be the wrong cluster."""
        return not self.cluster or (self.nodes.get("", node) is not None and not self.is_foreign(node))

    def is_ours(self, node: NodeName, obj: Object) -> bool:
        """By its annotation; or because it is the very Node that was made for the machine, and another client has removed that."""
        record = self.records.get(node)
        made = record is not None and record.uid == uid_of(obj) != ""
        return core.is_managed(obj, self.owner) or (made and not core.names_its_owner(obj))

    def informer_of(self, resource: str) -> Informer | Referenced:
        """The informer of a resource that nodes write to, by its plural."""
        return {"pods": self.pods, "nodes": self.nodes, **self.data}[resource]

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """One of the objects that pods refer to; None: there is none, or it is not known."""
        data = self.data.get(resource)
        return data.get(namespace, name) if data is not None else None

    def knows(self, resource: str, namespace: str, name: str) -> bool:
        """Whether find() says what there is."""
        data = self.data.get(resource)
        return data is not None and data.knows(namespace, name)

    # Pods

    def index_pod(self, before: Object | None, after: Object | None) -> None:
        """Keeps the index of pods by node; for the pods' informer."""
        for obj, present in ((before, False), (after, True)):
            if obj is not None and (on := obj.get("spec", {}).get("nodeName")):
                if present:
                    self._pods_on.setdefault(NodeName(on), {})[key_of(obj)] = None
                elif object_keys := self._pods_on.get(NodeName(on)):
                    object_keys.pop(key_of(obj), None)
                    if not object_keys:
                        del self._pods_on[NodeName(on)]

    def pods_of(self, node: NodeName) -> list[Object]:
        """Pods that are bound to the node, from the cache; without those that only mirror what it runs by itself."""
        return [pod for pod in self.bound_to(node) if not is_mirror(pod)]

    def mirrors_of(self, node: NodeName) -> int:
        """How many static pods of the node the API shows."""
        return sum(map(is_mirror, self.bound_to(node)))

    def bound_to(self, node: NodeName) -> list[Object]:
        """All pods that the API shows on the node, from the cache."""
        found = (self.pods.get(*object_key) for object_key in self._pods_on.get(node, ()))
        return [pod for pod in found if pod is not None]

    # Channels

    def attached(self, node: NodeName) -> None:
        """The node's session key is there."""
        self.sessions.add(node)
        self._attached_at[node] = asyncio.get_running_loop().time()
        self._lost_at.pop(node, None)

    def detached(self, node: NodeName) -> None:
        """The node's session key is gone: its grace period begins."""
        self.sessions.discard(node)
        self._attached_at.pop(node, None)
        if node in self.records:  # of one that was removed nobody asks
            self._lost_at[node] = asyncio.get_running_loop().time()

    def attached_for(self, node: NodeName) -> float:
        """Seconds since the node's channel was attached; 0.0: it is not."""
        now = asyncio.get_running_loop().time()
        return now - self._attached_at.get(node, now)

    def forget(self, node: NodeName) -> None:
        """The node was removed: when it was lost does not matter any more."""
        self._lost_at.pop(node, None)
        self._clients.pop(node, None)
        self.refer(node, ())

    def grace_left(self, node: NodeName) -> float:
        """Seconds until a node that is away is NotReady; 0 or less: it is."""
        lost_at = self._lost_at.get(node)
        if lost_at is None:  # not seen attached by this process: it may be on its way back, or has never been here
            ready = condition_of(self.nodes.get("", node) or {}, "Ready") or {}
            if ready.get("status") not in ("True", "False"):  # False: it was there, and without its runtime
                return 0.0
            lost_at = self.started
        return lost_at + self.node_grace - asyncio.get_running_loop().time()

    def is_lost(self, node: NodeName) -> bool:
        """The grace period is over. To be asked of nodes that are not attached. A cluster decides that itself."""
        return not self.cluster and self.grace_left(node) <= 0
