"""Where in a container nothing is mounted, for the API and for the nodes. Pure."""

from __future__ import annotations

import posixpath

#: files that a volume may replace, as with runc: they inform, and nothing of the runtime is written there
_REPLACEABLE = frozenset(
    f"/proc/{name}"
    for name in (
        *("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo"),
        *("sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"),
    )
)
#: of every container; the machine's own may be there instead
_OF_THE_KERNEL = frozenset(("/proc", "/sys", "/dev"))


def refusal(target: str, source: str) -> str:
    """Why nothing may be mounted at `target` of a container; "": it may. `source`: what is mounted, a path of the node, "" for anything else.

    What is in /proc decides how a process is confined (CVE-2019-16884); and a container without its root, /dev or /sys is none.
    """
    path = _normal(target)
    if path == "/":
        return "it is the root of the container"
    if path in _OF_THE_KERNEL and (not source or _normal(source) != path):
        return f"only the node's own {path} may be mounted there"
    if path.startswith("/proc/") and path not in _REPLACEABLE:
        return "it is inside /proc"
    return ""


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))
