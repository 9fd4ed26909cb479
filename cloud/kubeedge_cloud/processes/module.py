"""Module "process": the lease of this process among several over one store, and what is attached to it.

    /processes/P        {"id", "address"}: process P is alive
    /leaders/WORK       P: it does that work, alone
    /sessions/T/N       written by the hub with the same lease: the node's channel is at P

A process that is killed, or cannot reach the store for a lease's time, loses all three at once, and others take over. It has to assume the
loss before it can happen: a lease that could not be renewed counts as lost a second before its time is over, on our own clock. A process
that was stopped in the middle of its work hears of the loss too late: its writes carry a fence, a compare that holds only while it leads.

Work spreads over the processes by rendezvous hashing (Thaler and Ravishankar, 1998): who comes first for a piece of work claims it
at once, the others a moment later, in case it is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing

from kubeedge.api.keys import LEADERS, PROCESSES, prefix_end
from kubeedge.api.names import Revision
from kubeedge.errors import KubeEdgeError, NotFound, Unavailable
from kubeedge.store.model import Compare, CompareTarget, Delete, Get, Put, RangeResult, Store
from kubeedge.store.reflector import reflect
from kubeedge_cloud.processes.membership import Work

log = logging.getLogger("kubeedge.processes")

TTL = 3.0  # seconds from the death of a process to the end of what it held
RENEW = 0.8  # seconds between two renewals
MARGIN = 1.0  # seconds before the end of the lease at which it counts as lost
STAND_BACK = 0.5  # seconds that others leave to whom hashing chose

_NEVER = -1  # no key was written at that revision


class Process:
    """A Membership that hangs on a lease of the store. `address`: where other processes and operators find this one."""

    name = "process"

    def __init__(self, store: Store, *, address: str = "", process_id: str = "") -> None:
        self.id = process_id or uuid.uuid4().hex[:12]
        self._store = store
        self._address = address
        self._lease = 0
        self._held = asyncio.Event()
        self._lost: asyncio.Future[None] | None = None
        self._notify: list[Callable[[], None]] = []
        self._claims: dict[str, Revision] = {}  # work that we lead -> when we claimed it

    @property
    def lease(self) -> int:
        """The lease of this process. Raises Unavailable while it has none."""
        if not self._lease:
            raise Unavailable("this cloud process has no lease from its store at the moment; another one may have")
        return self._lease

    def fence(self, work: str) -> Sequence[Compare]:
        """Fails every transaction while this process does not hold the work's leader key, at the revision of its claim."""
        return (Compare(LEADERS + work, CompareTarget.MOD, "=", self._claims.get(work, _NEVER)),)

    def on_loss(self, notify: Callable[[], None]) -> None:
        """Called each time that a lease is lost, before a new one is granted."""
        self._notify.append(notify)

    async def run(self, ready: asyncio.Event) -> None:
        """Grants a lease, renews it every RENEW seconds, and starts again with a new one when it was lost."""
        loop = asyncio.get_running_loop()
        lease = 0
        try:
            while True:
                try:
                    lease = await self._store.lease_grant(TTL)
                    record = json.dumps({"id": self.id, "address": self._address}).encode()
                    await self._store.put(PROCESSES + self.id, record, lease)
                    begun = loop.time()  # these may have waited long for a silent member: the time counts from here
                    await self._store.lease_keepalive(lease)
                except KubeEdgeError as exc:
                    log.warning("no lease from the store: %s", exc)
                    await asyncio.sleep(RENEW)
                    continue
                self._lease, self._lost = lease, loop.create_future()
                self._held.set()
                ready.set()
                try:
                    await self._renew(lease, begun)
                finally:
                    self._lease = 0
                    self._held.clear()
                    self._lost.set_result(None)
                    for notify in self._notify:
                        notify()
                log.error("the lease of this process is lost; what it held is given up")
        finally:
            if lease:
                with contextlib.suppress(KubeEdgeError):
                    await self._store.lease_revoke(lease)

    async def _renew(self, lease: int, renewed: float) -> None:
        """Returns when the lease is lost, or may soon be."""
        loop = asyncio.get_running_loop()
        while (left := renewed + TTL - MARGIN - loop.time()) > 0:
            await asyncio.sleep(min(RENEW, left))
            begun = loop.time()
            try:
                async with asyncio.timeout_at(renewed + TTL - MARGIN):
                    await self._store.lease_keepalive(lease)
                renewed = begun
            except NotFound:
                return
            except (KubeEdgeError, TimeoutError) as exc:
                log.warning("the lease of this process was not renewed: %s", exc or "no answer in time")

    async def lead(self, work: str, do: Work) -> None:
        """Claims the leader key, runs `do`, and cancels it with the lease; then stands by again. Returns when `do` returns."""
        while True:
            await self._held.wait()
            lease, lost = self._lease, self._lost
            assert lost is not None
            try:
                if not await self._claim(work, lease, lost):
                    continue
            except KubeEdgeError as exc:
                log.warning("cannot claim %s: %s", work, exc)
                await asyncio.sleep(RENEW)
                continue
            log.info("leading %s", work)
            doing = asyncio.ensure_future(do())
            try:
                await asyncio.wait((doing, lost), return_when=asyncio.FIRST_COMPLETED)
                if doing.done():
                    return doing.result()
            finally:
                self._claims.pop(work, None)
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)
                with contextlib.suppress(KubeEdgeError):
                    mine = Compare(LEADERS + work, CompareTarget.VALUE, "=", self.id.encode())
                    await self._store.txn((mine,), (Delete(LEADERS + work),))

    async def _claim(self, work: str, lease: int, lost: asyncio.Future[None]) -> bool:
        """Wait until the work is free, and take it. False: our lease was lost meanwhile."""
        key = LEADERS + work
        while not lost.done():
            if not await self._is_chosen(work):
                await asyncio.sleep(STAND_BACK)
            done = await self._store.txn(
                (Compare(key, CompareTarget.VERSION, "=", 0),), (Put(key, self.id.encode(), lease),), (Get(key),)
            )
            if done.succeeded:
                self._claims[work] = done.revision
                return True
            found = done.responses[0]
            if isinstance(found, RangeResult) and found.kvs and found.kvs[0].value == self.id.encode():
                # the answer to an earlier claim was lost on its way; or the claim hangs on an older lease of ours, and would end with it
                unchanged = Compare(key, CompareTarget.MOD, "=", found.kvs[0].mod_revision)
                again = await self._store.txn((unchanged,), (Put(key, self.id.encode(), lease),))
                if again.succeeded:
                    self._claims[work] = again.revision
                    return True
                continue
            waiting = asyncio.ensure_future(self._until_free(key))
            try:
                await asyncio.wait((waiting, lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
        return False

    async def _until_free(self, key: str) -> None:
        async with aclosing(reflect(self._store, key, wanted=lambda other: other == key)) as steps:
            async for leaders, _ in steps:
                if key not in leaders:
                    return

    async def _is_chosen(self, work: str) -> bool:
        alive = await self._store.range(PROCESSES, prefix_end(PROCESSES), keys_only=True)
        ids = {kv.key.removeprefix(PROCESSES) for kv in alive.kvs} | {self.id}
        return max(ids, key=lambda p: hashlib.sha256(f"{work} {p}".encode()).digest()) == self.id
