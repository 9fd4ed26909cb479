"""The listener: TLS on loopback, unauthenticated clients, slow readers, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import CONFIGMAPS
from kubeedge.apiserver.module import ApiServerModule
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import PeerError, Unavailable
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.http1 import ClientResponse, Connection
from kubeedge.store.memory import MemoryStore
from tests.kubectl.authority import Authority

TENANT = TenantId("a")
DEFAULT = "/api/v1/namespaces/default/configmaps"


class Running:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.authority = Authority(folder)
        certificate, key = self.authority.issue("server", x509.DNSName("localhost"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(self.authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        self.store = MemoryStore()
        self.registry = Registry(self.store, TENANT)
        self.server = ApiServer({TENANT: self.registry}.get, self._no_node)
        self.module = ApiServerModule(self.server, context, address="127.0.0.1", port=0, **options)

    async def _no_node(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise Unavailable("no nodes here")

    def client_context(self, *, certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if certificate:
            uri = x509.UniformResourceIdentifier(f"spiffe://kubeedge/tenant/{TENANT}/user/admin")
            context.load_cert_chain(*self.authority.issue("client", uri))
        return context

    @contextlib.asynccontextmanager
    async def streams(
        self, context: ssl.SSLContext | None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        host = "localhost" if context else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.module.bound_port, ssl=context, server_hostname=host
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def request(self, method: str, target: str, body: bytes = b"") -> AsyncIterator[ClientResponse]:
        async with self.streams(self.client_context()) as streams:
            yield await Connection(*streams).request(method, target, body=body)


def serving(folder: Path, test: Callable[[Running], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def inside() -> None:
        running = Running(folder, **options)
        ready = asyncio.Event()
        task = asyncio.create_task(running.module.run(ready))
        try:
            await asyncio.wait_for(ready.wait(), 60)
            await asyncio.wait_for(test(running), 30)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await running.store.close()

    asyncio.run(inside())


def test_a_user_with_a_certificate_is_served(tmp_path: Path) -> None:
    async def run(running: Running) -> None:
        async with running.request("POST", DEFAULT, b'{"metadata":{"name":"c"}}') as answer:
            assert answer.status == 201
        assert (await running.registry.get(CONFIGMAPS, "default", "c"))["kind"] == "ConfigMap"

    serving(tmp_path, run)


@pytest.mark.parametrize(
    "garbage", [b"", b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70000]
)
def test_garbage_before_tls_ends_that_connection_only(tmp_path: Path, garbage: bytes) -> None:
    async def run(running: Running) -> None:
        async with running.streams(None) as (reader, writer):
            writer.write(garbage)
            if writer.can_write_eof():
                writer.write_eof()
            with contextlib.suppress(OSError):
                await asyncio.wait_for(reader.read(), 60)
        async with running.request("GET", "/version") as answer:
            assert answer.status == 200

    serving(tmp_path, run)


def test_a_peer_without_a_certificate_is_refused(tmp_path: Path) -> None:
    async def run(running: Running) -> None:
        with pytest.raises(OSError):  # TLS 1.3 says so after the handshake
            async with running.streams(running.client_context(certificate=False)) as (reader, writer):
                writer.write(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
                data = await asyncio.wait_for(reader.read(), 60)
                assert not data
                raise ConnectionResetError

    serving(tmp_path, run)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTQ/1.1\r\n\r\n",
        b"POST /api HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"G" * 70000,
    ],
)
def test_garbage_after_tls_ends_that_connection_only(tmp_path: Path, garbage: bytes) -> None:
    async def run(running: Running) -> None:
        async with running.streams(running.client_context()) as (reader, writer):
            writer.write(garbage)
            with contextlib.suppress(OSError):
                data = await asyncio.wait_for(reader.read(65536), 60)
                assert not data or data.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), data
        async with running.request("GET", "/version") as answer:
            assert answer.status == 200

    serving(tmp_path, run)


def test_an_identity_with_too_many_connections_hears_of_it(tmp_path: Path) -> None:
    async def run(running: Running) -> None:
        context = running.client_context()
        async with contextlib.AsyncExitStack() as stack:
            held = [await stack.enter_async_context(running.streams(context)) for _ in range(3)]
            answers = [await Connection(*streams).request("GET", "/version") for streams in held]
            assert [answer.status for answer in answers] == [200, 200, 429]
            status = json.loads(await answers[2].read(10_000))
            assert status["kind"] == "Status" and status["reason"] == "TooManyRequests"
            assert dict(answers[2].headers)["retry-after"] == "1"
            held[0][1].transport.abort()
            async with asyncio.timeout(60):
                while len(running.module.acceptor.limiter.tenants) > 1:
                    await asyncio.sleep(0.01)
            async with running.request("GET", "/version") as answer:
                assert answer.status == 200

    limits = ConnectionLimits(per_identity=2)
    serving(tmp_path, run, connections=limits)


def test_a_node_gets_a_refusal_and_four_connections(tmp_path: Path) -> None:
    async def run(running: Running) -> None:
        context = ssl.create_default_context(cafile=str(running.authority.certificate))
        uri = x509.UniformResourceIdentifier(f"spiffe://kubeedge/tenant/{TENANT}/node/n1")
        context.load_cert_chain(*running.authority.issue("node", uri))
        async with contextlib.AsyncExitStack() as stack:
            held = [await stack.enter_async_context(running.streams(context)) for _ in range(6)]
            answers = [await Connection(*streams).request("GET", "/api/v1/pods") for streams in held]
            assert [answer.status for answer in answers] == [403] * 4 + [429] * 2

    serving(tmp_path, run)


def test_a_watch_ends_at_the_server_when_its_client_goes_away(tmp_path: Path) -> None:
    async def run(running: Running) -> None:
        async with running.request("GET", f"{DEFAULT}?watch=1") as answer:
            assert answer.status == 200
            assert running.server.open_watches(TENANT) == 1
        async with asyncio.timeout(60):
            while running.server.open_watches(TENANT):
                await asyncio.sleep(0.01)

    serving(tmp_path, run)


def test_a_reader_that_stops_reading_stops_its_own_watch_only(tmp_path: Path) -> None:
    """3,000 changes of 20 kB (60 MB) happen while the client does not read: what is in flight stays bounded."""

    async def run(running: Running) -> None:
        pulled = 0
        watch = running.registry.watch

        async def counting(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            nonlocal pulled
            async with contextlib.aclosing(watch(*args, **kwargs)) as events:
                async for event in events:
                    pulled += 1
                    yield event

        running.registry.watch = counting  # type: ignore[method-assign, assignment]
        await running.registry.create(CONFIGMAPS, "default", {"metadata": {"name": "c"}})
        async with running.request("GET", f"{DEFAULT}?watch=1&resourceVersion={running.store.revision}") as answer:
            for number in range(3000):
                data = {"k": f"{number:08}" + "x" * 20_000}
                await running.registry.merge_patch(CONFIGMAPS, "default", "c", {"data": data})
            assert pulled < 1500, f"{pulled} events were taken out of the store for a client that reads nothing"
            seen = -1
            rest = b""
            async for chunk in answer.stream():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    number = int(json.loads(line)["object"]["data"]["k"][:8])
                    assert number == seen + 1, "nothing is lost and nothing comes twice"
                    seen = number
                if seen == 2999:
                    break

    serving(tmp_path, run)


def test_a_stopped_module_lets_go_of_its_clients_and_starts_again(tmp_path: Path) -> None:
    async def run(running: Running) -> None:
        second = Running(tmp_path)
        for _ in range(2):
            ready = asyncio.Event()
            task = asyncio.create_task(second.module.run(ready))
            await asyncio.wait_for(ready.wait(), 60)
            async with second.request("GET", f"{DEFAULT}?watch=1") as answer:
                task.cancel()
                await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 60)
                with contextlib.suppress(OSError, PeerError):  # cut off in the middle of a stream
                    assert [chunk async for chunk in answer.stream()] == []
            assert second.server.open_watches(TENANT) == 0
        await second.store.close()

    serving(tmp_path, run)
