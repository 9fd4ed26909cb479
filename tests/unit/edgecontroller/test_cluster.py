"""EdgeController for a tenant whose cluster is its own, on virtual time: another API with an authorizer stands for the cluster."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import meta, patch
from kubeedge.api.client import ForwardingClient, KubeClient, ObjectList, Resource, WatchEvent
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import CONFIGMAPS, EVENTS, LEASES, NODES, PODS, SECRETS
from kubeedge.api.status import BadRequest, Forbidden, InvalidObject, ObjectModified, ServerUnavailable
from kubeedge.apiserver.heartbeats import NAMESPACE
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import Refused, Unavailable
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Compare, CompareTarget
from kubeedge_cloud.clusters.fencing import FencedClient, leads
from kubeedge_cloud.controllers.module import ControllersModule
from kubeedge_cloud.edgecontroller import core, node_objects
from kubeedge_cloud.edgecontroller.leases import RENEW
from kubeedge_cloud.edgecontroller.module import EdgeController, EdgeControllerSettings
from kubeedge_cloud.edgecontroller.node_registration import Allocator, ClusterRegistry, register_node
from kubeedge_cloud.edgecontroller.referenced import Referenced
from kubeedge_cloud.edgecontroller.trust_bundles import TrustBundles
from kubeedge_cloud.tenants.model import TenantRecord
from tests.kit import virtual_time
from tests.unit.controllers.world import TENANT, World, template

EDGE1, EDGE2 = NodeName("edge1"), NodeName("edge2")
OWNER = "cloud/default"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


AUTHENTICATION = "kube-system", "extension-apiserver-authentication"  # of every cluster; our account may read it


class Api:
    """A cluster's API for one identity: the Node authorizer's rules for data, and a list of who asked for what."""

    def __init__(self, cluster: Cluster, who: str) -> None:
        self._cluster, self._who = cluster, who

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster.registry, name)

    async def moved(self) -> None:
        await self._cluster.moved.wait()

    def as_node(self, node: NodeName) -> KubeClient:
        return Api(self._cluster, node)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        await self._cluster.check(self._who, "get", resource, namespace, name)
        return await self._cluster.registry.get(resource, namespace, name)

    async def list(self, resource: Resource, namespace: str = "", **selectors: str) -> Any:
        await self._cluster.check(self._who, "list", resource, namespace, _name(selectors))
        return await self._cluster.registry.list(resource, namespace, **selectors)

    async def watch(self, resource: Resource, namespace: str = "", **options: Any) -> AsyncGenerator[WatchEvent, None]:
        await self._cluster.check(self._who, "watch", resource, namespace, _name(options))
        async with contextlib.aclosing(self._cluster.registry.watch(resource, namespace, **options)) as events:
            async for event in events:
                yield event

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        await self._cluster.check(self._who, "create", resource, namespace, "")
        return await self._cluster.registry.create(resource, namespace, obj)

    async def update(self, resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        await self._cluster.check(self._who, "update", resource, namespace, "")
        return await self._cluster.registry.update(resource, namespace, obj, subresource=subresource)

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> Object:
        await self._cluster.check(self._who, "patch", resource, namespace, name)
        registry = self._cluster.registry
        answer = await registry.merge_patch(resource, namespace, name, patch, subresource=subresource)
        labels = patch.get("metadata", {}).get("labels")
        if labels and resource == NODES and subresource == "status":  # which kube-apiserver takes with it
            answer = await registry.merge_patch(resource, namespace, name, {"metadata": {"labels": labels}})
        return answer

    async def delete(self, resource: Resource, namespace: str, name: str, **options: Any) -> None:
        await self._cluster.check(self._who, "delete", resource, namespace, name)
        await self._cluster.registry.delete(resource, namespace, name, **options)


def _name(selectors: dict[str, Any]) -> str:
    return str(selectors.get("field_selector", "")).removeprefix("metadata.name=")


class Cluster:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.moved = asyncio.Event()
        self.asked: list[tuple[str, str, str, str]] = []  # who, verb, resource, name

    async def check(self, who: str, verb: str, resource: Resource, namespace: str, name: str) -> None:
        self.asked.append((who, verb, resource.plural, name))
        if (who, verb, namespace, name) == ("", "get", *AUTHENTICATION):
            return
        if resource in (SECRETS, CONFIGMAPS):
            for pod in (await self.registry.list(PODS, namespace)).items:
                if pod["spec"].get("nodeName") == who and (resource.plural, name) in set(node_objects.references(pod)):
                    return
            raise Forbidden(f"{who} cannot {verb} {resource.plural} {name}")
        if who and resource in (NODES, PODS) and verb == "list":
            raise Forbidden(f"{who} cannot list {resource.plural}")


class ClusterWorld(World):
    """A World whose tenant has a cluster; its pods' addresses come from an allocator, as in Kubernetes, unless `allocator` is off."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(super().api())
        self.allocator = True

    @contextlib.asynccontextmanager
    async def cloud(self) -> AsyncIterator[None]:
        await self.tenants.ensure_tenant(TENANT)
        await self.tenants.use_cluster(TENANT, "/kubeconfig")
        nobody: Any = None
        modules = (
            EdgeController(
                self.store,
                nobody,
                self.tenants,
                EdgeControllerSettings(owner="cloud"),
                cluster_client=lambda record: Api(self.cluster, ""),
                wall=self.wall,
            ),
            ControllersModule(nobody, self.tenants),  # which would fail with nobody's client
        )
        tasks = [asyncio.create_task(self._allocate())]
        try:
            for module in modules:
                ready = asyncio.Event()
                tasks.append(asyncio.create_task(module.run(ready), name=module.name))
                await asyncio.wait_for(ready.wait(), 60)
            yield
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _allocate(self) -> None:
        while True:
            for node in (await self.cluster.registry.list(NODES)).items if self.allocator else ():
                if not node["spec"].get("podCIDR"):
                    cidr = {"podCIDR": "10.244.77.0/24", "podCIDRs": ["10.244.77.0/24"]}
                    await self.cluster.registry.merge_patch(NODES, "", node["metadata"]["name"], {"spec": cidr})
            await asyncio.sleep(0.3)

    async def pod(self, name: str, node: str, *secrets: str) -> Object:
        volumes = [{"name": s, "secret": {"secretName": s}} for s in secrets]
        spec = {**template(name)["spec"], "nodeName": node, "volumes": volumes}
        return await self.cluster.registry.create(PODS, "default", {"metadata": {"name": name}, "spec": spec})


def in_cluster(test: Callable[[ClusterWorld], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def whole() -> None:
            world = ClusterWorld()
            try:
                await test(world)
            finally:
                await world.close()

        virtual_time.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    assert inspect.iscoroutinefunction(test)
    return run


@given(st.dictionaries(st.text(max_size=2), json_values), st.dictionaries(st.text(max_size=2), json_values))
def test_changes_are_the_merge_patch_between_two_objects(before: dict[str, Any], after: dict[str, Any]) -> None:
    after = _without_nulls(after)  # which a merge patch cannot set
    before = _without_nulls(before)
    assert patch.merge(before, core.changes(before, after)) == after
    assert core.changes(after, after) == {}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


@in_cluster
async def test_a_node_is_made_once_with_the_addresses_of_the_cluster(world: ClusterWorld) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle()
        node = await world.get(NODES, "edge1")
        assert node["metadata"]["annotations"][core.MANAGED] == OWNER
        assert node["metadata"]["labels"]["node.kubernetes.io/edge"] == ""
        record = await world.tenants.node(TENANT, EDGE1)
        assert record and record.uid == node["metadata"]["uid"] and record.pod_cidr == "10.244.77.0/24"
        assert node["status"]["capacity"]["cpu"] == "4" and "taints" not in node["spec"]
    writers = {
        who for who, verb, resource, _ in world.cluster.asked if resource == "nodes" and verb in ("patch", "update")
    }
    assert writers == {"edge1"}


@in_cluster
async def test_a_node_that_registers_costs_one_request_and_which_cluster_it_is_is_asked_once(
    world: ClusterWorld,
) -> None:
    """Thousands may do so at once."""
    namespace, name = AUTHENTICATION
    known = await world.cluster.registry.create(CONFIGMAPS, namespace, {"metadata": {"name": name}})
    async with world.cloud():
        for node in ("edge1", "edge2"):
            await world.join(node)
            await world.until(lambda node=node: _is(world, node, "True"), "ready")  # type: ignore[misc]
        for number in (EDGE1, EDGE2):
            record = await world.tenants.node(TENANT, number)
            assert record and record.cluster == known["metadata"]["uid"]
    asked = [(verb, kind) for who, verb, kind, _ in world.cluster.asked if not who and verb in ("get", "create")]
    assert asked.count(("create", "nodes")) == 2 and ("get", "nodes") not in asked
    assert asked.count(("get", "configmaps")) == 1
    by_nodes = [(who, verb, kind) for who, verb, kind, _ in world.cluster.asked if kind in ("nodes", "leases")]
    for name in ("edge1", "edge2"):
        assert by_nodes.count((name, "patch", "nodes")) == 1, "its labels, and its status as a whole"
        assert (name, "get", "leases") not in by_nodes and (name, "create", "leases") in by_nodes


@in_cluster
async def test_a_status_that_waits_for_a_busy_server_is_not_preceded_by_one_that_says_less(world: ClusterWorld) -> None:
    """Not ready and ready again is work for the cluster's controllers: taints of thousands of Nodes."""
    seen: list[str] = []
    busy = True

    async def slow(self: Api, resource: Resource, namespace: str, name: str, patch: Object, **options: Any) -> Object:
        if resource == NODES and options.get("subresource") == "status":
            ready = next(c for c in patch["status"]["conditions"] if c["type"] == "Ready")
            seen.append(ready["status"])
            if busy:
                raise ServerUnavailable("too many requests")
        return await merge_patch(self, resource, namespace, name, patch, **options)

    merge_patch = Api.merge_patch
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Api, "merge_patch", slow)
        async with world.cloud():
            await world.join("edge1")
            await world.settle(20)
            assert seen and set(seen) == {"True"}
            busy = False
            await world.until(lambda: _is(world, "edge1", "True"), "ready", within=60)


def test_what_an_api_server_shows_as_empty_is_not_written_away() -> None:
    shown = {"nodeInfo": {"architecture": "arm64", "kubeProxyVersion": "", "bootID": "b"}}
    merged = core.with_report(shown, {"nodeInfo": {"architecture": "arm64"}})
    assert merged == {"nodeInfo": {"architecture": "arm64", "kubeProxyVersion": ""}}, (
        "what was said and is not any more goes"
    )


@in_cluster
async def test_a_lease_that_is_there_before_its_node_is_renewed(world: ClusterWorld) -> None:
    await world.cluster.registry.create(
        LEASES, NAMESPACE, {"metadata": {"name": "edge1"}, "spec": {"holderIdentity": "x"}}
    )
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle(2)
        lease = await world.cluster.registry.get(LEASES, NAMESPACE, "edge1")
        assert lease["spec"]["holderIdentity"] == "edge1" and lease["spec"]["renewTime"]


@in_cluster
async def test_without_an_allocator_our_plan_counts(world: ClusterWorld) -> None:
    world.allocator = False
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        assert (await world.get(NODES, "edge1"))["spec"]["podCIDR"] == "10.244.1.0/24"


@in_cluster
async def test_a_node_that_has_not_reported_its_status_is_not_ready(world: ClusterWorld) -> None:
    async with world.cloud():
        agent = await world.join("edge1", silent=True)
        await world.until(lambda: _is(world, "edge1", "False"), "attached, and nothing is known of it")
        await world.settle(60)
        node = await world.get(NODES, "edge1")
        ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
        assert ready["reason"] == "KubeletNotReady" and "has not reported" in ready["message"]
        await agent._report_node()
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        assert (await world.get(NODES, "edge1"))["status"]["addresses"]


@in_cluster
async def test_a_lease_is_renewed_while_the_node_is_attached_and_not_after(world: ClusterWorld) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle(5)
        world.cluster.asked.clear()
        await world.settle(600)
        renewals = [asked for asked in world.cluster.asked if asked[2] == "leases"]
        assert 600 / RENEW <= len(renewals) <= 600 / RENEW / 0.9 + 2  # and nothing else
        assert world.cluster.asked == renewals and {who for who, *_ in renewals} == {"edge1"}
        lease = await world.cluster.registry.get(LEASES, NAMESPACE, "edge1")
        assert lease["spec"]["holderIdentity"] == "edge1" and lease["spec"]["leaseDurationSeconds"] == 40
        await agent.detach()
        await world.settle(RENEW)
        renewed = (await world.cluster.registry.get(LEASES, NAMESPACE, "edge1"))["spec"]["renewTime"]
        await world.settle(600)
        assert (await world.cluster.registry.get(LEASES, NAMESPACE, "edge1"))["spec"]["renewTime"] == renewed
        assert await _is(world, "edge1", "True")  # that it is away is for the cluster to say


@in_cluster
async def test_a_lease_that_somebody_else_wrote_is_renewed_all_the_same(world: ClusterWorld) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle(1)
        await world.cluster.registry.merge_patch(LEASES, NAMESPACE, "edge1", {"metadata": {"labels": {"a": "b"}}})
        before = (await world.cluster.registry.get(LEASES, NAMESPACE, "edge1"))["spec"]["renewTime"]
        await world.settle(2 * RENEW)
        await world.cluster.registry.delete(LEASES, NAMESPACE, "edge1")
        await world.settle(2 * RENEW)
        assert (await world.cluster.registry.get(LEASES, NAMESPACE, "edge1"))["spec"]["renewTime"] > before


@in_cluster
async def test_what_the_lifecycle_controller_said_counts_until_the_node_is_back(world: ClusterWorld) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await agent.detach()
        await _give_up(world, "edge1")
        await world.settle(60)
        assert await _is(world, "edge1", "Unknown")
        await agent.attach()
        await world.until(lambda: _is(world, "edge1", "True"), "ready again", within=2)
        assert {c["status"] for c in (await world.get(NODES, "edge1"))["status"]["conditions"]} == {"True", "False"}


@in_cluster
async def test_a_node_whose_lease_was_late_is_ready_again_without_coming_back(world: ClusterWorld) -> None:
    """The API server was away for an hour, or busy: the channel was there all the time."""
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle(60)
        await _give_up(world, "edge1")
        assert await _is(world, "edge1", "Unknown")
        await world.until(lambda: _is(world, "edge1", "True"), "ready again", within=2)


async def _give_up(world: ClusterWorld, name: str) -> None:
    node = await world.get(NODES, name)
    conditions = [{**c, "status": "Unknown", "reason": "NodeStatusUnknown"} for c in node["status"]["conditions"]]
    await world.cluster.registry.merge_patch(
        NODES, "", name, {"status": {"conditions": conditions}}, subresource="status"
    )


@in_cluster
async def test_a_secret_is_asked_for_by_a_node_that_uses_it(world: ClusterWorld) -> None:
    async with world.cloud():
        for node in ("edge1", "edge2"):
            await world.join(node)
        await world.cluster.registry.create(SECRETS, "default", _secret("used", "1"))
        await world.cluster.registry.create(SECRETS, "default", _secret("unused", "1"))
        await world.pod("a", "edge1", "used")
        await world.until(lambda: _has(world, "edge1", "used"), "the Secret", within=3)
        assert not await _has(world, "edge2", "used")
        await world.pod("b", "edge2", "used")
        await world.until(lambda: _has(world, "edge2", "used"), "the Secret", within=3)
        lists = [asked for asked in world.cluster.asked if asked[1:] == ("list", "secrets", "used")]
        assert [who for who, *_ in lists] == ["edge1"]  # once for both
        await world.cluster.registry.delete(PODS, "default", "a", grace_period=0)
        await world.until(lambda: _has_not(world, "edge1", "used"), "gone from there", within=3)
        await world.cluster.registry.update(SECRETS, "default", _secret("used", "2"))
        await world.until(lambda: _holds(world, "edge2", "used", "2"), "the change, by the other's right", within=3)
        assert not any("unused" in asked for asked in world.cluster.asked)


@pytest.mark.parametrize("name", ["a,b", "..", "x" * 10_000])
def test_a_name_that_no_object_has_stops_nothing_of_the_others(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """kube-apiserver takes any text for the name of a pod's Secret, ConfigMap or claim, and refuses to look for some."""

    @in_cluster
    async def test(world: ClusterWorld) -> None:
        async with world.cloud():
            await world.join("edge1")
            await world.cluster.registry.create(SECRETS, "default", _secret("used", "1"))
            await world.pod("a", "edge1", "used")
            await world.until(lambda: _has(world, "edge1", "used"), "the Secret", within=3)
            volumes = [{"name": "v", "secret": {"secretName": name}}]
            spec = {**template("odd")["spec"], "nodeName": "edge1", "volumes": volumes}
            await world.cluster.registry.create(PODS, "default", {"metadata": {"name": "odd"}, "spec": spec})
            await world.settle(60)
            await world.cluster.registry.update(SECRETS, "default", _secret("used", "2"))
            await world.until(lambda: _holds(world, "edge1", "used", "2"), "the change", within=3)
        assert "starts again" not in caplog.text

    class Strict(Api):
        async def get(self, resource: Resource, namespace: str, name: str) -> Object:
            _looked_for(name)
            return await super().get(resource, namespace, name)

        async def list(self, resource: Resource, namespace: str = "", **selectors: str) -> Any:
            _looked_for(_name(selectors))
            return await super().list(resource, namespace, **selectors)

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(ClusterWorld.cloud.__wrapped__.__globals__, "Api", Strict)  # type: ignore[attr-defined]
        patched.setitem(Api.as_node.__globals__, "Api", Strict)
        test()


def _looked_for(name: str) -> None:
    """What a client and a server say to such names."""
    if "," in name or name in (".", "..") or len(name) > 4096:
        raise BadRequest(f"invalid selector: {name[:32]}")


@in_cluster
async def test_a_cloud_that_starts_takes_no_data_away_before_it_knows(world: ClusterWorld) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.cluster.registry.create(SECRETS, "default", _secret("used", "1"))
        await world.pod("a", "edge1", "used")
        await world.until(lambda: _has(world, "edge1", "used"), "the Secret")
    check, world.cluster.check = world.cluster.check, _refuse_data(world.cluster.check)  # type: ignore[method-assign]
    async with world.cloud():
        await world.pod("other", "edge1")
        await world.settle(5)
        assert await _has(world, "edge1", "used")
        world.cluster.check = check  # type: ignore[method-assign]
        await world.cluster.registry.delete(SECRETS, "default", "used")
        await world.until(lambda: _has_not(world, "edge1", "used"), "it knows that it is gone", within=40)


async def _away(*_: Any) -> None:
    raise ServerUnavailable("away")


def _refuse_data(check: Any) -> Any:
    async def refuse(who: str, verb: str, resource: Resource, namespace: str, name: str) -> None:
        if resource is SECRETS:
            raise Forbidden("not yet")
        await check(who, verb, resource, namespace, name)

    return refuse


@in_cluster
async def test_a_pods_status_is_one_request_of_its_node(world: ClusterWorld) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        agent.starts_after = 5.0
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.pod("a", "edge1")
        await world.settle(4)
        world.cluster.asked.clear()
        await world.settle(4)
        asked = [a for a in world.cluster.asked if a[2] == "pods"]
        assert asked == [("edge1", "patch", "pods", "a")]
        assert (await world.get(PODS, "a"))["status"]["phase"] == "Running"


@pytest.mark.parametrize(("current", "written"), [({}, "BestEffort"), ({"qosClass": "Burstable"}, "Burstable")])
def test_the_class_of_service_of_a_pod_is_the_api_servers_once_it_is_set(current: Object, written: str) -> None:
    """By limits of the whole pod, say, which an older agent does not know."""
    assert core.with_others(current, {"phase": "Running", "qosClass": "BestEffort"})["qosClass"] == written


@in_cluster
async def test_a_status_that_a_policy_of_the_cluster_refuses_is_written_when_it_does_not_any_more(
    world: ClusterWorld,
) -> None:
    """Its node does not say it again. An Event is not worth that."""
    check, refused = world.cluster.check, list[str]()

    async def refuse(who: str, verb: str, resource: Resource, namespace: str, name: str) -> None:
        if who and verb in ("patch", "create") and resource in (PODS, EVENTS):
            refused.append(resource.plural)
            raise InvalidObject("denied by a policy")
        await check(who, verb, resource, namespace, name)

    async def runs() -> bool:
        return (await world.get(PODS, "a"))["status"].get("phase") == "Running"

    async with world.cloud():
        agent = await world.join("edge1")
        await world.settle(5)
        world.cluster.check = refuse  # type: ignore[method-assign]
        await world.pod("a", "edge1")
        about = {"kind": "Pod", "namespace": "default", "name": "a"}
        stamp = meta.timestamp(world.wall())
        await agent.report("events/default/e", {"involvedObject": about, "reason": "Started", "lastTimestamp": stamp})
        await world.settle(600)
        assert not await runs() and refused.count("events") == 1 and 10 <= refused.count("pods") <= 60
        world.cluster.check = check  # type: ignore[method-assign]
        await world.until(runs, "its status is there", within=31)


@in_cluster
async def test_a_webhook_that_hangs_on_events_or_pods_holds_nothing_else_up(world: ClusterWorld) -> None:
    """As an API server answers for it: 500 after the webhook's 10 s. What hung comes when it does not any more."""
    check, kind = world.cluster.check, EVENTS

    async def hang(who: str, verb: str, resource: Resource, namespace: str, name: str) -> None:
        if who and verb in ("patch", "create") and resource == kind:
            await asyncio.sleep(10)
            raise ServerUnavailable('failed calling webhook "slow.example.com": context deadline exceeded')
        await check(who, verb, resource, namespace, name)

    async def runs(name: str) -> bool:
        return (await world.get(PODS, name))["status"].get("phase") == "Running"

    async def pressed() -> bool:
        conditions = (await world.get(NODES, "edge1"))["status"]["conditions"]
        return any(c["type"] == "MemoryPressure" and c["status"] == "True" for c in conditions)

    async with world.cloud():
        agent = await world.join("edge1")
        await world.settle(5)
        world.cluster.check = hang  # type: ignore[method-assign]
        for n in range(100):
            about = {"kind": "Pod", "namespace": "default", "name": "a"}
            stamp = meta.timestamp(world.wall())
            event = {"involvedObject": about, "reason": "Started", "type": "Normal", "lastTimestamp": stamp}
            await agent.report(f"events/default/e{n}", event)
        await world.pod("a", "edge1")
        await world.until(lambda: runs("a"), "a pod's status is not behind them", within=5)
        kind = PODS
        for n in range(60):
            await world.pod(f"b{n}", "edge1")
        await world.settle(5)
        said = {"type": "MemoryPressure", "status": "True", "reason": "KubeletHasInsufficientMemory", "message": "m"}
        await agent.report("conditions/_/memorypressure", said)
        await world.until(pressed, "what the node says of itself is not behind them", within=5)
        world.cluster.check = check  # type: ignore[method-assign]
        await world.until(lambda: runs("b59"), "all is said", within=60)
        await world.settle(120)
        assert len([e for e in await world.all(EVENTS) if e["reason"] == "Started"]) == 100


@in_cluster
async def test_what_others_say_of_a_node_and_its_pods_stays(world: ClusterWorld) -> None:
    theirs = {"type": "KernelDeadlock", "status": "False", "reason": "KernelHasNoDeadlock", "message": "none"}
    gate = {"type": "example.com/balanced", "status": "True"}
    async with world.cloud():
        agent = await world.join("edge1")
        await world.pod("a", "edge1")
        await world.settle(5)
        for resource, name, more in ((NODES, "edge1", theirs), (PODS, "a", gate)):
            status = (await world.get(resource, name))["status"]
            conditions = {"conditions": [*status["conditions"], more]}
            namespace = "default" if resource.namespaced else ""
            await world.cluster.registry.merge_patch(
                resource, namespace, name, {"status": conditions}, subresource="status"
            )
        agent.sick = lambda pod: True
        await agent.detach()
        await agent.attach()
        await world.settle(5)
        assert theirs["type"] in {c["type"] for c in (await world.get(NODES, "edge1"))["status"]["conditions"]}
        found = {c["type"]: c["status"] for c in (await world.get(PODS, "a"))["status"]["conditions"]}
        assert found["example.com/balanced"] == "True" and found["Ready"] == "False"


@in_cluster
async def test_what_is_written_by_hand_over_a_nodes_own_status_does_not_stay(world: ClusterWorld) -> None:
    """An address there is where the API server looks for the node's kubelet. Extended resources are others' to advertise, as with a kubelet."""
    wrong = {
        "addresses": [{"type": "InternalIP", "address": "192.0.2.9"}],
        "capacity": {"cpu": "999", "example.com/dongle": "4"},
        "allocatable": {"example.com/dongle": "4"},
        "nodeInfo": {"kubeletVersion": "v9"},
    }
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle(5)
        before = (await world.get(NODES, "edge1"))["status"]
        conditions = [{**c, "status": "False"} if c["type"] == "Ready" else c for c in before["conditions"]]
        world.cluster.asked.clear()
        await world.cluster.registry.merge_patch(
            NODES, "", "edge1", {"status": {**wrong, "conditions": conditions}}, subresource="status"
        )
        await world.settle(10)
        after = (await world.get(NODES, "edge1"))["status"]
        dongle = {"example.com/dongle": "4"}
        assert after["capacity"] == {**before["capacity"], **dongle}
        assert after["allocatable"] == {**before["allocatable"], **dongle}
        assert (after["addresses"], after["nodeInfo"]) == (before["addresses"], before["nodeInfo"])
        assert await _is(world, "edge1", "True")
        writes = [asked for asked in world.cluster.asked if asked[1] == "patch"]
        assert len(writes) == 1, "and what was written is not looked at without end"
        await world.cluster.registry.merge_patch(
            NODES, "", "edge1", {"metadata": {"labels": {"kubernetes.io/arch": "pdp11", "rack": "7"}}}
        )
        await world.settle(10)
        labels = (await world.get(NODES, "edge1"))["metadata"]["labels"]
        assert labels["kubernetes.io/arch"] != "pdp11" and labels["rack"] == "7"


@in_cluster
async def test_a_client_that_goes_on_writing_over_a_nodes_status_costs_a_bounded_number_of_writes(
    world: ClusterWorld,
) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle(60)
        world.cluster.asked.clear()
        for n in range(300):
            wrong = {"status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{n % 250}"}]}}
            await world.cluster.registry.merge_patch(NODES, "", "edge1", wrong, subresource="status")
            await world.settle(0.2)
        writes = [asked for asked in world.cluster.asked if asked[1:3] == ("patch", "nodes")]
        assert len(writes) <= 10 + 60 * 0.5 + 1


@in_cluster
async def test_a_renewal_is_later_than_the_last_one_after_our_clock_was_set_back(world: ClusterWorld) -> None:
    """A lifecycle controller, and an old one all the more, knows by that alone that the node is there."""
    ahead, right = [3 * 3600.0], world.wall
    world.wall = lambda: right() + ahead[0]  # type: ignore[method-assign]

    written: list[str] = []  # what is read of our own API is computed
    update = world.cluster.registry.update

    async def noted(resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        if resource == LEASES:
            written.append(obj["spec"]["renewTime"])
        return {**await update(resource, namespace, obj, subresource=subresource), "spec": obj.get("spec")}

    world.cluster.registry.update = noted  # type: ignore[method-assign]
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle(2 * RENEW)
        for off in (0.0, 6 * 3600.0, -9 * 3600.0):
            ahead[0] = off
            await world.settle(2 * RENEW)
    assert len(written) >= 6 and written == sorted(set(written))


@in_cluster
async def test_pressure_is_said_of_a_node_and_the_cluster_taints_it(world: ClusterWorld) -> None:
    """The lifecycle controller does so by the conditions: two who replace one list would take each other's taints away."""
    async with world.cloud():
        agent = await world.join("edge1")
        await world.settle(5)
        world.cluster.asked.clear()
        report = {"type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure", "message": "m"}
        await agent.report("conditions/_/diskpressure", report)
        await world.settle(5)
        node = await world.get(NODES, "edge1")
        said = {c["type"]: (c["status"], c["reason"]) for c in node["status"]["conditions"]}
        assert said["DiskPressure"] == ("True", "KubeletHasDiskPressure") and not node["spec"].get("taints")
        assert {who for who, verb, kind, _ in world.cluster.asked if (verb, kind) == ("patch", "nodes")} == {"edge1"}


@in_cluster
async def test_a_node_that_is_deleted_in_kubernetes_is_removed_from_the_network(world: ClusterWorld) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle()
        await world.cluster.registry.delete(NODES, "", "edge1")
        await world.until(lambda: _no_record(world), "the record is gone", within=2)
        await world.settle(60)
        assert await world.ready_of("edge1") == "absent"
    # and one that was deleted while no cloud was there
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle()
    await world.cluster.registry.delete(NODES, "", "edge1")
    async with world.cloud():
        await world.until(lambda: _no_record(world), "the record is gone", within=2)


@pytest.mark.parametrize("taken", [False, True])
def test_a_node_that_the_cluster_lost_with_its_history_is_made_again(
    taken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The cluster was restored from a backup that is older than the Node: the machine stays in the network, with its addresses."""

    @in_cluster
    async def test(world: ClusterWorld) -> None:
        versions = {"restored": ""}

        async def listed(self: Api, resource: Resource, namespace: str = "", **selectors: str) -> Any:
            found = await list_(self, resource, namespace, **selectors)
            return ObjectList(found.items, versions["restored"] or found.resource_version)

        list_, (namespace, name) = Api.list, AUTHENTICATION
        await world.cluster.registry.create(CONFIGMAPS, namespace, {"metadata": {"name": name}})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Api, "list", listed)
            async with world.cloud():
                await world.join("edge1")
                await world.until(lambda: _is(world, "edge1", "True"), "ready")
                await world.settle(5)
                before = await world.tenants.node(TENANT, EDGE1)
                assert before and before.version and before.pod_cidr == "10.244.77.0/24"
                versions["restored"] = "1"
                world.allocator = False  # which has given its addresses to others since, or not
                await world.cluster.registry.delete(NODES, "", "edge1")
                other = {
                    "metadata": {"name": "other"},
                    "spec": {"podCIDR": before.pod_cidr if taken else "10.244.9.0/24"},
                }
                await world.cluster.registry.create(NODES, "", other)
                await world.settle(40)
                after = await world.tenants.node(TENANT, EDGE1)
                assert after and after.pod_cidr == before.pod_cidr, "it is not removed"
                if taken:
                    assert "join the machine again" in caplog.text and after.uid == ""
                    return
                node = await world.get(NODES, "edge1")
                assert node["spec"]["podCIDR"] == before.pod_cidr
                assert after.uid == node["metadata"]["uid"] != before.uid
                await world.until(lambda: _is(world, "edge1", "True"), "ready")
                versions["restored"] = ""
                await world.cluster.registry.delete(NODES, "", "edge1")
                await world.settle(5)
                assert await world.tenants.node(TENANT, EDGE1) is None, "and now it was deleted"

    test()


@in_cluster
async def test_a_node_that_is_removed_from_the_network_goes_from_the_cluster(world: ClusterWorld) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle()
        await world.tenants.remove_node(TENANT, EDGE1)
        await world.until(lambda: _absent(world), "no Node", within=2)
        # and when the cluster is away in that moment
        await world.join("edge1")
        await world.until(lambda: _is(world, "edge1", "True"), "ready")
        await world.settle()
        check, world.cluster.check = world.cluster.check, _away  # type: ignore[method-assign]
        await world.tenants.remove_node(TENANT, EDGE1)
        await world.settle(60)
        world.cluster.check = check  # type: ignore[method-assign]
        await world.until(lambda: _absent(world), "no Node", within=40)


@pytest.mark.parametrize("owner", [None, "true", "another-cloud/default"])
def test_a_node_of_somebody_else_is_left_alone(owner: str | None) -> None:
    @in_cluster
    async def test(world: ClusterWorld) -> None:
        annotations = {core.MANAGED: owner} if owner else {}
        theirs = {"metadata": {"name": "edge1", "annotations": annotations}, "spec": {"podCIDR": "10.244.9.0/24"}}
        await world.cluster.registry.create(NODES, "", theirs)
        before = await world.get(NODES, "edge1")
        async with world.cloud():
            await world.join("edge1")
            await world.cluster.registry.create(SECRETS, "default", _secret("used", "1"))
            await world.pod("a", "edge1", "used")
            await world.settle(30)
            assert await world.desired("edge1") == {}
            await world.tenants.remove_node(TENANT, EDGE1)
            await world.settle(30)
        assert await world.get(NODES, "edge1") == before
        assert not any(who == "edge1" for who, *_ in world.cluster.asked)

    test()


@in_cluster
async def test_a_join_under_the_name_of_a_kubelets_node_is_refused_and_leaves_nothing(world: ClusterWorld) -> None:
    await world.tenants.ensure_tenant(TENANT)
    await world.cluster.registry.create(NODES, "", {"metadata": {"name": "edge1"}})

    async def client_of(tenant: TenantId) -> KubeClient:
        return Api(self_cluster, "")

    self_cluster = world.cluster
    registry = ClusterRegistry(world.tenants, "cloud", client_of)
    with pytest.raises(Refused, match="choose another name"):
        await registry.register(TENANT, EDGE1, "j")
    assert await world.tenants.node(TENANT, EDGE1) is None


@pytest.mark.parametrize(
    "given", ["10.99.0.0/24", "0.0.0.0/0", "fd00:1::/64", "10.244.77.1/24", "nonsense", "x" * 4096]
)
def test_addresses_outside_of_the_network_of_pods_are_no_nodes(given: str) -> None:
    """Relays take them for routes: neither a join nor a Node that is made again brings others, whatever the API server of a tenant says."""

    class Odd(Api):
        async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
            found = await super().create(resource, namespace, obj)
            return {**found, "spec": {**found.get("spec", {}), "podCIDR": given}} if resource == NODES else found

    @in_cluster
    async def test(world: ClusterWorld) -> None:
        await world.tenants.ensure_tenant(TENANT)
        odd = Odd(world.cluster, "")

        async def client_of(tenant: TenantId) -> KubeClient:
            return odd

        registry = ClusterRegistry(world.tenants, "cloud", client_of)
        with pytest.raises(
            Refused, match=r"for its pods, which is not in addresses\.pods \(10\.244\.0\.0/16\)"
        ) as refused:
            await registry.register(TENANT, EDGE1, "j")
        assert len(str(refused.value)) < 300
        assert await world.tenants.node(TENANT, EDGE1) is None
        assert not (await world.cluster.registry.list(NODES)).items, "made for nothing"
        await world.tenants.register(TENANT, EDGE2, "j")
        lost = await world.tenants.note_object(TENANT, EDGE2, "", ["10.244.7.0/24"], "c", "12")
        for _ in range(2):
            with pytest.raises(Refused, match=r"addresses\.pods"):
                await register_node(odd, world.tenants, lost, OWNER, allocator=Allocator())
            assert await world.tenants.node(TENANT, EDGE2) == lost
            names = [n["metadata"]["name"] for n in (await world.cluster.registry.list(NODES)).items]
            assert names == ["edge2"], "it is not made and deleted again and again"
            await world.cluster.registry.delete(NODES, "", "edge2")

    test()


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
def test_what_a_cluster_says_of_a_node_is_kept_within_bounds(field: str) -> None:
    class Long(Api):
        async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
            found = await super().create(resource, namespace, obj)
            return {**found, "metadata": {**found["metadata"], field: "9" * 100_000}}

    @in_cluster
    async def test(world: ClusterWorld) -> None:
        await world.tenants.ensure_tenant(TENANT)

        async def client_of(tenant: TenantId) -> KubeClient:
            return Long(world.cluster, "")

        with pytest.raises(Refused, match="at most 128 characters") as refused:
            await ClusterRegistry(world.tenants, "cloud", client_of).register(TENANT, EDGE1, "j")
        assert len(str(refused.value)) < 200
        assert await world.tenants.node(TENANT, EDGE1) is None

    test()


class SlowAllocator(Api):
    """Of a cluster with more new nodes than its allocator has served: one of them has its addresses, from the controller."""

    async def list(self, resource: Resource, namespace: str = "", **selectors: str) -> Any:
        found = await super().list(resource, namespace, **selectors)
        fields = {"f:spec": {"f:podCIDR": {}}}
        setter = {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": fields}
        return ObjectList(
            [*found.items, {"metadata": {"name": "vm", "managedFields": [setter]}}], found.resource_version
        )


@in_cluster
async def test_addresses_are_waited_for_where_the_cluster_gives_them_to_others(world: ClusterWorld) -> None:
    """Ours could be those of another node in a moment."""
    await world.tenants.ensure_tenant(TENANT)
    api = SlowAllocator(world.cluster, "")

    async def client_of(tenant: TenantId) -> KubeClient:
        return api

    registry = ClusterRegistry(world.tenants, "cloud", client_of)
    with pytest.raises(Unavailable, match="has not given node edge1 addresses"):
        await registry.register(TENANT, EDGE1, "j")
    assert "podCIDR" not in (await world.get(NODES, "edge1")).get("spec", {})
    await api.merge_patch(NODES, "", "edge1", {"spec": {"podCIDR": "10.244.77.0/24"}})
    assert (await registry.register(TENANT, EDGE1, "j"))["podCIDR"] == "10.244.77.0/24"


@in_cluster
async def test_addresses_of_our_plan_that_are_another_nodes_are_refused(world: ClusterWorld) -> None:
    """Two tenants or clouds that plan for one cluster, which allocates none, begin with the same ones."""
    world.allocator = False
    await world.tenants.ensure_tenant(TENANT)
    theirs = {"metadata": {"name": "theirs"}, "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}
    await world.cluster.registry.create(NODES, "", theirs)

    async def client_of(tenant: TenantId) -> KubeClient:
        return Api(world.cluster, "")

    registry = ClusterRegistry(world.tenants, "cloud", client_of)
    with pytest.raises(Refused, match=r"node theirs of the cluster has 10\.244\.1\.0/24"):
        await registry.register(TENANT, EDGE1, "j")
    assert await world.tenants.node(TENANT, EDGE1) is None
    assert [node["metadata"]["name"] for node in (await world.cluster.registry.list(NODES)).items] == ["theirs"]


def test_a_client_of_who_does_not_lead_any_more_writes_nothing() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        inner: Any = Registry(store, TENANT)
        compare = Compare("/leader", CompareTarget.VERSION, "=", 0)
        client = FencedClient(inner, leads(store, lambda: (compare,)))
        new = await client.create(CONFIGMAPS, "default", {"metadata": {"name": "a"}})
        await store.put("/leader", b"another")
        with pytest.raises(ObjectModified, match="another process"):
            await client.create(CONFIGMAPS, "default", {"metadata": {"name": "b"}})
        with pytest.raises(ObjectModified):
            await client.update(CONFIGMAPS, "default", new)
        with pytest.raises(ObjectModified):
            await client.merge_patch(CONFIGMAPS, "default", "a", {})
        with pytest.raises(ObjectModified):
            await client.delete(CONFIGMAPS, "default", "a")
        assert await client.get(CONFIGMAPS, "default", "a") == new
        await store.close()

    asyncio.run(scenario())


@in_cluster
async def test_a_tenant_that_changes_its_cluster_is_begun_anew(world: ClusterWorld) -> None:
    served: list[str] = []
    client = Api(world.cluster, "")

    def cluster_client(record: TenantRecord) -> Any:
        served.append(record.cluster)
        return client

    await world.tenants.ensure_tenant(TENANT)
    await world.tenants.use_cluster(TENANT, "/one")
    module = EdgeController(
        world.store, world.api, world.tenants, EdgeControllerSettings(), cluster_client=cluster_client, wall=world.wall
    )
    ready = asyncio.Event()
    task = asyncio.create_task(module.run(ready))
    await asyncio.wait_for(ready.wait(), 60)
    for source in ("/two", "/two", "", "in-cluster"):
        await world.tenants.use_cluster(TENANT, source)
        await world.settle(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert served == ["/one", "/two", "in-cluster"]


def test_what_nobody_refers_to_is_forgotten() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        registry: Any = Registry(store, TENANT)
        data = Referenced(CONFIGMAPS, lambda node: registry)
        task = asyncio.create_task(data.run())
        await asyncio.sleep(0)
        data.refer(EDGE1, [("default", f"c{n}") for n in range(100)])
        await asyncio.sleep(1)
        assert len(data) == 100 and data.knows("default", "c7") and data.get("default", "c7") is None
        data.refer(EDGE1, [("default", "c7")])
        await asyncio.sleep(1)
        assert len(data) == 1 and not data.knows("default", "c8")
        data.refer(EDGE1, [])
        await asyncio.sleep(1)
        assert len(data) == 0 and not [t for t in asyncio.all_tasks() if "configmaps" in t.get_name()]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()

    virtual_time.run(scenario())


class Silent(ForwardingClient):
    """An API that does not answer."""

    def __init__(self) -> None:
        pass

    async def list(self, resource: Resource, namespace: str = "", **selectors: str) -> ObjectList:
        await asyncio.Event().wait()
        raise AssertionError


def test_what_nobody_refers_to_any_more_leaves_no_task_before_it_is_known() -> None:
    async def scenario() -> None:
        data = Referenced(CONFIGMAPS, lambda node: Silent())
        bundles = TrustBundles(lambda node: Silent(), lambda node: None)
        tasks = [asyncio.create_task(data.run()), asyncio.create_task(bundles.run())]
        await asyncio.sleep(0)
        before = asyncio.all_tasks()
        source = {"clusterTrustBundle": {"name": "a", "path": "a"}}
        pod = {"spec": {"volumes": [{"name": "v", "projected": {"sources": [source]}}]}}
        data.refer(EDGE1, [("default", "c7")])
        bundles.rows(EDGE1, [pod], {})
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) > len(before)
        data.refer(EDGE1, [])
        bundles.rows(EDGE1, [], {})
        await asyncio.sleep(1)
        assert asyncio.all_tasks() == before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time.run(scenario())


# Looking


def _secret(name: str, value: str) -> Object:
    return {"metadata": {"name": name}, "stringData": {"key": value}}


async def _is(world: World, node: str, state: str) -> bool:
    return await world.ready_of(node) == state


async def _absent(world: World) -> bool:
    return await world.ready_of("edge1") == "absent"


async def _no_record(world: World) -> bool:
    return await world.tenants.node(TENANT, EDGE1) is None


async def _has(world: World, node: str, secret: str) -> bool:
    return f"secrets/default/{secret}" in await world.desired(node)


async def _has_not(world: World, node: str, secret: str) -> bool:
    return not await _has(world, node, secret)


async def _holds(world: World, node: str, secret: str, value: str) -> bool:
    found = (await world.desired(node)).get(f"secrets/default/{secret}")
    return found is not None and base64.b64decode(found["data"]["key"]).decode() == value


@in_cluster
async def test_a_node_whose_mark_is_taken_away_is_marked_again_and_keeps_what_it_has(world: ClusterWorld) -> None:
    """Somebody has edited the Node. To one that says to be another's nothing is told any more."""
    async with world.cloud():
        await world.join("edge1")
        await world.settle(2)
        await world.pod("a", "edge1")
        await world.settle(2)
        before = await world.desired("edge1")
        for mark in (None, "another/tenant"):
            patch_ = {"metadata": {"annotations": {core.MANAGED: mark}}}
            await world.cluster.registry.merge_patch(NODES, "", "edge1", patch_)
            await world.settle(5)
            found = (await world.get(NODES, "edge1"))["metadata"]["annotations"][core.MANAGED]
            assert found == (mark or OWNER)
            await world.cluster.registry.delete(PODS, "default", "a", grace_period=0) if mark else None
            await world.settle(5)
            assert await world.desired("edge1") == before


@in_cluster
async def test_another_server_behind_the_kubeconfig_takes_nothing_from_the_nodes(world: ClusterWorld) -> None:
    """Its pods are none of ours, and its Nodes are not there: with the right one everything goes on."""
    right = world.cluster.registry

    async def identity_of(client: object) -> str:
        return "right" if world.cluster.registry is right else "another"

    with pytest.MonkeyPatch.context() as patched:
        for module in ("node_registration", "cluster_nodes"):
            patched.setattr(f"kubeedge_cloud.edgecontroller.{module}.identity_of", identity_of)
        async with world.cloud():
            await world.join("edge1")
            await world.settle(2)
            await world.pod("a", "edge1")
            await world.settle(2)
            before = await world.desired("edge1")
            assert any(key.endswith("pods/default/a") for key in before)
            for registry in (Registry(MemoryStore(), TENANT, wall=world.wall), right):
                world.cluster.registry = registry
                world.cluster.moved.set()
                world.cluster.moved = asyncio.Event()
                await world.settle(30)
                assert await world.desired("edge1") == before
            assert await world.tenants.node(TENANT, EDGE1) is not None
            await world.pod("b", "edge1")
            await world.settle(2)
            assert any(key.endswith("pods/default/b") for key in await world.desired("edge1"))
