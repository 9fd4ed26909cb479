"""What Prometheus dashboards of Kubernetes read of a kubelet: /metrics/cadvisor, /metrics, /metrics/probes. Pure.

Names and labels are those of cAdvisor and of the kubelet, as far as the rules and dashboards of kube-prometheus use them. Of a container's
labels cAdvisor leaves none out: the row of a pod has an empty `container`, that of the machine the id "/".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kubeedge.appengine.exposition import RowFamily, RowSample, expose, one
from kubeedge.appengine.runtime.base import ResourceUsage
from kubeedge.appengine.runtime.detail import DeviceIo, GroupDetail, InterfaceCount, MachineDetail, PodDetail
from kubeedge.appengine.stats import NodeUse, seconds
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.disk_use import DiskUse


@dataclass(frozen=True, slots=True)
class NodeDetail:
    """Of the machine, of pods by uid, and of the writable layers of containers by uid and name, as they were looked at last."""

    machine: MachineDetail
    pods: Mapping[str, PodDetail]
    layers: Mapping[str, Mapping[str, DiskUse]]


@dataclass(frozen=True, slots=True)
class _GroupRow:
    """A container, a pod or the machine."""

    usage: ResourceUsage
    detail: GroupDetail
    network: Sequence[InterfaceCount] = ()
    started_at: float | None = None
    layer: DiskUse | None = None
    machine: MachineDetail | None = None
    at: float = 0.0


def cadvisor_metrics(use: NodeUse, detail: NodeDetail) -> Iterator[str]:
    """/metrics/cadvisor, with the time of each sample."""
    yield from expose(_MACHINE, [({}, detail.machine)])
    yield from expose(_CADVISOR, _rows(use, detail), use.at)


def _rows(use: NodeUse, detail: NodeDetail) -> Iterator[tuple[dict[str, str], _GroupRow]]:
    machine = detail.machine
    yield _ids("/"), _GroupRow(use.usage, GroupDetail(), machine.network, machine=machine, at=use.at)
    nothing = PodDetail("")
    for pod in use.pods:
        more = detail.pods.get(pod.uid, nothing)
        layers = detail.layers.get(pod.uid, {})
        group = f"/kubepods/pod{pod.uid}"
        of = {"namespace": pod.namespace, "pod": pod.name}
        yield _ids(group, **of), _GroupRow(pod.usage, more.whole, more.network, at=use.at)
        for c in pod.containers:
            labels = _ids(f"{group}/{c.id}", container=c.name, image=c.image, name=c.id, **of)
            own = more.containers.get(c.name, GroupDetail())
            yield labels, _GroupRow(c.usage, own, (), c.started_at, layers.get(c.name), at=use.at)


def _ids(
    id: str, container: str = "", image: str = "", name: str = "", namespace: str = "", pod: str = ""
) -> dict[str, str]:
    return {"container": container, "id": id, "image": image, "name": name, "namespace": namespace, "pod": pod}


def _io(value: Callable[[DeviceIo], float]) -> Callable[[_GroupRow], Iterable[RowSample]]:
    return lambda row: [({"device": io.device}, value(io)) for io in row.detail.io]


def _net(value: Callable[[InterfaceCount], float | None]) -> Callable[[_GroupRow], Iterable[RowSample]]:
    return lambda row: [({"interface": each.name}, count) for each in row.network if (count := value(each)) is not None]


def _ns(value: int | None) -> float | None:
    return None if value is None else value / 1e9


def _failures(row: _GroupRow) -> list[RowSample]:
    scope = "container" if row.started_at is not None else "hierarchy"
    usage = row.usage
    return [
        ({"failure_type": "pgfault", "scope": scope}, usage.page_faults),
        ({"failure_type": "pgmajfault", "scope": scope}, usage.major_page_faults),
    ]


def _disk(row: _GroupRow, of_layer: Callable[[DiskUse], float], of_machine: Callable[[Any], float]) -> list[RowSample]:
    """Of a container its writable layer, of the machine the file system of its state."""
    if row.layer is not None:
        return [({"device": ""}, of_layer(row.layer))]
    disk = row.machine.file_system if row.machine is not None else None
    return [({"device": disk.device}, of_machine(disk))] if disk is not None else []


def _file_system(row: _GroupRow, value: Callable[[Any], float]) -> list[RowSample]:
    disk = row.machine.file_system if row.machine is not None else None
    return [({"device": disk.device}, value(disk))] if disk is not None else []


_Read = Callable[[_GroupRow], Iterable[RowSample]]
_TABLE: tuple[tuple[str, str, str, _Read], ...] = (
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds",
     lambda r: [({"cpu": "total"}, seconds(r.usage))]),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds",
     lambda r: one(_ns(r.detail.user_ns))),
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds",
     lambda r: one(_ns(r.detail.system_ns))),
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals",
     lambda r: one(r.detail.periods)),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals",
     lambda r: one(r.detail.throttled_periods)),
    ("container_cpu_cfs_throttled_seconds_total", "counter", "Total time duration the container has been throttled",
     lambda r: one(_ns(r.detail.throttled_ns))),
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory",
     lambda r: one(r.usage.memory)),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes", lambda r: one(r.usage.working_set)),
    ("container_memory_rss", "gauge", "Size of RSS in bytes", lambda r: one(r.usage.rss)),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory", lambda r: one(r.detail.cache)),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes",
     lambda r: one(r.detail.mapped_file)),
    ("container_memory_swap", "gauge", "Container swap usage in bytes", lambda r: one(r.detail.swap)),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes",
     lambda r: one(r.detail.most_memory)),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits", lambda r: one(r.detail.failed_memory)),
    ("container_memory_failures_total", "counter", "Cumulative count of memory allocation failures", _failures),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container",
     lambda r: one(r.detail.oom_kills)),
    ("container_network_receive_bytes_total", "counter", "Cumulative count of bytes received",
     _net(lambda i: i.received_bytes)),
    ("container_network_receive_packets_total", "counter", "Cumulative count of packets received",
     _net(lambda i: i.received_packets)),
    ("container_network_receive_errors_total", "counter", "Cumulative count of errors encountered while receiving",
     _net(lambda i: i.received_errors)),
    ("container_network_receive_packets_dropped_total", "counter",
     "Cumulative count of packets dropped while receiving", _net(lambda i: i.received_dropped)),
    ("container_network_transmit_bytes_total", "counter", "Cumulative count of bytes transmitted",
     _net(lambda i: i.sent_bytes)),
    ("container_network_transmit_packets_total", "counter", "Cumulative count of packets transmitted",
     _net(lambda i: i.sent_packets)),
    ("container_network_transmit_errors_total", "counter", "Cumulative count of errors encountered while transmitting",
     _net(lambda i: i.sent_errors)),
    ("container_network_transmit_packets_dropped_total", "counter",
     "Cumulative count of packets dropped while transmitting", _net(lambda i: i.sent_dropped)),
    ("container_fs_reads_total", "counter", "Cumulative count of reads completed", _io(lambda io: io.reads)),
    ("container_fs_writes_total", "counter", "Cumulative count of writes completed", _io(lambda io: io.writes)),
    ("container_fs_reads_bytes_total", "counter", "Cumulative count of bytes read", _io(lambda io: io.read_bytes)),
    ("container_fs_writes_bytes_total", "counter", "Cumulative count of bytes written",
     _io(lambda io: io.written_bytes)),
    ("container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container on this filesystem",
     lambda r: _disk(r, lambda layer: layer.bytes, lambda disk: disk.used)),
    ("container_fs_limit_bytes", "gauge", "Number of bytes that can be consumed by the container on this filesystem",
     lambda r: _file_system(r, lambda disk: disk.size)),
    ("container_fs_inodes_total", "gauge", "Number of Inodes", lambda r: _file_system(r, lambda disk: disk.inodes)),
    ("container_fs_inodes_free", "gauge", "Number of available Inodes",
     lambda r: _file_system(r, lambda disk: disk.inodes_free)),
    ("container_threads", "gauge", "Number of threads running inside the container",
     lambda r: one(r.usage.processes)),
    ("container_spec_cpu_period", "gauge", "CPU period of the container", lambda r: one(r.detail.period_us)),
    ("container_spec_cpu_quota", "gauge", "CPU quota of the container", lambda r: one(r.detail.quota_us)),
    ("container_spec_cpu_shares", "gauge", "CPU share of the container", lambda r: one(r.detail.shares)),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container; 0: there is none",
     lambda r: one(r.detail.memory_limit or 0) if r.machine is None else ()),
    ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds",
     lambda r: one(r.started_at)),
    ("container_last_seen", "gauge", "Last time a container was seen by the exporter", lambda r: one(r.at)),
)  # fmt: skip
_CADVISOR = tuple(RowFamily(*row) for row in _TABLE)

_MACHINE: tuple[RowFamily[MachineDetail], ...] = (
    RowFamily("machine_cpu_cores", "gauge", "Number of logical CPU cores", lambda m: one(m.processors)),
    RowFamily("machine_memory_bytes", "gauge", "Amount of memory installed on the machine", lambda m: one(m.memory)),
    RowFamily("machine_swap_bytes", "gauge", "Amount of swap memory available on the machine", lambda m: one(m.swap)),
    RowFamily(
        "cadvisor_version_info", "gauge", "Kernel and system that the figures are of",
        lambda m: [({"kernelVersion": m.kernel, "osVersion": m.system}, 1)],
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """Resource usage of the agent's own process."""

    cpu_seconds: float
    resident: int  # bytes
    virtual: int  # bytes
    started_at: float  # seconds since the epoch
    open_files: int
    most_files: int


@dataclass(frozen=True, slots=True)
class ClaimUse:
    """The filesystem behind a PersistentVolumeClaim; bytes, and numbers of inodes."""

    namespace: str
    name: str
    capacity: int
    available: int
    used: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class KubeletState:
    """What this node runs. `containers`: how many are in each state; `volumes`: how many of each kind its pods have."""

    node: str
    version: str
    desired_pods: int
    running_pods: int
    containers: Mapping[str, int]
    volumes: Mapping[str, int]
    process: ProcessUse
    claims: Sequence[ClaimUse] = ()
    #: pods with users of their own: how many were started, and how often one of them could not be
    with_own_users: tuple[int, int] = (0, 0)


def kubelet_metrics(state: KubeletState) -> Iterator[str]:
    """/metrics, as far as it is of what a kubelet has."""
    yield from expose(_KUBELET, [({}, state)])
    yield from expose(
        _CLAIMS,
        [({"namespace": claim.namespace, "persistentvolumeclaim": claim.name}, claim) for claim in state.claims],
    )
    yield from expose(_PROCESS, [({}, state.process)])


_KUBELET: tuple[RowFamily[KubeletState], ...] = (
    RowFamily("kubelet_node_name", "gauge", "The node's name. The count is always 1.", lambda s: [({"node": s.node}, 1)]),
    RowFamily(
        "kubelet_desired_pods", "gauge", "The number of pods the kubelet is being instructed to run.",
        lambda s: [({"static": ""}, s.desired_pods)],
    ),
    RowFamily("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox", lambda s: one(s.running_pods)),
    RowFamily(
        "kubelet_running_containers", "gauge", "Number of containers currently running",
        lambda s: [({"container_state": name}, count) for name, count in s.containers.items()],
    ),
    RowFamily(
        "volume_manager_total_volumes", "gauge", "Number of volumes in Volume Manager",
        lambda s: [
            ({"plugin_name": kind, "state": "desired_state_of_world"}, count) for kind, count in s.volumes.items()
        ],
    ),
    RowFamily(
        "kubelet_started_user_namespaced_pods_total", "counter", "Cumulative number of pods with user namespaces started.",
        lambda s: one(s.with_own_users[0]),
    ),
    RowFamily(
        "kubelet_started_user_namespaced_pods_errors_total", "counter", "Cumulative number of errors when starting pods with user namespaces.",
        lambda s: one(s.with_own_users[1]),
    ),
    RowFamily(
        "kubernetes_build_info", "gauge", "A metric with a constant '1' value labeled by the version that is built.",
        lambda s: [({"git_version": s.version}, 1)],
    ),
)  # fmt: skip
_CLAIMS: tuple[RowFamily[ClaimUse], ...] = (
    RowFamily(
        "kubelet_volume_stats_capacity_bytes", "gauge", "Capacity in bytes of the volume", lambda c: one(c.capacity)
    ),
    RowFamily(
        "kubelet_volume_stats_available_bytes", "gauge", "Number of available bytes in the volume",
        lambda c: one(c.available),
    ),
    RowFamily(
        "kubelet_volume_stats_used_bytes", "gauge", "Number of used bytes in the volume", lambda c: one(c.used)
    ),
    RowFamily(
        "kubelet_volume_stats_inodes", "gauge", "Maximum number of inodes in the volume", lambda c: one(c.inodes)
    ),
    RowFamily(
        "kubelet_volume_stats_inodes_free", "gauge", "Number of free inodes in the volume",
        lambda c: one(c.inodes_free),
    ),
    RowFamily(
        "kubelet_volume_stats_inodes_used", "gauge", "Number of used inodes in the volume",
        lambda c: one(c.inodes - c.inodes_free),
    ),
)  # fmt: skip
_PROCESS: tuple[RowFamily[ProcessUse], ...] = (
    RowFamily(
        "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
        lambda p: one(p.cpu_seconds),
    ),
    RowFamily("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", lambda p: one(p.resident)),
    RowFamily("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", lambda p: one(p.virtual)),
    RowFamily(
        "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.",
        lambda p: one(p.started_at),
    ),
    RowFamily("process_open_fds", "gauge", "Number of open file descriptors.", lambda p: one(p.open_files)),
    RowFamily("process_max_fds", "gauge", "Maximum number of open file descriptors.", lambda p: one(p.most_files)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProbedContainer:
    """How often each probe of a container answered how: (probe_type, result) -> count."""

    namespace: str
    pod: str
    uid: str
    container: str
    counts: Mapping[tuple[str, str], int]


def probe_metrics(containers: Iterable[ProbedContainer]) -> Iterator[str]:
    """The exposition of /metrics/probes: results of probes by container, kind and outcome."""
    rows = (
        ({"container": c.container, "namespace": c.namespace, "pod": c.pod, "pod_uid": c.uid}, c) for c in containers
    )
    return expose(_PROBES, rows)


_PROBES: tuple[RowFamily[ProbedContainer], ...] = (
    RowFamily(
        "prober_probe_total", "counter",
        "Cumulative number of a liveness, readiness or startup probe for a container by result.",
        lambda c: [({"probe_type": probe, "result": result}, n) for (probe, result), n in c.counts.items()],
    ),
)  # fmt: skip
