"""Where the embedded runtime keeps what it has.

ROOT/pods/<uid>/pod.json            the sandbox: name, address, when it was made, on which boot
ROOT/pods/<uid>/runs/<container>.json   the newest run of a container
ROOT/pods/<uid>/c/<container>/      upper and work directories, rootfs (mount), bundle
ROOT/pods/<uid>/etc/                hosts, hostname, resolv.conf
RUN/ns/<uid>/{net,ipc,uts}          pinned namespaces (mounts)
RUN/exits/<id>  RUN/oci/  RUN/s/    exit files, the OCI runtime's state, conmon's sockets
RUN/specs/<id>                      what a run was started with: its environment may hold Secrets, and RUN is memory
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from kubeedge.kit import private


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path
    run: Path  # short: sockets live here
    cgroup_prefix: str

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    @property
    def exits(self) -> Path:
        return self.run / "exits"

    @property
    def oci(self) -> Path:
        return self.run / "oci"

    @property
    def sockets(self) -> Path:
        return self.run / "s"

    @property
    def specs(self) -> Path:
        return self.run / "specs"

    def pod(self, uid: str) -> Path:
        return self.pods / uid

    def container(self, uid: str, name: str) -> Path:
        return self.pods / uid / "c" / name

    def bundle(self, uid: str, name: str) -> Path:
        return self.container(uid, name) / "bundle"

    def termination_log(self, uid: str, name: str) -> Path:
        return self.container(uid, name) / "termination-log"

    def namespaces(self, uid: str) -> Path:
        return self.run / "ns" / uid

    def group(self, uid: str) -> str:
        """The pod's control group; a container's is below, by its id."""
        return f"{self.cgroup_prefix}/pod{uid}"

    def make(self) -> None:
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
