"""Settings of the cloud process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kubeedge.config.edge import Logging
from kubeedge.config.load import dump, load_file

API_VERSION = "cloud.kubeedge.io/v1alpha1"
KIND = "CloudCore"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudPaths:
    state: Path = Path("/var/lib/kubeedge/cloud")
    run: Path = Path("/run/kubeedge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    port: int
    address: str = "0.0.0.0"
    enable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    hub: Listener = field(default_factory=lambda: Listener(port=10000))
    bootstrap: Listener = field(default_factory=lambda: Listener(port=10002))
    relay: Listener = field(default_factory=lambda: Listener(port=10010))
    api: Listener = field(default_factory=lambda: Listener(port=6443))
    web: Listener = field(default_factory=lambda: Listener(port=8080))


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTun:
    enable: bool = True
    tenant: str = "default"  # whose overlay this machine is on
    name: str = "kb0"
    address: str = "100.64.255.254/16"
    routes: tuple[str, ...] = ("10.244.0.0/16",)
    mtu: int = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    paths: CloudPaths = field(default_factory=CloudPaths)
    advertise: tuple[str, ...] = ()  # addresses and names that nodes and kubectl use; they go into the certificate
    tenants: tuple[str, ...] = ("default",)  # made at start when they do not exist
    listeners: Listeners = field(default_factory=Listeners)
    tun: CloudTun = field(default_factory=CloudTun)
    node_grace: float = 10.0  # seconds from the loss of a node's channel to NotReady
    logging: Logging = field(default_factory=Logging)


def load(path: Path) -> CloudConfig:
    return load_file(CloudConfig, path, api_version=API_VERSION, kind=KIND)


def default_yaml(config: CloudConfig | None = None) -> str:
    return dump(config or CloudConfig(), api_version=API_VERSION, kind=KIND)
