"""Where the embedded runtime keeps what it has.

ROOT/pods/<uid>/pod.json            the sandbox: name, address, when it was made, on which boot
ROOT/pods/<uid>/runs/<container>.json   the newest run of a container
ROOT/pods/<uid>/c/<container>/      upper and work directories, rootfs (mount), bundle
ROOT/pods/<uid>/etc/                hosts, hostname, resolv.conf
RUN/ns/<uid>/{net,ipc,uts,user}     pinned namespaces (mounts)
RUN-users/<uid>/<container>/        of a pod with users of its own: rootfs and what is mounted in it (mounts)
RUN/exits/<id>  RUN/oci/  RUN/s/    exit files, the OCI runtime's state, conmon's sockets
RUN/specs/<id>                      what a run was started with: its environment may hold Secrets, and RUN is memory
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from kubeedge.appengine.runtime.pod_groups import PodGroups
from kubeedge.kit import private
from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of the embedded runtime; nothing is made or read except by make()."""

    root: Path
    run: Path  # short: sockets live here
    groups: PodGroups

    @property
    def pods(self) -> Path:
        """One directory for each pod, by uid; survives a reboot."""
        return self.root / "pods"

    @property
    def exits(self) -> Path:
        """Where conmon writes exit files, each named by a container id."""
        return self.run / "exits"

    @property
    def oci(self) -> Path:
        """The state directory of crun or runc."""
        return self.run / "oci"

    @property
    def sockets(self) -> Path:
        """Attach and exec sockets of conmon. Short, since a socket's path has 107 bytes at most (unix(7))."""
        return self.run / "s"

    @property
    def specs(self) -> Path:
        """Configurations that may hold Secrets: in memory, and for root alone."""
        return self.run / "specs"

    def pod(self, uid: str) -> Path:
        """Everything of a pod that survives a reboot."""
        return self.pods / uid

    def container(self, uid: str, name: str) -> Path:
        """Root file system and bundle of the container's newest run."""
        return self.pods / uid / "c" / name

    def bundle(self, uid: str, name: str) -> Path:
        """The OCI bundle (runtime-spec, bundle.md) that crun or runc is started with."""
        return self.container(uid, name) / "bundle"

    def termination_log(self, uid: str, name: str) -> Path:
        """The file that the container sees as its terminationMessagePath."""
        return self.container(uid, name) / "termination-log"

    def of_users(self, uid: str) -> Path:
        """Mounts for the root of a pod's user namespace, who cannot enter RUN."""
        return self.run.with_name(f"{self.run.name}-users") / uid

    def namespaces(self, uid: str) -> Path:
        """The directory where the pod's namespaces are pinned as bind mounts, each by its kind ("net", "ipc", "uts", "user")."""
        return self.run / "ns" / uid

    def group(self, uid: str) -> str:
        """The pod's control group; a container's is below, by its id."""
        return self.groups.of(uid)

    def make(self) -> None:
        """Makes the directories and sets their modes; idempotent. Raises OSError."""
        for directory in (self.pods, self.exits, self.run / "ns", self.sockets):
            private.directory(directory, 0o711)
        private.directory(self.specs, 0o700)

    def remove_traces(self, id: str) -> None:
        """What a run left in RUN."""
        for directory in (self.exits, self.specs, self.sockets):
            remove_entry(directory / id)


def remove_entry(path: Path) -> None:
    """conmon leaves a link to a directory where its socket is looked for; no tree is removed through a link."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
