"""One suite for KubeClient: the embedded registry and a real kube-apiserver give a controller the same answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from kubeedge.api.client import KubeClient, WatchEvent
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import CONFIGMAPS, DEPLOYMENTS, NODES, PODS, SECRETS
from kubeedge.api.status import AlreadyExists, Forbidden, InvalidObject, ObjectModified, ObjectNotFound, Unauthorized
from kubeedge.apiserver.registry import Registry
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.credentials import Credentials
from kubeedge_cloud.clusters.transport import ClusterTransport
from tests.kit.cluster import KubernetesCluster
from tests.kit.topology import inside

pytestmark = pytest.mark.root

Scenario = Callable[[KubeClient, str], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


def over(
    kubernetes: KubernetesCluster, scenario: Callable[[ClusterTransport], Awaitable[None]], source: str = ""
) -> None:
    """The scenario in the host of the control plane, with our own client."""

    async def whole() -> None:
        transport = ClusterTransport(Credentials(source or str(kubernetes.kubeconfig())))
        try:
            async with asyncio.timeout(300):
                await scenario(transport)
        finally:
            await transport.close()

    inside(kubernetes.host, lambda: asyncio.run(whole()))


@pytest.fixture(params=["embedded", "kube-apiserver"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a scenario with a client, and a namespace that is its own."""
    namespace = f"t{os.urandom(4).hex()}"
    if request.param == "embedded":

        def embedded(scenario: Scenario) -> None:
            async def whole() -> None:
                store = MemoryStore()
                try:
                    async with asyncio.timeout(120):
                        await scenario(Registry(store, TenantId("a")), "default")
                finally:
                    await store.close()

            asyncio.run(whole())

        yield embedded
        return
    kubernetes: KubernetesCluster = request.getfixturevalue("kubernetes")
    kubernetes.kubectl("create", "namespace", namespace)
    yield lambda scenario: over(kubernetes, lambda transport: scenario(RemoteClient(transport), namespace))
    kubernetes.kubectl("delete", "namespace", namespace, "--wait=false")


def configmap(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "data": data}


def pod(name: str, node: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = {
        "containers": [{"name": "c", "image": "busybox:1"}], "automountServiceAccountToken": False,
        **({"nodeName": node} if node else {}),
    }  # fmt: skip
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


async def made(client: KubeClient, namespace: str, name: str, node: str = "") -> dict[str, Any]:
    """The cluster's controllers make a namespace's ServiceAccount, without which there are no pods."""
    while True:
        try:
            return await client.create(PODS, namespace, pod(name, node))
        except Forbidden as exc:
            if "serviceaccount" not in str(exc):
                raise
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def watching(events: AsyncGenerator[WatchEvent, None]) -> AsyncIterator[Callable[[], Awaitable[WatchEvent]]]:
    async with contextlib.aclosing(events):
        yield lambda: asyncio.wait_for(anext(events), 90)


def test_an_object_is_created_read_and_deleted(run: Run) -> None:
    async def scenario(client: KubeClient, namespace: str) -> None:
        new = await client.create(CONFIGMAPS, namespace, configmap("a", data="1"))
        assert (new["kind"], new["apiVersion"], new["metadata"]["namespace"]) == ("ConfigMap", "v1", namespace)
        read = await client.get(CONFIGMAPS, namespace, "a")
        assert read["metadata"]["uid"] == new["metadata"]["uid"] and read["data"] == {"data": "1"}
        with pytest.raises(AlreadyExists, match="already exists"):
            await client.create(CONFIGMAPS, namespace, configmap("a"))
        await client.delete(CONFIGMAPS, namespace, "a", uid=new["metadata"]["uid"])
        with pytest.raises(ObjectNotFound, match='configmaps "a" not found'):
            await client.get(CONFIGMAPS, namespace, "a")
        with pytest.raises(ObjectNotFound):
            await client.delete(CONFIGMAPS, namespace, "a")

    run(scenario)


def test_versions_and_uids_are_preconditions(run: Run) -> None:
    async def scenario(client: KubeClient, namespace: str) -> None:
        first = await client.create(CONFIGMAPS, namespace, configmap("a", v="1"))
        second = await client.update(CONFIGMAPS, namespace, {**first, "data": {"v": "2"}})
        assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
        with pytest.raises(ObjectModified):
            await client.update(CONFIGMAPS, namespace, {**first, "data": {"v": "3"}})
        stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"v": "3"}}
        with pytest.raises(ObjectModified):
            await client.merge_patch(CONFIGMAPS, namespace, "a", stale)
        with pytest.raises(ObjectModified):
            await client.delete(CONFIGMAPS, namespace, "a", uid="00000000-0000-0000-0000-000000000000")
        patched = await client.merge_patch(CONFIGMAPS, namespace, "a", {"data": {"v": None, "w": "4"}})
        assert patched["data"] == {"w": "4"}

    run(scenario)


def test_what_breaks_rules_is_refused_with_its_fields(run: Run) -> None:
    async def scenario(client: KubeClient, namespace: str) -> None:
        with pytest.raises(InvalidObject) as refused:
            await client.create(PODS, namespace, {"metadata": {"name": "p"}, "spec": {"containers": []}})
        assert "spec.containers" in str(refused.value)
        assert refused.value.details["causes"]

    run(scenario)


def test_selectors_choose(run: Run) -> None:
    async def scenario(client: KubeClient, namespace: str) -> None:
        for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
            await client.create(CONFIGMAPS, namespace, configmap(name, {"colour": colour}))
        red = await client.list(CONFIGMAPS, namespace, label_selector="colour=red")
        assert sorted(obj["metadata"]["name"] for obj in red.items) == ["a", "c"]
        assert all(obj["kind"] == "ConfigMap" and obj["apiVersion"] == "v1" for obj in red.items)
        one = await client.list(CONFIGMAPS, namespace, field_selector="metadata.name=b")
        assert [obj["metadata"]["name"] for obj in one.items] == ["b"]
        everywhere = await client.list(CONFIGMAPS, label_selector="colour")
        assert sorted(obj["metadata"]["name"] for obj in everywhere.items) == ["a", "b", "c"]

    run(scenario)


def test_a_watch_brings_every_change_once_and_in_order(run: Run) -> None:
    async def scenario(client: KubeClient, namespace: str) -> None:
        await client.create(CONFIGMAPS, namespace, configmap("before", {"w": "1"}))
        found = await client.list(CONFIGMAPS, namespace, label_selector="w")
        assert len(found.items) == 1
        events = client.watch(CONFIGMAPS, namespace, resource_version=found.resource_version, label_selector="w")
        async with watching(events) as following:
            await client.create(CONFIGMAPS, namespace, configmap("a", {"w": "1"}))
            await client.merge_patch(CONFIGMAPS, namespace, "a", {"data": {"x": "1"}})
            await client.delete(CONFIGMAPS, namespace, "a")
            told = [await following() for _ in range(3)]
        assert [event.type for event in told] == ["ADDED", "MODIFIED", "DELETED"]
        assert all(event.object["metadata"]["name"] == "a" and event.object["kind"] == "ConfigMap" for event in told)
        assert told[2].object["data"] == {"x": "1"}
        assert len({event.object["metadata"]["resourceVersion"] for event in told}) == 3
        again = client.watch(
            CONFIGMAPS, namespace, resource_version=told[1].object["metadata"]["resourceVersion"], label_selector="w"
        )
        async with watching(again) as following:
            assert (await following()).type == "DELETED"

    run(scenario)


def test_what_leaves_a_selector_is_deleted_for_its_watch(run: Run) -> None:
    async def scenario(client: KubeClient, namespace: str) -> None:
        await client.create(CONFIGMAPS, namespace, configmap("a", {"w": "1"}))
        found = await client.list(CONFIGMAPS, namespace, label_selector="w")
        events = client.watch(CONFIGMAPS, namespace, resource_version=found.resource_version, label_selector="w")
        async with watching(events) as following:
            await client.merge_patch(CONFIGMAPS, namespace, "a", {"metadata": {"labels": {"w": None}}})
            assert (await following()).type == "DELETED"

    run(scenario)


def test_status_is_written_apart(run: Run) -> None:
    async def scenario(client: KubeClient, namespace: str) -> None:
        node = f"n-{namespace}"
        await client.create(NODES, "", {"metadata": {"name": node}})
        new = await made(client, namespace, "p", node)  # bound: a scheduler would write its status, too
        changed = {**new, "status": {"phase": "Running"}, "spec": {**new["spec"], "activeDeadlineSeconds": 7}}
        assert (await client.update(PODS, namespace, changed, subresource="status"))["status"]["phase"] == "Running"
        read = await client.get(PODS, namespace, "p")
        assert "activeDeadlineSeconds" not in read["spec"] and read["status"]["phase"] == "Running"
        said = {"status": {"message": "said"}}
        patched = await client.merge_patch(PODS, namespace, "p", said, subresource="status")
        assert patched["status"]["message"] == "said"
        await client.delete(PODS, namespace, "p", grace_period=0)
        await client.delete(NODES, "", node)

    run(scenario)


def test_a_bound_pod_ends_when_its_node_says_so(run: Run) -> None:
    async def scenario(client: KubeClient, namespace: str) -> None:
        node = f"n-{namespace}"
        await client.create(NODES, "", {"metadata": {"name": node}})
        new = await made(client, namespace, "p", node)
        await client.delete(PODS, namespace, "p", grace_period=30)
        ending = await client.get(PODS, namespace, "p")
        assert ending["metadata"]["deletionTimestamp"] and ending["metadata"]["deletionGracePeriodSeconds"] == 30
        await client.delete(PODS, namespace, "p", grace_period=0, uid=new["metadata"]["uid"])
        with pytest.raises(ObjectNotFound):
            await client.get(PODS, namespace, "p")
        await client.delete(NODES, "", node)

    run(scenario)


def test_discovery_names_what_is_served(run: Run) -> None:
    async def scenario(client: KubeClient, _: str) -> None:
        served = await client.resources()
        assert PODS in served and DEPLOYMENTS in served and NODES in served

    run(scenario)


# What only a real API server can show


def test_streamed_and_chunked_lists_are_the_same(kubernetes: KubernetesCluster) -> None:
    async def scenario(transport: ClusterTransport) -> None:
        client = RemoteClient(transport)
        for n in range(1100):
            await client.create(CONFIGMAPS, "default", configmap(f"many-{n}", {"many": "1"}))
        streamed = await client.list(CONFIGMAPS, label_selector="many")
        assert transport.requests["WATCH"] == 1 and client._streams_lists
        client._streams_lists = False
        chunked = await client.list(CONFIGMAPS, label_selector="many")
        assert transport.requests["GET"] == 3  # 500, 500, 100

        def versions(found: Any) -> set[tuple[str, str]]:
            return {(obj["metadata"]["name"], obj["metadata"]["resourceVersion"]) for obj in found.items}

        assert versions(streamed) == versions(chunked) and len(streamed.items) == len(chunked.items) == 1100

    over(kubernetes, scenario)


def test_a_node_is_what_the_node_authorizer_says(kubernetes: KubernetesCluster) -> None:
    async def scenario(transport: ClusterTransport) -> None:
        client = RemoteClient(transport)
        one, other = client.as_node(NodeName("one")), client.as_node(NodeName("other"))
        for name in ("used", "unused"):
            await client.create(SECRETS, "default", {"metadata": {"name": name}, "stringData": {"a": "b"}})
        for name in ("one", "other"):
            await client.create(NODES, "", {"metadata": {"name": name}})
        new = pod("user", "one")
        new["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "used"}}]
        new = await client.create(PODS, "default", new)
        while True:  # the authorizer follows the pods
            try:
                assert (await one.get(SECRETS, "default", "used"))["data"]
                break
            except Forbidden:
                await asyncio.sleep(0.05)
        for who, name in ((one, "unused"), (other, "used"), (other, "unused")):
            with pytest.raises(Forbidden):
                await who.get(SECRETS, "default", name)
        await one.update(PODS, "default", {**new, "status": {"phase": "Running"}}, subresource="status")
        with pytest.raises(Forbidden):
            await other.merge_patch(PODS, "default", "user", {"status": {"phase": "Failed"}}, subresource="status")
        with pytest.raises(Forbidden):
            await other.delete(PODS, "default", "user", grace_period=0)
        await one.delete(PODS, "default", "user", grace_period=0)
        for name in ("one", "other"):
            await client.delete(NODES, "", name)

    over(kubernetes, scenario)


def test_a_token_that_is_no_longer_good_is_read_again(kubernetes: KubernetesCluster) -> None:
    kubernetes.kubectl("create", "serviceaccount", "viewer")
    kubernetes.kubectl(
        "create", "clusterrolebinding", "viewer", "--clusterrole=view", "--serviceaccount=default:viewer"
    )
    good = kubernetes.kubectl("create", "token", "viewer").strip()
    token = kubernetes.directory / "token"
    token.write_text("not.a.token\n")
    config = kubernetes.identities.write_kubeconfig("kubeconfig-viewer", {"tokenFile": str(token)})

    async def scenario(transport: ClusterTransport) -> None:
        client = RemoteClient(transport)
        with pytest.raises(Unauthorized):
            await client.list(CONFIGMAPS, "default")
        token.write_text(good + "\n")
        while True:
            try:
                await client.list(CONFIGMAPS, "default")
                return
            except Unauthorized:
                await asyncio.sleep(0.2)  # it looks at its files every few seconds

    over(kubernetes, scenario, str(config))
