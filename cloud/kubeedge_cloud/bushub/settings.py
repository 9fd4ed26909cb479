"""What the relay is told: its settings, and whom it asks about nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kubeedge.api.names import NodeName, TenantId
from kubeedge.kubebus.l2.core import LinkSettings
from kubeedge_cloud.bushub.authorizer import Followed
from kubeedge_cloud.bushub.tun import POD_NETWORK, CloudTun


class NodeRecord(Protocol):
    """What the relay needs of kubeedge_cloud.tenants' record."""

    @property
    def number(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def pod_cidr(self) -> str: ...
    @property
    def tenant_number(self) -> int: ...
    @property
    def join(self) -> str: ...


class NodeDirectory(Followed, Protocol):
    async def lookup(self, tenant: TenantId, node: NodeName) -> NodeRecord | None: ...

    async def tenant_number(self, tenant: TenantId) -> int | None: ...

    async def subnets(self, tenant: TenantId, node: NodeName) -> Sequence[str]:
        """Networks that the tenant allows behind this node."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BusHubSettings:
    address: str = "0.0.0.0"
    port: int = 10010
    ca: Path
    cert: Path
    key: Path
    tun: CloudTun | None = None
    # edges ask; we only when an edge should have. Nobody waits here for an answer: what is doubtful is the edge's to replace
    link: LinkSettings = field(default_factory=lambda: LinkSettings(keepalive=30.0))
    max_links: int = 20_000
    source: str = "100.64.255.254"  # of ICMP errors, in every tenant, where we have no TUN whose address it could be
    pods: str = POD_NETWORK  # of all nodes; no network behind a node may overlap it
    congestion: str = ""  # congestion control of the links' TCP; "": by the round trip of the path
    max_strangers: int = 500  # links whose TLS or admission is not done
