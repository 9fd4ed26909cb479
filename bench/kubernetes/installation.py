"""`kubeedge init` on a running cluster whose machine has the image: until the cloud side is Ready, and removed again."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Report
from tests.kit import cloud_image
from tests.kit.cluster import KubernetesCluster
from tests.kit.topology import Topology, until
from tests.kubernetes.vm import kubeedge, vm_node

_CONTROL, _VM = "203.0.113.10", "203.0.113.20"
_PODS = "10.99.1.0/24"  # on the machine
_VALUES = "expose.type=ClusterIP,store.persistence.enabled=false"  # there is neither a load balancer nor a provisioner


def measure(out: Report, rounds: int, say: Callable[[str], None] = print) -> None:
    """`rounds` times: nothing is left of one for the next."""
    with tempfile.TemporaryDirectory(prefix="kbinit") as made, Topology() as net:
        directory = Path(made)
        control, vm = net.host("control"), net.host("vm")
        net.wire(control, f"{_CONTROL}/24", vm, f"{_VM}/24")
        control.ip("route", "add", _PODS, "via", _VM)
        vm.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        options = {"kube-apiserver": ["--kubelet-certificate-authority="]}
        cluster = KubernetesCluster(control, directory / "kubernetes", address=_CONTROL, options=options)
        cluster.start()
        image = cloud_image.build(directory / "image")
        with vm_node(cluster, vm, _VM, directory / "vm", image):
            for _ in range(rounds):
                begun = time.monotonic()
                said = kubeedge(cluster, "init", "--advertise", _VM, "--set", _VALUES)
                taken = time.monotonic() - begun
                ready = re.search(r"Ready after (\S+) s", said)
                assert ready, said
                out.add("kubeedge init until Ready, the whole command", taken, unit="s", must=30, aim=10)
                out.add("kubeedge init, from the first object to Ready", float(ready[1]), unit="s")
                say(f"  init {taken:.1f} s, of which {ready[1]} s from the first object to Ready")
                kubeedge(cluster, "reset", "cloud", "--force", "--delete-data")
                until(lambda: not vm.running(b"kubeedge\0cloud\0"), timeout=60, what="the end of the cloud side")
