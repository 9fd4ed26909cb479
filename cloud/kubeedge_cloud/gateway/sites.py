"""The nodes of one tenant that serve Gateways: where they say that they listen, and the tables that they are given.

/t/T/edge/N/reported/gateways/_/node ──> NodeSite
CompiledRoutes ──> /t/T/edge/N/desired/gateways/_/node
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from kubeedge.api import keys, meta
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.errors import Invalid
from kubeedge.gateway import codec, reports
from kubeedge.gateway.model import CompiledRoutes
from kubeedge.gateway.reports import ListenReport
from kubeedge.store.model import Compare, CompareTarget, Delete, Put, Store
from kubeedge.store.reflector import read_all, reflect
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.gateway.nodes import NodeSite
from kubeedge_cloud.tenants.model import node_key

log = logging.getLogger("kubeedge.gateway")


class NodeSites:
    """`nodes`: the cache of the tenant's Nodes, with their labels, which is run here; `changed` is called when something is another way;
    `refused` of a Node whose table is too large, with a sentence."""

    def __init__(
        self,
        store: Store,
        tenant: TenantId,
        nodes: Informer,
        changed: Callable[[], None],
        refused: Callable[[Object, str], None],
    ) -> None:
        self._store, self._tenant, self._nodes, self._changed = store, tenant, nodes, changed
        self._refused = refused
        self._reports: dict[NodeName, ListenReport] = {}
        self._rows: dict[NodeName, bytes] = {}  # what nodes have
        self._too_large: dict[NodeName, str] = {}
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Follows reports and Nodes until it is cancelled."""
        prefix = keys.edges(self._tenant)

        def is_ours(key: str) -> bool:
            return key.endswith(codec.ROW) and key.removeprefix(prefix).count("/") == 4

        async with asyncio.TaskGroup() as group:
            group.create_task(self._nodes.run(), name=f"nodes of {self._tenant}")
            await self._nodes.synced.wait()
            self._nodes.on_change(self._node_changed)
            async with aclosing(reflect(self._store, prefix, wanted=is_ours)) as changes:
                async for values, changed in changes:
                    for key in changed:
                        node, kind, _ = key.removeprefix(prefix).split("/", 2)
                        self._take(NodeName(node), kind, values.get(key))
                    self.ready.set()
                    self._changed()

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        if before is None or after is None or meta.labels_of(before) != meta.labels_of(after):
            self._changed()

    async def has_rows(self) -> bool:
        """Some node has a table: of before this process began, perhaps."""
        prefix = keys.edges(self._tenant)
        found = await read_all(self._store, prefix, keys_only=True)
        return any(key.endswith(keys.DESIRED + codec.ROW) for key in found)

    def _take(self, node: NodeName, kind: str, value: bytes | None) -> None:
        if kind == "desired":
            self._rows.pop(node, None) if value is None else self._rows.update({node: value})
            return
        self._reports.pop(node, None)
        if value is None:
            return
        try:
            self._reports[node] = reports.decoded(value)
        except Invalid as exc:  # what one node says must not stop the others
            log.warning("tenant=%s node=%s: %s", self._tenant, node, exc)

    @property
    def found(self) -> Sequence[NodeSite]:
        """Those that serve Gateways, and have a Node."""
        return [
            NodeSite(name, meta.labels_of(node), report)
            for name, report in self._reports.items()
            if (node := self._nodes.get("", name)) is not None
        ]

    async def write(self, tables: Mapping[NodeName, CompiledRoutes], fence: Callable[[], Sequence[Compare]]) -> None:
        """Each node has the table that is for it, or none."""
        for node in {**self._rows, **tables}:
            row = codec.encoded(tables[node]) if node in tables else None
            await asyncio.sleep(0)  # a table is up to some ten milliseconds of work
            if row is not None and (why := codec.excess(row)):
                known = self._nodes.get("", node)
                if self._too_large.get(node) != why and known is not None:
                    self._refused(known, f"the routes of its Gateways stay as they are: {why}")
                self._too_large[node] = why
                continue
            self._too_large.pop(node, None)
            if row == self._rows.get(node):
                continue
            key = keys.edge_desired(self._tenant, node) + codec.ROW
            exists = Compare(node_key(self._tenant, node), CompareTarget.VERSION, ">", 0)
            compares = fence() if row is None else (exists, *fence())
            done = await self._store.txn(compares, [Delete(key) if row is None else Put(key, row)])
            if done.succeeded:
                self._take(node, "desired", row)
