"""Whose authorization has ended: nodes that were removed, joined again or got another number, and nodes behind which something else may be now.

Links live for months, and what they may do was decided when they began. So the records of each tenant that has links here are followed,
and a link whose record says something else has to be made again; a node that was removed does not get in again, and its number may
be another node's by then.

Lives elsewhere: the records (kubeedge_cloud.tenants), the links (core.py, driver.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from kubeedge.api.names import NodeKey, NodeName, NodeNumber, TenantId
from kubeedge.errors import KubeEdgeError
from kubeedge_cloud.tenants.directory import NodeFollower
from kubeedge_cloud.tenants.model import NodeRecord, same_node

log = logging.getLogger("kubeedge.bushub")

_RETRY = 1.0  # seconds


class LinkAuthorizer:
    """`linked`: nodes of a tenant that have links here, with the oldest record that one was made by. `end` is called for a node that was
    removed or joined again, with the number that it had and the record that it has, `allowed` for one behind which these networks may be, when that may have changed."""

    def __init__(
        self,
        directory: NodeFollower,
        *,
        linked: Callable[[TenantId], Mapping[NodeName, NodeRecord]],
        end: Callable[[NodeKey, NodeNumber, NodeRecord | None], None],
        allowed: Callable[[NodeKey, Sequence[str]], None],
    ) -> None:
        self._directory = directory
        self._linked = linked
        self._end = end
        self._allowed = allowed
        self._records: dict[TenantId, dict[NodeName, NodeRecord]] = {}
        self._networks: dict[TenantId, Mapping[NodeName, Sequence[str]]] = {}
        self._tasks: dict[TenantId, list[asyncio.Task[None]]] = {}
        self._followed: dict[TenantId, asyncio.Event] = {}

    def follow(self, tenant: TenantId) -> None:
        """From the first link of a tenant on, or since it was asked where one of its nodes is."""
        if tenant not in self._tasks:
            self._followed[tenant] = asyncio.Event()
            self._tasks[tenant] = [
                asyncio.create_task(self._again_and_again(self._nodes, tenant), name="nodes of a tenant"),
                asyncio.create_task(self._again_and_again(self._subnets, tenant), name="networks of a tenant"),
            ]

    async def followed(self, tenant: TenantId) -> None:
        """From here on, every change of its nodes is told."""
        self.follow(tenant)
        await self._followed[tenant].wait()

    def has(self, node: NodeKey) -> bool:
        """Whether it existed at the last change that was read. False: not read yet, or deleted."""
        return self.record(node) is not None

    def record(self, node: NodeKey) -> NodeRecord | None:
        """The last known record of a node, or None."""
        return self._records.get(node[0], {}).get(node[1])

    def known(self, node: NodeKey) -> tuple[NodeRecord, Sequence[str]] | None:
        """Record and networks as we last heard of them; None: we have not."""
        tenant, name = node
        record = self._records.get(tenant, {}).get(name)
        networks = self._networks.get(tenant)
        return (record, networks.get(name, ())) if record is not None and networks is not None else None

    async def close(self) -> None:
        """Ends the tasks that follow the records of tenants, and waits for them."""
        tasks = [task for pair in self._tasks.values() for task in pair]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _again_and_again(self, follow: Callable[[TenantId], Any], tenant: TenantId) -> None:
        while True:
            try:
                await follow(tenant)
            except KubeEdgeError as exc:
                log.warning("cannot follow the records of tenant %s: %s", tenant, exc)
            await asyncio.sleep(_RETRY)

    async def _nodes(self, tenant: TenantId) -> None:
        async with aclosing(self._directory.follow_nodes(tenant)) as changes:
            async for records in changes:
                before: Mapping[NodeName, NodeRecord] | None = self._records.get(tenant)
                if before is None:  # what is linked was in the store a moment ago
                    before = dict(self._linked(tenant))
                now = self._records[tenant] = dict(records)
                for name, record in before.items():
                    if not same_node(record, now.get(name)):
                        self._end((tenant, name), record.number, now.get(name))
                self._followed[tenant].set()

    async def _subnets(self, tenant: TenantId) -> None:
        known = self._networks.get(tenant)
        async with aclosing(self._directory.follow_subnets(tenant)) as changes:
            async for mapping in changes:
                now = dict(mapping)
                names = self._linked(tenant).keys() if known is None else now.keys() | known.keys()
                for name in names:
                    if known is None or now.get(name, ()) != known.get(name, ()):
                        self._allowed((tenant, name), now.get(name, ()))
                known = self._networks[tenant] = now
