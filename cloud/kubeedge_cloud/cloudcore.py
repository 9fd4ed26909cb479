"""The cloud process: settings in, levels of modules out. The only place that knows all of its parts.

store
certificates, kubeconfigs
bushub (relay, TUN), apiserver
edgecontroller, controllers
cloudhub, bootstrap, publishing, control
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import ssl
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kubeedge import __version__
from kubeedge.api import keys, meta
from kubeedge.api.names import NodeName, TenantId, node_name, tenant_id
from kubeedge.apiserver.module import ApiServerModule
from kubeedge.apiserver.offload import Offload
from kubeedge.apiserver.quota import Limits
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.beehive.module import Module
from kubeedge.beehive.supervisor import Supervisor
from kubeedge.config.cloud import CloudConfig, Listener, PublicTls
from kubeedge.edgecore import ping_request, request_object
from kubeedge.errors import Invalid, KubeEdgeError, NotFound, Unavailable
from kubeedge.kit import logs, metrics, private
from kubeedge.kit.http1 import Request, Response, json_response, start_unix_server
from kubeedge.kit.metrics import Family, modules
from kubeedge.kit.metrics_server import MetricsServer
from kubeedge.kit.metrics_server import response as metrics_response
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.url import L4_PORT
from kubeedge.pki.ca import Authority
from kubeedge.store import observe as store_observe
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge.sync import observe as sync_observe
from kubeedge.sync.bounds import Bounds
from kubeedge.sync.driver import Progress
from kubeedge_cloud.bootstrap.admin import Admin
from kubeedge_cloud.bootstrap.authority import check_authority, check_directory
from kubeedge_cloud.bootstrap.certificates import ServerCertificate
from kubeedge_cloud.bootstrap.server import Bootstrap, BootstrapSettings
from kubeedge_cloud.bootstrap.tokens import TokenStore
from kubeedge_cloud.bushub.hub import BusHub
from kubeedge_cloud.bushub.observe import hub_links, hub_metrics, hub_state
from kubeedge_cloud.bushub.peers import PeersSettings
from kubeedge_cloud.bushub.settings import BusHubSettings
from kubeedge_cloud.bushub.tun import CloudTun
from kubeedge_cloud.cloudhub.module import CloudHub, CloudHubSettings
from kubeedge_cloud.controllers.basics.core import Server
from kubeedge_cloud.controllers.module import ControllersModule
from kubeedge_cloud.edgecontroller.module import EdgeController, EdgeControllerSettings
from kubeedge_cloud.kubeconfigs.admin import KubeconfigAdmin
from kubeedge_cloud.kubeconfigs.files import KubeconfigFiles
from kubeedge_cloud.kubeconfigs.module import Kubeconfigs
from kubeedge_cloud.kubeconfigs.records import KubeconfigRecords
from kubeedge_cloud.overview import Overview
from kubeedge_cloud.processes.fencing import FencedStore
from kubeedge_cloud.processes.membership import Alone, Process
from kubeedge_cloud.publishing.module import CloudServices, Publishing
from kubeedge_cloud.publishing.tls import FileCertificate, modern
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import AddressPlan
from kubeedge_cloud.tenants.usage import Usage

log = logging.getLogger("kubeedge")

#: a node that attaches leaves hundreds of objects behind, which live as long as its channel: Python's usual 700 would have the collector
#: look at them again and again. Not many more: unauthenticated clients of the HTTP ports leave cycles, with large buffers in them, until it looks
_COLLECT = (2_000, 10, 10)

KUBELET_PORT = 10250  # L4, on every node


def main(config: CloudConfig, *, new_authority: bool = False) -> int:
    logs.setup(config.logging.level)
    raise_descriptor_limit()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(config, new_authority))
    return 0


def raise_descriptor_limit() -> None:
    """As far as we may: a shell gives 1,024 file descriptors, and thousands of nodes have a channel and several links each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: CloudConfig, new_authority: bool) -> None:
    state = config.paths.state
    for path in (state, config.paths.run):
        private.directory(path)
    private.files(state.glob("kubeconfig-*"))
    stuck: tuple[str, ...] = ()
    store = await _open_store(config)
    try:
        pki = config.paths.state / "pki"
        await check_directory(store, pki, replace=new_authority)
        cloud = Cloud(config, store)
        await check_authority(store, pki, cloud.authority.hash, replace=new_authority)
        await cloud.prepare()
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        gc.set_threshold(*_COLLECT)
        log.info("cloud version=%s advertise=%s", __version__, ",".join(cloud.hosts))
        cloud.say_what_next()
        if hasattr(store, "on_rewound"):  # etcd
            store.on_rewound = cloud.supervisor.stop
        stuck = await cloud.supervisor.run()
        if why := getattr(store, "rewound", ""):
            raise Unavailable(why)
    finally:
        await store.close()
        if stuck:  # asyncio.run would wait for them for ever
            os._exit(1)


async def _open_store(config: CloudConfig) -> Store:
    etcd = config.store.etcd
    if not etcd.endpoints:
        return await open_sqlite(config.paths.state / "cloud.db")
    try:
        # imported here: a cloud on SQLite does without grpc
        from kubeedge_cloud.etcd.members import EtcdSettings
        from kubeedge_cloud.etcd.store import open_etcd
    except ModuleNotFoundError as exc:
        raise Unavailable(f"a store in etcd needs the package {exc.name}: pip install kubeedge-cloud[etcd]") from exc
    return await open_etcd(
        EtcdSettings(
            endpoints=etcd.endpoints,
            ca=etcd.ca,
            cert=etcd.cert,
            key=etcd.key,
            namespace=etcd.namespace,
            keep_revisions=etcd.keep_revisions,
        )
    )


class Cloud:
    def __init__(self, config: CloudConfig, store: Store) -> None:
        self.config = config
        self.member: Alone | Process = Alone()
        if config.store.etcd.endpoints:
            self.member = Process(store, address=(config.advertise or ("127.0.0.1",))[0])
        self.store = store
        self.hosts = config.advertise or ("127.0.0.1",)
        self.authority = Authority(config.paths.state / "pki")
        names = dict.fromkeys([*self.hosts, *config.publishing.names, *_LOCAL_NAMES])
        self.certificate = ServerCertificate(self.authority, config.paths.state / "pki", list(names))
        self.plan = AddressPlan(config.addresses.pods, config.addresses.node_bits, config.addresses.overlay)
        self.tenants = TenantManager(store, plan=self.plan)
        self.tokens = TokenStore(store, self.authority.hash, time.time)
        self.kubeconfig_records = KubeconfigRecords(store, time.time)
        server = f"https://{_endpoint(self.hosts[0], config.listeners.api.port)}"
        self.kubeconfig_files = KubeconfigFiles(
            self.authority, self.kubeconfig_records, config.paths.state, server, time.time
        )
        self.kubeconfigs = Kubeconfigs(store, time.time)
        self.kubeconfigs.on_ended(self._kubeconfig_ended)
        self.api: ApiServer | None = None
        self._admins: dict[TenantId, str] = {}  # the kubeconfig in each file of an administrator
        self._writing_kubeconfigs = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._registries: dict[TenantId, Registry] = {}
        self._offload = Offload()
        self.usage = Usage(store, self.tenants, Limits(config.quota.objects, config.quota.mib * 1024 * 1024))
        self.web: Publishing | None = None
        self.bus = self._bushub()
        if config.publishing.services:
            self.bus.serve(L4_PORT, CloudServices(config.publishing.services, self.tenants.tenant_number).for_tenant)
        self.hub = self._cloudhub()
        self.overview = Overview(store, self.tenants, self.registry, self.hub.sessions)
        self.metrics = metrics.MetricsRegistry()
        self.metrics.collect(self._own_metrics)
        self.supervisor = Supervisor([level for level in self._levels() if level])

    async def prepare(self) -> None:
        """Tenants that the configuration names, and a kubeconfig for each."""
        for name in self.config.tenants:
            await self.tenants.ensure_tenant(name)
        for tenant in await self.tenants.names():
            await self.open_tenant(tenant)

    def say_what_next(self) -> None:
        """How to use it, for whoever has just started it."""
        on = self.config.listeners
        if all(_is_loopback(host) for host in self.hosts):
            log.warning(
                "advertise is not set, or names this machine alone: nodes and kubectl on other machines are told %s. Set "
                "`advertise: [NAME OR ADDRESS]` in the configuration",
                ", ".join(self.hosts),
            )
        if on.api.enable:
            for tenant in map(TenantId, self.config.tenants):
                log.info("kubectl: export KUBECONFIG=%s", self.kubeconfig_files.path(tenant))
        if on.bootstrap.enable:
            log.info(
                "nodes: `kubeedge token create --node NAME` here, then `kubeedge join --token TOKEN --name NAME %s` there",
                _endpoint(self.hosts[0], on.bootstrap.port),
            )

    async def open_tenant(self, tenant: TenantId) -> Registry:
        registry = self.registry(tenant)
        await self.keep_kubeconfig(tenant)
        return registry

    def registry(self, tenant: TenantId) -> Registry:
        """One for each tenant, for the life of the process."""
        if tenant not in self._registries:
            self._registries[tenant] = Registry(
                self.store, tenant, foreground=True, offload=self._offload, quota=self.usage.of(tenant)
            )
        return self._registries[tenant]

    def client_of(self, work: str) -> Callable[[TenantId], Registry]:
        """The API as a leader of that work writes to it: with its fence."""
        if isinstance(self.member, Alone):
            return self.registry

        def make(tenant: TenantId) -> Registry:
            fence = partial(self.member.fence, f"{work}/{tenant}")
            return Registry(
                FencedStore(self.store, fence),
                tenant,
                foreground=True,
                offload=self._offload,
                quota=self.usage.of(tenant),
                served=self.registry(tenant).served,
            )

        return make

    def known_registry(self, tenant: TenantId) -> Registry | None:
        """For requests: a certificate of a tenant that is gone opens nothing."""
        return self._registries.get(tenant)

    async def node_stream(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self.bus.connect(tenant, node, KUBELET_PORT)

    # -- modules -------------------------------------------------------------------------------------------------------

    def _levels(self) -> list[list[Module]]:
        on = self.config.listeners
        serving: list[Module] = [self.bus] if on.relay.enable else []
        if on.api.enable:
            api = self.api = ApiServer(self.known_registry, self.node_stream, check=self.kubeconfigs.check)
            context = self.certificate.context(mutual=True, minimum=ssl.TLSVersion.TLSv1_2)
            serving.append(ApiServerModule(api, context, address=on.api.address, port=on.api.port))
        controlling: list[Module] = [
            EdgeController(
                self.store,
                self.client_of("edgecontroller"),
                self.tenants,
                EdgeControllerSettings(node_grace=self.config.node_monitor_grace_period),
                member=self.member,
            ),
            ControllersModule(
                self.client_of("controllers"),
                self.tenants,
                member=self.member,
                server=Server(self.authority.pem.decode(), self.hosts, on.api.port) if on.api.enable else None,
            ),
        ]
        listening: list[Module] = [self.hub] if on.hub.enable else []
        if on.bootstrap.enable:
            listening.append(self._bootstrap())
        if on.web.enable and on.relay.enable:
            listening += self._publishing()
        if on.metrics.enable:
            listening.append(MetricsServer(on.metrics.address, on.metrics.port, self.metrics.text))
        listening.append(Control(self.config.paths.run / "cloud.sock", self))
        first: list[Module] = [
            self.certificate,
            self.usage,
            self.kubeconfigs,
            *([self.member] if isinstance(self.member, Process) else []),
        ]
        return [first, serving, controlling, listening]

    def _publishing(self) -> list[Module]:
        c, on = self.config.publishing, self.config.listeners.web
        tls: ssl.SSLContext | None = None
        modules: list[Module] = []
        if isinstance(c.tls, PublicTls):
            files = FileCertificate(c.tls.cert_file, c.tls.key_file)
            tls = files.context
            modules.append(files)
        elif c.tls:
            tls = modern(self.certificate.context(mutual=False, minimum=ssl.TLSVersion.TLSv1_2))
        limits = ProxyLimits(
            answer=c.timeout,
            concurrent=c.concurrent,
            rate=c.rate,
            burst=c.burst,
            connections=c.connections,
            per_client=c.per_client,
        )
        self.web = Publishing(
            address=on.address,
            port=on.port,
            connect=self.bus.connect,
            tls=tls,
            trust_forwarded=c.trust_forwarded,
            limits=limits,
            fast_path=self.bus.client_fast_path,
            numbers=self.bus.numbers,
        )
        return [*modules, self.web]

    def _bushub(self) -> BusHub:
        c, on = self.config, self.config.listeners.relay
        tun = None
        if c.tun.enable:
            address = c.tun.address or self.plan.cloud
            if (number := self.plan.number(address)) is not None and number <= self.plan.nodes:
                raise Invalid(
                    f"{address} is the address of node number {number}; {self.plan.cloud} and those below it are free",
                    path="tun.address",
                )
            tun = CloudTun(
                tenant=TenantId(c.tun.tenant),
                name=c.tun.name,
                address=address,
                routes=(c.addresses.pods, *c.tun.routes),
                mtu=c.tun.mtu,
            )
        settings = BusHubSettings(
            address=on.address,
            port=on.port,
            ca=self.authority.certificate_file,
            cert=self.certificate.cert,
            key=self.certificate.key,
            tun=tun,
            pods=c.addresses.pods,
            source=self.plan.cloud.split("/")[0],
            congestion=c.relays.congestion,
        )
        if not c.store.etcd.endpoints:  # nobody else can share this store
            return BusHub(settings, self.tenants)
        peers = PeersSettings(
            addresses=c.relays.addresses or tuple(_endpoint(host, on.port) for host in self.hosts),
            first_number=self.plan.nodes + 1,
        )
        return BusHub(settings, self.tenants, store=self.store, peers=peers)

    def _cloudhub(self) -> CloudHub:
        on = self.config.listeners.hub
        limits = self.config.nodes
        bounds = Bounds(
            keys=limits.reported_keys, size=limits.reported_mib * 1024 * 1024, seconds=limits.reported_seconds
        )
        settings = CloudHubSettings(address=on.address, port=on.port, bounds=bounds)
        return CloudHub(
            settings, self.store, self.tenants, lambda: self.certificate.context(mutual=True), member=self.member
        )

    def _bootstrap(self) -> Bootstrap:
        on = self.config.listeners
        for name, listener in (("hub", on.hub), ("relay", on.relay), ("bootstrap", on.bootstrap)):
            if listener.enable and not listener.port:
                raise Invalid(
                    "nodes are told this port when they join, so it cannot be 0", path=f"listeners.{name}.port"
                )
        endpoints = {"hub": self._told(on.hub), "relays": self._told(on.relay), "bootstrap": self._told(on.bootstrap)}
        if not endpoints["hub"]:
            raise Invalid(
                "off, and no other process is named under `peers`: nodes that join would have no channel; switch "
                "listeners.bootstrap off, too",
                path="listeners.hub.enable",
            )
        if not endpoints["relays"]:
            log.warning(
                "listeners.relay is off and no other process is named under `peers`: nodes join without KubeBus"
            )
        return Bootstrap(
            BootstrapSettings(address=on.bootstrap.address, port=on.bootstrap.port, endpoints=endpoints),
            self.authority,
            self.tokens,
            self.tenants,
            lambda: self.certificate.context(mutual=False),
            time.time,
        )

    def _told(self, listener: Listener) -> tuple[str, ...]:
        """Where nodes reach that listener: what is off in this process may be on in the others, on the same port."""
        hosts = (*(self.hosts if listener.enable else ()), *self.config.peers)
        return tuple(_endpoint(host, listener.port) for host in hosts) if listener.port else ()

    # -- kubeconfig ----------------------------------------------------------------------------------------------------

    def _kubeconfig_ended(self, tenant: TenantId, kubeconfig: str) -> None:
        """Its connections end; if it was the administrator's, on this machine, there is another in its file at once."""
        if self.api is not None:
            self.api.end(tenant, kubeconfig)
        if kubeconfig and self._admins.get(tenant) == kubeconfig:
            task = asyncio.create_task(self.keep_kubeconfig(tenant), name="kubeconfig of the administrator")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def keep_kubeconfig(self, tenant: TenantId) -> str:
        async with self._writing_kubeconfigs:
            self._admins[tenant] = await self.kubeconfig_files.keep(tenant)
            return self._admins[tenant]

    async def replace_kubeconfig(self, tenant: TenantId) -> str:
        async with self._writing_kubeconfigs:
            self._admins[tenant] = await self.kubeconfig_files.replace(tenant)
            return self._admins[tenant]

    def _own_metrics(self) -> list[Family]:
        sessions = self.hub.sessions()
        received, sent = (sum(getattr(s.counters, name) for s in sessions) for name in ("bytes_in", "bytes_out"))
        return [
            *modules(self.supervisor.states()),
            *hub_metrics(self.bus),
            *(self.web.metrics() if self.web else []),
            *store_observe.families(self.store),
            *self.usage.families(),
            *sync_observe.families({"down": [s.down for s in sessions], "up": [s.up for s in sessions]}),
            *sync_observe.channels(len(sessions), received, sent),
        ]

    async def allow(self, tenant: TenantId, node: NodeName, subnets: list[str]) -> dict[str, Any]:
        """Networks that may be behind a node from now on; its links begin anew and say what is behind it."""
        allowed = await self.tenants.allow_subnets(tenant, node, subnets)
        return {"node": node, "subnets": list(allowed)}

    async def status(self) -> dict[str, Any]:
        now = time.time()
        return {
            "version": __version__,
            "advertise": list(self.hosts),
            "tenants": [str(t) for t in await self.tenants.names()],
            "revision": self.store.revision,
            "nodes": [
                {
                    "tenant": s.tenant,
                    "node": s.node,
                    "address": s.address,
                    "seconds": round(now - s.since, 1),
                    "bytesIn": s.counters.bytes_in,
                    "bytesOut": s.counters.bytes_out,
                }
                for s in self.hub.sessions()
            ],
            "away": [
                {
                    "tenant": n.tenant,
                    "node": n.node,
                    "lastSeen": meta.timestamp(n.last_seen) if n.last_seen else "never",
                }
                for n in await self.overview.nodes()
                if not n.attached
            ],
            "links": hub_links(self.bus),
            "modules": [
                {"name": s.name, "state": s.state, "restarts": s.restarts, "lastError": s.last_error}
                for s in self.supervisor.states()
            ],
        }

    async def sync_status(self, tenant: str, node: str) -> dict[str, Any]:
        """Of all nodes, or of those that the caller names: counters of those that are attached to this process alone."""
        nodes: list[dict[str, Any]] = []
        for s in self.hub.sessions():
            if (tenant and s.tenant != tenant) or (node and s.node != node):
                continue
            down = await sync_observe.source(self.store, keys.edge_desired(s.tenant, s.node), s.down)
            up = sync_observe.progress(s.up)
            nodes.append(
                {
                    "tenant": s.tenant,
                    "node": s.node,
                    "attached": True,
                    "down": down,
                    "up": up,
                    "wire": {"bytesIn": s.counters.bytes_in, "bytesOut": s.counters.bytes_out},
                }
            )
        if not nodes and node:
            nodes.append(await self._sync_of(TenantId(tenant or "default"), NodeName(node)))
        elif not node:
            others = [n for n in await self.overview.nodes(tenant) if n.here is None]
            nodes += [{**await self._sync_of(n.tenant, n.node), "attached": n.attached} for n in others]
        return {"store": self.store.store_id, "revision": self.store.revision, "nodes": nodes}

    async def _sync_of(self, tenant: TenantId, node: NodeName) -> dict[str, Any]:
        if await self.tenants.lookup(tenant, node) is None:
            raise NotFound(f"there is no node {node} of tenant {tenant}")
        record = await self.store.get(keys.edge_sync_up(tenant, node))
        up = record.value.decode(errors="replace") if record else ""
        waiting = await sync_observe.source(self.store, keys.edge_desired(tenant, node), Progress())
        # how far the node is, it says when it comes
        down = {name: waiting[name] for name in ("head", "keys")}
        return {"tenant": tenant, "node": node, "attached": False, "down": down, "up": {"durable": up}}


class Control:
    """Module "control": the administrator's unix socket. Who may open it is the file's mode."""

    name = "control"

    def __init__(self, path: Path, cloud: Cloud) -> None:
        self._path = path
        self._cloud = cloud
        kubeconfigs = KubeconfigAdmin(
            cloud.kubeconfig_records, cloud.kubeconfig_files, cloud.replace_kubeconfig, time.time
        )
        self._admin = Admin(_Tenants(cloud), cloud.tokens, time.time, kubeconfigs)

    async def run(self, ready: asyncio.Event) -> None:
        server = await start_unix_server(self._path, self.handle)
        try:
            ready.set()
            await server.serve_forever()
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    async def handle(self, request: Request) -> Response:
        try:
            answer = await self._admin.handle(request)
            if answer is not None:
                return answer
            match request.method, request.path:
                case "GET", "/v1/status":
                    return json_response(200, await self._cloud.status())
                case "GET", "/metrics":
                    return metrics_response(self._cloud.metrics.text())
                case "GET", "/v1/nodes":
                    tenant = (request.query.get("tenant") or [""])[-1]
                    return json_response(200, {"nodes": await self._cloud.overview.list(time.time(), tenant)})
                case "GET", "/v1/links":
                    return json_response(200, hub_state(self._cloud.bus))
                case "GET", "/v1/routes":
                    return json_response(200, {"routes": await self._cloud.bus.routes(_tenant(request))})
                case "GET", "/v1/routers":
                    return json_response(200, {"routers": await self._cloud.tenants.all_subnets(_tenant(request))})
                case "POST", "/v1/routers":
                    body = await request_object(request)
                    node, subnets = node_name(str(body.get("node", ""))), body.get("subnets")
                    if not isinstance(subnets, list):
                        raise Invalid("a list of networks is required", path="subnets")
                    return json_response(
                        200, await self._cloud.allow(_tenant(request), node, [str(s) for s in subnets])
                    )
                case "POST", "/v1/ping":
                    body = await request_object(request)
                    count, interval = ping_request(body)
                    node = node_name(str(body.get("node", "")))
                    ping = self._cloud.bus.ping(_tenant(request), node, count=count, interval=interval)
                    return json_response(200, await ping)
                case "GET", "/v1/sync":
                    query = {name: values[-1] for name, values in request.query.items()}
                    return json_response(
                        200, await self._cloud.sync_status(query.get("tenant", ""), query.get("node", ""))
                    )
                case "POST", "/v1/stop":
                    asyncio.get_running_loop().call_later(0.1, self._cloud.supervisor.stop)
                    return json_response(200, {})
            return json_response(404, {"error": f"no {request.method} {request.path} here"})
        except NotFound as exc:
            return json_response(404, {"error": str(exc)})
        except KubeEdgeError as exc:
            return json_response(400, {"error": str(exc)})


def _tenant(request: Request) -> TenantId:
    return tenant_id((request.query.get("tenant") or ["default"])[-1])


class _Tenants:
    """The administrator's view: a tenant that is made gets its kubeconfig at once."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def names(self) -> list[TenantId]:
        return await self._cloud.tenants.names()

    async def show(self, tenant: TenantId) -> dict[str, Any]:
        usage = self._cloud.usage.of(tenant)
        used, limits = usage.used, usage.limits
        return {
            "name": tenant,
            "objects": {"used": used.objects, "limit": limits.objects},
            "bytes": {"used": used.size, "limit": limits.size},
        }

    async def allow_storage(self, tenant: TenantId, objects: int, size: int) -> None:
        await self._cloud.tenants.allow_storage(tenant, objects=objects, size=size)

    async def ensure(self, tenant: TenantId) -> None:
        await self._cloud.tenants.ensure(tenant)
        await self._cloud.open_tenant(tenant)

    async def remove_node(self, tenant: TenantId, node: NodeName) -> bool:
        return await self._cloud.tenants.remove_node(tenant, node)


_LOCAL_NAMES = ("127.0.0.1", "localhost")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
