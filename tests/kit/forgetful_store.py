"""A store whose history is compacted under the eyes of those who watch it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from kubeedge.api.names import Revision
from kubeedge.errors import Gone
from kubeedge.store.forwarding import ForwardingStore
from kubeedge.store.model import WatchBatch


class ForgetfulStore(ForwardingStore):
    """While `forgets`, the next batch of a watch is lost, and the watch ends as it does when its position was compacted."""

    forgets = False

    async def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        async with aclosing(self._store.watch(prefix, after=after, progress=progress)) as batches:
            async for batch in batches:
                if self.forgets and batch.changes:
                    self.forgets = False
                    raise Gone("compacted", compacted=batch.revision)
                yield batch
