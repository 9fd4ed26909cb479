"""Reads what detail.py has from the files of the kernel: control groups of both versions, /proc, /sys. Blocking, and bounded: a pod chooses how
many interfaces it has, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kubeedge.appengine.runtime import cgroups
from kubeedge.appengine.runtime.detail import (
    DeviceIo,
    FileSystemUse,
    GroupDetail,
    InterfaceCount,
    MachineDetail,
    PodDetail,
)
from kubeedge.appengine.runtime.group_limits import shares_of_weight

_TICK_NS = 10_000_000  # of /proc and cpuacct.stat: a hundredth of a second
_MAX_FILE = 64 * 1024  # bytes that are read of one
_MAX_INTERFACES, _MAX_DEVICES = 16, 16
_NO_LIMIT = 1 << 62  # bytes: v1 says nearly 2**63 instead of "max"
_OF_PODS = "veth"  # interfaces of the machine that lead to pods


def of_group(path: str, root: Path = cgroups.ROOT) -> GroupDetail:
    """Empty where it is gone."""
    found: dict[str, int | None] = {}
    io: dict[str, DeviceIo] = {}
    for group in cgroups.groups(path, root):
        found |= {name: value for name, value in _fields(group) if value is not None}
        io |= _io(group)
    return GroupDetail(**found, io=tuple(io.values())[:_MAX_DEVICES])


def of_pod(uid: str, group: str, containers: Mapping[str, str], inside: tuple[int, Path] | None) -> PodDetail:
    """`group` is the pod's, `containers` has those of its containers by name. `inside`: a process, and the pinned network namespace that it is
    in; None: nothing is told of the network."""
    network = pod_interfaces(*inside) if inside is not None else ()
    return PodDetail(uid, of_group(group), {name: of_group(path) for name, path in containers.items()}, network)


def _fields(group: Path) -> Iterator[tuple[str, int | None]]:
    yield from _processor(group)
    yield from _memory(group)


def _processor(group: Path) -> Iterator[tuple[str, int | None]]:
    stat = _table(group / "cpu.stat")
    yield "periods", stat.get("nr_periods")
    yield "throttled_periods", stat.get("nr_throttled")
    yield "throttled_ns", stat["throttled_usec"] * 1000 if "throttled_usec" in stat else stat.get("throttled_time")
    ticks = _table(group / "cpuacct.stat")
    for name, v2, v1 in (("user_ns", "user_usec", "user"), ("system_ns", "system_usec", "system")):
        yield name, stat[v2] * 1000 if v2 in stat else ticks[v1] * _TICK_NS if v1 in ticks else None
    if len(words := _read(group / "cpu.max").split()) == 2:
        yield "quota_us", int(words[0]) if words[0].isdigit() else None
        yield "period_us", int(words[1])
    else:
        yield "quota_us", quota if (quota := _number(group / "cpu.cfs_quota_us") or 0) > 0 else None
        yield "period_us", _number(group / "cpu.cfs_period_us")
    weight = _number(group / "cpu.weight")
    yield "shares", _number(group / "cpu.shares") if weight is None else shares_of_weight(weight)


def _memory(group: Path) -> Iterator[tuple[str, int | None]]:
    stat = _table(group / "memory.stat")
    v1 = "total_cache" in stat
    yield "cache", stat.get("total_cache" if v1 else "file")
    yield "mapped_file", stat.get("total_mapped_file" if v1 else "file_mapped")
    swap = _number(group / "memory.swap.current")
    yield "swap", stat.get("total_swap") if swap is None else swap
    peak = _number(group / "memory.peak")
    yield "most_memory", _number(group / "memory.max_usage_in_bytes") if peak is None else peak
    events = _table(group / "memory.events")
    yield "failed_memory", _number(group / "memory.failcnt") if v1 else events.get("max")
    kills = events.get("oom_kill")
    yield "oom_kills", _table(group / "memory.oom_control").get("oom_kill") if kills is None else kills
    limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
    yield "memory_limit", limit if limit is not None and limit < _NO_LIMIT else None


def _io(group: Path) -> dict[str, DeviceIo]:
    """I/O counters of a cgroup by device, "MAJOR:MINOR"."""
    counts: dict[str, dict[str, int]] = {}
    for line in _read(group / "io.stat").splitlines():
        device, _, rest = line.partition(" ")
        if not device:
            continue
        found = counts.setdefault(device, {})
        for name, _, value in (pair.partition("=") for pair in rest.split()):
            if value.isdigit():
                found[name] = int(value)
    for file, names in (
        ("blkio.throttle.io_service_bytes_recursive", {"Read": "rbytes", "Write": "wbytes"}),
        ("blkio.throttle.io_serviced_recursive", {"Read": "rios", "Write": "wios"}),
    ):
        for line in _read(group / file).splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in names and words[2].isdigit():
                counts.setdefault(words[0], {})[names[words[1]]] = int(words[2])
    return {
        device: DeviceIo(_device(device), c.get("rbytes", 0), c.get("wbytes", 0), c.get("rios", 0), c.get("wios", 0))
        for device, c in list(counts.items())[:_MAX_DEVICES]
    }


def _device(number: str, sys: Path = Path("/sys")) -> str:
    """ "8:0" is /dev/sda, as this kernel calls it."""
    try:
        return f"/dev/{(sys / 'dev/block' / number).resolve(strict=True).name}"
    except OSError:
        return number


def interfaces(dev: Path) -> list[InterfaceCount]:
    """The counters in a file like /proc/PID/net/dev, without the loopback. Raises OSError when it is gone."""
    with dev.open("rb") as file:
        lines = file.read(_MAX_FILE).decode(errors="replace").splitlines()[2:]
    found = []
    for line in lines:
        name, colon, rest = line.rpartition(":")
        words = rest.split()
        if colon and len(words) >= 12 and name.strip() != "lo" and all(word.isdigit() for word in words):
            n = [int(word) for word in words]
            found.append(InterfaceCount(name.strip(), n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11]))
        if len(found) == _MAX_INTERFACES:
            break
    return found


def pod_interfaces(pid: int, namespace: Path, proc: Path = Path("/proc")) -> list[InterfaceCount]:
    """Of a process in that pinned network namespace; none when the process is gone, or another one has its number."""
    try:
        if (proc / f"{pid}/ns/net").stat().st_ino != namespace.stat().st_ino:
            return []
        return interfaces(proc / f"{pid}/net/dev")
    except OSError:
        return []


def of_machine(state: Path, proc: Path = Path("/proc"), etc: Path = Path("/etc")) -> MachineDetail:
    """`state`: a path on the file system that counts. Raises OSError."""
    memory = {name.rstrip(":"): value * 1024 for name, value in _table(proc / "meminfo").items()}
    own = [i for i in interfaces(proc / "net/dev") if not i.name.startswith(_OF_PODS)]
    system = [line for line in _read(etc / "os-release").splitlines() if line.startswith("PRETTY_NAME=")]
    return MachineDetail(
        processors=os.cpu_count() or 1,
        memory=memory.get("MemTotal", 0),
        swap=memory.get("SwapTotal", 0),
        network=own,
        file_system=_file_system(state),
        kernel=os.uname().release,
        system=system[0].partition("=")[2].strip('"') if system else "",
    )


def _file_system(path: Path) -> FileSystemUse | None:
    try:
        of, device = os.statvfs(path), path.stat().st_dev
    except OSError:
        return None
    used = (of.f_blocks - of.f_bfree) * of.f_frsize
    name = _device(f"{os.major(device)}:{os.minor(device)}")
    return FileSystemUse(name, of.f_blocks * of.f_frsize, used, of.f_files, of.f_ffree)


def _read(file: Path) -> str:
    """ "" when it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_FILE).decode(errors="replace")
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _read(file).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _table(file: Path) -> dict[str, int]:
    """NAME NUMBER, one a line; a unit behind it is left out."""
    rows = (line.split() for line in _read(file).splitlines())
    return {words[0]: int(words[1]) for words in rows if len(words) > 1 and words[1].isdigit()}
