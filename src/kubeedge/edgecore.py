"""The agent of an edge node: settings in, levels of modules out. The only file that knows all of its parts; it composes, and does nothing else.

    store
    certificates, kubebus, networkwatch
    appengine, mesh, gateways, servicetable, publishing, metrics, edgewrites, metaserver, devicepush, upstream,
    devicetwins, eventbus, devicescans, imageupdate, conditions, control
    edgehub (sync in both directions)

In this order, and stopped in the reverse one. Pods start from the local store alone, so AppEngine needs nothing of EdgeHub: the channel
comes last, when what it reports is what runs, and goes first, so that the end of the other modules is not reported as a failure of the node. What
is written after that waits in the store for the next channel.

What is switched off in kubeedge.yaml is not imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import Sequence
from ipaddress import ip_interface
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge import __version__
from kubeedge.agent import footprint, machine, node_addresses
from kubeedge.agent.control import AgentControl
from kubeedge.agent.kubelet import OwnKubelet, cloud_calls, for_the_cloud
from kubeedge.agent.metrics import families
from kubeedge.agent.node_addresses import ToldAddresses
from kubeedge.agent.parts import Parts, SyncChannel
from kubeedge.agent.salvage import worth_keeping
from kubeedge.api.names import KUBELET_PORT, RULES_PORT, L4Port, NodeName, NodeNumber, TenantId
from kubeedge.beehive.module import Module
from kubeedge.beehive.supervisor import Supervisor
from kubeedge.config import node_credentials
from kubeedge.config.edge import EdgeConfig, SecretsEncryption
from kubeedge.config.node_credentials import NodeCredentials
from kubeedge.control.module import ControlServer
from kubeedge.kit import forwarding, logs, private
from kubeedge.kit.metrics import Family, MetricsRegistry
from kubeedge.kit.streams import StreamPair
from kubeedge.store.model import Store
from kubeedge.store.sqlite import SqliteStore, open_sqlite
from kubeedge.store.sqlite_file import SqliteSettings

if TYPE_CHECKING:
    from kubeedge.appengine.node_api import NodeApi
    from kubeedge.kubebus.module import KubeBus

log = logging.getLogger("kubeedge")

#: where this machine was started from a card with two slots (kubeedge.imageupdate.card.DISK)
CARD = Path("/run/card-disk")


def main(config: EdgeConfig, credentials: NodeCredentials) -> int:
    """Run the agent in the foreground until SIGTERM or SIGINT; the exit status."""
    logs.setup(config.logging.level)
    with contextlib.suppress(KeyboardInterrupt):
        while asyncio.run(_run(config, credentials)):
            credentials = node_credentials.load_credentials(node_credentials.credentials_path(config.paths))
    return 0


async def _run(config: EdgeConfig, credentials: NodeCredentials) -> bool:
    """Whether it is to be run anew, since the credentials have changed."""
    stuck: tuple[str, ...] = ()
    paths = config.paths
    for path in (paths.state, paths.state / "volumes", paths.run, paths.pki):
        private.directory(path)
    if config.modules.kubebus.enable or config.modules.appengine.enable:
        with contextlib.suppress(OSError):  # they will say what is wrong
            forwarding.note(paths.run)
    private.files([*paths.pki.glob("*.key*"), node_credentials.credentials_path(paths)])
    # a corrupt store is set aside; what can be read of it is used, offline too, until the cloud compares it
    path = config.paths.state / "edge.db"
    store = await open_sqlite(path, settings=store_settings(config), on_corrupt="rebuild", wanted=worth_keeping)
    try:
        agent = Agent(config, credentials, store)
        footprint.loaded()
        asyncio.get_running_loop().call_later(footprint.SETTLED, footprint.settled)
        log.info("agent version=%s tenant=%s node=%s", __version__, credentials.tenant, credentials.node)
        stuck = await agent.supervisor.run()
        return agent.changed and not agent.supervisor.signalled
    finally:
        await store.close()
        if stuck:  # asyncio.run would wait for them for ever
            os._exit(1)


def store_settings(config: EdgeConfig) -> SqliteSettings:
    """How the agent opens its store."""
    trial = False
    if CARD.exists():
        from kubeedge.imageupdate import card

        trial = card.on_trial()
    if config.secrets_encryption == SecretsEncryption():
        return SqliteSettings(trial=trial)
    from kubeedge.store.sealing_keys import keyring

    return SqliteSettings(trial=trial, keyring=keyring(config.secrets_encryption, os.environ))


class Agent:
    """The modules of one agent, in levels, and the supervisor that runs them."""

    def __init__(self, config: EdgeConfig, credentials: NodeCredentials, store: SqliteStore) -> None:
        own, no_ipv6 = node_addresses.usable(credentials)
        self.parts = Parts(config=config, credentials=own, store=store, no_ipv6=no_ipv6)
        self._told = ToldAddresses(node_credentials.credentials_path(config.paths), credentials.ipv6, self._start_anew)
        self.changed = False  # what this agent was made of: another one is to be made
        self._metrics = MetricsRegistry()
        self._metrics.collect(self._families)
        self.levels = self._make()
        self.supervisor = Supervisor(self.levels, before_stop=self._before_stop)

    def _start_anew(self) -> None:
        self.changed = True
        self.supervisor.stop()

    async def _before_stop(self) -> None:
        c, engine = self.parts.config.modules.appengine, self.parts.engine
        if engine is not None and c.shutdown_grace_period and await machine.shuts_down():
            await engine.shut_down(c.shutdown_grace_period, c.shutdown_grace_period_critical_pods)

    def _make(self) -> list[list[Module]]:
        """The lowest first. Each part is made once, and later ones use it by way of `parts`."""
        parts = self.parts
        on = parts.config.modules
        network: list[Module] = [self._certificates()]
        if on.kubebus.enable:
            network.append(self._kubebus())
        channel: list[Module] = [self._edgehub()] if on.hub.enable else []
        if parts.bus is not None or parts.channel is not None:
            from kubeedge.networkwatch.module import NetworkWatch

            network.append(NetworkWatch(parts.network_changed))
        workloads: list[Module] = []
        if on.appengine.enable:
            workloads.append(self._appengine())
        if on.mesh.enable:
            from kubeedge.agent.mesh_modules import mesh_modules

            workloads += mesh_modules(parts)
        elif on.mesh.gateways.enable:
            log.warning("modules.mesh.gateways serves nothing without modules.mesh.enable: true")
        if on.publishing.enable and parts.bus is not None:
            workloads += self._publishing(parts.bus)
        if parts.config.metrics.listen:
            workloads.append(self._metrics_server(parts.config.metrics.listen))
        if on.metaserver.enable:
            workloads += self._metaserver()
        if on.devices.enable:
            from kubeedge.agent.device_modules import device_modules

            workloads += device_modules(parts)
        workloads += [*self._imageupdate(), self._conditions(), self._control()]
        return [level for level in (network, workloads, channel) if level]

    def _certificates(self) -> Module:
        from kubeedge.pki.module import Certificates, CertificatesSettings

        parts = self.parts
        settings = CertificatesSettings(pki=parts.config.paths.pki, bootstrap=parts.credentials.bootstrap)
        return Certificates(settings, clock=time.time, jitter=random.random(), renewed=parts.network_changed)

    async def _admit(self, namespace: str, name: str, uid: str, addresses: Sequence[str]) -> None:
        """Policies of a pod are in the kernel before it begins."""
        if self.parts.mesh is not None:
            await self.parts.mesh.admit(namespace, name, uid, addresses)

    def _kubebus(self) -> Module:
        from kubeedge.kubebus.core import KubeBusSettings, RouterSettings
        from kubeedge.kubebus.module import KubeBus

        parts = self.parts
        c, r = parts.config.modules.kubebus, parts.config.modules.router
        pki, own = parts.config.paths.pki, parts.credentials
        parts.bus = KubeBus(
            KubeBusSettings(
                relays=c.relays or own.relays,
                ca=pki / "ca.crt",
                cert=pki / "node.crt",
                key=pki / "node.key",
                node=own.node,
                number=NodeNumber(own.number),
                address=own.address,
                pod_cidr=own.pod_cidr,
                tun=c.tun,
                mtu=c.mtu,
                overlay_routes=(own.pod_network, *c.overlay_routes),
                ipv6=own.ipv6,
                connections=c.connections,
                congestion=c.congestion,
                router=RouterSettings(subnets=r.subnets, mtu=r.mtu, masquerade=r.masquerade) if r.enable else None,
            ),
            told=self._told,
        )
        parts.bus.serve(RULES_PORT, for_the_cloud(cloud_calls(parts), own))
        return parts.bus

    def _edgehub(self) -> Module:
        from kubeedge.hub.core import ChannelSettings
        from kubeedge.hub.driver import Channel
        from kubeedge.hub.module import EdgeHub, EdgeHubSettings
        from kubeedge.pki.trust import client_context
        from kubeedge.sync.driver import run_edge
        from kubeedge.sync.progress import Progress

        parts = self.parts
        pki, store = parts.config.paths.pki, parts.store
        down, up = Progress(), Progress()

        async def use(channel: Channel) -> None:
            await run_edge(channel, store, down, up)

        session = ChannelSettings(keepalive=parts.config.modules.hub.keepalive)
        hub = EdgeHub(
            EdgeHubSettings(endpoints=parts.credentials.hub, session=session),
            lambda: client_context(pki / "ca.crt", pki / "node.crt", pki / "node.key"),
            use,
        )
        parts.channel = SyncChannel(hub, down, up)
        return hub

    def _appengine(self) -> Module:
        from kubeedge.agent.runtimes import cri, embedded
        from kubeedge.appengine.eviction import thresholds
        from kubeedge.appengine.module import AppEngine, AppEngineSettings
        from kubeedge.appengine.node import reserved
        from kubeedge.appengine.server import KubeletServer
        from kubeedge.appengine.settings import ImageSettings

        parts = self.parts
        c, paths, own = parts.config.modules.appengine, parts.config.paths, parts.credentials
        runtime = (cri if c.runtime == "cri" else embedded)(parts.config, own)
        settings = AppEngineSettings(
            node=own.node,
            address=own.address,
            ipv6=own.ipv6.ip,
            state=paths.state,
            logs=paths.logs,
            max_pods=c.max_pods,
            api=self._api_for_pods(),
            admit=self._admit,
            log_max_bytes=c.log_max_bytes,
            reserved=reserved((*c.system_reserved, *c.kube_reserved)),
            eviction=thresholds(c.eviction_hard),
            swap=c.memory_swap.swap_behavior,
            kubelet=paths.kubelet,
            static_pods=Path(c.static_pod_path) if c.static_pod_path else None,
            images=ImageSettings(
                pre_pull=c.images.pre_pull,
                high=c.images.gc_high_percent,
                low=c.images.gc_low_percent,
                min_age=c.images.gc_min_age,
            ),
        )
        store: Store = parts.store
        if parts.config.modules.metaserver.enable:  # what is changed at the edge holds at the edge at once
            from kubeedge.metaserver.effective import EffectiveStore

            store = EffectiveStore(store)
        parts.engine = AppEngine(store, settings, runtime)
        if parts.bus is not None:
            served = KubeletServer(parts.engine, self._metrics.text).handle
            parts.bus.serve(KUBELET_PORT, for_the_cloud(served, own))
        return parts.engine

    def _api_for_pods(self) -> NodeApi | None:
        from kubeedge.appengine.node_api import NodeApi

        c, own = self.parts.config.modules.metaserver, self.parts.credentials
        if not c.enable or not c.pods_port:
            return None
        certificate = self.parts.config.paths.state / "metaserver-pods" / "server.crt"
        return NodeApi(str(ip_interface(own.address).ip), c.pods_port, certificate)

    def _publishing(self, bus: KubeBus) -> list[Module]:
        from kubeedge.kubebus.http.url import ServiceName, Target
        from kubeedge.publishing.module import EdgePublishing
        from kubeedge.publishing.servicetable.core import PREFIXES, ServiceTable
        from kubeedge.publishing.servicetable.module import ServiceFeed

        own, c = self.parts.credentials, self.parts.config.modules.publishing
        table = ServiceTable()

        async def connect(tenant: TenantId, node: NodeName, port: L4Port) -> StreamPair:
            return await bus.connect(node, port)  # the proxy lets no other tenant pass

        async def resolve(service: ServiceName) -> Target:
            return table.resolve(service)

        def apply(key: str, value: bytes | None) -> None:
            if table.apply(key, value):
                publishing.forget()

        publishing = EdgePublishing(
            tenant=TenantId(own.tenant),
            listen_on=c.listen,
            connect=connect,
            listen=bus.listen,
            resolve=resolve,
            policy=table.policy,
            nodes=own.last_node,
            server_fast_path=bus.server_fast_path,
            targets=table.targets,
            has_pod=table.has_pod,
            timeout=c.timeout,
        )
        return [ServiceFeed(self.parts.store, PREFIXES, apply), publishing]

    def _metrics_server(self, listen: str) -> Module:
        from kubeedge.config import forms
        from kubeedge.metrics.module import MetricsServer

        return MetricsServer(*forms.endpoint(listen), self._metrics.text)

    def _metaserver(self) -> list[Module]:
        from kubeedge.appengine.server import KubeletServer
        from kubeedge.config.forms import ip_endpoint
        from kubeedge.metaserver.edgewrites.module import EdgeWrites
        from kubeedge.metaserver.gateway import Gateway
        from kubeedge.metaserver.module import MetaServer, MetaServerSettings

        parts = self.parts
        own, paths, c = parts.credentials, parts.config.paths, parts.config.modules.metaserver
        address, port = ip_endpoint(c.listen)
        settings = MetaServerSettings(
            tenant=own.tenant,
            node=own.node,
            directory=paths.state / "metaserver",
            kubeconfig=paths.pki.parent / "kubeconfig",
            ca=paths.pki / "ca.crt",
            address=address,
            port=port,
            tls=c.tls,
            pods_address=str(ip_interface(own.address).ip) if c.pods_port else "",
            pods_port=c.pods_port,
        )
        served = KubeletServer(parts.engine, self._metrics.text).handle if parts.engine is not None else None
        kubelet = OwnKubelet(own.node, served)
        parts.writes = EdgeWrites(parts.store, own.node, wall=time.time)
        gateway: Gateway | None = None
        if (bus := parts.bus) is not None:

            async def connect(port: L4Port, timeout: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                return await bus.connect("cloud", port, timeout=timeout)

            gateway = Gateway(connect)
        parts.api = MetaServer(parts.store, settings, kubelet.connect, wall=time.time, gateway=gateway)
        return [parts.writes, parts.api]

    def _imageupdate(self) -> list[Module]:
        if not CARD.exists():
            return []
        from kubeedge.imageupdate.module import ImageUpdates

        return [ImageUpdates(self.parts.store, self.parts.credentials.node, chance=random.random)]

    def _conditions(self) -> Module:
        from kubeedge.conditions.module import ConditionReporter

        bus, engine, mesh = self.parts.bus, self.parts.engine, self.parts.mesh
        return ConditionReporter(
            self.parts.store,
            bus=(lambda: bus.status) if bus is not None else None,
            runtime=engine.not_ready if engine is not None else None,
            encryption=self.parts.store.sealing,
            pressures=engine.pressures if engine is not None else None,
            mesh=(lambda: mesh.problem if mesh.settled else None) if mesh is not None else None,
            policy=(lambda: mesh.policy_problem) if mesh is not None else None,
            gateways=self.parts.gateways is not None,
            ipv6=self.parts.no_ipv6 if self.parts.no_ipv6 or self.parts.credentials.ipv6 else None,
        )

    def _control(self) -> Module:
        control = AgentControl(self.parts, lambda: self.supervisor)
        return ControlServer(
            self.parts.config.paths.run / "edge.sock", control.answer, self._metrics.text, control.kubelet
        )

    def _families(self) -> list[Family]:
        return families(self.parts, self.supervisor.states())
