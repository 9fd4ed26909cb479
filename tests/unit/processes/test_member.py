"""Leases and leadership of cloud processes, on virtual time: what a bad connection to the store may not lead to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.keys import LEADERS, PROCESSES
from kubeedge.api.names import Revision, TenantId
from kubeedge.api.resources import CONFIGMAPS
from kubeedge.apiserver.registry import Registry
from kubeedge.config.cloud import CloudConfig, CloudPaths, CloudTunConfig, Etcd, StoreConfig
from kubeedge.errors import Conflict, Misuse, Unavailable
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Put
from kubeedge_cloud.cloudcore import Cloud as Cloud_
from kubeedge_cloud.processes.fencing import FencedStore
from kubeedge_cloud.processes.membership import Alone
from kubeedge_cloud.processes.module import TTL, Process
from tests.kit import virtual_time

WORK = "edgecontroller/default"


class Connection:
    """One process's way to the store that all share; it can be cut."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.cut = False
        self.open: tuple[str, ...] = ()  # what passes a cut all the same

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("txn", "put", "range", "lease_grant", "lease_keepalive", "lease_revoke"):
            return found

        async def call(*args: Any, **more: Any) -> Any:
            await asyncio.sleep(0.001)
            if self.cut and name not in self.open:
                await asyncio.sleep(0.2)
                raise Unavailable("no etcd member answers")
            return await found(*args, **more)

        return call


class Cloud:
    """Processes that all want to do the same work."""

    def __init__(self, count: int) -> None:
        self.store = MemoryStore()
        self.connections = [Connection(self.store) for _ in range(count)]
        self.processes = [
            Process(connection, process_id=f"p{n}")  # type: ignore[arg-type]
            for n, connection in enumerate(self.connections)
        ]
        self.working: list[str] = []
        self.most = 0
        self.tasks: list[list[asyncio.Task[None]]] = []

    async def _work(self, name: str) -> None:
        self.working.append(name)
        self.most = max(self.most, len(self.working))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.working.remove(name)

    async def _lead(self, process: Process) -> None:
        await process.lead(WORK, lambda: self._work(process.id))

    def start(self, n: int) -> None:
        process = self.processes[n]
        self.tasks.append([asyncio.create_task(process.run(asyncio.Event())), asyncio.create_task(self._lead(process))])

    async def stop(self, n: int) -> None:
        """As the supervisor does: what leads first."""
        for task in reversed(self.tasks[n]):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def leader(self) -> tuple[str, int]:
        kv = self.store.newest(LEADERS + WORK)
        return (kv.value.decode(), kv.lease) if kv else ("", 0)


@contextlib.asynccontextmanager
async def cloud(count: int = 2) -> AsyncIterator[Cloud]:
    found = Cloud(count)
    for n in range(count):
        found.start(n)
    await asyncio.sleep(3)
    try:
        yield found
    finally:
        for n in range(count):
            await found.stop(n)


def test_one_of_several_leads_and_another_takes_over_when_it_is_cut_off() -> None:
    async def scenario() -> None:
        async with cloud(3) as c:
            (first,) = c.working
            assert c.leader()[0] == first
            c.connections[int(first[1])].cut = True
            await asyncio.sleep(TTL + 2)
            (second,) = c.working
            assert second != first and c.leader()[0] == second and c.most == 1
            c.connections[int(first[1])].cut = False
            await asyncio.sleep(10)
            assert c.working == [second] and c.most == 1

    virtual_time.run(scenario())


@pytest.mark.parametrize("passes", [(), ("lease_grant", "put")])
@pytest.mark.parametrize("tenths", range(16, 40))
def test_a_cut_of_any_length_leaves_one_leader_whose_claim_is_its_own(tenths: int, passes: tuple[str, ...]) -> None:
    """Back before its old lease is over, a process finds its own claim there, and must not build on it."""

    async def scenario() -> None:
        async with cloud(2) as c:
            (first,) = c.working
            connection = c.connections[int(first[1])]
            connection.cut, connection.open = True, passes
            await asyncio.sleep(tenths / 10)
            connection.cut = False
            await asyncio.sleep(3 * TTL)
            (leader,) = c.working
            assert c.most == 1, "never two at once"
            name, lease = c.leader()
            assert name == leader and lease == c.processes[int(leader[1])].lease

    virtual_time.run(scenario())


def test_a_process_that_ends_gives_back_what_it_held_at_once() -> None:
    async def scenario() -> None:
        async with cloud(2) as c:
            (first,) = c.working
            await c.stop(int(first[1]))
            assert c.store.newest(PROCESSES + first) is None and c.leader()[0] != first
            await asyncio.sleep(1.0)
            assert c.working == [c.leader()[0]] != [first]

    virtual_time.run(scenario())


def test_a_process_that_was_asleep_cannot_write_what_it_decided_before() -> None:
    async def scenario() -> None:
        async with cloud(2) as c:
            (first,) = c.working
            fence = c.processes[int(first[1])].fence(WORK)
            assert (await c.store.txn(fence, [Put("desired", b"1")])).succeeded
            c.connections[int(first[1])].cut = True
            await asyncio.sleep(TTL + 2)
            (second,) = c.working
            assert not (await c.store.txn(fence, [Put("desired", b"old")])).succeeded
            assert not (await c.store.txn(c.processes[int(first[1])].fence(WORK), [Put("desired", b"old")])).succeeded
            assert (await c.store.txn(c.processes[int(second[1])].fence(WORK), [Put("desired", b"2")])).succeeded

    virtual_time.run(scenario())


def test_without_a_lease_nothing_can_be_hung_on_it() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        process = Process(store)
        with pytest.raises(Unavailable, match="no lease"):
            _ = process.lease
        assert Alone().lease == 0 and not Alone().fence(WORK) and store.revision == Revision(1)

    virtual_time.run(scenario())


def test_a_grant_that_came_late_is_no_lost_lease() -> None:
    async def scenario() -> None:
        slow = Connection(MemoryStore())

        async def grant(ttl: float) -> int:
            await asyncio.sleep(TTL)  # at a member that is silent, before another one was asked
            return await slow._store.lease_grant(ttl)

        slow.lease_grant = grant  # type: ignore[attr-defined]
        process = Process(slow)  # type: ignore[arg-type]
        lost: list[int] = []
        process.on_loss(lambda: lost.append(1))
        running = asyncio.create_task(process.run(asyncio.Event()))
        await asyncio.sleep(5 * TTL)
        assert not lost and process.lease
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual_time.run(scenario())


def test_what_a_leader_decided_before_it_was_stopped_is_not_written_after_another_took_over() -> None:
    async def scenario() -> None:
        async with cloud() as c:
            (first,) = c.working
            old = c.processes[int(first[1])]
            held = old.fence(WORK)  # of a request that was ready when the process was stopped
            leader = Registry(FencedStore(c.store, lambda: held), TenantId("t"))
            await leader.create(CONFIGMAPS, "default", {"metadata": {"name": "x"}, "data": {"n": "1"}})
            seen = await leader.get(CONFIGMAPS, "default", "x")
            c.connections[int(first[1])].cut = True
            await asyncio.sleep(TTL + 2)
            assert c.working != [first]
            with pytest.raises(Conflict):  # nobody has changed the object: nothing but the fence stands in the way
                await leader.update(CONFIGMAPS, "default", {**seen, "data": {"n": "2"}})
            with pytest.raises(Conflict):
                await leader.create(CONFIGMAPS, "default", {"metadata": {"name": "y"}})
            with pytest.raises(Conflict):
                await leader.delete(CONFIGMAPS, "default", "x")
            fenced = FencedStore(c.store, lambda: held)
            for late in (fenced.put("/k", b""), fenced.delete("/t/t/registry/core/configmaps/default/x")):
                with pytest.raises(Conflict):
                    await late
            assert await c.store.get("/k") is None and (await leader.get(CONFIGMAPS, "default", "x")) == seen
            # who was cut off knows: it has no claim any more; who leads now may write
            assert not (await FencedStore(c.store, partial(old.fence, WORK)).txn((), (Put("/k", b""),))).succeeded
            new = c.processes[int(c.working[0][1])]
            assert (await FencedStore(c.store, partial(new.fence, WORK)).txn((), (Put("/k", b""),))).succeeded
            with pytest.raises(Misuse):
                await fenced.txn((), (), (Put("/k", b""),))

    virtual_time.run(scenario())


def test_controllers_of_a_process_among_others_write_with_its_fence(tmp_path: Path) -> None:
    config = CloudConfig(
        paths=CloudPaths(state=tmp_path / "state", run=tmp_path / "run"),
        store=StoreConfig(etcd=Etcd(endpoints=("127.0.0.1:1",))),
        tun=CloudTunConfig(enable=False),
    )

    async def scenario() -> None:
        store = MemoryStore()
        core = Cloud_(config, store)
        assert isinstance(core.membership, Process)
        claimed = core.membership._claims
        await core.registries.of(TenantId("t")).bootstrap()
        for work in ("edgecontroller", "controllers"):
            api = core.registries.fenced(work)(TenantId("t"))
            assert api.served is core.registries.of(TenantId("t")).served, "custom resources are those of the tenant"
            with pytest.raises(Conflict):
                await api.create(CONFIGMAPS, "default", {"metadata": {"name": work}})
            claimed[f"{work}/t"] = await store.put(f"{LEADERS}{work}/t", core.membership.id.encode())
            await api.create(CONFIGMAPS, "default", {"metadata": {"name": work}})

    asyncio.run(scenario())
