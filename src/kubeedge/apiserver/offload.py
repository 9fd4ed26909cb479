"""Where costly work on objects is done: small work at once, the rest in one thread, the tenants in turn.

Decoding, patching and checking an object of the largest size takes some 100 ms of Python. On the event loop that would stop every channel,
link and request of the process. In a thread it holds the interpreter's lock for a slice at a time, so the loop comes between; one thread,
because two would slow the loop down twice. What is done there is pure: values in, values out.

Each time the loop lets go of the lock, in a system call or a statement of SQLite, it gets it back after a slice, or after the call into C that
the thread is in. A request of another tenant has dozens of those, so a tenant pays for what it has worked, by rests of its own, and what is done in one
call into C has to be short (json_bounds.py).
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kubeedge.api.names import TenantId
from kubeedge.kit.bucket import Buckets
from kubeedge.kit.turns import Turns

SMALL = 4 * 1024  # bytes of JSON or YAML; all that can be done to so much takes some milliseconds
_SLICE = 0.0001  # seconds that the thread goes on while the loop waits; Python's own 5 ms would be paid for each system call of the loop
_SHARE = 1 / 3  # of the time that the work of one tenant may have in the long run
_AT_ONCE = 0.01  # seconds of work without a rest, for who has not worked lately
_LONGEST_REST = 0.5  # seconds
_REMEMBERED = 1000  # tenants
_UNIT = 1e6  # tokens for a second of work

T = TypeVar("T")


class Offload:
    """Threads begin with the first work that is not small."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._spent: Buckets[TenantId] = Buckets(_SHARE * _UNIT, _AT_ONCE * _UNIT, _REMEMBERED)
        self._thread: ThreadPoolExecutor | None = None

    async def run(self, tenant: TenantId, size: int, work: Callable[[], T]) -> T:
        """The result of `work`, which handles `size` bytes."""
        if size <= SMALL:
            return work()
        await self._turns.take(tenant)
        loop = asyncio.get_running_loop()
        begun = loop.time()

        def worked(_: object) -> None:
            """Also when the client has gone: its work went on."""
            now = loop.time()
            if wait := self._spent.of(tenant, now).charge((now - begun) * _UNIT, now):
                self._turns.rest(tenant)
                loop.call_later(min(wait, _LONGEST_REST), self._turns.resume, tenant)
            self._turns.give()

        try:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="apiserver")
            done = loop.run_in_executor(self._thread, _in_slices, work)
        except BaseException:
            self._turns.give()
            raise
        done.add_done_callback(worked)
        return await asyncio.shield(done)


class Inline(Offload):
    """An Offload for a process with one user: everything is done at once."""

    async def run(self, tenant: TenantId, size: int, work: Callable[[], T]) -> T:
        return work()


def _in_slices(work: Callable[[], T]) -> T:
    usual, collecting = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(_SLICE)
    gc.disable()  # decoded JSON has no cycles, and a collection that so many new objects set off looks at all there are, in one slice
    try:
        return work()
    finally:
        if collecting:
            gc.enable()
        sys.setswitchinterval(usual)
