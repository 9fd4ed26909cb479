"""Writes that a node made through its own API, merged into the cluster: each exactly once, by rules that are written down.

    the node may      change what is its own: labels and annotations of its pods and its Node, cordon itself, delete its pods; the data,
                      labels and annotations of a ConfigMap that no other node's pods use
    it may not        touch anything else; a Secret, or a ConfigMap that is shared, only with the annotation kubeedge.io/edge-writes:
                      allow, which a user sets in the cloud (deny closes what is open)
    conflicts         a field that was changed in the cloud since the edge saw it keeps the cloud's value; the other fields are merged
    deleted           an object that is gone, or is another one of the same name, stays as it is in the cloud
    a deletion        of a pod goes with its uid, whatever else was changed meanwhile

Exactly once: /t/T/edge/N/writes/done has the ids of the newest writes that were dealt with, with what became of them, so one that comes
again (a crash, a node restored from an old image) changes nothing and gets the same answer; the object itself carries the id of the last
write of each node that was merged into it, with what was not merged (merged_writes.py), which covers a crash between the two. The ids are looked at
after the object was read, and the object is written only as it was read: a process that was stopped in the middle, and goes on when another
one leads, merges nothing twice.

Lives elsewhere: what a write is (kubeedge.api.edge_writes), who calls this and brings the answer to the node (pending_writes.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from kubeedge import faults
from kubeedge.api import edge_writes, keys, meta
from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.edge_writes import EdgeWrite, WriteOutcome
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import CONFIGMAPS, EVENTS, NODES, PODS, SECRETS
from kubeedge.errors import Conflict, Invalid, NotFound, Refused
from kubeedge.store.model import Compare, CompareTarget, KeyValue, Put, Store
from kubeedge_cloud.edgecontroller import merged_writes, node_objects
from kubeedge_cloud.tenants.model import node_key

log = logging.getLogger("kubeedge.edgecontroller")

_RESOURCES: dict[str, Resource] = {"configmaps": CONFIGMAPS, "secrets": SECRETS, "pods": PODS, "nodes": NODES}
_ATTEMPTS = 8  # of a write that loses races
_REMEMBERED = 512  # ids of one node; twice as many as may wait at the edge
_WITH_MESSAGE = 16  # of them with their message; the node has taken the other answers long ago
_MAX_MESSAGE = 512  # characters of it
_Answer: TypeAlias = tuple[WriteOutcome, str]  # and its message
_NOTICED = 2.0  # seconds until the cache has seen a deletion of ours


class WriteMerger:
    """`pods` gives the tenant's pods as the caches have them; after `refresh` of (resource, namespace, name) they have what the API had then."""

    def __init__(
        self,
        tenant: TenantId,
        store: Store,
        client: KubeClient,
        *,
        pods: Callable[[], Iterable[Object]],
        refresh: Callable[[str, str, str], Awaitable[None]],
        wall: Callable[[], float],
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._client = client
        self._pods = pods
        self._refresh = refresh
        self._wall = wall
        self.outcomes: dict[str, int] = {}  # since the start

    async def merge(self, node: NodeName, value: bytes) -> bytes:
        """One write; the answer for the node. Raises what may pass (Unavailable, Conflict): call again."""
        try:
            write = edge_writes.decode(value)
        except Invalid as exc:
            log.warning("tenant=%s node=%s sent a malformed write: %s", self._tenant, node, exc)
            return edge_writes.encode_result("", "refused", str(exc))
        done, record = await self._done(node)
        if (before := done.get(write.id)) is not None:
            await self._refreshed(write)
            await self._tell(node, write, *before)  # who noted it may have died before that
            return edge_writes.encode_result(write.id, before[0], before[1] or "it was answered before")
        outcome, message = await self._decide(node, write)
        faults.at("edgecontroller.writes.before_done")
        await self._note_done(node, write, (outcome, message[:_MAX_MESSAGE]), done, record)
        faults.at("edgecontroller.writes.after_done")
        await self._tell(node, write, outcome, message)
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        log.info(
            "tenant=%s node=%s write %s of %s %s/%s: %s %s",
            self._tenant,
            node,
            write.id,
            *write.object_key,
            outcome,
            message,
        )
        return edge_writes.encode_result(write.id, outcome, message)

    # -- one write -----------------------------------------------------------------------------------------------------

    async def _decide(self, node: NodeName, write: EdgeWrite) -> tuple[WriteOutcome, str]:
        if why := edge_writes.forbidden(write):
            return "refused", why
        resource = _RESOURCES[write.resource]
        namespace = write.namespace if resource.namespaced else ""
        try:
            for _ in range(_ATTEMPTS):
                obj = await self._client.get(resource, namespace, write.name)
                if write.id in (await self._done(node))[0]:
                    raise Conflict(f"another process merges the writes of node {node}")
                if write.uid and meta.metadata(obj).get("uid") != write.uid:
                    return "gone", "the object of that name in the cloud is another one now"
                if why := self._not_allowed(node, write, obj):
                    return "refused", why
                try:
                    return await self._apply(node, write, resource, namespace, obj)
                except Conflict:
                    continue  # another writer was faster: read again
        except NotFound:
            return "gone", "the object was deleted in the cloud"
        except (Invalid, Refused) as exc:
            return "refused", str(exc)
        raise Conflict(f"{write.resource} {namespace}/{write.name} changes too fast to be merged into")

    async def _apply(
        self, node: NodeName, write: EdgeWrite, resource: Resource, namespace: str, obj: Object
    ) -> tuple[WriteOutcome, str]:
        if write.operation == "delete":
            if not meta.metadata(obj).get("deletionTimestamp") or not write.grace:
                uid = str(meta.metadata(obj).get("uid", ""))
                grace = max(1, write.grace or 0)
                await self._client.delete(resource, namespace, write.name, grace_period=grace, uid=uid)
                await self._noticed(resource, namespace, write.name, uid)
            return "merged", "deleted"
        if (
            kept := merged_writes.find(obj, node, write.id)
        ) is not None:  # by a process that died before it could note it
            await self._refresh(write.resource, namespace, write.name)
            return _merged(kept, rest=True)
        new, conflicts = edge_writes.apply(obj, write.changes)
        kept = ", ".join(sorted(".".join(path) for path in conflicts))[:_MAX_MESSAGE]
        if new != obj:
            faults.at("edgecontroller.writes.before_update")
            annotated = merged_writes.put(new, node, write.id, kept)
            await self._client.update(resource, namespace, annotated)
        return _merged(kept, rest=new != obj)

    async def _refreshed(self, write: EdgeWrite) -> None:
        """The answer to a write that another process merged must not go down with an object from before."""
        resource = _RESOURCES.get(write.resource)
        if resource is None:
            return
        namespace = write.namespace if resource.namespaced else ""
        await self._refresh(write.resource, namespace, write.name)
        if write.operation == "delete":
            await self._noticed(resource, namespace, write.name, write.uid)

    async def _noticed(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Until the cache knows of the deletion: otherwise the answer would go down together with a pod that is not being deleted.

        The grace period was never 0: the end of a pod is for its node to report.
        """
        try:
            async with asyncio.timeout(_NOTICED):
                while any(meta.metadata(pod).get("uid") == uid and not _is_being_deleted(pod) for pod in self._pods()):
                    await self._client.get(resource, namespace, name)  # NotFound: there is nothing to wait for
                    await self._refresh(resource.plural, namespace, name)
                    await asyncio.sleep(0.01)
        except (NotFound, TimeoutError):
            return

    def _not_allowed(self, node: NodeName, write: EdgeWrite, obj: Object) -> str:
        """Why this node may not write this object; "" when it may. Both see nothing of other nodes."""
        if write.resource == "nodes":
            return "" if write.name == node else "a node writes its own Node alone"
        if write.resource == "pods":
            on = (obj.get("spec") or {}).get("nodeName")
            return "" if on == node else "the pod is not on this node"
        users = self._users(write)
        if node not in users:
            return "no pod of this node uses it"
        rule = (meta.metadata(obj).get("annotations") or {}).get(edge_writes.POLICY)
        if rule == "deny" or (write.resource == "secrets" and rule != "allow"):
            return f"its annotation {edge_writes.POLICY} does not allow writes of nodes"
        if users != {node} and rule != "allow":
            return f"pods of other nodes use it too; the annotation {edge_writes.POLICY}: allow would permit it"
        return ""

    def _users(self, write: EdgeWrite) -> set[str]:
        """The nodes whose pods use a ConfigMap or Secret; "" stands for pods that have no node yet."""
        return {
            str((pod.get("spec") or {}).get("nodeName") or "")
            for pod in self._pods()
            if meta.namespace_of(pod) == write.namespace
            and (write.resource, write.name) in set(node_objects.references(pod))
        }

    async def _tell(self, node: NodeName, write: EdgeWrite, outcome: WriteOutcome, message: str) -> None:
        """An Event on the object, when not all of the write was merged. Its name is the write's: twice is once."""
        if outcome == "merged":
            return
        now = meta.timestamp(self._wall())
        namespace, _, event = edge_writes.event(write, outcome, message, node=node, at=now)
        try:
            await self._client.create(EVENTS, namespace, event)
        except (Conflict, NotFound, Invalid, Refused) as exc:
            log.debug("event about write %s: %s", write.id, exc)  # it is there already, or its namespace is gone

    # -- what was dealt with -------------------------------------------------------------------------------------------

    def _key(self, node: NodeName) -> str:
        return keys.edge_writes_done(self._tenant, node)

    async def _done(self, node: NodeName) -> tuple[dict[str, _Answer], KeyValue | None]:
        record = await self._store.get(self._key(node))
        entries = [] if record is None else json.loads(record.value)
        return {entry[0]: (entry[1], entry[2] if len(entry) > 2 else "") for entry in entries}, record

    async def _note_done(
        self, node: NodeName, write: EdgeWrite, answer: _Answer, done: dict[str, _Answer], record: KeyValue | None
    ) -> None:
        entries = [[write_id, *outcome] for write_id, outcome in (*done.items(), (write.id, answer))][-_REMEMBERED:]
        newest = [entry[:2] for entry in entries[:-_WITH_MESSAGE]] + entries[-_WITH_MESSAGE:]
        compares = (
            Compare(self._key(node), CompareTarget.MOD, "=", record.mod_revision if record else 0),
            Compare(node_key(self._tenant, node), CompareTarget.VERSION, ">", 0),
        )
        value = json.dumps(newest, separators=(",", ":")).encode()
        if not (await self._store.txn(compares, (Put(self._key(node), value),))).succeeded:
            raise Conflict(f"another process merges the writes of node {node}")


def _merged(kept: str, *, rest: bool) -> _Answer:
    """`kept`: the fields where the cloud's value stayed; `rest`: others were merged."""
    if not kept:
        return "merged", ""
    also = "; the other fields were merged" if rest else ""
    return "conflict", f"changed in the cloud meanwhile, whose value stays: {kept}{also}"


def _is_being_deleted(obj: Object) -> bool:
    return bool(meta.metadata(obj).get("deletionTimestamp"))


__all__ = ["WriteMerger"]
