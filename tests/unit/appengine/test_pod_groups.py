"""The tree of pods' control groups on each kind of machine, and what a pod has as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import defaults
from kubeedge.api.pod import ResourceRequirements
from kubeedge.appengine import core, oom, qos, status
from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.resolve import resource_field
from kubeedge.appengine.runtime import cgroups, group_limits
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.runtime.group_limits import PodBounds
from kubeedge.appengine.runtime.pod_groups import PodGroups
from tests.unit.appengine.world import container, pod

MI = 1 << 20
BURSTABLE = ResourceRequirements(None, 64 * MI, 250, 32 * MI)
GUARANTEED = ResourceRequirements(500, 64 * MI, 500, 64 * MI)


def machine(root: Path, kind: str) -> Path:
    """The files of an empty machine, as its kernel shows them."""
    v1 = {"v1": ("cpu,cpuacct", "memory", "pids"), "hybrid": ("cpu,cpuacct", "pids"), "v2": ()}[kind]
    for name in v1:
        (root / name).mkdir()
        (root / name / "cgroup.procs").write_text("")
    unified = {"v1": None, "hybrid": root / "unified", "v2": root}[kind]
    if unified is not None:
        unified.mkdir(exist_ok=True)
        (unified / "cgroup.procs").write_text("")
        (unified / "cgroup.controllers").write_text("cpu memory pids" if kind == "v2" else "memory")
        (unified / "cgroup.subtree_control").write_text("")
    return root


def read(root: Path, group: str) -> dict[str, str]:
    """The limits of a group, from all hierarchies."""
    found = [file for directory in cgroups.groups(group, root) for file in directory.iterdir() if file.is_file()]
    return {file.name: file.read_text() for file in found}


def test_a_pod_is_not_limited_below_what_it_uses(tmp_path: Path) -> None:
    root = machine(tmp_path, "v2")
    groups = PodGroups("k", root)
    groups.choose("b", "Burstable")
    groups.create("b", BURSTABLE)
    group = root / groups.of("b")
    (group / "memory.current").write_text(str(40 * MI))
    (group / "memory.stat").write_text(f"anon {30 * MI}\ninactive_file {5 * MI}\n")
    with pytest.raises(StartError, match="below what is in use"):
        groups.update("b", ResourceRequirements(None, 34 * MI, 250, 32 * MI))
    assert (group / "memory.max").read_text() == str(64 * MI)
    groups.update("b", ResourceRequirements(None, 36 * MI, 250, 32 * MI))
    assert (group / "memory.max").read_text() == str(36 * MI)
    groups.update("b", ResourceRequirements(None, None, 250, 32 * MI))
    assert (group / "memory.max").read_text() == "max"


@pytest.mark.parametrize("kind", ["v1", "v2", "hybrid"])
def test_pods_are_in_the_group_of_their_class(tmp_path: Path, kind: str) -> None:
    root = machine(tmp_path, kind)
    groups = PodGroups("k", root)
    groups.prepare(PodBounds(pod_pids=100, cpu=2000, memory=512 * MI))
    for uid, quality, resources in (
        ("g", "Guaranteed", GUARANTEED),
        ("b", "Burstable", BURSTABLE),
        ("e", "BestEffort", None),
    ):
        groups.choose(uid, quality)
        groups.create(uid, resources)
    assert [groups.of(uid) for uid in "gbe"] == [
        "k/kubepods/podg",
        "k/kubepods/burstable/podb",
        "k/kubepods/besteffort/pode",
    ]
    memory = "memory.limit_in_bytes" if kind == "v1" else "memory.max"
    weight = (lambda shares: {"cpu.weight": str(group_limits.weight_of(shares))}) if kind == "v2" else (
        lambda shares: {"cpu.shares": str(shares)}
    )  # fmt: skip
    free = {"cpu.max": "max 100000"} if kind == "v2" else {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}
    half = {"cpu.max": "50000 100000"} if kind == "v2" else {**free, "cpu.cfs_quota_us": "50000"}
    assert read(root, "k/kubepods") == {**weight(2048), memory: str(512 * MI)}
    assert read(root, "k/kubepods/burstable") == weight(256) and read(root, "k/kubepods/besteffort") == weight(2)
    assert read(root, "k/kubepods/podg") == {**weight(512), **half, memory: str(64 * MI), "pids.max": "100"}
    assert read(root, "k/kubepods/burstable/podb") == {**weight(256), **free, memory: str(64 * MI), "pids.max": "100"}
    assert read(root, "k/kubepods/besteffort/pode") == {"pids.max": "100"}
    groups.update("b", ResourceRequirements(None, None, 1000, 0))  # a limit that is taken away
    assert read(root, groups.of("b"))[memory] == ("-1" if kind == "v1" else "max")
    assert read(root, "k/kubepods/burstable") == weight(1024)
    assert groups.uids() == {"g", "b", "e"}


def test_another_agent_takes_up_pods_where_they_are_also_those_without_a_class(tmp_path: Path) -> None:
    root = machine(tmp_path, "v1")
    before = PodGroups("k", root)
    before.prepare(PodBounds())
    before.choose("b", "Burstable")
    before.create("b", BURSTABLE)
    cgroups.limit_processes("k/podold", 100, root)
    after = PodGroups("k", root)
    after.restore("b", before.of("b"))
    after.restore("old", "k/kubepods/podother")  # what a user has written there
    after.prepare(PodBounds())
    assert after.of("old") == "k/podold" and after.uids() == {"b", "old"}
    assert read(root, "k/kubepods/burstable") == {"cpu.shares": "256"}
    after.update("old", BURSTABLE)
    assert read(root, "k/podold") == {"pids.max": "100"}


def test_a_machine_without_a_controller_limits_what_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = machine(tmp_path, "hybrid")
    (root / "unified/cgroup.controllers").write_text("")
    groups = PodGroups("k", root)
    groups.prepare(PodBounds())
    groups.choose("b", "Burstable")
    groups.create("b", BURSTABLE)
    assert "memory" in caplog.text and len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
    assert read(root, groups.of("b"))["cpu.shares"] == "256"


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (102, 4), (1024, 39), (262144, 10000), (0, 1), (10**9, 10000)])
def test_shares_have_the_weight_that_the_kubelet_gives_them(shares: int, weight: int) -> None:
    assert group_limits.weight_of(shares) == weight


def asks(**resources: str) -> dict[str, Any]:
    return {"resources": {"requests": resources, "limits": resources}}


def test_a_pod_has_the_sum_of_what_runs_at_the_same_time() -> None:
    made = pod(
        containers=[container(**asks(cpu="100m", memory="10Mi")), container("b", **asks(cpu="200m", memory="20Mi"))],
        initContainers=[
            container("s", restartPolicy="Always", **asks(cpu="50m", memory="5Mi")),
            container("i", **asks(cpu="1", memory="1Mi")),
        ],
        overhead={"cpu": "10m", "memory": "2Mi"},
    )
    assert qos.pod_resources(made, {}) == ResourceRequirements(1060, 37 * MI, 1060, 37 * MI)
    has = {"b": ResourceRequirements(100, 40 * MI, 100, 40 * MI)}  # it has not shrunk yet
    assert qos.pod_resources(made, has).memory_limit == 57 * MI
    assert qos.pod_resources(made, {"b": ResourceRequirements(None, None, 0, 0)}).memory_limit is None
    open_ended = pod(containers=[container(**asks(cpu="100m")), container("b")])
    assert qos.pod_resources(open_ended, {}) == ResourceRequirements(None, None, 100, 0)


def test_what_a_pod_says_of_itself_is_more_than_the_sum_of_its_containers() -> None:
    """Each of CPU and memory by itself; a container has the limits of the pod where it has none."""
    made = pod(
        resources={"requests": {"cpu": "1", "memory": "100Mi"}, "limits": {"memory": "200Mi"}},
        containers=[container(**asks(cpu="100m", memory="10Mi")), container("b")],
        overhead={"memory": "2Mi"},
    )
    assert made.unsupported == () and status.qos_class(made) == "Burstable"
    assert qos.pod_resources(made, {}) == ResourceRequirements(None, 202 * MI, 1000, 102 * MI)
    one, other = (qos.of_container(made, c.resources) for c in made.containers)
    assert one == made.containers[0].resources
    assert other == ResourceRequirements(None, 200 * MI, 0, 0)
    observed = ContainerObservation(resources=other)
    assert core.resized(made, made.containers[1], observed) == set()
    has = {"cpu": 8000, "memory": 1 << 40}
    amounts = [
        resource_field(made, {"resource": of}, made.containers[1], has)
        for of in ("limits.cpu", "limits.memory", "requests.memory")
    ]
    assert amounts == ["8", str(200 * MI), "0"]
    more = pod(resources={"limits": {"memory": "300Mi"}}, containers=[container(), container("b")])
    assert core.resized(more, more.containers[1], observed) == {"memory"}
    # what nobody asks for, 90 Mi, is shared by both
    assert [oom.score(made, c, 1000 * MI) for c in made.containers] == [1000 - 55, 1000 - 45]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        (asks(cpu="1", memory="1Mi")["resources"], "Guaranteed"),
    ],
)
def test_the_class_of_a_pod_is_that_of_what_it_says_of_itself(resources: dict[str, Any], expected: str) -> None:
    made = {"resources": resources, "containers": [container(), container("b")]}
    assert status.qos_class(pod(**made)) == expected
    assert defaults.qos_class(made) == expected


@pytest.mark.parametrize(
    ("main", "sidecar", "scores"),
    [("512Mi", "1Mi", (500, 500)), ("1Mi", "512Mi", (999, 500)), ("2Gi", "0", (3, 3))],
)
def test_a_sidecar_does_not_end_before_what_it_serves(main: str, sidecar: str, scores: tuple[int, int]) -> None:
    def memory(amount: str) -> dict[str, Any]:
        return {"resources": {"requests": {"memory": amount}}}

    made = pod(
        containers=[container(**memory(main))],
        initContainers=[container("s", restartPolicy="Always", **memory(sidecar))],
    )
    assert tuple(oom.score(made, c, 1024 * MI) for c in (made.containers[0], made.init_containers[0])) == scores
