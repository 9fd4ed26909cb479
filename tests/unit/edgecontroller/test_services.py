"""Which Services a node gets: those that its pods may use, when it has a service proxy."""

from __future__ import annotations

import json
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import NAMESPACES, NODES, PODS, SECRETS, SERVICES
from kubeedge.apiserver.quota import TenantLimits
from kubeedge_cloud.edgecontroller.copies import COPIES
from kubeedge_cloud.edgecontroller.services import Catalogue, namespaces
from tests.unit.controllers.world import TENANT, Agent, World, in_world
from tests.unit.edgecontroller.test_edgecontroller import EDGE1, pod_on


def pod(namespace: str = "a", **container: Any) -> Object:
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {"containers": [container]}}


def test_pods_name_namespaces_in_addresses_of_services() -> None:
    env = [{"name": "URL", "value": "http://db.store.svc.cluster.local:80/x"}, {"name": "N", "value": "x.svc"}]
    found = namespaces(
        None, [pod(env=env, args=["--peer=web-0.web.far.svc:1", "a.B.svc"], command=["sh", "q.queue.svc"])]
    )
    assert found == {"default", "a", "store", "far", "queue"}
    node = {"metadata": {"annotations": {"kubeedge.io/mesh-namespaces": "one, two"}}}
    assert namespaces(node, []) == {"default", "one", "two"}
    node["metadata"]["annotations"]["kubeedge.io/mesh-namespaces"] = "one,*"
    assert namespaces(node, [pod()]) == {"*"}


def test_only_what_a_node_needs_of_a_service_is_a_change() -> None:
    catalogue = Catalogue()
    one = {"metadata": {"name": "s", "namespace": "a", "resourceVersion": "1"}, "spec": {"clusterIP": "10.96.0.1"}}
    assert catalogue.changed("services", None, one)
    other = {**one, "metadata": {**one["metadata"], "resourceVersion": "2", "annotations": {"x": "y"}}}
    assert not catalogue.changed("services", one, other)
    assert list(catalogue.of(frozenset("a"))) == ["services/a/s"] and not catalogue.of(frozenset("b"))
    left = {
        **one,
        "metadata": {**one["metadata"], "labels": {"service.kubernetes.io/service-proxy-name": "x", "y": "z"}},
    }
    assert catalogue.changed("services", other, left)  # a node leaves it to another proxy
    assert json.loads(catalogue.of(frozenset("a"))["services/a/s"])["metadata"]["labels"].keys().isdisjoint("y")
    assert catalogue.changed("services", left, None) and not catalogue.of(frozenset("*"))


async def _services(world: World) -> set[str]:
    await world.settle()
    return {key for key in await world.desired("edge1") if key.startswith(("services/", "endpointslices/"))}


async def _has_proxy(agent: Agent) -> None:
    said = {"type": "ServiceProxyReady", "status": "True", "reason": "Programmed", "message": "m"}
    await agent.report("conditions/_/mesh", said)


@in_world
async def test_a_node_with_a_proxy_gets_the_services_of_its_namespaces(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        spec = {"ports": [{"port": 80}], "selector": {"app": "p"}}
        for namespace in ("default", "kube-system"):
            await world.api().create(SERVICES, namespace, {"metadata": {"name": "web"}, "spec": spec})
        await world.api().create(PODS, "default", pod_on("edge1", "p", enableServiceLinks=False))
        assert await _services(world) == set(), "it has said of no proxy"
        await _has_proxy(agent)
        assert {k for k in await _services(world) if k.startswith("services")} == {"services/default/web"}
        everything = {"metadata": {"annotations": {"kubeedge.io/mesh-namespaces": "*"}}}
        await world.api().merge_patch(NODES, "", "edge1", everything)
        assert {"services/default/web", "services/kube-system/web"} <= await _services(world)
        got = (await world.desired("edge1"))["services/kube-system/web"]
        assert got["spec"]["clusterIP"].startswith("10.") and "resourceVersion" not in json.dumps(got)
        await world.api().delete(SERVICES, "kube-system", "web")
        assert "services/kube-system/web" not in await _services(world)
        await world.store.delete(keys.edge_reported(TENANT, EDGE1) + "conditions/_/mesh")
        assert await _services(world) == set()


@in_world
async def test_services_and_slices_for_the_mesh_count_as_copies(world: World) -> None:
    """A node may ask for those of all namespaces, and so may a hundred nodes."""
    world.limits = lambda tenant: TenantLimits(1000, 50_000)
    nodes, many = 10, 40
    async with world.cloud():
        for n in range(nodes):
            await _has_proxy(await world.join(f"edge{n}"))
        await world.settle(2)
        for n in range(nodes):
            everything = {"metadata": {"annotations": {"kubeedge.io/mesh-namespaces": "*"}}}
            await world.api().merge_patch(NODES, "", f"edge{n}", everything)
        for n in range(many):
            spec = {"ports": [{"port": 80 + p, "name": f"port-{p}"} for p in range(20)], "selector": {"app": "p"}}
            await world.api().create(SERVICES, "default", {"metadata": {"name": f"s{n}"}, "spec": spec})
        await world.settle(100)
        sizes = []
        for n in range(nodes):
            prefix = keys.edge_desired(TENANT, NodeName(f"edge{n}"))
            rows = (await world.store.range(prefix, keys.prefix_end(prefix))).kvs
            sizes.append(sum(len(row.key) - len(prefix) + len(row.value) for row in rows))
        one = max(sizes)
        assert nodes * one > COPIES * 50_000 >= sum(sizes) > COPIES * 50_000 * 3 // 4, "they would not fit"
        assert "ExceededCopiesQuota" in await world.reasons()


@in_world
async def test_what_gateways_of_a_node_need_goes_down_and_comes_back_with_them(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await _has_proxy(agent)
        api = world.api()
        await api.create(NAMESPACES, "", {"metadata": {"name": "shop"}})
        data = {"tls.crt": "eA==", "tls.key": "eQ=="}
        await api.create(SECRETS, "shop", {"metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "data": data})
        await api.create(SERVICES, "shop", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})

        async def has() -> set[str]:
            await world.settle()
            return {key for key in await world.desired("edge1") if "/shop/" in key}

        assert await has() == set()
        row = json.dumps({"secrets": [["shop", "tls"]], "namespaces": ["shop"]}).encode()
        key = keys.edge_desired(TENANT, NodeName("edge1")) + "gateways/_/node"
        await world.store.put(key, row)
        assert await has() == {"secrets/shop/tls", "services/shop/web"}
        assert (await world.store.get(key)) is not None, "the row is not EdgeController's to delete"
        await api.merge_patch(SECRETS, "shop", "tls", {"data": {"tls.key": "eg=="}})
        await world.settle()
        assert (await world.desired("edge1"))["secrets/shop/tls"]["data"]["tls.key"] == "eg=="
        await world.store.delete(key)
        assert await has() == set()
