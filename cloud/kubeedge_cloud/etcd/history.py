"""How many bytes of history each tenant has in etcd, and up to where that is to be compacted. Pure: changes come in.

etcd compacts the history of all keys at once, by revision. So what one tenant has beyond its limit goes together with what others wrote before it;
who follows the newest changes notices nothing, who is further behind reads everything again. Until the compaction is done a tenant may
have as much again; then it has to wait (EtcdStore.pressure).

Lives elsewhere: the same in SQLite, where each tenant's history goes alone (kubeedge.store.history_shares).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.store.model import Change

_STEPS = 8  # of a limit: what is counted together goes together
_AHEAD = 65_536  # writes that the feed has not told yet; older ones count when it does


@dataclass(slots=True)
class _Step:
    size: int  # bytes
    last: Revision


class TenantHistory:
    """`limit`: bytes of keys and values, for each owner (keys.owner), that were written since the last compaction."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._steps: dict[str, deque[_Step]] = {}
        self._sizes: dict[str, int] = {}
        self._ahead: deque[tuple[Revision, str, int]] = deque()
        self._sizes_ahead: dict[str, int] = {}

    def acknowledged(self, owner: str, size: int, revision: Revision) -> None:
        """Bytes of a write of this process that etcd has, until `wrote` is called with its revision, or a later one: however late changes
        come in, who writes has them on its account."""
        self._ahead.append((revision, owner, size))
        self._sizes_ahead[owner] = self._sizes_ahead.get(owner, 0) + size
        if len(self._ahead) > _AHEAD:
            self._forget_oldest()

    def wrote(self, changes: Sequence[Change], revision: Revision) -> bool:
        """Count one revision; returns whether an owner is beyond the limit now."""
        over = False
        self._caught_up(revision)
        for change in changes:
            owner, size = keys.owner(change.key), len(change.key) + len(change.value)
            steps = self._steps.setdefault(owner, deque())
            if steps and steps[-1].size + size <= self._limit // _STEPS:
                steps[-1].size += size
                steps[-1].last = revision
            else:
                steps.append(_Step(size, revision))
            self._sizes[owner] = self._sizes.get(owner, 0) + size
            over = over or self._sizes[owner] > self._limit
        return over

    def size(self, owner: str) -> int:
        """Bytes that it has written since the last compaction."""
        return self._sizes.get(owner, 0)

    def target(self) -> Revision:
        """The revision up to which to compact, so that no owner has more than the limit; 0: none has."""
        return max(map(self._target_of, self._steps), default=Revision(0))

    def _target_of(self, owner: str) -> Revision:
        left, target = self._sizes[owner], Revision(0)
        for step in self._steps[owner]:
            if left <= self._limit:
                break
            left -= step.size
            target = step.last
        return target

    def compacted(self, revision: Revision) -> None:
        """History up to that revision is gone."""
        self._caught_up(revision)
        for owner, steps in list(self._steps.items()):
            while steps and steps[0].last <= revision:
                self._sizes[owner] -= steps.popleft().size
            if not steps:
                del self._steps[owner], self._sizes[owner]

    def over_twice(self, owner: str) -> bool:
        """Whether an owner has written as much again while it was beyond the limit already."""
        return self.size(owner) + self._sizes_ahead.get(owner, 0) > 2 * self._limit

    def _caught_up(self, revision: Revision) -> None:
        # answers come in nearly in order of revision: what is behind a later one waits with it
        while self._ahead and self._ahead[0][0] <= revision:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, owner, size = self._ahead.popleft()
        self._sizes_ahead[owner] -= size
        if not self._sizes_ahead[owner]:
            del self._sizes_ahead[owner]
