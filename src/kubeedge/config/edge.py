"""Settings of the edge agent: /etc/kubeedge/kubeedge.yaml, and what join wrote beside it (node.json)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kubeedge.config import forms
from kubeedge.config.devices import DevicesConfig
from kubeedge.config.load import dump, load_file, renamed, required, section, setting
from kubeedge.config.mesh import MeshConfig
from kubeedge.kit.dataclasses import dataclass

API_VERSION = "edge.kubeedge.io/v1alpha1"
KIND = "EdgeCore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """`paths`: directories of the agent."""

    state: Path = setting(Path("/var/lib/kubeedge/edge"), "data that must survive a reboot: the store, images, volumes")
    run: Path = setting(
        Path("/run/kubeedge"), "sockets and pinned namespaces; keep it short, a socket path is limited to 108 bytes"
    )
    pki: Path = setting(
        Path("/etc/kubeedge/pki"),
        "ca.crt, node.crt and node.key, written by join, which writes node.json next to this directory",
    )
    logs: Path = setting(Path("/var/log/pods"), "container logs, in the directory layout of the kubelet")
    kubelet: Path = setting(
        Path("/var/lib/kubelet"),
        "where CSI drivers, device plugins and monitors expect a kubelet's directories",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeBusConfig:
    """`modules.kubebus`: the overlay network."""

    enable: bool = setting(True, "the overlay network to the cloud, to the other nodes and to their pods")
    tun: str = setting("kb0", "name of the TUN interface", form=forms.interface)
    mtu: int = setting(
        1500,
        "bytes, of the TUN interface; super-packets (GSO) cross it whole, so a larger MTU gains little",
        low=1280,
        high=65535,
    )
    overlay_routes: tuple[str, ...] = setting(
        (),
        "networks that are routed into the TUN interface in addition to the overlay and the pods of all nodes",
        form=forms.network,
    )
    connections: int = setting(
        2,
        "links to the relay; a flow stays on one of them, so packet loss or a bulk transfer on one does not stall the others; "
        "each additional link costs 0.4 MB of keepalives a day, and memory at both ends",
        low=1,
        high=8,
    )
    congestion: str = setting(
        "",
        'TCP congestion control of the links, by its name in the kernel; "": bbr if the round-trip time is 3 ms or more, else cubic',
        form=forms.congestion,
    )
    relays: tuple[str, ...] = setting(
        (),
        "HOST:PORT of relays, instead of those received at join; all are tried at once when there is no link",
        form=forms.endpoint,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """The virtual router: see docs/guide/router.md."""

    enable: bool = setting(False, "let the other nodes of the tenant reach the networks behind this machine")
    subnets: tuple[str, ...] = setting(
        (),
        "those networks, for example 10.0.0.0/24; the cloud must permit them with `kubeedge router allow`",
        form=forms.network,
    )
    mtu: int = setting(0, "bytes, the smallest in those networks; 0: taken from the interfaces", low=0, high=65535)
    masquerade: bool = setting(
        False,
        "use this machine's address in those networks: they need no route back, but cannot open connections to edge nodes",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """`metrics`: besides those on the agent's Unix socket."""

    listen: str = setting(
        "",
        'HOST:PORT to serve GET /metrics on, for example 127.0.0.1:10081; "": on the Unix socket only',
        form=forms.optional_endpoint,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """`modules.hub`: the channel to the cloud."""

    enable: bool = setting(True, "the channel to the cloud: desired state is received, status is reported")
    keepalive: float = setting(
        20.0,
        "seconds without traffic before a ping is sent; a ping costs about 300 bytes on the wire",
        low=1,
        high=3600,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryConfig:
    """One entry of `modules.appengine.images.registries`: how one image registry is reached."""

    registry: str = required(
        "HOST or HOST:PORT, as image names have it; docker.io for names without one", form=forms.registry
    )
    mirrors: tuple[str, ...] = setting(
        (),
        "HOST[:PORT][/PREFIX] that are asked before it; how one is reached is said by its own entry",
        form=forms.mirror,
    )
    plain_http: bool = setting(False, "without TLS; registries on a loopback address always are")
    ca: str = setting("", 'PEM file of those who may sign its certificate; "": those that this machine trusts')


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesConfig:
    """`modules.appengine.images`: where images come from, and which are removed."""

    registries: tuple[RegistryConfig, ...] = setting(
        (), "mirrors, plain HTTP and certificates: a list of {registry, mirrors, plainHttp, ca}"
    )
    docker_configs: tuple[str, ...] = setting(
        ("/var/lib/kubelet/config.json", "/root/.docker/config.json"),
        "files with the node's own credentials, as docker login writes them; those of a pod (imagePullSecrets) come first",
    )
    credential_provider_config: str = setting(
        "", 'a CredentialProviderConfig (kubelet.config.k8s.io/v1) of programs that know credentials; "": none'
    )
    credential_provider_bin_dir: str = setting(
        "/usr/libexec/kubernetes/kubelet-plugins/credential-provider", "where those are"
    )
    pre_pull: tuple[str, ...] = setting(
        (), "images that are pulled before a pod asks for them, and never collected", form=forms.text
    )
    gc_high_percent: int = setting(
        85, "of the disk in use: from here on images that no container uses are removed; 100: never", low=1, high=100
    )
    gc_low_percent: int = setting(80, "of the disk in use: until here", low=0, high=99)
    gc_min_age: float = setting(120.0, "seconds that an image is kept after it came", low=0, high=365 * 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriConfig:
    """`modules.appengine.cri`: the runtime behind a socket, with `runtime: cri`."""

    endpoint: str = setting(
        "unix:///run/containerd/containerd.sock", "socket of the CRI v1 runtime", form=forms.unix_socket
    )
    cni_conf_dir: str = setting(
        "/etc/cni/net.d",
        "where the runtime reads network configurations: the agent writes the one of its pod network there; empty: it writes none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySwapConfig:
    """`modules.appengine.memorySwap`: of a kubelet's configuration."""

    swap_behavior: Literal["", "NoSwap", "LimitedSwap"] = setting(
        "",
        'NoSwap: none for containers; LimitedSwap: for burstable ones, the share that they ask for of the memory; "": not limited',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEngineConfig:
    """`modules.appengine`: pods and their limits."""

    enable: bool = setting(True, "run pods on this node")
    runtime: Literal["embedded", "cri"] = setting(
        "embedded", "what runs containers: the agent itself, or a runtime behind a socket of CRI v1"
    )
    cri: CriConfig = section(CriConfig())
    cgroup_prefix: str = setting(
        "kubeedge",
        "prefix of the cgroups that the agent creates; it removes what it finds below it and does not know",
        form=forms.cgroup,
    )
    bridge: str = setting("cni0", "name of the bridge that connects the pods of this node", form=forms.interface)
    cni_bin_dirs: tuple[str, ...] = setting(
        ("/opt/cni/bin", "/usr/lib/cni"),
        "directories with the CNI plugins, in order: the upstream default, then Debian's",
    )
    max_pods: int = setting(110, "pods that this node accepts; the default is the kubelet's", low=1, high=250)
    pod_pids_limit: int = setting(
        1024,
        "processes and threads of one pod, as podPidsLimit of the kubelet: a fork bomb stays in its pod",
        low=16,
        high=4 * 1024 * 1024,
    )
    pids_limit: int = setting(
        0,
        "processes and threads of all pods together, so that the agent and sshd keep some; 0: three quarters of the machine's limit",
        low=0,
        high=4 * 1024 * 1024,
    )
    log_max_bytes: int = setting(
        10 * 1024 * 1024,
        "bytes after which a container log is rotated; one rotated file is kept",
        low=64 * 1024,
        high=2**40,
    )
    insecure_registries: tuple[str, ...] = setting(
        (),
        "HOST:PORT of registries to be reached over plain HTTP; those on a loopback address always are",
        form=forms.endpoint,
    )
    system_reserved: tuple[str, ...] = setting(
        (),
        "cpu=, memory=, ephemeral-storage= that pods do not get, as the kubelet's --system-reserved",
        form=forms.text,
    )
    kube_reserved: tuple[str, ...] = setting(("memory=48Mi",), "the same, for this agent", form=forms.text)
    eviction_hard: tuple[str, ...] = setting(
        (),
        "pods are evicted below these, like memory.available<100Mi or nodefs.available<10%; []: the kubelet's defaults, of memory at "
        "most a tenth; [none]: never",
        form=forms.text,
    )
    static_pod_path: str = setting("", 'directory with the manifests of static pods, as of the kubelet; "": none')
    shutdown_grace_period: float = setting(
        30.0, "seconds that pods have to end when the machine shuts down; 0: they are not ended", low=0, high=300
    )
    shutdown_grace_period_critical_pods: float = setting(
        10.0, "seconds of these that critical and static pods have, after all others", low=0, high=300
    )
    memory_swap: MemorySwapConfig = section(MemorySwapConfig(), "with cgroup v2")
    images: ImagesConfig = section(ImagesConfig(), "where images come from, and which are removed")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingModuleConfig:
    """`modules.publishing`: web services of this node and of others."""

    enable: bool = setting(
        True, "reach published web services of other nodes under one local address, and publish those of this node"
    )
    listen: str = setting(
        "127.0.0.1:10080",
        "where the client proxy listens: http://127.0.0.1:10080/TENANT/NODE/SERVICE/",
        form=forms.endpoint,
    )
    timeout: float = setting(
        300.0,
        "seconds without any data of a response after which a service of this node has timed out (504)",
        low=1,
        high=86400,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaServerConfig:
    """`modules.metaserver`: the Kubernetes API on this node."""

    enable: bool = setting(
        False, "serve the Kubernetes API on this node, with or without the cloud; its kubeconfig is next to this file"
    )
    listen: str = setting(
        "127.0.0.1:10550", "where it listens; clients need the token from the kubeconfig", form=forms.ip_endpoint
    )
    tls: bool = setting(True, "false: plain HTTP, on a loopback address only; the token is required all the same")
    pods_port: int = setting(
        10551,
        "port of the node's overlay address where its pods find the Kubernetes API, with the tokens of their service accounts; 0: nowhere",
        low=0,
        high=65535,
    )


@renamed({"webservices": "publishing"})
@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeModules:
    """`modules`: what the agent consists of."""

    kubebus: KubeBusConfig = section(KubeBusConfig())
    router: RouterConfig = section(
        RouterConfig(), "a virtual router: networks behind this machine join the overlay (docs/guide/router.md)"
    )
    hub: HubConfig = section(HubConfig())
    appengine: AppEngineConfig = section(AppEngineConfig())
    publishing: PublishingModuleConfig = section(PublishingModuleConfig())
    metaserver: MetaServerConfig = section(MetaServerConfig())
    mesh: MeshConfig = section(MeshConfig())
    devices: DevicesConfig = section(DevicesConfig())


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """`logging`: log settings of the agent and the cloud process."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "debug, info, warning or error")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsEncryption:
    """`secretsEncryption`: of both sides; docs/guide/encryption.md."""

    enable: bool = setting(
        False,
        "encrypt Secrets in the store's file; false with a key: decrypt them (like the provider identity of Kubernetes)",
    )
    key_file: Path | None = setting(
        None,
        "file with the keys, made by `kubeedge secrets-key generate`: the first one encrypts, all decrypt; "
        "keep it on another medium than the store",
    )
    credential: str = setting(
        "",
        "instead of keyFile: name of a systemd credential (LoadCredentialEncrypted=), which may be sealed to a TPM",
        form=forms.optional_credential,
    )
    resources: tuple[Literal["secrets", "configmaps"], ...] = setting(
        ("secrets",), "what is encrypted: secrets, and writes to them on this node; configmaps"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """`node`: of the Node that is made when this machine joins; afterwards it is the cluster's."""

    labels: tuple[str, ...] = setting(
        (),
        "KEY=VALUE, as the kubelet's --node-labels: what a node may say of itself (NodeRestriction)",
        form=forms.text,
    )
    taints: tuple[str, ...] = setting((), "KEY=VALUE:EFFECT, as the kubelet's --register-with-taints", form=forms.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """The configuration of an agent: the whole of kubeedge.yaml."""

    paths: Paths = section(Paths())
    node: NodeConfig = section(NodeConfig(), "read by join: labels and taints of the Node")
    modules: EdgeModules = section(EdgeModules(), "a disabled module costs no memory: its code is not loaded")
    metrics: MetricsConfig = section(MetricsConfig(), "metrics for Prometheus")
    secrets_encryption: SecretsEncryption = section(
        SecretsEncryption(), "encryption at rest: whoever has the card without the key reads no Secret"
    )
    logging: Logging = section(Logging())


def at_root(root: Path) -> Paths:
    """The default paths below another root directory: several agents on one machine."""
    root = root.absolute()
    if root == Path("/"):
        return Paths()
    p = Paths()
    return Paths(
        **{name: root / getattr(p, name).relative_to("/") for name in ("state", "run", "pki", "logs", "kubelet")}
    )


def load(path: Path) -> EdgeConfig:
    """Read and check the file. Raises Invalid with the key's path."""
    return load_file(EdgeConfig, path, api_version=API_VERSION, kind=KIND)


def default_yaml(config: EdgeConfig | None = None) -> str:
    """A file with every key, its value and what it is for."""
    return dump(config or EdgeConfig(), api_version=API_VERSION, kind=KIND)
