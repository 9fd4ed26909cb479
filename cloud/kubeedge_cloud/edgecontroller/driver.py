"""EdgeController of one tenant: two directions, both level-triggered.

    down   API objects ── core.desired(node) ── compare with the store ── write the differences ──> /t/T/edge/N/desired/   (desired.py)
    up     /t/T/edge/N/reported/ ──> status of pods, Node objects, events (reports.py), writes of the node (pending_writes.py)
           /sessions/T/N          ──> Ready (nodes.py)
    Services with annotations that do not do what they say ──> events (publications.py)

Lives here: which change has to be looked at by whom. Whatever happened while the process was away, the next look finds the same differences.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial

from kubeedge.api import keys, meta
from kubeedge.api.names import NodeName, Object
from kubeedge.apiserver.quota import UNLIMITED
from kubeedge.store.model import Compare
from kubeedge.store.reflector import reflect
from kubeedge_cloud.controllers.objects import is_deleting
from kubeedge_cloud.edgecontroller import core, pending_writes, services
from kubeedge_cloud.edgecontroller.autonomy import Autonomy
from kubeedge_cloud.edgecontroller.cluster_nodes import ClusterNodes
from kubeedge_cloud.edgecontroller.copies import Copies
from kubeedge_cloud.edgecontroller.desired import DesiredState
from kubeedge_cloud.edgecontroller.leases import NodeLeases
from kubeedge_cloud.edgecontroller.nodes import CONDITIONS, NodeStatuses
from kubeedge_cloud.edgecontroller.pending_writes import PendingWrites
from kubeedge_cloud.edgecontroller.publications import Publications
from kubeedge_cloud.edgecontroller.referenced import Referenced
from kubeedge_cloud.edgecontroller.reports import ReportedState
from kubeedge_cloud.edgecontroller.state import EdgeState, is_mirror
from kubeedge_cloud.kubeconfigs.core import decode, valid
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import same_node


class TenantEdgeController:
    """`fence` gives compares for its transactions: they fail once another process leads the tenant. `limit`: bytes of what all
    its nodes have."""

    def __init__(
        self,
        state: EdgeState,
        tenants: TenantManager,
        *,
        fence: Callable[[], Sequence[Compare]] = tuple,
        limit: Callable[[], int] = lambda: UNLIMITED,
    ) -> None:
        self._state = state
        self._tenants = tenants
        self._leases = NodeLeases(state)
        self._nodes = self._make_nodes()
        self._reports = ReportedState(state, self._nodes)
        self._writes = PendingWrites(state, lambda node: self._desired.queue.add(node))
        self._desired = DesiredState(state, self._writes.answered, fence, Copies(limit))
        self._publications = Publications(state)
        self._autonomy = Autonomy(state)

    def _make_nodes(self) -> NodeStatuses:
        def again(node: NodeName, rest: str) -> None:
            self._reports.again(node, rest)

        if self._state.cluster:
            return ClusterNodes(self._state, again, self._tenants, self._leases)
        return NodeStatuses(self._state, again)

    async def run(self, serving: asyncio.Event) -> None:
        """Fills the caches first; `serving` is set once the state of the store has been read, too."""
        state = self._state
        state.started = asyncio.get_running_loop().time()
        informers = state.client.informers()
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                group.create_task(informer.run(), name=f"{informer.resource.plural} of {state.tenant}")
            for data in state.data.values():
                if isinstance(data, Referenced):
                    group.create_task(data.run(), name=f"{data.resource.plural} of {state.tenant}")
            if self._desired.bundles is not None:
                group.create_task(self._desired.bundles.run(), name=f"trust bundles of {state.tenant}")
            for informer in informers:
                # a cluster's role may be one from before these were needed
                if not state.cluster or informer not in (state.slices, state.policies, state.namespaces):
                    await informer.synced.wait()
            self._listen()
            follow = (self._follow_records, self._follow_reports, self._follow_sessions, self._follow_kubeconfigs)
            firsts = [asyncio.Event() for _ in follow]
            for function, first in zip(follow, firsts, strict=True):
                group.create_task(function(first), name=function.__name__)
            for first in firsts:
                await first.wait()
            await self._desired.begin()
            group.create_task(self._look_when_listed(), name="first lists of what nobody waits for")
            for reported in self._reports.queues:
                group.create_task(reported.run())
            for queue in (self._desired.queue, self._desired.policy_queue, self._nodes.queue, self._writes.queue):
                group.create_task(queue.run())
            group.create_task(self._publications.queue.run())
            group.create_task(self._leases.queue.run())
            group.create_task(self._autonomy.queue.run())
            group.create_task(self._desired.issuer.queue.run())
            group.create_task(state.recorder.run(), name="events of nodes")
            serving.set()

    # Objects of the API

    def _listen(self) -> None:
        state, desired = self._state, self._desired
        state.pods.on_change(self._pod_changed)
        state.services.on_change(desired.service_changed)
        state.services.on_change(self._publications.service_changed)
        state.nodes.on_change(self._node_changed)
        if state.accounts is not None:
            state.accounts.on_change(desired.account_changed)
        state.services.on_change(partial(desired.mesh_changed, "services"))
        state.slices.on_change(partial(desired.mesh_changed, "endpointslices"))
        state.namespaces.on_change(desired.namespace_changed)
        state.policies.on_change(desired.policy_changed)
        for resource, informer in state.data.items():
            informer.on_change(partial(desired.data_changed, resource))

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        self._state.index_pod(before, after)
        self._desired.pod_changed(before, after)
        if after is not None and self._state.cluster:
            self._autonomy.pod_changed(after)
        ends = after is not None and before is not None and is_deleting(after) and not is_deleting(before)
        obj = after or before or {}
        name = NodeName(str(obj.get("spec", {}).get("nodeName", "")))
        key = f"pods/{meta.namespace_of(obj)}/{meta.name_of(obj)}"
        if is_mirror(obj) and (
            before is None or after is None or ends
        ):  # as long as its node has it, it is there, and no longer
            self._reports.again(name, key)
        elif after is not None and (before is None or ends):  # its node may have reported already that it is gone
            if f"{name}/reported/{key}" in self._state.reported:
                self._reports.again(name, key)

    async def _look_when_listed(self) -> None:
        """What went while no process was running tells nobody: nodes had it kept until the list was there."""
        late = [i for i in (self._state.slices, self._state.policies, self._state.namespaces) if not i.synced.is_set()]
        for informer in late:
            await informer.synced.wait()
        self._desired.policies_listed()
        for name in self._state.records if late else ():
            self._desired.queue.add(name)

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        name = NodeName(meta.name_of(after or before or {}))
        if name not in self._state.records:
            return
        self._desired.queue.add(name)
        if self._state.cluster:
            self._autonomy.node_changed(name)
        if self._state.cluster and (
            after is None
            or not core.names_its_owner(after)
            or (name in self._state.sessions and core.is_given_up(after))
        ):
            # it is removed or marked again, or its Lease was late: whoever finds that tells nobody when it is there again
            self._nodes.queue.add(name)
        elif name in self._state.sessions and self._state.cluster and core.differs_in_report(before, after):
            # by us, or by hand: an address that leads elsewhere would stay until the machine reports something new
            self._reports.again(name, f"nodes/{keys.CLUSTER_SCOPE}/{name}")
        elif (
            after is None and not self._state.cluster
        ):  # the machine is still a node: it registers again, with everything that it has reported of itself
            self._nodes.queue.add(name)
            self._reports.again(name, f"nodes/{keys.CLUSTER_SCOPE}/{name}")
            for rest in CONDITIONS:
                self._reports.again(name, rest)

    # Keys of the store

    async def _follow_records(self, first: asyncio.Event) -> None:
        state = self._state
        async with aclosing(self._tenants.follow_nodes(state.tenant)) as changes:
            async for records in changes:
                # one that was removed and is there again is new: what it should have went with its record
                new = {name for name, record in records.items() if not same_node(record, state.records.get(name))}
                gone = state.records.keys() - records.keys()
                state.records = dict(records)
                for name in new:
                    self._desired.queue.add(name)
                    if state.cluster:
                        self._autonomy.node_changed(name)
                    self._writes.node_added(name)
                    self._nodes.queue.add(name)
                if not first.is_set():  # and those that were removed while no process was running
                    gone = {
                        NodeName(meta.name_of(n)) for n in state.nodes if core.is_managed(n, state.owner)
                    } - records.keys()
                for name in gone:
                    await self._nodes.remove(name)
                    for part in (state, self._desired, self._reports, self._writes, self._leases):
                        part.forget(name)
                first.set()

    async def _follow_reports(self, first: asyncio.Event) -> None:
        prefix = keys.edges(self._state.tenant)

        def is_report(key: str) -> bool:
            _, kind, rest = _parts(key.removeprefix(prefix))
            others = ("devices/", "messages/")  # the DeviceController's, and kubeedge_cloud.messages'
            return kind == "reported" and not rest.startswith(others)

        async with aclosing(reflect(self._state.store, prefix, wanted=is_report)) as changes:
            async for values, changed in changes:
                for key in changed:
                    node, _, rest = _parts(key.removeprefix(prefix))
                    if rest.startswith(pending_writes.PREFIX):
                        self._writes.changed(NodeName(node), rest, values.get(key))
                    else:
                        self._reports.changed(NodeName(node), rest, values.get(key), arrives=first.is_set())
                    if rest == services.REPORT:
                        self._desired.queue.add(NodeName(node))
                first.set()

    async def _follow_sessions(self, first: asyncio.Event) -> None:
        state = self._state
        prefix = f"{keys.SESSIONS}{state.tenant}/"
        async with aclosing(reflect(state.store, prefix)) as changes:
            # thousands of nodes come back at once: those that changed are looked at alone
            async for values, changed in changes:
                for key in changed:
                    name = NodeName(key.removeprefix(prefix))
                    if (key in values) == (name in state.sessions):
                        continue
                    (state.attached if key in values else state.detached)(name)
                    self._nodes.queue.add(name)
                first.set()

    async def _follow_kubeconfigs(self, first: asyncio.Event) -> None:
        state = self._state
        async with aclosing(reflect(state.store, keys.kubeconfigs(state.tenant))) as changes:
            async for values, _ in changes:
                records = [decode(value) for value in values.values()]
                state.kubeconfigs = valid(records, state.wall()) if records else None
                for name in state.records:
                    self._desired.queue.add(name)
                first.set()


def _parts(key: str) -> tuple[str, str, str]:
    """ "edge1/reported/pods/default/a" -> ("edge1", "reported", "pods/default/a")"""
    node, _, rest = key.partition("/")
    kind, _, tail = rest.partition("/")
    return node, kind, tail
