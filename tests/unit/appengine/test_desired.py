"""What a node should run, followed in its store, also past a compaction."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from kubeedge.appengine.desired import DesiredObjects
from kubeedge.kit.reflector.driver import reflect
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Delete, Put
from tests.kit import virtual_time
from tests.kit.forgetful_store import ForgetfulStore

POD, OTHER, SECRET = "/desired/pods/default/a", "/desired/pods/default/b", "/desired/secrets/default/s"


def test_each_change_is_taken_once_and_a_pod_after_what_it_refers_to() -> None:
    async def scenario() -> None:
        store = ForgetfulStore(MemoryStore())
        await store.txn((), [Put(POD, b"1"), Put(OTHER, b"1"), Put(SECRET, b"1")])
        taken: list[tuple[str, bytes | None]] = []

        async def take(key: str, value: bytes | None) -> None:
            taken.append((key, value))

        async def settle() -> list[tuple[str, bytes | None]]:
            await asyncio.sleep(5)
            found = taken[:]
            taken.clear()
            return found

        async with aclosing(reflect(DesiredObjects(store, take))) as steps:
            await anext(steps)
            assert await settle() == [(SECRET, b"1"), (POD, b"1"), (OTHER, b"1")]

            async def follow() -> None:
                async for _ in steps:
                    pass

            following = asyncio.create_task(follow())
            await asyncio.sleep(0)
            await store.put(POD, b"2")
            assert await settle() == [(POD, b"2")]
            store.forgets = True
            await store.txn((), [Put(POD, b"3"), Delete(OTHER), Put(SECRET, b"1")])
            assert await settle() == [(OTHER, None), (POD, b"3")], "the difference, without what is as it was"
            await store.delete(POD)
            assert await settle() == [(POD, None)]
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    virtual_time.run(scenario())
