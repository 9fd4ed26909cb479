"""What this node should run, followed in its store: pods, and the objects that they refer to.

Lives elsewhere: the loop (kubeedge.kit.reflector), what becomes of a change (module.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.store.model import ChangeKind, KeyValue, Store
from kubeedge.store.reflector import pages

_PODS = f"{keys.DESIRED}pods/"


class DesiredObjects:
    """A ListerWatcher that keeps a digest of each value, for the difference after history was compacted. `take(key, value)` is called for
    each key that is there and for each change, None for one that is gone; of a list, pods come last: what they refer to is known by then."""

    def __init__(self, store: Store, take: Callable[[str, bytes | None], Awaitable[None]]) -> None:
        self._store = store
        self._take = take
        self._known: dict[str, bytes] = {}

    async def list(self) -> Revision:
        found: dict[str, KeyValue] = {}
        revision = Revision(0)
        async with aclosing(pages(self._store, keys.DESIRED)) as read:
            async for page in read:
                found.update((kv.key, kv) for kv in page.kvs)
                revision = page.revision
        for key in self._known.keys() - found.keys():
            await self._change(key, None)
        for key in sorted(found, key=lambda key: (key.startswith(_PODS), key)):
            value = found[key].value
            if self._known.get(key) != _digest(value):
                await self._change(key, value)
        return revision

    async def watch(self, position: Revision) -> AsyncGenerator[Revision, None]:
        async with aclosing(self._store.watch(keys.DESIRED, after=position, progress=True)) as batches:
            async for batch in batches:
                for change in batch.changes:
                    await self._change(change.key, None if change.kind is ChangeKind.DELETE else change.value)
                yield batch.revision

    async def _change(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._known.pop(key, None)
        else:
            self._known[key] = _digest(value)
        await self._take(key, value)


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()
