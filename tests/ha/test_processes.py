"""Several real cloud processes over one real etcd: nodes attach to any of them, and none is missed when it dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.api.keys import LEADERS, PROCESSES
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import CONFIGMAPS, PODS
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import Unavailable
from kubeedge.pki.identity import NodeIdentity
from kubeedge_cloud.authority import csr
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.etcd.members import EtcdMembers, rpc
from kubeedge_cloud.etcd.store import EtcdStore, open_etcd
from kubeedge_cloud.tenants.manager import TenantManager
from tests.kit import log_tails
from tests.kit.etcd import EtcdCluster
from tests.kit.ports import ADDRESS, ports
from tests.kit.topology import DEFAULT_TIMEOUT, _die_with_parent, until

ROOT = Path(__file__).parents[2]
TENANT = TenantId("default")
NODES = [f"n{number:02}" for number in range(24)]
SHARED = f"{keys.DESIRED}configmaps/default/shared"


class CloudProcess:
    """`kubeedge cloud` on loopback, with ports of its own."""

    def __init__(self, directory: Path, cluster: EtcdCluster, authority: Path) -> None:
        self.directory = directory
        (directory / "state/pki").mkdir(parents=True)
        for name in ("ca.crt", "ca.key"):  # as an administrator shares them between the machines
            (directory / "state/pki" / name).write_bytes((authority / name).read_bytes())
            (directory / "state/pki" / name).chmod(0o600)
        self.hub_port, api = ports(2)
        off = {"enable": False, "port": 0}
        (directory / "cloud.yaml").write_text(
            json.dumps(
                {
                    "kind": "CloudCore",
                    "advertise": [ADDRESS],
                    "paths": {"state": f"{directory}/state", "run": f"{directory}/run"},
                    "listeners": {
                        "hub": {"address": ADDRESS, "port": self.hub_port}, "api": {"address": ADDRESS, "port": api},
                        "relay": off, "web": off, "bootstrap": off, "metrics": off,
                    },
                    "tun": {"enable": False},
                    "store": {"etcd": {
                        "endpoints": cluster.endpoints, "ca": str(cluster.client.ca),
                        "cert": str(cluster.client.cert), "key": str(cluster.client.key),
                    }},
                }
            )
        )  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.directory / "run/cloud.sock").unlink(missing_ok=True)
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kubeedge", "cloud", "--config", str(self.directory / "cloud.yaml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent,
            )  # fmt: skip
        log_tails.keep(self.directory / "log", self.process)

    def wait(self) -> None:
        until((self.directory / "run/cloud.sock").exists, what=f"the cloud process {self.directory.name}")

    def end(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)
        self.process.wait(timeout=DEFAULT_TIMEOUT)
        self.process = None


class Site:
    def __init__(self, directory: Path, cluster: EtcdCluster) -> None:
        self.cluster = cluster
        self.nodes = directory / "nodes"
        self.nodes.mkdir()
        authority = Authority(directory / "pki")
        (self.nodes / "ca.crt").write_bytes(authority.pem)
        for name in NODES:
            key = csr.new_key()
            certificate = authority.issue(key.public_key(), NodeIdentity(TENANT, NodeName(name)), client=True)
            (self.nodes / f"{name}.pem").write_bytes(certificate + csr.key_pem(key))
        self.processes = [CloudProcess(directory / f"cloud{n}", cluster, directory / "pki") for n in range(3)]
        self.agents: subprocess.Popen[str] | None = None

    async def prepare(self, store: EtcdStore) -> None:
        tenants = TenantManager(store)
        await tenants.ensure_tenant(TENANT)
        registry = Registry(store, TENANT)
        await registry.create(CONFIGMAPS, "default", {"metadata": {"name": "shared"}, "data": {"n": "-1"}})
        for name in NODES:
            await tenants.ensure_node(TENANT, name)
            await registry.create(PODS, "default", _pod(name))

    def start_agents(self, log: Path) -> None:
        config = {
            "directory": str(self.nodes), "nodes": NODES,
            "endpoints": [f"{ADDRESS}:{p.hub_port}" for p in self.processes],
        }  # fmt: skip
        with open(log, "ab") as out:
            self.agents = subprocess.Popen(
                [sys.executable, "-m", "tests.kit.agents", json.dumps(config)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True, preexec_fn=_die_with_parent,
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        log_tails.keep(log, self.agents)

    def ask(self, **command: Any) -> Any:
        assert self.agents and self.agents.stdin and self.agents.stdout
        self.agents.stdin.write(json.dumps(command) + "\n")
        self.agents.stdin.flush()
        return json.loads(self.agents.stdout.readline())

    def close(self) -> None:
        for process in self.processes:
            if process.process:
                process.end(signal.SIGKILL)
        if self.agents:
            self.agents.kill()
            self.agents.wait()
            for pipe in (self.agents.stdin, self.agents.stdout):
                assert pipe
                pipe.close()


def _pod(node: str) -> dict[str, Any]:
    volume = {"name": "v", "configMap": {"name": "shared"}}
    container = {"name": "c", "image": "demo:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    spec = {"nodeName": node, "containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"reader-{node}"}, "spec": spec}


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with EtcdCluster(tmp_path / "etcd", **getattr(request, "param", {})) as cluster:
        site = Site(tmp_path, cluster)
        try:
            yield site
        finally:
            site.close()


async def poll(condition: Callable[[], Any], what: str, timeout: float = DEFAULT_TIMEOUT) -> float:
    begun = time.monotonic()
    while not await condition():
        assert time.monotonic() < begun + timeout, what
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


def test_processes_die_and_are_replaced_and_no_node_and_no_change_is_lost(site: Site, tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_etcd(site.cluster.settings())
        registry = Registry(store, TENANT)
        written = -1
        stop = asyncio.Event()

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                await registry.merge_patch(CONFIGMAPS, "default", "shared", {"data": {"n": str(written + 1)}})
                written += 1  # acknowledged
                await asyncio.sleep(0.02)

        async def sessions() -> set[str]:
            found = await store.range(keys.SESSIONS, keys.prefix_end(keys.SESSIONS))
            return {kv.key.rpartition("/")[2] for kv in found.kvs}

        async def all_attached() -> bool:
            return await sessions() == set(NODES)

        async def alive() -> int:
            return (await store.range(PROCESSES, keys.prefix_end(PROCESSES))).count

        async def leaders() -> dict[str, str]:
            found = await store.range(LEADERS, keys.prefix_end(LEADERS))
            return {kv.key.removeprefix(LEADERS): kv.value.decode() for kv in found.kvs}

        try:
            await site.prepare(store)
            for process in site.processes:
                process.start()
            for process in site.processes:
                process.wait()
            site.start_agents(tmp_path / "agents.log")
            await asyncio.to_thread(site.ask, keep=True)
            await poll(all_attached, "every node attaches to some process")
            leases = {kv.lease for kv in (await store.range(keys.SESSIONS, keys.prefix_end(keys.SESSIONS))).kvs}
            assert len(leases) > 1, "the nodes spread over the processes"

            async def complete() -> bool:
                return await alive() == 3

            await poll(complete, "every process says that it lives")
            kinds = ("edgecontroller", "devicecontroller", "controllers", "messages", "rules")
            works = {f"{kind}/default" for kind in kinds}

            async def led() -> bool:
                return set(await leaders()) == works

            await poll(led, "each work has a process that leads")

            writing = asyncio.create_task(write())
            for turn, process in enumerate(site.processes):  # a rolling restart, by accident and on purpose
                process.end(signal.SIGKILL if turn != 1 else signal.SIGTERM)
                before = written

                async def moved_on() -> bool:
                    everybody = await all_attached()
                    held = await leaders()
                    living = {
                        kv.key.removeprefix(PROCESSES) for kv in (await store.range(PROCESSES, PROCESSES + "~")).kvs
                    }
                    return everybody and len(living) == 2 and held.keys() == works and set(held.values()) <= living

                took = await poll(moved_on, "the nodes and the work of a process move to the others")
                print(f"process {turn}: moved after {took:.1f} s")

                async def written_on(before: int = before) -> bool:
                    return written > before

                await poll(written_on, "writes go on")
                process.start()
                process.wait()
            stop.set()
            await writing

            async def told() -> bool:
                values = (await asyncio.to_thread(site.ask, values=SHARED))["values"]
                return all(v and json.loads(v[-1])["data"]["n"] == str(written) for v in values)

            await poll(told, "the last change is at every node")
            for values in (await asyncio.to_thread(site.ask, values=SHARED))["values"]:
                numbers = [int(json.loads(v)["data"]["n"]) for v in values]
                assert numbers == sorted(set(numbers)), "in order, and none twice"
            assert written > 50
        finally:
            await store.close()

    asyncio.run(scenario())


def test_what_nodes_report_reaches_the_api_through_any_process(site: Site, tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_etcd(site.cluster.settings())
        try:
            await site.prepare(store)
            for process in site.processes[:2]:
                process.start()
            for process in site.processes[:2]:
                process.wait()
            site.start_agents(tmp_path / "agents.log")
            await asyncio.to_thread(site.ask, attached=len(NODES))
            status = {"capacity": {"cpu": "4"}, "nodeInfo": {"architecture": "arm64", "operatingSystem": "linux"}}
            for name in NODES:  # each node may speak of itself alone: the others' words are dropped
                await asyncio.to_thread(site.ask, report=f"nodes/_/{name}", value=json.dumps({"status": status}))
            registry = Registry(store, TENANT)

            async def reported() -> bool:
                nodes = (await registry.list(_nodes())).items
                return len(nodes) == len(NODES) and all(n["status"].get("capacity") == {"cpu": "4"} for n in nodes)

            await poll(reported, "the status of every node")
            # the process that leads dies before the next report
            site.processes[0].end(signal.SIGKILL)
            status["capacity"] = {"cpu": "8"}
            for name in NODES:
                await asyncio.to_thread(site.ask, report=f"nodes/_/{name}", value=json.dumps({"status": status}))

            async def reported_again() -> bool:
                nodes = (await registry.list(_nodes())).items
                return all(n["status"].get("capacity") == {"cpu": "8"} for n in nodes)

            await poll(reported_again, "the second status of every node")
        finally:
            await store.close()

    asyncio.run(scenario())


SMALL = {"members": 3, "options": ["--quota-backend-bytes", str(16 << 20)]}


@pytest.mark.parametrize("site", [SMALL], indirect=True)
def test_an_etcd_without_space_is_read_on_and_when_it_has_some_nothing_is_missing(site: Site, tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_etcd(site.cluster.settings())
        registry = Registry(store, TENANT)
        junk = "/junk/"

        async def all_attached() -> bool:
            found = await store.range(keys.SESSIONS, keys.prefix_end(keys.SESSIONS))
            return {kv.key.rpartition("/")[2] for kv in found.kvs} == set(NODES)

        async def capacity(cpu: str) -> bool:
            nodes = (await registry.list(_nodes())).items
            return len(nodes) == len(NODES) and all(n.get("status", {}).get("capacity") == {"cpu": cpu} for n in nodes)

        async def say(cpu: str) -> None:
            status = {"capacity": {"cpu": cpu}, "nodeInfo": {"architecture": "arm64"}}
            for name in NODES:
                await asyncio.to_thread(site.ask, report=f"nodes/_/{name}", value=json.dumps({"status": status}))

        try:
            await site.prepare(store)
            for process in site.processes:
                process.start()
            for process in site.processes:
                process.wait()
            site.start_agents(tmp_path / "agents.log")
            await asyncio.to_thread(site.ask, keep=True)
            await asyncio.to_thread(site.ask, attached=len(NODES))
            await say("4")
            await poll(lambda: capacity("4"), "the status of every node")

            with pytest.raises(Unavailable, match="space"):
                for number in range(40):
                    await store.put(f"{junk}{number}", os.urandom(1 << 20))
            with pytest.raises(Unavailable, match="space"):
                await registry.merge_patch(CONFIGMAPS, "default", "shared", {"data": {"n": "0"}})
            await say("8")  # a process that cannot keep what a node says ends its channel
            until = time.monotonic() + 15  # several lives of a lease
            while time.monotonic() < until:
                assert (await registry.get(CONFIGMAPS, "default", "shared"))["data"]["n"] == "-1", "reading goes on"
                await asyncio.sleep(0.2)
            assert not await capacity("8")

            # what etcd's documents tell its administrator to do: delete, compact, defragment each member, and end the alarm
            await store.delete(junk, keys.prefix_end(junk))
            everywhere = EtcdMembers(site.cluster.settings())
            compact = rpc.CompactionRequest(revision=store.revision, physical=True)
            await everywhere.call(rpc.KVStub, "Compact", compact, repeatable=True)
            for endpoint in site.cluster.endpoints:
                one = EtcdMembers(replace(site.cluster.settings(), endpoints=[endpoint], timeout=30.0))
                await one.call(rpc.MaintenanceStub, "Defragment", rpc.DefragmentRequest(), repeatable=True)
                await one.close()
            get = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
            for alarm in (await everywhere.call(rpc.MaintenanceStub, "Alarm", get, repeatable=True)).alarms:
                off = rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
                await everywhere.call(rpc.MaintenanceStub, "Alarm", off, repeatable=True)
            await everywhere.close()

            took = await poll(all_attached, "the nodes are back")
            print(f"all nodes were back after {took:.1f} s")
            await poll(lambda: capacity("8"), "what the nodes said meanwhile")
            await registry.merge_patch(CONFIGMAPS, "default", "shared", {"data": {"n": "1"}})

            async def told() -> bool:
                values = (await asyncio.to_thread(site.ask, values=SHARED))["values"]
                return all(v and json.loads(v[-1])["data"]["n"] == "1" for v in values)

            await poll(told, "a change reaches every node")
            for process in site.processes:
                assert process.process and process.process.poll() is None
        finally:
            await store.close()

    asyncio.run(scenario())


def _nodes() -> Any:
    from kubeedge.api.resources import NODES as resource

    return resource
