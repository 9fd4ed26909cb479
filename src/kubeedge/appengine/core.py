"""What to do next for one pod: a pure function of what is wanted, what is there, and the time.

The engine observes, calls plan(), performs the one action that it returns, and asks again; between two actions it sleeps until `wake` or
until something happens. After an agent restart the observation comes from disk and from living processes, so the same function that
starts a pod also resumes it.

    sandbox ── init containers, one after the other ── containers, all at once
       │ each: image ── create ── running ── exited ── (restart policy, back-off) ── running ...
       └ deleted, or another uid: stop what runs ── remove what is left ── gone

Restart back-off is the kubelet's: the first restart at once, then 10 s doubling to 300 s; ten minutes of life forget it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from kubeedge.api.pod import Container, Pod
from kubeedge.kit.backoff import Backoff

BACKOFF = Backoff(10.0, 300.0)  # the kubelet's, of containers and images
SANDBOX_BACKOFF = Backoff(2.0, 60.0)
EVICTION_GRACE = 1.0  # seconds, as the kubelet's: what fills a disk is not asked twice
BACKOFF_FORGET = 600.0  # seconds of life after which a container's crashes are forgotten


@dataclass(slots=True)
class ContainerObservation:
    """One container as it is. `attempt` is -1 before the first start; restartCount is attempt, at least 0."""

    attempt: int = -1
    id: str = ""
    pid: int = 0
    image_id: str = ""
    started_at: float = 0.0  # wall clock
    finished_at: float = 0.0  # 0: runs
    exit_code: int = 0
    reason: str = ""  # of the exit: Completed, Error, OOMKilled, ContainerStatusUnknown
    message: str = ""
    last: LastState | None = None  # the run before this one
    crashes: int = 0  # in a row, for the back-off
    waiting_reason: str = ""  # why it could not be started
    waiting_message: str = ""
    retry_at: float = 0.0  # after a failed start; like every deadline, of the monotonic clock
    restart_at: float = 0.0  # after a crash
    begun: float = 0.0  # the run, by that clock; 0: before the agent
    failures: int = 0  # to start, in a row
    spec_image: str = ""  # the image that the run was started with
    ready: bool = False  # by its readiness probe, or because there is none
    started: bool = False  # by its startup probe, or because there is none
    unhealthy: str = ""  # set by a liveness probe: kill it
    unhealthy_grace: float | None = None  # within so many seconds; None: the pod's
    replacing: bool = False  # we end it for a new image: that is no crash

    @property
    def running(self) -> bool:
        """Started, and its exit has not been seen yet."""
        return self.attempt >= 0 and self.id != "" and self.finished_at == 0.0

    @property
    def exited(self) -> bool:
        """The newest run has ended. A container that was never started has neither run nor exited."""
        return self.attempt >= 0 and self.finished_at > 0.0


@dataclass(frozen=True, slots=True)
class LastState:
    """The run before the current one (ContainerStatus.lastState). Times are wall clock, in seconds since the epoch."""

    exit_code: int
    reason: str
    message: str
    started_at: float
    finished_at: float
    id: str


@dataclass(slots=True)
class PodObservation:
    """One pod as it is on this node. `started_at` is wall clock; `retry_at` is of the clock that plan() goes by."""

    uid: str
    ip: str = ""
    sandbox: bool = False
    started_at: float = 0.0
    containers: dict[str, ContainerObservation] = field(default_factory=dict)
    sandbox_error: str = ""
    retry_at: float = 0.0
    failures: int = 0
    grace: float = 30.0  # seconds; of the pod when it was last seen
    evicted: str = ""  # why: it has failed, and does not run again
    final: str = ""  # "Succeeded" or "Failed", as reported before our own records were lost: it does not run again

    def of(self, name: str) -> ContainerObservation:
        """The observation of a container; one that has never been started when it is not known yet."""
        return self.containers.setdefault(name, ContainerObservation())


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    """Namespaces, network and cgroup of the pod; after a failed attempt, all of them again."""


@dataclass(frozen=True, slots=True)
class StartContainer:
    """The container's next run; `attempt` counts from 0 and becomes its restartCount."""

    container: Container
    attempt: int


@dataclass(frozen=True, slots=True)
class StopContainers:
    """Together: SIGTERM, `grace` seconds, SIGKILL."""

    names: Sequence[str]
    grace: float
    why: str
    replacing: bool = False


@dataclass(frozen=True, slots=True)
class RemovePod:
    """Everything of it: containers, volumes, network, cgroups."""


@dataclass(frozen=True, slots=True)
class ReportRemoved:
    """Nothing of the pod is left: report that it is gone."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until a time of the clock that plan() was given, or until something happens."""

    until: float | None  # None: for an event


Action: TypeAlias = CreateSandbox | StartContainer | StopContainers | RemovePod | ReportRemoved | Wait


def plan(desired: Pod | None, observed: PodObservation, now: float) -> Action:
    """`now` is of a monotonic clock: when the time of day is corrected, deadlines neither pass at once nor move years away."""
    if desired is None or desired.deleting or desired.uid != observed.uid:
        return _end(desired, observed)
    if observed.evicted and (running := tuple(n for n, s in observed.containers.items() if s.running)):
        return StopContainers(running, EVICTION_GRACE, observed.evicted)
    if observed.final or phase(desired, observed) in ("Succeeded", "Failed"):
        return _end_sidecars(desired, observed) or Wait(None)
    if not observed.sandbox:
        return CreateSandbox() if now >= observed.retry_at else Wait(observed.retry_at)
    return _drive(_due(desired, observed), desired, observed, now)


def _due(pod: Pod, observed: PodObservation) -> Sequence[Container]:
    """What runs, or is to run, at this stage: the sidecars so far, and either the next init container or all the others."""
    due: list[Container] = []
    for container in pod.init_containers:
        if not _initialized(pod, container, observed):
            return [*due, container]
        if container.sidecar:
            due.append(container)
    return [*due, *pod.containers]


def _initialized(pod: Pod, container: Container, observed: PodObservation) -> bool:
    """The next one may start. A sidecar that crashes later on does not block the others."""
    state = observed.of(container.name)
    if not container.sidecar:
        return state.exited and state.exit_code == 0
    return (state.running and state.started) or any(observed.of(c.name).attempt >= 0 for c in pod.containers)


def _end_sidecars(pod: Pod, observed: PodObservation) -> Action | None:
    """When all else is over: the last one first."""
    for container in reversed(pod.sidecars):
        if observed.of(container.name).running:
            return StopContainers((container.name,), pod.grace, "the containers of the pod have ended")
    return None


def _drive(containers: Sequence[Container], pod: Pod, observed: PodObservation, now: float) -> Action:
    wake: list[float] = []
    for container in containers:
        state = observed.of(container.name)
        if state.running:
            if state.unhealthy:
                grace = pod.grace if state.unhealthy_grace is None else state.unhealthy_grace
                return StopContainers((container.name,), grace, state.unhealthy)
            if state.spec_image and state.spec_image != container.image:
                why = f"its image changed to {container.image}"
                return StopContainers((container.name,), pod.grace, why, replacing=True)
            continue
        init = container in pod.init_containers
        if state.exited and not restarts(policy_of(container, pod.restart_policy), state.exit_code, init):
            continue
        at = max(state.retry_at, state.restart_at)
        if now >= at:
            return StartContainer(container, state.attempt + 1)
        wake.append(at)
    return Wait(min(wake) if wake else None)


def _end(desired: Pod | None, observed: PodObservation) -> Action:
    running = [name for name, state in observed.containers.items() if state.running]
    if running:
        grace = desired.grace if desired is not None else observed.grace
        sidecars = {c.name for c in desired.sidecars} if desired is not None else set()
        if sidecars.issuperset(running):
            assert desired is not None
            return _end_sidecars(desired, observed) or StopContainers(tuple(running), grace, "the pod is deleted")
        running = [name for name in running if name not in sidecars]
        return StopContainers(tuple(running), grace, "the pod is deleted")
    if observed.sandbox or observed.containers:
        return RemovePod()
    return ReportRemoved()


def policy_of(container: Container, policy: str) -> str:
    """ "Sidecar" for a restartable init container, else the container's own restartPolicy, else the pod's `policy`."""
    return "Sidecar" if container.sidecar else container.restart_policy or policy


def restarts(policy: str, exit_code: int, init: bool) -> bool:
    """Init containers that succeeded are done; under Always a failed one is started again, as under OnFailure."""
    if policy == "Never":
        return False
    if policy == "Sidecar":
        return True
    return exit_code != 0 if init or policy == "OnFailure" else True


def back_off(crashes: int) -> float:
    """Seconds from an exit to the next start."""
    return BACKOFF.delay(crashes - 1)  # the first restart is at once


def note_exit(
    state: ContainerObservation, exit_code: int, reason: str, message: str, *, wall: float, now: float
) -> None:
    """The run is over: `wall` for what users read, `now` for what is waited for."""
    lived = now - state.begun
    state.crashes = 0 if state.replacing else 1 if lived >= BACKOFF_FORGET else state.crashes + 1
    state.restart_at = now + back_off(state.crashes)
    state.exit_code, state.message, state.finished_at = exit_code, message, wall
    state.reason = reason or ("Completed" if exit_code == 0 else "Error")
    state.ready = state.started = state.replacing = False
    state.unhealthy, state.unhealthy_grace = "", None


def note_start(
    state: ContainerObservation,
    *,
    attempt: int,
    id: str,
    pid: int,
    image: str,
    image_id: str,
    wall: float,
    now: float,
) -> None:
    """A run has begun: the run before it becomes `last`, and counters and errors start from zero. `wall` is the time of day, `now` the
    clock of plan()."""
    if state.exited:
        state.last = LastState(
            state.exit_code, state.reason, state.message, state.started_at, state.finished_at, state.id
        )
    state.attempt, state.id, state.pid, state.started_at, state.finished_at = attempt, id, pid, wall, 0.0
    state.begun = now
    state.spec_image, state.image_id = image, image_id
    state.exit_code, state.reason, state.message = 0, "", ""
    state.waiting_reason = state.waiting_message = ""
    state.failures, state.retry_at, state.restart_at = 0, 0.0, 0.0
    state.unhealthy, state.unhealthy_grace = "", None


def note_failure(state: ContainerObservation, *, reason: str, message: str, now: float) -> None:
    """It could not be started: try again later, less and less often."""
    state.failures += 1
    if reason == "ErrImagePull" and state.failures > 1:
        reason = "ImagePullBackOff"
    state.waiting_reason, state.waiting_message, state.retry_at = reason, message, now + BACKOFF.delay(state.failures)


def phase(pod: Pod, observed: PodObservation) -> str:
    """Kubernetes' rule: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase"""
    if observed.evicted:
        return "Failed"
    for container in pod.init_containers:
        state = observed.of(container.name)
        policy = policy_of(container, pod.restart_policy)
        if state.exited and state.exit_code != 0 and not restarts(policy, state.exit_code, True):
            return "Failed"
        if not _initialized(pod, container, observed):
            return "Pending"
    states = [observed.of(c.name) for c in pod.containers]
    if any(s.attempt < 0 for s in states):
        return "Pending"
    policies = [policy_of(c, pod.restart_policy) for c in pod.containers]
    if any(s.running or restarts(p, s.exit_code, False) for s, p in zip(states, policies, strict=True)):
        return "Running"
    return "Succeeded" if all(s.exit_code == 0 for s in states) else "Failed"


def last_phase(pod: Pod, observed: PodObservation) -> str:
    """Of a pod that was deleted and whose processes have ended: whatever its restart policy, it does not run again."""
    states = [observed.of(c.name) for c in pod.containers]
    return "Succeeded" if all(s.exited and s.exit_code == 0 for s in states) else "Failed"


def initialized(pod: Pod, observed: PodObservation) -> bool:
    """Whether every init container has done its part, as the pod condition Initialized says it."""
    return all(_initialized(pod, c, observed) for c in pod.init_containers)
