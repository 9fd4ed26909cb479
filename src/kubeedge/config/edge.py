"""Settings of the edge agent: /etc/kubeedge/kubeedge.yaml, and what join wrote beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kubeedge.config.load import build, dump, load_file
from kubeedge.errors import Invalid

API_VERSION = "edge.kubeedge.io/v1alpha1"
KIND = "EdgeCore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    state: Path = Path("/var/lib/kubeedge/edge")  # survives a power cut: the store, images, volumes
    run: Path = Path("/run/kubeedge")  # sockets and pinned namespaces; short, a socket's path has 108 bytes
    pki: Path = Path("/etc/kubeedge/pki")
    logs: Path = Path("/var/log/pods")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeBusConfig:
    enable: bool = True
    tun: str = "kb0"
    mtu: int = 1500  # of the TUN; large packets cross as they are, so a larger one gains little
    overlay_routes: tuple[str, ...] = ("10.244.0.0/16",)  # what else lies behind the TUN


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    enable: bool = True
    keepalive: float = 20.0  # seconds of silence before a ping; each costs about 300 bytes on the wire


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEngineConfig:
    enable: bool = True
    cgroup_prefix: str = "kubeedge"  # of all cgroups that we make and sweep
    bridge: str = "cni0"
    cni_bin_dirs: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni")
    max_pods: int = 110
    log_max_bytes: int = 10 * 1024 * 1024  # of one container log; one older file is kept
    insecure_registries: tuple[str, ...] = ()  # "host:port" reached over plain HTTP; loopback always is


@dataclass(frozen=True, slots=True, kw_only=True)
class WebServicesConfig:
    enable: bool = True
    listen: str = "127.0.0.1:10080"  # the client proxy for programs on this node


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeModules:
    kubebus: KubeBusConfig = field(default_factory=KubeBusConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    appengine: AppEngineConfig = field(default_factory=AppEngineConfig)
    webservices: WebServicesConfig = field(default_factory=WebServicesConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    paths: Paths = field(default_factory=Paths)
    modules: EdgeModules = field(default_factory=EdgeModules)
    logging: Logging = field(default_factory=Logging)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredentials:
    """node.json beside kubeedge.yaml: what the cloud said at join. The node needs it to boot without the cloud."""

    tenant: str
    node: str
    number: int
    address: str  # on the overlay, "100.64.0.1/16"
    pod_cidr: str
    hub: tuple[str, ...]  # "host:port" of the channels
    relays: tuple[str, ...]  # "host:port" of the links
    bootstrap: tuple[str, ...]  # "host:port", where certificates are renewed


def at_root(root: Path) -> Paths:
    """The default paths below another root directory: several agents on one machine."""
    if root == Path("/"):
        return Paths()
    p = Paths()
    return Paths(**{name: root / getattr(p, name).relative_to("/") for name in ("state", "run", "pki", "logs")})


def load(path: Path) -> EdgeConfig:
    return load_file(EdgeConfig, path, api_version=API_VERSION, kind=KIND)


def default_yaml(config: EdgeConfig | None = None) -> str:
    return dump(config or EdgeConfig(), api_version=API_VERSION, kind=KIND)


def load_credentials(path: Path) -> NodeCredentials:
    """Raises Invalid: this node has not joined, or the file is damaged."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise Invalid(f"{path} does not exist: this node has not joined; run `kubeedge join` first") from exc
    except (OSError, ValueError) as exc:
        raise Invalid(f"cannot read {path}: {exc}; run `kubeedge join --force` with a new token") from exc
    if not isinstance(values, dict):
        raise Invalid(f"{path} holds no mapping; run `kubeedge join --force` with a new token")
    return build(NodeCredentials, values)
