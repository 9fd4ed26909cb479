"""The rows of ConfigMaps and Secrets are made once, however often pods and nodes refer to them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import CONFIGMAPS, PODS
from kubeedge.kubebus.http.access import MAX_TOKENS
from kubeedge_cloud.edgecontroller import node_objects
from kubeedge_cloud.edgecontroller.data_rows import DataRows
from tests.unit.controllers.world import TENANT, World, in_world
from tests.unit.edgecontroller.test_edgecontroller import pod_on

REFERENCE = ("configmaps", "default", "large")


def config_map(value: str) -> Object:
    return {"metadata": {"name": "large", "namespace": "default"}, "data": {"x": value}}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of objects whose rows were made."""
    names: list[str] = []
    real: Callable[[Object], bytes] = node_objects.data_object

    def counting(obj: Object) -> bytes:
        names.append(obj["metadata"]["name"])
        return real(obj)

    monkeypatch.setattr(node_objects, "data_object", counting)
    return names


def test_a_row_is_made_again_for_another_version(made: list[str]) -> None:
    rows, first, second = DataRows(), config_map("a"), config_map("b")
    assert rows.of(REFERENCE, first) == rows.of(REFERENCE, first) == node_objects.data_object(first)
    assert rows.of(REFERENCE, second) == node_objects.data_object(second) and made == ["large"] * 4
    rows.forget(REFERENCE)
    rows.forget(REFERENCE)
    assert not len(rows)


def test_a_thousand_variables_of_one_object_are_one_reference(made: list[str]) -> None:
    """Each cost the time of the whole object, on the loop of all tenants."""
    source = {"configMapKeyRef": {"name": "large", "key": "x"}}
    container = {"name": "c", "env": [{"name": f"V{n}", "valueFrom": source} for n in range(1000)]}
    pods = [pod_on("edge1", name, containers=[container]) for name in ("one", "other")]
    for pod in pods:
        pod["metadata"]["namespace"] = "default"
    found = node_objects.desired(None, pods, {REFERENCE: config_map("a")}, [])
    assert "configmaps/default/large" in found and made == ["large"]


def test_a_secret_of_tokens_is_hashed_once_for_all_services_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes: list[str] = []
    real = node_objects.hashed

    def counting(token: str) -> str:
        hashes.append(token)
        return real(token)

    monkeypatch.setattr(node_objects, "hashed", counting)
    tokens = {f"k{n}": base64.b64encode(f"token-of-many-{n:06}".encode()).decode() for n in range(5000)}
    secret: Object = {"metadata": {"name": "s", "namespace": "default"}, "data": tokens}
    pod = pod_on("edge1", "one")
    pod["metadata"] |= {"namespace": "default", "labels": {"app": "web"}}

    def service(n: int) -> Object:
        annotations = {node_objects.PUBLISH: f"w{n}", node_objects.ACCESS: "token", node_objects.ACCESS_SECRET: "s"}
        metadata = {"name": f"w{n}", "namespace": "default", "annotations": annotations}
        return {"metadata": metadata, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}

    found = node_objects.desired(None, [pod], {("secrets", "default", "s"): secret}, [service(n) for n in range(200)])
    rows = [json.loads(value) for key, value in found.items() if key.startswith("webservices/")]
    assert len(rows) == 200 and all(len(row["tokens"]) == MAX_TOKENS for row in rows)
    assert len(hashes) == len(set(hashes)) == 1000


@in_world
async def test_an_object_of_many_nodes_is_encoded_once_for_each_of_its_versions(world: World) -> None:
    made: list[str] = []
    real = node_objects.data_object

    def counting(obj: Object) -> bytes:
        if obj["metadata"]["name"] == "large":
            made.append(obj["data"]["x"])
        return real(obj)

    volume: Object = {"name": "v", "configMap": {"name": "large"}}
    nodes = [NodeName(f"edge{n}") for n in range(4)]
    for node in nodes:
        await world.tenants.ensure_node(TENANT, node)

    async def seen() -> set[str]:
        rows = [(await world.desired(node)).get("configmaps/default/large") for node in nodes]
        return {"" if row is None else row["data"]["x"] for row in rows}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_objects, "data_object", counting)
        async with world.cloud():
            await world.api().create(CONFIGMAPS, "default", config_map("a"))
            for node in nodes:
                await world.api().create(PODS, "default", pod_on(node, f"on-{node}", volumes=[volume]))
            await world.settle()
            assert await seen() == {"a"} and made == ["a"]
            await world.api().merge_patch(CONFIGMAPS, "default", "large", {"data": {"x": "b"}})
            await world.settle()
            assert await seen() == {"b"} and made == ["a", "b"]
            for node in nodes:
                await world.api().delete(PODS, "default", f"on-{node}", grace_period=0)
            await world.settle()
            assert await seen() == {""}
            await world.api().create(PODS, "default", pod_on(nodes[0], "again", volumes=[volume]))
            await world.settle()
            assert await seen() == {"b", ""} and made == ["a", "b", "b"], "what nobody needs is not kept"
