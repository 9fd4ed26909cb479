"""CPU and memory of pods and containers as the kubelet's API tells it: /stats/summary, /metrics/resource. Pure.

Lives elsewhere: reading them (runtime/usage.py and the runtime's stats()), HTTP (server.py), what dashboards read (dashboards.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kubeedge.api import meta
from kubeedge.appengine.exposition import RowFamily, RowSample, expose, one
from kubeedge.appengine.runtime.base import ContainerStats, PodStats, ResourceUsage
from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeUse:
    """Resource usage of the machine, and of the pods on it."""

    node: str  # its name
    usage: ResourceUsage
    pods: Sequence[PodStats]
    at: float  # seconds since the epoch


def resource_metrics(use: NodeUse) -> Iterator[str]:
    """/metrics/resource, with the time of each sample in milliseconds."""
    yield from expose(_RESOURCE, _resource_rows(use), use.at)
    yield from expose(_ERROR, [({}, None)])


def summary(use: NodeUse) -> dict[str, Any]:
    """/stats/summary (stats/v1alpha1): processor, memory, processes."""
    at = meta.timestamp(use.at)
    return {
        "node": {"nodeName": use.node, **_stats(use.usage, at)},
        "pods": [_pod(pod, at) for pod in use.pods],
    }


def _pod(pod: PodStats, at: str) -> dict[str, Any]:
    started = [c.started_at for c in pod.containers]
    return {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        **({"startTime": meta.timestamp(min(started))} if started else {}),
        "containers": [
            {"name": c.name, "startTime": meta.timestamp(c.started_at), **_stats(c.usage, at)} for c in pod.containers
        ],
        "process_stats": {"process_count": pod.usage.processes},
        **_stats(pod.usage, at),
    }


def _stats(usage: ResourceUsage, at: str) -> dict[str, Any]:
    return {
        "cpu": {"time": at, "usageCoreNanoSeconds": usage.cpu_ns},
        "memory": {
            "time": at,
            "usageBytes": usage.memory,
            "workingSetBytes": usage.working_set,
            "rssBytes": usage.rss,
            "pageFaults": usage.page_faults,
            "majorPageFaults": usage.major_page_faults,
        },
    }


def _resource_rows(use: NodeUse) -> Iterator[tuple[dict[str, str], NodeUse | PodStats | ContainerStats]]:
    yield {}, use
    for pod in use.pods:
        of = {"namespace": pod.namespace, "pod": pod.name}
        for container in pod.containers:
            yield {"container": container.name, **of}, container
        yield of, pod


def seconds(usage: ResourceUsage) -> float:
    """Processor time in seconds, as Prometheus has it."""
    return usage.cpu_ns / 1e9


def _of(kind: type[Any], value: Callable[[Any], float]) -> Callable[[Any], Iterable[RowSample]]:
    """Reads a value of those rows that are of one kind."""
    return lambda row: one(value(row)) if isinstance(row, kind) else ()


def _processor(kind: type[Any]) -> Callable[[Any], Iterable[RowSample]]:
    return _of(kind, lambda row: seconds(row.usage))


def _memory(kind: type[Any]) -> Callable[[Any], Iterable[RowSample]]:
    return _of(kind, lambda row: row.usage.working_set)


#: metrics-server takes two looks at these counters, and the quotient
_RESOURCE: tuple[RowFamily[Any], ...] = (
    RowFamily(
        "container_cpu_usage_seconds_total", "counter",
        "Cumulative cpu time consumed by the container in core-seconds", _processor(ContainerStats),
    ),
    RowFamily(
        "container_memory_working_set_bytes", "gauge",
        "Current working set of the container in bytes", _memory(ContainerStats),
    ),
    RowFamily(
        "container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds",
        _of(ContainerStats, lambda row: row.started_at),
    ),
    RowFamily(
        "node_cpu_usage_seconds_total", "counter",
        "Cumulative cpu time consumed by the node in core-seconds", _processor(NodeUse),
    ),
    RowFamily(
        "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes", _memory(NodeUse)
    ),
    RowFamily(
        "pod_cpu_usage_seconds_total", "counter",
        "Cumulative cpu time consumed by the pod in core-seconds", _processor(PodStats),
    ),
    RowFamily("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes", _memory(PodStats)),
)  # fmt: skip
_ERROR: tuple[RowFamily[None], ...] = (
    RowFamily(
        "resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise",
        lambda row: one(0),
    ),
)  # fmt: skip
