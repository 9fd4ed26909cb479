"""What a pod of the embedded runtime uses, container by container. From the kernel's files."""

from __future__ import annotations

from kubeedge.appengine.runtime import usage
from kubeedge.appengine.runtime.base import ContainerStats, PodStats
from kubeedge.appengine.runtime.records import Run, Sandbox


def running(pod: Sandbox) -> list[Run]:
    """The runs of a sandbox that have not ended."""
    return [run for run in list(pod.runs.values()) if not run.finished_at]


def read(pod: Sandbox, group: str) -> PodStats | None:
    """Of a control group and those of containers in it; None: it is gone. Blocking."""
    whole = usage.read(group)
    each = [(run, usage.read(f"{group}/{run.id}")) for run in running(pod)]
    containers = [ContainerStats(run.name, run.id, run.image, run.started_at, of) for run, of in each if of is not None]
    return PodStats(pod.uid, pod.namespace, pod.name, whole, containers) if whole is not None else None
