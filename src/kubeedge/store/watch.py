"""Watches: which watcher gets which change, with bounded memory for each watcher.

A watcher is *synced* while the commits that concern it wait in its own small queue, and *behind* when that queue overflowed or
it started in the past: then it reads history in bounded batches until it has caught up. (The names are etcd's; its "victims" are
not needed, since no other task sends on behalf of a watcher.)

A watcher of a quiet prefix in a busy store would remember an ever older revision, and find it compacted when it comes back. Who
asks for progress is told the revision every PROGRESS_EVERY revisions, with or without a change.

Lives here:      queues, the index from key to watchers, the loop of one watch.
Lives elsewhere: history (the store gives a reader function).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeAlias

from kubeedge.api.names import Revision
from kubeedge.errors import Gone
from kubeedge.kit.signal import Signal
from kubeedge.store.model import Change, WatchBatch

QUEUED_CHANGES = 512  # a synced watcher may have waiting; beyond that it reads history instead
QUEUED_BYTES = 256 * 1024  # of their values
HISTORY_BATCH = 256  # changes read at once by a watcher that is behind (whole revisions, so possibly more)
PROGRESS_EVERY = 2_000  # revisions; far below the history that a store keeps

#: (prefix, after, limit) -> (changes with revision > after in order, the revision up to which these are complete)
History: TypeAlias = tuple[Sequence[Change], Revision]
HistoryReader = Callable[[str, Revision, int], History | Awaitable[History]]


class _Watcher:
    __slots__ = ("behind", "bytes", "changes", "prefix", "progress", "revision", "wake")

    def __init__(self, prefix: str, progress: bool) -> None:
        self.prefix = prefix
        self.progress = progress
        self.behind = True
        self.changes: list[Change] = []
        self.bytes = 0
        self.revision = Revision(0)  # of the last commit that reached the queue
        self.wake = Signal()

    def forget(self) -> None:
        self.changes.clear()
        self.bytes = 0


class Watches:
    """All watches of one store. `compacted`: of a prefix, the oldest revision after which its history is there."""

    def __init__(self, history: HistoryReader, compacted: Callable[[str], Revision]) -> None:
        self._history = history
        self._compacted = compacted
        self._by_prefix: dict[str, dict[_Watcher, None]] = {}  # dicts for their order: one run is like the next
        self._want_progress: dict[_Watcher, None] = {}
        self._progress_at = Revision(0)
        self._prefixes: dict[int, int] = {}  # length -> how many prefixes have it
        self._lengths: tuple[int, ...] = ()
        self._closed = False

    def __len__(self) -> int:
        return sum(len(group) for group in self._by_prefix.values())

    def begin(self, revision: Revision) -> None:
        """Where a store that others have used before begins for this process."""
        self._progress_at = revision

    def committed(self, changes: Sequence[Change], revision: Revision) -> None:
        """Tell the watchers concerned. Called in order of revision, once a commit is durable."""
        woken: dict[_Watcher, None] = {}
        for change in changes:
            for length in self._lengths:
                for watcher in self._by_prefix.get(change.key[:length], ()):
                    woken[watcher] = None
                    if not watcher.behind:
                        watcher.changes.append(change)
                        watcher.bytes += len(change.value)
        if revision - self._progress_at >= PROGRESS_EVERY:
            self._progress_at = revision
            woken.update(self._want_progress)
        for watcher in woken:
            many = len(watcher.changes)
            if many > QUEUED_CHANGES or (
                many > 1 and watcher.bytes > QUEUED_BYTES
            ):  # one is the store's own, and all share it
                watcher.forget()
                watcher.behind = True
            watcher.revision = revision
            watcher.wake.set()

    async def watch(
        self, prefix: str, after: Revision, progress: bool, current: Callable[[], Revision]
    ) -> AsyncGenerator[WatchBatch, None]:
        """Watch a prefix (Store.watch); `current` gives the newest revision of the store. Raises Gone."""
        watcher = _Watcher(prefix, progress)
        self._register(watcher)
        position = after
        caught_up = False
        try:
            while not self._closed:
                if watcher.behind:
                    if position < (compacted := self._compacted(prefix)):
                        raise Gone(
                            f"revision {position} of {prefix!r} has been compacted (up to {compacted})",
                            compacted=compacted,
                        )
                    if position >= current():  # caught up, or waiting for the future
                        watcher.behind = False
                        watcher.forget()
                        if progress and not caught_up:
                            caught_up = True
                            yield WatchBatch((), position)
                        continue
                    history = self._history(prefix, position, HISTORY_BATCH)
                    changes, upto = history if isinstance(history, tuple) else await history
                    position = max(position, upto)
                    if changes:
                        ready = [WatchBatch(tuple(changes), position)]
                        del history, changes  # nothing is held in memory while a slow reader is waited for
                        yield ready.pop()
                        await asyncio.sleep(0)  # a long history must not hold the loop
                    continue
                if watcher.revision > position:
                    fresh = tuple(c for c in watcher.changes if c.revision > position)
                    watcher.forget()
                    position = watcher.revision
                    if fresh or progress:
                        ready = [WatchBatch(fresh, position)]
                        del fresh
                        yield ready.pop()
                    continue
                watcher.forget()  # what a watch of the future is not to hear
                watcher.wake.clear()
                await watcher.wake.wait()
        finally:
            self._unregister(watcher)

    def forget(self) -> None:
        """Commits were missed: every watcher reads history, and gets Gone when that has been compacted."""
        for group in self._by_prefix.values():
            for watcher in group:
                watcher.forget()
                watcher.behind = True
                watcher.wake.set()

    def close(self) -> None:
        """Ends every watch: its iteration stops without an error."""
        self._closed = True
        for group in self._by_prefix.values():
            for watcher in group:
                watcher.wake.set()

    def _register(self, watcher: _Watcher) -> None:
        group = self._by_prefix.setdefault(watcher.prefix, {})
        if not group:
            self._count(len(watcher.prefix), 1)
        group[watcher] = None
        if watcher.progress:
            self._want_progress[watcher] = None

    def _unregister(self, watcher: _Watcher) -> None:
        self._want_progress.pop(watcher, None)
        group = self._by_prefix[watcher.prefix]
        del group[watcher]
        if not group:
            del self._by_prefix[watcher.prefix]
            self._count(len(watcher.prefix), -1)

    def _count(self, length: int, difference: int) -> None:
        """Lengths are few; prefixes are as many as there are nodes."""
        left = self._prefixes.get(length, 0) + difference
        if left:
            self._prefixes[length] = left
        else:
            del self._prefixes[length]
        if len(self._lengths) != len(self._prefixes):
            self._lengths = tuple(sorted(self._prefixes))
