"""The kubelet ports with real TLS on loopback: tenants with clusters of their own, and one without."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.status import ServerUnavailable
from kubeedge.errors import PeerError
from kubeedge.kit.http1 import Connection, Request, Response, serve_connection, text_response
from kubeedge.kit.streams import StreamPair
from kubeedge.pki import trust
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.kubelets import module
from kubeedge_cloud.kubelets.core import port_of
from kubeedge_cloud.kubelets.key_pairs import KeyPairs
from kubeedge_cloud.kubelets.module import KubeletPorts, KubeletPortsSettings, Signing
from kubeedge_cloud.kubelets.serving import ServingCertificates
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord
from tests.kit.certs import Credentials, TestAuthority
from tests.unit.kubelets import test_serving

#: of this process alone: the numbers of the ports are given
ADDRESS = f"127.{1 + (os.getpid() >> 16) % 126}.{os.getpid() >> 8 & 255}.{1 + os.getpid() % 254}"
ACME, BOLT, PLAIN, NODE = TenantId("acme"), TenantId("bolt"), TenantId("plain"), NodeName("edge1")


class Cluster:
    """Believes one authority, and allows its users what they want; `away`: it answers nothing."""

    def __init__(self, authority: TestAuthority) -> None:
        self.authority = authority
        self.away = False
        self.asked = asyncio.Event()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        self.asked.set()
        if self.away:
            raise ServerUnavailable("away")
        assert (resource.plural, namespace, name) == ("configmaps", "kube-system", "extension-apiserver-authentication")
        return {"data": {"client-ca-file": self.authority.ca.read_text()}}

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        return {"status": {"allowed": obj["spec"].get("user") == "jane", "authenticated": False}}


class World:
    def __init__(self, directory: Path) -> None:
        self.authorities = {name: TestAuthority(directory, f"{name} CA") for name in (ACME, BOLT)}
        self.clusters = {name: Cluster(authority) for name, authority in self.authorities.items()}
        self.server = TestAuthority(directory, "server CA")
        self.serving = self.server.issue("cloud", hosts=[ADDRESS])
        self.tenants = TenantManager(MemoryStore())
        self.signing: Signing | None = None
        self.ports: dict[TenantId, int] = {}
        self.reached: list[TenantId] = []
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for name in (ACME, BOLT, PLAIN):
            tenant = await self.tenants.ensure_tenant(name)
            node = await self.tenants.ensure_node(name, NODE, "1")
            self.ports[name] = port_of(20250, 4, tenant.number, node.number) or 0
            if name in self.clusters:
                await self.tenants.note_object(name, NODE, "uid-in-the-cluster", node.pod_cidrs)
                await self.tenants.use_cluster(name, f"/kubeconfig/of/{name}")
        settings = KubeletPortsSettings(address=ADDRESS, first=20250, nodes=4, clients=("apiserver",))
        served = KubeletPorts(
            settings, self.tenants, self._connect, self._context, self._cluster_of, signing=self.signing
        )
        ready = asyncio.Event()
        running = asyncio.create_task(served.run(ready))
        try:
            async with asyncio.timeout(60):
                await ready.wait()
            yield
        finally:
            for task in (running, *self._tasks):
                task.cancel()
            await asyncio.gather(running, *self._tasks, return_exceptions=True)

    def certificate(self, of: TenantId, name: str) -> Credentials:
        return self.authorities[of].issue(name, file=f"{of}-{name}")

    async def status(self, at: TenantId, certificate: Credentials | None = None) -> int:
        """0: no connection, or it was closed."""
        context = trust.client_context(self.server.ca)
        if certificate is not None:
            context.load_cert_chain(certificate.cert, certificate.key)
        try:
            streams = await asyncio.open_connection(ADDRESS, self.ports[at], ssl=context)
            connection = Connection(*streams)
            answer = await connection.request("GET", "/healthz", [("host", "x")])
            await answer.read(1000)
            await connection.close()
            return answer.status
        except (OSError, EOFError, PeerError):  # ssl.SSLError is an OSError
            return 0

    async def until(self, at: TenantId, certificate: Credentials, status: int) -> None:
        async with asyncio.timeout(60):
            while await self.status(at, certificate) != status:
                await asyncio.sleep(0.02)

    def _context(self, authorities: str, pair: Path | None) -> ssl.SSLContext | None:
        if not authorities:
            return None
        cert, key = (pair, pair) if pair is not None else (self.serving.cert, self.serving.key)
        context = trust.server_context(cert, key, client_ca=self.server.ca)
        context.load_verify_locations(cadata=authorities)
        return context

    async def _cluster_of(self, tenant: TenantId) -> Any:
        return self.clusters.get(tenant)

    async def _connect(self, tenant: TenantId, node: NodeName) -> StreamPair:
        self.reached.append(tenant)
        ours, theirs = socket.socketpair()

        async def answer(request: Request) -> Response:
            return text_response(200, "ok")

        streams = await asyncio.open_connection(sock=theirs)
        self._tasks.append(asyncio.create_task(serve_connection(*streams, answer)))
        return await asyncio.open_connection(sock=ours)


class Exhausted(socket.socket):
    """A listener of a process that has no descriptor left, while `exhausted` is set."""

    exhausted = False
    refused = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if Exhausted.exhausted:
            Exhausted.refused += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_without_descriptors_a_port_pauses_and_serves_who_waited_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = module.listening_socket

    def listen(address: str, port: int, **options: Any) -> socket.socket:
        return Exhausted(fileno=listening(address, port, **options).detach())

    monkeypatch.setattr(module, "listening_socket", listen)

    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running():
            jane = world.certificate(ACME, "jane")
            await world.until(ACME, jane, 200)
            monkeypatch.setattr(Exhausted, "exhausted", True)
            monkeypatch.setattr(Exhausted, "refused", 0)
            asked = asyncio.create_task(world.status(ACME, jane))
            async with asyncio.timeout(60):
                while not Exhausted.refused:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1)
            assert Exhausted.refused <= 10  # it would be thousands
            monkeypatch.setattr(Exhausted, "exhausted", False)
            assert await asked == 200

    asyncio.run(scenario())


def test_who_comes_in_is_said_by_the_cluster_of_the_tenant(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running():
            for name in (ACME, BOLT):
                await world.until(name, world.certificate(name, "apiserver"), 200)
            world.reached.clear()
            # the same names, of another tenant's cluster
            assert await world.status(BOLT, world.certificate(ACME, "apiserver")) == 0
            assert await world.status(BOLT, world.certificate(ACME, "jane")) == 0
            assert await world.status(ACME) == 401
            assert await world.status(ACME, world.certificate(ACME, "joe")) == 403
            assert not world.reached
            assert await world.status(ACME, world.certificate(ACME, "jane")) == 200 and world.reached == [ACME]
            assert await world.status(PLAIN, world.certificate(ACME, "apiserver")) == 0

    asyncio.run(scenario())


def test_a_cluster_that_is_away_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.clusters[ACME].away = True
        async with world.running():
            await world.until(BOLT, world.certificate(BOLT, "apiserver"), 200)
            await world.clusters[ACME].asked.wait()
            assert await world.status(ACME, world.certificate(ACME, "apiserver")) == 0
            world.clusters[ACME].away = False
            await world.until(ACME, world.certificate(ACME, "apiserver"), 200)

    asyncio.run(scenario())


@pytest.mark.parametrize("refresh", [0.05, 600.0])
def test_another_authority_of_the_cluster_is_taken_over(tmp_path: Path, monkeypatch: Any, refresh: float) -> None:
    """In time, or as soon as a certificate of it is shown, and not earlier than that."""
    monkeypatch.setattr(module, "_SOONEST", 0.05)
    monkeypatch.setattr(module, "_REFRESH", refresh)

    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running():
            old = world.certificate(ACME, "apiserver")
            await world.until(ACME, old, 200)
            (new := tmp_path / "new").mkdir()
            world.authorities[ACME] = world.clusters[ACME].authority = TestAuthority(new, "acme CA")
            await world.until(ACME, world.certificate(ACME, "apiserver"), 200)
            assert await world.status(ACME, old) == 0

    asyncio.run(scenario())


def test_authorities_without_end_are_not_taken_over(tmp_path: Path, monkeypatch: Any) -> None:
    """Each node's context has a copy of them, and they are the tenant's to write."""
    monkeypatch.setattr(module, "_SOONEST", 0.05)
    monkeypatch.setattr(module, "_REFRESH", 0.05)

    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running():
            old = world.certificate(ACME, "apiserver")
            await world.until(ACME, old, 200)
            (new := tmp_path / "new").mkdir()
            world.clusters[ACME].authority = many = TestAuthority(new, "acme CA")
            many.ca.write_text(many.ca.read_text() * 200)
            for _ in range(3):  # each look begins behind the end of the one before it
                world.clusters[ACME].asked.clear()
                async with asyncio.timeout(60):
                    await world.clusters[ACME].asked.wait()
            assert await world.status(ACME, many.issue("apiserver")) == 0
            assert await world.status(ACME, old) == 200

    asyncio.run(scenario())


def test_each_tenant_s_ports_show_certificates_of_its_own_cluster(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(test_serving, "wall", time.time)

    async def scenario() -> None:
        world = World(tmp_path)
        signers = {}
        for name in (ACME, BOLT):
            (tmp_path / name).mkdir()
            signers[name] = test_serving.Cluster(tmp_path / name)

        async def leads() -> bool:
            return True

        def signing(tenant: TenantRecord, changed: Any) -> ServingCertificates:
            signer: Any = signers[tenant.name]
            return ServingCertificates(
                KeyPairs(tmp_path / "state" / tenant.name, [ADDRESS]), lambda node: signer.by(f"system:node:{node}"),
                approver=signer.by("cloud"), leads=leads, changed=changed,
            )  # fmt: skip

        def shown(at: TenantId, authority: TestAuthority) -> str:
            context = ssl.create_default_context(cafile=str(authority.ca))
            try:
                with socket.create_connection((ADDRESS, world.ports[at]), 20) as raw:
                    with context.wrap_socket(raw, server_hostname=ADDRESS) as tls:
                        return str(dict(pair[0] for pair in (tls.getpeercert() or {})["subject"])["commonName"])
            except ssl.SSLCertVerificationError:
                return ""
            except OSError as exc:  # it does not listen yet
                return str(exc)

        async def until_shown(at: TenantId, what: str) -> None:
            async with asyncio.timeout(60):
                while await asyncio.to_thread(shown, at, signers[at].authority) != what:
                    await asyncio.sleep(0.02)

        world.signing = signing  # type: ignore[assignment]
        async with world.running():
            for name in (ACME, BOLT):
                await until_shown(name, "system:node:edge1")
            assert await asyncio.to_thread(shown, ACME, signers[BOLT].authority) == ""
            # a tenant that gets another cluster keeps nothing of the old one
            (pair,) = (tmp_path / "state" / ACME).iterdir()
            before = pair.read_bytes()
            await world.tenants.use_cluster(ACME, "/another/kubeconfig")
            async with asyncio.timeout(60):
                while not pair.exists() or pair.read_bytes() == before:
                    await asyncio.sleep(0.02)
            await until_shown(ACME, "system:node:edge1")
            # a pair that is spoilt costs its own port one connection, and no more
            pair.write_text("nothing")
            await until_shown(BOLT, "system:node:edge1")

    asyncio.run(scenario())
