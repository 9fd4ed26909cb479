"""What the containers of a pod share: pinned namespaces, and the files below /etc that Kubernetes writes. Blocking."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubeedge._fastpath import libc
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.runtime.base import RANGE, ClusterDns, SandboxConfig
from kubeedge.kit import resolv_conf

_FLAGS = {"net": libc.CLONE_NEWNET, "ipc": libc.CLONE_NEWIPC, "uts": libc.CLONE_NEWUTS}
EVERY_KIND = tuple(_FLAGS)
USER = "user"
NO_SYSCTLS: Mapping[str, str] = {}
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


def pin_namespaces(
    directory: Path,
    hostname: str,
    kinds: Sequence[str] = EVERY_KIND,
    sysctls: Mapping[str, str] = NO_SYSCTLS,
    first_user: int = 0,
) -> None:
    """New namespaces without a process, each held by a bind mount, and kernel parameters of theirs. `first_user`: of a range of users; the namespaces
    belong to a user namespace with these, which is held, too. 0: to the machine's.

    A thread of its own leaves ours, and ends: namespaces belong to threads, and no other program is needed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for kind in (*kinds, *([USER] if first_user else [])):
        (directory / kind).touch()
    problems: list[OSError] = []
    args = (directory, hostname, kinds, sysctls, first_user, problems)
    thread = threading.Thread(target=_pin, args=args, name="namespaces")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


def _pin(
    directory: Path,
    hostname: str,
    kinds: Sequence[str],
    sysctls: Mapping[str, str],
    first_user: int,
    problems: list[OSError],
) -> None:
    try:
        if first_user:
            _join_new_users(directory / USER, kinds, first_user)
        else:
            libc.unshare(sum(_FLAGS[kind] for kind in kinds))
        if "uts" in kinds:
            socket.sethostname(hostname)
        if "net" in kinds:
            _loopback_up()
        for name, value in sysctls.items():  # /proc/sys shows the namespaces of who opens a file of it
            _set_sysctl(name, value)
        for kind in kinds:
            mounts.bind(f"/proc/thread-self/ns/{kind}", directory / kind)
    except OSError as exc:
        problems.append(exc)


def _join_new_users(pin: Path, kinds: Sequence[str], first: int) -> None:
    """A process with threads cannot have another user namespace, so that a process is made for it. This thread joins its other namespaces."""
    pid, held = libc.hold_namespaces(libc.CLONE_NEWUSER | sum(_FLAGS[kind] for kind in kinds))
    try:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {first} {RANGE}")
        mounts.bind(f"/proc/{pid}/ns/{USER}", pin)
        for kind in kinds:
            fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc.setns(fd, _FLAGS[kind])
            finally:
                os.close(fd)
    finally:
        os.close(held)
        os.waitpid(pid, 0)


def _set_sysctl(name: str, value: str) -> None:
    try:
        (Path("/proc/sys") / name.replace(".", "/")).write_text(value)
    except OSError as exc:
        raise OSError(exc.errno, f"sysctl {name}={value}: {exc.strerror}") from exc


def _loopback_up() -> None:
    """Of the namespace that this thread is in (netdevice(7)): the plugin for it is a large program for one flag."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        request = struct.pack("16sH22x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def unpin_namespaces(directory: Path) -> None:
    """The kernel ends each namespace with its last process. Idempotent; what is not mounted is skipped."""
    for kind in (*EVERY_KIND, USER):
        with contextlib.suppress(OSError):
            mounts.unmount(directory / kind)
    shutil.rmtree(directory, ignore_errors=True)


def write_etc(directory: Path, config: SandboxConfig, ips: str, dns: ClusterDns | None = None) -> None:
    """hosts, hostname, resolv.conf. `ips`: of the pod, those of both versions of IP with a comma between. `dns`: None on a node that serves no names of the cluster."""
    directory.mkdir(parents=True, exist_ok=True)
    network = " (host network)" if config.host_network else ""
    hosts = [
        f"# Kubernetes-managed hosts file{network}.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
    ]
    full = f"{config.full_name}\t" if config.full_name else ""
    hosts += [f"{ip}\t{full}{config.hostname}" for ip in filter(None, ips.split(","))]
    hosts += ["\t".join([address, *names]) for address, names in config.host_aliases]
    (directory / "hosts").write_text("\n".join(hosts) + "\n")
    (directory / "hostname").write_text((config.kernel_name or config.hostname) + "\n")
    cluster = None
    if dns is not None:
        searches = (f"{config.namespace}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain)
        cluster = resolv_conf.ResolvConf((dns.server,), searches, ("ndots:5",))
    policy = "Default" if config.dns_policy == "ClusterFirst" and config.host_network else config.dns_policy
    machine = resolv_conf.machine_resolver() if policy != "None" else ""
    (directory / "resolv.conf").write_text(resolv_conf.of_pod(policy, config.dns, machine, cluster))
