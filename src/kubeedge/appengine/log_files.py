"""Which file has the log that somebody asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from kubeedge.appengine import logs
from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.worker import Worker, Workers


def find(
    workers: Workers, root: Path, namespace: str, name: str, container: str, *, previous: bool
) -> tuple[Path, Callable[[], bool]] | str:
    """The file and whether its container still runs; or what is wrong, in the kubelet's words. `root`: of all logs."""
    for worker in workers:
        if (worker.namespace, worker.name) != (namespace, name):
            continue
        pod = worker.desired
        names = [c.name for c in pod.all_containers] if pod else list(worker.observed.containers)
        if container not in names:
            return f"container {container} is not valid for pod {name}"
        state = worker.observed.of(container)
        attempt = state.attempt - 1 if previous else state.attempt
        if attempt < 0:
            if previous:
                return f'previous terminated container "{container}" in pod "{name}" not found'
            reason = state.waiting_reason or "ContainerCreating"
            return f'container "{container}" in pod "{name}" is waiting to start: {reason}'
        path = logs.path(root, namespace, name, worker.uid, container, attempt)
        return path, functools.partial(_still_writes, state, previous)
    return f'pod "{name}" is not on this node'


def last_words(worker: Worker, root: Path, name: str, attempt: int) -> str:
    """The end of a container's log, where its terminationMessagePolicy is FallbackToLogsOnError; otherwise ""."""
    pod = worker.desired or worker.last
    if pod is None or not any(c.name == name and c.log_is_message for c in pod.all_containers):
        return ""
    return logs.last_words(logs.path(root, worker.namespace, worker.name, worker.uid, name, attempt))


def _still_writes(state: ContainerObservation, previous: bool) -> bool:
    return state.running and not previous
