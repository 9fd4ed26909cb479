"""Module "gateways" of a node: the Gateways that listen there, with or without the cloud.

    /desired/gateways/_/node ──> table of routes ──> ports, requests, connections ──> pods of this node and of others
    /desired/secrets/...     ──> certificates
                                 ports that could not be opened ──> /reported/gateways/_/node

Lives elsewhere: what the objects say (kubeedge_cloud.gateway), the ready pods behind a Service (kubeedge.mesh).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import NamespacedName, TenantId
from kubeedge.errors import Invalid
from kubeedge.gateway import codec, reports
from kubeedge.gateway.keypairs import context_of_row
from kubeedge.gateway.model import (
    EVERY_HOST,
    CompiledRoutes,
    ListenPoint,
    PodEndpoint,
    RouteBackend,
    RouteEntry,
    StreamEntry,
    tcp_claim,
)
from kubeedge.gateway.openports import OpenPorts
from kubeedge.gateway.pods import PodConnector, by_address
from kubeedge.gateway.points import StreamTable
from kubeedge.gateway.proxy import GatewayProxy
from kubeedge.gateway.shown_certificates import ShownCertificates
from kubeedge.gateway.streams import StreamProxy
from kubeedge.gateway.table import HostTable, RouteTable
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kubebus.http.accounts import Accounts
from kubeedge.kubebus.http.limits import LocalLimiter, ProxyLimits
from kubeedge.store.model import Store
from kubeedge.store.reflector import PrefixView, follow_view

log = logging.getLogger("kubeedge.gateway")

#: (namespace, Service, name of its port): the ready ones, the one whose turn it is first
FindPods = Callable[[str, str, str], list[PodEndpoint]]

_TABLE = f"{keys.DESIRED}{codec.ROW}"
_SECRETS = f"{keys.DESIRED}secrets/"
_REPORT = f"{keys.REPORTED}{codec.ROW}"
_MAX_SECRETS = 64  # certificates that are kept
_LARGE = 64 * 1024  # bytes of a table that is read in a thread: a tenth of a second for the largest


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGatewaySettings:
    """`address`: shared by all Gateways, "": none; `addresses`: each for one Gateway."""

    tenant: TenantId
    address: str = ""
    addresses: Sequence[str] = ()
    limits: ProxyLimits = ProxyLimits(concurrent=64, connections=256, per_client=64, pooled=2)


class NodeGateways:
    """`find` gives the pods behind Services."""

    name = "gateways"

    def __init__(self, store: Store, settings: NodeGatewaySettings, find: FindPods) -> None:
        self._store, self._settings, self._find = store, settings, find
        self._tenant = settings.tenant
        self._dirty = asyncio.Event()
        self._row: bytes | None = None
        self._routes = CompiledRoutes(settings.tenant)
        self._certificates: dict[
            NamespacedName, tuple[int, ssl.SSLContext | None]
        ] = {}  # checksum of the Secret, context
        self._shown = ShownCertificates(lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), nameless=True)
        self._failed: dict[ListenPoint, str] = {}
        self._unwritten = asyncio.Event()
        self.problem = ""  # of the table
        self.faulty: Mapping[str, str] = {}  # Secrets that cannot be used, and why
        self.accounts = Accounts()
        self.slots = LocalLimiter(
            settings.limits.concurrent,
            "tenant",
            rate=settings.limits.rate,
            burst=settings.limits.burst,
            now=lambda: asyncio.get_running_loop().time(),
        )
        self.table = HostTable({}, {})
        self.streams = StreamTable({}, {})
        self.points: Mapping[ListenPoint, str] = {}

    async def run(self, ready: asyncio.Event) -> None:
        """Serves until it is cancelled; ready once the table of the store is served."""
        limits = self._settings.limits
        pods = PodConnector(by_address, limits.connect)
        proxy = GatewayProxy(self, pods, slots=lambda: self.slots, accounts=self.accounts, limits=limits)
        streams = StreamProxy(self.endpoints, pods, slots=lambda: self.slots, accounts=self.accounts)
        ports = OpenPorts(self._settings.address, self, proxy, streams, limits)
        tables = PrefixView(self._store, _TABLE.rpartition("/")[0] + "/", keep=bytes)
        # what is in a Secret is read when a route needs it; that it is another one shows in its checksum
        secrets = PrefixView(self._store, _SECRETS, keep=zlib.crc32)
        try:
            async with ports.running(), asyncio.TaskGroup() as group:
                firsts = [asyncio.Event(), asyncio.Event()]
                group.create_task(self._follow(tables, firsts[0]), name="table of Gateways")
                group.create_task(self._follow(secrets, firsts[1]), name="certificates of Gateways")
                for first in firsts:
                    await first.wait()
                group.create_task(self._report(), name="report of Gateways")
                while True:
                    self._dirty.clear()
                    await self._settle(tables.values.get(_TABLE), secrets.values)
                    ports.settle(self.points)
                    ready.set()
                    await self._dirty.wait()
        finally:
            await proxy.aclose()

    async def _follow(self, view: PrefixView[Any], first: asyncio.Event) -> None:
        async with aclosing(follow_view(view)) as steps:
            async for changed in steps:
                needed = {keys.desired("secrets", *name) for name in self._certificates}
                if not needed.isdisjoint(changed) or _TABLE in changed:
                    self._dirty.set()
                first.set()

    # -- the table -----------------------------------------------------------------------------------------------------

    async def _settle(self, row: bytes | None, secrets: Mapping[str, int]) -> None:
        if row != self._row:
            await self._read(row)
            self._row = row
        await self._read_certificates(secrets)
        routes, where = self._routes, self._settings
        allowed = {*where.addresses, *([""] if where.address else ())}
        mine = {at: family for at, family in routes.points.items() if at.address in allowed}
        owners = dict.fromkeys((EVERY_HOST, *where.addresses), self._tenant)
        owners |= {
            tcp_claim(at.port): self._tenant for at, family in mine.items() if family == "TCP" and not at.address
        }
        shown: dict[tuple[ListenPoint, str], ssl.SSLContext] = {}
        for ref in routes.certificates:
            context = self._certificates.get((ref.namespace, ref.secret), (0, None))[1]
            if context is not None:
                shown.setdefault((ref.at, ref.hostname), context)
        self._shown.replace(shown, mine)
        self.table = HostTable(owners, {self._tenant: RouteTable(routes.entries, routes.listeners)})
        self.streams = StreamTable(owners, {self._tenant: routes})
        self.points = mine
        if gone := self._failed.keys() - mine.keys():
            self._failed = {at: why for at, why in self._failed.items() if at not in gone}
            self._unwritten.set()

    async def _read(self, row: bytes | None) -> None:
        """What cannot be read changes nothing: the routes that there were go on."""
        try:
            if row is None:
                self._routes = CompiledRoutes(self._tenant)
            elif len(row) > _LARGE:
                self._routes = await asyncio.to_thread(codec.decoded, self._tenant, row)
            else:
                self._routes = codec.decoded(self._tenant, row)
            self.problem = ""
        except Invalid as exc:
            self.problem = str(exc)
            log.error("the routes of this node's Gateways stay as they were: %s", exc)

    async def _read_certificates(self, secrets: Mapping[str, int]) -> None:
        wanted = list(dict.fromkeys((ref.namespace, ref.secret) for ref in self._routes.certificates))
        found: dict[NamespacedName, tuple[int, ssl.SSLContext | None]] = {}
        why = f"a node has {_MAX_SECRETS} certificates at most"
        faulty = {"/".join(name): why for name in wanted[_MAX_SECRETS:]}
        for key in faulty.keys() - self.faulty.keys():
            log.warning("Secret %s is not shown: %s", key, why)
        for name in wanted[:_MAX_SECRETS]:
            key = keys.desired("secrets", *name)
            known, checksum = self._certificates.get(name, (0, None)), secrets.get(key, 0)
            if known[0] == checksum and known[1] is not None:
                found[name] = known
                continue
            found[name] = (checksum, None)
            await asyncio.sleep(0)  # a store in this process never waits, and each takes milliseconds
            kv = await self._store.get(key)
            try:
                if kv is None:
                    raise ValueError("this node has not got it")
                found[name] = (checksum, context_of_row(kv.value))
            except ValueError as exc:
                faulty["/".join(name)] = str(exc)
                if self.faulty.get("/".join(name)) != str(exc):
                    log.warning("Secret %s/%s is no certificate: %s", *name, exc)
        self._certificates, self.faulty = found, faulty

    # -- what the proxies ask ------------------------------------------------------------------------------------------

    def endpoints(self, tenant: TenantId, backend: RouteBackend) -> list[PodEndpoint]:
        """The ready pods behind a backend, the one whose turn it is first."""
        return self._find(backend.namespace, backend.service, backend.port_name)

    def tls_context(self, at: ListenPoint) -> ssl.SSLContext:
        """With the certificates of the Gateways there; a handshake for another name fails."""
        return self._shown.context(at)

    def opened(self, at: ListenPoint, why: str) -> None:
        """A port is open, or `why` it is not: the cloud is told."""
        if self._failed.get(at, "") == why:
            return
        self._failed[at] = why
        if not why:
            del self._failed[at]
        self._unwritten.set()

    async def _report(self) -> None:
        before = await self._store.get(_REPORT)
        written = None if before is None else before.value
        while True:
            self._unwritten.clear()
            report = reports.ListenReport(self._settings.address, self._settings.addresses, self._failed)
            if (row := reports.encoded(report)) != written:
                await self._store.put(_REPORT, row)
                written = row
            await self._unwritten.wait()

    # -- for operators -------------------------------------------------------------------------------------------------

    @property
    def failed(self) -> Mapping[ListenPoint, str]:
        """Ports that could not be opened, and why."""
        return self._failed

    def trace(self, namespace: str, service: str) -> list[dict[str, Any]]:
        """The routes by which requests reach a Service, for `kubeedge mesh trace`."""
        entries: list[RouteEntry | StreamEntry] = [*self._routes.entries, *self._routes.streams]
        return [
            self._shown_route(entry, backend)
            for entry in entries
            for backend in entry.rule.backends
            if (backend.namespace, backend.service) == (namespace, service)
        ]

    def _shown_route(self, entry: RouteEntry | StreamEntry, backend: RouteBackend) -> dict[str, Any]:
        at = entry.at
        where = at.address or self._settings.address
        told = {
            "at": f"[{where}]:{at.port}" if ":" in where else f"{where}:{at.port}",
            "takes": " ".join(_taken(entry)),
            "by": entry.rule.name,
            "port": backend.port_name,
            "weight": f"{backend.weight} of {sum(b.weight for b in entry.rule.backends)}",
        }
        faults = (
            backend.fault,
            self._failed.get(at, ""),
            "" if at in self.points else "this node has not got that address",
        )
        return {**told, **({"but": why} if (why := "; ".join(filter(None, faults))) else {})}


def _taken(entry: RouteEntry | StreamEntry) -> Iterator[str]:
    """What a route takes, in words."""
    if isinstance(entry, StreamEntry):
        yield f"connections for {entry.hostname}" if entry.hostname else "connections"
        return
    match = entry.match
    if match.method:
        yield match.method
    yield f"{entry.scheme}://{entry.hostname}{match.path}{'' if match.exact else '/*'}"
    if match.headers or match.query:
        yield f"with {', '.join(f'{name}={value}' for name, value in (*match.headers, *match.query))}"
