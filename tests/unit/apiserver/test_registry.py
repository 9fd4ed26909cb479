"""The registry of one tenant over a store: what controllers and the HTTP server build on."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.client import KubeClient, WatchEvent
from kubeedge.api.names import TenantId
from kubeedge.api.resources import CONFIGMAPS, DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, REPLICASETS, SERVICES
from kubeedge.api.status import AlreadyExists, BadRequest, Expired, Forbidden, InvalidObject
from kubeedge.apiserver.core import DeleteOptions, WriteOptions
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import Conflict, Gone, Invalid, NotFound
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite

NOON = 1_790_000_000.0


class World:
    """Two tenants over one store, with a clock that stands still until a test moves it."""

    def __init__(self, store: Store | None = None) -> None:
        self.store: Store = store or MemoryStore()
        self.now = NOON
        counter = itertools.count()

        def randbytes(size: int) -> bytes:
            return (next(counter) * 2654435761 % 2**64).to_bytes(8, "big").rjust(size, b"\1")[-size:]

        def registry(tenant: str) -> Registry:
            return Registry(self.store, TenantId(tenant), wall=lambda: self.now, randbytes=randbytes)

        self.a, self.b = registry("a"), registry("b")


def in_world(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[str, Path], None]:
    """Run over both stores that the product has."""

    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def run(kind: str, tmp_path: Path) -> None:
        async def inside() -> None:
            world = World(await open_sqlite(tmp_path / "store.db") if kind == "sqlite" else None)
            try:
                await asyncio.wait_for(test(world), 20)
            finally:
                await world.store.close()

        asyncio.run(inside())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "busybox:1"}], **spec},
    }


def configmap(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "data": data}


def deployment(name: str = "web", replicas: int = 2) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "busybox"}]},
            },
        },
    }


@contextlib.asynccontextmanager
async def watching(events: AsyncGenerator[WatchEvent, None]) -> AsyncIterator[Callable[[], Awaitable[WatchEvent]]]:
    async with contextlib.aclosing(events):

        async def following() -> WatchEvent:
            return await asyncio.wait_for(anext(events), 60)

        yield following


def test_a_registry_is_a_kube_client() -> None:
    client: KubeClient = World().a
    assert client is not None


@in_world
async def test_create_gives_identity_defaults_and_a_version(world: World) -> None:
    made = await world.a.create(PODS, "default", pod())
    meta = made["metadata"]
    assert meta["namespace"] == "default" and len(meta["uid"]) == 36
    assert meta["creationTimestamp"] == "2026-09-21T14:13:20Z"
    assert meta["resourceVersion"] == str(world.store.revision)
    assert made["spec"]["restartPolicy"] == "Always"
    assert made["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert await world.a.get(PODS, "default", "p") == made


@in_world
async def test_a_client_cannot_choose_what_the_server_decides(world: World) -> None:
    sent = pod()
    sent["metadata"] |= {"uid": "mine", "resourceVersion": "77", "deletionTimestamp": "2020-01-01T00:00:00Z"}
    sent["status"] = {"phase": "Running"}
    made = await world.a.create(PODS, "default", sent)
    assert made["metadata"]["uid"] != "mine" and "deletionTimestamp" not in made["metadata"]
    assert made["status"]["phase"] == "Pending"


@in_world
async def test_create_twice_is_already_exists_and_a_conflict(world: World) -> None:
    await world.a.create(CONFIGMAPS, "default", configmap("c"))
    with pytest.raises(AlreadyExists, match='configmaps "c" already exists') as caught:
        await world.a.create(CONFIGMAPS, "default", configmap("c"))
    assert isinstance(caught.value, Conflict)


@in_world
async def test_create_in_a_missing_namespace_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await world.a.create(CONFIGMAPS, "nowhere", configmap("c"))


@in_world
async def test_generate_name_makes_different_names(world: World) -> None:
    sent = pod()
    sent["metadata"] = {"generateName": "web-"}
    names = {(await world.a.create(PODS, "default", sent))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5 and all(name.startswith("web-") and len(name) == 9 for name in names)


@in_world
async def test_the_usual_namespaces_are_there(world: World) -> None:
    names = [n["metadata"]["name"] for n in (await world.a.list(NAMESPACES)).items]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]


@in_world
async def test_tenants_have_the_same_names_and_nothing_in_common(world: World) -> None:
    await world.a.create(CONFIGMAPS, "default", configmap("same", key="a"))
    await world.b.create(CONFIGMAPS, "default", configmap("same", key="b"))
    assert (await world.a.get(CONFIGMAPS, "default", "same"))["data"] == {"key": "a"}
    assert [c["data"] for c in (await world.b.list(CONFIGMAPS)).items] == [{"key": "b"}]
    await world.a.delete(CONFIGMAPS, "default", "same")
    assert (await world.b.get(CONFIGMAPS, "default", "same"))["data"] == {"key": "b"}


@in_world
async def test_a_watch_of_one_tenant_never_tells_of_another(world: World) -> None:
    start = (await world.a.list(CONFIGMAPS)).resource_version
    async with watching(world.a.watch(CONFIGMAPS, resource_version=start)) as following:
        await world.b.create(CONFIGMAPS, "default", configmap("theirs"))
        await world.a.create(CONFIGMAPS, "default", configmap("ours"))
        assert (await following()).object["metadata"]["name"] == "ours"


@pytest.mark.parametrize("name", ["a/b", "../b", "", "x" * 254, "a\0b"])
def test_names_that_could_leave_their_prefix_in_the_store_are_refused(name: str) -> None:
    async def run() -> None:
        world = World()
        with pytest.raises((BadRequest, NotFound)):
            await world.a.get(PODS, "default", name)
        with pytest.raises(BadRequest):
            await world.a.get(PODS, name or "/", "p")
        await world.store.close()

    asyncio.run(run())


@in_world
async def test_update_with_an_old_version_is_a_conflict(world: World) -> None:
    made = await world.a.create(CONFIGMAPS, "default", configmap("c", key="1"))
    await world.a.update(CONFIGMAPS, "default", {**made, "data": {"key": "2"}})
    with pytest.raises(Conflict, match="the object has been modified"):
        await world.a.update(CONFIGMAPS, "default", {**made, "data": {"key": "3"}})
    unversioned = {"metadata": {"name": "c"}, "data": {"key": "4"}}
    assert (await world.a.update(CONFIGMAPS, "default", unversioned))["data"] == {"key": "4"}


@in_world
async def test_a_write_without_a_change_writes_nothing(world: World) -> None:
    made = await world.a.create(DEPLOYMENTS, "default", deployment())
    before = world.store.revision
    assert await world.a.update(DEPLOYMENTS, "default", made) == made
    assert await world.a.merge_patch(DEPLOYMENTS, "default", "web", {"spec": {"replicas": 2}}) == made
    assert world.store.revision == before


@in_world
async def test_spec_and_status_are_written_apart(world: World) -> None:
    made = await world.a.create(DEPLOYMENTS, "default", deployment())
    assert made["metadata"]["generation"] == 1
    both = {**made, "spec": {**made["spec"], "replicas": 5}, "status": {"replicas": 9}}
    del both["metadata"]["resourceVersion"]
    spec_only = await world.a.update(DEPLOYMENTS, "default", both)
    assert spec_only["spec"]["replicas"] == 5 and spec_only["status"] == {}
    assert spec_only["metadata"]["generation"] == 2
    changed = {**both, "spec": {**made["spec"], "replicas": 7}}
    status_only = await world.a.update(DEPLOYMENTS, "default", changed, subresource="status")
    assert status_only["spec"]["replicas"] == 5 and status_only["status"] == {"replicas": 9}
    assert status_only["metadata"]["generation"] == 2


@in_world
async def test_concurrent_patches_all_arrive(world: World) -> None:
    await world.a.create(CONFIGMAPS, "default", configmap("c"))
    await asyncio.gather(
        *(world.a.merge_patch(CONFIGMAPS, "default", "c", {"data": {f"k{i}": "v"}}) for i in range(10))
    )
    assert len((await world.a.get(CONFIGMAPS, "default", "c"))["data"]) == 10


@in_world
async def test_a_bound_pod_is_being_deleted_until_the_node_reports_its_end(world: World) -> None:
    await world.a.create(PODS, "default", pod())
    bound = await world.a.bind("default", "p", "edge1")
    assert bound["spec"]["nodeName"] == "edge1"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    await world.a.delete(PODS, "default", "p")
    marked = (await world.a.get(PODS, "default", "p"))["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 30
    assert marked["deletionTimestamp"] == "2026-09-21T14:13:50Z"
    before = world.store.revision
    await world.a.delete(PODS, "default", "p")
    assert world.store.revision == before, "a second deletion changes nothing"
    await world.a.delete(PODS, "default", "p", grace_period=5)
    assert (await world.a.get(PODS, "default", "p"))["metadata"]["deletionGracePeriodSeconds"] == 5
    await world.a.delete(PODS, "default", "p", grace_period=0)
    with pytest.raises(NotFound, match='pods "p" not found'):
        await world.a.get(PODS, "default", "p")


@in_world
async def test_a_pod_without_a_node_goes_at_once_and_so_does_one_that_has_ended(world: World) -> None:
    await world.a.create(PODS, "default", pod())
    await world.a.delete(PODS, "default", "p")
    await world.a.create(PODS, "default", pod(nodeName="edge1"))
    await world.a.merge_patch(PODS, "default", "p", {"status": {"phase": "Failed"}}, subresource="status")
    await world.a.delete(PODS, "default", "p")
    assert not (await world.a.list(PODS)).items


@in_world
async def test_a_pod_is_bound_once(world: World) -> None:
    await world.a.create(PODS, "default", pod())
    await world.a.merge_patch(PODS, "default", "p", {"spec": {"nodeName": "edge1"}})
    with pytest.raises(Conflict, match='already assigned to node "edge1"'):
        await world.a.bind("default", "p", "edge2")
    with pytest.raises(InvalidObject, match="pod updates may not change fields other than"):
        await world.a.merge_patch(PODS, "default", "p", {"spec": {"nodeName": "edge2"}})


@in_world
async def test_delete_keeps_to_its_preconditions(world: World) -> None:
    await world.a.create(CONFIGMAPS, "default", configmap("c"))
    with pytest.raises(Conflict, match="UID in precondition: other"):
        await world.a.delete(CONFIGMAPS, "default", "c", uid="other")
    assert await world.a.get(CONFIGMAPS, "default", "c")


@in_world
async def test_an_object_with_finalizers_waits_for_them(world: World) -> None:
    sent = configmap("c")
    sent["metadata"]["finalizers"] = ["example.com/wait"]
    await world.a.create(CONFIGMAPS, "default", sent)
    await world.a.delete(CONFIGMAPS, "default", "c")
    assert (await world.a.get(CONFIGMAPS, "default", "c"))["metadata"]["deletionTimestamp"]
    with pytest.raises(InvalidObject, match="no new finalizers"):
        await world.a.merge_patch(
            CONFIGMAPS, "default", "c", {"metadata": {"finalizers": ["example.com/wait", "example.com/more"]}}
        )
    await world.a.merge_patch(CONFIGMAPS, "default", "c", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await world.a.get(CONFIGMAPS, "default", "c")


@in_world
async def test_an_empty_namespace_goes_at_once_and_a_full_one_when_it_is_empty(world: World) -> None:
    await world.a.create(NAMESPACES, "", {"metadata": {"name": "one"}})
    await world.a.delete(NAMESPACES, "", "one")
    with pytest.raises(NotFound):
        await world.a.get(NAMESPACES, "", "one")
    await world.a.create(NAMESPACES, "", {"metadata": {"name": "two"}})
    await world.a.create(CONFIGMAPS, "two", configmap("c"))
    await world.a.delete(NAMESPACES, "", "two")
    assert (await world.a.get(NAMESPACES, "", "two"))["status"]["phase"] == "Terminating"
    with pytest.raises(Forbidden, match="because it is being terminated"):
        await world.a.create(CONFIGMAPS, "two", configmap("d"))
    await world.a.delete(CONFIGMAPS, "two", "c")
    await world.a.delete(NAMESPACES, "", "two")
    with pytest.raises(NotFound):
        await world.a.get(NAMESPACES, "", "two")


@in_world
async def test_a_namespace_is_finalized_by_its_controller(world: World) -> None:
    await world.a.create(NAMESPACES, "", {"metadata": {"name": "two"}})
    await world.a.create(CONFIGMAPS, "two", configmap("c"))
    await world.a.delete(NAMESPACES, "", "two")
    namespace = await world.a.get(NAMESPACES, "", "two")
    namespace["spec"]["finalizers"] = []
    await world.a.delete(CONFIGMAPS, "two", "c")
    await world.a.update(NAMESPACES, "", namespace, subresource="finalize")
    with pytest.raises(NotFound):
        await world.a.get(NAMESPACES, "", "two")


@in_world
async def test_the_default_namespace_stays(world: World) -> None:
    with pytest.raises(Forbidden, match="may not be deleted"):
        await world.a.delete(NAMESPACES, "", "default")


@in_world
async def test_list_selects_by_label_field_and_namespace(world: World) -> None:
    await world.a.create(NAMESPACES, "", {"metadata": {"name": "other"}})
    for name, namespace in (("x", "default"), ("y", "default"), ("z", "other")):
        await world.a.create(CONFIGMAPS, namespace, configmap(name, {"tier": "web" if name != "y" else "db"}))

    async def names(**how: str) -> list[str]:
        namespace = how.pop("namespace", "")
        return [o["metadata"]["name"] for o in (await world.a.list(CONFIGMAPS, namespace, **how)).items]

    assert await names() == ["x", "y", "z"]
    assert await names(namespace="default") == ["x", "y"]
    assert await names(label_selector="tier=web") == ["x", "z"]
    assert await names(label_selector="tier!=web") == ["y"]
    assert await names(field_selector="metadata.name=z") == ["z"]
    assert await names(namespace="default", field_selector="metadata.name=z") == []
    assert await names(field_selector="metadata.namespace=other") == ["z"]
    with pytest.raises(Invalid, match="field label not supported: spec.nope"):
        await names(field_selector="spec.nope=1")


@in_world
async def test_pages_of_a_list_show_one_revision(world: World) -> None:
    for i in range(7):
        await world.a.create(CONFIGMAPS, "default", configmap(f"c{i}"))
    page = await world.a.list_page(CONFIGMAPS, limit=3)
    first = page.resource_version
    assert page.remaining == 4
    await world.a.create(CONFIGMAPS, "default", configmap("c9"))
    await world.a.delete(CONFIGMAPS, "default", "c6")
    names = [o["metadata"]["name"] for o in page.items]
    while page.continue_token:
        page = await world.a.list_page(CONFIGMAPS, limit=3, continue_token=page.continue_token)
        assert page.resource_version == first
        names += [o["metadata"]["name"] for o in page.items]
    assert names == [f"c{i}" for i in range(7)]


@in_world
async def test_a_page_of_compacted_history_is_gone(world: World) -> None:
    for i in range(4):
        await world.a.create(CONFIGMAPS, "default", configmap(f"c{i}"))
    page = await world.a.list_page(CONFIGMAPS, limit=2)
    await world.a.delete(CONFIGMAPS, "default", "c0")
    await world.store.compact(world.store.revision)
    with pytest.raises(Expired):
        await world.a.list_page(CONFIGMAPS, limit=2, continue_token=page.continue_token)


@pytest.mark.parametrize("token", ["x", "e30=", "eyJydiI6MSwic3RhcnQiOjF9", "\u2603", "A" * 5000])
def test_garbage_instead_of_a_continue_token_is_refused(token: str) -> None:
    async def run() -> None:
        world = World()
        with pytest.raises(BadRequest, match="continue key is not valid"):
            await world.a.list_page(CONFIGMAPS, limit=2, continue_token=token)
        await world.store.close()

    asyncio.run(run())


@in_world
async def test_a_watch_misses_nothing_after_a_list(world: World) -> None:
    start = (await world.a.list(CONFIGMAPS)).resource_version
    await world.a.create(CONFIGMAPS, "default", configmap("c", key="1"))
    await world.a.merge_patch(CONFIGMAPS, "default", "c", {"data": {"key": "2"}})
    await world.a.delete(CONFIGMAPS, "default", "c")
    async with watching(world.a.watch(CONFIGMAPS, resource_version=start)) as following:
        events = [await following() for _ in range(3)]
    assert [(e.type, e.object["data"]["key"]) for e in events] == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]
    versions = [int(e.object["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(set(versions)) and versions[-1] == world.store.revision


@in_world
async def test_a_watch_without_a_version_begins_with_what_there_is(world: World) -> None:
    await world.a.create(CONFIGMAPS, "default", configmap("c"))
    async with watching(world.a.watch(CONFIGMAPS, resource_version="0")) as following:
        assert (await following()).object["metadata"]["name"] == "c"
        await world.a.create(CONFIGMAPS, "default", configmap("d"))
        assert (await following()).object["metadata"]["name"] == "d"


@in_world
async def test_a_watch_with_a_selector_sees_objects_come_and_go(world: World) -> None:
    start = (await world.a.list(CONFIGMAPS)).resource_version
    await world.a.create(CONFIGMAPS, "default", configmap("c", {"on": "no"}))
    for value in ("yes", "yes!", "no"):
        change = {"metadata": {"labels": {"on": value.strip("!")}}, "data": {"k": value}}
        await world.a.merge_patch(CONFIGMAPS, "default", "c", change)
    await world.a.delete(CONFIGMAPS, "default", "c")
    await world.a.create(CONFIGMAPS, "default", configmap("end", {"on": "yes"}))
    async with watching(world.a.watch(CONFIGMAPS, resource_version=start, label_selector="on=yes")) as following:
        events = [await following() for _ in range(4)]
    assert [(e.type, e.object.get("data", {}).get("k")) for e in events] == [
        ("ADDED", "yes"),
        ("MODIFIED", "yes!"),
        ("DELETED", "yes!"),
        ("ADDED", None),
    ]


@in_world
async def test_a_watch_of_one_name_does_not_hear_of_longer_ones(world: World) -> None:
    start = (await world.a.list(CONFIGMAPS)).resource_version
    await world.a.create(CONFIGMAPS, "default", configmap("web-2"))
    await world.a.create(CONFIGMAPS, "default", configmap("web"))
    events = world.a.watch(CONFIGMAPS, "default", resource_version=start, field_selector="metadata.name=web")
    async with watching(events) as following:
        assert (await following()).object["metadata"]["name"] == "web"


@in_world
async def test_a_watch_from_compacted_history_is_gone_and_from_the_future_too(world: World) -> None:
    await world.a.create(CONFIGMAPS, "default", configmap("c", key="1"))
    await world.a.merge_patch(CONFIGMAPS, "default", "c", {"data": {"key": "2"}})
    await world.store.compact(world.store.revision)
    for version in ("1", "99999"):
        async with watching(world.a.watch(CONFIGMAPS, resource_version=version)) as following:
            with pytest.raises(Gone):
                await following()


@in_world
async def test_bookmarks_say_how_far_a_quiet_watch_has_come(world: World) -> None:
    await world.a.create(CONFIGMAPS, "default", configmap("c"))
    events = world.a.watch(CONFIGMAPS, resource_version="", bookmarks=True, initial_events=True)
    async with watching(events) as following:
        assert (await following()).type == "ADDED"
        mark = await following()
        assert mark.type == "BOOKMARK"
        assert mark.object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@in_world
async def test_scaling_changes_replicas_and_nothing_else(world: World) -> None:
    await world.a.create(DEPLOYMENTS, "default", deployment())
    scale = await world.a.modify(
        DEPLOYMENTS, "default", "web", lambda s: {**s, "spec": {"replicas": 7}}, subresource="scale"
    )
    assert scale["kind"] == "Scale" and scale["spec"] == {"replicas": 7}
    assert scale["status"]["selector"] == "app=web"
    assert (await world.a.get(DEPLOYMENTS, "default", "web"))["metadata"]["generation"] == 2


@in_world
async def test_a_dry_run_checks_everything_and_writes_nothing(world: World) -> None:
    await world.a.create(CONFIGMAPS, "default", configmap("c"))
    before = world.store.revision
    dry = WriteOptions(dry_run=True)
    assert (await world.a.create(CONFIGMAPS, "default", configmap("d"), options=dry))["metadata"]["uid"]
    with pytest.raises(AlreadyExists):
        await world.a.create(CONFIGMAPS, "default", configmap("c"), options=dry)
    changed = await world.a.modify(CONFIGMAPS, "default", "c", lambda o: {**o, "data": {"k": "v"}}, options=dry)
    assert changed["data"] == {"k": "v"}
    await world.a.delete_object(CONFIGMAPS, "default", "c", DeleteOptions(dry_run=True))
    assert world.store.revision == before


@in_world
async def test_services_get_addresses_of_their_own_and_give_them_back(world: World) -> None:
    def service(name: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}

    one = await world.a.create(SERVICES, "default", service("one"))
    address = one["spec"]["clusterIP"]
    assert one["spec"]["clusterIPs"] == [address] and address.startswith("10.")
    assert one["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    with pytest.raises(InvalidObject, match="already allocated"):
        await world.a.create(SERVICES, "default", service("two", clusterIP=address))
    with pytest.raises(InvalidObject, match="not in the valid range"):
        await world.a.create(SERVICES, "default", service("two", clusterIP="192.168.0.1"))
    assert (await world.b.create(SERVICES, "default", service("x", clusterIP=address)))["spec"]["clusterIP"] == address
    await world.a.delete(SERVICES, "default", "one")
    assert (await world.a.create(SERVICES, "default", service("two", clusterIP=address)))["spec"][
        "clusterIP"
    ] == address
    headless = await world.a.create(SERVICES, "default", service("three", clusterIP="None"))
    assert headless["spec"]["clusterIPs"] == ["None"]


@in_world
async def test_orphaning_leaves_the_dependents_without_an_owner(world: World) -> None:
    made = await world.a.create(DEPLOYMENTS, "default", deployment())
    replicaset = {**deployment(), "kind": "ReplicaSet"}
    replicaset["metadata"] = {
        "name": "web-1",
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": made["metadata"]["uid"]}
        ],
    }
    await world.a.create(REPLICASETS, "default", replicaset)
    await world.a.delete_object(DEPLOYMENTS, "default", "web", DeleteOptions(propagation="Orphan"))
    assert "ownerReferences" not in (await world.a.get(REPLICASETS, "default", "web-1"))["metadata"]
    with pytest.raises(NotFound):
        await world.a.get(DEPLOYMENTS, "default", "web")


@in_world
async def test_delete_collection_takes_what_the_selector_names(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.a.create(CONFIGMAPS, "default", configmap(name, {"go": "yes" if name != "b" else "no"}))
    gone = await world.a.delete_collection(CONFIGMAPS, "default", DeleteOptions(), label_selector="go=yes")
    assert gone is not None and [o["metadata"]["name"] for o in gone] == ["a", "c"]
    assert [o["metadata"]["name"] for o in (await world.a.list(CONFIGMAPS)).items] == ["b"]


@in_world
async def test_a_node_registers_with_its_status(world: World) -> None:
    node = {"metadata": {"name": "edge1"}, "status": {"capacity": {"cpu": "2"}}}
    assert (await world.a.create(NODES, "", node))["status"] == {"capacity": {"cpu": "2"}}


@in_world
async def test_events_are_kept_under_a_shared_lease(world: World) -> None:
    def event(name: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "Started"}

    for name in ("e1", "e2"):
        await world.a.create(EVENTS, "default", event(name))
    world.now += 400
    await world.a.create(EVENTS, "default", event("e3"))
    leases = [
        kv.lease for kv in (await world.store.range("/t/a/registry/core/events/", "/t/a/registry/core/events0")).kvs
    ]
    assert leases[0] == leases[1] != leases[2] and all(leases)
    found = await world.a.list(EVENTS, field_selector="involvedObject.name=p,reason=Started")
    assert len(found.items) == 3


@in_world
async def test_strict_validation_refuses_unknown_fields_and_warn_names_them(world: World) -> None:
    sent = pod(replicaz=3)
    with pytest.raises(BadRequest, match='strict decoding error: unknown field "spec.replicaz"'):
        await world.a.create(PODS, "default", sent, options=WriteOptions(field_validation="Strict"))
    options = WriteOptions(field_validation="Warn")
    await world.a.create(PODS, "default", sent, options=options)
    assert options.warnings == ['unknown field "spec.replicaz"']


@in_world
async def test_an_object_of_another_kind_is_refused(world: World) -> None:
    with pytest.raises(BadRequest, match="cannot be handled as a ConfigMap"):
        await world.a.create(CONFIGMAPS, "default", pod())


@in_world
async def test_handed_out_objects_belong_to_their_caller(world: World) -> None:
    made = await world.a.create(CONFIGMAPS, "default", configmap("c", key="1"))
    made["data"]["key"] = "2"
    assert (await world.a.get(CONFIGMAPS, "default", "c"))["data"] == {"key": "1"}


@in_world
async def test_services_may_have_another_network(world: World) -> None:
    network = ipaddress.IPv4Network("10.112.0.0/29")
    registry = Registry(world.store, TenantId("c"), services=(network,))
    spec = {"ports": [{"port": 80}]}
    for name in ("one", "two"):
        made = await registry.create(SERVICES, "default", {"metadata": {"name": name}, "spec": spec})
        assert ipaddress.ip_address(made["spec"]["clusterIP"]) in network
    with pytest.raises(InvalidObject, match="not in the valid range"):
        outside = {"metadata": {"name": "three"}, "spec": {**spec, "clusterIP": "10.96.0.9"}}
        await registry.create(SERVICES, "default", outside)


@in_world
async def test_node_ports_belong_to_one_service_and_come_back(world: World) -> None:
    def service(name: str, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": list(ports), **spec}}

    one = await world.a.create(SERVICES, "default", service("one", {"port": 80}))
    number = one["spec"]["ports"][0]["nodePort"]
    assert 30000 <= number < 32768
    with pytest.raises(InvalidObject, match="already allocated"):
        await world.a.create(SERVICES, "default", service("two", {"port": 80, "nodePort": number}))
    with pytest.raises(InvalidObject, match="not in the valid range"):
        await world.a.create(SERVICES, "default", service("two", {"port": 80, "nodePort": 80}))
    ports = [{"name": "x", "port": 80, "nodePort": None}, {"name": "y", "port": 81, "nodePort": 30123}]
    two = await world.a.create(SERVICES, "default", service("two", *ports))
    assert two["spec"]["ports"][1]["nodePort"] == 30123 and two["spec"]["ports"][0]["nodePort"] not in (number, 30123)
    plain = {"spec": {"type": "ClusterIP"}}
    changed = await world.a.merge_patch(SERVICES, "default", "one", plain)
    assert "nodePort" not in changed["spec"]["ports"][0]
    assert await world.a.create(SERVICES, "default", service("three", {"port": 80, "nodePort": number}))
    await world.a.delete(SERVICES, "default", "two")
    assert await world.a.create(SERVICES, "default", service("four", {"port": 80, "nodePort": 30123}))
