"""Nodes in a cluster that is a user's own: what a kubelet says of its node is said in its name, and the cluster authorizes it.

Ready is written while the node is attached; that it is away is found by the cluster's lifecycle controller, from the Lease that is not
renewed (leases.py), with taints, evictions and all that the user has configured there. Labels, annotations and taints of others stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kubeedge.api import keys, meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import NODES, PODS
from kubeedge.errors import NotFound, Refused
from kubeedge_cloud.edgecontroller import core
from kubeedge_cloud.edgecontroller.leases import NodeLeases
from kubeedge_cloud.edgecontroller.node_registration import (
    Allocator,
    identity_of,
    register_node,
    was_made_later,
)
from kubeedge_cloud.edgecontroller.nodes import CONDITIONS, NodeStatuses
from kubeedge_cloud.edgecontroller.state import EdgeState
from kubeedge_cloud.tenants.manager import TenantManager

log = logging.getLogger("kubeedge.edgecontroller")

#: seconds in which a node that has attached reports its status: it is Ready with that, and a write that it is not would cost the cluster's own
#: controllers four more, for its taints
_REPORTS = 5.0
_WRITTEN = (
    60.0  # seconds until what it has reported is written, at most: the API server may be busy with a thousand others
)


class ClusterNodes(NodeStatuses):
    """`leases` is told of nodes that attach."""

    #: registering and reporting are waiting: the cluster's allocator gives addresses to 20 nodes a second by its defaults
    workers = 48

    def __init__(
        self,
        state: EdgeState,
        report_again: Callable[[NodeName, str], None],
        tenants: TenantManager,
        leases: NodeLeases,
    ) -> None:
        super().__init__(state, report_again)
        self._tenants = tenants
        self._leases = leases
        self._allocator = Allocator()
        self._registering: dict[NodeName, asyncio.Lock] = {}
        self._silent_since: dict[NodeName, float] = {}  # nodes that are attached and have not reported their status
        self._cluster = ""  # which one it is; another one has another object of this class (module.py)

    async def ensure(self, name: NodeName) -> Object:
        """As it is cached. Raises NotFound for one that was deleted in Kubernetes, Refused for one that is not ours."""
        if not self._state.records[name].uid:
            try:
                async with self._registering.setdefault(
                    name, asyncio.Lock()
                ):  # its readiness and its reports come at the same time
                    if (record := self._state.records.get(name)) is None:
                        raise NotFound(f"node {name} was removed in this very moment")
                    if not record.uid:
                        self._state.records[name] = await register_node(
                            self._state.client,
                            self._tenants,
                            record,
                            self._state.owner,
                            allocator=self._allocator,
                            cached=lambda name: self._state.nodes.get("", name),
                            identity=self._identity,
                        )
            finally:
                if (lock := self._registering.get(name)) is not None and not lock.locked():
                    del self._registering[name]
        node = self._state.nodes.get("", name) or await self._state.client.get(NODES, "", name)
        if not self._state.is_ours(name, node):
            raise Refused(f"the cluster has a Node {name} that is not one of this cloud's: it gets nothing from us")
        if not core.names_its_owner(node):
            patch = {"metadata": {"annotations": {core.MANAGED: self._state.owner}}}
            return await self._state.client.merge_patch(NODES, "", name, patch)
        return node

    async def _identity(self) -> str:
        if not self._cluster:
            self._cluster = await identity_of(self._state.client)
        return self._cluster

    async def remove(self, name: NodeName) -> None:
        """Only one of ours; in a while, when the cluster is away."""
        self.queue.add(name)

    async def taint_pressure(self, name: NodeName, node: Object, status: Mapping[str, Any]) -> Object:
        """None of ours: the cluster's lifecycle controller goes by the conditions."""
        return node

    async def write_status(
        self, node: Object, status: dict[str, Any], labels: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Labels go with it, as from a kubelet."""
        patch = core.changes(node.get("status") or {}, status)
        if patch or labels:
            name = NodeName(meta.name_of(node))
            inner: Object = {"resourceVersion": meta.metadata(node)["resourceVersion"]}  # a list is replaced as a whole
            if labels:
                inner["labels"] = dict(labels)
            await self._state.client_of(name).merge_patch(
                NODES, "", name, {"metadata": inner, "status": patch}, subresource="status"
            )

    async def write_pod_status(self, pod: Object, status: dict[str, Any]) -> None:
        """One request: what differs from the cached status, if the pod is still as it is cached."""
        current = pod.get("status") or {}
        patch = core.changes(current, core.with_others(current, status))
        inner = pod["metadata"]
        if not patch:
            return
        preconditions = {"uid": inner["uid"], "resourceVersion": inner["resourceVersion"]}
        client = self._state.client_of(NodeName(str(pod["spec"]["nodeName"])))
        try:
            await client.merge_patch(
                PODS,
                meta.namespace_of(pod),
                meta.name_of(pod),
                {"metadata": preconditions, "status": patch},
                subresource="status",
            )
        except NotFound:
            return

    async def _sync_ready(self, name: NodeName) -> float | None:
        record = self._state.records.get(name)
        if record is None:
            self._silent_since.pop(name, None)
            left = self._state.nodes.get("", name)
            if left is not None and core.is_managed(left, self._state.owner):
                await self._delete(name)  # its Lease has it as its owner, and goes with it
            return None
        if record.uid and self._state.nodes.get("", name) is None and await self._was_deleted(name):
            if not await was_made_later(self._state.client, record):
                log.warning("tenant=%s node=%s was deleted in Kubernetes: it is removed", self._state.tenant, name)
                await self._tenants.remove_node(self._state.tenant, name)
                return None
            log.warning(
                "tenant=%s node=%s was made after the backup that the cluster has now: it is made again",
                self._state.tenant,
                name,
            )
            lost = await self._tenants.note_object(self._state.tenant, name, "", record.pod_cidrs, record.cluster)
            self._state.records[name] = lost
        node = await self.ensure(name)
        if name not in self._state.sessions:
            self._silent_since.pop(name, None)
            return None
        self._leases.queue.add(name)
        current = node.get("status") or {}
        if (wait := self._may_report(name, current)) > 0:
            # what rounding leaves of it must not be less than a clock can move
            return min(max(wait, 0.001), _REPORTS)
        # what the lifecycle controller did not know counts no longer
        known = [c for c in current.get("conditions") or () if c.get("status") != "Unknown"]
        ready = next((c for c in current.get("conditions") or () if c.get("type") == "Ready"), None)
        merged = core.with_ready({**current, "conditions": known}, True, self._state.now())
        if merged != current:
            await self.write_status(node, merged)
            if ready is None or ready.get("status") != "True":
                log.info("tenant=%s node=%s ready=%s", self._state.tenant, name, core.is_reported(merged))
        await self._pods_of(name, True)
        for rest in CONDITIONS:
            self._report_again(name, rest)
        return None

    def _may_report(self, name: NodeName, status: Mapping[str, Any]) -> float:
        """Seconds that an attached node still has to report its status; what is reported says that it is Ready, too."""
        if core.is_reported(status):
            self._silent_since.pop(name, None)
            return 0.0
        now = asyncio.get_running_loop().time()
        known = f"{name}/reported/nodes/{keys.CLUSTER_SCOPE}/{name}" in self._state.reported
        return self._silent_since.setdefault(name, now) + (_WRITTEN if known else _REPORTS) - now

    async def _was_deleted(self, name: NodeName) -> bool:
        """By the API itself: a cache may be behind, and the whole node would go. A kubeconfig that leads to another cluster than the one in
        which the Node was made deletes nothing."""
        try:
            await self._state.client.get(NODES, "", name)
        except NotFound:
            here, there = await identity_of(self._state.client), self._state.records[name].cluster
            if not here or not there or here == there:
                return True
            raise Refused(
                f"node {name} is of another cluster than the one that the tenant's kubeconfig leads to: set the kubeconfig right, or join the "
                f"machine again (`kubeedge token create --node {name} --replace`, `kubeedge join --force`)"
            ) from None
        return False
