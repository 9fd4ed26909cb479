"""The cloud's publishing module listens and serves."""

from __future__ import annotations

import asyncio
import json

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import NotFound
from kubeedge.kit.http1 import Connection
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge_cloud.publishing.module import Publishing


def test_an_unauthenticated_peer_gets_an_answer_and_the_module_ends_cleanly() -> None:
    asked: list[tuple[str, str, int]] = []

    async def connect(tenant: TenantId, node: NodeName, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        asked.append((tenant, node, port))
        raise NotFound("no such node")

    async def run() -> None:
        module = Publishing(address="127.0.0.1", port=0, connect=connect)
        for _ in range(2):
            ready = asyncio.Event()
            running = asyncio.create_task(module.run(ready))
            await asyncio.wait_for(ready.wait(), 60)
            assert module.address is not None
            client = Connection(*await asyncio.open_connection(*module.address))
            answer = await client.request("GET", "/t1/n1/shop/")
            assert answer.status == 404
            assert json.loads(await answer.read(1000)) == {
                "error": "there is no node n1 of tenant t1",
                "tenant": "t1",
                "node": "n1",
                "service": "shop",
            }
            await client.close()
            await cancel_and_wait(running)
            assert module.address is None

    asyncio.run(run())
    assert asked == [("t1", "n1", 80)] * 2
