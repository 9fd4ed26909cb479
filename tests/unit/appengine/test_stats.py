"""What a node, its pods and their containers have used: read from control groups of both versions, told as the kubelet does."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeedge.appengine import stats
from kubeedge.appengine.runtime import usage
from kubeedge.appengine.runtime.base import ContainerStats, PodStats, ResourceUsage
from kubeedge.appengine.stats import NodeUse

V2 = {
    "cgroup.controllers": "cpu memory pids", "k/pod1/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    "k/pod1/memory.current": "5000\n", "k/pod1/memory.stat": "anon 3000\ninactive_file 1000\npgfault 7\npgmajfault 2\n",
    "k/pod1/pids.current": "4\n",
}  # fmt: skip
V1 = {
    "cpu,cpuacct/cgroup.procs": "", "cpu,cpuacct/k/pod1/cpuacct.usage": "1500000000\n",
    "cpu,cpuacct/k/pod1/cpu.stat": "nr_periods 9\n",
    "memory/cgroup.procs": "", "memory/k/pod1/memory.usage_in_bytes": "5000\n",
    "memory/k/pod1/memory.stat": "rss 1\ninactive_file 7\ntotal_rss 3000\ntotal_inactive_file 1000\ntotal_pgfault 7\ntotal_pgmajfault 2\n",
    "pids/cgroup.procs": "", "pids/k/pod1/pids.current": "4\n",
}  # fmt: skip
HYBRID = {  # memory is counted by version 2
    "unified/cgroup.procs": "", "unified/cgroup.controllers": "memory",
    **{f"unified/{name}": text for name, text in V2.items() if "memory." in name},
    **{name: text for name, text in V1.items() if not name.startswith("memory")},
}  # fmt: skip


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize("files", [V2, V1, HYBRID], ids=["v2", "v1", "hybrid"])
def test_a_group_is_read_of_each_version(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, files)
    assert usage.read("/k/pod1", tmp_path) == ResourceUsage(1_500_000_000, 5000, 4000, 3000, 7, 2, 4)
    assert usage.read("/k/pod2", tmp_path) is None


def test_what_the_kernel_can_drop_is_never_more_than_what_is_used(tmp_path: Path) -> None:
    write(tmp_path, {**V2, "k/pod1/memory.current": "500\n"})
    found = usage.read("/k/pod1", tmp_path)
    assert found is not None and found.working_set == 0


def test_a_group_without_a_memory_controller_still_has_its_time(tmp_path: Path) -> None:
    write(tmp_path, {name: text for name, text in V2.items() if "memory." not in name})
    found = usage.read("/k/pod1", tmp_path)
    assert found is not None and (found.cpu_ns, found.memory, found.working_set) == (1_500_000_000, 0, 0)


def test_a_machine(tmp_path: Path) -> None:
    write(tmp_path, {
        "stat": "cpu  100 0 50 1000 9 0 1 0 0 0\ncpu0 1 2 3\n",
        "meminfo": "MemTotal:       2000 kB\nMemFree:  100 kB\nMemAvailable:    500 kB\nAnonPages: 700 kB\nHugePages_Total: 0\n",
        "vmstat": "nr_free_pages 5\npgfault 70\npgmajfault 20\n",
        "loadavg": "0.5 0.4 0.3 2/345 6789\n",
    })  # fmt: skip
    assert usage.of_machine(tmp_path) == ResourceUsage(1_510_000_000, 1900 * 1024, 1500 * 1024, 700 * 1024, 70, 20, 345)


def test_this_machine_is_read() -> None:
    found = usage.of_machine()
    assert found.cpu_ns > 0 and found.memory > 0 and found.working_set > 0 and found.processes > 1


def use() -> NodeUse:
    def container(name: str, cpu_ns: int) -> ContainerStats:
        return ContainerStats(name, f"{name}1", "demo:1", 1000.0, ResourceUsage(cpu_ns, 5000, 4096, 3000, 7, 2, 4))

    pod = PodStats(
        "u1", "default", "p", ResourceUsage(1_800_000_000, 11_000, 8192, 6000, 14, 4, 8),
        [container("a", 500_000_000), container('b"', 1_250_000_000)],
    )  # fmt: skip
    starting = PodStats("u2", "default", "q", ResourceUsage(0, 0, 0, 0, 0, 0, 0), [])
    return NodeUse("edge1", ResourceUsage(12_500_000_000, 9000, 8192, 7000, 70, 20, 345), [pod, starting], 2000.5)


def test_what_metrics_server_reads() -> None:
    text = "".join(stats.resource_metrics(use()))
    lines = text.splitlines()
    assert 'container_cpu_usage_seconds_total{container="a",namespace="default",pod="p"} 0.5 2000500' in lines
    assert 'container_cpu_usage_seconds_total{container="b\\"",namespace="default",pod="p"} 1.25 2000500' in lines
    assert 'container_memory_working_set_bytes{container="a",namespace="default",pod="p"} 4096 2000500' in lines
    assert 'pod_cpu_usage_seconds_total{namespace="default",pod="p"} 1.8 2000500' in lines
    assert 'pod_memory_working_set_bytes{namespace="default",pod="p"} 8192 2000500' in lines
    assert "node_cpu_usage_seconds_total 12.5 2000500" in lines
    assert text.endswith("\nresource_scrape_error 0\n")


def test_the_summary() -> None:
    summary = stats.summary(use())
    assert summary["node"]["nodeName"] == "edge1" and summary["node"]["cpu"]["usageCoreNanoSeconds"] == 12_500_000_000
    pod, starting = summary["pods"]
    assert pod["podRef"] == {"name": "p", "namespace": "default", "uid": "u1"}
    assert pod["cpu"] == {"time": "1970-01-01T00:33:20Z", "usageCoreNanoSeconds": 1_800_000_000}
    assert {**pod["memory"], "time": ""} == {
        "time": "", "usageBytes": 11_000, "workingSetBytes": 8192, "rssBytes": 6000, "pageFaults": 14, "majorPageFaults": 4
    }  # fmt: skip
    assert pod["process_stats"] == {"process_count": 8}
    assert [c["name"] for c in pod["containers"]] == ["a", 'b"'] and pod["startTime"] == "1970-01-01T00:16:40Z"
    assert starting["containers"] == [] and "startTime" not in starting
