"""Figures with a real agent: from a bind in the API to the first action of the pod's process, near and behind a long, lossy path."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fleet.__main__ import percentile
from bench.kubernetes import paths
from bench.kubernetes.copies import Copies
from bench.report import Report
from kubeedge.api.resources import PODS
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.credentials import Credentials
from kubeedge_cloud.clusters.transport import ClusterTransport
from tests.kit.cluster.site import IMAGE, Site, kubernetes_site
from tests.kit.topology import Topology, inside
from tests.kit.wire import Conditions

RTT = 0.1  # seconds
#: the queue has room for what the path holds, twice
SLOW = Conditions(rate=100e6, delay=0.010, queue=500_000)
BOUNDS = {"must": 0.3, "aim": 0.6}  # of a copy on a path that limits it


def _pod(name: str, out: Path) -> dict[str, Any]:
    """Its first action is a file, whose time the kernel notes."""
    container = {
        "name": "c", "image": IMAGE, "command": ["sh", "-c", f": > /out/{name}; exec sleep 100000"],
        "volumeMounts": [{"name": "out", "mountPath": "/out"}],
    }  # fmt: skip
    spec = {
        "nodeName": "edge1", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
        "enableServiceLinks": False, "containers": [container],
        "volumes": [{"name": "out", "hostPath": {"path": str(out)}}],
    }  # fmt: skip
    return {"metadata": {"name": name, "labels": {"app": "bind"}}, "spec": spec}


def binds(site: Site, count: int, prefix: str) -> list[float]:
    """Seconds from the API's answer to a pod with its node until its process runs, one after another."""
    out = site.directory / f"out-{prefix}"
    out.mkdir()

    async def whole() -> list[float]:
        transport = ClusterTransport(Credentials(str(site.cluster.kubeconfig())))
        client, times = RemoteClient(transport), []
        try:
            for n in range(count):
                file = out / f"{prefix}-{n}"
                await client.create(PODS, "default", _pod(file.name, out))
                bound = time.time()
                async with asyncio.timeout(120):
                    while not file.exists():
                        await asyncio.sleep(0.002)
                times.append(max(0.0, file.stat().st_mtime_ns / 1e9 - bound))
                await client.delete(PODS, "default", file.name, grace_period=0)
        finally:
            await transport.close()
        return times

    return inside(site.cluster.host, lambda: asyncio.run(whole()))


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def measure(out: Report, count: int, rounds: int, say: Callable[[str], None] = print) -> None:
    """`count` pods near, and as many through the long path; `rounds` copies in each direction on each path."""
    with Topology() as net, kubernetes_site(f"kbb{os.getpid()}", 1) as site:
        site.start_cluster()
        site.start_cloud([f"default={site.kubeconfig()}"])
        site.join("edge1")
        site.cluster.kubectl("wait", "--for=condition=Ready", "node/edge1", "--timeout=120s", timeout=150)
        binds(site, 3, "warm")
        near = binds(site, count, "near")
        out.add("bound in the API to the process running, p50", percentile(near, 0.5), unit="s", must=0.6, aim=0.3)
        out.add("bound in the API to the process running, p99", percentile(near, 0.99), unit="s", must=1.5, aim=0.8)
        say(f"  bind to process p50 {percentile(near, 0.5):.3f} s, p99 {percentile(near, 0.99):.3f} s")
        _copy(net, site, out, rounds, say)
        paths.change(net, site.edges["edge1"], site.nats["edge1"], Conditions(delay=RTT / 2, loss=0.01))
        binds(site, 3, "warm-far")
        far = binds(site, count, "far")
        more = (percentile(far, 0.5) - percentile(near, 0.5)) / RTT
        out.add("the same through 100 ms RTT and 1 % loss, p50", percentile(far, 0.5), unit="s")
        out.add("the same through 100 ms RTT and 1 % loss, p99", percentile(far, 0.99), unit="s")
        out.add("what the long path adds at p50", more, unit="RTT", must=3, aim=2)
        say(f"  long path p50 {percentile(far, 0.5):.3f} s, p99 {percentile(far, 0.99):.3f} s: + {more:.1f} RTT")


def _copy(net: Topology, site: Site, out: Report, rounds: int, say: Callable[[str], None]) -> None:
    """Where the processors are the limit, and where the path is."""
    edge, nat = site.edges["edge1"], site.nats["edge1"]
    copies = Copies(site, _pod("box", _made(site.directory / "out-box")), out, say)
    copies.keys()

    def both(path: str, bounds: dict[str, float] | None = None) -> None:
        for _ in range(rounds):
            copies.copy(path, "to the pod", bounds=bounds)
            copies.copy(path, "from the pod", bounds=bounds)

    both("bare veth")
    paths.limit(edge, nat, "1gbit")
    both("1 Gbit/s", BOUNDS)
    paths.change(net, edge, nat, SLOW)
    both("100 Mbit/s, 20 ms RTT", BOUNDS)
