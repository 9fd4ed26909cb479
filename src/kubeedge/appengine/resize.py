"""Other CPU and memory for a container that goes on (resize in place).

Lives elsewhere: that it should have others (core.py), how a status says so (status.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from kubeedge.api.pod import Container, ResourceRequirements
from kubeedge.appengine import qos
from kubeedge.appengine.prepare import Preparer
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import NotRunning, Runtime, StartError
from kubeedge.appengine.worker import Worker
from kubeedge.errors import KubeEdgeError

_RETRY = 10.0  # seconds; what is in use may become less


async def perform(
    runtime: Runtime, reports: Reports, prepare: Preparer, worker: Worker, container: Container, now: float
) -> None:
    """A request that this machine can never fulfil is refused for good, anything else that fails is tried again. The pod's own limits grow before
    those of the container, and shrink after them. `now`: of plan()."""
    state, wanted = worker.observed.of(container.name), container.resources
    runs = wanted if worker.desired is None else qos.of_container(worker.desired, wanted)
    if problem := infeasible(wanted, prepare.allocatable):
        state.resize_refused, state.resize_error = wanted, problem
        await reports.event(worker, "Warning", "ResizeInfeasible", problem, container.name)
        return
    try:
        await _update_pod(runtime, prepare, worker)
        await runtime.update_container(state.id, runs)
    except NotRunning:
        return  # its exit is on the way
    except (StartError, OSError) as exc:
        state.retry_at = now + _RETRY
        if state.resize_error != str(exc):
            state.resize_error = str(exc)
            await reports.event(worker, "Warning", "ResizeError", str(exc), container.name)
        return
    state.resources, state.resize_error, state.resize_refused = runs, "", None
    await limit_pod(runtime, reports, prepare, worker)
    await reports.event(worker, "Normal", "ResizeCompleted", f"Resized container {container.name}", container.name)


async def limit_pod(runtime: Runtime, reports: Reports, prepare: Preparer, worker: Worker) -> None:
    """What the pod asks for as a whole has changed; what cannot be now is said, and stays to be done."""
    worker.stale_limits = False
    try:
        await _update_pod(runtime, prepare, worker)
    except (KubeEdgeError, OSError) as exc:
        worker.stale_limits = True
        if not worker.limits_refused:
            worker.limits_refused = True
            await reports.event(worker, "Warning", "ResizeError", str(exc))
    else:
        worker.limits_refused = False


async def _update_pod(runtime: Runtime, prepare: Preparer, worker: Worker) -> None:
    """The pod's own limits, by what it asks for now and what its containers have."""
    if worker.desired is not None and worker.observed.sandbox:
        await runtime.update_sandbox(prepare.sandbox(worker.desired, worker.observed))


def infeasible(wanted: ResourceRequirements, has: Mapping[str, int]) -> str:
    """Why a machine that has so much (node.allocatable()) can never do it, in the kubelet's words; "": it could. Pure."""
    requests = {"memory": wanted.memory_request or wanted.memory_limit or 0, "cpu": wanted.cpu_request}
    for name, asked in requests.items():
        if asked > has[name]:
            return f"Node didn't have enough capacity: {name}, requested: {asked}, capacity: {has[name]}"
    return ""
