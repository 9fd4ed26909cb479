"""Machines of the cluster with our image on them, and machines that join, for tests of what runs in the cluster itself."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kubeedge.appengine.runtime import cgroups
from tests.kit import images
from tests.kit.cluster import KubernetesCluster
from tests.kit.cluster.site import IMAGE
from tests.kit.topology import Host, until

ROOT = Path(__file__).parents[2]


@contextmanager
def vm_node(
    cluster: KubernetesCluster,
    host: Host,
    address: str,
    directory: Path,
    *archives: Path,
    name: str = "vm1",
    pods: str = "10.99.1.0/24",
) -> Iterator[Host]:
    """`host`, which has that address, as the node `name` of the cluster, with the images of `archives` and pods in the network `pods`."""
    preload = directory / "state/images/preload"
    preload.mkdir(parents=True)
    for archive in archives:
        (preload / archive.name).symlink_to(archive)
    tun = directory / "tun"  # as udev makes it: for everybody, where it is the kernel's it may be root's alone
    os.mknod(tun, stat.S_IFCHR, os.makedev(10, 200))
    tun.chmod(0o666)
    host.run("mount", "--bind", str(tun), "/dev/net/tun")
    cgroup = f"kb-{name}-{os.getpid()}"
    kubeconfig = cluster.kubeconfig(f"system:node:{name}", ["system:nodes"])
    serving = cluster.identities.kubelets.issue(name, hosts=[address], file=name)
    kubelet = {
        "port": 10250,
        "cert": str(serving.cert),
        "key": str(serving.key),
        "ca": str(cluster.identities.cluster.ca),
    }
    config = {
        "kubeconfig": str(kubeconfig), "node": name, "address": address, "root": str(directory), "cgroup": cgroup,
        "pod_cidr": pods, "kubelet": kubelet,
    }  # fmt: skip
    log = directory / "vm.log"
    host.spawn("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.kit.vm_node", json.dumps(config), log=log)
    try:
        until(lambda: b"ready" in log.read_bytes().split(b"\n"), timeout=120, what=f"node {name}: {log}")
        yield host
    finally:
        host.power_cut()
        cgroups.kill_and_remove(cgroup)


@contextmanager
def edge_node(
    machine: Host, name: str, cloud: str, token: str, modules: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Iterator[None]:
    """`machine` joins `cloud` (HOST:PORT) as node `name`, with the image demo:1, and its agent runs. `modules`: more settings of it."""
    root = Path(tempfile.mkdtemp(prefix=f"kbi{os.getpid()}"))  # the path of a socket must be short
    program = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "kubeedge"]
    cgroup = f"{root.name}-{name}"
    try:
        for part in ("etc/kubeedge", "var/lib/kubeedge/edge/images/preload"):
            (root / part).mkdir(parents=True)
        images.build(root / "var/lib/kubeedge/edge/images/preload/demo.tar", IMAGE)
        parts = {"state": "var/lib/kubeedge/edge", "run": "run", "pki": "etc/kubeedge/pki", "logs": "var/log/pods"}
        config = {
            "kind": "EdgeCore", "paths": {what: str(root / path) for what, path in parts.items()},
            "modules": {"appengine": {"cgroupPrefix": cgroup, "evictionHard": ["none"]}, **modules},
        }  # fmt: skip
        (root / "etc/kubeedge/kubeedge.yaml").write_text(json.dumps(config))
        where = ["--root-dir", str(root)]
        machine.run(*program, "join", "--name", name, "--token-file", "-", cloud, "--no-start", *where, input=token)
        agent = machine.spawn(*program, "edge", *where, log=root / "agent.log")
        yield
        machine.stop(agent, timeout=60)
    finally:
        machine.power_cut()
        cgroups.kill_and_remove(cgroup)
        shutil.rmtree(root, ignore_errors=True)


def kubeedge(cluster: KubernetesCluster, *arguments: str, user: Path | None = None, status: int = 0) -> str:
    """What the program said on both streams, with a kubeconfig, in the host of the control plane; its exit status has to be `status`."""
    command = [sys.executable, "-m", "kubeedge", *arguments, "--kube-config", str(user or cluster.kubeconfig())]
    shell = 'PYTHONPATH="$1:$1/src:$1/cloud"; export PYTHONPATH; shift; "$@" 2>&1; echo "status $?"'
    said = cluster.host.run("sh", "-c", shell, "sh", str(ROOT), *command, timeout=300)
    said, _, found = said.rpartition("status ")
    assert int(found) == status, said
    return said
