"""Node-pressure eviction: which resource runs short, which pod goes first, what is said. Pure.

As the kubelet does it (kubernetes.io, Node-pressure Eviction): hard thresholds; one pod at a time; the pods that use more than they asked for
first, of these the one of lowest priority, then the one that is furthest above its request. Static pods and system-critical ones stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kubeedge.api import quantities
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

MEMORY, DISK, INODES, PIDS = "memory.available", "nodefs.available", "nodefs.inodesFree", "pid.available"
IMAGE_DISK, IMAGE_INODES = "imagefs.available", "imagefs.inodesFree"
TRANSITION = 300.0  # seconds that a condition stays after the last sign of pressure, so that it does not flap
CRITICAL = 2_000_000_000  # priority of system-cluster-critical
_CONDITIONS = {
    MEMORY: "MemoryPressure",
    DISK: "DiskPressure",
    INODES: "DiskPressure",
    IMAGE_DISK: "DiskPressure",
    IMAGE_INODES: "DiskPressure",
    PIDS: "PIDPressure",
}
_RESOURCES = {MEMORY: "memory", DISK: "ephemeral-storage", IMAGE_DISK: "ephemeral-storage", INODES: "inodes",
              IMAGE_INODES: "inodes", PIDS: "pids"}  # fmt: skip
_REASONS = {  # condition -> reason and message while there is no pressure, and while there is
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}
_THRESHOLD = re.compile(r"\s*([A-Za-z.]+)\s*<\s*([0-9.]+%|[0-9][0-9.]*[A-Za-z]*)\s*")


class Reading(NamedTuple):
    """How much there is of something: bytes, inodes or process ids."""

    available: int
    capacity: int


Readings = Mapping[str, Reading]  # by signal


@dataclass(frozen=True, slots=True)
class Threshold:
    """Pressure when less than this is available: an amount, or a share of the capacity, or the smaller of both."""

    signal: str
    amount: int | None = None
    percent: float | None = None
    text: str = ""

    def value(self, capacity: int) -> int:
        """The threshold in the unit of the signal, of which the node has `capacity`."""
        both = [self.amount, None if self.percent is None else int(capacity * self.percent / 100)]
        return min(value for value in both if value is not None)


#: the kubelet's; of memory no more than a tenth, for a board has 128 MB
DEFAULTS = (
    Threshold(MEMORY, 100 * 1024 * 1024, 10.0, "100Mi"),
    Threshold(DISK, None, 10.0, "10%"),
    Threshold(INODES, None, 5.0, "5%"),
    Threshold(IMAGE_DISK, None, 15.0, "15%"),
    Threshold(IMAGE_INODES, None, 5.0, "5%"),
)


def thresholds(texts: Sequence[str]) -> tuple[Threshold, ...]:
    """ "memory.available<100Mi" and "nodefs.available<10%"; none means DEFAULTS, "none" alone means no eviction. Raises Invalid."""
    if not texts:
        return DEFAULTS
    return () if [*texts] == ["none"] else tuple(_threshold(text) for text in texts)


def _threshold(text: str) -> Threshold:
    match = _THRESHOLD.fullmatch(text)
    if match is None or match[1] not in _CONDITIONS:
        raise Invalid(f"{text!r:.80} is no threshold, like memory.available<100Mi; signals: {', '.join(_CONDITIONS)}")
    signal, value = match.groups()
    try:
        if value.endswith("%"):
            if not 0 <= float(value[:-1]) <= 100:
                raise Invalid(f"{text!r:.80}: a share is from 0% to 100%")
            return Threshold(signal, percent=float(value[:-1]), text=value)
        return Threshold(signal, quantities.bytes_of(value), text=value)
    except ValueError as exc:
        raise Invalid(f"{text!r:.80} is no threshold") from exc


def met(limits: Sequence[Threshold], readings: Readings) -> list[Threshold]:
    """The thresholds that are met; those of memory first, for it does not wait."""
    found = [t for t in limits if (r := readings.get(t.signal)) is not None and r.available < t.value(r.capacity)]
    return sorted(found, key=lambda t: t.signal != MEMORY)


@dataclass(slots=True)
class Pressure:
    """Which conditions the node has. Times are of one monotonic clock."""

    _last: dict[str, float] = field(default_factory=dict)  # condition -> when it was seen last

    def update(self, found: Sequence[Threshold], now: float) -> None:
        """`found`: the thresholds that are met now."""
        for threshold in found:
            self._last[_CONDITIONS[threshold.signal]] = now
        self._last = {kind: at for kind, at in self._last.items() if now - at < TRANSITION}

    def has(self, kind: str) -> bool:
        """Whether a condition holds; `kind` is MemoryPressure, DiskPressure or PIDPressure."""
        return kind in self._last

    def conditions(self) -> dict[str, dict[str, str]]:
        """NodeConditions by type, without times."""
        return {
            kind: {"type": kind, "status": str(self.has(kind)), "reason": texts[self.has(kind)][0],
                   "message": texts[self.has(kind)][1]}
            for kind, texts in _REASONS.items()
        }  # fmt: skip


def condition_of(signal: str) -> str:
    """The node condition that a signal belongs to."""
    return _CONDITIONS[signal]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod that could go. `usage` and `requests` are of the resource that runs short, by container."""

    uid: str
    priority: int
    critical: bool
    usage: Mapping[str, int]
    requests: Mapping[str, int]

    @property
    def above(self) -> int:
        """How much more it uses than it asked for; negative when it uses less."""
        return sum(self.usage.values()) - sum(self.requests.values())


def rank(signal: str, pods: Sequence[Candidate]) -> list[Candidate]:
    """The first goes first. Of inodes and process ids there are no requests, so the priority decides before the amount."""
    asks = _RESOURCES[signal] in ("memory", "ephemeral-storage")
    may_go = [pod for pod in pods if not pod.critical]
    return sorted(may_go, key=lambda pod: (asks and pod.above <= 0, pod.priority, -pod.above, pod.uid))


def message(threshold: Threshold, reading: Reading, pod: Candidate) -> str:
    """Why a pod is evicted, in the kubelet's words."""
    resource = _RESOURCES[threshold.signal]
    shown = _amount if resource in ("memory", "ephemeral-storage") else str
    said = (
        f"The node was low on resource: {resource}. Threshold quantity: {shown(threshold.value(reading.capacity))}, "
        f"available: {shown(reading.available)}. "
    )
    for name, used in pod.usage.items():
        if used > pod.requests.get(name, 0) and resource in ("memory", "ephemeral-storage"):
            said += (
                f"Container {name} was using {shown(used)}, request is {shown(pod.requests.get(name, 0))}, "
                f"has larger consumption of {resource}. "
            )
    return said


def over_storage_limit(limits: Mapping[str, int], used: Mapping[str, int], others: int) -> str:
    """Why a pod must go that writes more than its limits of ephemeral-storage; "" when it does not. `others`: bytes of its volumes."""
    for name, limit in limits.items():
        if used.get(name, 0) > limit:
            return f'Container {name} exceeded its local ephemeral storage limit "{quantities.format_bytes(limit)}". '
    total = sum(limits.values())
    if limits and sum(used.values()) + others > total:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {quantities.format_bytes(total)}. "
    return ""


def _amount(value: int) -> str:
    return f"{value // 1024}Ki"
