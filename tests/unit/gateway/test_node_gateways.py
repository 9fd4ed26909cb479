"""The Gateways of one node: its store in memory, real sockets on both sides, and clients that mean no good."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.gateway import codec, reports
from kubeedge.gateway.keypairs import MAX_KEY, context_of_row
from kubeedge.gateway.model import (
    CertificateRef,
    CompiledRoutes,
    ListenPoint,
    PodEndpoint,
    RouteBackend,
    RouteEntry,
    RouteMatch,
    RouteRule,
    StreamEntry,
)
from kubeedge.gateway.module import NodeGateways, NodeGatewaySettings
from kubeedge.gateway.observe import families
from kubeedge.kit.http1 import Connection, Request, Response, serve_connection
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.store.memory import MemoryStore
from tests.unit.gateway.objects import tls_secret

T = TenantId("acme")
WHERE = "127.0.0.1"
TABLE, REPORT = f"{keys.DESIRED}{codec.ROW}", f"{keys.REPORTED}{codec.ROW}"
RULE = RouteRule("HTTPRoute default/shop", (RouteBackend("default", "web", "http"),))


def free_port() -> int:
    with socket.socket() as found:
        found.bind((WHERE, 0))
        return int(found.getsockname()[1])


class Node:
    """`web` is a pod that answers with what it was asked for."""

    def __init__(self, limits: ProxyLimits) -> None:
        self.store = MemoryStore()
        self.pods: list[PodEndpoint] = []
        settings = NodeGatewaySettings(tenant=T, address=WHERE, addresses=["127.0.0.2"], limits=limits)
        self.gateways = NodeGateways(
            self.store, settings, lambda *of: self.pods if of == ("default", "web", "http") else []
        )

    async def serve(self, routes: CompiledRoutes) -> None:
        await self.store.put(TABLE, codec.encoded(routes))

    async def opens(self, port: int, at: str = WHERE) -> None:
        async def is_open() -> bool:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(at, port)
                writer.close()
                return True
            return False

        await until(is_open)


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(90):
        while not (found := holds()) or (asyncio.iscoroutine(found) and not await found):
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(limits: ProxyLimits | None = None, row: bytes | None = None) -> AsyncIterator[Node]:
    node = Node(limits or ProxyLimits(concurrent=8, connections=8, per_client=8))

    async def answer(request: Request) -> Response:
        return Response(200, [], json.dumps({"target": request.target, "headers": dict(request.headers)}).encode())

    pod = await asyncio.start_server(lambda r, w: serve_connection(r, w, answer), WHERE, 0)
    node.pods = [PodEndpoint(NodeName("edge1"), WHERE, int(pod.sockets[0].getsockname()[1]))]
    if row is not None:
        await node.store.put(TABLE, row)
    ready = asyncio.Event()
    task = asyncio.create_task(node.gateways.run(ready))
    try:
        await asyncio.wait_for(ready.wait(), 60)
        yield node
    finally:
        await cancel_and_wait(task)
        pod.close()


async def ask(
    port: int, path: str = "/", tls: ssl.SSLContext | None = None, host: str = "shop.example"
) -> tuple[int, Any]:
    opened = await asyncio.open_connection(WHERE, port, ssl=tls, server_hostname=host if tls else None)
    connection = Connection(*opened)
    try:
        found = await connection.request("GET", path, [("host", host)])
        return found.status, json.loads(await found.read(1 << 20))
    finally:
        connection.abort()


def table(port: int, *, path: str = "", at: str = "") -> CompiledRoutes:
    point = ListenPoint(at, port)
    entry = RouteEntry("shop.example", "http", RouteMatch(path), RULE, at=point)
    return CompiledRoutes(T, entries=(entry,), points={point: "HTTP"}, listeners={(point, "*"): "http"})


def test_routes_of_the_store_are_served_and_follow_it() -> None:
    async def scenario() -> None:
        port = free_port()
        async with running(row=codec.encoded(table(port, path="/a"))) as node:
            await node.opens(port)
            status, seen = await ask(port, "/a/b?c")
            assert (status, seen["target"], seen["headers"]["x-forwarded-for"]) == (200, "/a/b?c", WHERE)
            assert (await ask(port, "/b"))[0] == 404
            assert (await ask(port, "/a", host="other.example"))[0] == 404
            [told] = node.gateways.trace("default", "web")
            assert told["at"] == f"{WHERE}:{port}" and told["takes"] == "http://shop.example/a/*" and "but" not in told
            metrics = {f.name: f for f in families(node.gateways)}
            assert "4xx" in str(metrics["kubeedge_gateway_requests_total"]) and len(metrics) == 5
            await node.serve(table(port))
            await until(lambda: _is(ask(port, "/b"), 200))
            await node.store.put(TABLE, b"nonsense")  # changes nothing
            await until(lambda: node.gateways.problem)
            assert (await ask(port, "/b"))[0] == 200
            node.pods = []
            assert (await ask(port, "/b"))[0] == 503
            await node.store.delete(TABLE)
            await until(lambda: not node.gateways.points)

    async def _is(asked: Any, wanted: int) -> bool:
        return (await asked)[0] == wanted

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_told_and_opened_when_it_is_free() -> None:
    async def scenario() -> None:
        port = free_port()
        async with running() as node:

            async def report() -> reports.ListenReport:
                row = await node.store.get(REPORT)
                return reports.ListenReport() if row is None else reports.decoded(row.value)

            async def is_told() -> bool:
                return ListenPoint("", port) in (await report()).failed

            with socket.socket() as other:
                other.bind((WHERE, port))
                other.listen()
                await node.serve(table(port))
                await until(is_told)
                assert (await report()).address == WHERE and list((await report()).addresses) == ["127.0.0.2"]
                assert "in use" in node.gateways.trace("default", "web")[0]["but"]
            await node.opens(port)
            await until(lambda: not node.gateways.failed)

            async def is_well() -> bool:
                return not (await report()).failed

            await until(is_well)

    asyncio.run(scenario())


def test_an_address_that_the_node_was_not_given_is_not_opened() -> None:
    async def scenario() -> None:
        port, own = free_port(), free_port()
        both = table(port, at="127.0.0.3")
        both.points[ListenPoint("127.0.0.2", own)] = "HTTP"  # type: ignore[index]
        async with running(row=codec.encoded(both)) as node:
            await node.opens(own, "127.0.0.2")
            assert set(node.gateways.points) == {ListenPoint("127.0.0.2", own)}
            assert "not got that address" in node.gateways.trace("default", "web")[0]["but"]

    asyncio.run(scenario())


def tls_table(port: int) -> CompiledRoutes:
    point = ListenPoint("", port)
    web = RouteEntry("shop.example", "https", RouteMatch(), RULE, at=point)
    return CompiledRoutes(
        T,
        entries=(web,),
        certificates=(CertificateRef("shop.example", "default", "shop", point),),
        points={point: "TLS"},
        listeners={(point, "shop.example"): "https"},
    )


def test_certificates_come_from_secrets_of_the_store_as_they_are_now() -> None:
    async def scenario() -> None:
        port, key = free_port(), keys.desired("secrets", "default", "shop")
        async with running(row=codec.encoded(tls_table(port))) as node:
            await node.opens(port)
            assert node.gateways.faulty == {"default/shop": "this node has not got it"}
            first, second = tls_secret("shop", "shop.example"), tls_secret("shop", "shop.example")
            for secret, authority in (first, second):
                await node.store.put(key, json.dumps(secret).encode())
                trusting = ssl.create_default_context(cadata=authority.decode())

                async def answers(trusting: ssl.SSLContext = trusting) -> bool:
                    with contextlib.suppress(OSError):
                        return (await ask(port, tls=trusting))[0] == 200
                    return False

                await until(answers)
            with pytest.raises((ssl.SSLError, OSError)):
                await ask(port, tls=ssl.create_default_context(cadata=first[1].decode()))
            await node.store.put(key, b'{"data": {}}')
            await until(lambda: node.gateways.faulty)
            with pytest.raises((ssl.SSLError, OSError)):
                await ask(port, tls=trusting)

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["tls.crt", "tls.key"])
def test_a_secret_that_is_no_certificate_is_refused_before_openssl_reads_it(what: str, tmp_path: Path) -> None:
    secret, _ = tls_secret("shop", "shop.example")
    assert context_of_row(json.dumps(secret).encode())
    for bad in (None, 5, "?", "AAAA", "A" * (4 * 128 * 1024)):
        wrong = {**secret, "data": {**secret["data"], what: bad}}
        with pytest.raises(ValueError):
            context_of_row(json.dumps(wrong).encode())
    for row in (b"", b"[]", b'{"data": 1}', b"null"):
        with pytest.raises(ValueError):
            context_of_row(row)


def test_a_key_with_a_password_or_a_costly_one_is_refused() -> None:
    secret, _ = tls_secret("shop", "shop.example")

    def row(text: bytes) -> bytes:
        return json.dumps({**secret, "data": {**secret["data"], "tls.key": base64.b64encode(text).decode()}}).encode()

    with pytest.raises(ValueError, match="password"):
        context_of_row(row(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"))
    with pytest.raises(ValueError, match="no tls.key"):
        context_of_row(row(b"x" * (MAX_KEY + 64)))


def test_a_key_beside_the_certificates_is_not_read() -> None:
    secret, _ = tls_secret("shop", "shop.example")
    chain, key = (base64.b64decode(secret["data"][name]) for name in ("tls.crt", "tls.key"))
    # OpenSSL would derive a key of its password, in as many steps as it says: hours on the loop of the agent
    form = ["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "3000000", "-passout", "pass:"]
    costly = subprocess.run(form, input=key, capture_output=True, check=True).stdout
    assert b"ENCRYPTED" in costly

    def row(chain: bytes, key: bytes) -> bytes:
        data = {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}
        return json.dumps({**secret, "data": data}).encode()

    begun = time.process_time()
    for text in (costly + chain, chain + costly, chain.replace(b"-----END", costly + b"-----END", 1)):
        with contextlib.suppress(ValueError):
            context_of_row(row(text, key))
    for two in (key + key, key + costly):
        with pytest.raises(ValueError):
            context_of_row(row(chain, two))
    assert time.process_time() - begun < 0.5
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert context_of_row(row(b"# shop\r\n" + chain.replace(b"\n", b"\r\n"), parameters + key))


def test_connections_of_tcp_reach_a_pod_and_count_as_requests() -> None:
    async def scenario() -> None:
        port = free_port()
        point = ListenPoint("", port)
        routes = CompiledRoutes(T, points={point: "TCP"}, streams=(StreamEntry(point, "", RULE),))
        async with running(ProxyLimits(concurrent=1, connections=8, per_client=8), codec.encoded(routes)) as node:
            kept: list[asyncio.StreamWriter] = []

            async def answers() -> bool:
                with contextlib.suppress(OSError):  # it opens, or the one before has not ended yet
                    reader, writer = await asyncio.open_connection(WHERE, port)
                    kept.append(writer)
                    writer.write(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
                    return (await reader.readline()).startswith(b"HTTP/1.1 200")
                return False

            await until(answers)
            other, _ = await asyncio.open_connection(WHERE, port)
            with contextlib.suppress(ConnectionError):
                assert await other.read() == b"", "one at a time"
            assert node.gateways.slots.in_progress() == 1
            for writer in kept:
                writer.close()
            await until(lambda: not node.gateways.slots.in_progress())

    asyncio.run(scenario())


def test_many_slow_clients_of_one_machine_keep_nobody_else_out() -> None:
    """Each sends half a head and waits."""

    async def scenario() -> None:
        port = free_port()
        limits = ProxyLimits(concurrent=8, connections=8, per_client=4)
        async with running(limits, codec.encoded(table(port))) as node:
            await node.opens(port)
            slow = []
            for _ in range(12):
                reader, writer = await asyncio.open_connection(WHERE, port, local_addr=("127.0.0.7", 0))
                with contextlib.suppress(ConnectionError):
                    writer.write(b"GET / HTTP/1.1\r\nhost: shop.exa")
                    await writer.drain()
                slow.append((reader, writer))
            await until(lambda: _answered(port))
            for _, writer in slow:
                writer.close()

    async def _answered(port: int) -> bool:
        return (await ask(port))[0] == 200

    asyncio.run(scenario())
