"""A machine of the cluster with our image on it, for tests of what runs in the cluster itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeedge.appengine.runtime import cgroups
from tests.kit.cluster import KubernetesCluster
from tests.kit.topology import Host, until

ROOT = Path(__file__).parents[2]


@contextmanager
def vm_node(
    cluster: KubernetesCluster, host: Host, address: str, directory: Path, archive: Path, name: str = "vm1"
) -> Iterator[Host]:
    """`host`, which has that address, as the node `name` of the cluster, with the image of `archive`. Its pods are in 10.99.1.0/24."""
    preload = directory / "state/images/preload"
    preload.mkdir(parents=True)
    (preload / archive.name).symlink_to(archive)
    cgroup = f"kb-vm{os.getpid()}"
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
        "pod_cidr": "10.99.1.0/24", "kubelet": kubelet,
    }  # fmt: skip
    log = directory / "vm.log"
    host.spawn("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.kit.vm_node", json.dumps(config), log=log)
    try:
        until(lambda: b"ready" in log.read_bytes().split(b"\n"), timeout=120, what=f"node {name}: {log}")
        yield host
    finally:
        host.power_cut()
        cgroups.kill_and_remove(cgroup)
