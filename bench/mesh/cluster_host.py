"""An API server with Services for kube-proxy, in the namespace that it runs in: no TLS, everything in memory.

python -m bench.mesh.cluster_host PORT        {"services": N, "endpoints": M, "first": ADDRESS} or {"slice": NUMBER, "addresses": [...]} a line
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from typing import Any

from bench.mesh import services
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import ENDPOINTSLICES, NODES, SERVICES
from kubeedge.apiserver.module import ApiServerModule
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import Unavailable
from kubeedge.pki.identity import UserIdentity
from kubeedge.store.memory import MemoryStore

TENANT = TenantId("a")


async def no_node(tenant: TenantId, node: NodeName) -> Any:
    raise Unavailable("no node here")


async def fill(registry: Registry, order: dict[str, Any]) -> None:
    addresses = [{"type": "InternalIP", "address": "192.168.9.1"}]
    node = {"metadata": {"name": "edge1"}, "spec": {"podCIDR": "10.244.1.0/24"}, "status": {"addresses": addresses}}
    await registry.create(NODES, "", node)
    for number in range(order["services"]):
        await registry.create(SERVICES, "default", services.service(number))
        listed = services.endpoints(number, order["endpoints"], order["first"] if number == 0 else "")
        await registry.create(ENDPOINTSLICES, "default", services.endpoint_slice(number, listed))


async def orders() -> AsyncGenerator[dict[str, Any], None]:
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


async def main(port: int) -> None:
    registry = Registry(MemoryStore(), TENANT)
    server = ApiServer({TENANT: registry}.get, no_node, authenticate=lambda request: UserIdentity(TENANT, "admin"))
    ready = asyncio.Event()
    task = asyncio.create_task(ApiServerModule(server, None, address="127.0.0.1", port=port).run(ready))
    await ready.wait()
    print("ready", flush=True)
    async for order in orders():
        if "services" in order:
            await fill(registry, order)
        else:
            wanted = services.endpoint_slice(order["slice"], order["addresses"])
            patch = {"endpoints": wanted["endpoints"]}
            await registry.merge_patch(ENDPOINTSLICES, "default", wanted["metadata"]["name"], patch)
        print(json.dumps("done"), flush=True)
    task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
