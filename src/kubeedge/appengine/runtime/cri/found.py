"""What a CRI runtime tells of pods and containers, as the engine knows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeedge.api.names import Object
from kubeedge.appengine.runtime.base import ContainerStats, Exit, Found, PodStats, ResourceUsage, User
from kubeedge.appengine.runtime.cri.configs import CONTAINER, IMAGE, POD_NAME, POD_NAMESPACE, POD_UID
from kubeedge.kit.disk_use import DiskUse

READY = 0  # PodSandboxState
CREATED, RUNNING, EXITED, UNKNOWN = 0, 1, 2, 3  # ContainerState
STARTED_EVENT, STOPPED_EVENT = 1, 2  # ContainerEventType
_SECOND = 1e9  # nanoseconds
_LOST = 137  # exit code of a run whose end was not seen


def label(thing: Object, name: str) -> str:
    """The value of a label; "" when there is none."""
    return str(thing.get("labels", {}).get(name, ""))


def newest(things: Iterable[Object], key: str) -> dict[str, Object]:
    """Of those with the same label `key` the one that was made last."""
    found: dict[str, Object] = {}
    for thing in sorted(things, key=lambda thing: int(thing.get("created_at", 0))):
        if name := label(thing, key):
            found[name] = thing
    return found


def addresses(status: Object) -> tuple[str, str]:
    """The addresses of a pod of IPv4 and of IPv6, from its PodSandboxStatus; "" for none."""
    network = status.get("network", {})
    more = (str(entry.get("ip", "")) for entry in network.get("additional_ips", ()))
    found = [text for text in (str(network.get("ip", "")), *more) if text]
    four = next((text for text in found if ":" not in text), "")
    six = next((text for text in found if ":" in text), "")
    return (four, six) if four else (six, "")


def user(status: Object) -> User | None:
    """The container user in a ContainerStatus; None when the runtime does not tell."""
    found = status.get("user", {}).get("linux")
    if found is None:
        return None
    return User(found.get("uid", 0), found.get("gid", 0), tuple(sorted(found.get("supplemental_groups", ()))))


def image_id(status: Object) -> str:
    """The digest of the image's configuration, where the runtime tells it: image_ref may be a name with the digest of a manifest."""
    told = str(status.get("image_id") or status.get("image_ref", ""))
    return told


def has_ended(status: Object) -> bool:
    """Whether a ContainerStatus or a Container says that it has ended."""
    return status.get("state", CREATED) in (EXITED, UNKNOWN)


def exit_of(status: Object, message: str) -> Exit:
    """The end of a run, from the ContainerStatus of one that has ended."""
    is_lost = status.get("state") == UNKNOWN or status.get("reason") == "Unknown"  # containerd's, beside exit code 255
    reason = "ContainerStatusUnknown" if is_lost else status.get("reason", "")
    return Exit(
        label(status, POD_UID),
        label(status, CONTAINER),
        str(status.get("id", "")),
        _LOST if is_lost else int(status.get("exit_code", 0)),
        reason if reason in ("OOMKilled", "ContainerStatusUnknown") else "",
        message,
    )


def container(status: Object, message: str) -> Found:
    """A container as it was found, from its ContainerStatus and its termination message."""
    return Found(
        label(status, CONTAINER),
        int(status.get("metadata", {}).get("attempt", 0)),
        str(status.get("id", "")),
        0,
        str(status.get("annotations", {}).get(IMAGE, "")),
        image_id(status),
        int(status.get("started_at", 0)) / _SECOND,
        exit_of(status, message) if has_ended(status) else None,
        int(status.get("finished_at", 0)) / _SECOND,
        user=user(status),
    )


def pod_stats(containers: Iterable[Object], pods: Iterable[Object], running: Mapping[str, Object]) -> list[PodStats]:
    """Of ContainerStats and PodSandboxStats of CRI; left out is what does not run, or what nothing counts. `running`: id -> Container."""
    counted: dict[str, list[ContainerStats]] = {}
    names: dict[str, tuple[str, str]] = {}
    for entry in containers:
        thing = running.get(str(entry.get("attributes", {}).get("id", "")))
        used = usage(entry)
        if thing is not None and used is not None:
            uid = label(thing, POD_UID)
            names[uid] = label(thing, POD_NAMESPACE), label(thing, POD_NAME)
            counted.setdefault(uid, []).append(_stats(thing, used))
    whole = {label(entry.get("attributes", {}), POD_UID): usage(entry.get("linux", {})) for entry in pods}
    return [PodStats(uid, *names[uid], whole.get(uid) or _sum(own), own) for uid, own in counted.items()]


def _stats(container: Object, used: ResourceUsage) -> ContainerStats:
    image = str(container.get("annotations", {}).get(IMAGE, ""))
    started = int(container.get("created_at", 0)) / _SECOND
    return ContainerStats(label(container, CONTAINER), str(container["id"]), image, started, used)


def usage(entry: Object) -> ResourceUsage | None:
    """Of a ContainerStats or LinuxPodSandboxStats of CRI; None where processor or memory is not counted."""
    cpu, working_set = _value(entry, "cpu", "usage_core_nano_seconds"), _value(entry, "memory", "working_set_bytes")
    if cpu is None or working_set is None:
        return None
    return ResourceUsage(
        cpu_ns=cpu,
        memory=_value(entry, "memory", "usage_bytes") or working_set,
        working_set=working_set,
        rss=_value(entry, "memory", "rss_bytes") or 0,
        page_faults=_value(entry, "memory", "page_faults") or 0,
        major_page_faults=_value(entry, "memory", "major_page_faults") or 0,
        processes=_value(entry, "process", "process_count") or 0,
    )


def _sum(containers: Sequence[ContainerStats]) -> ResourceUsage:
    each = [container.usage for container in containers]
    return ResourceUsage(
        cpu_ns=sum(used.cpu_ns for used in each),
        memory=sum(used.memory for used in each),
        working_set=sum(used.working_set for used in each),
        rss=sum(used.rss for used in each),
        page_faults=sum(used.page_faults for used in each),
        major_page_faults=sum(used.major_page_faults for used in each),
        processes=sum(used.processes for used in each),
    )


def disk_use(containers: Iterable[Object]) -> dict[str, DiskUse]:
    """Container -> its writable layer, of ContainerStats of CRI. Of two runs of a container the larger."""
    layers: dict[str, DiskUse] = {}
    for entry in containers:
        name = label(entry.get("attributes", {}), CONTAINER)
        used = _value(entry, "writable_layer", "used_bytes")
        if name and used is not None:
            layer = DiskUse(used, _value(entry, "writable_layer", "inodes_used") or 0)
            layers[name] = max(layer, layers.get(name, layer))
    return layers


def _value(entry: Object, group: str, name: str) -> int | None:
    found: Any = entry.get(group, {}).get(name)
    return None if found is None else int(found.get("value", 0))
