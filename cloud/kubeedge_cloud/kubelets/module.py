"""Module "kubelets": listens on one TCP port for each node, and joins who may come in to the node's kubelet API.

The API server of a cluster connects to a Node's address and status.daemonEndpoints.kubeletEndpoint.Port, for logs, exec, attach, port-forward
and proxy. It proves itself by its kubelet client certificate, and what is said then passes as it is: whoever holds that certificate may do
everything, as at a kubelet. In a tenant with a cluster others come in, too, by a bearer token or a certificate of the cluster, and the cluster
decides about each of their requests (requests.py). No other client gets further than the handshake, or than one closed connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from kubeedge.api.client import KubeClient
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import CONFIGMAPS
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.acceptor import BACKLOG, Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.http1 import Request, Response, abort_writer, close_writer, serve_connection
from kubeedge.kit.streams import StreamPair, listening_socket, splice
from kubeedge.kit.tasks import TaskSet
from kubeedge_cloud.kubelets.contexts import PortContexts
from kubeedge_cloud.kubelets.core import Caller, may_use, port_of, user_of
from kubeedge_cloud.kubelets.requests import AuthorizingProxy, unreachable
from kubeedge_cloud.kubelets.reviews import Reviews
from kubeedge_cloud.kubelets.serving import ServingCertificates
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord

log = logging.getLogger("kubeedge.kubelets")

#: raises NotFound (no such node), Unavailable (no link, no answer) or OSError
ConnectKubelet = Callable[[TenantId, NodeName], Awaitable[StreamPair]]

#: An API server keeps connections that it has used, for each node; each of kubectl's sessions has one of its own.
CONNECTIONS = ConnectionLimits(silent=512, queued=512, unauthenticated=64, authenticated=2000, per_identity=500)
#: where every cluster keeps the authorities of its clients' certificates
_AUTHORITIES = "kube-system", "extension-apiserver-authentication", "client-ca-file"
#: characters of these: there is a copy of them in the context of each node that has a certificate of its own
_MAX_AUTHORITIES = 64 * 1024
_CONNECT = 10.0  # seconds
_RETRY = Backoff(first=0.5, last=30.0, jitter=0.5)
_REFRESH = 600.0  # seconds until a cluster is asked again for its authorities
_SOONEST = 10.0  # and when a certificate of none of them was shown, which may be of one that has just replaced them


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletPortsSettings:
    """`clients`: common names of certificates that may use the ports. `nodes`: how many a tenant may have."""

    address: str
    first: int
    nodes: int
    clients: Collection[str]


#: for the record of a tenant with a cluster: its nodes' certificates; `changed` is called with a node that has a new one
Signing = Callable[[TenantRecord, Callable[[NodeName], None]], ServingCertificates]
#: a context that demands a client's certificate of these authorities (PEM; "": of the configured one) and shows the pair of that file (None:
#: that of the process); None: no authority is configured
MakeContext = Callable[[str, Path | None], ssl.SSLContext | None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """How clients of one tenant come in. `reviews`: of its cluster; None: it has none. `own`: certificates are of the cluster's authority,
    so that their users are the cluster's. `unknown` is set when a certificate of another authority was shown."""

    contexts: PortContexts
    reviews: Reviews | None = None
    own: bool = False
    unknown: asyncio.Event = field(default_factory=asyncio.Event)


class KubeletPorts:
    """`cluster_of` gives a tenant's cluster, None: it has the embedded API. `signing`: where the nodes' serving certificates come from, None:
    all show that of the process."""

    name = "kubelets"

    def __init__(
        self,
        settings: KubeletPortsSettings,
        tenants: TenantManager,
        connect: ConnectKubelet,
        context: MakeContext,
        cluster_of: Callable[[TenantId], Awaitable[KubeClient | None]],
        *,
        signing: Signing | None = None,
        connections: ConnectionLimits = CONNECTIONS,
    ) -> None:
        self._settings = settings
        self._tenants = tenants
        self._connect = connect
        self._make_context = context
        self._cluster_of = cluster_of
        self._signing = signing
        self._entries: dict[TenantId, _Entry] = {}
        self._connections = connections
        self._owners: dict[int, tuple[TenantId, NodeName]] = {}  # by port
        self._listeners: dict[int, socket.socket] = {}

    async def run(self, ready: asyncio.Event) -> None:
        """Ready once the ports of all nodes of the beginning are open."""
        try:
            async with TaskSet("connections to kubelet ports") as tasks:
                self._acceptor = Acceptor(
                    self._connections, in_tasks(tasks, self._serve, "connection to a kubelet port")
                )
                tasks.start(self._acceptor.run(), "deadlines of connections to kubelet ports")
                await for_each_tenant(self._tenants, self._follow, ready, what="kubelet ports")
        finally:
            for port in list(self._listeners):
                self._close(port)

    async def _follow(self, tenant: TenantRecord, serving: asyncio.Event) -> None:
        cluster = await self._cluster_of(tenant.name)
        reviews = Reviews(cluster, asyncio.get_running_loop().time) if cluster is not None else None
        certificates: ServingCertificates | None = None
        if cluster is not None and self._signing is not None:
            certificates = self._signing(tenant, lambda node: self._renewed(tenant.name, node))
        file_of = certificates.file_of if certificates is not None else _no_file
        try:
            async with asyncio.TaskGroup() as group:
                if certificates is not None:
                    group.create_task(certificates.run(), name=f"serving certificates of nodes of {tenant.name}")
                if self._make_context("", None) is not None:
                    self._entries[tenant.name] = _Entry(self._contexts("", reviews, file_of), reviews)
                elif cluster is not None and reviews is not None:
                    serving.set()  # a cluster that is away must not keep the others waiting
                    first = asyncio.Event()
                    group.create_task(self._keep_authorities(tenant.name, cluster, reviews, file_of, first))
                    await first.wait()
                else:
                    serving.set()
                    await asyncio.get_running_loop().create_future()
                await self._listen(tenant, serving, certificates)
        finally:
            self._entries.pop(tenant.name, None)
            if certificates is not None and not await self._has_cluster(tenant):
                certificates.want({})

    async def _has_cluster(self, tenant: TenantRecord) -> bool:
        """Whether the tenant still has the same cluster; True, too, when that cannot be known."""
        try:
            found = await self._tenants.tenant(tenant.name)
        except KubeEdgeError:
            return True
        return found is not None and found.cluster == tenant.cluster

    def _contexts(
        self, authorities: str, reviews: Reviews | None, file_of: Callable[[NodeName], Path | None]
    ) -> PortContexts:
        """The TLS contexts of one tenant's kubelet ports. Raises ssl.SSLError when the authorities cannot be loaded."""

        def make(file: Path | None) -> ssl.SSLContext:
            context = self._make_context(authorities, file)
            assert context is not None
            if reviews is not None:  # a token will do
                context.verify_mode = ssl.CERT_OPTIONAL
            return context

        return PortContexts(make, file_of)

    def _renewed(self, tenant: TenantId, node: NodeName) -> None:
        if (entry := self._entries.get(tenant)) is not None:
            entry.contexts.forget(node)

    async def _keep_authorities(
        self,
        tenant: TenantId,
        cluster: KubeClient,
        reviews: Reviews,
        file_of: Callable[[NodeName], Path | None],
        first: asyncio.Event,
    ) -> None:
        """Those that the cluster's API server itself believes; they may change. `first`: there are some."""
        namespace, name, key = _AUTHORITIES
        used, failures, unknown = "", 0, asyncio.Event()
        while True:
            unknown.clear()
            try:
                found = await cluster.get(CONFIGMAPS, namespace, name)
                pem = str((found.get("data") or {}).get(key) or "")
                if len(pem) > _MAX_AUTHORITIES:
                    raise Invalid(f"authorities of {len(pem)} characters; at most {_MAX_AUTHORITIES} are used")
                if pem and pem != used:
                    contexts = self._contexts(pem, reviews, file_of)
                    self._entries[tenant] = _Entry(contexts, reviews, own=True, unknown=unknown)
                    used = pem
                    first.set()
                failures = 0
            except (KubeEdgeError, OSError) as exc:  # of TLS, or of files that are being replaced
                failures += 1
                log.warning("tenant=%s: no authorities of clients from %s/%s: %s", tenant, namespace, name, exc)
            if failures or not used:
                await asyncio.sleep(_RETRY.delay(failures, random.random()) if failures else _RETRY.last)
                continue
            await asyncio.sleep(_SOONEST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, _REFRESH - _SOONEST)):
                    await unknown.wait()

    async def _listen(
        self, tenant: TenantRecord, serving: asyncio.Event, certificates: ServingCertificates | None
    ) -> None:
        s, open_ports = self._settings, set[int]()
        try:
            async with aclosing(self._tenants.follow_nodes(tenant.name)) as changes:
                async for records in changes:
                    wanted = {}
                    for record in records.values():
                        port = port_of(s.first, s.nodes, tenant.number, record.number)
                        if port is None:
                            log.error("no kubelet port is left for node=%s of tenant=%s", record.name, tenant.name)
                        else:
                            wanted[port] = (tenant.name, record.name)
                    for port in open_ports - wanted.keys():
                        self._close(port)
                        open_ports.discard(port)
                    for port, owner in wanted.items():
                        self._owners[port] = owner
                        if port not in open_ports and self._open(port):
                            open_ports.add(port)
                    if certificates is not None:  # a node without an object in the cluster is not in it yet
                        certificates.want({record.name: record.uid for record in records.values() if record.uid})
                    serving.set()
        finally:
            for port in open_ports:
                self._close(port)

    def _open(self, port: int) -> bool:
        try:
            listener = listening_socket(self._settings.address, port, backlog=BACKLOG)
        except OSError as exc:
            tenant, node = self._owners[port]
            log.error("no kubelet port for node=%s of tenant=%s: port %d: %s", node, tenant, port, exc)
            return False
        self._listeners[port] = listener
        self._acceptor.add(listener)
        return True

    def _close(self, port: int) -> None:
        self._owners.pop(port, None)
        listener = self._listeners.pop(port, None)
        if listener is not None:
            self._acceptor.remove(listener)
            listener.close()

    async def _serve(self, accepted: Accepted) -> None:
        owner = self._owners.get(accepted.socket.getsockname()[1])
        entry = self._entries.get(owner[0]) if owner is not None else None
        if owner is None or entry is None:  # the node was removed in this moment
            accepted.socket.close()
            return
        try:
            reader, writer = await open_streams(accepted.socket, tls=entry.contexts.of(owner[1]))
        except OSError as exc:
            if isinstance(exc, ssl.SSLCertVerificationError):
                entry.unknown.set()
            log.debug("connection of %s to a kubelet port ended before it was served: %s", accepted.address, exc)
            accepted.socket.close()
            return
        try:
            user = user_of(writer.get_extra_info("ssl_object").getpeercert())
            if may_use(user, self._settings.clients):
                if accepted.authenticated(owner[0], f"{owner[0]}/{owner[1]}") is not None:
                    abort_writer(writer)
                else:
                    await self._join(owner, reader, writer)
            elif entry.reviews is not None:
                proxy = self._proxy(owner, entry.reviews, accepted, user if entry.own else None)
                await proxy.serve(reader, writer)
            else:
                log.warning(
                    "refused %s at a kubelet port: its certificate is not one of kubelets.clients", accepted.address
                )
                abort_writer(writer)
        except asyncio.CancelledError:
            abort_writer(writer)  # it gave way, or the module ends
            raise

    def _proxy(
        self, owner: tuple[TenantId, NodeName], reviews: Reviews, accepted: Accepted, known: Caller | None
    ) -> AuthorizingProxy:
        tenant, node = owner

        def welcome(user: Caller) -> bool:
            return accepted.authenticated(tenant, f"{tenant}/{node}/{user.name}") is None

        return AuthorizingProxy(reviews, node, accepted.address, known, lambda: self._connect(tenant, node), welcome)

    async def _join(
        self, owner: tuple[TenantId, NodeName], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with asyncio.timeout(_CONNECT):
                theirs = await self._connect(*owner)
        except (OSError, KubeEdgeError) as exc:
            await _explain(owner[1], exc, reader, writer)
            return
        try:
            await splice((reader, writer), theirs)
        finally:
            await close_writer(writer)
            await close_writer(theirs[1])


def _no_file(node: NodeName) -> Path | None:
    """The file of a node in a tenant whose nodes have no certificates: none."""
    return None


async def _explain(
    node: NodeName, exc: BaseException, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one request over a connection whose node cannot be reached, and close it."""

    async def handle(request: Request) -> Response:
        return unreachable(node, exc)

    await serve_connection(reader, writer, handle)
