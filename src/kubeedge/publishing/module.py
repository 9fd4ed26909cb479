"""The edge's module "publishing": the client proxy on localhost, and the server proxy for the services of this node.

Lives elsewhere: L4 (connect and listen come in as functions), the store that fills the ServiceTable behind `resolve` (servicetable).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from kubeedge.api.names import L4Port, TenantId
from kubeedge.config import forms
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit import dataclasses
from kubeedge.kit.streams import ConnectionHandler, abort_writer
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http import fast
from kubeedge.kubebus.http.access import PUBLIC
from kubeedge.kubebus.http.client_proxy import ClientProxy, ConnectUpstream
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.listener import listening
from kubeedge.kubebus.http.server_proxy import PolicyOf, Resolve, ServerProxy, everybody
from kubeedge.kubebus.http.url import L4_PORT, ServiceName, Target, service_name
from kubeedge.kubebus.pod_streams import PODS_PORT, PodStreams

log = logging.getLogger("kubeedge.publishing")

Listen = Callable[[L4Port, ConnectionHandler], Awaitable[None]]
#: (L4 port, settings, what is called with a proxy in C each time that there is a new one): KubeBus.server_fast_path
ServerFastPath = Callable[[L4Port, dict[str, Any], Callable[[Any], None]], None]
#: all targets of a service: ServiceTable.targets
Targets = Callable[[ServiceName], Sequence[Target]]

_LONGER = 30.0  # seconds
_EDGE = ProxyLimits(
    concurrent=64, memory=16 * 1024 * 1024, connections=128, per_client=128, pooled=2
)  # its clients all have one address


class EdgePublishing:
    """`listen_on` is "127.0.0.1:10080", "" for no client proxy; `connect`, `listen` and `server_fast_path` are L4's. Other tenants do not exist here.
    `policy` and `nodes` say who may use a service (ServerProxy), `targets` where it is, for the fast path; `has_pod` which addresses the cloud's
    Gateways reach here (PodStreams).
    `timeout` in seconds is for the services of this node."""

    name = "publishing"

    def __init__(
        self,
        *,
        tenant: TenantId,
        listen_on: str,
        connect: ConnectUpstream,
        listen: Listen,
        resolve: Resolve,
        policy: PolicyOf = everybody,
        nodes: int = 0xFFFF,
        server_fast_path: ServerFastPath | None = None,
        targets: Targets | None = None,
        has_pod: Callable[[str], bool] = lambda address: False,
        timeout: float | None = None,
        limits: ProxyLimits = _EDGE,
    ) -> None:
        self._server_fast_path = server_fast_path
        self._targets = targets
        self._pods = PodStreams(has_pod, nodes=nodes, most=limits.connections)
        self.proxy: Any = None  # the fast path, in C
        self._tenant = tenant
        self._listen_on = listen_on
        self._connect = connect
        self._listen = listen
        self._resolve = resolve
        self._policy = policy
        self._nodes = nodes
        self._limits = limits if timeout is None else dataclasses.replace(limits, answer=timeout)
        self._l4_tasks: TaskSet | None = None
        self._server: ServerProxy | None = None
        self._on_l4 = False
        self.address: tuple[str, int] | None = None  # of the client proxy, once it listens

    async def run(self, ready: asyncio.Event) -> None:
        """Serves the client proxy on localhost and the server proxy on L4; both end with it."""
        # the service's node has a little less time, so that it is the one who answers, and says which service is slow
        limits = dataclasses.replace(self._limits, answer=self._limits.answer + _LONGER)
        client = ClientProxy(self._connect, allow=lambda tenant: tenant == self._tenant, limits=limits)
        self._server = ServerProxy(self._resolve, policy=self._policy, nodes=self._nodes, limits=self._limits)
        if self.proxy is not None:
            self._server.slots = fast.FastPathLimiter(self.proxy, self._limits, "web service")
        try:
            async with TaskSet("web services") as self._l4_tasks:
                if not self._on_l4:  # L4 keeps our handler when this module is started again
                    await self._listen(L4_PORT, self._from_l4)
                    await self._listen(PODS_PORT, self._to_pods)
                    self._on_l4 = True
                    if self._server_fast_path is not None and self._targets is not None:
                        self._server_fast_path(L4_PORT, fast.settings(self._limits), self._made)
                await self._serve(client, ready)
        finally:
            self._l4_tasks = self._server = self.address = None
            await client.aclose()

    async def _serve(self, client: ClientProxy, ready: asyncio.Event) -> None:
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._listen_on:
            ready.set()
            await stopped
        try:
            host, port = forms.endpoint(self._listen_on)
        except ValueError as exc:
            raise Invalid(f"{self._listen_on!r} {exc}", path="modules.publishing.listen") from exc
        async with listening(host, port, client.handle, limits=self._limits) as (self.address, _):
            log.info("web services at http://%s:%d/%s/", *self.address, self._tenant)
            ready.set()
            await stopped

    # -- the fast path -------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Something about the services has changed."""
        if self.proxy is not None:
            self.proxy.forget()

    def _made(self, proxy: Any) -> None:
        """It lives as long as its data plane."""
        self.proxy = proxy
        if proxy is None:
            return
        loop, descriptor = asyncio.get_running_loop(), proxy.fileno()
        loop.add_reader(descriptor, self._asked, proxy)
        proxy.closed = lambda: loop.remove_reader(descriptor)
        if self._server is not None:
            self._server.slots = fast.FastPathLimiter(proxy, self._limits, "web service")

    def _asked(self, proxy: Any) -> None:
        for name in proxy.lookups():
            known = False
            with contextlib.suppress(KubeEdgeError):  # why, the slow path says
                service = service_name(name)
                if self._targets is not None and self._policy(service) == PUBLIC:
                    known = fast.learn_targets(proxy, service, self._targets(service))
            if not known:
                proxy.deny(name)

    async def _from_l4(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or self._l4_tasks is None or len(self._l4_tasks) >= self._limits.connections:
            abort_writer(writer)
            return
        await self._in_our_set(self._server.handle(reader, writer), "web service over L4")

    async def _to_pods(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._l4_tasks is None:
            abort_writer(writer)
            return
        await self._in_our_set(self._pods.handle(reader, writer), "pod over L4")

    async def _in_our_set(self, serving: Coroutine[Any, Any, None], name: str) -> None:
        """Stopping the module ends it; the caller waits with it."""
        assert self._l4_tasks is not None
        task = self._l4_tasks.start(serving, name)
        try:
            await asyncio.wait((task,))
        finally:
            task.cancel()
