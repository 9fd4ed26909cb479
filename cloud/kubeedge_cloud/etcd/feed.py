"""Every change of the namespace, in order of revision, from one watch; and the newest of them in memory.

One watch for the whole process, and not one for each of its thousands of watchers: then all of them see one order, a quiet watcher knows
how far the store has come, and etcd's progress notifications, which 3.4 may send ahead of events that they should follow (etcd issue
15220), are not needed. Each revision that the feed has reached is that of a change in the namespace, so that a reader of older history
knows when it is complete.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from kubeedge.api.names import Revision
from kubeedge.errors import Gone, KubeEdgeError
from kubeedge.store.model import Change, ChangeKind
from kubeedge_cloud.etcd.members import EtcdMembers, rpc

log = logging.getLogger("kubeedge.etcd")

REMEMBERED_CHANGES = 50_000
REMEMBERED_BYTES = 32 * 1024 * 1024  # of values
_PIECE_BYTES = 4 * 1024 * 1024  # of values read at once from etcd's history
_RETRY = 0.2  # seconds between two attempts to watch


class _Turn:
    """Wakes all tasks that wait, each time."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiting)

    def turn(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None


class Feed:
    """`told` is called with each revision once, in order; `lost` with the revision up to which history was compacted unseen."""

    def __init__(
        self,
        members: EtcdMembers,
        namespace: bytes,
        told: Callable[[Sequence[Change], Revision], None],
        lost: Callable[[Revision], None],
    ) -> None:
        self._members = members
        self._namespace = namespace
        self._told = told
        self._lost = lost
        self.revision = Revision(0)
        self._moved = _Turn()
        self._from = Revision(0)  # all changes after this one are remembered
        self._revisions: list[int] = []
        self._changes: list[Sequence[Change]] = []
        self._count = 0
        self._bytes = 0

    def begin(self, revision: Revision) -> None:
        """At the revision of a change in the namespace."""
        self.revision = self._from = revision

    async def run(self) -> None:
        """Follow for ever, over members that come and go."""
        while True:
            try:
                async with aclosing(self._watch(Revision(self.revision + 1))) as watch:
                    async for changes, revision in watch:
                        self._remember(changes, revision)
                        self.revision = revision
                        self._told(changes, revision)
                        self._moved.turn()
            except Gone as exc:  # away for longer than history is kept
                log.error("history up to %d was compacted while we were away", exc.compacted)
                self._revisions, self._changes, self._count, self._bytes = [], [], 0, 0
                self._from = self.revision = Revision(exc.compacted)
                self._lost(self.revision)
                self._moved.turn()
            except KubeEdgeError as exc:
                log.warning("the watch of etcd ended: %s", exc)
            await asyncio.sleep(_RETRY)

    async def reached(self, revision: Revision) -> None:
        """Wait until the feed has come to a revision of the namespace."""
        while self.revision < revision:
            await self._moved.wait()

    async def history(self, prefix: str, after: Revision, limit: int) -> tuple[Sequence[Change], Revision]:
        """Changes of the prefix after a revision, complete up to the one returned. Raises Gone."""
        until = self.revision
        found: list[Change] = []
        if after >= self._from:
            start = bisect_right(self._revisions, after)
            for changes, revision in zip(self._changes[start:], self._revisions[start:], strict=True):
                found += [c for c in changes if c.key.startswith(prefix)]
                if len(found) >= limit:
                    return found, Revision(revision)
            return found, until
        size = 0
        async with aclosing(self._watch(Revision(after + 1))) as watch:
            async for changes, revision in watch:
                mine = [c for c in changes if c.key.startswith(prefix)]
                found += mine
                size += sum(len(c.value) for c in mine)
                if revision >= until or len(found) >= 20 * limit or size > _PIECE_BYTES:
                    return found, Revision(revision)
        raise AssertionError("a watch ends with an error")

    async def _watch(self, start: Revision) -> AsyncGenerator[tuple[Sequence[Change], Revision], None]:
        """(changes, revision) of each revision of the namespace from `start`, for ever."""
        create = rpc.WatchCreateRequest(key=self._namespace, range_end=_end(self._namespace), start_revision=start)
        async with self._members.stream(rpc.WatchStub, "Watch", rpc.WatchRequest(create_request=create)) as answers:
            async for answer in answers:
                if answer.canceled:
                    if answer.compact_revision:
                        raise Gone(
                            f"revision {start} has been compacted (up to {answer.compact_revision})",
                            compacted=answer.compact_revision,
                        )
                    raise KubeEdgeError(f"etcd ended the watch: {answer.cancel_reason or 'no reason given'}")
                group: list[Change] = []
                for event in answer.events:
                    change = self._change(event)
                    if group and change.revision != group[0].revision:
                        yield tuple(group), group[0].revision
                        group = []
                    group.append(change)
                if group:
                    yield tuple(group), group[0].revision
        raise KubeEdgeError("etcd closed the watch")

    def _change(self, event: Any) -> Change:
        kv = event.kv
        key = kv.key[len(self._namespace) :].decode()
        if event.type == 1:  # mvccpb.Event.DELETE
            return Change(ChangeKind.DELETE, key, b"", Revision(kv.mod_revision))
        return Change(
            ChangeKind.PUT, key, kv.value, Revision(kv.mod_revision), Revision(kv.create_revision), kv.version, kv.lease
        )

    def _remember(self, changes: Sequence[Change], revision: Revision) -> None:
        self._revisions.append(revision)
        self._changes.append(changes)
        self._count += len(changes)
        self._bytes += sum(len(c.value) for c in changes)
        if self._count > REMEMBERED_CHANGES or self._bytes > REMEMBERED_BYTES:
            half = len(self._revisions) // 2 or 1
            self._from = Revision(self._revisions[half - 1])
            for dropped in self._changes[:half]:
                self._count -= len(dropped)
                self._bytes -= sum(len(c.value) for c in dropped)
            del self._revisions[:half], self._changes[:half]


def _end(prefix: bytes) -> bytes:
    """The first key behind all that begin with the prefix (etcd's WithPrefix)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
