"""Capabilities of Linux by their names (capabilities(7)). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kubeedge.appengine.runtime.base import StartError

ALL = "CAP_ALL"  # in a pod: every one that the machine can give
#: by their numbers
NAMES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
        "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
        "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)


def full_names(values: Iterable[str], verb: str) -> set[str]:
    """Kubernetes writes NET_ADMIN, the kernel CAP_NET_ADMIN. Raises StartError for a name that is none: one that was to be dropped ("NET-RAW")
    would be kept without a word. `verb`: what the pod wants of them, to "add" or to "drop"."""
    names = set()
    for value in values:
        name = "CAP_" + value.upper().removeprefix("CAP_")
        if name != ALL and name not in NAMES:
            raise StartError("CreateContainerError", f"unknown capability {value!r:.80} to {verb}")
        names.add(name)
    return names
