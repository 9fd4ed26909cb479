"""ClusterTrustBundles of a user's cluster: which of them a node gets for the volumes of its pods."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import CLUSTERTRUSTBUNDLES, PODS, Resources, Row
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.registry import Registry
from kubeedge.pki.csr import pem
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.edgecontroller import trust_bundles
from kubeedge_cloud.edgecontroller.trust_bundles import TrustBundles, merged
from tests.kit import virtual_time
from tests.unit.controllers.world import TENANT, template
from tests.unit.edgecontroller.test_cluster import ClusterWorld, in_cluster

EDGE1, EDGE2 = NodeName("edge1"), NodeName("edge2")
ROW = Row(CLUSTERTRUSTBUNDLES, "clustertrustbundle", name_rule="subdomain")
ONE, TWO, THREE = (pem("CERTIFICATE", der).decode() for der in (b"one" * 30, b"two" * 30, b"three" * 30))


def bundle(name: str, text: str, signer: str = "", **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"signerName": signer, "trustBundle": text}}


def pod(*sources: Any) -> Object:
    projected = {"sources": [{"clusterTrustBundle": source} for source in sources]}
    return {"metadata": {"name": "p"}, "spec": {"volumes": [{"name": "v", "projected": projected}]}}


def certificates(text: str) -> set[str]:
    return {f"{part}-----END CERTIFICATE-----\n" for part in text.split("-----END CERTIFICATE-----\n") if part}


class Node:
    """One whose pods change, and what it has."""

    def __init__(self, bundles: TrustBundles, name: NodeName) -> None:
        self._bundles, self._name = bundles, name
        self.rows: dict[str, bytes] = {}

    def wants(self, *sources: Any) -> list[set[str]]:
        """The certificates of each source, in its order; "missing" for one without a row."""
        self.rows = self._bundles.rows(self._name, [pod(*sources)], self.rows)
        found = []
        for source in sources:
            key = f"clustertrustbundles/_/{trust_bundles.trust_bundles.wanted_of(source).row}"
            found.append(certificates(json.loads(self.rows[key])["trustBundle"]) if key in self.rows else {"missing"})
        return found


def test_sources_mean_one_by_its_name_or_those_of_a_signer() -> None:
    told: list[NodeName] = []
    asked: list[NodeName] = []

    async def scenario() -> None:
        store = MemoryStore()
        registry = Registry(store, TENANT, served=Resources((*BUILT_IN, ROW)))
        for made in (
            bundle("a", ONE), bundle("b", TWO + ONE, "x.example/s", alive="yes"), bundle("c", THREE, "x.example/s"),
            bundle("d", ONE, "y.example/s", alive="yes"),
        ):  # fmt: skip
            await registry.create(CLUSTERTRUSTBUNDLES, "", made)

        def client_of(node: NodeName) -> Any:
            asked.append(node)
            return registry

        bundles = TrustBundles(client_of, told.append)
        task = asyncio.create_task(bundles.run())
        await asyncio.sleep(0)
        one, other = Node(bundles, EDGE1), Node(bundles, EDGE2)
        assert one.wants() == [] and asked == []  # nobody asks for any: nothing is watched
        assert one.wants({"name": "a"}) == [{"missing"}]
        await asyncio.sleep(1)
        assert told and set(told) == {EDGE1}
        signer = {"signerName": "x.example/s"}
        sources = [
            {"name": "a"}, {"name": "nobody"}, signer, {**signer, "labelSelector": {}},
            {**signer, "labelSelector": {"matchLabels": {"alive": "yes"}}},
            {**signer, "labelSelector": {"matchLabels": {"alive": "no"}}},
        ]  # fmt: skip
        assert one.wants(*sources) == [
            {ONE}, {"missing"}, {"missing"}, {ONE, TWO, THREE}, {ONE, TWO}, {"missing"}
        ]  # fmt: skip
        told.clear()
        await registry.delete(CLUSTERTRUSTBUNDLES, "", "a")
        await asyncio.sleep(1)
        assert told == [EDGE1] and one.wants({"name": "a"}) == [{"missing"}]
        # whose identity asks goes away: another's does, and what nodes have stays until the first list
        assert other.wants({"name": "c"}) == [{THREE}]
        bundles.forget(EDGE1)
        assert other.wants({"name": "c"}) == [{THREE}]
        await asyncio.sleep(1)
        assert asked == [EDGE1, EDGE2] and other.wants({"name": "c"}) == [{THREE}]
        assert other.wants() == []
        await asyncio.sleep(1)
        assert not [t for t in asyncio.all_tasks() if t.get_name() == ROW.resource.plural]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()

    virtual_time.run(scenario())


def test_certificates_are_there_once_and_have_a_bound() -> None:
    assert merged([TWO + ONE, ONE, "no certificate", TWO]) == merged([ONE, TWO])
    assert certificates(merged([TWO, ONE])) == {ONE, TWO}
    large = [pem("CERTIFICATE", bytes([n]) * 100_000).decode() for n in range(20)]
    assert 0 < len(merged(large)) <= trust_bundles.MAX_BUNDLE
    assert merged(["-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n"]) == ""
    assert merged(["-----BEGIN CERTIFICATE-----" * 40_000]) == ""


def test_pods_ask_for_no_more_than_the_bound() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        registry: Any = Registry(store, TENANT, served=Resources((*BUILT_IN, ROW)))
        bundles = TrustBundles(lambda _: registry, lambda _: None)
        task = asyncio.create_task(bundles.run())
        await asyncio.sleep(0)
        await registry.create(CLUSTERTRUSTBUNDLES, "", bundle("a", ONE, "x.example/s"))
        many = [
            {"signerName": "x.example/s", "labelSelector": {"matchExpressions": [{"key": f"k{n}", "operator": "DoesNotExist"}]}}
            for n in range(trust_bundles.MAX_WANTED + 7)
        ]  # fmt: skip
        bundles.rows(EDGE1, [pod(*many)], {})
        await asyncio.sleep(1)
        assert len(bundles.rows(EDGE1, [pod(*many)], {})) == trust_bundles.MAX_WANTED
        odd = [{}, {"signerName": "x", "labelSelector": {"matchLabels": {"a": "b" * 20_000}}}, None, "text"]
        odd += [{"signerName": "x.example/s", "labelSelector": {"matchExpressions": [{"operator": "?"}]}}]
        assert bundles.rows(EDGE1, [pod(*odd)], {}) == {}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()

    virtual_time.run(scenario())


@in_cluster
async def test_a_node_hears_of_what_its_pods_ask_for(world: ClusterWorld) -> None:
    registry = world.cluster.registry
    registry.served.register(Row(CLUSTERTRUSTBUNDLES, "clustertrustbundle"))
    async with world.cloud():
        await world.join("edge1")
        await world.settle(2)
        await registry.create(CLUSTERTRUSTBUNDLES, "", bundle("ours", ONE))
        spec = {**template("a")["spec"], "nodeName": "edge1", **pod({"name": "ours"})["spec"]}
        await registry.create(PODS, "default", {"metadata": {"name": "a"}, "spec": spec})
        await world.settle(3)

        async def held() -> list[str]:
            rows = await world.desired("edge1")
            return [row["trustBundle"] for key, row in rows.items() if key.startswith("clustertrustbundles/")]

        assert await held() == [ONE]
        await registry.merge_patch(CLUSTERTRUSTBUNDLES, "", "ours", {"spec": {"trustBundle": TWO}})
        await world.settle(3)
        assert await held() == [TWO]
        assert {who for who, _, plural, _ in world.cluster.asked if plural == ROW.resource.plural} == {"edge1"}
        await registry.delete(PODS, "default", "a", grace_period=0)
        await world.settle(3)
        assert await held() == []
