"""The PID namespace that the containers of a pod share (shareProcessNamespace). Blocking.

It lives as long as its first process: a container of its own, with nothing in it but one small program (_fastpath/pause), which containers
of the pod can see, and cannot get anything from.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from kubeedge.appengine.runtime import cgroups, conmon, oci_spec, user_namespaces
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.runtime.layout import Layout
from kubeedge.appengine.runtime.oci_spec import Namespaces
from kubeedge.appengine.runtime.programs import Programs

_NOBODY = 65535
_MODULE = "kubeedge._fastpath.pause"
_OF_USERS = ".pause"  # its root, of a pod with users of its own; no container has such a name


class SharedProcesses:
    """One for each pod that asks for it, by uid."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def namespace(self, uid: str, others: Namespaces, programs: Programs) -> str:
        """Its path, of a first process that lives; it is started when there is none. Raises StartError, OSError."""
        if not (pid := self._living(uid)):
            self.remove(uid, programs)
            self._start(uid, others, programs)
            pid = self._living(uid)
        if not pid:
            raise StartError("CreateContainerError", "the first process of the pod's PID namespace has ended")
        return f"/proc/{pid}/ns/pid"

    def remove(self, uid: str, programs: Programs) -> None:
        """Idempotent. The processes of all its containers end with it."""
        if self._bundle(uid).is_dir():
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                conmon.run(programs, ["delete", "--force", _id(uid)])
            cgroups.kill_and_remove(self._group(uid))
            shutil.rmtree(self._bundle(uid), ignore_errors=True)
            shutil.rmtree(self._layout.of_users(uid) / _OF_USERS, ignore_errors=True)

    def _living(self, uid: str) -> int:
        """The pid of a pod's process; 0 when it does not run."""
        try:
            pid = int((self._bundle(uid) / "pid").read_text())
        except (OSError, ValueError):
            return 0
        return pid if pid in cgroups.processes(self._group(uid)) else 0

    def _start(self, uid: str, others: Namespaces, programs: Programs) -> None:
        bundle = self._bundle(uid)
        rootfs = bundle / "rootfs"
        if others.first_user:
            rootfs = user_namespaces.directory(self._layout.of_users(uid), others.first_user) / _OF_USERS
        bundle.mkdir(parents=True)
        for directory in ("proc", "dev"):
            (rootfs / directory).mkdir(parents=True)
        program = importlib.util.find_spec(_MODULE)
        if program is None or program.origin is None:
            raise StartError("CreateContainerError", f"{_MODULE} is missing on this node")
        shutil.copyfile(program.origin, rootfs / "pause")
        (rootfs / "pause").chmod(0o755)
        (bundle / "config.json").write_text(json.dumps(_spec(rootfs, others, f"/{self._group(uid)}")))
        arguments = ["run", "--detach", "--pid-file", str(bundle / "pid"), "--bundle", str(bundle), _id(uid)]
        with open(bundle / "log", "w+b") as log:  # not a pipe: the program would hold its end
            done = subprocess.run(
                programs.runtime_command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=conmon.TIMEOUT,
            )
            if done.returncode:
                log.seek(0)
                raise StartError("CreateContainerError", log.read(4096).decode(errors="replace").strip()[-500:])

    def _bundle(self, uid: str) -> Path:
        return self._layout.pod(uid) / "pause"

    def _group(self, uid: str) -> str:
        return f"{self._layout.group(uid)}/pause"


def _id(uid: str) -> str:
    return f"pause-{uid}"


def _spec(rootfs: Path, others: Namespaces, cgroup: str) -> dict[str, Any]:
    """Without a capability, on a root that cannot be written to."""
    nothing: dict[str, list[str]] = {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable")}
    kinds = (("network", others.net), ("ipc", others.ipc), ("uts", others.uts), ("user", others.user))
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": _NOBODY, "gid": _NOBODY},
            "args": ["/pause"],
            "env": [],
            "cwd": "/",
            "capabilities": nothing,
            "noNewPrivileges": True,
            "oomScoreAdj": int(Path("/proc/self/oom_score_adj").read_text()),
        },
        "root": {"path": str(rootfs), "readonly": True},
        "mounts": [m for m in oci_spec.standard_mounts(privileged=False) if m["destination"] in ("/proc", "/dev")],
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "mount"},
                *({"type": kind, "path": path} for kind, path in kinds if path),
            ],
            **oci_spec.user_mappings(others.first_user),
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": list(oci_spec.MASKED),
            "readonlyPaths": list(oci_spec.READ_ONLY),
        },
    }
