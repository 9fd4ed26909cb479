"""What AppEngine needs of a container runtime and of its images.

Shaped so that a CRI v1 implementation (k8s.io/cri-api, RuntimeService and ImageService) fits behind it: what a call here takes is what the
call of that name takes there, and ids are the runtime's own, opaque to all others. Implementations: embedded.EmbeddedRuntime and
cri.runtime.CriRuntime.

    here                        CRI v1
    create_sandbox              RunPodSandbox(PodSandboxConfig, runtime_handler)
    sandbox_status              PodSandboxStatus
    not_ready                   Status (RuntimeReady)
    start_container             CreateContainer, StartContainer
    update_sandbox              UpdatePodSandboxResources
    update_container            UpdateContainerResources
    stop_container              StopContainer
    remove_pod                  StopPodSandbox, RemovePodSandbox
    start, on_exit              ListPodSandbox, ListContainers, ContainerStatus; GetContainerEvents
    exec_sync, exec, attach     ExecSync, Exec, Attach (the streams that the URL leads to)
    port_forward                PortForward (one of its pairs of streams)
    reopen_log                  ReopenContainerLog
    stats, details              ListPodSandboxStats, ListContainerStats
    disk_usage                  ContainerStats.writable_layer
    images                      ImageService
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from kubeedge.api.pod import Container, Port, ResourceRequirements
from kubeedge.appengine.runtime.image_service import ImageService
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.disk_use import DiskUse

if TYPE_CHECKING:
    from kubeedge.appengine.runtime.detail import PodDetail


NOT_MOUNTED = "ContainerCreating"  # what a container waits with for its volumes, as with the kubelet; an Event says why


class StartError(KubeEdgeError):
    """A container could not be started; `reason` is what Kubernetes shows: ErrImagePull, CreateContainerError, ..."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotRunning(KubeEdgeError):
    """The container of this id does not run (any more)."""


RANGE = 65536  # users, and as many groups, of a pod that has a user namespace


@dataclass(frozen=True, slots=True)
class BindMount:
    """A file or directory of the node, and its absolute path in the container (CRI: Mount)."""

    source: Path
    target: str
    read_only: bool = False
    propagation: str = "None"  # of mounts that appear below: "HostToContainer", "Bidirectional"
    recursive_read_only: str = "Disabled"  # "Enabled" or "IfPossible": what is mounted below it is read-only, too
    image: str = ""  # an image to mount instead of `source`; it is on this node
    sub_path: str = ""  # of the image
    locked: tuple[
        str, ...
    ] = ()  # options of the source that the users of the pod cannot take from it, so that they are to be named


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device file of this machine in a container. `permissions` of "r", "w", "m"."""

    host: str
    container: str
    permissions: str


@dataclass(frozen=True, slots=True)
class User:
    """Who a container's first process runs as (CRI: LinuxContainerUser)."""

    uid: int
    gid: int
    groups: Sequence[int] = ()  # supplementary ones, sorted


@dataclass(frozen=True, slots=True)
class ClusterDns:
    """Where the pods of this node ask for names, and the cluster's domain."""

    server: str
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """What the containers of a pod share (CRI: PodSandboxConfig)."""

    uid: str
    namespace: str
    name: str
    hostname: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    privileged: bool = False  # one of its containers is
    share_processes: bool = False  # one PID namespace for all containers
    full_name: str = ""  # with the domain of the cluster, if it has one
    kernel_name: str = ""  # what uname(2) says; "": the hostname
    sysctls: Mapping[str, str] = field(default_factory=dict)  # of its own namespaces
    strict_groups: bool = False  # the groups that the image gives its user do not count
    host_aliases: Sequence[tuple[str, Sequence[str]]] = ()
    ports: Sequence[Port] = ()  # of the node that lead to it
    dns_policy: str = "ClusterFirst"
    dns: Mapping[str, Any] = field(default_factory=dict)  # nameservers, searches, options: checked lines of resolv.conf
    groups: Sequence[int] = ()  # supplementalGroups and fsGroup: of every process in it
    log_directory: Path | None = None  # of all its containers
    handler: str = ""  # of its RuntimeClass; "" is the runtime's default
    qos: str = "BestEffort"  # or "Burstable", "Guaranteed"
    resources: ResourceRequirements | None = None  # of all its containers together; None: not known
    first_user: int = 0  # of RANGE users of the machine that are those of the pod; 0: they are the machine's own


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What the runtime knows of a pod's sandbox (CRI: PodSandboxStatus)."""

    uid: str
    ip: str  # "" on the network of the node, or when it is not ready
    ready: bool
    handler: str = ""
    ipv6: str = ""  # a second address; "": it has none

    @property
    def ips(self) -> str:
        """Both, with a comma between."""
        return ",".join(filter(None, (self.ip, self.ipv6)))


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """Everything decided: environment resolved, volumes mounted on the node (CRI: ContainerConfig)."""

    container: Container
    attempt: int
    image: str  # as written
    env: Mapping[str, str]
    mounts: Sequence[BindMount]
    log_path: Path  # below the sandbox's log_directory
    target_id: str = ""  # the container whose PID namespace it joins (CRI: NamespaceOption.target_id)
    oom_score_adj: int = 500
    devices: Sequence[DeviceNode] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)  # of this container, for the runtime
    cdi: Sequence[str] = ()  # names of devices of the Container Device Interface
    swap: int | None = None  # bytes that it may have; None: no limit is set


@dataclass(frozen=True, slots=True)
class Started:
    """A container that runs from here on. `id` is the runtime's own, `image_id` a digest."""

    id: str
    pid: int  # 0 where the runtime does not say
    image_id: str
    user: User | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended. `uid` is the pod's, `id` the container's."""

    uid: str
    container: str
    id: str
    exit_code: int
    reason: str  # "OOMKilled", "ContainerStatusUnknown" or ""
    message: str  # of the termination log


@dataclass(frozen=True, slots=True)
class Found:
    """A container that was there when the agent started."""

    name: str
    attempt: int
    id: str
    pid: int
    image: str
    image_id: str
    started_at: float
    exit: Exit | None  # None: it runs
    finished_at: float = 0.0
    user: User | None = None
    resources: ResourceRequirements | None = None  # that it was started with, or has been updated to


@dataclass(frozen=True, slots=True)
class FoundPod:
    """A pod that survived a restart of the agent, with the newest run of each of its containers."""

    uid: str
    namespace: str
    name: str
    ip: str  # "" when its sandbox is not usable any more
    containers: Sequence[Found]
    ipv6: str = ""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """Exit code and joint output of exec_sync()."""

    exit_code: int
    output: bytes  # at most EXEC_OUTPUT


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What the processes of a container, of a pod or of a machine use. Counters (CPU time, page faults) grow from their start; memory is in
    bytes."""

    cpu_ns: int
    memory: int
    working_set: int  # memory without file pages that can be dropped at once, as the kubelet counts it
    rss: int
    page_faults: int
    major_page_faults: int
    processes: int  # and threads


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """One container that runs (CRI: ContainerStats)."""

    name: str
    id: str
    image: str  # as written
    started_at: float  # wall clock
    usage: ResourceUsage


@dataclass(frozen=True, slots=True)
class PodStats:
    """One pod, with everything that runs in it (CRI: PodSandboxStats)."""

    uid: str
    namespace: str
    name: str
    usage: ResourceUsage
    containers: Sequence[ContainerStats]


EXEC_OUTPUT = 64 * 1024


class Output(NamedTuple):
    """A piece of what a process wrote."""

    stream: Literal["stdout", "stderr"]  # with a terminal all is stdout
    data: bytes  # not empty; at most CHUNK


CHUNK = 32 * 1024  # bytes


class Streams(Protocol):
    """A process in a container, or the container's own, as `kubectl exec` and `kubectl attach` see it.

    Bounded: a process whose output is not received blocks on its full pipes, and send() waits for one that does not read.
    """

    async def receive(self) -> Output | None:
        """What it wrote next; None when both of its streams have ended. One caller at a time."""
        ...

    async def send(self, data: bytes) -> None:
        """To its standard input. Input that it does not take any more is dropped, as by a shell's pipe. One caller at a time."""
        ...

    async def end_input(self) -> None:
        """Its standard input ends here. A terminal's does not: there ^D says so."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """The terminal's size. Nothing without one."""
        ...

    async def wait(self) -> int | None:
        """The exit status, 128 + n after signal n. It may come after the streams have ended, or before, when a child has them (not with
        runc, which waits for them). None for a container that runs when one's attachment is closed."""
        ...

    async def close(self) -> None:
        """The client has disconnected: a process of exec ends, a container keeps running. Idempotent."""
        ...


class Runtime(Protocol):
    """A container runtime (CRI: RuntimeService). Ids are opaque to callers, times are in seconds."""

    @property
    def version(self) -> str:
        """Name and version of the runtime, as nodeInfo.containerRuntimeVersion shows them."""
        ...

    @property
    def scheme(self) -> str:
        """What stands before "://" and an id in status.containerStatuses[].containerID."""
        ...

    @property
    def handlers(self) -> Sequence[str]:
        """The names that SandboxConfig.handler may have."""
        ...

    @property
    def images(self) -> ImageService:
        """The images that containers of this runtime are started from."""
        ...

    def not_ready(self) -> str:
        """Why no container can start on this node; "": they can. It does not wait for anything."""
        ...

    async def start(self, on_exit: Callable[[Exit], None]) -> Sequence[FoundPod]:
        """Take up what survived, sweep what did not. on_exit comes once for each run that ends from here on."""
        ...

    async def create_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        """Namespaces and network. Raises StartError or OSError; then what was made of it is taken away by the next try or remove_pod()."""
        ...

    async def sandbox_status(self, uid: str) -> SandboxStatus | None:
        """The newest sandbox of the pod; None: there is none."""
        ...

    async def start_container(self, sandbox: SandboxConfig, config: ContainerConfig) -> Started:
        """A new run replaces the container's earlier one. Raises StartError."""
        ...

    async def update_sandbox(self, config: SandboxConfig) -> None:
        """The resources of the pod as a whole. What cannot be limited on this machine is only a warning."""
        ...

    async def update_container(self, id: str, resources: ResourceRequirements) -> None:
        """CPU and memory of a container that runs. Raises NotRunning, or StartError for what cannot be."""
        ...

    async def stop_container(self, id: str, grace: float) -> None:
        """Send the stop signal and, after `grace` seconds, SIGKILL. Already ended is success; on_exit tells how."""
        ...

    async def remove_pod(self, uid: str) -> None:
        """Idempotent; goes on past what fails and raises at the end."""
        ...

    async def stats(self) -> Sequence[PodStats]:
        """Resource usage of pods whose containers run. One that ends meanwhile is left out."""
        ...

    async def details(self) -> Sequence[PodDetail]:
        """More of the same pods, for dashboards; what nothing counts is left out."""
        ...

    async def disk_usage(self, uid: str) -> Mapping[str, DiskUse]:
        """Container -> its writable layer. It walks the disk: not to be asked often."""
        ...

    def reopen_log(self, id: str) -> None:
        """Continue in a new log file, after the old one was renamed. Blocking. Raises OSError."""
        ...

    async def exec_sync(self, id: str, command: Sequence[str], timeout: float) -> ExecResult:
        """Both streams in one. 124 for no answer within `timeout` seconds, 126 when the container does not run."""
        ...

    async def exec(self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> Streams:
        """The streams of a new process in a container. Raises NotRunning or StartError."""
        ...

    async def attach(self, id: str, *, stdin: bool = False) -> Streams:
        """What the container writes from here on. `stdin`: also to its input, if it was started with one. Raises NotRunning."""
        ...

    async def port_forward(self, uid: str, port: int) -> tuple[Any, Any]:
        """A TCP connection to a port on the loopback of the pod's network: asyncio's StreamReader and StreamWriter. Raises NotRunning, OSError."""
        ...

    async def close(self) -> None:
        """Release what the engine holds; containers keep running."""
        ...
