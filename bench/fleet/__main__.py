"""`make bench NAME=fleet`: one real cloud process, simulated nodes in another, two hosts, mutual TLS; both share the machine.

    python -m bench.fleet [--nodes 1000] [--storm 5000] [--rounds 5]

*Memory*: what the cloud process grows by when the nodes attach, divided by them. *Fan-out*: one ConfigMap that a pod on every node
mounts is changed through the Kubernetes API; until it is in each node's store. *Storm*: the cloud process is killed and started
again; until every node is attached and has caught up. The bounds of the two are ratios to the processor time of as many bare TLS
handshakes as there are nodes: that is the machine's part.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.demo.memory import pss
from bench.report import Report
from bench.yardstick import tls_handshake
from kubeedge.api import keys
from kubeedge.api.names import NodeName, NodeNumber, TenantId
from kubeedge.api.resources import CONFIGMAPS, PODS
from kubeedge.apiserver.registry import Registry
from kubeedge.pki.identity import NodeIdentity
from kubeedge.store.model import Put
from kubeedge.store.sqlite import open_sqlite
from kubeedge_cloud.authority import csr
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.tenants import model
from kubeedge_cloud.tenants.manager import TenantManager
from tests.kit.topology import Host, Topology, descendants, until

ROOT = Path(__file__).parents[2]
TENANT = TenantId("default")
ADDRESS = "203.0.113.1"
PLAN = model.AddressPlan("10.128.0.0/9", 24)
KUBECTL = str(ROOT / "build/debian/usr/bin/kubectl")


class Cloud:
    def __init__(self, host: Host, directory: Path) -> None:
        self.host, self.directory = host, directory
        self.config = directory / "cloud.yaml"
        self.config.write_text(
            json.dumps(
                {
                    "kind": "CloudCore",
                    "advertise": [ADDRESS],
                    "paths": {"state": f"{directory}/state", "run": f"{directory}/run"},
                    "addresses": {"pods": PLAN.pods, "nodeBits": PLAN.node_bits},
                    "tun": {"enable": False},
                    "nodeMonitorGracePeriod": 3600,
                    "logging": {"level": "warning"},
                }
            )
        )
        self.pid = 0

    def start(self) -> None:
        socket = self.directory / "run/cloud.sock"
        socket.unlink(missing_ok=True)
        self._process = self.host.spawn(
            sys.executable, "-m", "kubeedge", "cloud", "--config", str(self.config), log=self.directory / "cloud.log"
        )
        until(socket.exists, timeout=120, what="the cloud's socket")
        self.pid = descendants(self._process.pid)[0]

    def kill(self) -> None:
        self.host.signal(self._process, 9)
        self._process.wait()
        self.host._processes.remove(self._process)

    def status(self) -> dict[str, Any]:
        out = self.host.run(
            sys.executable, "-m", "kubeedge", "status", "-o", "json", "--socket", str(self.directory / "run/cloud.sock")
        )
        found: dict[str, Any] = json.loads(out)
        return found

    def kubectl(self, *argv: str) -> None:
        config = self.directory / "state/kubeconfig-default"
        self.host.run("env", f"HOME={self.directory}", KUBECTL, f"--kubeconfig={config}", *argv)


class Agents:
    def __init__(self, host: Host, directory: Path, nodes: list[str]) -> None:
        config = {"directory": str(directory / "nodes"), "endpoints": [f"{ADDRESS}:10000"], "nodes": nodes}
        config_file = directory / "agents.json"
        config_file.write_text(json.dumps(config))
        with open(directory / "agents.log", "ab") as log:
            self.process = subprocess.Popen(
                host.command(sys.executable, "-m", "tests.kit.agents", json.dumps({**config, "nodes": []}))
                if not nodes
                else host.command(sys.executable, "-c", _RUN, str(config_file)),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        host._processes.append(self.process)  # type: ignore[arg-type]

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the agents' process ended")
        found: dict[str, Any] = json.loads(line)
        return found


# the names of thousands of nodes are more than an argument may be long
_RUN = "import asyncio, json, sys; from tests.kit.agents import main; asyncio.run(main(json.load(open(sys.argv[1]))))"


async def prepare(directory: Path, names: list[str], with_pods: int) -> None:
    """Records, certificates and pods as joins and applies would have made them."""
    authority = Authority(directory / "state/pki")
    nodes = directory / "nodes"
    nodes.mkdir()
    (nodes / "ca.crt").write_bytes(authority.pem)
    store = await open_sqlite(directory / "state/cloud.db")
    try:
        tenant = await TenantManager(store, plan=PLAN).ensure_tenant(TENANT)
        puts: list[Put] = []
        for position, name in enumerate(names, 1):
            number = NodeNumber(position)
            record = model.NodeRecord(
                TENANT, NodeName(name), number, tenant.number, PLAN.address(number), PLAN.pod_cidr(number)
            )
            puts += (
                Put(model.node_key(TENANT, record.name), record.encode()),
                Put(keys.node_number(TENANT, number), name.encode()),
            )
            key = csr.new_key()
            certificate = authority.issue(key.public_key(), NodeIdentity(TENANT, record.name), client=True)
            (nodes / f"{name}.pem").write_bytes(certificate + csr.key_pem(key))
        for start in range(0, len(puts), 1000):
            await store.txn((), puts[start : start + 1000])
        registry = Registry(store, TENANT)
        await registry.create(CONFIGMAPS, "default", {"metadata": {"name": "shared"}, "data": {"round": "none"}})
        for start in range(0, with_pods, 200):
            await asyncio.gather(
                *(registry.create(PODS, "default", _pod(n)) for n in names[start : start + 200][: with_pods - start])
            )
    finally:
        await store.close()


def _pod(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"reader-{node}", "labels": {"app": "reader"}},
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "c", "image": "demo:1", "volumeMounts": [{"name": "v", "mountPath": "/etc/shared"}]}
            ],
            "volumes": [{"name": "v", "configMap": {"name": "shared"}}],
        },
    }


@contextlib.contextmanager
def stage(nodes: int, with_pods: int) -> Iterator[tuple[Cloud, Agents]]:
    directory = Path(tempfile.mkdtemp(prefix="kbfleet"))
    try:
        with Topology() as net:
            host, edge = net.host("cloud"), net.host("edges")
            net.wire(host, f"{ADDRESS}/24", edge, "203.0.113.2/24")
            host.ip("link", "set", "lo", "up")
            (directory / "state").mkdir()
            names = [f"n{number:05}" for number in range(1, nodes + 1)]
            asyncio.run(prepare(directory, names, with_pods))
            cloud = Cloud(host, directory)
            cloud.start()
            agents = Agents(edge, directory, names)
            try:
                yield cloud, agents
            except BaseException:
                sys.stderr.write((directory / "cloud.log").read_text()[-3000:])
                sys.stderr.write((directory / "agents.log").read_text()[-3000:])
                raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def settled(pid: int) -> float:
    """PSS in bytes once it does not grow any more."""
    last = 0.0
    for _ in range(40):
        now = pss(pid)
        if abs(now - last) < 512 * 1024:
            return now
        last = now
        time.sleep(1)
    return last


def percentile(times: list[float], share: float) -> float:
    times = sorted(times)
    return times[min(len(times) - 1, int(share * len(times)))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=fleet", description=__doc__)
    parser.add_argument("--nodes", type=int, default=int(os.environ.get("NODES", "1000")))
    parser.add_argument("--storm", type=int, default=int(os.environ.get("STORM", "5000")))
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "5")))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make bench NAME=fleet needs root: it makes network namespaces")
        return 1
    out = Report("fleet")
    handshake = statistics.median(tls_handshake() for _ in range(5))
    out.add("a bare TLS handshake, both ends", handshake * 1000, unit="ms")
    if options.nodes:
        with stage(options.nodes, options.nodes) as (cloud, agents):
            print(f"{options.nodes} nodes with a pod each", flush=True)
            agents.ask(attached=options.nodes)
            key = f"{keys.DESIRED}configmaps/default/shared"
            for round_ in range(options.rounds):
                agents.ask(forget=True)
                begun = time.monotonic()
                cloud.kubectl(
                    "patch", "configmap", "shared", "--type=merge", "-p", json.dumps({"data": {"round": str(round_)}})
                )
                accepted = time.monotonic()
                times = [t - begun for t in agents.ask(heard=key, count=options.nodes)["times"]]
                out.add("fan-out, kubectl's own time", accepted - begun, unit="s")
                out.add("fan-out of one change, p50", percentile(times, 0.5), unit="s")
                worst = percentile(times, 0.99)
                out.add("fan-out of one change, p99", worst, unit="s")
                bare = options.nodes * handshake
                out.add("fan-out of one change, p99 / bare TLS", worst / bare, unit="x", must=0.45, aim=0.125)
                print(f"  fan-out p50 {percentile(times, 0.5):.2f} s, p99 {percentile(times, 0.99):.2f} s", flush=True)
                time.sleep(1)
    if options.storm:
        with stage(options.storm, 0) as (cloud, agents):
            print(f"{options.storm} nodes attach", flush=True)
            begun = time.monotonic()
            agents.ask(attached=options.storm)
            out.add(f"{options.storm} nodes attach for the first time", time.monotonic() - begun, unit="s")
            full = settled(cloud.pid)
            for _ in range(min(2, options.rounds)):
                revision = cloud.status()["revision"]
                cloud.kill()
                cloud.start()
                empty = pss(cloud.pid)
                begun = time.monotonic()
                times = [t - begun for t in agents.ask(in_sync=options.storm, beyond=revision)["times"]]
                out.add(f"{options.storm} nodes reconnect at once, all in sync", max(times), unit="s")
                bare = options.storm * handshake
                out.add("reconnect at once / bare TLS", max(times) / bare, unit="x", must=5, aim=1.25)
                print(f"  all back after {max(times):.1f} s", flush=True)
                full = settled(cloud.pid)
                each = (full - empty) / options.storm / 1000
                out.add("memory of an attached idle node", each, unit="kB", must=100, aim=40)
                print(f"  {empty / 1e6:.0f} -> {full / 1e6:.0f} MB", flush=True)
    return 0 if out.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
