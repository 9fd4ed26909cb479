"""What is counted beyond ResourceUsage, for dashboards: throttling, input and output, interfaces, limits. Read only on request. Pure.

Lives elsewhere: reading it from the kernel (detail_files.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubeedge.kit.dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DeviceIo:
    """I/O counters of one block device, which grow from the start of the group."""

    device: str  # "/dev/sda"
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class InterfaceCount:
    """Counters of one network interface; None where the kernel does not count."""

    name: str
    received_bytes: int
    received_packets: int | None
    received_errors: int
    received_dropped: int | None
    sent_bytes: int
    sent_packets: int | None
    sent_errors: int
    sent_dropped: int | None


@dataclass(frozen=True, slots=True)
class GroupDetail:
    """Of a control group and all below it. None: nothing counts it, or there is no such limit."""

    user_ns: int | None = None
    system_ns: int | None = None
    periods: int | None = None  # of its processor quota
    throttled_periods: int | None = None
    throttled_ns: int | None = None
    cache: int | None = None  # bytes of files
    mapped_file: int | None = None  # bytes
    swap: int | None = None  # bytes
    most_memory: int | None = None  # bytes, at any time
    failed_memory: int | None = None  # how often it reached its limit
    oom_kills: int | None = None
    quota_us: int | None = None  # of processor time in each period
    period_us: int | None = None
    shares: int | None = None  # as Docker and Kubernetes count them: 1024 a processor
    memory_limit: int | None = None  # bytes
    io: Sequence[DeviceIo] = ()


@dataclass(frozen=True, slots=True)
class PodDetail:
    """Of a pod: as a whole, by container, and of its network, unless that is the node's."""

    uid: str
    whole: GroupDetail = field(default_factory=GroupDetail)
    containers: Mapping[str, GroupDetail] = field(default_factory=dict)
    network: Sequence[InterfaceCount] = ()


@dataclass(frozen=True, slots=True)
class FileSystemUse:
    """Usage of the file system that the node's state is on, in bytes and inodes."""

    device: str
    size: int
    used: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class MachineDetail:
    """Resource usage of the machine itself."""

    processors: int
    memory: int  # bytes
    swap: int  # bytes
    network: Sequence[InterfaceCount]
    file_system: FileSystemUse | None  # None: it could not be read
    kernel: str
    system: str  # PRETTY_NAME of os-release(5)
