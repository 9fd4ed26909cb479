"""PodStatus as Kubernetes writes it, from a pod and its observation. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubeedge.api.meta import timestamp
from kubeedge.api.pod import Container, Pod
from kubeedge.appengine.container_status import container_details
from kubeedge.appengine.core import (
    ContainerObservation,
    LastState,
    PodObservation,
    initialized,
    last_phase,
    phase,
    resized,
    restarts,
)
from kubeedge.appengine.runtime.base import NOT_MOUNTED


def pod_status(
    pod: Pod,
    observed: PodObservation,
    *,
    scheme: str,
    host_ip: str,
    previous: dict[str, Any] | None,
    now: float,
    over: bool = False,
) -> dict[str, Any]:
    """`scheme` is the runtime's, before its ids. `previous` is the status that was reported last: a condition that did not change keeps
    its transition time. `host_ip`: of the node; those of both versions of IP have a comma between. `over`: nothing of it runs any more, nor will."""
    current_phase = last_phase(pod, observed) if over else phase(pod, observed)
    is_init_done = initialized(pod, observed)
    init = [_container(pod, c, observed.of(c.name), scheme) for c in pod.init_containers]
    main = [_container(pod, c, observed.of(c.name), scheme) for c in pod.containers]
    sidecars = [s for c, s in zip(pod.init_containers, init, strict=True) if c.sidecar]
    ready = current_phase == "Running" and all(c["ready"] for c in (*main, *sidecars))
    final = current_phase in ("Succeeded", "Failed")
    conditions = [
        _condition("PodReadyToStartContainers", observed.sandbox, "", ""),
        _condition(
            "Initialized", is_init_done or current_phase == "Succeeded", "ContainersNotInitialized", _names(init)
        ),
        _ready(pod, ready, *_not_ready(final, [*sidecars, *main])),
        _condition("ContainersReady", ready, *_not_ready(final, [*sidecars, *main])),
        _condition("PodScheduled", True, "", ""),
        *_resizing(pod, observed),
    ]
    if pod.generation:
        for condition in conditions:
            condition["observedGeneration"] = pod.generation
    before = {c["type"]: c for c in (previous or {}).get("conditions", [])}
    for condition in conditions:
        old = before.get(condition["type"])
        same = old is not None and old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old["lastTransitionTime"] if same and old else timestamp(now)
    status: dict[str, Any] = {
        "phase": current_phase,
        "conditions": conditions,
        "hostIP": host_ip.partition(",")[0],
        "hostIPs": _ips(host_ip),
        "qosClass": qos_class(pod),
        "startTime": (previous or {}).get("startTime") or timestamp(observed.started_at or now),
        "containerStatuses": main,
    }
    if init:
        status["initContainerStatuses"] = init
    if pod.ephemeral_containers:
        status["ephemeralContainerStatuses"] = [
            _container(pod, c, observed.of(c.name), scheme) for c in pod.ephemeral_containers
        ]
    if pod.generation:
        status["observedGeneration"] = pod.generation
    ips = host_ip if pod.host_network else observed.ips
    if ips:
        status["podIP"] = ips.partition(",")[0]
        status["podIPs"] = _ips(ips)
    if observed.evicted:
        status["reason"], status["message"] = observed.evicted_reason, observed.evicted
    elif observed.sandbox_error:
        status["message"] = observed.sandbox_error
    return status


def waiting_status(reason: str, message: str, *, host_ip: str, now: float) -> dict[str, Any]:
    """Of a pod that this node cannot run: it waits, so that no controller replaces it."""
    waits = _condition("Ready", False, reason, message) | {"lastTransitionTime": timestamp(now)}
    return {**failed_status(reason, message, host_ip=host_ip, now=now), "phase": "Pending", "conditions": [waits]}


def failed_status(reason: str, message: str, *, host_ip: str, now: float) -> dict[str, Any]:
    """The status of a pod that cannot be understood."""
    return {
        "phase": "Failed",
        "reason": reason,
        "message": message,
        "hostIP": host_ip.partition(",")[0],
        "startTime": timestamp(now),
        "conditions": [],
    }


def _ips(listed: str) -> list[dict[str, str]]:
    return [{"ip": ip} for ip in listed.split(",")]


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits of the pod, or of all containers where it has none
    (kubernetes.io, Pod Quality of Service Classes)."""
    resources = [c.resources for c in (*pod.init_containers, *pod.containers)]
    resources = resources if pod.resources is None else [pod.resources]
    if all(r.cpu_limit and r.memory_limit and r.cpu_request in (0, r.cpu_limit) and r.memory_request in (0, r.memory_limit)
           for r in resources):  # fmt: skip
        return "Guaranteed"
    if any(r.cpu_limit or r.memory_limit or r.cpu_request or r.memory_request for r in resources):
        return "Burstable"
    return "BestEffort"


def back_offs(about: str, before: dict[str, Any] | None, after: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The containers that have begun to wait for their next try between two statuses: kind, message and container of the event that a kubelet
    has for it (reason BackOff). `about`: the pod, in its words."""
    for field in ("initContainerStatuses", "containerStatuses"):
        waited = {entry["name"]: _waits_for(entry) for entry in (before or {}).get(field) or ()}
        for entry in after.get(field) or ():
            name, reason = entry["name"], _waits_for(entry)
            if reason == waited.get(name):
                continue
            if reason == "CrashLoopBackOff":
                yield "Warning", f"Back-off restarting failed container {name} in pod {about}", name
            elif reason == "ImagePullBackOff":
                yield "Normal", f'Back-off pulling image "{entry["image"]}"', name


def _waits_for(entry: dict[str, Any]) -> str:
    return str((entry["state"].get("waiting") or {}).get("reason", ""))


def _container(pod: Pod, container: Container, state: ContainerObservation, scheme: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": container.name,
        "image": container.image,
        "imageID": state.image_id,
        "restartCount": max(0, state.attempt),
        "ready": _is_ready(pod, container, state),
        "started": state.running and state.started,
        "state": {},
        "lastState": {},
    }
    if state.id:
        entry["containerID"] = container_id(scheme, state.id)
    entry |= container_details(container, state)
    if state.running:
        entry["state"] = {"running": {"startedAt": timestamp(state.started_at)}}
        if state.last:
            entry["lastState"] = {"terminated": _terminated(state.last, scheme)}
        return entry
    ended = _terminated(state, scheme) if state.exited else None
    waits_for_volumes = state.waiting_reason == NOT_MOUNTED and pod.init_containers
    if state.waiting_reason:
        reason = "PodInitializing" if waits_for_volumes else state.waiting_reason
        entry["state"] = {"waiting": {"reason": reason, "message": state.waiting_message}}
    elif ended and state.crashes > 1 and restarts(pod, container, state.exit_code):
        message = f"back-off restarting failed container {container.name}"
        entry["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
    elif ended:
        entry["state"] = {"terminated": ended}
        ended = None
    else:
        # as the kubelet: of every container, when there are init containers
        entry["state"] = {"waiting": {"reason": "PodInitializing" if pod.init_containers else "ContainerCreating"}}
    if ended:
        entry["lastState"] = {"terminated": ended}
    return entry


def _is_ready(pod: Pod, container: Container, state: ContainerObservation) -> bool:
    if container in pod.init_containers and not container.sidecar:
        return state.exited and state.exit_code == 0
    return state.running and state.ready and not container.is_ephemeral


def container_id(scheme: str, id: str) -> str:
    """The id as status.containerStatuses[].containerID has it: "embedded://" and the id, for example."""
    return f"{scheme}://{id}"


def _terminated(run: ContainerObservation | LastState, scheme: str) -> dict[str, Any]:
    entry = {
        "exitCode": run.exit_code,
        "reason": run.reason,
        "startedAt": timestamp(run.started_at),
        "finishedAt": timestamp(run.finished_at),
        "containerID": container_id(scheme, run.id),
    }
    if run.message:
        entry["message"] = run.message
    return entry


def _resizing(pod: Pod, observed: PodObservation) -> list[dict[str, Any]]:
    """What hinders a resize: that this node is too small for it, or that it did not succeed yet."""
    found = []
    states = [observed.of(c.name) for c in pod.all_containers if resized(pod, c, observed.of(c.name))]
    refused = "; ".join(s.resize_error for s in states if s.resize_refused is not None)
    failed = "; ".join(s.resize_error for s in states if s.resize_error and s.resize_refused is None)
    if refused:
        found.append(_condition("PodResizePending", True, "", "") | {"reason": "Infeasible", "message": refused})
    if failed:
        found.append(_condition("PodResizeInProgress", True, "", "") | {"reason": "Error", "message": failed})
    return found


def _condition(kind: str, true: bool, reason: str, message: str) -> dict[str, Any]:
    condition: dict[str, Any] = {"type": kind, "status": "True" if true else "False", "lastProbeTime": None}
    if not true and reason:
        condition.update(reason=reason, message=message)
    return condition


def _ready(pod: Pod, containers_ready: bool, reason: str, message: str) -> dict[str, Any]:
    """Of the pod: its containers are, and so say the conditions of its readiness gates, in the kubelet's words."""
    missing = [
        f'the status of pod readiness gate "{kind}" is not "True", but {status}'
        if status
        else f'corresponding condition of pod readiness gate "{kind}" does not exist.'
        for kind, status in pod.readiness_gates.items()
        if status != "True"
    ]
    if containers_ready and missing:
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(missing))
    return _condition("Ready", containers_ready, reason, message)


def _not_ready(final: bool, main: list[dict[str, Any]]) -> tuple[str, str]:
    if final:
        return "PodCompleted", ""
    names = " ".join(c["name"] for c in main if not c["ready"])  # separated as by the kubelet
    return "ContainersNotReady", f"containers with unready status: [{names}]"


def _names(entries: list[dict[str, Any]]) -> str:
    return f"containers with incomplete status: [{' '.join(c['name'] for c in entries if not c['ready'])}]"
