"""Heartbeats of nodes in clusters of users, as a kubelet has them: a Lease in kube-node-lease, renewed while the node's channel is attached.

The renewing is the cloud's: a node behind a metered line sends nothing for it, and a node whose channel is lost is found NotReady by the
cluster's own lifecycle controller, after its grace period. Kubernetes' kubelets renew every 10 s, with 40 s to live.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from kubeedge.api import meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import LEASES, NODES
from kubeedge.api.status import AlreadyExists
from kubeedge.apiserver.heartbeats import NAMESPACE
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.edgecontroller.state import EdgeState

DURATION = 40  # seconds, what a kubelet says
_AT_ONCE = 48  # as many as nodes are registered at once: a Lease that waits for those is late
_STEP = 0.001  # seconds that a renewal is later than the one before, at least
RENEW = 13.0  # seconds: two that fail in a row still leave time for a third


class NodeLeases:
    """Keys of the queue are nodes; add one when it attaches. `chance` spreads the renewals of nodes that attach together."""

    def __init__(self, state: EdgeState, *, chance: Callable[[], float] = random.random) -> None:
        self._state = state
        self._chance = chance
        self._held: dict[NodeName, Object] = {}
        self.queue: WorkQueue[NodeName] = WorkQueue(f"leases of nodes of {state.tenant}", self._renew, workers=_AT_ONCE)

    def forget(self, node: NodeName) -> None:
        """The node was removed; its Lease goes with its Node."""
        self._held.pop(node, None)

    async def _renew(self, name: NodeName) -> float | None:
        if name not in self._state.sessions or name not in self._state.records:
            self._held.pop(name, None)
            return None
        node = self._state.nodes.get("", name)
        if node is None:
            return 1.0  # it is being made, or was deleted
        known = self._held.get(name) or (None if self._is_new(node) else await self._read(name))
        try:
            try:
                self._held[name] = await self._write(node, known)
            except AlreadyExists:  # a new Node has none, usually
                self._held[name] = await self._write(node, await self._read(name))
        except (Conflict, NotFound):
            self._held.pop(name, None)  # another client wrote it: read it again
            raise
        return RENEW * (0.9 + 0.1 * self._chance())

    def _is_new(self, node: Object) -> bool:
        """There is no Lease of it yet, by our clock; if there is, the request to make it says so."""
        made = meta.parse_timestamp(meta.metadata(node).get("creationTimestamp"))
        return made is not None and 0.0 <= self._state.wall() - made < DURATION

    async def _write(self, node: Object, known: Object | None) -> Object:
        client = self._state.client_of(NodeName(meta.name_of(node)))
        wanted = lease(node, DURATION, _renewal(known, self._state.wall()))
        if known is None:
            return await client.create(LEASES, NAMESPACE, wanted)
        renewed = {**known, "spec": {**(known.get("spec") or {}), **wanted["spec"]}}
        return await client.update(LEASES, NAMESPACE, renewed)

    async def _read(self, name: NodeName) -> Object | None:
        try:
            return await self._state.client_of(name).get(LEASES, NAMESPACE, name)
        except NotFound:
            return None


def _renewal(known: Object | None, now: float) -> str:
    """The time of this renewal. A lifecycle controller ignores one that is not later than the last it has seen: after our clock was set back
    the node would be NotReady for as long as that was."""
    last = meta.parse_timestamp(((known or {}).get("spec") or {}).get("renewTime"))
    return meta.micro_timestamp(now if last is None else max(now, last + _STEP))


def lease(node: Object, duration: int, stamp: str) -> Object:
    """A Lease of a node, renewed at `stamp`, for so many seconds; it goes with its Node."""
    name = meta.name_of(node)
    owner = {
        "apiVersion": NODES.api_version, "kind": NODES.kind, "name": name, "uid": meta.metadata(node)["uid"],
    }  # fmt: skip
    inner = {"name": name, "namespace": NAMESPACE, "ownerReferences": [owner]}
    spec = {"holderIdentity": name, "leaseDurationSeconds": duration, "renewTime": stamp}
    return {"metadata": inner, "spec": spec}
