"""Settings of the edge agent: /etc/kubeedge/kubeedge.yaml, and what join wrote beside it (node.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kubeedge.config import forms
from kubeedge.config.load import build, dump, load_file, renamed, required, section, setting
from kubeedge.errors import Invalid

API_VERSION = "edge.kubeedge.io/v1alpha1"
KIND = "EdgeCore"

MAX_CREDENTIALS = 64 * 1024  # bytes of node.json; it has half a kilobyte


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    state: Path = setting(Path("/var/lib/kubeedge/edge"), "survives a power cut: the store, images, volumes")
    run: Path = setting(
        Path("/run/kubeedge"), "sockets and pinned namespaces; short, for a socket's path has 108 bytes"
    )
    pki: Path = setting(
        Path("/etc/kubeedge/pki"), "ca.crt, node.crt and node.key, written by join; node.json is beside it"
    )
    logs: Path = setting(Path("/var/log/pods"), "container logs, laid out as Kubernetes does")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeBusConfig:
    enable: bool = setting(True, "the network with the cloud, the other nodes and their pods")
    tun: str = setting("kb0", "name of the TUN interface", form=forms.interface)
    mtu: int = setting(
        1500, "bytes, of the TUN; large packets cross as they are, so a larger one gains little", low=1280, high=65535
    )
    overlay_routes: tuple[str, ...] = setting(
        (),
        "networks behind the TUN besides the overlay and the pods of all nodes",
        form=forms.network,
    )
    connections: int = setting(
        2,
        "TCP connections to the relay: each flow keeps to one, so a lost segment or a bulk stream on one does not stop the other; "
        "each further one costs 0.4 MB of keepalive a day and memory at both ends",
        low=1,
        high=8,
    )
    congestion: str = setting(
        "",
        "TCP congestion control of the links, as the kernel names it; none: bbr on a path with a round trip of 3 ms or more, else cubic",
        form=forms.congestion,
    )
    relays: tuple[str, ...] = setting(
        (), "HOST:PORT of relays, instead of those that join said; raced when there is no link", form=forms.endpoint
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """The virtual router: see docs/guide/router.md."""

    enable: bool = setting(False, "other nodes of the tenant reach the networks behind this machine")
    subnets: tuple[str, ...] = setting(
        (), "those networks, as 10.0.0.0/24; `kubeedge router allow` of the cloud must allow them", form=forms.network
    )
    mtu: int = setting(0, "bytes, the smallest in those networks; 0: what the interfaces say", low=0, high=65535)
    masquerade: bool = setting(
        False,
        "enter those networks with this machine's address: they need no route back, and cannot begin connections to edges",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    listen: str = setting(
        "",
        'HOST:PORT of GET /metrics over TCP, like 127.0.0.1:10081; "": only on the unix socket',
        form=forms.optional_endpoint,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    enable: bool = setting(True, "the channel to the cloud: desired state comes down, status goes up")
    keepalive: float = setting(
        20.0, "seconds of silence before a ping; each costs about 300 bytes on the wire", low=1, high=3600
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEngineConfig:
    enable: bool = setting(True, "runs pods")
    cgroup_prefix: str = setting("kubeedge", "of all cgroups that we make and sweep", form=forms.cgroup)
    bridge: str = setting("cni0", "the bridge of the pods of this node", form=forms.interface)
    cni_bin_dirs: tuple[str, ...] = setting(
        ("/opt/cni/bin", "/usr/lib/cni"), "where the CNI plugins are: upstream's place, then Debian's"
    )
    max_pods: int = setting(110, "the kubelet's default", low=1, high=250)
    pod_pids_limit: int = setting(
        1024, "processes and threads of one pod; the kubelet's podPidsLimit", low=16, high=4 * 1024 * 1024
    )
    pids_limit: int = setting(
        0, "of all pods together; 0: three quarters of what the machine can have", low=0, high=4 * 1024 * 1024
    )
    log_max_bytes: int = setting(
        10 * 1024 * 1024, "bytes of one container log; one older file is kept", low=64 * 1024, high=2**40
    )
    insecure_registries: tuple[str, ...] = setting(
        (), "HOST:PORT of registries reached over plain HTTP; loopback always is", form=forms.endpoint
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingModuleConfig:
    enable: bool = setting(True, "published web services of other nodes under one local address")
    listen: str = setting(
        "127.0.0.1:10080", "the client proxy: http://127.0.0.1:10080/TENANT/NODE/SERVICE/", form=forms.endpoint
    )
    timeout: float = setting(
        300.0,
        "seconds without a sign of its answer after which a service of this node counts as too slow (504)",
        low=1,
        high=86400,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaServerConfig:
    enable: bool = setting(False, "kubectl on this node without the cloud; the kubeconfig is beside this file")
    listen: str = setting(
        "127.0.0.1:10550", "the API of this node; for the holder of its token", form=forms.ip_endpoint
    )
    tls: bool = setting(True, "false: plain HTTP, on a loopback address only, with the token all the same")


@renamed({"webservices": "publishing"})
@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeModules:
    kubebus: KubeBusConfig = section(KubeBusConfig())
    router: RouterConfig = section(RouterConfig(), "a virtual router on a machine of the cluster")
    hub: HubConfig = section(HubConfig())
    appengine: AppEngineConfig = section(AppEngineConfig())
    publishing: PublishingModuleConfig = section(PublishingModuleConfig())
    metaserver: MetaServerConfig = section(MetaServerConfig())


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    level: Literal["debug", "info", "warning", "error"] = setting("info", "debug, info, warning or error")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    paths: Paths = section(Paths())
    modules: EdgeModules = section(EdgeModules(), "what is not enabled is not even imported")
    metrics: MetricsConfig = section(MetricsConfig(), "for Prometheus")
    logging: Logging = section(Logging())


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredentials:
    """node.json beside kubeedge.yaml: what the cloud said at join. The node needs it to boot without the cloud."""

    tenant: str = required("whose node this is", form=forms.label)
    node: str = required("its name", form=forms.label)
    number: int = required("within the tenant; 0 is the cloud", low=1, high=65535)
    address: str = required('on the overlay, "100.64.0.1/16"', form=forms.interface_address)
    pod_cidr: str = required("addresses of the pods of this node", form=forms.network)
    hub: tuple[str, ...] = required('"host:port" of the channels', form=forms.endpoint)
    relays: tuple[str, ...] = required(
        '"host:port" of the links; none where the cloud has no relay', form=forms.endpoint
    )
    bootstrap: tuple[str, ...] = required('"host:port", where certificates are renewed', form=forms.endpoint)
    pod_network: str = setting("10.244.0.0/16", "addresses of the pods of all nodes", form=forms.network)


def at_root(root: Path) -> Paths:
    """The default paths below another root directory: several agents on one machine."""
    root = root.absolute()
    if root == Path("/"):
        return Paths()
    p = Paths()
    return Paths(**{name: root / getattr(p, name).relative_to("/") for name in ("state", "run", "pki", "logs")})


def load(path: Path) -> EdgeConfig:
    return load_file(EdgeConfig, path, api_version=API_VERSION, kind=KIND)


def default_yaml(config: EdgeConfig | None = None) -> str:
    return dump(config or EdgeConfig(), api_version=API_VERSION, kind=KIND)


def credentials_path(paths: Paths) -> Path:
    return paths.pki.parent / "node.json"


def credentials(values: dict[str, Any]) -> NodeCredentials:
    """Raises Invalid with the name of what is missing or wrong."""
    return build(NodeCredentials, values)


def load_credentials(path: Path) -> NodeCredentials:
    """Raises Invalid: this node has not joined, or the file is damaged."""
    again = "run `kubeedge join --force` with a new token"
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_CREDENTIALS))
        if not isinstance(values, dict):
            raise ValueError("it holds no mapping")
        return credentials(values)
    except FileNotFoundError as exc:
        raise Invalid(f"{path} does not exist: this node has not joined; run `kubeedge join` first") from exc
    except (OSError, ValueError, RecursionError, Invalid) as exc:
        raise Invalid(f"{path} is damaged: {exc}; {again}") from exc
