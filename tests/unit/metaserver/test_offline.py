"""Writes at the edge while the cloud is gone, and what becomes of them when it is back: both halves, real sync, virtual time."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from kubeedge import faults
from kubeedge.api import edge_writes, keys, meta
from kubeedge.api.names import NodeName
from kubeedge.api.resources import CONFIGMAPS, EVENTS, NAMESPACES, NODES, PODS, SECRETS
from kubeedge.api.status import Forbidden, ObjectModified, ObjectNotFound, TooManyRequests
from kubeedge.errors import Conflict, Unavailable
from kubeedge.metaserver import core
from kubeedge.store.model import Put
from kubeedge_cloud.edgecontroller.writes import WriteMerger
from tests.unit.controllers.world import TENANT, World
from tests.unit.metaserver.world import NODE, EdgeNode, at_the_edge, configmap, pod, refused


async def with_a_pod(world: World, edge: EdgeNode, **data: str) -> None:
    """A pod with a ConfigMap on the node, in both stores; then the wire is cut."""
    await edge.connect()
    await world.api().create(CONFIGMAPS, "default", configmap("web", **(data or {"a": "1", "b": "1"})))
    await world.api().create(PODS, "default", pod("p", uses="web"))
    await world.until(lambda: has(edge, "configmaps", "web"), "the ConfigMap at the edge", within=2)
    await world.settle()
    await edge.cut()


async def has(edge: EdgeNode, resource: str, name: str) -> bool:
    return await edge.store.get(keys.desired(resource, "default", name)) is not None


async def reconnect(world: World, edge: EdgeNode) -> None:
    await edge.connect()
    await world.until(edge.settled, "every write is answered", within=20)
    await world.settle()


async def reasons(api: Any) -> list[str]:
    return sorted(e["reason"] for e in (await api.list(EVENTS)).items if e["reason"].startswith("EdgeWrite"))


async def data_of(api: Any, name: str = "web") -> dict[str, str]:
    return dict((await api.get(CONFIGMAPS, "default", name)).get("data") or {})


@at_the_edge
async def test_a_write_holds_at_the_edge_at_once_and_in_the_cloud_later(world: World, edge: EdgeNode) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        new = await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge"}})
        assert new["data"] == {"a": "edge", "b": "1"}
        shown = await edge.api.get(CONFIGMAPS, "default", "web")
        assert shown["data"]["a"] == "edge" and edge_writes.PENDING in shown["metadata"]["annotations"]
        assert (await edge.effective_value("configmaps", "web"))["data"]["a"] == "edge"  # what pods get
        assert (await data_of(world.api()))["a"] == "1"
        version = int(shown["metadata"]["resourceVersion"])

        await reconnect(world, edge)
        assert await data_of(world.api()) == {"a": "edge", "b": "1"}
        shown = await edge.api.get(CONFIGMAPS, "default", "web")
        assert shown["data"] == {"a": "edge", "b": "1"} and "annotations" not in shown["metadata"]
        assert int(shown["metadata"]["resourceVersion"]) > version
        assert await reasons(world.api()) == []
        assert not [key for key in await world.desired(NODE) if key.startswith("writes/")]  # nothing is left of it


@at_the_edge
async def test_fields_that_both_sides_changed_keep_the_cloud_s_value_and_both_hear_of_it(
    world: World, edge: EdgeNode
) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge", "c": "new"}})
        await world.api().merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "cloud", "d": "new"}})
        await reconnect(world, edge)
        merged = {"a": "cloud", "b": "1", "c": "new", "d": "new"}
        assert await data_of(world.api()) == await data_of(edge.api) == merged
        assert await reasons(world.api()) == await reasons(edge.api) == ["EdgeWriteConflict"]
        (event,) = (await world.api().list(EVENTS)).items
        assert "data.a" in event["message"] and event["involvedObject"]["name"] == "web"


@at_the_edge
async def test_writes_to_one_object_are_merged_in_their_order(world: World, edge: EdgeNode) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        for value in ("x", "y", "x", "z"):
            await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": value}})
        assert await edge.pending() == 4
        await reconnect(world, edge)
        assert (await data_of(world.api()))["a"] == (await data_of(edge.api))["a"] == "z"
        assert await reasons(world.api()) == []


@at_the_edge
async def test_an_object_that_was_deleted_or_created_again_in_the_cloud_takes_no_old_write(
    world: World, edge: EdgeNode
) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        await edge.api.merge_patch(PODS, "default", "p", {"metadata": {"labels": {"x": "edge"}}})
        await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge"}})
        await world.api().delete(CONFIGMAPS, "default", "web")
        await world.api().delete(PODS, "default", "p", grace_period=0)
        await world.api().create(PODS, "default", pod("p"))
        await reconnect(world, edge)
        assert "x" not in (await world.get(PODS, "p"))["metadata"]["labels"]
        async with refused(ObjectNotFound):
            await edge.api.get(CONFIGMAPS, "default", "web")
        assert await reasons(world.api()) == ["EdgeWriteRefused"] * 2


@at_the_edge
async def test_a_pod_deleted_at_the_edge_ends_there_at_once_and_in_the_cloud_when_it_is_back(
    world: World, edge: EdgeNode
) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        uid = (await world.get(PODS, "p"))["metadata"]["uid"]
        await edge.api.delete(PODS, "default", "p")
        seen = await edge.effective_value("pods", "p")
        assert seen["metadata"]["deletionTimestamp"] and seen["metadata"]["deletionGracePeriodSeconds"] == 30
        assert (await edge.api.get(PODS, "default", "p"))["metadata"]["deletionTimestamp"]
        await edge.store.put("/reported/pods/default/p", json.dumps({"uid": uid, "gone": True}).encode())
        async with refused(ObjectNotFound):
            await edge.api.get(PODS, "default", "p")
        await reconnect(world, edge)
        async with refused(ObjectNotFound):
            await world.get(PODS, "p")
        assert not await has(edge, "pods", "p")


@at_the_edge
async def test_a_pod_that_is_being_deleted_is_never_seen_alive_again_while_its_deletion_is_merged(
    world: World, edge: EdgeNode
) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        after = edge.store.revision
        await edge.api.delete(PODS, "default", "p", grace_period=5)
        await reconnect(world, edge)
        states = []
        async with aclosing(edge.effective.watch("/desired/pods/", after=after, progress=True)) as batches:
            async for batch in batches:
                states += [
                    bool(json.loads(c.value)["metadata"].get("deletionTimestamp")) for c in batch.changes if c.value
                ]
                if batch.revision >= edge.store.revision:
                    break
        assert states and all(states)


@at_the_edge
async def test_a_node_writes_what_is_its_own_and_nothing_else(world: World, edge: EdgeNode) -> None:
    async with world.cloud():
        await world.tenants.ensure_node(TENANT, "edge2")
        await with_a_pod(world, edge)
        await world.api().create(CONFIGMAPS, "default", configmap("shared", a="1"))
        await world.api().create(CONFIGMAPS, "default", configmap("foreign", a="1"))
        await world.api().create(PODS, "default", pod("other", node="edge2", uses="shared"))
        await world.api().create(PODS, "default", pod("mine", uses="shared"))
        await edge.connect()
        await world.until(lambda: has(edge, "configmaps", "shared"), "shared", within=2)
        await edge.cut()
        await edge.api.merge_patch(CONFIGMAPS, "default", "shared", {"data": {"a": "edge"}})
        # an agent that was broken into asks for what our own API would refuse
        for number, (resource, name, path) in enumerate(
            (
                ("configmaps", "foreign", ["data", "a"]), ("pods", "other", ["metadata", "labels", "x"]),
                ("nodes", "edge2", ["metadata", "labels", "x"]), ("pods", "p", ["spec", "nodeName"]),
                ("secrets", "s", ["data", "x"]), ("tenants", "b", ["data", "x"]),
            )
        ):  # fmt: skip
            write = {
                "id": f"bad{number}", "operation": "change", "resource": resource, "name": name,
                "namespace": "" if resource == "nodes" else "default", "changes": [{"path": path, "now": "evil"}],
            }  # fmt: skip
            await edge.store.put(core.WRITES + f"{900 + number:016d}", json.dumps(write).encode())
        for number, garbage in enumerate((b"", b"null", b"\xff", b"[" * 5000, b"7", b'{"id":{}}')):
            await edge.store.put(core.WRITES + f"{990 + number:016d}", garbage)
        before = {r.plural: [o for o in await world.all(r)] for r in (CONFIGMAPS, PODS, NODES)}
        await edge.connect()
        await world.settle(60)
        for kind, objects in before.items():
            for obj in objects:
                if kind != "nodes":
                    now = next(
                        o
                        for o in await world.all(PODS if kind == "pods" else CONFIGMAPS)
                        if o["metadata"]["uid"] == obj["metadata"]["uid"]
                    )
                    assert (now.get("data"), now["metadata"].get("labels"), now.get("spec")) == (
                        obj.get("data"), obj["metadata"].get("labels"), obj.get("spec"))  # fmt: skip
        assert "x" not in (await world.get(NODES, "edge2"))["metadata"]["labels"]
        (shared,) = [e for e in (await world.api().list(EVENTS)).items if e["involvedObject"]["name"] == "shared"]
        assert "other nodes use it" in shared["message"]
        # with the owner's word it is open
        await world.api().merge_patch(
            CONFIGMAPS, "default", "shared", {"metadata": {"annotations": {edge_writes.POLICY: "allow"}}}
        )
        await world.settle()
        await edge.api.merge_patch(CONFIGMAPS, "default", "shared", {"data": {"a": "edge"}})
        await world.until(lambda: is_data(world, "shared", "edge"), "merged", within=5)


async def is_data(world: World, name: str, value: str) -> bool:
    return (await data_of(world.api(), name)).get("a") == value


@at_the_edge
async def test_what_is_not_written_at_the_edge_is_refused_with_a_reason_and_queues_nothing(
    world: World, edge: EdgeNode
) -> None:
    async with world.cloud():
        await world.api().create(SECRETS, "default", {"metadata": {"name": "s"}, "data": {"k": "djE="}})
        await with_a_pod(world, edge)
        async with refused(Forbidden, "created in the cloud"):
            await edge.api.create(CONFIGMAPS, "default", configmap("new"))
        async with refused(Forbidden, "deleted in the cloud"):
            await edge.api.delete(CONFIGMAPS, "default", "web")
        async with refused(Forbidden, "kubeedge.io/edge-writes"):
            await edge.api.merge_patch(
                CONFIGMAPS, "default", "web", {"metadata": {"annotations": {edge_writes.POLICY: "allow"}}}
            )
        async with refused(Forbidden, "immutable"):
            await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"immutable": True})
        async with refused(ObjectModified):
            old = await edge.api.get(CONFIGMAPS, "default", "web")
            await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "2"}})
            await edge.api.update(CONFIGMAPS, "default", {**old, "data": {}})
        assert await edge.pending() == 1
        async with refused(TooManyRequests, "wait for the cloud"):
            for number in range(core.MAX_PENDING + 1):
                await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": str(number)}})
        assert await edge.pending() == core.MAX_PENDING
        await reconnect(world, edge)
        assert (await data_of(world.api()))["a"] == str(core.MAX_PENDING - 2)


@at_the_edge
async def test_a_cloud_that_dies_in_the_middle_of_a_merge_merges_once(world: World, edge: EdgeNode) -> None:
    """The process ends after the object was written and before anything else was; meanwhile a user takes the change back."""
    async with world.cloud():
        await with_a_pod(world, edge)
    await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge"}})
    broken = asyncio.Event()

    def crash() -> None:
        broken.set()
        raise Unavailable("the process dies here")

    faults.arm("edgecontroller.writes.before_done", crash)
    try:
        async with world.cloud():
            await edge.connect()
            await asyncio.wait_for(broken.wait(), 10)
    finally:
        faults.disarm()
    assert (await data_of(world.api()))["a"] == "edge" and not await edge.settled()
    await world.api().merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "1"}})
    async with world.cloud():
        await world.until(edge.settled, "answered", within=20)
        await world.settle()
        assert (await data_of(world.api()))["a"] == (await data_of(edge.api))["a"] == "1"


CRASHES = (
    "edgecontroller.writes.before_update",
    "edgecontroller.writes.before_done",
    "edgecontroller.writes.after_done",
    "edgecontroller.desired.before_commit",
)


@pytest.mark.parametrize("point", CRASHES)
def test_a_write_that_was_merged_in_part_has_one_answer_wherever_the_cloud_dies(point: str) -> None:
    """One field conflicts, one is merged, and a user takes the merged one back while the process is dead."""

    @at_the_edge
    async def scenario(world: World, edge: EdgeNode) -> None:
        async with world.cloud():
            await with_a_pod(world, edge, a="1", b="1")
        await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge", "b": "edge"}})
        await world.api().merge_patch(CONFIGMAPS, "default", "web", {"data": {"b": "cloud"}})
        broken = asyncio.Event()

        def crash() -> None:
            written = point != "edgecontroller.desired.before_commit"
            if written or world.store.newest(
                keys.edge_writes_done(TENANT, NODE)
            ):  # desired state goes down before, too
                broken.set()
                raise Unavailable("the process dies here")

        faults.arm(point, crash)
        try:
            async with world.cloud():
                await edge.connect()
                await asyncio.wait_for(broken.wait(), 10)
        finally:
            faults.disarm()
        merged = point != "edgecontroller.writes.before_update"
        assert await data_of(world.api()) == {"a": "edge" if merged else "1", "b": "cloud"}
        if merged:
            await world.api().merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "1"}})
        async with world.cloud():
            await world.until(edge.settled, "answered", within=20)
            await world.settle()
        assert await data_of(world.api()) == {"a": "1" if merged else "edge", "b": "cloud"}, "merged once"
        assert edge.settle.outcomes == {"conflict": 1}
        for api in (world.api(), edge.api):
            (event,) = [e for e in (await api.list(EVENTS, "default")).items if "EdgeWrite" in e["reason"]]
            assert event["reason"] == "EdgeWriteConflict" and "stays: data.b; the other" in event["message"], event

    scenario()


@at_the_edge
async def test_nodes_that_share_an_object_keep_each_other_s_merged_writes(world: World, edge: EdgeNode) -> None:
    """Of two nodes the process has merged the writes, and has noted neither: each is still known by its own mark."""
    await world.api().create(CONFIGMAPS, "default", configmap("web", a="1"))
    await world.api().merge_patch(
        CONFIGMAPS, "default", "web", {"metadata": {"annotations": {edge_writes.POLICY: "allow"}}}
    )
    other = NodeName("edge2")
    await world.tenants.ensure_node(TENANT, other)
    pods = [pod("p", uses="web"), pod("q", uses="web", node=other)]
    for each in pods:
        each["metadata"]["namespace"] = "default"
    merger = WriteMerger(
        TENANT, world.store, world.api(), pods=lambda: pods, refresh=lambda *what: asyncio.sleep(0), wall=world.wall
    )

    def write(name: str, was: str, now: str) -> bytes:
        field = edge_writes.FieldChange(("data", "a"), now, was)
        return edge_writes.encode(
            edge_writes.EdgeWrite(
                id=name, operation="change", resource="configmaps", namespace="default", name="web", changes=(field,)
            )
        )

    def crash() -> None:
        raise Unavailable("the process dies here")

    faults.arm("edgecontroller.writes.before_done", crash)
    try:
        for node, value in ((NODE, write("w1", "1", "2")), (other, write("w2", "2", "1"))):
            with pytest.raises(Unavailable):
                await merger.merge(node, value)
    finally:
        faults.disarm()
    assert (await data_of(world.api()))["a"] == "1"
    for node, value in ((NODE, write("w1", "1", "2")), (other, write("w2", "2", "1"))):
        assert edge_writes.decode_result(await merger.merge(node, value))[1] == "merged"
        assert (await data_of(world.api()))["a"] == "1", f"the write of {node} was merged again"


@at_the_edge
async def test_a_row_that_is_no_write_any_more_does_not_wait_for_ever(world: World, edge: EdgeNode) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        await edge.store.put(f"{core.WRITES}0000000000000001", b'{"id":"w1","oper\xfftion":')
        await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge"}})
        await reconnect(world, edge)
        assert (await data_of(world.api()))["a"] == "edge" and await edge.pending() == 0


class Stopped:
    """The API as a process sees it that is stopped before it reads an object."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.reads, self.goes_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.api, name)

    async def get(self, *place: Any) -> Any:
        self.reads.set()
        await self.goes_on.wait()
        return await self.api.get(*place)


@at_the_edge
async def test_a_process_that_goes_on_after_another_took_over_merges_nothing_twice(
    world: World, edge: EdgeNode
) -> None:
    """The value is the same again when it goes on: nothing but the id of the write tells that it was merged."""
    await world.api().create(CONFIGMAPS, "default", configmap("web", a="1"))
    await world.api().create(PODS, "default", pod("p", uses="web"))

    def merger(api: Any, heard: list[Any]) -> WriteMerger:
        async def refresh(resource: str, namespace: str, name: str) -> None:
            heard.append((resource, await world.api().get(CONFIGMAPS, namespace, name)))

        return WriteMerger(TENANT, world.store, api, pods=lambda: [pods], refresh=refresh, wall=world.wall)

    def change(name: str, was: str, now: str) -> bytes:
        field = edge_writes.FieldChange(("data", "a"), now, was)
        return edge_writes.encode(
            edge_writes.EdgeWrite(
                id=name, operation="change", resource="configmaps", namespace="default", name="web", changes=(field,)
            )
        )

    pods = await world.api().get(PODS, "default", "p")
    stopped = Stopped(world.api())
    heard: list[Any] = []
    merging = asyncio.create_task(merger(stopped, []).merge(NODE, change("w1", "1", "2")))
    await stopped.reads.wait()
    leader = merger(world.api(), heard)
    for write in (change("w1", "1", "2"), change("w2", "2", "1")):
        assert edge_writes.decode_result(await leader.merge(NODE, write))[1] == "merged"
    stopped.goes_on.set()
    with pytest.raises(Conflict):
        await merging
    assert (await data_of(world.api()))["a"] == "1"
    heard.clear()
    assert edge_writes.decode_result(await leader.merge(NODE, change("w1", "1", "2")))[1] == "merged"
    assert heard[0][1]["data"] == {"a": "1"}, "the answer goes down with the object as it is"


@at_the_edge
async def test_a_node_restored_from_an_old_image_does_not_write_twice_and_its_new_writes_count(
    world: World, edge: EdgeNode
) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge"}})
        (image,) = (await edge.store.range(core.WRITES, keys.prefix_end(core.WRITES))).kvs
        await reconnect(world, edge)
        await world.api().merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "1"}})
        await edge.store.put(image.key, image.value)  # what the old image still had in its queue
        await world.until(edge.settled, "answered again", within=20)
        await world.settle()
        assert (await data_of(world.api()))["a"] == "1"
        await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "again"}})
        await world.until(lambda: is_data(world, "web", "again"), "merged", within=5)


@at_the_edge
async def test_watches_see_writes_answers_and_status_in_order_and_versions_never_go_back(
    world: World, edge: EdgeNode
) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        listed = await edge.api.list(CONFIGMAPS)
        assert [meta.name_of(o) for o in listed.items] == ["web"]
        seen: list[tuple[str, str, int]] = []

        async def watch() -> None:
            async with aclosing(edge.api.watch(CONFIGMAPS, resource_version=listed.resource_version)) as events:
                async for event in events:
                    obj = event.object
                    seen.append(
                        (event.type, (obj.get("data") or {}).get("a", ""), int(obj["metadata"]["resourceVersion"]))
                    )

        task = asyncio.create_task(watch())
        await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge"}})
        await reconnect(world, edge)
        await world.api().merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "cloud"}})
        await world.settle()
        await world.api().delete(CONFIGMAPS, "default", "web")
        await world.settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        values = [value for _, value, _ in seen]
        assert values == sorted(values, key=["edge", "cloud"].index), seen  # "1" is never seen again
        assert [kind for kind, _, _ in seen][-1] == "DELETED" and seen[0][:2] == ("MODIFIED", "edge")
        versions = [version for _, _, version in seen]
        assert versions == sorted(set(versions))


@at_the_edge
async def test_pods_have_their_status_nodes_are_ready_and_namespaces_are_those_in_use(
    world: World, edge: EdgeNode
) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)
        uid = (await world.get(PODS, "p"))["metadata"]["uid"]
        assert (await edge.api.get(PODS, "default", "p"))["status"]["phase"] == "Pending"
        status = {"uid": uid, "status": {"phase": "Running", "podIP": "10.244.1.2"}}
        await edge.store.put("/reported/pods/default/p", json.dumps(status).encode())
        assert (await edge.api.get(PODS, "default", "p"))["status"]["podIP"] == "10.244.1.2"
        (found,) = (await edge.api.list(PODS, field_selector="status.phase=Running")).items
        assert found["kind"] == "Pod" and meta.name_of(found) == "p"
        (node,) = (await edge.api.list(NODES)).items
        assert node["status"]["conditions"][0]["status"] == "True" and node["status"]["capacity"] == {"cpu": "4"}
        assert [meta.name_of(n) for n in (await edge.api.list(NAMESPACES)).items] == ["default"]
        assert (await edge.api.get(NAMESPACES, "", "default"))["status"]["phase"] == "Active"
        await edge.api.merge_patch(NODES, "", NODE, {"spec": {"unschedulable": True}})
        await reconnect(world, edge)
        assert (await world.get(NODES, NODE))["spec"]["unschedulable"] is True
        assert (await edge.api.get(NODES, "", NODE))["spec"]["unschedulable"] is True


@at_the_edge
async def test_a_list_in_pages_shows_one_revision_though_most_rows_are_hidden(world: World, edge: EdgeNode) -> None:
    for number in range(1200):
        obj = {"metadata": {"name": f"p{number:04d}", "namespace": "default", "uid": f"u{number}"}, "spec": {}}
        await edge.store.put(keys.desired("pods", "default", f"p{number:04d}"), meta.canonical(obj))
        if number % 400:
            gone = json.dumps({"uid": f"u{number}", "gone": True}).encode()
            await edge.store.put(keys.reported("pods", "default", f"p{number:04d}"), gone)
    names, token = [], ""
    while True:
        page = await edge.api.list_page(PODS, "default", limit=2, continue_token=token)
        names += [meta.name_of(o) for o in page.items]
        assert len(page.items) <= 2
        await edge.store.put(
            keys.desired("pods", "default", f"q{len(names)}"), meta.canonical({"metadata": {"name": "q"}})
        )
        if not (token := page.continue_token):
            break
    assert names == ["p0000", "p0400", "p0800"]


@at_the_edge
async def test_a_full_disk_refuses_the_write_and_shows_nothing_of_it(world: World, edge: EdgeNode) -> None:
    async with world.cloud():
        await with_a_pod(world, edge)

        async def full(*arguments: Any) -> Any:
            raise Unavailable("database or disk is full", retry_after=1.0)

        real, edge.store.txn = edge.store.txn, full  # type: ignore[method-assign]
        async with refused(Unavailable, "full"):
            await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge"}})
        edge.store.txn = real  # type: ignore[method-assign]
        assert await edge.pending() == 0 and (await data_of(edge.api))["a"] == "1"
        await edge.api.merge_patch(CONFIGMAPS, "default", "web", {"data": {"a": "edge"}})
        await reconnect(world, edge)
        assert (await data_of(world.api()))["a"] == "edge"


@at_the_edge
async def test_a_watch_of_a_long_history_lets_others_have_their_turn(world: World, edge: EdgeNode) -> None:
    """The agent's only loop answers pings and probes, too."""
    before = edge.store.revision
    puts = [
        Put(keys.desired("pods", "default", f"p{n:04d}"), b'{"metadata":{"name":"p%04d","namespace":"default"}}' % n)
        for n in range(800)
    ]
    await edge.store.txn((), puts)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    async with aclosing(edge.view.watch("/t/default/registry/core/pods/", after=before)) as batches:
        batch = await anext(batches)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(batch.changes) == 800 and turns >= 800 // 16 - 1  # its first turn only begins it
