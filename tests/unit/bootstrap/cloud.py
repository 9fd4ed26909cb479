"""A bootstrap port on loopback, real TLS, memory store: `async with Cloud(tmp_path) as cloud`."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import DEFAULT_TENANT, NodeName, TenantId, TenantNumber
from kubeedge.api.node_registration import NOTHING, NodeRegistration
from kubeedge.errors import Unavailable
from kubeedge.pki import csr, tokens
from kubeedge.pki.bootstrap import Client
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Compare, Op, Store
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.bootstrap.board_record import BoardRecord
from kubeedge_cloud.bootstrap.module import Bootstrap, BootstrapSettings
from kubeedge_cloud.bootstrap.tokens import TokenStore
from kubeedge_cloud.certificates.module import ServerCertificate
from kubeedge_cloud.tenants.model import TenantRecord


class Registry:
    """Numbers for nodes, first come first served."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[str, str], int] = {}
        self.joins: dict[tuple[str, str], str] = {}
        self.registrations: dict[tuple[str, str], NodeRegistration] = {}
        self.full = False

    async def join_of(self, tenant: TenantId, node: NodeName) -> str | None:
        return self.joins.get((tenant, node), "") if (tenant, node) in self.nodes else None

    async def entitle(self, tenant: TenantId, node: NodeName, join: str) -> tuple[Sequence[Compare], Sequence[Op]]:
        self.joins[tenant, node] = join
        return (), ()

    async def register(
        self, tenant: TenantId, node: NodeName, join: str, registration: NodeRegistration = NOTHING
    ) -> dict[str, Any]:
        self.registrations[tenant, node] = registration
        if self.full:
            raise Unavailable(f"tenant {tenant} has no more numbers for nodes")
        number = self.nodes.setdefault((tenant, node), len(self.nodes) + 1)
        return {"number": number, "address": f"100.64.0.{number}/16", "podCIDR": f"10.244.{number}.0/24"}


class Cloud:
    def __init__(
        self, directory: Path, *, authority_clock_off: float = 0.0, registry: Callable[[Store], Any] | None = None
    ) -> None:
        """`registry`: of nodes, in place of one in memory."""
        self.off = 0.0  # seconds that the cloud's clock is ahead
        self.passed = 0.0  # seconds that have passed besides those that did
        self.store = MemoryStore()
        self.registry: Any = registry(self.store) if registry is not None else Registry()
        self.authority = Authority(directory / "ca", clock=lambda: time.time() + authority_clock_off + self.off)
        self.certificate = ServerCertificate(self.authority, directory / "ca", ["127.0.0.1"])
        self.tokens = TokenStore(self.store, self.authority.hash, self.clock)
        endpoints = {"hub": ("127.0.0.1:10000",), "relays": ("127.0.0.1:10010",), "bootstrap": ("127.0.0.1:1",)}
        self.module = Bootstrap(
            BootstrapSettings(address="127.0.0.1", port=0, endpoints=endpoints),
            self.authority,
            self.tokens,
            self.registry,
            lambda: self.certificate.context(mutual=False),
            self.clock,
            monotonic=lambda: time.monotonic() + self.passed,
            tell=self._tell,
        )
        self.contested: list[BoardRecord] = []  # as the tenant is told of them

    async def _tell(self, tenant: TenantId, board: BoardRecord) -> None:
        self.contested.append(board)

    def clock(self) -> float:
        return time.time() + self.off

    async def __aenter__(self) -> Cloud:
        for tenant in ("default", "acme"):
            record = TenantRecord(TenantId(tenant), TenantNumber(1), "")
            await self.store.put(keys.tenant(record.name), record.encode())
        ready = asyncio.Event()
        self._running = asyncio.create_task(self.module.run(ready))
        await asyncio.wait((asyncio.create_task(ready.wait()), self._running), return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set(), self._running
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self.store.close()

    @property
    def port(self) -> int:
        return self.module.port

    def client(self, **options: Any) -> Client:
        return Client("127.0.0.1", self.port, timeout=30.0, **options)

    async def token(
        self, node: str = "", *, tenant: TenantId = DEFAULT_TENANT, ttl: float = 3600.0, replace: bool = False
    ) -> tokens.Token:
        return await self.tokens.create(tenant, node, ttl, replace=replace)

    async def join(self, token: tokens.Token, node: str, machine: Machine | None = None) -> dict[str, Any]:
        return await asyncio.to_thread((machine or Machine()).join, self.client(), token, node)


class Machine:
    """One that wants to be a node: a key, and what it got for it."""

    def __init__(self) -> None:
        self.key = csr.new_key()
        self.ca = b""
        self.certificate = b""

    def join(self, client: Client, token: tokens.Token, node: str) -> dict[str, Any]:
        self.ca = client.fetch_ca(token)
        answer = client.join(token, node, csr.request_pem(self.key, node), self.ca)
        self.certificate = answer["certificate"].encode()
        return answer

    def renew(self, client: Client, *, wrong_key: bool = False) -> bytes:
        new = csr.new_key()
        request, nonce = csr.request_pem(new, "x"), client.nonce(self.ca)
        proof = base64.b64encode(csr.sign(new if wrong_key else self.key, nonce.encode() + request)).decode()
        renewed = client.renew(self.certificate, request, nonce, proof, self.ca)
        self.key, self.certificate = new, renewed
        return renewed

    def write(self, pki: Path) -> Path:
        pki.mkdir(parents=True)
        (pki / "ca.crt").write_bytes(self.ca)
        (pki / "node.crt").write_bytes(self.certificate)
        (pki / "node.key").write_bytes(csr.key_pem(self.key))
        return pki
