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
from typing import TypeAlias

from kubeedge.api.pod import Container, Pod, ResourceRequirements
from kubeedge.appengine import qos
from kubeedge.appengine.runtime.base import User
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import dataclass, field

BACKOFF = Backoff(10.0, 300.0)  # the kubelet's, of containers and images
SANDBOX_BACKOFF = Backoff(2.0, 60.0)
EVICTION_GRACE = 1.0  # seconds, as the kubelet's: what fills a disk is not asked twice
REMOVED_GRACE = 2.0  # seconds, the kubelet's least: of a pod whose object is gone, deleted by force
LEAST_GRACE = 2.0  # seconds that a sidecar has, though the others have used up the pod's grace period
DEADLINE_EXCEEDED = "DeadlineExceeded"  # status.reason, as the kubelet's
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
    replacing: bool = False  # we end it for a new image or for other resources: that is no crash
    user: User | None = None  # of the run; None where the runtime does not say
    resources: ResourceRequirements | None = None  # that the run has; None: not known
    resize_error: str = ""  # why it does not have those that it should have
    resize_refused: ResourceRequirements | None = None  # those that this node will never give it

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
    active_since: float | None = None  # by the clock of plan(): when its activeDeadlineSeconds began; None: not yet
    ending_since: float | None = (
        None  # by that clock: when the first of its containers was told to end, for its deletion
    )
    ipv6: str = ""
    evicted: str = ""  # why: it has failed, and does not run again
    evicted_reason: str = "Evicted"  # status.reason of it
    final: str = ""  # "Succeeded" or "Failed", as reported before our own records were lost: it does not run again

    @property
    def ips(self) -> str:
        """Its addresses, as the downward API lists them: with a comma between."""
        return ",".join(filter(None, (self.ip, self.ipv6)))

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
class ResizeContainer:
    """Other resources for a container that goes on."""

    container: Container


@dataclass(frozen=True, slots=True)
class StopContainers:
    """Together: SIGTERM, `grace` seconds, SIGKILL."""

    names: Sequence[str]
    grace: float
    why: str
    replacing: bool = False


@dataclass(frozen=True, slots=True)
class FailPod:
    """It does not run again: what runs of it is ended next, and its status says `reason` and `message`."""

    reason: str
    message: str


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


Action: TypeAlias = (
    CreateSandbox | StartContainer | ResizeContainer | StopContainers | FailPod | RemovePod | ReportRemoved | Wait
)


def plan(desired: Pod | None, observed: PodObservation, now: float) -> Action:
    """`now` is of a monotonic clock: when the time of day is corrected, deadlines neither pass at once nor move years away."""
    if desired is None or desired.deleting or desired.uid != observed.uid:
        return _end(desired, observed, now)
    if observed.evicted and (running := tuple(n for n, s in observed.containers.items() if s.running)):
        grace = desired.grace if observed.evicted_reason == DEADLINE_EXCEEDED else EVICTION_GRACE
        return StopContainers(running, grace, observed.evicted)
    if observed.final or phase(desired, observed) in ("Succeeded", "Failed"):
        return _end_the_rest(desired, observed) or Wait(None)
    expires = _expires(desired, observed)
    if expires is not None and now >= expires:
        return FailPod(DEADLINE_EXCEEDED, "Pod was active on the node longer than the specified deadline")
    if observed.sandbox:
        action = _drive(_due(desired, observed), desired, observed, now)
    else:
        action = CreateSandbox() if now >= observed.retry_at else Wait(observed.retry_at)
    if isinstance(action, Wait) and expires is not None:
        return Wait(expires if action.until is None else min(expires, action.until))
    return action


def _expires(pod: Pod, observed: PodObservation) -> float | None:
    if pod.active_deadline is None or observed.active_since is None:
        return None
    return observed.active_since + pod.active_deadline


def _due(pod: Pod, observed: PodObservation) -> Sequence[Container]:
    """What runs, or is to run, at this stage: the sidecars so far, and either the next init container or all the others. Ephemeral
    containers wait for none of them, and nothing waits for them."""
    due: list[Container] = []
    for container in pod.init_containers:
        if not _initialized(pod, container, observed):
            return [*due, container, *pod.ephemeral_containers]
        if container.sidecar:
            due.append(container)
    return [*due, *pod.containers, *pod.ephemeral_containers]


def _initialized(pod: Pod, container: Container, observed: PodObservation) -> bool:
    """The next one may start. A sidecar that crashes later on does not block the others."""
    state = observed.of(container.name)
    if not container.sidecar:
        return state.exited and state.exit_code == 0
    return (state.running and state.started) or any(observed.of(c.name).attempt >= 0 for c in pod.containers)


def _end_the_rest(pod: Pod, observed: PodObservation) -> Action | None:
    """When the containers are over: ephemeral ones, then the sidecars, the last one first."""
    for container in (*pod.ephemeral_containers, *reversed(pod.sidecars)):
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
            if (changed := resized(pod, container, state)) and state.resize_refused != container.resources:
                if changed & container.resize_restarts:
                    why = f"its resources changed ({', '.join(sorted(changed))})"
                    return StopContainers((container.name,), pod.grace, why, replacing=True)
                if now >= state.retry_at:
                    return ResizeContainer(container)
                wake.append(state.retry_at)
            continue
        if state.exited and not restarts(pod, container, state.exit_code):
            continue
        at = max(state.retry_at, state.restart_at)
        if now >= at:
            return StartContainer(container, state.attempt + 1)
        wake.append(at)
    return Wait(min(wake) if wake else None)


def resized(pod: Pod, container: Container, state: ContainerObservation) -> set[str]:
    """Of "cpu" and "memory", those that the run has otherwise than the specification asks for by now."""
    wanted, has = qos.of_container(pod, container.resources), state.resources
    if has is None:
        return set()
    pairs = {
        "cpu": (wanted.cpu_limit == has.cpu_limit and wanted.cpu_request == has.cpu_request),
        "memory": (wanted.memory_limit == has.memory_limit and wanted.memory_request == has.memory_request),
    }
    return {name for name, same in pairs.items() if not same}


def next_to_stop(pod: Pod | None, observed: PodObservation, now: float) -> StopContainers | None:
    """Of a pod that is to end: the containers that come next. None: nothing of it runs."""
    action = _end(pod, observed, now)
    return action if isinstance(action, StopContainers) else None


def _end(desired: Pod | None, observed: PodObservation, now: float) -> Action:
    """All containers but the sidecars together, then these, the last one first: within one grace period for all of them."""
    running = [name for name, state in observed.containers.items() if state.running]
    if running:
        grace = desired.grace if desired is not None else observed.grace
        if grace > 0 and observed.ending_since is not None:
            grace = max(LEAST_GRACE, grace - (now - observed.ending_since))
        sidecars = [c.name for c in reversed(desired.sidecars) if c.name in running] if desired is not None else []
        running = [name for name in running if name not in sidecars] or sidecars[:1]
        return StopContainers(tuple(running), grace, "the pod is deleted")
    if observed.sandbox or observed.containers:
        return RemovePod()
    return ReportRemoved()


def restarts(pod: Pod, container: Container, exit_code: int) -> bool:
    """Whether a run that ended with this status is followed by another one.

    Init containers that succeeded are done; under Always a failed one is started again, as under OnFailure.
    """
    if container.is_ephemeral:
        return False
    if container.sidecar or any(rule.matches(exit_code) for rule in container.restart_rules):
        return True
    policy = container.restart_policy or pod.restart_policy
    if policy == "Always" and container in pod.init_containers:
        policy = "OnFailure"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


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
    user: User | None = None,
    resources: ResourceRequirements | None = None,
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
    state.user, state.resources, state.resize_error, state.resize_refused = user, resources, "", None
    state.unhealthy, state.unhealthy_grace = "", None


def note_failure(state: ContainerObservation, *, reason: str, message: str, now: float) -> None:
    """It could not be started: try again later, less and less often."""
    state.failures += 1
    if reason == "ErrImagePull" and state.failures > 1:
        reason = "ImagePullBackOff"
    state.waiting_reason, state.waiting_message, state.retry_at = reason, message, now + BACKOFF.delay(state.failures)


def phase(pod: Pod, observed: PodObservation) -> str:
    """status.phase by the rule of Kubernetes (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase)."""
    if observed.evicted:
        return "Failed"
    for container in pod.init_containers:
        state = observed.of(container.name)
        if state.exited and state.exit_code != 0 and not restarts(pod, container, state.exit_code):
            return "Failed"
        if not _initialized(pod, container, observed):
            return "Pending"
    states = [observed.of(c.name) for c in pod.containers]
    if any(s.attempt < 0 for s in states):
        return "Pending"
    if any(s.running or restarts(pod, c, s.exit_code) for s, c in zip(states, pod.containers, strict=True)):
        return "Running"
    return "Succeeded" if all(s.exit_code == 0 for s in states) else "Failed"


def last_phase(pod: Pod, observed: PodObservation) -> str:
    """Of a pod that was deleted and whose processes have ended: whatever its restart policy, it does not run again."""
    states = [observed.of(c.name) for c in pod.containers]
    return "Succeeded" if all(s.exited and s.exit_code == 0 for s in states) else "Failed"


def initialized(pod: Pod, observed: PodObservation) -> bool:
    """Whether every init container has done its part, as the pod condition Initialized says it."""
    return all(_initialized(pod, c, observed) for c in pod.init_containers)
