"""The nodes that specs run on, as a variant has them: the agents' container runtime, and the line between them and the cloud.

An agent has everything switched on that a kubelet, kube-proxy and CoreDNS do on a node. Between the cluster's machine, which is the cloud's, and the
nodes there is no other network than KubeBus; on that machine runs kube-proxy, as on any that routes for a cluster (docs/guide/router.md).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.conformance import archives
from tests.kit import containerd
from tests.kit.cluster.site import ADDRESS, Site
from tests.kit.upstream import build
from tests.kit.wire import Conditions, LossyWire

RUNTIMES = ("embedded", "cri")
LINES = ("good", "bad")
FAMILIES = ("ipv4", "dual")
_PODS, _SERVICES, _PODS_IPV6, _SERVICES_IPV6 = "10.244.0.0/16", "10.96.0.0/16", "fd00:10:244::/48", "fd00:10:96::/112"
_BAD = Conditions(delay=0.05, loss=0.01)  # 100 ms there and back, one packet of a hundred is lost
#: Services of all namespaces, as kube-proxy has them
_ALL = "kubeedge.io/mesh-namespaces=*"


@dataclass(frozen=True, slots=True)
class Variant:
    """`runtime` is one of RUNTIMES, `line` of LINES, `families` of FAMILIES: what the cluster has, and its pods."""

    runtime: str = "embedded"
    line: str = "good"
    families: str = "ipv4"

    @property
    def name(self) -> str:
        """Of its results; "" of those that count as ours."""
        return "-".join(
            [
                *([self.runtime] * (self.runtime != "embedded")),
                *(["bad-line"] * (self.line == "bad")),
                *([self.families] * (self.families != "ipv4")),
            ]
        )


def start(site: Site, variant: Variant, kinds: Collection[str] = archives.NAMES) -> None:
    """Everything, until all nodes are Ready, with images of these kinds."""
    site.directory.chmod(0o711)  # users of a pod's own pass through it to their root, as they do through /run
    pods, services, more = _PODS, _SERVICES, {}
    if variant.families == "dual":
        pods, services = f"{_PODS},{_PODS_IPV6}", f"{_SERVICES},{_SERVICES_IPV6}"
        more = {"addresses": {"podsIpv6": _PODS_IPV6}}
    site.start_cluster(pods=pods, services=services)
    site.start_cloud([f"default={site.kubeconfig()}"], more=more)
    _start_proxy(site, pods)
    if variant.line == "bad":
        _worsen(site)
    made = archives.write(site.directory / "archives", kinds)
    for name in site.edges:
        _preload(site.directory / name, made)
        modules: dict[str, dict[str, Any]] = {
            "mesh": {"enable": True},
            "metaserver": {"enable": False},  # pods have the cluster's API, and trust no other
            "appengine": {"images": {"gcHighPercent": 100}},
        }
        env = {}
        if variant.runtime == "cri":
            modules["appengine"] |= {
                "runtime": "cri",
                "cri": {"endpoint": f"unix://{containerd.SOCKET}", "cniConfDir": str(containerd.NETWORKS)},
            }
            env = _start_containerd(site, name)
        site.join(name, modules=modules, env=env)
    for name in site.edges:
        site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=300s", timeout=330)
        site.cluster.kubectl("annotate", "node", name, _ALL)


def _start_proxy(site: Site, pods: str) -> None:
    """For node ports and cluster IPs on the machine of the cluster."""
    kubeconfig = site.cluster.kubeconfig("system:kube-proxy", ())
    site.cloud.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    site.cloud.spawn(
        str(build.program("kube-proxy")), f"--kubeconfig={kubeconfig}", "--proxy-mode=nftables", "--hostname-override=cloud",
        f"--bind-address={ADDRESS}", f"--nodeport-addresses={ADDRESS}/32", f"--cluster-cidr={pods}",
        "--conntrack-max-per-core=0", "--healthz-bind-address=127.0.0.1:10256", log=site.directory / "kube-proxy.log",
    )  # fmt: skip


def _worsen(site: Site) -> None:
    """Each edge has another way to its router, which is its default route."""
    for n, (name, edge) in enumerate(site.edges.items(), 1):
        nat = site.nats[name]
        LossyWire(site.net, edge, f"10.9.{n}.2/24", nat, f"10.9.{n}.1/24", _BAD, seed=n, fast=True)
        edge.ip("route", "replace", "default", "via", f"10.9.{n}.1")
        nat.masquerade(f"10.9.{n}.0/24")


def _preload(root: Path, made: list[Path]) -> None:
    preload = root / "var/lib/kubeedge/edge/images/preload"
    preload.mkdir(parents=True)
    for archive in made:
        (preload / archive.name).hardlink_to(archive)


def _start_containerd(site: Site, name: str) -> dict[str, str]:
    """Release 2 of the Go module; the environment of an agent beside it, which finds `ctr` there."""
    root = site.directory / name
    programs = containerd.newest(root / "bin")
    containerd.start(site.edges[name], root / "containerd", programs)
    return {"PATH": f"{programs}:{os.environ['PATH']}"}
