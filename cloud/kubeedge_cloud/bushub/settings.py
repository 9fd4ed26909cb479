"""Settings of the relay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubeedge.kubebus.l2.core import LinkSettings
from kubeedge_cloud.bushub.tun import POD_NETWORK, CloudTun


@dataclass(frozen=True, slots=True, kw_only=True)
class BusHubSettings:
    """Listener, identity and limits of the relay; `ca`, `cert` and `key` are files in PEM."""

    address: str = "0.0.0.0"
    port: int = 10010
    ca: Path
    cert: Path
    key: Path
    tun: CloudTun | None = None
    # edges ask; we only when an edge should have. No task waits here for an answer: a link that does not answer is the edge's to replace
    link: LinkSettings = field(default_factory=lambda: LinkSettings(keepalive=30.0))
    max_links: int = 20_000
    #: of ICMP errors, in every tenant, where we have no TUN whose address it could be
    sources: Sequence[str] = ("100.64.255.254",)
    pods: str = POD_NETWORK  # of all nodes; no network behind a node may overlap it
    congestion: str = ""  # congestion control of the links' TCP; "": by the round trip of the path
    max_unauthenticated: int = 500  # links whose TLS or admission is not done
