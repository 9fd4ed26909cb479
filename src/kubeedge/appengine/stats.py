"""CPU and memory of pods and containers as the kubelet's API tells it: /stats/summary, /metrics/resource, /metrics/cadvisor. Pure.

Lives elsewhere: reading them (runtime/usage.py and the runtime's stats()), HTTP (server.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kubeedge.api import meta
from kubeedge.appengine.runtime.base import PodStats, ResourceUsage

#: metrics-server takes two looks at these counters, and the quotient
_RESOURCE = (
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds"),
    ("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes"),
    ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds"),
    ("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds"),
    ("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes"),
    ("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds"),
    ("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes"),
)
_ERROR = (("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise"),)
_CADVISOR = (
    *_RESOURCE[:3],
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory"),
    ("container_memory_rss", "gauge", "Size of RSS in bytes"),
    ("container_threads", "gauge", "Number of threads running inside the container"),
)
Line = tuple[str, dict[str, str], float]


@dataclass(frozen=True, slots=True)
class NodeUse:
    """Of the machine, and of the pods on it."""

    node: str  # its name
    usage: ResourceUsage
    pods: Sequence[PodStats]
    at: float  # seconds since the epoch


def resource_metrics(use: NodeUse) -> str:
    """/metrics/resource, with the time of each sample in milliseconds."""
    samples = _exposition(_RESOURCE, _resource_lines(use), use.at)
    return samples + _exposition(_ERROR, [("resource_scrape_error", {}, 0)], None)


def cadvisor_metrics(use: NodeUse) -> str:
    """/metrics/cadvisor, as far as dashboards of pods need it."""
    lines: list[Line] = []
    for pod in use.pods:
        for c in pod.containers:
            labels = {
                "container": c.name, "id": f"/kubepods/pod{pod.uid}/{c.id}", "image": c.image,
                "name": c.id, "namespace": pod.namespace, "pod": pod.name,
            }  # fmt: skip
            lines += [
                ("container_cpu_usage_seconds_total", {**labels, "cpu": "total"}, _seconds(c.usage)),
                ("container_memory_working_set_bytes", labels, c.usage.working_set),
                ("container_start_time_seconds", labels, c.started_at),
                ("container_memory_usage_bytes", labels, c.usage.memory),
                ("container_memory_rss", labels, c.usage.rss),
                ("container_threads", labels, c.usage.processes),
            ]
    return _exposition(_CADVISOR, lines, use.at)


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


def _resource_lines(use: NodeUse) -> list[Line]:
    lines: list[Line] = [
        ("node_cpu_usage_seconds_total", {}, _seconds(use.usage)),
        ("node_memory_working_set_bytes", {}, use.usage.working_set),
    ]
    for pod in use.pods:
        of = {"namespace": pod.namespace, "pod": pod.name}
        for c in pod.containers:
            labels = {"container": c.name, **of}
            lines += [
                ("container_cpu_usage_seconds_total", labels, _seconds(c.usage)),
                ("container_memory_working_set_bytes", labels, c.usage.working_set),
                ("container_start_time_seconds", labels, c.started_at),
            ]
        lines += [
            ("pod_cpu_usage_seconds_total", of, _seconds(pod.usage)),
            ("pod_memory_working_set_bytes", of, pod.usage.working_set),
        ]
    return lines


def _seconds(usage: ResourceUsage) -> float:
    return usage.cpu_ns / 1e9


def _exposition(families: Iterable[tuple[str, str, str]], lines: Sequence[Line], at: float | None) -> str:
    """Prometheus text. `at` None: without a time."""
    stamp = f" {int(at * 1000)}" if at is not None else ""
    text = []
    for name, kind, help in families:
        text += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
        for found, labels, value in lines:
            if found == name:
                inside = ",".join(f'{label}="{_escaped(of)}"' for label, of in labels.items())
                text.append(f"{name}{f'{{{inside}}}' if inside else ''} {value!r}{stamp}")
    return "\n".join(text) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
