"""Other CPU and memory for a container that goes on (resize in place).

Lives elsewhere: that it should have others (core.py), how a status says so (status.py).
"""

from __future__ import annotations

import os

from kubeedge.api.pod import Container, Resources
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import NotRunning, Runtime, StartError
from kubeedge.appengine.worker import Worker

_RETRY = 10.0  # seconds; what is in use may become less


async def perform(runtime: Runtime, reports: Reports, worker: Worker, container: Container, now: float) -> None:
    """A request that this machine can never fulfil is refused for good, anything else that fails is tried again. `now`: of plan()."""
    state, wanted = worker.observed.of(container.name), container.resources
    if problem := infeasible(wanted, millicores=(os.cpu_count() or 1) * 1000, memory=_memory()):
        state.resize_refused, state.resize_error = wanted, problem
        await reports.event(worker, "Warning", "ResizeInfeasible", problem, container.name)
        return
    try:
        await runtime.update_container(state.id, wanted)
    except NotRunning:
        return  # its exit is on the way
    except (StartError, OSError) as exc:
        state.retry_at = now + _RETRY
        if state.resize_error != str(exc):
            state.resize_error = str(exc)
            await reports.event(worker, "Warning", "ResizeError", str(exc), container.name)
        return
    state.resources, state.resize_error, state.resize_refused = wanted, "", None
    await reports.event(worker, "Normal", "ResizeCompleted", f"Resized container {container.name}", container.name)


def infeasible(wanted: Resources, *, millicores: int, memory: int) -> str:
    """Why a machine with so much (bytes of memory) can never do it, in the kubelet's words; "": it could. Pure."""
    memory_request = wanted.memory_request or wanted.memory_limit or 0
    for name, asked, has in (("memory", memory_request, memory), ("cpu", wanted.cpu_request, millicores)):
        if asked > has:
            return f"Node didn't have enough capacity: {name}, requested: {asked}, capacity: {has}"
    return ""


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
