"""Use of processor and memory as the kubelet's API tells it: /stats/summary, /metrics/resource, /metrics/cadvisor. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kubeedge.api import meta

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
Line = tuple[str, dict[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUse:
    """Of one container that runs."""

    namespace: str
    pod: str
    uid: str
    container: str
    id: str  # with the runtime's scheme
    image: str
    cpu: float  # seconds since it was started
    memory: int  # bytes of its working set
    started_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """Of the machine, and of everything in pods."""

    node: str
    cpu: float
    memory: int
    containers: Sequence[ContainerUse]
    at: float  # seconds since the epoch


def resource_metrics(use: NodeUse) -> str:
    """/metrics/resource, with the time of each sample in milliseconds."""
    return _exposition(_RESOURCE, _resource_lines(use), use.at)


def cadvisor_metrics(use: NodeUse) -> str:
    """/metrics/cadvisor, as far as dashboards of pods need it."""
    lines: list[Line] = []
    for c in use.containers:
        labels = {
            "container": c.container, "id": f"/kubepods/pod{c.uid}/{c.id.rpartition('/')[2]}", "image": c.image,
            "name": c.id.rpartition("/")[2], "namespace": c.namespace, "pod": c.pod,
        }  # fmt: skip
        lines += [
            ("container_cpu_usage_seconds_total", {**labels, "cpu": "total"}, c.cpu),
            ("container_memory_working_set_bytes", labels, c.memory),
            ("container_start_time_seconds", labels, c.started_at),
        ]
    return _exposition(_RESOURCE[:3], lines, use.at)


def summary(use: NodeUse) -> dict[str, Any]:
    """/stats/summary (stats/v1alpha1), processor and memory."""
    pods: dict[str, list[ContainerUse]] = {}
    for c in use.containers:
        pods.setdefault(c.uid, []).append(c)
    return {
        "node": {"nodeName": use.node, **_stats(use.cpu, use.memory, use.at)},
        "pods": [
            {
                "podRef": {"name": of[0].pod, "namespace": of[0].namespace, "uid": uid},
                "startTime": meta.timestamp(min(c.started_at for c in of)),
                "containers": [
                    {
                        "name": c.container,
                        "startTime": meta.timestamp(c.started_at),
                        **_stats(c.cpu, c.memory, use.at),
                    }
                    for c in of
                ],
                **_stats(sum(c.cpu for c in of), sum(c.memory for c in of), use.at),
            }
            for uid, of in pods.items()
        ],
    }


def _stats(cpu: float, memory: int, at: float) -> dict[str, Any]:
    time = meta.timestamp(at)
    return {
        "cpu": {"time": time, "usageCoreNanoSeconds": int(cpu * 1e9)},
        "memory": {"time": time, "workingSetBytes": memory},
    }


def _resource_lines(use: NodeUse) -> list[Line]:
    lines: list[Line] = [
        ("node_cpu_usage_seconds_total", {}, use.cpu),
        ("node_memory_working_set_bytes", {}, use.memory),
    ]
    pods: dict[tuple[str, str], list[ContainerUse]] = {}
    for c in use.containers:
        pods.setdefault((c.namespace, c.pod), []).append(c)
        labels = {"container": c.container, "namespace": c.namespace, "pod": c.pod}
        lines += [
            ("container_cpu_usage_seconds_total", labels, c.cpu),
            ("container_memory_working_set_bytes", labels, c.memory),
            ("container_start_time_seconds", labels, c.started_at),
        ]
    for (namespace, pod), of in pods.items():
        labels = {"namespace": namespace, "pod": pod}
        lines += [
            ("pod_cpu_usage_seconds_total", labels, sum(c.cpu for c in of)),
            ("pod_memory_working_set_bytes", labels, sum(c.memory for c in of)),
        ]
    return lines


def _exposition(families: Iterable[tuple[str, str, str]], lines: Sequence[Line], at: float) -> str:
    text = []
    for name, kind, help in families:
        text += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
        for found, labels, value in lines:
            if found == name:
                inside = ",".join(f'{label}="{_escaped(of)}"' for label, of in labels.items())
                text.append(f"{name}{f'{{{inside}}}' if inside else ''} {value!r} {int(at * 1000)}")
    return "\n".join(text) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
