"""What one tenant has stored, and whether it may store more. Pure: changes of the store and a clock come in.

Lives elsewhere: the store (module.py), what a quota refuses (kubeedge.apiserver.quota).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kubeedge.api.names import Revision
from kubeedge.api.status import TooManyRequests
from kubeedge.apiserver.quota import Growth, TenantLimits, Used, Wrote, check
from kubeedge.kit.bucket import Bucket

_PACE = 600.0  # seconds in which a tenant may write as many bytes as it may have


class TenantUsage:
    """`limits` is asked each time: the administrator may change them. `clock`: monotonic seconds. `pressure`: seconds for which the store's history
    has no room for more of the tenant."""

    def __init__(
        self,
        limits: Callable[[], TenantLimits],
        clock: Callable[[], float],
        pressure: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._pressure = pressure
        self._pace: tuple[TenantLimits, Bucket] | None = None
        self._sizes: dict[str, int] = {}
        self._size = 0
        self._held = Used()
        self._seen = Revision(0)  # what was counted from the store

    @property
    def used(self) -> Used:
        """Objects and bytes stored, without what is reserved."""
        return Used(len(self._sizes), self._size)

    @property
    def limits(self) -> TenantLimits:
        """The limits now; they may change between two calls."""
        return self._limits()

    @contextmanager
    def reserve(self, growth: Growth) -> Iterator[Wrote]:
        used = Used(len(self._sizes) + self._held.objects, self._size + self._held.size)
        check(self._limits(), used, growth)
        if not growth.status:  # what nodes report has a pace of its own
            self._keep_pace(growth.written)
        self._hold(growth.objects, max(0, growth.size))
        try:
            yield self._wrote
        finally:
            self._hold(-growth.objects, -max(0, growth.size))

    def _keep_pace(self, written: int) -> None:
        """Raises TooManyRequests. As much as a tenant may have, it may write at once, and then again in _PACE seconds."""
        if wait := self._pressure():
            raise TooManyRequests(
                "what the tenant has written waits for the store's history to be compacted", retry_after=wait
            )
        limits, now = self._limits(), self._clock()
        if self._pace is None or self._pace[0] != limits:
            self._pace = limits, Bucket(limits.size / _PACE, limits.size, now)
        bucket = self._pace[1]
        if wait := bucket.charge(0, now):
            raise TooManyRequests(
                f"the tenant has written {limits.size} bytes faster than in {_PACE:g} s, which fills the store's history: wait",
                retry_after=wait,
            )
        bucket.charge(written, now)

    def _wrote(self, key: str, size: int, revision: Revision) -> None:
        """Before the watch brings it; if that was faster, what it brought after this is the truth."""
        if revision > self._seen:
            self.put(key, size)

    def _hold(self, objects: int, size: int) -> None:
        self._held = Used(self._held.objects + objects, self._held.size + size)

    def put(self, key: str, size: int) -> None:
        self._size += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def deleted(self, key: str) -> None:
        self._size -= self._sizes.pop(key, 0)

    def seen(self, revision: Revision) -> None:
        self._seen = revision

    def begin_again(self, sizes: dict[str, int], revision: Revision) -> None:
        self._seen = revision
        self._sizes = sizes
        self._size = sum(sizes.values())
