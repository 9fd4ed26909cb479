"""Module "kubelets": listens on one TCP port for each node, and joins who may come in to the node's kubelet API.

The API server of a cluster connects to a Node's address and status.daemonEndpoints.kubeletEndpoint.Port, for logs, exec, attach, port-forward
and proxy. It proves itself by its kubelet client certificate, of `client_ca`; nobody else gets further than the handshake, or than one closed
connection. What is said then passes as it is: whoever holds that certificate may do everything, as at a kubelet.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.acceptor import BACKLOG, Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.http1 import Request, Response, abort_writer, close_writer, serve_connection, text_response
from kubeedge.kit.streams import listening_socket, splice
from kubeedge.kit.tasks import TaskSet
from kubeedge_cloud.kubelets.core import may_use, port_of
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord

log = logging.getLogger("kubeedge.kubelets")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
#: raises NotFound (no such node), Unavailable (no link, no answer) or OSError
Connect = Callable[[TenantId, NodeName], Awaitable[Streams]]

#: An API server keeps connections that it has used, for each node; each of kubectl's sessions has one of its own.
CONNECTIONS = ConnectionLimits(silent=512, queued=512, unauthenticated=64, authenticated=2000, per_identity=500)
_CONNECT = 10.0  # seconds
_AT_ONCE = 64  # connections of one port that are taken in before others have their turn


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletPortsSettings:
    """`clients`: common names of certificates that may use the ports. `nodes`: how many a tenant may have."""

    address: str
    first: int
    nodes: int
    clients: Collection[str]


class KubeletPorts:
    """`context` makes the TLS context: it must demand a certificate of the API server's authority."""

    name = "kubelets"

    def __init__(
        self,
        settings: KubeletPortsSettings,
        tenants: TenantManager,
        connect: Connect,
        context: Callable[[], ssl.SSLContext],
        *,
        connections: ConnectionLimits = CONNECTIONS,
    ) -> None:
        self._settings = settings
        self._tenants = tenants
        self._connect = connect
        self._make_context = context
        self._connections = connections
        self._owners: dict[int, tuple[TenantId, NodeName]] = {}  # by port
        self._listeners: dict[int, socket.socket] = {}

    async def run(self, ready: asyncio.Event) -> None:
        """Ready once the ports of all nodes of the beginning are open."""
        self._context = self._make_context()
        try:
            async with TaskSet("connections to kubelet ports") as tasks:
                self._acceptor = Acceptor(
                    self._connections, in_tasks(tasks, self._serve, "connection to a kubelet port")
                )
                tasks.start(self._acceptor.run([]), "deadlines of connections to kubelet ports")
                await for_each_tenant(self._tenants, self._follow, ready, what="kubelet ports")
        finally:
            for port in list(self._listeners):
                self._close(port)

    async def _follow(self, tenant: TenantRecord, serving: asyncio.Event) -> None:
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
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        return True

    def _close(self, port: int) -> None:
        self._owners.pop(port, None)
        listener = self._listeners.pop(port, None)
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody else waits, or there are no descriptors left: the limiter makes room in time
                return
            self._acceptor.enter(connection)

    async def _serve(self, accepted: Accepted) -> None:
        owner = self._owners.get(accepted.socket.getsockname()[1])
        try:
            reader, writer = await open_streams(accepted.socket, tls=self._context)
        except OSError as exc:
            log.debug("connection of %s to a kubelet port ended before it was served: %s", accepted.address, exc)
            return
        try:
            certificate = writer.get_extra_info("ssl_object").getpeercert()
            if not may_use(certificate, self._settings.clients):
                log.warning(
                    "refused %s at a kubelet port: its certificate is not one of kubelets.clients", accepted.address
                )
                abort_writer(writer)
            elif owner is None:
                await close_writer(writer)  # the node was removed in this moment
            elif accepted.authenticated(owner[0], f"{owner[0]}/{owner[1]}") is not None:
                abort_writer(writer)
            else:
                await self._join(owner, reader, writer)
        except asyncio.CancelledError:
            abort_writer(writer)  # it gave way, or the module ends
            raise

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


async def _explain(
    node: NodeName, exc: BaseException, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One answer: an API server shows it to the user."""
    reason = str(exc) or type(exc).__name__

    async def handle(request: Request) -> Response:
        return text_response(503, f"node {node} cannot be reached: {reason}\n", [("connection", "close")])

    await serve_connection(reader, writer, handle)
