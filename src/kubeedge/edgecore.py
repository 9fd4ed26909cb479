"""The agent of an edge node: settings in, levels of modules out. The only place that knows all of its parts.

    store
    certificates, kubebus, networkwatch
    appengine, servicetable, webservices, metrics, edgewrites, metaserver, kubebuscondition, control
    edgehub (sync in both directions)

In this order, and stopped in the reverse one: pods start from what the store has, whether or not the cloud answers, and what they report
until the end still goes out. What is switched off in kubeedge.yaml is not imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from kubeedge import __version__
from kubeedge.api import edge_writes, keys
from kubeedge.api.names import NodeName, Revision, TenantId
from kubeedge.beehive.module import Module
from kubeedge.beehive.supervisor import Supervisor
from kubeedge.config import edge
from kubeedge.config.edge import EdgeConfig, NodeCredentials
from kubeedge.control.requests import optional_text, ping_request, request_object
from kubeedge.control.server import ControlServer
from kubeedge.errors import NotFound, Unavailable
from kubeedge.kit import logs, private
from kubeedge.kit.http1 import Request
from kubeedge.store.model import ChangeKind
from kubeedge.store.sqlite import SqliteStore, open_sqlite

if TYPE_CHECKING:
    from kubeedge.appengine.engine import AppEngine
    from kubeedge.hub.edgehub import EdgeHub
    from kubeedge.kit.metrics import Family, MetricsRegistry
    from kubeedge.kubebus.stack import KubeBus
    from kubeedge.metaserver.module import MetaServer
    from kubeedge.metaserver.settle import EdgeWrites
    from kubeedge.publishing.services import PublishedServices
    from kubeedge.store.model import Store
    from kubeedge.sync.driver import Progress

log = logging.getLogger("kubeedge")

KUBELET_PORT = 10250  # L4


def main(config: EdgeConfig, credentials: NodeCredentials) -> int:
    logs.setup(config.logging.level)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(config, credentials))
    return 0


async def _run(config: EdgeConfig, credentials: NodeCredentials) -> None:
    stuck: tuple[str, ...] = ()
    paths = config.paths
    for path in (paths.state, paths.state / "volumes", paths.run, paths.pki):
        private.directory(path)
    private.files([*paths.pki.glob("*.key*"), edge.credentials_path(paths)])
    # a corrupt store is set aside; what can be read of it goes on, offline too, until the cloud compares it
    store = await open_sqlite(config.paths.state / "edge.db", on_corrupt="rebuild", wanted=_worth_keeping)
    try:
        agent = Agent(config, credentials, store)
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it, nor touch its pages
        log.info("agent version=%s tenant=%s node=%s", __version__, credentials.tenant, credentials.node)
        stuck = await agent.supervisor.run()
    finally:
        await store.close()
        if stuck:  # asyncio.run would wait for them for ever
            os._exit(1)


def _worth_keeping(key: str, value: bytes) -> bool:
    """Of a corrupt store: what the cloud wants, as far as it is still JSON, and what it has not seen of us. The rest is made anew."""
    if key.startswith((keys.DESIRED, f"{keys.REPORTED}{edge_writes.RESOURCE}/")):
        with contextlib.suppress(ValueError, RecursionError):
            return isinstance(json.loads(value), dict)
        return False
    return key.startswith(keys.LOCAL)


class Agent:
    def __init__(self, config: EdgeConfig, credentials: NodeCredentials, store: SqliteStore) -> None:
        self.config = config
        self.credentials = credentials
        self.store = store
        self.bus: KubeBus | None = None
        self.hub: EdgeHub | None = None
        self.engine: AppEngine | None = None
        self.down: Progress | None = None
        self.up: Progress | None = None
        self.metrics = self._metrics()
        self.api: MetaServer | None = None
        self.writes: EdgeWrites | None = None
        self._streams: set[asyncio.Task[None]] = set()
        modules = config.modules
        network: list[Module] = [self._certificates()]
        if modules.kubebus.enable:
            network.append(self._kubebus())
        channel: list[Module] = [self._edgehub()] if modules.hub.enable else []
        workloads: list[Module] = []
        if modules.appengine.enable:
            workloads.append(self._appengine())
        if modules.publishing.enable and self.bus is not None:
            workloads += self._webservices(self.bus)
        if config.metrics.listen:
            workloads.append(self._metrics_server(config.metrics.listen))
        if modules.metaserver.enable:
            workloads += self._metaserver()
        workloads.append(self._kubebus_condition())
        workloads.append(ControlServer(config.paths.run / "edge.sock", Control(self).answer, self.metrics.text))
        if self.bus is not None or self.hub is not None:
            network.append(NetworkWatch(self._network_changed))
        self.supervisor = Supervisor([level for level in (network, workloads, channel) if level])

    # -- modules -------------------------------------------------------------------------------------------------------

    def _kubebus_condition(self) -> Module:
        from kubeedge.kubebus_condition import ConditionReporter

        bus = self.bus
        return ConditionReporter(self.store, (lambda: bus.status) if bus is not None else None)

    def _certificates(self) -> Module:
        from kubeedge.pki.module import Certificates, CertificatesSettings

        settings = CertificatesSettings(pki=self.config.paths.pki, bootstrap=self.credentials.bootstrap)
        return Certificates(settings, clock=time.time, jitter=random.random(), renewed=self._network_changed)

    def _kubebus(self) -> Module:
        from kubeedge.kubebus.router import RouterSettings
        from kubeedge.kubebus.stack import KubeBus, KubeBusSettings

        c, pki, own = self.config.modules.kubebus, self.config.paths.pki, self.credentials
        r = self.config.modules.router
        self.bus = KubeBus(
            KubeBusSettings(
                relays=c.relays or own.relays,
                ca=pki / "ca.crt",
                cert=pki / "node.crt",
                key=pki / "node.key",
                node=own.node,
                number=own.number,
                address=own.address,
                pod_cidr=own.pod_cidr,
                tun=c.tun,
                mtu=c.mtu,
                overlay_routes=(own.pod_network, *c.overlay_routes),
                connections=c.connections,
                congestion=c.congestion,
                router=RouterSettings(subnets=r.subnets, mtu=r.mtu, masquerade=r.masquerade) if r.enable else None,
            )
        )
        return self.bus

    def _edgehub(self) -> Module:
        from kubeedge.hub.core import SessionSettings
        from kubeedge.hub.driver import Channel
        from kubeedge.hub.edgehub import EdgeHub, EdgeHubSettings
        from kubeedge.pki.trust import client_context
        from kubeedge.sync.driver import Progress, run_edge

        pki = self.config.paths.pki
        self.down, self.up = down, up = Progress(), Progress()

        async def use(channel: Channel) -> None:
            await run_edge(channel, self.store, down, up)

        session = SessionSettings(keepalive=self.config.modules.hub.keepalive)
        self.hub = EdgeHub(
            EdgeHubSettings(endpoints=self.credentials.hub, session=session),
            lambda: client_context(pki / "ca.crt", pki / "node.crt", pki / "node.key"),
            use,
        )
        return self.hub

    def _appengine(self) -> Module:
        from kubeedge.appengine.engine import AppEngine, AppEngineSettings
        from kubeedge.appengine.images.store import ImageStore
        from kubeedge.appengine.runtime.embedded import EmbeddedRuntime, EmbeddedSettings
        from kubeedge.appengine.server import KubeletServer

        c, paths, own = self.config.modules.appengine, self.config.paths, self.credentials
        images = ImageStore(paths.state / "images")
        runtime = EmbeddedRuntime(
            EmbeddedSettings(
                root=paths.state,
                run=paths.run,
                node=own.node,
                pod_cidr=own.pod_cidr,
                bridge=c.bridge,
                cgroup_prefix=c.cgroup_prefix,
                cni_bin_dirs=c.cni_bin_dirs,
                pod_pids=c.pod_pids_limit,
                all_pids=c.pids_limit,
                overlay_cidrs=(own.pod_network, str(ip_interface(own.address).network)),
            ),
            images,
        )
        settings = AppEngineSettings(
            node=own.node,
            address=own.address,
            state=paths.state,
            logs=paths.logs,
            max_pods=c.max_pods,
            log_max_bytes=c.log_max_bytes,
            insecure_registries=c.insecure_registries,
        )
        store: Store = self.store
        if self.config.modules.metaserver.enable:  # what is changed at the edge holds at the edge at once
            from kubeedge.metaserver.effective import EffectiveStore

            store = EffectiveStore(store)
        self.engine = AppEngine(store, settings, runtime, images)
        if self.bus is not None:
            self.bus.serve(KUBELET_PORT, for_the_cloud(KubeletServer(self.engine).handle, self.credentials))
        return self.engine

    def _webservices(self, bus: KubeBus) -> list[Module]:
        from kubeedge.kubebus.http.module import WebServices
        from kubeedge.kubebus.http.services import PREFIXES, ServiceTable
        from kubeedge.kubebus.http.url import ServiceName, Target

        table = ServiceTable()

        async def connect(
            tenant: TenantId, node: NodeName, port: int
        ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await bus.connect(node, port)  # the proxy lets no other tenant pass

        async def resolve(service: ServiceName) -> Target:
            return table.resolve(service)

        def apply(key: str, value: bytes | None) -> None:
            if table.apply(key, value):
                services.forget()

        services = WebServices(
            tenant=TenantId(self.credentials.tenant),
            listen_on=self.config.modules.publishing.listen,
            connect=connect,
            listen=bus.listen,
            resolve=resolve,
            policy=table.policy,
            nodes=_node_numbers(self.credentials),
            server_fast_path=bus.server_fast_path,
            targets=table.targets,
            timeout=self.config.modules.publishing.timeout,
        )
        return [ServiceFeed(self.store, PREFIXES, apply), services]

    def _metrics_server(self, listen: str) -> Module:
        from kubeedge.config import forms
        from kubeedge.kit.metrics_server import MetricsServer

        return MetricsServer(*forms.endpoint(listen), self.metrics.text)

    def _metrics(self) -> MetricsRegistry:
        """Read when somebody asks; other parts add theirs with `metrics.collect`."""
        from kubeedge.kit.metrics import MetricsRegistry

        registry = MetricsRegistry()
        registry.collect(self._own_metrics)
        return registry

    def _own_metrics(self) -> list[Family]:
        from kubeedge.kit.metrics import modules

        found = modules(self.supervisor.states())
        if self.bus is not None:
            from kubeedge.kubebus.observe import edge_metrics

            found += edge_metrics(self.bus)
        from kubeedge.store import observe as of_store
        from kubeedge.sync import observe as of_sync

        found += of_store.families(self.store)
        if self.hub is not None and self.down is not None and self.up is not None:
            hub = self.hub.status
            found += of_sync.families({"down": [self.down], "up": [self.up]})
            found += of_sync.channels(int(hub.attached), hub.counters.bytes_in, hub.counters.bytes_out)
        if self.writes is not None:
            from kubeedge.metaserver.observe import families

            found += families(self.writes, self.api)
        return found

    def _metaserver(self) -> list[Module]:
        from kubeedge.config.forms import ip_endpoint
        from kubeedge.metaserver.module import MetaServer, MetaServerSettings
        from kubeedge.metaserver.settle import EdgeWrites

        own, paths, c = self.credentials, self.config.paths, self.config.modules.metaserver
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
        )
        self.writes = EdgeWrites(self.store, own.node, wall=time.time)
        self.api = MetaServer(self.store, settings, self._own_kubelet, wall=time.time)
        return [self.writes, self.api]

    async def _own_kubelet(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The kubelet API of this node, without a network."""
        if node != self.credentials.node or self.engine is None:
            raise Unavailable(f"this is node {self.credentials.node}, and it serves the logs of its own pods")
        from kubeedge.appengine.server import KubeletServer

        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        task = asyncio.create_task(KubeletServer(self.engine).handle(reader, writer), name="kubelet API")
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        return await asyncio.open_connection(sock=ours)

    def _network_changed(self) -> None:
        if self.bus is not None:
            self.bus.network_changed()
        if self.hub is not None:
            self.hub.network_changed()

    # -- what the command line asks ------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        own = self.credentials
        answer: dict[str, Any] = {
            "version": __version__,
            "tenant": own.tenant,
            "node": own.node,
            "address": own.address,
            "podCIDR": own.pod_cidr,
        }
        if self.hub is not None:
            hub = self.hub.status
            answer["channel"] = {
                "attached": hub.attached,
                "endpoint": hub.endpoint,
                "seconds": round(loop.time() - hub.since, 1),
                "rtt": hub.rtt,
                "bytesIn": hub.counters.bytes_in,
                "bytesOut": hub.counters.bytes_out,
                "lastError": hub.last_error,
            }
        if self.down is not None and self.up is not None:
            answer["sync"] = {"down": _progress(self.down), "up": _progress(self.up), "revision": self.store.revision}
        if self.writes is not None:
            answer["writes"] = {"pending": await self.writes.pending(), **self.writes.outcomes}
        if self.bus is not None:
            bus = self.bus.status
            answer["link"] = {
                "up": bus.up,
                "relay": bus.relay,
                "seconds": round(loop.time() - bus.since, 1),
                "rtt": bus.rtt,
                "lastError": bus.last_error,
                "conflicts": list(bus.conflicts),
            }
            answer["links"] = self.links()["links"]
        if self.engine is not None:
            answer["pods"] = [
                {
                    "namespace": pod["metadata"]["namespace"],
                    "name": pod["metadata"]["name"],
                    "phase": pod["status"].get("phase", "Pending"),
                    "ip": pod["status"].get("podIP", ""),
                }
                for pod in self.engine.pod_list()
            ]
        answer["modules"] = [
            {"name": s.name, "state": s.state, "restarts": s.restarts, "lastError": s.last_error}
            for s in self.supervisor.states()
        ]
        return answer

    @property
    def network(self) -> KubeBus:
        if self.bus is None:
            raise Unavailable("KubeBus is switched off on this node (modules.kubebus.enable)")
        return self.bus

    def links(self) -> dict[str, Any]:
        from kubeedge.kubebus.observe import edge_links

        bus = self.network
        status = bus.status
        return {
            "up": status.up,
            "lastError": status.last_error,
            "links": edge_links(bus, asyncio.get_running_loop().time()),
            "trouble": list(status.conflicts),
        }

    def routes(self) -> dict[str, Any]:
        bus, c = self.network, self.config.modules
        overlay = [str(ip_interface(self.credentials.address).network), self.credentials.pod_network]
        return {
            "routes": bus.routes(),
            "overlay": overlay,
            "router": c.router.enable,
            "masquerade": c.router.masquerade,
        }

    async def sync_status(self) -> dict[str, Any]:
        from kubeedge.sync import observe

        if self.hub is None or self.down is None or self.up is None:
            raise NotFound("the channel is switched off: modules.hub.enable")
        hub = self.hub.status
        down = await observe.sink(self.store, keys.DESIRED, keys.SYNC_DOWN, self.down)
        up = await observe.source(self.store, keys.REPORTED, self.up)
        answer: dict[str, Any] = {
            "attached": hub.attached,
            "endpoint": hub.endpoint,
            "store": self.store.store_id,
            "down": down,
            "up": up,
            "wire": {"bytesIn": hub.counters.bytes_in, "bytesOut": hub.counters.bytes_out},
        }
        if self.writes is not None:
            answer["writes"] = {"pending": await self.writes.pending(), **self.writes.outcomes}
        return answer

    @property
    def publications(self) -> PublishedServices:
        from kubeedge.publishing.services import PublishedServices

        return PublishedServices(self.store, f"/{self.credentials.tenant}/{self.credentials.node}")


class Control:
    """What the agent answers on its control socket: `kubeedge status`, `publish`, `image` and `reset`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def answer(self, request: Request) -> dict[str, Any] | None:
        agent = self._agent
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["v1", "status"]:
                return await agent.status()
            case "GET", ["v1", "links"]:
                return agent.links()
            case "GET", ["v1", "routes"]:
                return agent.routes()
            case "POST", ["v1", "ping"]:
                body = await request_object(request)
                count, interval = ping_request(body)
                return await agent.network.ping(str(body.get("node", "")), count=count, interval=interval)
            case "GET", ["v1", "sync"]:
                return await agent.sync_status()
            case "POST", ["v1", "webservices"]:
                body = await request_object(request)
                return await agent.publications.publish(
                    str(body.get("name", "")), optional_text(body, "target"), optional_text(body, "access")
                )
            case "POST", ["v1", "webservices", name, "tokens"]:
                return await agent.publications.new_token(name)
            case "DELETE", ["v1", "webservices", name, "tokens"]:
                return await agent.publications.revoke_tokens(name)
            case "GET", ["v1", "webservices"]:
                return await agent.publications.list()
            case "DELETE", ["v1", "webservices", name]:
                return await agent.publications.unpublish(name)
            case "POST", ["v1", "images", "import"] if agent.engine is not None:
                body = await request_object(request)
                names = [str(n) for n in body.get("names") or ()]
                return {"names": await agent.engine.import_image(str(body.get("path", "")), names)}
            case "GET", ["v1", "images"] if agent.engine is not None:
                return {"images": agent.engine.images()}
            case "POST", ["v1", "stop"]:
                if (await request_object(request)).get("pods") and agent.engine is not None:
                    await agent.engine.remove_all()
                asyncio.get_running_loop().call_later(0.1, agent.supervisor.stop)
                return {}
        return None


class ServiceFeed:
    """Module "servicetable": keeps the table of web services as the store has it. It reads what the table needs, and nothing else: other
    keys of the store are Secrets of pods."""

    name = "servicetable"

    def __init__(self, store: Store, prefixes: Sequence[str], apply: Callable[[str, bytes | None], None]) -> None:
        self._store = store
        self._prefixes = prefixes
        self._apply = apply
        self._known: set[str] = set()  # keys that were applied and not deleted since

    async def run(self, ready: asyncio.Event) -> None:
        missed, found = self._known, set[str]()
        begun: list[tuple[str, Revision]] = []
        for prefix in self._prefixes:
            rows = await self._store.range(prefix, keys.prefix_end(prefix))
            begun.append((prefix, rows.revision))
            for kv in rows.kvs:
                found.add(kv.key)
                self._apply(kv.key, kv.value)
        for key in missed - found:  # deleted while this module did not run
            self._apply(key, None)
        self._known = found
        ready.set()
        async with asyncio.TaskGroup() as tasks:
            for prefix, revision in begun:
                tasks.create_task(self._follow(prefix, revision), name=f"changes of {prefix}")

    async def _follow(self, prefix: str, after: Revision) -> None:
        async for batch in self._store.watch(prefix, after=after):
            for change in batch.changes:
                put = change.kind is ChangeKind.PUT
                (self._known.add if put else self._known.discard)(change.key)
                self._apply(change.key, change.value if put else None)


class NetworkWatch:
    """Module "networkwatch": an address or a route changed, so look at once whether links and channel still stand."""

    name = "networkwatch"

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    async def run(self, ready: asyncio.Event) -> None:
        from kubeedge.kubebus.l3.watch import address_changes

        ready.set()
        async for _ in address_changes(settle=0.1):
            self._changed()


def _progress(progress: Progress) -> dict[str, int]:
    return {
        "revision": progress.revision,
        "batches": progress.batches,
        "changes": progress.changes,
        "bytes": progress.bytes,
        "snapshots": progress.snapshots,
    }


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _node_numbers(own: NodeCredentials) -> int:
    """The address plan's nodes have the numbers 1 to this one; cloud processes have 0 and whatever lies behind."""
    bits = ip_network(own.pod_cidr).prefixlen - ip_network(own.pod_network).prefixlen
    return (1 << max(0, bits)) - 1


def for_the_cloud(serve: Serve, own: NodeCredentials) -> Serve:
    """An L4 service that other nodes of the tenant must not use: logs may hold secrets. The relay vouches for the caller's number."""
    nodes = _node_numbers(own)

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = writer.get_extra_info("peername")[0]
        if 0 < number <= nodes:
            log.warning("refused a connection from node number %d: this service is for the cloud", number)
            writer.transport.abort()
            return
        await serve(reader, writer)

    return guarded
