"""What a node understands of a Pod: frozen values, made by pod_parser.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.api.ephemeral_storage import EphemeralStorage
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

CLUSTER_DOMAIN = "cluster.local"
VOLUME_KINDS = (
    "configMap", "secret", "emptyDir", "hostPath", "projected", "downwardAPI", "persistentVolumeClaim", "ephemeral", "nfs",
    "csi",
)  # fmt: skip
IMAGE_VOLUME = "image"  # the runtime mounts it


class Unsupported(Invalid):
    """Well-formed, and Kubernetes can do it, but this node cannot: the pod waits, as with the kubelet, and is not Failed, for then its
    controller would make another one, and another one."""


class NotAdmitted(Invalid):
    """Well-formed, and never for a node like this one: the pod is Failed, with `reason` in its status, as with the kubelet."""

    def __init__(self, reason: str, message: str, *, path: str) -> None:
        super().__init__(message, path=path)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class EnvVar:
    """An EnvVar v1: either a value or a source (valueFrom), which is read when the container starts."""

    name: str
    value: str | None  # literal, with $(NAME) references
    source: Mapping[str, Any] | None  # valueFrom


@dataclass(frozen=True, slots=True)
class EnvFrom:
    """An EnvFromSource v1: every key of a ConfigMap or Secret becomes a variable, its name behind the prefix."""

    kind: str  # "configmaps" or "secrets"
    name: str
    prefix: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Mount:
    """A VolumeMount v1: `name` is that of the volume, `path` is absolute in the container."""

    name: str
    path: str
    read_only: bool
    sub_path: str
    is_expression: bool = False  # sub_path has $(NAME) of the container's environment
    propagation: str = "None"  # or "HostToContainer", "Bidirectional"
    recursive_read_only: str = "Disabled"  # or "IfPossible", "Enabled": what is mounted below it is read-only, too


@dataclass(frozen=True, slots=True)
class Probe:
    """A Probe v1; all times in seconds. A port that is a string is the name of a container port."""

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
    tls: bool = False  # of http; the certificate is not verified


@dataclass(frozen=True, slots=True)
class Hook:
    """A LifecycleHandler v1: something to ask, as a probe asks it, or a time to sleep."""

    action: Probe | None
    sleep: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class RestartRule:
    """A ContainerRestartRule v1 of action Restart: the container is restarted after one of these exit codes, or after any other."""

    exit_codes: frozenset[int]
    is_in: bool  # operator In; False: NotIn

    def matches(self, exit_code: int) -> bool:
        """The rule decides about this exit."""
        return (exit_code in self.exit_codes) is self.is_in


@dataclass(frozen=True, slots=True)
class ResourceRequirements:
    """Limits and requests of one container, or of a pod. None: no limit. A CPU request that is missing is the limit; 0: none."""

    cpu_limit: int | None  # millicores
    memory_limit: int | None  # bytes
    cpu_request: int
    memory_request: int
    huge_pages: Mapping[str, int] = field(default_factory=dict)  # page size ("2Mi") -> bytes
    extended: Mapping[str, int] = field(default_factory=dict)  # resources with a domain: how many devices


@dataclass(frozen=True, slots=True)
class Security:
    """The securityContext of a container, with what it takes over from that of the pod. None: as the image says."""

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
    app_armor: str = ""  # "RuntimeDefault", "Localhost", "Unconfined" or ""
    app_armor_profile: str = ""  # of Localhost: the name of a profile that the kernel has loaded
    unmasked: bool = False  # all of /proc can be seen, and written where its users may


@dataclass(frozen=True, slots=True)
class Port:
    """A ContainerPort v1; `host` is the port on the node."""

    name: str
    container: int
    host: int = 0  # 0: not on the node
    host_ip: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Container:
    """A Container v1. `command` and `args` of None are those of the image (its ENTRYPOINT and CMD)."""

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
    resources: ResourceRequirements
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
    post_start: Hook | None = None
    pre_stop: Hook | None = None
    stop_signal: str = ""  # "SIGUSR1"; "" is the image's
    restart_rules: Sequence[RestartRule] = ()  # the first that matches decides, else the restart policy
    resize_restarts: frozenset[str] = frozenset()  # "cpu", "memory": a change of them restarts the container
    stdin_once: bool = False  # its input ends with the first client that was attached to it
    is_ephemeral: bool = False  # added to a pod that runs; never restarted
    target: str = ""  # of an ephemeral one: the container whose processes it sees


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A Volume v1: `source` is what the object has under the name of its kind."""

    name: str
    kind: str  # of VOLUME_KINDS, or IMAGE_VOLUME; of a PersistentVolume "local", too
    source: Mapping[str, Any]

    @property
    def read_only(self) -> bool:
        """No container of this pod may write to it, whatever its mounts say; others may."""
        return self.source.get("readOnly") is True

    def claim_of(self, pod_name: str) -> str:
        """The name of the PersistentVolumeClaim that it is, beside the pod; "" for a volume of another kind."""
        if self.kind == "ephemeral":
            return f"{pod_name}-{self.name}"
        return str(self.source.get("claimName") or "") if self.kind == "persistentVolumeClaim" else ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod v1 as the node runs it; what the parser did not understand is listed in `unsupported`."""

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
    volumes: Mapping[str, VolumeSpec]
    pull_secrets: Sequence[str]
    service_account: str
    priority: int = 0
    storage: EphemeralStorage = EphemeralStorage()
    dns: Mapping[str, Any] = field(default_factory=dict)
    has_finalizers: bool = False  # it stays in the API when nothing of it is left here
    dns_policy: str = "ClusterFirst"
    subdomain: str = ""
    unsupported: Sequence[str] = ()
    ephemeral_containers: Sequence[Container] = ()
    generation: int = 0  # of the specification; 0: the API does not count
    active_deadline: float | None = None  # seconds from the start of the pod to its end
    share_processes: bool = False  # one PID namespace for all containers
    host_pid: bool = False
    host_ipc: bool = False
    host_users: bool = True  # its users are those of the machine
    deleted_at: str = ""  # metadata.deletionTimestamp
    fqdn_hostname: bool = False  # what the kernel calls the machine is the full name
    strict_groups: bool = False  # no groups that the image gives its user
    sysctls: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""
    fs_group_on_mismatch: bool = False  # fsGroupChangePolicy OnRootMismatch
    priority_class: str = ""
    resources: ResourceRequirements | None = (
        None  # of all containers together (spec.resources); None: the sum of theirs
    )
    overhead: ResourceRequirements = ResourceRequirements(None, None, 0, 0)  # requests, of its RuntimeClass
    service_links: bool = True  # variables for the Services of the namespace
    #: types of conditions that others set, and what they say by now ("True"; "": nothing yet): the pod is not Ready without them
    readiness_gates: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_containers(self) -> Sequence[Container]:
        """Init containers first, in the order of the spec; ephemeral ones last."""
        return (*self.init_containers, *self.containers, *self.ephemeral_containers)

    def image_of(self, mount: Mount) -> str | None:
        """The reference of the image that is mounted; None for a volume of another kind."""
        volume = self.volumes[mount.name]
        return str(volume.source.get("reference") or "") if volume.kind == IMAGE_VOLUME else None

    @property
    def full_name(self) -> str:
        """The fully qualified domain name that the pod has by its subdomain; "" without one."""
        return f"{self.hostname}.{self.subdomain}.{self.namespace}.svc.{CLUSTER_DOMAIN}" if self.subdomain else ""

    @property
    def kernel_name(self) -> str:
        """What uname(2) says in it."""
        return (self.fqdn_hostname and self.full_name) or self.hostname

    @property
    def sidecars(self) -> Sequence[Container]:
        """Init containers with restartPolicy Always, in the order of the spec."""
        return tuple(c for c in self.init_containers if c.sidecar)

    @property
    def host_ports(self) -> Sequence[Port]:
        """Ports to be forwarded from the node; none with hostNetwork, where containers listen on the node itself."""
        if self.host_network:
            return ()
        return tuple(port for c in self.all_containers for port in c.ports if port.host)
