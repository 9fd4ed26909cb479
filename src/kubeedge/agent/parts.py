"""Which components of the agent run. The composition root fills it in while it makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeedge.errors import NotFound, Unavailable
from kubeedge.kit.dataclasses import dataclass

if TYPE_CHECKING:
    from kubeedge.appengine.module import AppEngine
    from kubeedge.config.edge import EdgeConfig
    from kubeedge.config.node_credentials import NodeCredentials
    from kubeedge.devices.eventbus.module import EventBus
    from kubeedge.devices.methods.driver import DeviceMethods
    from kubeedge.devices.module import DeviceTwins
    from kubeedge.devices.rules import NodeRules
    from kubeedge.devices.servicebus.module import ServiceBus
    from kubeedge.devices.sinks.module import DevicePush
    from kubeedge.devices.upstream.module import MessageUpstream
    from kubeedge.gateway.module import NodeGateways
    from kubeedge.hub.module import EdgeHub
    from kubeedge.kubebus.module import KubeBus
    from kubeedge.mesh.module import Mesh
    from kubeedge.metaserver.edgewrites.module import EdgeWrites
    from kubeedge.metaserver.module import MetaServer
    from kubeedge.publishing.published import PublishedServices
    from kubeedge.store.sqlite import SqliteStore
    from kubeedge.sync.progress import Progress


@dataclass(frozen=True, slots=True)
class SyncChannel:
    """EdgeHub, and how far the two directions of sync on it are."""

    hub: EdgeHub
    down: Progress
    up: Progress


@dataclass(slots=True, kw_only=True)
class Parts:
    """The parts of an agent; one that is None is switched off in kubeedge.yaml."""

    config: EdgeConfig
    credentials: NodeCredentials
    store: SqliteStore
    no_ipv6: str = ""  # why this node has no IPv6, though the cloud has addresses for it
    bus: KubeBus | None = None
    channel: SyncChannel | None = None
    engine: AppEngine | None = None
    api: MetaServer | None = None
    writes: EdgeWrites | None = None
    mesh: Mesh | None = None
    gateways: NodeGateways | None = None
    twins: DeviceTwins | None = None
    events: EventBus | None = None
    push: DevicePush | None = None
    methods: DeviceMethods | None = None
    upstream: MessageUpstream | None = None
    service_bus: ServiceBus | None = None
    _rules: NodeRules | None = None

    @property
    def rules(self) -> NodeRules | None:
        """What the cloud's rules reach on this node; None: they are switched off."""
        if self._rules is None and self.config.modules.devices.enable and self.config.modules.devices.rules:
            from kubeedge.config.forms import port_range
            from kubeedge.devices.rules import NodeRules

            self._rules = NodeRules([port_range(text) for text in self.config.modules.devices.rule_ports])
        return self._rules

    @property
    def network(self) -> KubeBus:
        """KubeBus. Raises Unavailable when it is switched off."""
        if self.bus is None:
            raise Unavailable("KubeBus is switched off on this node (modules.kubebus.enable)")
        return self.bus

    @property
    def sync(self) -> SyncChannel:
        """The channel, whether or not a cloud process answers. Raises NotFound."""
        if self.channel is None:
            raise NotFound("the channel is switched off: modules.hub.enable")
        return self.channel

    @property
    def services(self) -> Mesh:
        """Services on this node. Raises NotFound when they are switched off."""
        if self.mesh is None:
            raise NotFound("Services are switched off on this node: modules.mesh.enable")
        return self.mesh

    @property
    def published(self) -> PublishedServices:
        """The web services of this node, for `kubeedge publish`."""
        from kubeedge.publishing.published import PublishedServices

        return PublishedServices(self.store, f"/{self.credentials.tenant}/{self.credentials.node}")

    def network_changed(self) -> None:
        """An address, a route or a certificate changed: are links and channel still good?"""
        if self.bus is not None:
            self.bus.network_changed()
        if self.channel is not None:
            self.channel.hub.network_changed()
