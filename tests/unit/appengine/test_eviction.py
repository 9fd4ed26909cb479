"""What a node does when it runs short: thresholds, order, words, conditions, images; what it tells of its pods."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import ephemeral_storage
from kubeedge.appengine import eviction, image_gc, node, node_readings, oom
from kubeedge.appengine.eviction import DISK, INODES, MEMORY, PIDS, Candidate, Reading, Threshold
from kubeedge.appengine.housekeeping import Housekeeping
from kubeedge.appengine.image_manager import ImageManager
from kubeedge.appengine.runtime.base import ContainerStats, PodStats, ResourceUsage
from kubeedge.appengine.runtime.image_service import ImageStatus
from kubeedge.appengine.settings import AppEngineSettings, ImageSettings
from kubeedge.appengine.worker import Worker, Workers
from kubeedge.conditions.core import of_pressure
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge.kit.disk_use import DiskUse
from tests.unit.appengine.world import container, observed, pod, running

MI, GI = 1024 * 1024, 1024**3


# -- thresholds ----------------------------------------------------------------------------------------------------------------


def test_thresholds_are_read_as_the_kubelet_reads_them() -> None:
    found = eviction.thresholds(["memory.available<100Mi", "nodefs.available < 10%", "pid.available<500"])
    assert [t.value(1000 * MI) for t in found] == [100 * MI, 100 * MI, 500]
    assert eviction.thresholds(()) == eviction.DEFAULTS and eviction.thresholds(["none"]) == ()
    (memory,) = (t for t in eviction.DEFAULTS if t.signal == MEMORY)
    assert memory.value(24 * GI) == 100 * MI and memory.value(128 * MI) == 12 * MI + 838860


@pytest.mark.parametrize(
    "text",
    ["", "memory<1", "memory.available>1Mi", "memory.available<", "memory.available<x", "nodefs.available<101%",
     "memory.available<1%%", "memory.available<-1", "memory.available<1.2.3%", "x.available<1"],
)  # fmt: skip
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        eviction.thresholds([text])


def test_reservations_and_thresholds_are_taken_from_what_pods_get(tmp_path: Path) -> None:
    reserve = node.reserved(["cpu=100m", "memory=48Mi", "memory=2Mi", "ephemeral-storage=1Mi"])
    assert reserve == node.Reserved(100, 50 * MI, MI, 0)
    limits = (Threshold(MEMORY, 100 * MI), Threshold(DISK, None, 10.0))
    given: dict[str, Any] = dict(node="n", address="100.64.0.1/16", runtime_version="x", max_pods=9, state=tmp_path)
    before, after = node.status(**given), node.status(**given, reserve=reserve, limits=limits)
    assert before["capacity"] == after["capacity"] and before["allocatable"]["memory"] == before["capacity"]["memory"]
    assert kib(before["capacity"]["memory"]) - kib(after["allocatable"]["memory"]) == 150 * 1024
    storage = kib(after["capacity"]["ephemeral-storage"])
    assert storage * 0.9 - 1024 - 1 <= kib(after["allocatable"]["ephemeral-storage"]) <= storage * 0.9 - 1023
    assert after["allocatable"]["cpu"].endswith("m")
    settings = AppEngineSettings(
        node="n", address="100.64.0.1/16", state=tmp_path, logs=tmp_path, reserved=reserve, eviction=limits
    )
    has = settings.allocatable()  # for resizes and resourceFieldRefs
    assert {name: f"{has[name] // 1024}Ki" for name in ("memory", "ephemeral-storage")} == {
        name: after["allocatable"][name] for name in ("memory", "ephemeral-storage")
    }
    assert after["allocatable"]["cpu"] == f"{has['cpu']}m"
    for wrong in ("memory", "gpu=1", "memory=x"):
        with pytest.raises(Invalid):
            node.reserved([wrong])


def kib(text: str) -> int:
    return int(text.removesuffix("Ki"))


# -- who goes first ------------------------------------------------------------------------------------------------------------


def candidate(uid: str, used: int, asked: int = 0, *, priority: int = 0, critical: bool = False) -> Candidate:
    return Candidate(uid, priority, critical, {"c": used}, {"c": asked} if asked else {})


def test_who_uses_more_than_it_asked_for_goes_first_then_priority_then_the_amount() -> None:
    pods = [
        candidate("modest", 50, 100),
        candidate("greedy", 300, 100),
        candidate("greedier", 900, 100),
        candidate("important", 5000, 100, priority=10),
        candidate("critical", 9000, critical=True),
    ]
    for order in itertools.permutations(pods):
        assert [p.uid for p in eviction.rank(MEMORY, order)] == ["greedier", "greedy", "important", "modest"]
    assert [p.uid for p in eviction.rank(DISK, pods)][:2] == ["greedier", "greedy"]


def test_of_inodes_and_process_ids_priority_decides_before_the_amount() -> None:
    pods = [candidate("many", 900, priority=5), candidate("few", 3), candidate("some", 30)]
    for signal in (INODES, PIDS):
        assert [p.uid for p in eviction.rank(signal, pods)] == ["some", "few", "many"]


def test_the_message_is_the_kubelets() -> None:
    said = eviction.message(Threshold(MEMORY, 100 * MI), Reading(50 * MI, GI), candidate("u", 200 * MI, 10 * MI))
    assert said == (
        "The node was low on resource: memory. Threshold quantity: 102400Ki, available: 51200Ki. "
        "Container c was using 204800Ki, request is 10240Ki, has larger consumption of memory. "
    )
    assert "low on resource: pids. Threshold quantity: 5, available: 3. " in eviction.message(
        Threshold(PIDS, 5), Reading(3, 100), candidate("u", 7)
    )


def test_limits_of_ephemeral_storage_are_of_containers_and_of_the_pod() -> None:
    spec = {"containers": [
        {"name": "a", "resources": {"limits": {"ephemeral-storage": "1Mi"}, "requests": {"ephemeral-storage": "1k"}}},
        {"name": "b", "resources": {"limits": {"ephemeral-storage": "2Mi", "cpu": 1}}},
    ]}  # fmt: skip
    storage = ephemeral_storage.read(spec)
    assert (storage.requests, storage.limits, storage.limit) == ({"a": 1000}, {"a": MI, "b": 2 * MI}, 3 * MI)
    over = eviction.over_storage_limit
    assert over(storage.limits, {"a": MI, "b": MI}, 0) == ""
    assert over(storage.limits, {"a": MI + 1}, 0) == 'Container a exceeded its local ephemeral storage limit "1Mi". '
    assert "exceeds the total limit of containers 3Mi" in over(storage.limits, {"a": MI, "b": MI}, MI + 1)
    assert over({}, {"a": 10 * GI}, GI) == ""
    for wrong in ("x", [], True, {"a": 1}):
        with pytest.raises(Invalid):
            ephemeral_storage.read({"containers": [{"resources": {"limits": {"ephemeral-storage": wrong}}}]})
    assert pod(containers=[container(resources={"limits": {"ephemeral-storage": "1Mi"}})], priority=7).priority == 7


# -- conditions ----------------------------------------------------------------------------------------------------------------


def test_a_condition_stays_for_a_while_so_that_it_does_not_flap() -> None:
    pressure, limits = eviction.Pressure(), (Threshold(MEMORY, 100), Threshold(INODES, None, 50.0))
    pressure.update(eviction.met(limits, {MEMORY: Reading(99, 1000), INODES: Reading(500, 1000)}), 0.0)
    assert pressure.has("MemoryPressure") and not pressure.has("DiskPressure")
    assert pressure.conditions()["MemoryPressure"]["reason"] == "KubeletHasInsufficientMemory"
    pressure.update([], 299.0)
    assert pressure.has("MemoryPressure")
    pressure.update([], 300.0)
    assert pressure.conditions()["MemoryPressure"]["status"] == "False"
    pressure.update(eviction.met(limits, {INODES: Reading(499, 1000)}), 301.0)
    assert pressure.conditions()["DiskPressure"]["status"] == "True"


def test_what_never_pressed_is_not_said() -> None:
    pressure = eviction.Pressure()
    calm = pressure.conditions()["PIDPressure"]
    assert of_pressure(calm, None) is None
    pressure.update([Threshold(PIDS, 5)], 0.0)
    pressing = pressure.conditions()["PIDPressure"]
    assert of_pressure(pressing, None) == pressing and of_pressure(pressing, pressing) is None
    assert of_pressure(calm, pressing) == calm


def test_the_machine_is_read(tmp_path: Path) -> None:
    found = node_readings.read(tmp_path, tmp_path)
    assert {MEMORY, DISK, PIDS} <= set(found) and all(0 <= r.available <= r.capacity for r in found.values())
    assert node_readings.read(tmp_path / "none", tmp_path / "none", tmp_path) == {}


# -- oom scores ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "score"),
    [
        ({}, 1000),
        ({"requests": {"memory": "512Mi"}}, 500),
        ({"requests": {"memory": "1Mi"}}, 999),
        ({"requests": {"memory": "4Gi"}}, 3),
        ({"limits": {"memory": "512Mi", "cpu": "1"}, "requests": {"memory": "512Mi", "cpu": "1"}}, -997),
    ],
)
def test_the_kernel_ends_those_first_that_asked_for_least(resources: dict[str, Any], score: int) -> None:
    one = pod(containers=[container(resources=resources)])
    assert oom.score(one, one.containers[0], GI) == score
    node, cluster = (
        pod(
            containers=[container(resources=resources)],
            priority=eviction.CRITICAL,
            priorityClassName=f"system-{of}-critical",
        )
        for of in ("node", "cluster")
    )
    assert oom.score(node, node.containers[0], GI) == -997
    assert oom.score(cluster, cluster.containers[0], GI) == score


# -- statistics ----------------------------------------------------------------------------------------------------------------


# -- images --------------------------------------------------------------------------------------------------------------------


class Images:
    """An image service whose disk is as full as its images make it."""

    def __init__(self, capacity: int, **sizes: int) -> None:
        self.capacity = capacity
        self.images = {name: ImageStatus(f"id-{name}", (f"r.io/{name}:1",), size=size) for name, size in sizes.items()}
        self.failures = 0
        self.pulled: list[str] = []

    def disk(self, _: Path) -> image_gc.Disk:
        return image_gc.Disk(self.capacity, self.capacity - sum(i.size for i in self.images.values()))

    async def list(self) -> Sequence[ImageStatus]:
        return [*self.images.values()]

    async def status(self, name: str) -> ImageStatus | None:
        return next((i for i in self.images.values() if name in i.names), None)

    async def remove(self, name: str) -> None:
        self.images = {n: i for n, i in self.images.items() if name not in i.names}

    async def prune(self) -> int:
        return 0

    async def restore(self, name: str) -> bool:
        return False

    async def pull(self, name: str, auth: Mapping[str, str]) -> str:
        self.pulled.append(name)
        if self.failures:
            self.failures -= 1
            raise Invalid("no line")
        return "id"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def manager(images: Images, clock: Clock, *workers: Worker, **settings: Any) -> ImageManager:
    kept = Workers()
    for worker in workers:
        kept.add(worker)
    return ImageManager(
        images,  # type: ignore[arg-type]
        kept, ImageSettings(**settings), Path("/"), clock=clock, disk=images.disk,
    )  # fmt: skip


def worker(image: str, *, uid: str = "u1", image_id: str = "") -> Worker:
    state = running(image=image)
    state.image_id = image_id
    one = pod(uid=uid, containers=[container(image=image)])
    seen = observed(main=state)
    seen.uid = uid
    return Worker(uid, "default", "web", one, seen)


def test_images_go_in_the_order_of_their_last_use_and_none_that_is_in_use() -> None:
    async def scenario() -> None:
        clock, images = Clock(), Images(100, old=20, used=30, recent=20, mine=20)
        user = worker("r.io/used:1", image_id="id-used")
        keeper = manager(images, clock, user, worker("mine:1", uid="u2", image_id="id-mine"))
        assert "only found 0 bytes eligible" in await keeper.collect(), "all are younger than two minutes"
        assert len(images.images) == 4
        clock.now += 60
        user.observed.containers["main"].image_id = "id-recent"  # now it runs another one
        user.desired = pod(containers=[container(image="r.io/recent:1")])
        await keeper.table()
        clock.now += 100
        assert await keeper.collect() == ""
        assert set(images.images) == {"used", "recent", "mine"}, "until it is below 80 percent, and no further"
        images.capacity = 75
        assert await keeper.collect() == ""
        assert set(images.images) == {"recent", "mine"}
        images.capacity = 41
        said = await keeper.collect()
        assert "Failed to garbage collect required amount of images" in said and len(images.images) == 2

    asyncio.run(scenario())


def test_no_image_goes_below_the_threshold_or_when_it_is_pinned() -> None:
    async def scenario() -> None:
        clock, images = Clock(), Images(100, a=40, b=40)
        keeper = manager(images, clock)
        clock.now += 1000
        assert await keeper.collect() == "" and len(images.images) == 2
        images.images["a"] = ImageStatus("id-a", ("r.io/a:1",), size=40, pinned=True)
        assert await keeper.prune() == {"removed": ["r.io/b:1"], "bytes": 40} and set(images.images) == {"a"}
        off = manager(Images(10, a=10), clock, high=100)
        assert await off.collect() == "" and len(await off.table()) == 1

    asyncio.run(scenario())


def test_people_cannot_remove_what_a_container_uses() -> None:
    async def scenario() -> None:
        images = Images(100, a=1, b=1)
        keeper = manager(images, Clock(), worker("r.io/a:1", image_id="id-a"))
        with pytest.raises(Conflict):
            await keeper.remove("r.io/a:1")
        await keeper.remove("r.io/b:1")
        with pytest.raises(NotFound):
            await keeper.remove("r.io/b:1")
        assert [(row["names"], row["inUse"]) for row in await keeper.table()] == [(["r.io/a:1"], True)]
        assert await keeper.node_images() == [{"names": ["r.io/a:1"], "sizeBytes": 1}]

    asyncio.run(scenario())


# -- the loop ------------------------------------------------------------------------------------------------------------------


class Node:
    """Stands for the runtime and the reports of a node whose readings a test sets."""

    def __init__(self, *workers: Worker) -> None:
        self.readings: dict[str, Reading] = {MEMORY: Reading(500 * MI, GI), DISK: Reading(50 * GI, 100 * GI)}
        self.usage = {w.uid: 10 * MI for w in workers}
        self.disk = {w.uid: MI for w in workers}
        self.events: list[tuple[str, str]] = []
        self.removed: list[str] = []
        self.workers, self.clock = Workers(), Clock()
        for one in workers:
            self.workers.add(one)
        self.images = Images(100)
        limits = (Threshold(MEMORY, 100 * MI), Threshold(DISK, None, 10.0))
        self.housekeeping = Housekeeping(
            self, self.workers, self, self, manager(self.images, self.clock), limits, lambda: self.readings,  # type: ignore[arg-type]
            clock=self.clock,
        )  # fmt: skip

    async def stats(self) -> list[PodStats]:
        return [
            PodStats(
                uid,
                "",
                "",
                ResourceUsage(0, 0, 0, 0, 0, 0, 0),
                [ContainerStats("main", "", "", 0.0, ResourceUsage(0, m, m, m, 0, 0, 1))],
            )
            for uid, m in self.usage.items()
        ]

    async def disk_usage(self, uid: str) -> dict[str, DiskUse]:
        return {"main": DiskUse(self.disk[uid], 1)}

    async def remove_pod(self, uid: str) -> None:
        self.removed.append(uid)

    def remove(self, uid: str, _: object) -> None:
        self.removed.append(f"volumes of {uid}")

    def used(self, _: object) -> DiskUse:
        return DiskUse(0, 0)

    def log_usage(self, _: object) -> DiskUse:
        return DiskUse(MI, 1)

    async def event(self, worker: Worker, kind: str, reason: str, message: str) -> None:
        self.events.append((worker.uid, message))


def test_one_pod_goes_at_a_time_and_the_next_when_it_has_ended() -> None:
    async def scenario() -> None:
        a, b = worker("a", uid="a"), worker("b", uid="b")
        node = Node(a, b)
        await node.housekeeping.look()
        assert not node.events and not node.housekeeping.pressure.has("MemoryPressure")
        node.usage["b"], node.readings[MEMORY] = 400 * MI, Reading(20 * MI, GI)
        await node.housekeeping.look()
        await node.housekeeping.look()
        assert [uid for uid, _ in node.events] == ["b"] and b.observed.evicted and not a.observed.evicted
        assert "low on resource: memory" in node.events[0][1] and node.housekeeping.pressure.has("MemoryPressure")
        b.observed.containers["main"].finished_at = 5.0
        await node.housekeeping.look()
        assert [uid for uid, _ in node.events] == ["b", "a"]
        assert node.removed == ["b", "volumes of b"], "what it wrote is gone; of the other one nothing yet, for it runs"
        await node.housekeeping.look()
        assert node.removed == ["b", "volumes of b"]

    asyncio.run(scenario())


def test_unused_images_go_before_pods() -> None:
    async def scenario() -> None:
        a = worker("r.io/a:1", uid="a")
        node = Node(a)
        node.images.images = {"x": ImageStatus("id-x", ("r.io/x:1",), size=1)}
        full = {DISK: Reading(GI, 100 * GI)}
        node.housekeeping._readings = lambda: full if node.images.images else {DISK: Reading(50 * GI, 100 * GI)}
        await node.housekeeping.look()
        assert not node.images.images and not node.events and not node.housekeeping.pressure.has("DiskPressure")
        node.housekeeping._readings = lambda: full
        await node.housekeeping.look()
        assert [uid for uid, _ in node.events] == ["a"] and "low on resource: ephemeral-storage" in node.events[0][1]
        assert node.housekeeping.pressure.has("DiskPressure")

    asyncio.run(scenario())


def test_a_pod_above_its_own_limit_goes_though_the_node_has_enough() -> None:
    async def scenario() -> None:
        limited = worker("a", uid="a")
        limited.desired = pod(uid="a", containers=[container(resources={"limits": {"ephemeral-storage": "3Mi"}})])
        node = Node(limited, worker("b", uid="b"))
        await node.housekeeping.look()
        assert not node.events
        node.disk["a"] = 4 * MI
        await node.housekeeping.look()
        assert node.events == [("a", 'Container main exceeded its local ephemeral storage limit "3Mi". ')]

    asyncio.run(scenario())
