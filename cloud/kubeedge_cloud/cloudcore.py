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
import logging
import os
import ssl
import time
from functools import partial

from kubeedge import __version__
from kubeedge.api.names import KUBELET_PORT, RULES_PORT, TenantId
from kubeedge.api.service_accounts import API_PORT as PODS_API
from kubeedge.apiserver.logs import NodeStream
from kubeedge.apiserver.message_calls import MessageCalls
from kubeedge.apiserver.message_log import MessageLog
from kubeedge.apiserver.module import ApiServerModule
from kubeedge.apiserver.quota import TenantLimits
from kubeedge.apiserver.server import ApiServer
from kubeedge.beehive.module import Module
from kubeedge.beehive.supervisor import Supervisor
from kubeedge.config.cloud import CloudConfig
from kubeedge.control.module import ControlServer
from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.kit import logs, private
from kubeedge.kit.metrics import MetricsRegistry
from kubeedge.kubebus.http.url import L4_PORT
from kubeedge.metrics.module import MetricsServer
from kubeedge.store.model import Store
from kubeedge.sync.bounds import Bounds
from kubeedge_cloud.admin.devices import DeviceRoutes
from kubeedge_cloud.admin.kubeconfigs import KubeconfigRoutes
from kubeedge_cloud.admin.network import NetworkRoutes
from kubeedge_cloud.admin.routes import AdminRoutes
from kubeedge_cloud.admin.scans import ScanRoutes
from kubeedge_cloud.admin.tenants import TenantRoutes
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.bootstrap.board_events import BoardEvents
from kubeedge_cloud.bootstrap.endpoints import LOCAL_NAMES, certificate_names, endpoint, hosts, node_endpoints
from kubeedge_cloud.bootstrap.module import Bootstrap, BootstrapSettings
from kubeedge_cloud.bootstrap.tokens import TokenStore
from kubeedge_cloud.certificates.authority import check_authority, check_directory
from kubeedge_cloud.certificates.filecertificate.module import modern
from kubeedge_cloud.certificates.module import ServerCertificate
from kubeedge_cloud.cloudhub.module import CloudHub, CloudHubSettings
from kubeedge_cloud.cluster_calls import cluster_calls
from kubeedge_cloud.controllers.basics.core import Server
from kubeedge_cloud.controllers.module import ControllersModule
from kubeedge_cloud.devicecontroller.module import DeviceController
from kubeedge_cloud.edgecontroller.module import EdgeController, EdgeControllerSettings
from kubeedge_cloud.edgecontroller.node_registration import ClusterRegistry, owner_of, remove_nodes
from kubeedge_cloud.gateway.module import Gateways
from kubeedge_cloud.kubeconfigs.admin import AdminKubeconfigs
from kubeedge_cloud.kubeconfigs.files import KubeconfigFiles
from kubeedge_cloud.kubeconfigs.module import Kubeconfigs
from kubeedge_cloud.kubeconfigs.records import KubeconfigRecords
from kubeedge_cloud.kubelet_apis import KubeletApis
from kubeedge_cloud.kubelets.nodestreams.module import NodeStreams
from kubeedge_cloud.messages.module import NodeMessages
from kubeedge_cloud.pods_api import ApiForPods
from kubeedge_cloud.ports import check_free
from kubeedge_cloud.processes import tuning
from kubeedge_cloud.processes.membership import Alone
from kubeedge_cloud.processes.module import Process
from kubeedge_cloud.publishing.module import Publishing
from kubeedge_cloud.publishing.services import CloudServices
from kubeedge_cloud.publishing.settings import limits_of, ports_of, tls_of
from kubeedge_cloud.relay import bushub
from kubeedge_cloud.rules.module import MessageRules
from kubeedge_cloud.status import first_steps
from kubeedge_cloud.status.metrics import families
from kubeedge_cloud.status.nodes import NodeOverview
from kubeedge_cloud.status.process import ProcessStatus
from kubeedge_cloud.status.sync import SyncStatus
from kubeedge_cloud.stores import SharedStore, open_store
from kubeedge_cloud.tenant_apis import TenantApis
from kubeedge_cloud.tenants.administration import TenantAdministration
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import plan_of
from kubeedge_cloud.tenants.module import StorageUsage
from kubeedge_cloud.tenants.registries import Registries

log = logging.getLogger("kubeedge")

_LOCAL_NAMES = ("127.0.0.1", "localhost")


def main(config: CloudConfig, *, new_authority: bool = False) -> int:
    """Runs the process until it is interrupted; the exit status. `new_authority`: the CA of this machine replaces that of the store."""
    logs.setup(config.logging.level)
    tuning.raise_descriptor_limit()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(config, new_authority))
    return 0


async def _run(config: CloudConfig, new_authority: bool) -> None:
    state = config.paths.state
    for path in (state, config.paths.run):
        private.directory(path)
    private.files(state.glob("kubeconfig-*"))
    stuck: tuple[str, ...] = ()
    store = await open_store(config)
    try:
        pki = config.paths.state / "pki"
        await check_directory(store, pki, replace=new_authority)
        cloud = Cloud(config, store)
        await check_authority(store, pki, cloud.authority.hash, replace=new_authority)
        check_free(config.listeners)
        await cloud.prepare()
        tuning.freeze_heap()
        log.info("cloud version=%s advertise=%s", __version__, ",".join(cloud.hosts))
        first_steps.log_them(config, cloud.hosts, cloud.kubeconfig_files)
        if isinstance(store, SharedStore):
            store.on_rewound = cloud.supervisor.stop
        stuck = await cloud.supervisor.run()
        if isinstance(store, SharedStore) and store.rewound:
            raise Unavailable(store.rewound)
    finally:
        await store.close()
        if stuck:  # asyncio.run would wait for them for ever
            os._exit(1)


class Cloud:
    """Builds every part of the process from its settings, over a store that is open."""

    def __init__(self, config: CloudConfig, store: Store) -> None:
        self.config = config
        self.membership: Alone | Process = Alone()
        if config.store.etcd.endpoints:
            self.membership = Process(store, address=hosts(config)[0])
        self.store = store
        self.shared = store if isinstance(store, SharedStore) else None
        self.hosts = hosts(config)
        self.authority = Authority(config.paths.state / "pki")
        self.certificate = ServerCertificate(self.authority, config.paths.state / "pki", certificate_names(config))
        self.plan = plan_of(config.addresses)
        self.tenants = TenantManager(store, plan=self.plan)
        self.tokens = TokenStore(store, self.authority.hash, time.time)
        self.kubeconfig_records = KubeconfigRecords(store, time.time)
        server = f"https://{endpoint(self.hosts[0], config.listeners.api.port)}"
        self.kubeconfig_files = KubeconfigFiles(
            self.authority, self.kubeconfig_records, config.paths.state, server, time.time
        )
        self.kubeconfigs = Kubeconfigs(store, time.time)
        self.admin_kubeconfigs = AdminKubeconfigs(self.kubeconfig_files)
        self.kubeconfigs.on_ended(self.admin_kubeconfigs.ended)
        self.usage = StorageUsage(
            store,
            self.tenants,
            TenantLimits(config.quota.objects, config.quota.mib * 1024 * 1024),
            pressure=self._pressure,
        )
        # without an API there is no server to show a token to
        key = self.authority.token_key if config.listeners.api.enable else None
        self.registries = Registries(
            store, self.usage, self.membership, account_key=key, services=self.plan.services_of
        )
        self.apis = TenantApis(store, self.tenants, self.registries, self.admin_kubeconfigs, self.membership)
        self.kubelets = KubeletApis(config, self.hosts[0], self.plan.nodes, self.apis)
        self.owner = self.authority.hash[:16]  # of our Nodes in clusters of users
        self.web: Publishing | None = None
        self.bus = bushub(config, self.plan, self.authority, self.certificate, self.tenants, store)
        if config.publishing.services:
            self.bus.serve(L4_PORT, CloudServices(config.publishing.services, self.tenants.tenant_number).for_tenant)
        self.node_streams = NodeStreams(store, lambda tenant, node: self.bus.connect(tenant, node, KUBELET_PORT))
        self._rule_stream: NodeStream = lambda tenant, node: self.bus.connect(tenant, node, RULES_PORT)
        self.api = self._apiserver() if config.listeners.api.enable else None
        self.bus.serve(PODS_API, ApiForPods(self.apis.tenant_of, self.api, self.apis.connect_cluster).for_tenant)
        self.hub = self._cloudhub()
        self.metrics = MetricsRegistry()
        self.metrics.collect(lambda: families(self.supervisor, store, self.hub, self.bus, self.usage, self.web))
        self.supervisor = Supervisor([level for level in self._levels() if level])

    async def prepare(self) -> None:
        """Tenants that the configuration names, and a kubeconfig for each."""
        for name, cluster in self.config.tenant_clusters.items():
            record = await self.tenants.ensure_tenant(name)
            if cluster:
                await self.tenants.use_cluster(record.name, cluster)
        for tenant in await self.tenants.names():
            await self.apis.open_tenant(tenant)

    def _pressure(self, tenant: TenantId) -> float:
        """Seconds for which the store's history has no room for more of the tenant; SQLite compacts each tenant's at once."""
        return self.shared.pressure(tenant) if self.shared else 0.0

    async def _close_tenant(self, tenant: TenantId, force: bool) -> None:
        """Remove its Nodes from its own cluster, and stop using its API. Raises Unavailable, unless it is forced, while the cluster is away."""
        if (cluster := await self.apis.cluster_of(tenant)) is not None:
            try:
                await remove_nodes(cluster, owner_of(self.owner, tenant))
            except KubeEdgeError as exc:
                if not force:
                    raise
                log.warning("tenant=%s its Nodes stay in its cluster: %s", tenant, exc)
        self.apis.close_tenant(tenant)

    # -- modules -------------------------------------------------------------------------------------------------------

    def _levels(self) -> list[list[Module]]:
        on = self.config.listeners
        serving: list[Module] = [self.bus, self.node_streams] if on.relay.enable else []
        if self.api is not None:
            context = self.certificate.context(mutual=True, minimum=ssl.TLSVersion.TLSv1_2)
            context.verify_mode = ssl.CERT_OPTIONAL  # pods come with a token; a certificate that is shown is verified
            serving.append(ApiServerModule(self.api, context, address=on.api.address, port=on.api.port))
        devices = DeviceController(
            self.store,
            self.registries.fenced("devicecontroller"),
            self.tenants,
            grace=self.config.node_monitor_grace_period,
            limits=lambda tenant: self.usage.of(tenant).limits,
            cluster_client=partial(self.apis.edge_cluster, work="devicecontroller"),
            member=self.membership,
            offload=self.registries.offload,
        )
        self.metrics.collect(devices.families)
        controlling: list[Module] = [
            EdgeController(
                self.store,
                self.registries.fenced("edgecontroller"),
                self.tenants,
                EdgeControllerSettings(
                    node_grace=self.config.node_monitor_grace_period, owner=self.owner, kubelet=self.kubelets.endpoint
                ),
                limits=lambda tenant: self.usage.of(tenant).limits,
                cluster_client=self.apis.edge_cluster,
                member=self.membership,
            ),
            devices,
            NodeMessages(self.store, self.tenants, member=self.membership),
            MessageRules(
                self.store,
                self.registries.fenced("rules"),
                self.tenants,
                allowed=self.config.rules.allowed_targets,
                cluster_client=partial(self.apis.edge_cluster, work="rules"),
                node_stream=self._rule_stream,
                member=self.membership,
            ),
            ControllersModule(
                self.registries.fenced("controllers"),
                self.tenants,
                member=self.membership,
                server=Server(self.authority.pem.decode(), self.hosts, on.api.port) if on.api.enable else None,
            ),
        ]
        listening: list[Module] = [self.hub] if on.hub.enable else []
        if on.bootstrap.enable:
            listening.append(self._bootstrap())
        if on.web.enable and on.relay.enable:
            listening += self._publishing()
        listening += self.kubelets.modules(self.tenants, self.node_streams, self.certificate)
        messages = MessageCalls(partial(MessageLog, self.store))
        parts = self.authority, self.certificate, self.tenants, self.apis, self._rule_stream, messages
        listening += cluster_calls(self.config, self.hosts[0], *parts, self.registries.offload, self.membership)
        if on.metrics.enable:
            listening.append(
                MetricsServer(on.metrics.address, on.metrics.port, self.metrics.text, waiting=self._not_ready)
            )
        listening.append(self._admin())
        members = [self.membership] if isinstance(self.membership, Process) else []
        first: list[Module] = [self.certificate, self.usage, self.kubeconfigs, *members]
        return [first, serving, controlling, listening]

    def _not_ready(self) -> list[str]:
        """Modules that do not serve, for a readiness probe."""
        return [state.name for state in self.supervisor.states() if state.state != "ready"]

    def _apiserver(self) -> ApiServer:
        api = ApiServer(
            self.registries.known,
            self.node_streams.connect,
            check=self.kubeconfigs.check,
            rule_stream=self._rule_stream,
            messages=partial(MessageLog, self.store),
        )
        self.kubeconfigs.on_ended(api.end)
        return api

    def _publishing(self) -> list[Module]:
        c, on = self.config.publishing, self.config.listeners.web
        tls, modules = tls_of(c, self.certificate)
        gateways = Gateways(
            self.store,
            self.registries.fenced("gateway"),
            self.tenants,
            ports=ports_of(c, on.port),
            addresses=self.hosts,
            reserved=(*self.hosts, *c.names, *LOCAL_NAMES),
            default=c.default_tenant,
            offload=self.registries.offload,
            member=self.membership,
            cluster_client=partial(self.apis.edge_cluster, work="gateway") if c.cluster_gateways else None,
            make_tls=lambda: modern(self.certificate.context(mutual=False, minimum=ssl.TLSVersion.TLSv1_2)),
        )
        self.web = Publishing(
            address=on.address,
            port=on.port,
            connect=self.bus.connect,
            tls=tls,
            trust_forwarded=c.trust_forwarded,
            limits=limits_of(c),
            fast_path=self.bus.client_fast_path,
            numbers=self.bus.numbers,
            gateways=gateways,
        )
        self.bus.on_replaced(self.web.forget)
        return [*modules, gateways, self.web]

    def _cloudhub(self) -> CloudHub:
        on = self.config.listeners.hub
        limits = self.config.nodes
        bounds = Bounds(
            keys=limits.reported_keys, size=limits.reported_mib * 1024 * 1024, seconds=limits.reported_seconds
        )
        settings = CloudHubSettings(address=on.address, port=on.port, bounds=bounds)
        return CloudHub(
            settings,
            self.store,
            self.tenants,
            lambda: self.certificate.context(mutual=True),
            membership=self.membership,
            pressure=self._pressure,
        )

    def _bootstrap(self) -> Bootstrap:
        on, endpoints = self.config.listeners.bootstrap, node_endpoints(self.config)
        if not endpoints["relays"]:
            log.warning("listeners.relay is off and `peers` names no other process: nodes join without KubeBus")
        return Bootstrap(
            BootstrapSettings(address=on.address, port=on.port, endpoints=endpoints),
            self.authority,
            self.tokens,
            ClusterRegistry(self.tenants, self.owner, self.apis.cluster_of),
            lambda: self.certificate.context(mutual=False),
            time.time,
            tell=BoardEvents(self.apis.api_of, time.time).contested,
        )

    def _admin(self) -> ControlServer:
        """The administration API, and what it asks."""
        overview = NodeOverview(self.store, self.tenants, self.apis.api_of, self.hub.attached)
        kubeconfigs = KubeconfigRoutes(
            self.kubeconfig_records, self.kubeconfig_files, self.admin_kubeconfigs.replace, time.time
        )
        routes = AdminRoutes(
            tenants=TenantRoutes(
                TenantAdministration(self.tenants, self.usage, self.apis.open_tenant, self._close_tenant),
                self.tokens,
                time.time,
                kubeconfigs,
                DeviceRoutes(self.apis.api_of, self._rule_stream),
                ScanRoutes(self.store),
            ),
            network=NetworkRoutes(self.bus, self.tenants),
            status=ProcessStatus(
                self.store,
                self.tenants,
                overview,
                self.bus,
                attached=self.hub.attached,
                modules=lambda: self.supervisor.states(),
                hosts=self.hosts,
            ),
            nodes=overview,
            sync=SyncStatus(self.store, self.tenants, overview, self.hub.attached),
            stop=lambda: self.supervisor.stop(),
            clock=time.time,
        )
        return ControlServer(self.config.paths.run / "cloud.sock", routes.answer, self.metrics.text)
