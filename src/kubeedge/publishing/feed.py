"""Module "servicetable": keeps the table of web services (table.py) as the store has it.

It reads what the table needs and nothing else: other keys of the store are Secrets of pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.store.model import ChangeKind, Store


class ServiceFeed:
    """`apply(key, value)` is called for each key below `prefixes`: with what is there first, then with each change; None: deleted."""

    name = "servicetable"

    def __init__(self, store: Store, prefixes: Sequence[str], apply: Callable[[str, bytes | None], None]) -> None:
        self._store = store
        self._prefixes = prefixes
        self._apply = apply
        self._known: set[str] = set()  # keys that were applied and not deleted since

    async def run(self, ready: asyncio.Event) -> None:
        missed, found = self._known, set[str]()
        begun: list[tuple[str, Revision]] = []
        for prefix in self._prefixes:
            rows = await self._store.range(prefix, keys.prefix_end(prefix))
            begun.append((prefix, rows.revision))
            for kv in rows.kvs:
                found.add(kv.key)
                self._apply(kv.key, kv.value)
        for key in missed - found:  # deleted while this module did not run
            self._apply(key, None)
        self._known = found
        ready.set()
        async with asyncio.TaskGroup() as tasks:
            for prefix, revision in begun:
                tasks.create_task(self._follow(prefix, revision), name=f"changes of {prefix}")

    async def _follow(self, prefix: str, after: Revision) -> None:
        async for batch in self._store.watch(prefix, after=after):
            for change in batch.changes:
                put = change.kind is ChangeKind.PUT
                (self._known.add if put else self._known.discard)(change.key)
                self._apply(change.key, change.value if put else None)
