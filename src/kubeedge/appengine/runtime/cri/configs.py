"""What a CRI runtime is told of a pod and its containers: PodSandboxConfig and ContainerConfig of runtime/v1. Pure.

Labels and annotations are those of the kubelet, so that crictl and others show our pods; ours begin with kubeedge.io/. By them everything is
taken up again after the agent was restarted.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubeedge.api.names import Object
from kubeedge.api.pod import ResourceRequirements, Security
from kubeedge.appengine.runtime.base import RANGE, BindMount, ContainerConfig, SandboxConfig, StartError
from kubeedge.appengine.runtime.capabilities import full_names
from kubeedge.appengine.runtime.group_limits import swap_limit
from kubeedge.appengine.runtime.oci_spec import MASKED, READ_ONLY, check_targets, expand, limits_of

POD_NAME, POD_NAMESPACE = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"
POD_UID, CONTAINER = "io.kubernetes.pod.uid", "io.kubernetes.container.name"
NODE = "kubeedge.io/node"  # label: who made it
IMAGE, MESSAGE, HOST_NETWORK = "kubeedge.io/image", "kubeedge.io/termination-log", "kubeedge.io/host-network"
STDIN_ONCE, TTY, STDIN = "kubeedge.io/stdin-once", "kubeedge.io/tty", "kubeedge.io/stdin"  # annotations: "1"
STOP_SIGNAL = "kubeedge.io/stop-signal"
GROUP = "kubeedge.io/cgroup-parent"  # of a sandbox: the runtime does not tell it

POD, OWN, OF_NODE, TARGET = 0, 1, 2, 3  # NamespaceMode
_PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
_PROPAGATION = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}
_PROFILES = {"RuntimeDefault": 0, "": 1, "Unconfined": 1, "Localhost": 2}
#: Signal, in the order of the enumeration
_SIGNALS = (
    "", *(f"SIG{name}" for name in (
        "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU "
        "URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN"
    ).split()),
    *(f"SIGRTMIN+{n}" for n in range(1, 16)), *(f"SIGRTMAX-{n}" for n in range(14, 0, -1)), "SIGRTMAX",
)  # fmt: skip


def pod_labels(config: SandboxConfig, node: str) -> dict[str, str]:
    """The pod's own labels, and those by which it is found."""
    own = {POD_NAME: config.name, POD_NAMESPACE: config.namespace, POD_UID: config.uid, NODE: node}
    return {**config.labels, **own}


def sandbox(config: SandboxConfig, *, node: str, attempt: int, cgroup_parent: str) -> Object:
    """PodSandboxConfig. Name servers are those of the pod; without any, the runtime takes those of the machine."""
    security: dict[str, Any] = {
        "namespace_options": _namespaces(config),
        "supplemental_groups": list(config.groups),
        "supplemental_groups_policy": int(config.strict_groups),
        "privileged": config.privileged,
        "seccomp": {"profile_type": _PROFILES["RuntimeDefault"]},
    }
    return {
        "metadata": {
            "name": config.name,
            "uid": config.uid,
            "namespace": config.namespace,
            "attempt": attempt,
        },
        "hostname": "" if config.host_network else config.kernel_name or config.hostname,
        "log_directory": str(config.log_directory or ""),
        "dns_config": {
            "servers": list(config.dns.get("nameservers") or ()),
            "searches": list(config.dns.get("searches") or ()),
            "options": list(config.dns.get("options") or ()),
        },
        "port_mappings": [
            {
                "protocol": _PROTOCOLS.get(port.protocol, 0),
                "container_port": port.container,
                "host_port": port.host,
                "host_ip": port.host_ip,
            }
            for port in config.ports
            if not config.host_network
        ],
        "labels": pod_labels(config, node),
        "annotations": {
            **config.annotations,
            GROUP: cgroup_parent,
            **({HOST_NETWORK: "1"} if config.host_network else {}),
        },
        "linux": {
            **({"resources": resources(config.resources)} if config.resources is not None else {}),
            "cgroup_parent": cgroup_parent,
            "security_context": security,
            "sysctls": {name.replace("/", "."): value for name, value in config.sysctls.items()},
        },
    }


def _namespaces(config: SandboxConfig, target_id: str = "") -> Object:
    pid = OF_NODE if config.host_pid else POD if config.share_processes else OWN
    options: Object = {
        "network": OF_NODE if config.host_network else POD,
        "pid": TARGET if target_id else pid,
        "ipc": OF_NODE if config.host_ipc else POD,
    }
    if config.first_user:
        mappings = _users(config.first_user)
        options["userns_options"] = {"mode": POD, "uids": mappings, "gids": mappings}
    return {**options, "target_id": target_id} if target_id else options


def _users(first: int) -> list[Object]:
    return [{"host_id": first, "container_id": 0, "length": RANGE}]


def container(
    sandbox: SandboxConfig,
    config: ContainerConfig,
    *,
    node: str,
    mounts: Sequence[BindMount],  # besides its own
    message: str,  # the file that holds its termination message
    image_user: Object,  # {"uid": ...} or {"username": ...} of its image
    profiles: Path,  # seccomp profiles of the node
    oom_score_adj: int,
    recursive_read_only: bool = False,  # the runtime has such mounts
    limits_swap: bool = False,  # this machine can
) -> Object:
    """ContainerConfig; the log is named from the sandbox's directory on. Raises StartError for capabilities and mounts that there are not."""
    spec = config.container
    check_targets([*config.mounts, *mounts])
    flags = {TTY: spec.tty, STDIN: spec.stdin, STDIN_ONCE: spec.stdin_once}
    log = config.log_path
    if sandbox.log_directory is not None and log.is_relative_to(sandbox.log_directory):
        log = log.relative_to(sandbox.log_directory)
    return {
        "metadata": {"name": spec.name, "attempt": config.attempt},
        "image": {"image": config.image},
        "command": [expand(word, config.env) for word in spec.command or ()],
        "args": [expand(word, config.env) for word in spec.args or ()],
        "working_dir": spec.working_dir,
        "envs": [{"key": name, "value": value} for name, value in config.env.items()],
        "mounts": [_mount(mount, recursive_read_only, sandbox.first_user) for mount in [*config.mounts, *mounts]],
        "labels": {**pod_labels(sandbox, node), CONTAINER: spec.name},
        "annotations": {
            IMAGE: config.image,
            MESSAGE: message,
            **({STOP_SIGNAL: spec.stop_signal} if spec.stop_signal else {}),
            **{name: "1" for name, there in flags.items() if there},
            **config.annotations,
        },
        "devices": [
            {"container_path": one.container, "host_path": one.host, "permissions": one.permissions}
            for one in config.devices
        ],
        "CDI_devices": [{"name": name} for name in config.cdi],
        "log_path": str(log),
        "stdin": spec.stdin,
        "stdin_once": spec.stdin_once,
        "tty": spec.tty,
        "linux": {
            "resources": {
                **resources(spec.resources),
                "oom_score_adj": oom_score_adj,
                **_huge_pages(spec.resources),
                **(swap_limit(config.swap) if limits_swap else {}),
            },
            "security_context": _security(sandbox, config, image_user, profiles),
        },
        "stop_signal": _SIGNALS.index(spec.stop_signal) if spec.stop_signal in _SIGNALS else 0,
    }


def _mount(mount: BindMount, recursive_read_only: bool, first_user: int) -> Object:
    made: Object = {
        "container_path": mount.target,
        "readonly": mount.read_only,
        "propagation": _PROPAGATION[mount.propagation],
        "recursive_read_only": recursive_read_only and mount.recursive_read_only != "Disabled",
    }
    if mount.image:
        return {**made, "image": {"image": mount.image}, "image_sub_path": mount.sub_path, "mount_options": ["noexec"]}
    if first_user:
        made |= {"uidMappings": _users(first_user), "gidMappings": _users(first_user)}
    return {**made, "host_path": str(mount.source)}


def resources(wanted: ResourceRequirements, *, no_limit: int = 0) -> Object:
    """LinuxContainerResources. `no_limit`: 0 says nothing, -1 lifts a limit that there was."""
    limits = limits_of(wanted)
    cpu = limits["cpu"]
    return {
        "cpu_period": cpu.get("period", 100_000),
        "cpu_quota": cpu.get("quota", no_limit),
        "cpu_shares": cpu["shares"],
        "memory_limit_in_bytes": wanted.memory_limit or no_limit,
    }


def _huge_pages(wanted: ResourceRequirements) -> Object:
    pages = [{"page_size": size.replace("i", "") + "B", "limit": n} for size, n in wanted.huge_pages.items()]
    return {"hugepage_limits": pages} if pages else {}


def check_user(security: Security, image_user: Object) -> None:
    """Raises StartError for a container that is not to run as root and would, or might. CRI has no field for that: whoever asks the runtime
    looks, as the kubelet does."""
    if not security.non_root:
        return
    problem = ""
    if security.user is not None:
        problem = "container's runAsUser breaks non-root policy" if security.user == 0 else ""
    elif "uid" not in image_user:  # the runtime alone can look it up, and does so when it is too late
        name = image_user.get("username")
        problem = f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
    elif image_user["uid"] == 0:
        problem = "container has runAsNonRoot and image will run as root"
    if problem:
        raise StartError("CreateContainerConfigError", problem)


def _security(sandbox: SandboxConfig, config: ContainerConfig, image_user: Object, profiles: Path) -> Object:
    security = config.container.security
    user: Object = {}
    if security.user is not None:
        user["run_as_user"] = {"value": security.user}
    elif "uid" in image_user:
        user["run_as_user"] = {"value": image_user["uid"]}
    elif image_user.get("username"):
        user["run_as_username"] = image_user["username"]
    if security.group is not None:
        user["run_as_group"] = {"value": security.group}
        if len(user) == 1:  # CRI wants a user beside it
            user["run_as_user"] = {"value": 0}
    return {
        **user,
        "capabilities": {
            "add_capabilities": _capabilities(security.add, "add"),
            "drop_capabilities": _capabilities(security.drop, "drop"),
        },
        "privileged": security.privileged,
        "namespace_options": _namespaces(sandbox, config.target_id),
        "readonly_rootfs": security.read_only_root,
        "supplemental_groups": list(sandbox.groups),
        "supplemental_groups_policy": int(sandbox.strict_groups),
        "no_new_privs": not security.escalation and not security.privileged,
        "masked_paths": [] if security.privileged or security.unmasked else list(MASKED),
        "readonly_paths": [] if security.privileged or security.unmasked else list(READ_ONLY),
        "seccomp": _profile(security.seccomp, str(profiles / security.seccomp_profile)),
        **({"apparmor": _profile(security.app_armor, security.app_armor_profile)} if security.app_armor else {}),
    }


def _capabilities(values: Sequence[str], verb: str) -> list[str]:
    return sorted(name.removeprefix("CAP_") for name in full_names(values, verb))


def _profile(kind: str, name: str) -> Object:
    return {"profile_type": _PROFILES[kind], "localhost_ref": name if kind == "Localhost" else ""}


def signal_number(name: str) -> int:
    """The number of a stop signal, by its name in Kubernetes."""
    for base, first in (("SIGRTMIN", signal.SIGRTMIN), ("SIGRTMAX", signal.SIGRTMAX)):
        if name.startswith(base):
            return first + int(name.removeprefix(base) or 0)
    return signal.Signals[name].value


def is_ours(labels: Mapping[str, str] | None, node: str) -> bool:
    """Made by this node's agent, by its labels."""
    return labels is not None and labels.get(NODE) == node and bool(labels.get(POD_UID))
