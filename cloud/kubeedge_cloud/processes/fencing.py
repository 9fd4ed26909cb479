"""A store for the work of one leader: what it writes counts only while it leads.

A process that is stopped between reading and writing, and continues after another one has taken over, would otherwise write what it had decided
before: a node Ready that is away, a pod too many. Its transactions carry the fence (Membership.fence) and do not succeed any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubeedge.api.names import Revision
from kubeedge.errors import Conflict, Misuse
from kubeedge.store.forwarding import ForwardingStore
from kubeedge.store.model import Compare, Delete, Get, Op, Put, Store, TxnResult


class FencedStore(ForwardingStore):
    """Reads pass. A write that comes too late is a transaction that did not succeed; put and delete raise Conflict."""

    def __init__(self, store: Store, fence: Callable[[], Sequence[Compare]]) -> None:
        super().__init__(store)
        self._fence = fence

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Does not succeed once another process leads. Raises Misuse for writes on failure, which no fence could hold back."""
        if not all(isinstance(op, Get) for op in failure):
            raise Misuse("what is written on failure would be written by who does not lead")
        if all(isinstance(op, Get) for op in success):
            return await self._store.txn(compares, success, failure)
        return await self._store.txn([*compares, *self._fence()], success, failure)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        """Put a key. Raises Conflict once another process leads."""
        return (await self._must((Put(key, value, lease),))).revision

    async def delete(self, key: str, end: str = "") -> int:
        """Delete keys. Raises Conflict once another process leads."""
        count = (await self._must((Delete(key, end),))).responses[0]
        assert isinstance(count, int)
        return count

    async def _must(self, ops: Sequence[Op]) -> TxnResult:
        done = await self.txn((), ops)
        if not done.succeeded:
            raise Conflict("another process does this work now")
        return done
