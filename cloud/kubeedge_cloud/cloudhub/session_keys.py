"""The session keys of all nodes, followed for those whose channel is here.

Lives elsewhere: what a change means for the channel (core.py), the loop (kubeedge.kit.reflector).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import TypeAlias

from kubeedge.api import keys
from kubeedge.api.names import NodeName, Revision, TenantId
from kubeedge.store.model import ChangeKind, Store
from kubeedge.store.reflector import pages
from kubeedge_cloud.cloudhub.core import KeyChange

SessionName: TypeAlias = tuple[TenantId, NodeName]


class SessionKeys:
    """A ListerWatcher that keeps nothing. `held`: the nodes whose channel is here; `changed` is called with what became of their keys."""

    def __init__(
        self,
        store: Store,
        held: Callable[[], Iterable[SessionName]],
        changed: Callable[[SessionName, KeyChange], None],
    ) -> None:
        self._store = store
        self._held = held
        self._changed = changed

    async def list(self) -> Revision:
        found: dict[str, Revision] = {}
        revision = Revision(0)
        async with aclosing(pages(self._store, keys.SESSIONS, keys_only=True)) as read:
            async for page in read:
                found.update((kv.key, kv.mod_revision) for kv in page.kvs)
                revision = page.revision
        for name in self._held():
            written = found.get(keys.session(*name))
            self._changed(name, KeyChange(written is not None, written if written is not None else revision))
        return revision

    async def watch(self, position: Revision) -> AsyncGenerator[Revision, None]:
        async with aclosing(self._store.watch(keys.SESSIONS, after=position, progress=True)) as batches:
            async for batch in batches:
                for change in batch.changes:
                    tenant, _, node = change.key.removeprefix(keys.SESSIONS).partition("/")
                    is_there = change.kind is ChangeKind.PUT
                    self._changed((TenantId(tenant), NodeName(node)), KeyChange(is_there, change.revision))
                yield batch.revision
