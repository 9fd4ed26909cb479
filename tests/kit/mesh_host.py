"""The module "mesh" of one node alone, for tests: no agent, no cloud; the store's keys come on stdin, one JSON object a line.

python -m tests.kit.mesh_host '{"node": "edge1", "pods": "10.244.1.0/24", "store": PATH}'

{"put": {KEY: VALUE, ...}, "delete": [KEY, ...]}     answered with the revision when it is in the store
With "bare": true there is a store and no mesh, so that what the mesh costs can be told; with "published": true what every agent has of HTTP is loaded, and
with "gateways": ADDRESS the module "gateways" runs, too.

{"ask": "services" | "endpoints" | "dns" | "problem" | "counts" | "policy_problem" | "policy_counts"}
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import sys
from pathlib import Path
from typing import Any

from kubeedge.store.model import Delete, Put, Store
from kubeedge.store.sqlite import open_sqlite


def make(store: Store, config: dict[str, Any]) -> Any:
    """The module, as the agent has it."""
    from kubeedge.mesh.module import Mesh, MeshSettings

    networks = [ipaddress.ip_network(n) for n in config["pods"].split(",")]
    settings = MeshSettings(
        node=config["node"], pods=networks, reserved=[ipaddress.ip_network("10.244.0.0/16")], dns="169.254.20.10",
        domain="cluster.local", resolvers=config.get("resolvers", ()), bridge=config.get("bridge", ""),
        lan=config.get("lan", ()),
    )  # fmt: skip
    return Mesh(store, settings, lambda: bool(config.get("alone")))


async def run(store: Store, mesh: Any, config: dict[str, Any], ready: asyncio.Event) -> None:
    """The modules that are wanted, until they are cancelled."""
    if mesh is None:
        await asyncio.Event().wait()
    if not (address := config.get("gateways")):
        await mesh.run(ready)
        return
    from kubeedge.api.names import TenantId
    from kubeedge.gateway.module import NodeGateways, NodeGatewaySettings
    from kubeedge.mesh.backends import ServiceBackends

    settings = NodeGatewaySettings(tenant=TenantId("default"), address=address)
    gateways = NodeGateways(store, settings, ServiceBackends(lambda: mesh.table, lambda: False).in_turn)
    async with asyncio.TaskGroup() as group:
        group.create_task(mesh.run(asyncio.Event()))
        group.create_task(gateways.run(ready))


async def main(config: dict[str, Any]) -> None:
    store = await open_sqlite(Path(config["store"]))
    if config.get("published"):
        import kubeedge.publishing.module  # noqa: F401
    mesh = None if config.get("bare") else make(store, config)
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = asyncio.create_task(run(store, mesh, config, ready))
    if mesh is not None:
        await asyncio.wait([asyncio.create_task(ready.wait()), running], return_when=asyncio.FIRST_COMPLETED)
    print("ready", flush=True)
    while line := await reader.readline():
        order = json.loads(line)
        answer: Any = None
        if mesh is not None and (asked := order.get("ask")):
            plain = {"problem": mesh.problem, "counts": {**mesh.proxy.counts, "transactions": mesh.proxy.transactions}}
            plain["counts"] |= {"restored": mesh.proxy.restored, "forgotten": mesh.proxy.forgotten}
            plain["policy_problem"] = mesh.policy_problem
            plain["policy_counts"] = {**mesh.enforcer.counts, "restored": mesh.enforcer.restored}
            ways = {"services": mesh.services, "endpoints": mesh.endpoints, "dns": mesh.names}
            answer = plain[asked] if asked in plain else ways[asked]()
        else:
            ops = [Put(key, json.dumps(value).encode()) for key, value in order.get("put", {}).items()]
            done = await store.txn((), [*ops, *(Delete(key) for key in order.get("delete", ()))])
            answer = done.revision
        print(json.dumps(answer), flush=True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
