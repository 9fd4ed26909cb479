"""Settings of the cloud process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubeedge.config import forms
from kubeedge.config.edge import Logging
from kubeedge.config.load import dump, load_file, renamed, required, section, setting

API_VERSION = "cloud.kubeedge.io/v1alpha1"
KIND = "CloudCore"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudPaths:
    state: Path = setting(Path("/var/lib/kubeedge/cloud"), "the store, the certificate authority, kubeconfigs")
    run: Path = setting(Path("/run/kubeedge"), "the administrator's socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    port: int = required("0 lets the kernel choose, where nodes need not be told", low=0, high=65535)
    address: str = setting(
        "0.0.0.0", 'which of our addresses; 0.0.0.0 means all of IPv4, "::" all of IPv6', form=forms.address
    )
    enable: bool = setting(True, "whether it listens at all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    hub: Listener = section(Listener(port=10000), "channels of the nodes (mutual TLS)")
    bootstrap: Listener = section(
        Listener(port=10002), "joining and renewing certificates (open to unauthenticated clients)"
    )
    relay: Listener = section(
        Listener(port=10010), "KubeBus links of the nodes (mutual TLS); nodes join without it, too"
    )
    api: Listener = section(Listener(port=6443), "the Kubernetes API (client certificates)")
    web: Listener = section(Listener(port=8080), "published web services (HTTP, or HTTPS: publishing.tls)")
    metrics: Listener = section(
        Listener(port=10003, address="127.0.0.1"), "GET /metrics for Prometheus, without authentication"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTunConfig:
    enable: bool = setting(True, "this machine is on the overlay of one tenant")
    tenant: str = setting("default", "whose overlay this machine is on", form=forms.label)
    name: str = setting("kb0", "name of the TUN interface", form=forms.interface)
    address: str = setting(
        "",
        "of this machine on the overlay; none: the last one of addresses.overlay",
        form=forms.interface_address_or_none,
    )
    routes: tuple[str, ...] = setting((), "networks behind it besides the overlay and the pods", form=forms.network)
    mtu: int = setting(1500, "bytes", low=1280, high=65535)


@dataclass(frozen=True, slots=True, kw_only=True)
class Etcd:
    endpoints: tuple[str, ...] = setting(
        (), "host:port of the members; with them, any number of cloud processes share one store", form=forms.endpoint
    )
    ca: Path | None = setting(None, "certificate authority of the members; without it there is no TLS")
    cert: Path | None = setting(None, "our certificate for them")
    key: Path | None = setting(None, "its key")
    namespace: str = setting("/kubeedge", "in front of every key: others may use the same cluster")
    keep_revisions: int = setting(20_000, "history that compaction leaves; 0: somebody else compacts", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    etcd: Etcd = section(Etcd(), "without endpoints the store is a SQLite file below paths.state, for one process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    overlay: str = setting(
        "100.64.0.0/16",
        "of the nodes themselves, of each tenant; another one where uplinks have such addresses (carrier-grade NAT: 100.64.0.0/10)",
        form=forms.network,
    )
    pods: str = setting(
        "10.244.0.0/16", "of all nodes of a tenant; nodes that have joined keep their part", form=forms.network
    )
    node_bits: int = setting(24, "prefix length of one node's part: 255 nodes in the default network", low=9, high=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relays:
    congestion: str = setting(
        "",
        "TCP congestion control of the nodes' links, as the kernel names it; none: bbr on a path with a round trip of 3 ms or more, "
        "else cubic",
        form=forms.congestion,
    )
    addresses: tuple[str, ...] = setting(
        (),
        "HOST:PORT where the other relays reach this one; none: `advertise` with the relay's port",
        form=forms.endpoint,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTls:
    cert_file: Path = required("the certificate and those between it and the root, PEM")
    key_file: Path = required("its key, PEM without a password")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingConfig:
    """See docs/guide/publishing.md."""

    tls: bool | PublicTls = setting(
        False,
        "HTTPS on listeners.web: true for a certificate of the cluster's authority, {certFile, keyFile} for one of your own, which is read "
        "again when the files change; false: HTTP",
    )
    names: tuple[str, ...] = setting(
        (), "public names and addresses besides `advertise`, for the cluster's certificate", form=forms.host
    )
    concurrent: int = setting(256, "requests in progress of one tenant; beyond, 503", low=1, high=65536)
    rate: float = setting(0.0, "requests a second of one tenant; beyond, 429; 0: as many as there are", low=0, high=1e9)
    burst: float = setting(100.0, "requests that may come at once after a pause", low=1, high=1e9)
    connections: int = setting(1024, "of web clients", low=1, high=65536)
    per_client: int = setting(256, "of them from one address; with TLS from one /64 of IPv6", low=1, high=65536)
    timeout: float = setting(
        330.0,
        "seconds for an answer of a node; longer than the nodes' own, which say which service is slow",
        low=1,
        high=86400,
    )
    trust_forwarded: bool = setting(
        False,
        "web clients are our own proxies, and nobody else reaches the port: what they say in X-Forwarded-* is kept, and perClient does not "
        "count",
    )
    services: tuple[str, ...] = setting(
        (),
        "NAME=HOST:PORT, or TENANT/NAME=HOST:PORT for one tenant: services here that edge nodes reach at "
        "http://127.0.0.1:10080/TENANT/cloud/NAME/",
        form=forms.cloud_service,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    reported_keys: int = setting(
        5_000,
        "pods, events and other things that one node may have in the store; what it says beyond is refused",
        low=100,
        high=150_000,
    )
    reported_mib: int = setting(16, "MiB of them", low=1, high=1024)
    reported_seconds: int = setting(
        30, "in which a node may change as much as that once; one that changes more is held up", low=1, high=3600
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    objects: int = setting(
        50_000, "Kubernetes objects that one tenant may have; Events are some of them", low=100, high=10_000_000
    )
    mib: int = setting(64, "MiB of them", low=1, high=65_536)


@renamed({"nodeGrace": "nodeMonitorGracePeriod"})
@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    paths: CloudPaths = section(CloudPaths())
    advertise: tuple[str, ...] = setting(
        (), "addresses and names that nodes and kubectl use; they go into the certificate", form=forms.host
    )
    peers: tuple[str, ...] = setting(
        (), "addresses of the other cloud processes over the same store; nodes get them at join", form=forms.host
    )
    store: StoreConfig = section(StoreConfig())
    tenants: tuple[str, ...] = setting(("default",), "made at start when they do not exist", form=forms.label)
    listeners: Listeners = section(Listeners())
    relays: Relays = section(Relays(), "with a store in etcd, the relays of all cloud processes find each other there")
    publishing: PublishingConfig = section(
        PublishingConfig(), "web services of the nodes, and of the cloud for the nodes"
    )
    tun: CloudTunConfig = section(CloudTunConfig())
    nodes: Nodes = section(Nodes(), "what one node may cost the cloud")
    quota: Quota = section(Quota(), "what one tenant may store; `kubeedge tenant quota` gives a tenant another one")
    addresses: Addresses = section(Addresses(), "every tenant has the same")
    node_monitor_grace_period: float = setting(
        10.0,
        "seconds from the loss of a node's channel to NotReady; below it a reconnect goes unseen",
        low=0,
        high=3600,
    )
    logging: Logging = section(Logging())


def load(path: Path) -> CloudConfig:
    return load_file(CloudConfig, path, api_version=API_VERSION, kind=KIND)


def default_yaml(config: CloudConfig | None = None) -> str:
    return dump(config or CloudConfig(), api_version=API_VERSION, kind=KIND)
