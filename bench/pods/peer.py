"""The peer: a kubelet and containerd 2, both built from their Go modules, on a host of their own.

The kubelet stands alone, without an API server: its pods are files (static pods), which it reads as soon as they are there. So it has nobody to report to,
which ours has.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.budgets.site import IMAGE, pod
from bench.demo.scenario import started_after
from kubeedge.appengine.runtime import cgroups, mounts
from tests.kit import containerd, control_groups, images
from tests.kit.topology import Host, Topology, until
from tests.kit.upstream import build

_TIMEOUT = 600.0
_ADDRESS = "192.0.2.1"  # of the node: it would look for one by DNS, for seconds with each pod
_NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {"type": "loopback"},
        {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.99.0.0/16"}]]}},
    ],
}  # fmt: skip
_NEVER = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")


class Peer:
    """Started by `peer`."""

    def __init__(self, host: Host, directory: Path, group: str) -> None:
        self._host, self._directory, self._group = host, directory, group
        self._manifests, self._logs = directory / "manifests", directory / "logs"
        self._rounds = 0

    def start(self) -> None:
        """Until both serve. Raises AssertionError with the end of the log."""
        directory, host = self._directory, self._host
        self._manifests.mkdir(parents=True)
        programs = containerd.newest(directory / "bin")
        containerd.start(host, directory / "c", programs)
        archive = images.build(directory / "pods.tar", IMAGE)
        host.run(str(programs / "ctr"), "-a", str(containerd.SOCKET), "-n", "k8s.io", "images", "import", str(archive))
        host.run("tee", str(containerd.NETWORKS / "10-pods.conflist"), input=json.dumps(_NETWORK))
        host.ip("address", "add", f"{_ADDRESS}/32", "dev", "lo")
        for hierarchy in cgroups.hierarchies():
            (hierarchy / self._group).mkdir(exist_ok=True)
        config = directory / "kubelet.json"
        config.write_text(json.dumps(self._config()))
        words = (
            "--config",
            str(config),
            "--root-dir",
            str(directory / "k"),
            "--hostname-override",
            "peer",
            "--node-ip",
            _ADDRESS,
        )
        path = f"{programs}:{os.environ['PATH']}"
        host.spawn(str(build.program("kubelet")), *words, log=directory / "kubelet.log", env={"PATH": path})
        until(
            lambda: "Starting to sync pod status" in self.log() or "control loop" in self.log(),
            what="the kubelet",
            timeout=_TIMEOUT,
        )

    def log(self) -> str:
        """What the kubelet has said."""
        path = self._directory / "kubelet.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def at_once(self, count: int) -> float:
        """Seconds from the first file to the first line of the last process. Nothing of them is left."""
        self._rounds += 1
        names = [
            f"round{self._rounds}n{number}" for number in range(count)
        ]  # of pods that ended, it keeps logs for a while
        for name in names:
            (self._directory / name).write_text(json.dumps(_static(name)))
        since = time.time()
        for name in names:
            (self._directory / name).rename(self._manifests / f"{name}.json")
        seen: list[float] = []

        def all_run() -> bool:
            seen[:] = [started_after(self._logs, f"default_{name}-peer_", since) for name in names]
            return all(seen)

        try:
            until(all_run, what=f"{count} pods of the kubelet", timeout=_TIMEOUT, interval=0.1)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log()[-3000:]}") from None
        for file in self._manifests.iterdir():
            file.unlink()
        until(lambda: not self._host.running(b"sleep\x001000000"), what="no pods", timeout=_TIMEOUT, interval=0.1)
        return max(seen) - since

    def _config(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "staticPodPath": str(self._manifests), "podLogsDir": str(self._logs), "maxPods": 110, "enableServer": False,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"}, "containerRuntimeEndpoint": f"unix://{containerd.SOCKET}",
            "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{self._group}", "failCgroupV1": False, "failSwapOn": False,
            "evictionHard": dict.fromkeys(_NEVER, "0%"), "localStorageCapacityIsolation": False, "resolvConf": "",
        }  # fmt: skip


def _static(name: str) -> dict[str, Any]:
    made = pod(name)
    made["metadata"]["namespace"] = "default"
    del made["spec"]["nodeName"]
    made["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    return made


@contextlib.contextmanager
def peer(net: Topology, directory: Path) -> Iterator[Peer]:
    """One that serves; nothing of it is left afterwards. `directory` does not exist yet."""
    host, group = net.host("peer"), f"kbpeer{os.getpid()}"
    made = Peer(host, directory, group)
    try:
        made.start()
        yield made
    finally:
        host.power_cut()
        mounts.remove_tree(directory)
        until(lambda: _removed(group), what="no control group", timeout=_TIMEOUT)


def _removed(group: str) -> bool:
    control_groups.remove(group)
    return not control_groups.find(group)
