"""The row of a pod in `kubectl get pods`: above all the one word under STATUS.

The word is the phase until something says more: the pod's own reason, then an init container that has not finished
("Init:0/1", "Init:CrashLoopBackOff"), then the first container that waits or has ended ("ErrImagePull", "Completed",
"ExitCode:3"), and at last "Terminating" once the pod is being deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeedge.api import meta, sidecars
from kubeedge.api.names import Object
from kubeedge.apiserver.durations import age, since
from kubeedge.kit.dataclasses import dataclass, field

_NONE = "<none>"


@dataclass(slots=True)
class _Count:
    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: float | None = None  # seconds since 1970
    of_sidecars: list[Object] = field(default_factory=list)  # statuses of those that have started

    def restarted(self, container: Object) -> None:
        self.restarts += int(container.get("restartCount") or 0)
        ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        moment = meta.parse_timestamp(ended)
        if moment is not None:
            self.last_restart = max(moment, self.last_restart or moment)


def pod_cells(pod: Object, now: float) -> Sequence[Any]:
    """The cells of a pod; `now` in seconds since 1970."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    count = _Count(str(status.get("reason") or status.get("phase") or ""))
    if (conditions.get("PodScheduled") or {}).get("reason") == "SchedulingGated":
        count.reason = "SchedulingGated"
    initializing = _init_containers(spec, status, count)
    if not initializing or (conditions.get("Initialized") or {}).get("status") == "True":
        ready = (conditions.get("Ready") or {}).get("status") == "True"
        _containers(status, count, pod_ready=ready)
    if meta.metadata(pod).get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            count.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            count.reason = "Terminating"
    restarts = str(count.restarts)
    if count.restarts and count.last_restart is not None:
        restarts += f" ({since(now - count.last_restart)} ago)"
    gates = spec.get("readinessGates") or []
    passed = sum((conditions.get(g.get("conditionType")) or {}).get("status") == "True" for g in gates)
    return (
        meta.name_of(pod),
        f"{count.ready}/{len(list(sidecars.lasting(spec)))}",
        count.reason,
        restarts,
        age(meta.metadata(pod).get("creationTimestamp"), now),
        status.get("podIP") or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        f"{passed}/{len(gates)}" if gates else _NONE,
    )


def _init_containers(spec: Object, status: Object, count: _Count) -> bool:
    """Whether one of them is still to finish, or to start when it is a sidecar."""
    total = len(spec.get("initContainers") or [])
    going_on = {c.get("name") for c in spec.get("initContainers") or [] if sidecars.is_sidecar(c)}
    for index, container in enumerate(status.get("initContainerStatuses") or []):
        count.restarted(container)
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if container.get("name") in going_on and container.get("started"):
            count.ready += bool(container.get("ready"))
            count.of_sidecars.append(container)
            continue
        if ended is not None:
            count.reason = "Init:" + _ended(ended)
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            count.reason = "Init:" + str(waiting["reason"])
        else:
            count.reason = f"Init:{index}/{total}"
        return True
    return False


def _containers(status: Object, count: _Count, *, pod_ready: bool) -> None:
    count.restarts, count.last_restart = 0, None
    for sidecar in count.of_sidecars:
        count.restarted(sidecar)
    running = False
    # From the last to the first, so that the first container's reason is the one that stays.
    for container in reversed(status.get("containerStatuses") or []):
        count.restarted(container)
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            count.reason = str(waiting["reason"])
        elif ended is not None:
            count.reason = _ended(ended)
        elif container.get("ready") and state.get("running") is not None:
            running = True
            count.ready += 1
    if count.reason == "Completed" and running:
        count.reason = "Running" if pod_ready else "NotReady"


def _ended(ended: Object) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"
