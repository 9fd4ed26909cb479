"""What a node and its containers have used: read from control groups of both versions, told as the kubelet does."""

from __future__ import annotations

from pathlib import Path

from kubeedge.appengine import stats
from kubeedge.appengine.runtime import usage
from kubeedge.appengine.stats import ContainerUse, NodeUse


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_group_of_version_2(tmp_path: Path) -> None:
    write(tmp_path, {
        "cgroup.controllers": "cpu memory", "k/pod1/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
        "k/pod1/memory.current": "5000\n", "k/pod1/memory.stat": "anon 1\ninactive_file 1000\n",
    })  # fmt: skip
    assert usage.of_group("/k/pod1", tmp_path) == (1.5, 4000)
    assert usage.of_group("/k/pod2", tmp_path) is None


def test_a_group_of_version_1(tmp_path: Path) -> None:
    write(tmp_path, {
        "cpuacct/cgroup.procs": "", "cpuacct/k/pod1/cpuacct.usage": "2500000000\n",
        "memory/cgroup.procs": "", "memory/k/pod1/memory.usage_in_bytes": "500\n",
        "memory/k/pod1/memory.stat": "inactive_file 7\ntotal_inactive_file 1000\n",
    })  # fmt: skip
    assert usage.of_group("/k/pod1", tmp_path) == (2.5, 0)


def test_a_machine(tmp_path: Path) -> None:
    write(tmp_path, {
        "stat": "cpu  100 0 50 1000 9 0 1 0 0 0\ncpu0 1 2 3\n",
        "meminfo": "MemTotal:       2000 kB\nMemFree: 1 kB\nMemAvailable:    500 kB\nHugePages_Total: 0\n",
    })  # fmt: skip
    assert usage.of_machine(tmp_path) == (1.51, 1500 * 1024)


def use() -> NodeUse:
    def container(name: str, cpu: float) -> ContainerUse:
        return ContainerUse(
            namespace="default", pod="p", uid="u1", container=name, id=f"embedded://{name}1", image="demo:1",
            cpu=cpu, memory=4096, started_at=1000.0,
        )  # fmt: skip

    return NodeUse(
        node="edge1", cpu=12.5, memory=8192, containers=[container("a", 0.5), container('b"', 1.25)], at=2000.5
    )


def test_what_metrics_server_reads() -> None:
    lines = stats.resource_metrics(use()).splitlines()
    assert 'container_cpu_usage_seconds_total{container="a",namespace="default",pod="p"} 0.5 2000500' in lines
    assert 'container_cpu_usage_seconds_total{container="b\\"",namespace="default",pod="p"} 1.25 2000500' in lines
    assert 'pod_memory_working_set_bytes{namespace="default",pod="p"} 8192 2000500' in lines
    assert "node_cpu_usage_seconds_total 12.5 2000500" in lines
    assert 'container="a",id="/kubepods/podu1/a1"' in stats.cadvisor_metrics(use())


def test_the_summary() -> None:
    summary = stats.summary(use())
    assert summary["node"]["nodeName"] == "edge1" and summary["node"]["cpu"]["usageCoreNanoSeconds"] == 12_500_000_000
    (pod,) = summary["pods"]
    assert pod["podRef"] == {"name": "p", "namespace": "default", "uid": "u1"}
    assert pod["cpu"]["usageCoreNanoSeconds"] == 1_750_000_000 and pod["memory"]["workingSetBytes"] == 8192
    assert [c["name"] for c in pod["containers"]] == ["a", 'b"'] and pod["startTime"] == "1970-01-01T00:16:40Z"
