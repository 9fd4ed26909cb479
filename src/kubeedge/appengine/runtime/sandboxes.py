"""Sandboxes of the embedded runtime: namespaces, network, the files that a pod's containers share; and the end of all of it. Blocking."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from kubeedge.appengine.runtime import (
    cgroups,
    conmon,
    mounts,
    oci_spec,
    programs,
    records,
    sandbox_files,
    user_namespaces,
)
from kubeedge.appengine.runtime.base import ClusterDns, SandboxConfig, StartError
from kubeedge.appengine.runtime.cni import Network, port_mapping
from kubeedge.appengine.runtime.layout import Layout
from kubeedge.appengine.runtime.programs import Programs
from kubeedge.appengine.runtime.records import Sandbox
from kubeedge.appengine.runtime.shared_processes import SharedProcesses
from kubeedge.kit.dataclasses import replace

_MAX_HOSTNAME = 64  # characters; what sethostname(2) takes


def _own_kinds(config: SandboxConfig) -> list[str]:
    """Of namespaces that the pod does not share with the machine: on its network, uts is the machine's too, as with the kubelet."""
    shared = {*(("net", "uts") if config.host_network else ()), *(("ipc",) if config.host_ipc else ())}
    return [kind for kind in sandbox_files.EVERY_KIND if kind not in shared]


class Sandboxes:
    """Creates and removes what the containers of a pod share. `boot` is the kernel's boot id."""

    def __init__(self, layout: Layout, network: Network, boot: str, dns: ClusterDns | None = None) -> None:
        self._dns = dns
        self._layout = layout
        self._network = network
        self._boot = boot
        self._processes = SharedProcesses(layout)
        self.groups = layout.groups

    def create(self, config: SandboxConfig, sandbox: Sandbox | None) -> Sandbox:
        """A new one; what is left of an earlier one is removed first. Raises StartError."""
        if config.handler and config.handler not in programs.handlers():
            raise StartError("FailedCreatePodSandBox", f'no runtime for handler "{config.handler}" is configured')
        if config.first_user and config.handler != user_namespaces.RUNTIME:
            message = f"a pod with hostUsers: false needs {user_namespaces.RUNTIME} as its runtime on this node"
            raise StartError("FailedCreatePodSandBox", message)
        if len(config.kernel_name) > _MAX_HOSTNAME:
            message = f"FQDN {config.kernel_name} is too long ({_MAX_HOSTNAME} is the max, {len(config.kernel_name)} characters requested)"
            raise StartError("FailedCreatePodSandBox", message)
        if sandbox is None:
            sandbox = Sandbox(
                config.uid, config.namespace, config.name, "", config.host_network, self._boot, handler=config.handler
            )
        try:
            self._create(config, sandbox)
        except (OSError, subprocess.SubprocessError) as exc:
            raise StartError("FailedCreatePodSandBox", str(exc)) from exc
        return sandbox

    def _create(self, config: SandboxConfig, sandbox: Sandbox) -> None:
        directory, uid = self._layout.pod(config.uid), config.uid
        (directory / "runs").mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)
        sandbox.group = self.groups.choose(uid, config.qos)
        self.groups.create(uid, config.resources)
        self.remove_network(sandbox)
        sandbox.boot, sandbox.ip, sandbox.ipv6 = self._boot, "", ""
        sandbox.ports = [port_mapping(p) for p in config.ports]
        records.save_sandbox(directory, sandbox)  # what is made from here on will be swept
        self._pin(config)
        found: list[str] = []
        if not config.host_network:
            found = self._network.add(uid, self._layout.namespaces(uid) / "net", sandbox.ports)
            sandbox.ip, sandbox.ipv6 = (*found, "")[:2]
        sandbox_files.write_etc(directory / "etc", config, ",".join(found), self._dns)
        self._mount_shm(directory / "shm", config)
        records.save_sandbox(directory, sandbox)

    def _pin(self, config: SandboxConfig) -> None:
        name = config.kernel_name or config.hostname
        pinned = self._layout.namespaces(config.uid)
        sandbox_files.pin_namespaces(pinned, name, _own_kinds(config), config.sysctls, config.first_user)

    @staticmethod
    def _mount_shm(shm: Path, config: SandboxConfig) -> None:
        """POSIX shared memory goes with the IPC namespace (ipc_namespaces(7), shm_overview(7))."""
        shm.mkdir(exist_ok=True, mode=0o1777)
        mounts.unmount(shm)
        if config.host_ipc:
            mounts.bind_private("/dev/shm", shm)
        else:
            mounts.mount("shm", shm, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=1777,size=65536k")

    def namespaces(self, config: SandboxConfig, oci: Programs) -> oci_spec.Namespaces:
        """What its containers join. Raises StartError, OSError."""
        pinned, own = self._layout.namespaces(config.uid), _own_kinds(config)
        if own == ["ipc"] and not (pinned / "ipc").exists():  # a pod from before this agent
            self._pin(config)
        net, ipc, uts = (str(pinned / kind) if kind in own else "" for kind in ("net", "ipc", "uts"))
        processes = "" if config.host_pid else None
        namespaces = oci_spec.Namespaces(net, ipc, uts, processes, own_groups=cgroups.layout() == "v2")
        if config.first_user:
            user = str(pinned / sandbox_files.USER)
            namespaces = replace(namespaces, user=user, first_user=config.first_user)
        if config.share_processes:
            return replace(namespaces, pid=self._processes.namespace(config.uid, namespaces, oci))
        return namespaces

    def remove_network(self, sandbox: Sandbox) -> None:
        """Runs CNI DEL, for which the namespace may be missing, and unpins the namespaces. A failure of a plugin is no error."""
        pinned = self._layout.namespaces(sandbox.uid)
        if not sandbox.host_network and (sandbox.ip or sandbox.boot != self._boot or pinned.is_dir()):
            with contextlib.suppress(StartError):
                self._network.remove(sandbox.uid, pinned / "net", sandbox.ports)
        if pinned.is_dir():
            sandbox_files.unpin_namespaces(pinned)

    def sweep(self, uid: str, default: Programs) -> None:
        """Everything of one pod, whatever is left of it. Raises OSError when something stays mounted."""
        directory = self._layout.pod(uid)
        sandbox = records.load(directory) or Sandbox(uid, "", "", "", False, "unknown")
        oci = default.of(sandbox.handler)
        for id in records.run_ids(directory):
            with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
                conmon.run(oci, ["delete", "--force", id])
                self._layout.remove_traces(id)
        self._processes.remove(uid, oci)
        self.groups.remove(uid)
        self.remove_network(sandbox)
        if (own := self._layout.of_users(uid)).is_dir():
            mounts.remove_tree(own)
            with contextlib.suppress(OSError):  # of other pods
                own.parent.rmdir()
        mounts.remove_tree(directory)

    def sweep_unknown(self, known: set[str], ids: set[str], default: Programs) -> None:
        """What is ours by its name, and of no pod (by uid) or run (by id) that is known."""
        for uid in self.groups.uids() - known:
            self.groups.remove(uid)
        for stale in (self._layout.run / "ns").iterdir():
            if stale.name not in known:
                self.sweep(stale.name, default)
        for directory in (self._layout.sockets, self._layout.exits, self._layout.specs):
            for stale in directory.iterdir():
                if stale.name not in ids:
                    self._layout.remove_traces(stale.name)
