"""The OCI runtime configuration (opencontainers/runtime-spec, config.md) of one container. Pure.

Defaults are those of the other Kubernetes runtimes: fourteen capabilities, masked and read-only paths below /proc and /sys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kubeedge.api import mount_targets
from kubeedge.api.pod import Container, ResourceRequirements
from kubeedge.appengine.runtime.base import RANGE, BindMount, StartError
from kubeedge.appengine.runtime.capabilities import ALL, full_names
from kubeedge.appengine.runtime.group_limits import CPU_PERIOD, shares_of
from kubeedge.appengine.runtime.image_config import ImageConfig
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_TEXT = 128 * 1024  # of one argument or variable (Linux: MAX_ARG_STRLEN)
MAX_EXPANDED = (
    2 * 1024 * 1024
)  # of all arguments, and of all variables: what execve takes with the usual limit of the stack
_PROPAGATION = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Files to join; "" leaves the machine's own. Of processes, None is a new one for the container alone."""

    net: str
    ipc: str
    uts: str
    pid: str | None = None
    own_groups: bool = False  # a cgroup_namespaces(7) of its own, where it is not privileged
    user: str = ""
    first_user: int = 0  # what that maps user 0 to


@dataclass(frozen=True, slots=True)
class ContainerUser:
    """The user that the process runs as, resolved from the image's passwd and group files."""

    uid: int
    gid: int
    groups: Sequence[int]
    home: str


def build(
    container: Container,
    image: ImageConfig,
    *,
    user: ContainerUser,
    rootfs: Path,
    env: Mapping[str, str],
    mounts: Sequence[BindMount],
    namespaces: Namespaces,
    cgroup: str,
    oom_score_adj: int,
    capabilities: Sequence[str] | None,  # that this machine can give at all; None: no limit known
    groups: Sequence[int],  # besides the user's own
    pids_limit: int = 0,  # processes and threads; 0: no limit of its own
    seccomp: Mapping[str, Any] | None = None,  # the filter, as the specification has it
    app_armor: str = "",  # the name of a loaded profile
    devices: Sequence[Mapping[str, Any]] = (),  # device files, as the specification has them
    allowed: Sequence[Mapping[str, Any]] = (),  # rules for these
    annotations: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The content of config.json. Raises StartError when the pod demands a user other than root and the image has none, and for capabilities and
    mounts that there are not."""
    security = container.security
    check_targets(mounts)
    if security.non_root and user.uid == 0:
        raise StartError("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")
    return {
        "ociVersion": "1.0.2",
        **({"annotations": dict(annotations)} if annotations else {}),
        "process": {
            "terminal": container.tty,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": sorted({*user.groups, *groups})},
            "args": arguments(container, image, env),
            "env": _environment(image, env, user),
            "cwd": container.working_dir or image.working_dir or "/",
            "capabilities": effective_capabilities(container, user.uid, capabilities),
            "noNewPrivileges": not security.escalation and not security.privileged,
            "oomScoreAdj": oom_score_adj,
            **({"apparmorProfile": app_armor} if app_armor else {}),
        },
        "root": {"path": str(rootfs), "readonly": security.read_only_root},
        "mounts": [*standard_mounts(privileged=security.privileged), *(_bind(m) for m in _ordered(mounts))],
        "linux": {
            "namespaces": [
                *([{"type": "pid"}] if namespaces.pid is None else []),
                {"type": "mount"},
                *([{"type": "cgroup"}] if namespaces.own_groups and not security.privileged else []),
                *({"type": kind, "path": path} for kind, path in
                  (("user", namespaces.user), ("network", namespaces.net), ("ipc", namespaces.ipc), ("uts", namespaces.uts),
                   ("pid", namespaces.pid))
                  if path),
            ],
            **user_mappings(namespaces.first_user),
            **_root_propagation(mounts),
            "cgroupsPath": cgroup,
            **({"devices": list(devices)} if devices else {}),
            "resources": _resources(container, pids_limit, allowed),
            **({"seccomp": seccomp} if seccomp is not None else {}),
            "maskedPaths": [] if security.privileged or security.unmasked else list(MASKED),
            "readonlyPaths": [] if security.privileged or security.unmasked else list(READ_ONLY),
        },
    }  # fmt: skip


def arguments(container: Container, image: ImageConfig, env: Mapping[str, str]) -> list[str]:
    """command replaces the image's entrypoint and command, args replaces its command; $(NAME) is expanded in both.

    An empty list is as good as none: clients written in Go and Helm charts write one for what is not set.
    """
    if container.command:
        words = [*container.command, *(container.args or ())]
    else:
        words = [*image.entrypoint, *(container.args or image.command)]
    if not words:
        raise StartError("CreateContainerError", "no command specified, neither in the pod nor in the image")
    return expand_all(words, env)


def expand_all(texts: Iterable[str], env: Mapping[str, str]) -> list[str]:
    """Each of them, with a bound for all. Raises Invalid."""
    expanded, room = [], MAX_EXPANDED
    for text in texts:
        expanded.append(expand(text, env, room))
        room -= len(expanded[-1])
    return expanded


def expand(text: str, env: Mapping[str, str], room: int = MAX_EXPANDED) -> str:
    """$(NAME) of a known variable; $$ is a dollar; anything else stays as it is.

    Thirty variables, each of them twice the one before, are a gigabyte: what is longer than the kernel takes is refused while it grows. Raises
    Invalid."""
    limit, out, size, i = min(MAX_TEXT, room), [], 0, 0
    last = text.rfind(")")  # once: looking for it behind each "$(" takes the square of the length
    while i < len(text):
        part, i = _next_part(text, i, last, env)
        size += len(part)
        if size > limit:
            raise Invalid(f"{text!r:.60} is longer than {limit} characters with all that it refers to")
        out.append(part)
    return "".join(out)


def _next_part(text: str, i: int, last: int, env: Mapping[str, str]) -> tuple[str, int]:
    """What stands for the text at `i`, and where it goes on; `last` is where the last ")" is."""
    if text.startswith("$$", i):
        return "$", i + 2
    if text.startswith("$(", i) and i < last:
        end = text.index(")", i)
        return env.get(text[i + 2 : end], text[i : end + 1]), end + 1
    return text[i], i + 1


def _environment(image: ImageConfig, env: Mapping[str, str], user: ContainerUser) -> list[str]:
    merged = dict(entry.split("=", 1) for entry in (_PATH, *image.env) if "=" in entry)
    merged.setdefault("HOME", user.home)
    merged.update(env)
    return [f"{name}={value}" for name, value in merged.items()]


def effective_capabilities(container: Container, uid: int, possible: Sequence[str] | None) -> dict[str, list[str]]:
    """The capability sets of the OCI process. A user other than root holds only what was added by name; the ambient set is left out.
    Raises StartError for names that are none."""
    security = container.security
    every = set(possible) if possible is not None else set(CAPABILITIES)
    add, drop = full_names(security.add, "add"), full_names(security.drop, "drop")
    if security.privileged or ALL in add:
        wanted = every | set(CAPABILITIES)
    else:
        wanted = set() if ALL in drop else set(CAPABILITIES) - drop
        wanted |= add
    if possible is not None:
        wanted &= set(possible)
    bounding = sorted(wanted)
    held = bounding if uid == 0 else sorted(add & wanted)
    return {"bounding": bounding, "effective": held, "permitted": held, "inheritable": []}


def standard_mounts(*, privileged: bool) -> list[dict[str, Any]]:
    """What every container has below /proc, /dev and /sys."""
    access = "rw" if privileged else "ro"
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", access]},
        # the container's own groups, where a JVM and others read their limits
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", access]},
    ]  # fmt: skip


def _ordered(mounts: Sequence[BindMount]) -> list[BindMount]:
    """Outer directories first, whatever the order in the manifest."""
    return sorted(mounts, key=lambda m: m.target.rstrip("/").count("/"))


def check_targets(mounts: Sequence[BindMount]) -> None:
    """Raises StartError for a mount where none may be, whoever wants it: a volume, the image, or the path of the termination message."""
    for mount in mounts:
        if why := mount_targets.refusal(mount.target, "" if mount.image else str(mount.source)):
            raise StartError("CreateContainerError", f"cannot mount at {mount.target!r:.200}: {why}")


def _bind(mount: BindMount) -> dict[str, Any]:
    return {
        "destination": mount.target,
        "type": "bind",
        "source": str(mount.source),
        "options": [
            "rbind",
            _PROPAGATION[mount.propagation],
            "ro" if mount.read_only else "rw",
            *(["rro"] if mount.recursive_read_only != "Disabled" else []),
            *(["noexec"] if mount.image else []),
            *mount.locked,
        ],
    }


def user_mappings(first: int) -> dict[str, Any]:
    """What is there besides the path of the user namespace: runc wants both. Nothing for users of the machine (0)."""
    mappings = [{"containerID": 0, "hostID": first, "size": RANGE}]
    return {"uidMappings": mappings, "gidMappings": mappings} if first else {}


def _root_propagation(mounts: Sequence[BindMount]) -> dict[str, str]:
    """What is mounted on the node later comes only into containers whose root is not cut off from it (mount_namespaces(7))."""
    asked = {_PROPAGATION[mount.propagation] for mount in mounts}
    found = next((kind for kind in ("rshared", "rslave") if kind in asked), "")
    return {"rootfsPropagation": found} if found else {}


def limits_of(resources: ResourceRequirements) -> dict[str, Any]:
    """CPU and memory, also for an update of a container that runs."""
    cpu: dict[str, int] = {"shares": shares_of(resources.cpu_request)}
    if resources.cpu_limit:
        cpu.update(period=CPU_PERIOD, quota=max(1000, resources.cpu_limit * CPU_PERIOD // 1000))
    made: dict[str, Any] = {"cpu": cpu}
    if resources.memory_limit:
        made["memory"] = {"limit": resources.memory_limit}
    return made


def _resources(container: Container, pids_limit: int, allowed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    resources = limits_of(container.resources)
    if pages := container.resources.huge_pages:
        resources["hugepageLimits"] = [
            {"pageSize": size.replace("i", "") + "B", "limit": n} for size, n in pages.items()
        ]
    if pids_limit:
        resources["pids"] = {"limit": pids_limit}
    if not container.security.privileged:
        resources["devices"] = [{"allow": False, "access": "rwm"}, *_allowed_devices(), *allowed]
    return resources


def _allowed_devices() -> list[dict[str, Any]]:
    """Those of runc and containerd: net/tun is of use with CAP_NET_ADMIN alone, to pods that mount it from the machine."""
    numbers = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200))
    allowed = [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in numbers
    ]
    return [*allowed, {"allow": True, "type": "c", "major": 136, "access": "rwm"}]  # pts
