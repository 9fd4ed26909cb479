"""What the containers of a pod share: pinned namespaces, and the files below /etc that Kubernetes writes. Blocking."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from kubeedge.appengine.pod import Pod
from kubeedge.appengine.runtime import mounts

_KINDS = ("net", "ipc", "uts")
_PATIENCE = 30.0  # seconds


def pin_namespaces(directory: Path, hostname: str) -> None:
    """Namespaces that nobody lives in yet, held by a bind mount each."""
    directory.mkdir(parents=True, exist_ok=True)
    for kind in _KINDS:
        (directory / kind).touch()
    done = subprocess.run(
        ["unshare", *(f"--{kind}={directory / kind}" for kind in _KINDS), "hostname", hostname],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
    )
    if done.returncode:
        raise OSError(f"unshare: {done.stderr.strip()}")


def unpin_namespaces(directory: Path) -> None:
    for kind in _KINDS:
        with contextlib.suppress(OSError):
            mounts.unmount(directory / kind)
    shutil.rmtree(directory, ignore_errors=True)


def write_etc(directory: Path, pod: Pod, ip: str) -> None:
    """hosts, hostname, resolv.conf."""
    directory.mkdir(parents=True, exist_ok=True)
    hosts = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    if ip:
        hosts.append(f"{ip}\t{pod.hostname}")
    hosts += [f"{address}\t{' '.join(names)}" for address, names in pod.host_aliases]
    (directory / "hosts").write_text("\n".join(hosts) + "\n")
    (directory / "hostname").write_text(pod.hostname + "\n")
    resolv = machine_resolver()
    if servers := pod.dns.get("nameservers"):
        resolv = "".join(f"nameserver {s}\n" for s in servers)
    if searches := pod.dns.get("searches"):
        resolv += f"search {' '.join(searches)}\n"
    (directory / "resolv.conf").write_text(resolv)


def machine_resolver() -> str:
    """The machine's resolv.conf; not the one with a resolver that only the machine itself can reach."""
    text = ""
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        with contextlib.suppress(OSError):
            text = Path(path).read_text()
        if "nameserver 127." not in text:
            break
    return text
