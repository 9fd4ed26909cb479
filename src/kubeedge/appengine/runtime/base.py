"""What AppEngine needs of a runtime. Implementations: embedded.EmbeddedRuntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kubeedge.api.pod import Container, Pod
from kubeedge.errors import KubeEdgeError


class StartError(KubeEdgeError):
    """A container could not be started; `reason` is what Kubernetes shows: ErrImagePull, CreateContainerError, ..."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BindMount:
    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """Everything decided: environment resolved, volumes on disk."""

    container: Container
    attempt: int
    image: str  # as written
    env: Mapping[str, str]
    mounts: Sequence[BindMount]
    log_path: Path


@dataclass(frozen=True, slots=True)
class Started:
    id: str
    pid: int
    image_id: str


@dataclass(frozen=True, slots=True)
class Exit:
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


@dataclass(frozen=True, slots=True)
class FoundPod:
    uid: str
    namespace: str
    name: str
    ip: str  # "" when its sandbox is not usable any more
    containers: Sequence[Found]


@dataclass(frozen=True, slots=True)
class ExecResult:
    exit_code: int
    output: bytes  # at most EXEC_OUTPUT


EXEC_OUTPUT = 64 * 1024


class Runtime(Protocol):
    @property
    def version(self) -> str:
        """As nodeInfo.containerRuntimeVersion shows it."""
        ...

    async def start(self, on_exit: Callable[[Exit], None]) -> Sequence[FoundPod]:
        """Take up what survived, sweep what did not. on_exit comes once for each run that ends from here on."""
        ...

    async def create_sandbox(self, pod: Pod) -> str:
        """Namespaces and network; the pod's IP address."""
        ...

    async def start_container(self, pod: Pod, config: ContainerConfig) -> Started:
        """Raises StartError."""
        ...

    async def stop_container(self, uid: str, name: str, grace: float) -> None:
        """SIGTERM, grace seconds, SIGKILL. Already ended is success; on_exit tells how."""
        ...

    async def remove_pod(self, uid: str) -> None:
        """Idempotent; goes on past what fails and raises at the end."""
        ...

    def reopen_log(self, uid: str, name: str) -> None:
        """Its log file was renamed: go on in a new one. Blocking. Raises OSError."""
        ...

    async def exec(self, uid: str, name: str, command: Sequence[str], timeout: float) -> ExecResult: ...

    async def close(self) -> None:
        """Containers go on."""
        ...
