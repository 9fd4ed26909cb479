"""Small writes of one tenant without end, and another tenant's: counted by turns, not by time, over a real store."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.apiserver.write_turns import ALONE, BESIDE, RECENT, WriteTurns
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request
from kubeedge.pki.identity import UserIdentity
from kubeedge.store.sqlite import open_sqlite

A, B = TenantId("a"), TenantId("b")
PODS = "/api/v1/namespaces/default/pods"


def who(request: Request) -> UserIdentity:
    return UserIdentity(TenantId(request.header("x-tenant") or ""), "u")


async def no_node(tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    raise Unavailable("no link")


async def write(server: ApiServer, tenant: TenantId, method: str, target: str, body: Any) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield json.dumps(body).encode()

    media = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = [("content-type", media), ("x-tenant", tenant)]
    answer = await server.handle(Request(method, target, headers, lambda name: None, stream()))
    assert answer.status < 300, answer


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}}


def test_a_flood_of_small_writes_of_one_tenant_does_not_stand_before_anothers(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(tmp_path / "store.db")
        server = ApiServer({t: Registry(store, t) for t in (A, B)}.get, no_node, authenticate=who)
        done = 0
        for n in range(ALONE):
            await write(server, A, "POST", PODS, pod(f"p{n}"))
        await write(server, B, "POST", PODS, pod("p"))

        async def attack(n: int) -> None:
            nonlocal done
            while True:
                await write(server, A, "PATCH", f"{PODS}/p{n}/status", {"status": {"message": str(done)}})
                done += 1

        attackers = [asyncio.create_task(attack(n)) for n in range(ALONE)]
        before: list[int] = []
        for n in range(21):
            at = done
            await write(server, B, "PATCH", f"{PODS}/p/status", {"status": {"message": str(n)}})
            before.append(done - at)
        # at the first one nobody knew of us; it was 62 before each
        assert max(before[1:]) <= 4 * BESIDE, before
        for task in attackers:
            task.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)
        await store.close()

    asyncio.run(scenario())


def test_a_tenant_alone_has_all_and_beside_another_few() -> None:
    async def scenario() -> None:
        now = 0.0
        turns = WriteTurns(lambda: now)
        for _ in range(ALONE):
            await turns.take(A)
        waiting = [asyncio.create_task(turns.take(A)) for _ in range(3)]
        await turns.take(B)  # at once
        for _ in range(ALONE - BESIDE):
            turns.give(A)
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        turns.give(A)
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True, False, False]
        turns.give(B)
        now = RECENT  # nobody else writes any more
        turns.give(A)
        await asyncio.sleep(0)
        assert all(task.done() for task in waiting)

    asyncio.run(scenario())


def test_requests_that_are_given_up_at_any_moment_keep_no_turn() -> None:
    async def scenario(rng: random.Random) -> None:
        turns, running, most = WriteTurns(lambda: 0.0), Counter[TenantId](), 0

        async def one(tenant: TenantId) -> None:
            nonlocal most
            with turns.of(tenant) as turn:
                await turn.take()
                running[tenant] += 1
                most = max(most, running[tenant])
                try:
                    for _ in range(rng.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    running[tenant] -= 1

        tasks = []
        for _ in range(600):
            tasks.append(asyncio.create_task(one(rng.choice([A, A, A, B]))))
            if rng.random() < 0.3:
                rng.choice(tasks).cancel()
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= ALONE and not any(running.values())
        for tenant in (A, B):
            await asyncio.wait_for(asyncio.gather(*(turns.take(tenant) for _ in range(BESIDE))), 60)

    for seed in range(20):
        print("seed", seed)
        asyncio.run(scenario(random.Random(seed)))
