"""Figures with a real agent: from a bind in the API to the first action of the pod's process, near and behind a long, lossy path."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fleet.__main__ import percentile
from bench.report import Report
from bench.streams.__main__ import bare_client, bare_server
from kubeedge.api.resources import PODS
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.credentials import Credentials
from kubeedge_cloud.clusters.transport import ClusterTransport
from tests.kit.cluster.site import ADDRESS, IMAGE, Site, kubernetes_site
from tests.kit.topology import Host, Topology, inside, until
from tests.kit.upstream import build
from tests.kit.wire import Conditions, LossyWire

RTT = 0.1  # seconds


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


def long_path(net: Topology, edge: Host, nat: Host) -> None:
    """Another uplink instead of the one that it has: 50 ms and 1 % loss in each direction. Returns when channel and links are there."""
    LossyWire(net, edge, "192.168.91.2/24", nat, "192.168.91.1/24", Conditions(delay=RTT / 2, loss=0.01), fast=True)
    nat.masquerade("192.168.91.0/24")
    (near,) = {line.split()[1] for line in edge.ip("-o", "-4", "addr").splitlines() if " 192.168.1.2/" in line}
    edge.ip("link", "set", near, "down")
    edge.ip("route", "add", "default", "via", "192.168.91.1")

    def moved() -> bool:
        found = edge.run("ss", "-Htn", "state", "established", "src", "192.168.91.2")
        return all(f":{port}" in found for port in (10000, 10010))

    until(moved, timeout=120, what="channel and links on the long path", interval=0.2)


def processor_time(pid: int) -> float:
    """Seconds of that process and its threads so far; proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def streams(site: Site, out: Report, say: Callable[[str], None], megabytes: int = 100) -> None:
    """kubectl, through the API server, the node's port and KubeBus: one key, and a large copy with the time of each process on the way."""
    kubectl = [str(build.program("kubectl")), f"--kubeconfig={site.cluster.kubeconfig()}"]
    site.cluster.apply({"apiVersion": "v1", "kind": "Pod", **_pod("box", _made(site.directory / "out-box"))})
    site.cluster.kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=60s", timeout=90)
    command = site.cloud.command("env", f"HOME={site.directory}", *kubectl, "exec", "-i", "box", "--", "cat")
    keys = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as shell:
        assert shell.stdin is not None and shell.stdout is not None
        for _ in range(220):
            begun = time.perf_counter()
            shell.stdin.write(b"k")
            assert shell.stdout.read(1) == b"k"
            keys.append((time.perf_counter() - begun) * 1e3)
        shell.stdin.close()
    out.add("kubectl exec, round trip of one key, p50", percentile(keys[20:], 0.5), unit="ms", must=10, aim=4)
    file = site.directory / "large"
    file.write_bytes(b"0123456789abcdef" * (megabytes * 62500))
    site.cloud.spawn(sys.executable, "-c", bare_server(ADDRESS))
    bare = float(site.edges["edge1"].run(sys.executable, "-c", _patient(bare_client(ADDRESS)), str(file), timeout=300))
    found = {
        "API server": site.cloud.running(b"kube-apiserver\0--advertise"),
        "cloud": site.cloud.running(b"kubeedge\0cloud\0"),
        "agent": site.edges["edge1"].running(b"kubeedge\0edge\0"),
    }
    processes = {name: pids[-1] for name, pids in found.items()}
    before, begun = {name: processor_time(pid) for name, pid in processes.items()}, time.perf_counter()
    own = os.times()
    site.cloud.run("env", f"HOME={site.directory}", *kubectl, "cp", str(file), "box:/tmp/large", timeout=600)
    taken, done = time.perf_counter() - begun, os.times()
    spent = {name: processor_time(pid) - before[name] for name, pid in processes.items()}
    spent["kubectl"] = done.children_user + done.children_system - own.children_user - own.children_system
    out.add("kubectl cp of 100 MB on a bare veth", megabytes / taken, unit="MB/s", higher=True)
    out.add("the same, of bare TCP there", bare / taken, unit="x", higher=True)
    for name, seconds in spent.items():
        out.add(f"processor time of that copy: {name}", seconds, unit="s")
    say(f"  key {percentile(keys[20:], 0.5):.2f} ms; cp {taken:.2f} s, bare {bare:.3f} s; processor { {k: round(v, 2) for k, v in spent.items()} }")  # fmt: skip


def _patient(program: str) -> str:
    """The server may need a moment."""
    connect = "socket.create_connection"
    retry = f"def patient(a):\n    for _ in range(200):\n        try: return {connect}(a)\n        except OSError: time.sleep(0.05)\n"
    return program.replace(f"c = {connect}", f"{retry}c = patient")


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def measure(out: Report, count: int, before: Callable[[str], None] = print) -> None:
    """`count` pods near, and as many through the long path."""
    with Topology() as net, kubernetes_site(f"kbb{os.getpid()}", 1) as site:
        site.start_cluster()
        site.start_cloud([f"default={site.kubeconfig()}"])
        site.join("edge1")
        site.cluster.kubectl("wait", "--for=condition=Ready", "node/edge1", "--timeout=120s", timeout=150)
        binds(site, 3, "warm")
        near = binds(site, count, "near")
        out.add("bound in the API to the process running, p50", percentile(near, 0.5), unit="s", must=0.6, aim=0.3)
        out.add("bound in the API to the process running, p99", percentile(near, 0.99), unit="s", must=1.5, aim=0.8)
        before(f"  bind to process p50 {percentile(near, 0.5):.3f} s, p99 {percentile(near, 0.99):.3f} s")
        streams(site, out, before)
        long_path(net, site.edges["edge1"], site.nats["edge1"])
        binds(site, 3, "warm-far")
        far = binds(site, count, "far")
        more = (percentile(far, 0.5) - percentile(near, 0.5)) / RTT
        out.add("the same through 100 ms RTT and 1 % loss, p50", percentile(far, 0.5), unit="s")
        out.add("the same through 100 ms RTT and 1 % loss, p99", percentile(far, 0.99), unit="s")
        out.add("what the long path adds at p50", more, unit="RTT", must=3, aim=2)
        before(f"  long path p50 {percentile(far, 0.5):.3f} s, p99 {percentile(far, 0.99):.3f} s: + {more:.1f} RTT")
