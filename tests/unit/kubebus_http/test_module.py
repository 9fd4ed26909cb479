"""The edge's module: it starts, serves both ways, stops with everything it began, and starts again."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.http1 import Connection, close_writer
from kubeedge.kit.tasks import TaskSet, cancel_and_wait
from kubeedge.kubebus.http.listener import StreamHandler
from kubeedge.kubebus.http.url import ServiceName, Target
from kubeedge.publishing.module import EdgePublishing
from tests.unit.kubebus_http.world import Streams, get, until


class Loopback:
    """An L4 endpoint whose only peer is itself."""

    def __init__(self, tasks: TaskSet) -> None:
        self._tasks = tasks
        self._listeners: dict[int, StreamHandler] = {}

    async def listen(self, port: int, handler: StreamHandler) -> None:
        assert port not in self._listeners, "L4 has one listener a port"
        self._listeners[port] = handler

    async def connect(self, tenant: TenantId, node: NodeName, port: int) -> Streams:
        if node != "n1":
            raise NotFound(f"there is no {node}")
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)

        async def serve() -> None:
            try:
                await self._listeners[port](reader, writer)
            finally:
                await close_writer(writer)

        self._tasks.start(serve(), "l4 listener")
        return await asyncio.open_connection(sock=ours)


async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = await reader.readuntil(b"\r\n\r\n")
    if b"GET /quick" in request:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    elif b"GET /events" in request:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    elif b"upgrade: chat" in request.lower():
        writer.write(b"HTTP/1.1 101 Switching\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n")
    await reader.read()
    await close_writer(writer)


def test_it_stops_in_the_middle_of_everything_and_starts_again() -> None:
    async def run() -> None:
        async with TaskSet("l4") as tasks, await asyncio.start_server(quiet, "127.0.0.1", 0) as service:
            l4 = Loopback(tasks)
            port = service.sockets[0].getsockname()[1]

            async def resolve(name: ServiceName) -> Target | None:
                return Target("127.0.0.1", port) if name == "web" else None

            module = EdgePublishing(
                tenant=TenantId("t1"),
                listen_on="127.0.0.1:10080",
                connect=l4.connect,
                listen=l4.listen,
                resolve=resolve,
            )
            for _ in range(2):
                clients = []
                running, ready = asyncio.create_task(module.run(asyncio.Event())), asyncio.Event()
                await cancel_and_wait(running)  # before it was ready
                running = asyncio.create_task(module.run(ready))
                await asyncio.wait_for(ready.wait(), 60)
                assert module.address is not None
                for wire in (
                    get("/t1/n1/web/quick", close=False),
                    get("/t1/n1/web/events"),
                    get("/t1/n1/web/never"),
                    get("/t1/n1/web/up", "Content-Length: 99", method="POST") + b"begin",
                    get("/t1/n1/web/chat", "Connection: upgrade", "Upgrade: chat", close=False),
                    b"GET /half",
                ):
                    clients.append(await asyncio.open_connection(*module.address))
                    clients[-1][1].write(wire)
                for waiting in (0, 1, 4):  # the others never hear anything
                    assert await asyncio.wait_for(clients[waiting][0].readline(), 60)
                await until(lambda: len(tasks) >= 5)
                await asyncio.wait_for(cancel_and_wait(running), 60)
                await until(lambda: len(tasks) == 0)
                for reader, writer in clients:
                    try:
                        await asyncio.wait_for(reader.read(), 60)
                    except ConnectionResetError:
                        pass
                    await close_writer(writer)
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", 10080)

    asyncio.run(run())


def test_the_server_proxy_works_without_a_client_proxy() -> None:
    async def run() -> None:
        async with TaskSet("l4") as tasks:
            l4 = Loopback(tasks)

            async def resolve(name: ServiceName) -> Target | None:
                return None

            module = EdgePublishing(
                tenant=TenantId("t1"), listen_on="", connect=l4.connect, listen=l4.listen, resolve=resolve
            )
            ready = asyncio.Event()
            running = asyncio.create_task(module.run(ready))
            await asyncio.wait_for(ready.wait(), 60)
            client = Connection(*await l4.connect(TenantId("t1"), NodeName("n1"), 80))
            assert (await client.request("GET", "/web/")).status == 404
            await client.close()
            await cancel_and_wait(running)
            stopped = Connection(*await l4.connect(TenantId("t1"), NodeName("n1"), 80))  # L4 still has our handler
            with pytest.raises(OSError):
                await asyncio.wait_for(stopped.request("GET", "/web/"), 60)
            await stopped.close()

    asyncio.run(run())


def test_a_wrong_address_is_named_with_its_key() -> None:
    async def run() -> None:
        async with TaskSet("l4") as tasks:
            l4 = Loopback(tasks)

            async def resolve(name: ServiceName) -> Target | None:
                return None

            module = EdgePublishing(
                tenant=TenantId("t1"), listen_on="10080", connect=l4.connect, listen=l4.listen, resolve=resolve
            )
            with pytest.raises(Invalid, match=r"modules.publishing.listen: '10080'"):
                await module.run(asyncio.Event())

    asyncio.run(run())
