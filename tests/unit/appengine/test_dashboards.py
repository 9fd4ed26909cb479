"""What Prometheus reads of a node: figures from the kernel's files of both versions, told as cAdvisor and the kubelet tell them, and read back
by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from kubeedge.appengine import dashboards, figures, stats
from kubeedge.appengine.core import ContainerObservation, PodObservation
from kubeedge.appengine.dashboards import NodeDetail, ProbedContainer
from kubeedge.appengine.figures import Figures
from kubeedge.appengine.runtime import detail_files
from kubeedge.appengine.runtime.base import ContainerStats, PodStats, ResourceUsage
from kubeedge.appengine.runtime.cri import details as cri_details
from kubeedge.appengine.runtime.detail import (
    DeviceIo,
    FileSystemUse,
    GroupDetail,
    InterfaceCount,
    MachineDetail,
    PodDetail,
)
from kubeedge.appengine.server import KubeletServer
from kubeedge.appengine.stats import NodeUse
from kubeedge.appengine.worker import Worker, Workers
from kubeedge.errors import NotFound
from kubeedge.kit.disk_use import DiskUse
from kubeedge.kit.http1 import Request, Response
from tests.unit.appengine.test_stats import write
from tests.unit.appengine.world import container, pod

V2 = {
    "cgroup.controllers": "cpu memory io",
    "k/pod1/cpu.stat": "usage_usec 9\nuser_usec 7000\nsystem_usec 2000\nnr_periods 100\nnr_throttled 40\nthrottled_usec 5000\n",
    "k/pod1/cpu.max": "50000 100000\n", "k/pod1/cpu.weight": "100\n",
    "k/pod1/memory.stat": "anon 1\nfile 2000\nfile_mapped 300\n", "k/pod1/memory.swap.current": "4096\n",
    "k/pod1/memory.max": "65536\n", "k/pod1/memory.peak": "60000\n",
    "k/pod1/memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\n",
    "k/pod1/io.stat": "254:0 rbytes=100 wbytes=200 rios=3 wios=4 dbytes=0 dios=0\n7:1 rbytes=nan\n\n",
}  # fmt: skip
V1 = {
    "cpu,cpuacct/cgroup.procs": "",
    "cpu,cpuacct/k/pod1/cpu.stat": "nr_periods 100\nnr_throttled 40\nthrottled_time 5000000\n",
    "cpu,cpuacct/k/pod1/cpuacct.stat": "user 700\nsystem 200\n",
    "cpu,cpuacct/k/pod1/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/k/pod1/cpu.cfs_period_us": "100000\n",
    "cpu,cpuacct/k/pod1/cpu.shares": "512\n",
    "memory/cgroup.procs": "", "memory/k/pod1/memory.failcnt": "12\n",
    "memory/k/pod1/memory.stat": "cache 1\ntotal_cache 2000\ntotal_mapped_file 300\ntotal_swap 4096\n",
    "memory/k/pod1/memory.limit_in_bytes": "9223372036854771712\n", "memory/k/pod1/memory.max_usage_in_bytes": "60000\n",
    "memory/k/pod1/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "blkio/cgroup.procs": "",
    "blkio/k/pod1/blkio.throttle.io_service_bytes_recursive": "254:0 Read 100\n254:0 Write 200\n254:0 Total 300\nTotal 300\n",
    "blkio/k/pod1/blkio.throttle.io_serviced_recursive": "254:0 Read 3\n254:0 Write 4\n",
}  # fmt: skip
DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0
  a"b: 1 2 3
"""


def test_a_group_of_v2(tmp_path: Path) -> None:
    write(tmp_path, V2)
    found = detail_files.of_group("/k/pod1", tmp_path)
    assert found == GroupDetail(
        user_ns=7_000_000, system_ns=2_000_000, periods=100, throttled_periods=40, throttled_ns=5_000_000, cache=2000,
        mapped_file=300, swap=4096, most_memory=60000, failed_memory=12, oom_kills=1, quota_us=50000, period_us=100000,
        shares=2597, memory_limit=65536,
        io=(DeviceIo(found.io[0].device, 100, 200, 3, 4), DeviceIo(found.io[1].device)),
    )  # fmt: skip
    assert detail_files.of_group("/k/pod2", tmp_path) == GroupDetail()


def test_a_group_of_v1(tmp_path: Path) -> None:
    write(tmp_path, V1)
    found = detail_files.of_group("/k/pod1", tmp_path)
    assert found == GroupDetail(
        user_ns=7_000_000_000, system_ns=2_000_000_000, periods=100, throttled_periods=40, throttled_ns=5_000_000,
        cache=2000, mapped_file=300, swap=4096, most_memory=60000, failed_memory=12, oom_kills=1, period_us=100000,
        shares=512, io=(DeviceIo(found.io[0].device, 100, 200, 3, 4),),
    )  # fmt: skip


def test_interfaces_are_those_that_the_kernel_names_and_not_too_many(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text(DEV)
    assert detail_files.interfaces(tmp_path / "dev") == [InterfaceCount("eth0", 1000, 10, 1, 2, 2000, 20, 3, 4)]
    (tmp_path / "dev").write_text(DEV + "".join(f" e{n}: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n" for n in range(100_000)))
    assert len(detail_files.interfaces(tmp_path / "dev")) == 16


def test_a_process_that_has_another_s_number_is_not_read(tmp_path: Path) -> None:
    own = Path("/proc/self/ns/net")
    assert detail_files.pod_interfaces(os.getpid(), own) == detail_files.interfaces(Path("/proc/self/net/dev"))
    (tmp_path / "net").touch()
    assert detail_files.pod_interfaces(os.getpid(), tmp_path / "net") == []
    assert detail_files.pod_interfaces(2**22 + 1, own) == []


def test_this_machine_is_read() -> None:
    found = detail_files.of_machine(Path("/"))
    assert found.processors >= 1 and found.memory > 2**20 and found.file_system is not None
    assert found.file_system.size >= found.file_system.used > 0 and found.kernel


def detail() -> NodeDetail:
    group = GroupDetail(periods=100, throttled_periods=40, cache=7, io=[DeviceIo("/dev/sda", 1, 2, 3, 4)])
    machine = MachineDetail(
        4, 2**30, 0, [InterfaceCount("wlan0", 1, 1, 0, 0, 1, 1, 0, 0)], FileSystemUse("/dev/mmcblk0p2", 1000, 600, 50, 20),
        "6.1.0", 'Debian "12"',
    )  # fmt: skip
    network = [
        InterfaceCount("eth0", 1000, 10, 1, 2, 2000, 20, 3, 4),
        InterfaceCount("net1", 5, None, 0, None, 6, None, 0, None),
    ]
    return NodeDetail(machine, {"u1": PodDetail("u1", group, {"a": group}, network)}, {"u1": {"a": DiskUse(12_000, 3)}})


def use() -> NodeUse:
    used = ResourceUsage(500_000_000, 5000, 4096, 3000, 7, 2, 4)
    one = PodStats("u1", "default", "p", used, [ContainerStats("a", "a1", "demo:1", 1000.0, used)])
    gone = PodStats("u2", "default", "q", used, [ContainerStats("b", "b1", "demo:1", 1000.0, used)])  # ended meanwhile
    return NodeUse("edge1", used, [one, gone], 2000.5)


def series(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As Prometheus reads it; two samples of one series would be an error there."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in parse(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted((k, v) for k, v in sample.labels.items() if v))
            assert key not in found, key
            found[key] = sample.value
    return found


def of(found: Mapping[Any, float], name: str, **labels: str) -> list[float]:
    wanted = set(labels.items())
    return [value for (sample, has), value in found.items() if sample == name and wanted <= set(has)]


def test_what_cadvisor_would_tell() -> None:
    found = series("".join(dashboards.cadvisor_metrics(use(), detail())))
    a = {"container": "a", "pod": "p", "namespace": "default", "image": "demo:1"}
    assert of(found, "container_cpu_usage_seconds_total", cpu="total", **a) == [0.5]
    assert of(found, "container_memory_working_set_bytes", **a) == [4096]
    assert of(found, "container_cpu_cfs_throttled_periods_total", **a) == [40]
    assert of(found, "container_fs_writes_bytes_total", device="/dev/sda", **a) == [2]
    assert of(found, "container_fs_usage_bytes", **a) == [12_000]
    assert of(found, "container_start_time_seconds", **a) == [1000]
    # of the network of a pod: no container has it
    (bytes_of_pod,) = of(found, "container_network_receive_bytes_total", pod="p", interface="eth0")
    assert bytes_of_pod == 1000 and not of(found, "container_network_receive_bytes_total", container="a")
    assert not of(found, "container_network_receive_packets_total", interface="net1")  # nobody counts them
    # of the machine
    assert of(found, "container_fs_usage_bytes", id="/", device="/dev/mmcblk0p2") == [600]
    assert of(found, "container_network_transmit_bytes_total", id="/", interface="wlan0") == [1]
    assert (of(found, "machine_cpu_cores"), of(found, "machine_memory_bytes")) == ([4], [2**30])
    # of one that ended between two looks, what is known
    assert of(found, "container_cpu_usage_seconds_total", container="b") == [0.5]
    assert not of(found, "container_memory_cache", container="b")


def test_every_sample_has_its_time_and_a_family_is_one_piece() -> None:
    pieces = list(dashboards.cadvisor_metrics(use(), detail()))
    assert all(piece.startswith("# HELP ") and piece.count("# TYPE ") == 1 for piece in pieces)
    samples = [line for piece in pieces for line in piece.splitlines() if line.startswith("container_")]
    assert samples and all(line.endswith(" 2000500") for line in samples)


def test_what_a_hostile_name_of_an_interface_can_do() -> None:
    name = 'e"} 1\nkubelet_node_name{node="x\\'
    network = [InterfaceCount(name, 1, 1, 0, 0, 1, 1, 0, 0)]
    mine = NodeDetail(detail().machine, {"u1": PodDetail("u1", network=network)}, {})
    found = series("".join(dashboards.cadvisor_metrics(use(), mine)))
    assert of(found, "container_network_receive_bytes_total", interface=name) == [1]
    assert not of(found, "kubelet_node_name")


def worker(uid: str, *, running: int, exited: int = 0) -> Worker:
    observed = PodObservation(uid, sandbox=True)
    for n in range(running + exited):
        observed.containers[f"c{n}"] = ContainerObservation(0, f"{uid}{n}", finished_at=0.0 if n < running else 5.0)
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/a"}}]
    return Worker(uid, "default", f"pod-{uid}", pod(containers=[container()], volumes=volumes), observed)


def test_what_a_kubelet_tells_of_itself() -> None:
    workers = Workers()
    for each in (worker("u1", running=2), worker("u2", running=0, exited=1)):
        workers.add(each)
    workers.with_own_users, workers.failed_with_own_users = 3, 2
    state = figures.kubelet_state("edge1", workers, figures.process_use())
    found = series("".join(dashboards.kubelet_metrics(state)))
    assert of(found, "kubelet_node_name", node="edge1") == [1]
    assert (of(found, "kubelet_running_pods"), of(found, "kubelet_desired_pods")) == ([1], [2])
    assert of(found, "kubelet_running_containers", container_state="running") == [2]
    assert of(found, "kubelet_running_containers", container_state="exited") == [1]
    assert of(found, "volume_manager_total_volumes", plugin_name="kubernetes.io/empty-dir") == [2]
    assert of(found, "kubelet_started_user_namespaced_pods_total") == [3]
    assert of(found, "kubelet_started_user_namespaced_pods_errors_total") == [2]
    assert of(found, "process_resident_memory_bytes")[0] > 2**20 and of(found, "process_open_fds")[0] > 2
    assert of(found, "process_start_time_seconds")[0] > 1e9 and of(found, "process_cpu_seconds_total")[0] > 0


def test_probes_are_told_with_their_results() -> None:
    counts = {("Liveness", "successful"): 3, ("Readiness", "failed"): 1}
    found = series("".join(dashboards.probe_metrics([ProbedContainer("default", "p", "u1", "a", counts)])))
    assert of(found, "prober_probe_total", probe_type="Liveness", result="successful", pod="p", pod_uid="u1") == [3]
    assert of(found, "prober_probe_total", probe_type="Readiness", result="failed", container="a") == [1]
    assert not "".join(dashboards.probe_metrics([]))


class Walked:
    """A runtime whose pods have layers; `gone` are not there any more."""

    def __init__(self, count: int) -> None:
        self.pods = [f"u{n}" for n in range(count)]
        self.walks: list[str] = []
        self.gone: set[str] = set()

    async def details(self) -> Sequence[PodDetail]:
        return []

    async def disk_usage(self, uid: str) -> Mapping[str, DiskUse]:
        self.walks.append(uid)
        if uid in self.gone:
            raise NotFound("gone")
        return {"a": DiskUse(len(self.walks), 1)}

    async def use(self) -> NodeUse:
        used = ResourceUsage(1, 1, 1, 1, 1, 1, 1)
        each = [PodStats(u, "d", u, used, [ContainerStats("a", u, "i", 1.0, used)]) for u in self.pods]
        return NodeUse("edge1", used, each, 1.0)


def test_the_disk_is_walked_over_a_little_at_a_time() -> None:
    async def scenario() -> None:
        runtime = Walked(10)
        runtime.gone = {"u3"}
        engine: Any = SimpleNamespace(runtime=runtime, use=runtime.use, settings=SimpleNamespace(state=Path("/")))
        now = 0.0
        served = Figures(engine, clock=lambda: now)
        for scrapes in range(1, 4):
            await served.cadvisor()
            assert len(runtime.walks) <= 4 * scrapes
        assert set(runtime.walks) == set(runtime.pods)
        before = [uid for uid in runtime.walks if uid != "u3"]
        for _ in range(5):
            found = series("".join(await served.cadvisor()))
        assert [uid for uid in runtime.walks if uid != "u3"] == before
        assert len(of(found, "container_fs_usage_bytes", container="a")) == 9
        now = figures._FRESH
        await served.cadvisor()
        assert len([uid for uid in runtime.walks if uid != "u3"]) == len(before) + 3
        runtime.pods = ["u9"]
        await served.cadvisor()
        assert list(served._layers) == ["u9"]

    asyncio.run(scenario())


@pytest.mark.parametrize("known", [True, False])
def test_a_cri_runtime_counts_the_network_and_the_kernel_the_rest(
    tmp_path: Path, known: bool, monkeypatch: Any
) -> None:
    write(tmp_path, {name.replace("k/pod1", "k/pod1/c1"): text for name, text in V2.items()})
    of_group = detail_files.of_group
    monkeypatch.setattr(detail_files, "of_group", lambda path: of_group(path, tmp_path))
    labels = {"io.kubernetes.pod.uid": "1", "io.kubernetes.container.name": "a"}
    first = {"name": "eth0", "rx_bytes": {"value": 5}, "tx_bytes": {"value": 6}, "rx_errors": {}}
    sandbox = {"attributes": {"labels": labels}, "linux": {"network": {"default_interface": first}}}
    (found,) = cri_details.pod_details(
        [{"id": "c1", "labels": labels}], [sandbox], lambda uid: f"/k/pod{uid}" if known else ""
    )
    assert found.network == [InterfaceCount("eth0", 5, None, 0, None, 6, None, 0, None)]
    assert (found.containers["a"].throttled_periods == 40) if known else not found.containers


def test_an_agent_that_nobody_asks_does_without() -> None:
    code = "import sys, kubeedge.appengine.server, kubeedge.appengine.runtime.embedded; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "kubeedge.appengine.stats" in loaded
    for name in ("dashboards", "figures", "runtime.detail"):
        assert f"kubeedge.appengine.{name}" not in loaded


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.00", False),
        ("", False),
        ("br", False),
    ],
)
def test_text_is_packed_for_who_takes_that(accepted: str, packed: bool) -> None:
    async def scenario() -> None:
        async def nothing() -> AsyncIterator[bytes]:
            return
            yield b""

        engine: Any = Walked(3)
        request = Request("GET", "/metrics/resource", [("accept-encoding", accepted)], lambda name: None, nothing())
        answer = await KubeletServer(engine).answer(request)
        assert isinstance(answer, Response) and not isinstance(answer.body, bytes)
        data = b"".join([piece async for piece in answer.body])
        assert (dict(answer.headers).get("content-encoding") == "gzip") is packed
        text = (zlib.decompress(data, wbits=31) if packed else data).decode()
        assert text == "".join(stats.resource_metrics(await engine.use()))

    asyncio.run(scenario())
