"""Settings of the cloud process."""

from __future__ import annotations

from pathlib import Path

from kubeedge.config import forms
from kubeedge.config.edge import Logging, SecretsEncryption
from kubeedge.config.load import dump, load_file, renamed, required, section, setting
from kubeedge.kit.dataclasses import dataclass

API_VERSION = "cloud.kubeedge.io/v1alpha1"
KIND = "CloudCore"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudPaths:
    """`paths`: directories of this process."""

    state: Path = setting(Path("/var/lib/kubeedge/cloud"), "the store, the certificate authority, kubeconfigs")
    run: Path = setting(Path("/run/kubeedge"), "the socket for administration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One TCP port of this process."""

    port: int = required("0: chosen by the kernel, for listeners that nodes need not know", low=0, high=65535)
    address: str = setting(
        "0.0.0.0", 'local address to listen on; 0.0.0.0: all of IPv4, "::": all of IPv6', form=forms.address
    )
    enable: bool = setting(True, "false: this listener is not opened")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """`listeners`: everything that this process listens on, except for its socket."""

    hub: Listener = section(Listener(port=10000), "channels of the nodes (mutual TLS)")
    bootstrap: Listener = section(
        Listener(port=10002),
        "join, and renewal of certificates (open to unauthenticated clients, so the connections of one address are limited)",
    )
    relay: Listener = section(
        Listener(port=10010), "KubeBus links of the nodes (mutual TLS); without it nodes run, but have no overlay"
    )
    api: Listener = section(Listener(port=6443), "the Kubernetes API (client certificates)")
    web: Listener = section(Listener(port=8080), "published web services (HTTP, or HTTPS: publishing.tls)")
    clusters: Listener = section(
        Listener(port=10004, enable=False),
        "for clusters of users' own: devices of v1alpha2 (a webhook), calls of rules and of methods of devices (docs/guide/rules.md)",
    )
    metrics: Listener = section(
        Listener(port=10003, address="127.0.0.1"),
        "GET /metrics for Prometheus, without authentication: keep it on a private address",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesConfig:
    """`rules`: rules of tenants from their nodes to REST endpoints (docs/guide/rules.md)."""

    allowed_targets: tuple[str, ...] = setting(
        (),
        "networks that such rules may reach besides addresses of the Internet, as 10.1.0.0/16: what is reached from this machine alone "
        "is not for tenants otherwise, nor is the machine itself",
        form=forms.network,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersConfig:
    """`clusters`: of tenants whose API is a Kubernetes cluster of their own."""

    service: str = setting(
        "",
        'Service by which their API servers reach listeners.clusters, as NAMESPACE/NAME, at its port 443; "": at the first of advertise',
        form=forms.optional_service,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletsConfig:
    """`kubelets`: one TCP port for each node, where the API server of a cluster reaches its kubelet API."""

    enable: bool = setting(False, "such ports for the nodes of tenants that have a cluster")
    client_ca: Path | None = setting(
        None,
        "authority of the API server's kubelet client certificate, PEM, for tenants without a cluster, too; null: each cluster's own, which it "
        "keeps in the ConfigMap kube-system/extension-apiserver-authentication",
    )
    clients: tuple[str, ...] = setting(
        ("kube-apiserver-kubelet-client",), "common names of the certificates that may use them: for everything"
    )
    cert_file: Path | None = setting(
        None,
        "serving certificate, PEM, for the addresses of the Nodes; null: of this process's own authority, paths.state/pki/ca.crt, which the "
        "API server is told by --kubelet-certificate-authority",
    )
    key_file: Path | None = setting(None, "private key of that certificate")
    server_tls_bootstrap: bool = setting(
        False,
        "without certFile: each node's port shows a certificate of its own, which the cluster's CSR API is asked for in the name of the node "
        "(signer kubernetes.io/kubelet-serving) and somebody approves",
    )
    approve_certificates: bool = setting(
        False,
        "approve them ourselves: takes update on certificatesigningrequests/approval and approve on the signer kubernetes.io/kubelet-serving",
    )
    address: str = setting("0.0.0.0", "local address to listen on", form=forms.address)
    node_address: str = setting(
        "",
        'address or name by which the API servers of clusters reach these ports, in the status of their Nodes; "": the first of advertise',
        form=forms.host_or_none,
    )
    first_port: int = setting(
        20250,
        "the port of node 1 of tenant 1; those of the others follow, for as many nodes as a tenant may have",
        low=1024,
        high=65535,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTunConfig:
    """`tun`: this machine on a tenant's overlay."""

    enable: bool = setting(True, "put this machine on the overlay of one tenant")
    tenant: str = setting("default", "the tenant whose overlay that is", form=forms.label)
    name: str = setting("kb0", "name of the TUN interface", form=forms.interface)
    address: str = setting(
        "",
        'address of this machine on the overlay; "": the last one of addresses.overlay',
        form=forms.interface_address_or_none,
    )
    routes: tuple[str, ...] = setting(
        (), "networks that are routed into it in addition to the overlay and the pods", form=forms.network
    )
    networks: tuple[str, ...] = setting(
        (),
        "networks that nodes reach through this machine, of the machines and Services of its cluster, for example; addresses.pods here: "
        "so are the pods that no node has (docs/guide/router.md)",
        form=forms.network,
    )
    mtu: int = setting(1500, "bytes, of the TUN interface", low=1280, high=65535)


@dataclass(frozen=True, slots=True, kw_only=True)
class Etcd:
    """`store.etcd`: the cluster that several cloud processes share."""

    endpoints: tuple[str, ...] = setting(
        (),
        "host:port of the etcd members; any number of cloud processes can share them as their store",
        form=forms.endpoint,
    )
    ca: Path | None = setting(None, "certificate authority of the members; null: no TLS")
    cert: Path | None = setting(None, "client certificate for the members")
    key: Path | None = setting(None, "private key of that certificate")
    namespace: str = setting("/kubeedge", "prefix of every key, so that others can use the same etcd cluster")
    keep_revisions: int = setting(
        20_000,
        "revisions that compaction keeps, for nodes and clients that were away; 0: compaction is done elsewhere",
        low=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """`store`: where everything is kept."""

    etcd: Etcd = section(
        Etcd(), "without endpoints the store is a SQLite file in paths.state, for a single cloud process"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """`addresses`: the address plan of every tenant."""

    overlay: str = setting(
        "100.64.0.0/16",
        "addresses of the nodes; choose another network if uplinks of nodes use this one (carrier-grade NAT: 100.64.0.0/10)",
        form=forms.network,
    )
    pods: str = setting(
        "10.244.0.0/16",
        "addresses of the pods of all nodes; nodes that have joined keep theirs when this changes",
        form=forms.network,
    )
    services: str = setting(
        "10.96.0.0/12",
        "network of the cluster IPs of Services, in the embedded API of each tenant; Services keep theirs when this changes",
        form=forms.network,
    )
    tenant_services: tuple[str, ...] = setting(
        (), "TENANT=NETWORK: the network of one tenant's cluster IPs, in place of `services`", form=forms.tenant_network
    )
    services_ipv6: str = setting(
        "",
        'network of a second cluster IP, of IPv6, for Services whose ipFamilyPolicy or ipFamilies ask for one; "": they have IPv4 alone',
        form=forms.ipv6_network_or_none,
    )
    pods_ipv6: str = setting(
        "",
        'addresses of IPv6 for the pods of all nodes, like fd00:10:244::/48: nodes and pods have both versions; "": IPv4 alone. Nodes that have '
        "joined get theirs when they attach (docs/guide/ipv6.md)",
        form=forms.ipv6_network_or_none,
    )
    overlay_ipv6: str = setting(
        "fd00:100:64::/64", "addresses of IPv6 of the nodes, where there is podsIpv6", form=forms.ipv6_network
    )
    node_bits_ipv6: int = setting(64, "prefix length of the IPv6 addresses for the pods of one node", low=9, high=112)
    node_bits: int = setting(
        24, "prefix length of the pod addresses of one node; the defaults allow 255 nodes", low=9, high=30
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Relays:
    """`relays`: the links of this process."""

    congestion: str = setting(
        "",
        'TCP congestion control of the links, by its name in the kernel; "": bbr if the round-trip time is 3 ms or more, else cubic',
        form=forms.congestion,
    )
    addresses: tuple[str, ...] = setting(
        (),
        "HOST:PORT where the other relays reach this one; empty: `advertise` with the port of the relay",
        form=forms.endpoint,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTls:
    """A certificate of one's own for published web services."""

    cert_file: Path = required("the certificate and its intermediate certificates, PEM")
    key_file: Path = required("private key of the certificate, PEM without a password")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingConfig:
    """`publishing`: web services of edge nodes on a public address (docs/guide/publishing.md)."""

    tls: bool | PublicTls = setting(
        False,
        "HTTPS on listeners.web; true: with a certificate of the cluster's own authority; {certFile, keyFile}: with yours, which is reloaded "
        "when the files change; false: plain HTTP",
    )
    names: tuple[str, ...] = setting(
        (), "public names and addresses for that certificate, in addition to `advertise`", form=forms.host
    )
    concurrent: int = setting(256, "requests of one tenant at the same time; more get 503", low=1, high=65536)
    rate: float = setting(0.0, "requests of one tenant per second; more get 429; 0: unlimited", low=0, high=1e9)
    burst: float = setting(100.0, "requests that may exceed that rate at once, after a quiet time", low=1, high=1e9)
    connections: int = setting(1024, "open connections of all web clients; more are refused", low=1, high=65536)
    per_client: int = setting(
        256, "open connections of one IPv4 address or one /64 of IPv6; more are refused", low=1, high=65536
    )
    timeout: float = setting(
        330.0,
        "seconds to wait for a response of a node; longer than the timeout of the nodes, whose errors name the slow service",
        low=1,
        high=86400,
    )
    trust_forwarded: bool = setting(
        False,
        "true only if nobody but your own reverse proxies can reach the port: X-Forwarded-* headers are kept, and perClient does not apply",
    )
    default_tenant: str = setting(
        "",
        "the tenant whose Gateways and Ingresses without a host name answer for every name that nobody has, the cloud's own included "
        '(docs/guide/gateway.md); "": none',
        form=forms.label_or_none,
    )
    cluster_gateways: bool = setting(
        False,
        "serve the Gateways of tenants with a Kubernetes cluster of their own, too, which takes rights there, on Secrets among them "
        "(docs/guide/gateway.md)",
    )
    gateway_addresses: tuple[str, ...] = setting(
        (),
        "IP addresses of this machine, each for one Gateway, which has every port and host name there",
        form=forms.address,
    )
    addresses_of_tenant: int = setting(4, "of these addresses, those that one tenant may have", low=1, high=256)
    gateway_ports: tuple[str, ...] = setting(
        (),
        "PORT/HTTP, PORT/TLS or PORT/TCP: more ports of listeners.web.address that Gateways may use; a port of TCP is for the first tenant that "
        "asks for it, the others are shared by host names",
        form=forms.gateway_port,
    )
    services: tuple[str, ...] = setting(
        (),
        "NAME=HOST:PORT, or TENANT/NAME=HOST:PORT for one tenant: services of the cloud that edge nodes reach at "
        "http://127.0.0.1:10080/TENANT/cloud/NAME/",
        form=forms.cloud_service,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesConfig:
    """`nodes`: bounds for one node."""

    reported_keys: int = setting(
        5_000,
        "pods, events and other objects that one node may store; reports of more are refused, and `kubeedge sync status` shows which",
        low=100,
        high=150_000,
    )
    reported_mib: int = setting(16, "MiB that these objects may have", low=1, high=1024)
    reported_seconds: int = setting(
        30,
        "seconds in which a node may rewrite all of that once; changes beyond that rate are delayed, not lost",
        low=1,
        high=3600,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaConfig:
    """`quota`: bounds for one tenant."""

    objects: int = setting(
        50_000, "Kubernetes objects that one tenant may store, Events included; more get 403", low=100, high=10_000_000
    )
    mib: int = setting(64, "MiB that these objects may have", low=1, high=65_536)


@renamed({"nodeGrace": "nodeMonitorGracePeriod"})
@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    """The configuration of a cloud process: the whole of cloud.yaml."""

    paths: CloudPaths = section(CloudPaths())
    advertise: tuple[str, ...] = setting(
        (),
        "addresses and names under which nodes and kubectl reach this process; they are in its certificate",
        form=forms.host,
    )
    peers: tuple[str, ...] = setting(
        (), "addresses of the other cloud processes on the same store; nodes receive them at join", form=forms.host
    )
    store: StoreConfig = section(StoreConfig())
    tenants: tuple[str, ...] = setting(
        ("default",),
        "NAME, or NAME=/PATH/OF/A/KUBECONFIG, or NAME=in-cluster for a Kubernetes cluster that exists; created at start if they do not exist",
        form=forms.tenant,
    )
    listeners: Listeners = section(Listeners())
    clusters: ClustersConfig = section(ClustersConfig())
    rules: RulesConfig = section(RulesConfig())
    kubelets: KubeletsConfig = section(
        KubeletsConfig(), "logs, exec and port-forward through the API server of a cluster that is not this process"
    )
    relays: Relays = section(
        Relays(),
        "links between nodes and between relays; with etcd the relays of all cloud processes find each other through it",
    )
    publishing: PublishingConfig = section(
        PublishingConfig(), "web services of the nodes, and of the cloud for the nodes (docs/guide/publishing.md)"
    )
    tun: CloudTunConfig = section(CloudTunConfig())
    nodes: NodesConfig = section(
        NodesConfig(), "how much one node may store: a faulty or hostile node must not fill the store for the others"
    )
    quota: QuotaConfig = section(
        QuotaConfig(), "how much one tenant may store; `kubeedge tenant quota` sets another quota for a single tenant"
    )
    addresses: Addresses = section(Addresses(), "each tenant has an overlay of its own with these addresses")
    node_monitor_grace_period: float = setting(
        10.0,
        "seconds from the loss of a node's channel until its Node is NotReady; a shorter interruption goes unnoticed",
        low=0,
        high=3600,
    )
    secrets_encryption: SecretsEncryption = section(
        SecretsEncryption(), "encryption at rest of the store, if that is SQLite; etcd: encrypt the members' disks"
    )
    logging: Logging = section(Logging())

    @property
    def tenant_clusters(self) -> dict[str, str]:
        """Name of each tenant -> where its cluster is, "" for the embedded API."""
        return dict(forms.tenant(text) for text in self.tenants)


def load(path: Path) -> CloudConfig:
    """Read and check the file. Raises Invalid with the key's path."""
    return load_file(CloudConfig, path, api_version=API_VERSION, kind=KIND)


def default_yaml(config: CloudConfig | None = None) -> str:
    """A file with every key, its value and what it is for."""
    return dump(config or CloudConfig(), api_version=API_VERSION, kind=KIND)
