"""`make bench NAME=kubernetes`: a real API server, one cloud process, simulated edge nodes; all of them share the machine.

    python -m bench.kubernetes [--nodes 1000] [--pods 10000] [--binds 100] [--rounds 5] [--only fleet|edge|init]

*Idle*: requests a second at the API server that come from the cloud, without those for leases, by the API server's own counters.
*Memory* of the cloud process with everything cached. *Bind*: from the API's answer to a pod with its node, to the node's store.
*Identity*: what a request by impersonation costs more than one with the cloud's own identity, and what a connection of its own for each node
would cost (docs/adr/0038). With a real agent (edge.py): from the bind to the process, near and through a long path; copies (copies.py) on three
paths. `kubeedge init` on a running cluster (installation.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.demo.memory import pss
from bench.fleet.__main__ import ADDRESS, PLAN, Agents, percentile, prepare, settled
from bench.kubernetes import edge, installation
from bench.kubernetes.copies import processor_time
from bench.report import Report
from kubeedge.api import keys
from kubeedge.api.names import NodeName
from kubeedge.api.resources import NODES, PODS
from kubeedge.errors import Conflict
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.credentials import Credentials
from kubeedge_cloud.clusters.transport import ClusterTransport
from tests.kit.cluster import KubernetesCluster, rights
from tests.kit.topology import Host, Topology, descendants, inside, until

PARTS = ("init", "edge", "fleet")
_IDLE = 60.0  # seconds
_STATUS = {
    "capacity": {"cpu": "4", "memory": "4Gi", "pods": "110"},
    "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"},
    "nodeInfo": {"operatingSystem": "linux", "architecture": "arm64", "kubeletVersion": "v1.32.0"},
}  # of a node that reports no more than it must


class Cloud:
    """The cloud process on the fleet's state, with the cluster for its tenant."""

    def __init__(self, host: Host, directory: Path, kubeconfig: Path) -> None:
        config = directory / "cloud.yaml"
        config.write_text(
            f"kind: CloudCore\nadvertise: [{ADDRESS}]\ntenants: ['default={kubeconfig}']\n"
            f"paths: {{state: {directory}/state, run: {directory}/run}}\ntun: {{enable: false}}\n"
            f"addresses: {{pods: {PLAN.pods}, nodeBits: {PLAN.node_bits}}}\nlisteners: {{api: {{port: 7443}}}}\n"
            "logging: {level: warning}\n"
        )
        self._process = host.spawn(
            sys.executable, "-m", "kubeedge", "cloud", "--config", str(config), log=directory / "cloud.log"
        )
        until((directory / "run/cloud.sock").exists, timeout=300, what="the cloud's socket")
        self.pid = descendants(self._process.pid)[0]


def pod(name: str, node: str) -> dict[str, Any]:
    container = {"name": "c", "image": "demo:1", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
    spec = {"nodeName": node, "automountServiceAccountToken": False, "containers": [container]}
    return {"metadata": {"name": name, "labels": {"app": "load"}}, "spec": spec}


async def all_at_once(todo: list[Any], most: int = 16) -> None:
    """Coroutines, so many at a time."""
    turns = asyncio.Semaphore(most)

    async def one(work: Any) -> None:
        async with turns:
            await work

    await asyncio.gather(*(one(work) for work in todo))


def with_client(cluster: KubernetesCluster, work: Any) -> Any:
    """Runs work(client) in the host of the control plane, as an administrator."""

    async def whole() -> Any:
        transport = ClusterTransport(Credentials(str(cluster.kubeconfig())))
        try:
            return await work(RemoteClient(transport))
        finally:
            await transport.close()

    return inside(cluster.host, lambda: asyncio.run(whole()))


def requests(cluster: KubernetesCluster) -> dict[str, float]:
    """Completed requests by resource, of everybody, from the API server's metrics."""
    found: dict[str, float] = {}
    for line in cluster.kubectl("get", "--raw", "/metrics", timeout=120).splitlines():
        if line.startswith("apiserver_request_total{"):
            resource = re.search(r'resource="([^"]*)"', line)
            verb = re.search(r'verb="([^"]*)"', line)
            key = f"{verb[1] if verb else ''} {resource[1] if resource else ''}"
            found[key] = found.get(key, 0) + float(line.rsplit(" ", 1)[1])
    return found


#: the controllers' clients make 20 requests a second by default: so many nodes get their addresses
_UNHURRIED = {"kube-controller-manager": ["--kube-api-qps=200", "--kube-api-burst=400"]}


@contextmanager
def stage(
    nodes: int, options: dict[str, list[str]] | None = None
) -> Iterator[tuple[KubernetesCluster, Path, Host, list[str]]]:
    """Control plane and edges in hosts of their own; records and certificates as joins would have made them."""
    directory = Path(tempfile.mkdtemp(prefix="kbk8s"))
    names = [f"n{number:05}" for number in range(1, nodes + 1)]
    try:
        with Topology() as net:
            host, edges = net.host("cloud"), net.host("edges")
            net.wire(host, f"{ADDRESS}/24", edges, "203.0.113.2/24")
            (directory / "state").mkdir()
            asyncio.run(prepare(directory, names, 0))
            cluster = KubernetesCluster(
                host, directory / "kubernetes", address=ADDRESS, pods=PLAN.pods, options=options
            )
            cluster.start()
            cluster.apply(*rights.objects())
            yield cluster, directory, edges, names
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def identity_cost(client: RemoteClient, nodes: list[str], out: Report) -> None:
    """The same request by turns, so that the machine's load is everybody's."""
    plain: list[float] = []
    asked: list[float] = []
    for n in range(400):
        node = NodeName(nodes[n % len(nodes)])
        for who, times in ((client, plain), (client.as_node(node), asked)):
            begun = time.perf_counter()
            await who.get(NODES, "", node)
            times.append((time.perf_counter() - begun) * 1000)
    out.add("GET of a Node, own identity, p50", statistics.median(plain), unit="ms")
    out.add("GET of a Node, impersonated, p50", statistics.median(asked), unit="ms")
    print(f"  GET p50 {statistics.median(plain):.2f} ms, impersonated {statistics.median(asked):.2f} ms", flush=True)


def certificate_cost(cluster: KubernetesCluster, out: Report, count: int = 50) -> None:
    """A client certificate for each node means a connection for each node: its time, and memory at both ends."""
    files = [cluster.kubeconfig(f"system:node:x{n}", ["system:nodes"]) for n in range(count)]
    server = next(iter(cluster.host.running(b"kube-apiserver\0--advertise")))

    async def whole() -> tuple[float, float, float]:
        credentials = [Credentials(str(file)) for file in files]
        for each in credentials:
            await each.current()
        ways = [ClusterTransport(each) for each in credentials]
        ours, theirs = pss(os.getpid()), pss(server)
        begun = time.perf_counter()
        for way in ways:
            try:
                await way.request("GET", "/api/v1/nodes/none")
            except Exception:
                pass
        took = (time.perf_counter() - begun) / count * 1000
        grown = (pss(os.getpid()) - ours) / count / 1000, (pss(server) - theirs) / count / 1000
        for way in ways:
            await way.close()
        return took, *grown

    took, ours_kb, theirs_kb = inside(cluster.host, lambda: asyncio.run(whole()))
    out.add("first request of a node with a certificate of its own", took, unit="ms")
    out.add("memory of its connection, our side", ours_kb, unit="kB")
    out.add("memory of its connection, API server", theirs_kb, unit="kB")
    print(f"  certificate: {took:.1f} ms, {ours_kb:.0f} kB here, {theirs_kb:.0f} kB there", flush=True)


def main() -> int:
    """0 when no figure misses its `must`."""
    parser = argparse.ArgumentParser(prog="make bench NAME=kubernetes", description=__doc__)
    parser.add_argument("--nodes", type=int, default=int(os.environ.get("NODES", "1000")))
    parser.add_argument("--pods", type=int, default=int(os.environ.get("PODS", "10000")))
    parser.add_argument("--binds", type=int, default=int(os.environ.get("BINDS", "100")))
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "5")))
    parser.add_argument("--only", choices=PARTS, default="")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make bench NAME=kubernetes needs root: it makes network namespaces")
        return 1
    out = Report(f"kubernetes-{options.only}" if options.only else "kubernetes")
    out.add("load average of the machine before", os.getloadavg()[0], unit="")
    parts = [options.only] if options.only else PARTS
    if "init" in parts:
        installation.measure(out, options.rounds)
    if "edge" in parts:
        edge.measure(out, options.binds, options.rounds)
    if "fleet" in parts:
        fleet_figures(out, options)
    return 0 if out.finish() else 1


def attach(
    out: Report, site: tuple[KubernetesCluster, Path, Host, list[str]], what: str, must: float | None = None
) -> tuple[Cloud, Agents]:
    """All nodes at once, for the first time: each gets its Node, its addresses and its Lease."""
    cluster, directory, edges, names = site
    cloud = Cloud(cluster.host, directory, cluster.kubeconfig(rights.ACCOUNT, ()))
    print(f"{len(names)} nodes attach; pss of the empty cloud {pss(cloud.pid) / 1e6:.0f} MB", flush=True)
    processes = {name: cluster.host.running(words)[-1] for name, words in _PARTS.items()} | {"cloud": cloud.pid}
    begun, before = time.monotonic(), requests(cluster)
    spent = {name: -processor_time(pid) for name, pid in processes.items()}
    agents = Agents(edges, directory, names)
    agents.ask(report="nodes/_/{node}", value=json.dumps({"status": _STATUS}))  # what an agent does first
    agents.ask(attached=len(names))
    print(f"  attached after {time.monotonic() - begun:.0f} s", flush=True)

    def ready() -> bool:
        return cluster.kubectl("get", "nodes", "--no-headers", timeout=120).count(" Ready ") == len(names)

    until(ready, timeout=900, what="all Ready", interval=3)
    out.add(what, time.monotonic() - begun, unit="s", must=must)
    spent = {name: seconds + processor_time(processes[name]) for name, seconds in spent.items()}
    spent["simulated nodes"] = processor_time(descendants(agents.process.pid)[0])
    for name, seconds in spent.items():
        out.add(f"{what}: processor of {name}", seconds, unit="s")
    after = requests(cluster)
    each = {key: round((n - before.get(key, 0)) / len(names), 2) for key, n in sorted(after.items())}
    print(f"  all Ready after {time.monotonic() - begun:.0f} s; requests a node: { {k: n for k, n in each.items() if n >= 0.1} }", flush=True)  # fmt: skip
    print(f"  processor, s: { {name: round(seconds, 1) for name, seconds in spent.items()} }", flush=True)
    return cloud, agents


def fleet_figures(out: Report, options: argparse.Namespace) -> None:
    """With simulated edges."""
    what = f"{options.nodes} nodes, first attach to Ready"
    with stage(options.nodes, _UNHURRIED) as site:
        attach(out, site, f"{what}, controllers at 200 requests a second", must=60)
    with stage(options.nodes) as site:
        cluster, _, _, names = site
        cloud, agents = attach(out, site, what)

        async def load(client: RemoteClient) -> None:
            async def one(n: int) -> None:
                try:
                    await client.create(PODS, "default", pod(f"load-{n}", names[n % len(names)]))
                except Conflict:
                    return

            await all_at_once([one(n) for n in range(options.pods)])

        begun = time.monotonic()
        with_client(cluster, load)
        print(f"  {options.pods} pods made in {time.monotonic() - begun:.0f} s", flush=True)
        out.add("cloud process, PSS", settled(cloud.pid) / 1e6, unit="MB", must=600, aim=350)
        print(f"  cloud {pss(cloud.pid) / 1e6:.0f} MB", flush=True)
        before, since = requests(cluster), time.monotonic()
        time.sleep(_IDLE)
        after, seconds = requests(cluster), time.monotonic() - since
        rates = {key: (after[key] - before.get(key, 0)) / seconds for key in after if after[key] != before.get(key, 0)}
        leases = sum(rate for key, rate in rates.items() if key.endswith(" leases"))
        ours = sum(r for key, r in rates.items() if key.split(" ")[1] in _OURS)
        out.add("lease requests a second, all", leases, unit="/s")
        out.add("requests a second beyond leases, a node", ours / options.nodes, unit="/s", must=0.05, aim=0.01)
        print(
            f"  leases {leases:.1f}/s, others {ours:.2f}/s: { {k: round(v, 2) for k, v in sorted(rates.items())} }",
            flush=True,
        )
        times = []

        async def bind(client: RemoteClient, n: int) -> None:
            await client.create(PODS, "default", pod(f"bind-{n}", names[n % len(names)]))

        for n in range(options.binds):
            agents.ask(forget=True)
            begun = time.monotonic()
            with_client(cluster, lambda client, n=n: bind(client, n))
            answered = time.monotonic()
            found = agents.ask(heard=f"{keys.DESIRED}pods/default/bind-{n}", count=1)["times"]
            times.append(max(0.0, found[0] - answered))
            del begun
        out.add("bound in the API to the node's store, p50", percentile(times, 0.5), unit="s")
        out.add("bound in the API to the node's store, p99", percentile(times, 0.99), unit="s")
        print(
            f"  bind p50 {percentile(times, 0.5) * 1000:.1f} ms, p99 {percentile(times, 0.99) * 1000:.1f} ms",
            flush=True,
        )
        with_client(cluster, lambda client: identity_cost(client, names, out))
        certificate_cost(cluster, out)


#: words of their command lines
_PARTS = {
    "API server": b"kube-apiserver\0--advertise",
    "etcd": b"etcd\0--name",
    "controllers": b"kube-controller-manager\0",
}
#: resources that the cloud asks for; the rest is the control plane's own business
_OURS = {"nodes", "pods", "services", "events", "configmaps", "secrets"}

if __name__ == "__main__":
    sys.exit(main())
