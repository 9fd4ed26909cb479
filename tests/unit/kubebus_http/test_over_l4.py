"""Both proxies over the real L4, on a wire that loses, doubles and reorders segments."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import random

from kubeedge.api.names import NodeName, TenantId
from kubeedge.kit.http1 import Connection, Request, Response, serve_connection, text_response
from kubeedge.kubebus.http.client_proxy import ClientProxy
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.listener import listening
from kubeedge.kubebus.http.server_proxy import ServerProxy
from kubeedge.kubebus.http.url import L4_PORT, ServiceName, Target
from kubeedge.kubebus.l4.driver import L4Endpoint
from tests.reference.l4.endpoint import EndpointCore

SIZE = 1_000_000


class Wire:
    """Between endpoint 0 (the cloud) and endpoint 1 (a node); 2 in 100 segments are lost, as many come late."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.ends: dict[int, L4Endpoint] = {}
        self.cut = False

    def send(self, source: int, destination: int, segment: bytes) -> bool:
        fate = self._chance.random()
        if not self.cut and fate > 0.02:
            delay = 0.005 if fate < 0.04 else 0.0005
            asyncio.get_running_loop().call_later(delay, self.ends[destination].receive, source, segment)
        return True


async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def handler(request: Request) -> Response:
        digest = hashlib.sha1(usedforsecurity=False)
        async for chunk in request.stream():
            digest.update(chunk)
        return text_response(200, f"{request.target} {digest.hexdigest()}")

    await serve_connection(reader, writer, handler)


def test_bodies_arrive_whole_over_a_bad_link_and_a_cut_link_is_said() -> None:
    async def run() -> None:
        wire = Wire(seed=1)
        for number in (0, 1):
            core = EndpointCore(functools.partial(random.Random(number).getrandbits, 32))
            wire.ends[number] = L4Endpoint(lambda to, segment, me=number: wire.send(me, to, segment), core=core)  # type: ignore[misc]
        async with await asyncio.start_server(service, "127.0.0.1", 0) as backend:
            port = backend.sockets[0].getsockname()[1]

            async def resolve(name: ServiceName) -> Target | None:
                return Target("127.0.0.1", port)

            async def connect(
                tenant: TenantId, node: NodeName, port: int
            ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                return await wire.ends[0].connect(1, port, timeout=1.0)

            await wire.ends[1].listen(L4_PORT, ServerProxy(resolve).handle)
            proxy = ClientProxy(connect)
            body = random.Random(2).randbytes(SIZE)
            async with listening("127.0.0.1", 0, proxy.handle, limits=ProxyLimits(connections=8)) as (address, _):
                client = Connection(*await asyncio.open_connection(*address))
                for n in range(2):
                    answer = await client.request("PUT", f"/t1/n1/files/{n}", body=body)
                    text = f"/{n} {hashlib.sha1(body, usedforsecurity=False).hexdigest()}"
                    assert await asyncio.wait_for(answer.read(100), 30) == text.encode()
                wire.cut = True
                answer = await client.request("PUT", "/t1/n1/files/3", body=b"x")
                assert (answer.status, b"n1" in await answer.read(1000)) == (502, True)
                await client.close()
            await proxy.aclose()
            for end in wire.ends.values():
                await end.close()

    asyncio.run(run())
