"""What a node understands of a Pod: frozen values, made by pod_parser.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeedge.errors import Invalid

VOLUME_KINDS = ("configMap", "secret", "emptyDir", "hostPath", "projected", "downwardAPI")


class Unsupported(Invalid):
    """Well-formed, and Kubernetes can do it, but this node cannot: the pod waits, as with the kubelet, and is not Failed, for then its
    controller would make another one, and another one."""


@dataclass(frozen=True, slots=True)
class EnvVar:
    name: str
    value: str | None  # literal, with $(NAME) references
    source: Mapping[str, Any] | None  # valueFrom


@dataclass(frozen=True, slots=True)
class EnvFrom:
    kind: str  # "configmaps" or "secrets"
    name: str
    prefix: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Mount:
    name: str
    path: str
    read_only: bool
    sub_path: str
    is_expression: bool = False  # sub_path has $(NAME) of the container's environment


@dataclass(frozen=True, slots=True)
class Probe:
    kind: str  # "exec", "http", "tcp", "grpc"
    command: Sequence[str] = ()
    path: str = "/"
    port: int | str = 0
    host: str = ""
    headers: Sequence[tuple[str, str]] = ()
    initial_delay: float = 0.0  # seconds
    period: float = 10.0
    timeout: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1
    grace: float | None = None  # seconds from a failure to SIGKILL; None: the pod's
    service: str = ""  # of grpc


@dataclass(frozen=True, slots=True)
class Resources:
    cpu_limit: int | None  # millicores
    memory_limit: int | None  # bytes
    cpu_request: int
    memory_request: int


@dataclass(frozen=True, slots=True)
class Security:
    user: int | None
    group: int | None
    non_root: bool
    privileged: bool
    read_only_root: bool
    escalation: bool
    add: Sequence[str]
    drop: Sequence[str]
    seccomp: str = ""  # "RuntimeDefault", "Localhost", "Unconfined" or ""
    seccomp_profile: str = ""  # of Localhost: a file below the node's directory of profiles


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    container: int
    host: int = 0  # 0: not on the node
    host_ip: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    image: str
    pull_policy: str
    command: Sequence[str] | None
    args: Sequence[str] | None
    working_dir: str
    env: Sequence[EnvVar]
    env_from: Sequence[EnvFrom]
    mounts: Sequence[Mount]
    ports: Sequence[Port]
    resources: Resources
    security: Security
    liveness: Probe | None
    readiness: Probe | None
    startup: Probe | None
    termination_message_path: str
    tty: bool
    stdin: bool
    sidecar: bool = False  # an init container that goes on: it is started before the next one, and restarted
    restart_policy: str = ""  # its own; "" is the pod's
    log_is_message: bool = False  # of a failure that left no message: the end of its log
    post_start: Sequence[str] = ()  # commands; () is none
    pre_stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    kind: str  # "configMap", "secret", "emptyDir", "hostPath", "projected", "downwardAPI"
    source: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    deleting: bool
    grace: float  # seconds that containers have to end, once the pod is deleted
    restart_policy: str
    host_network: bool
    hostname: str
    host_aliases: Sequence[tuple[str, Sequence[str]]]
    fs_group: int | None
    groups: Sequence[int]  # supplementalGroups
    init_containers: Sequence[Container]
    containers: Sequence[Container]
    volumes: Mapping[str, Volume]
    pull_secrets: Sequence[str]
    service_account: str
    dns: Mapping[str, Any] = field(default_factory=dict)
    has_finalizers: bool = False  # it stays in the API when nothing of it is left here
    dns_policy: str = "ClusterFirst"
    subdomain: str = ""
    unsupported: Sequence[str] = ()

    @property
    def all_containers(self) -> Sequence[Container]:
        return (*self.init_containers, *self.containers)

    @property
    def sidecars(self) -> Sequence[Container]:
        return tuple(c for c in self.init_containers if c.sidecar)

    @property
    def host_ports(self) -> Sequence[Port]:
        if self.host_network:
            return ()
        return tuple(port for c in self.all_containers for port in c.ports if port.host)
