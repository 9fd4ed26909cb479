"""Which NetworkPolicies a node gets, with which peers: whatever order things change in, and however much users write."""

from __future__ import annotations

import json
import random
from typing import Any

from kubeedge.api.names import Object
from kubeedge.api.resources import NAMESPACES, NETWORKPOLICIES, PODS
from kubeedge_cloud.edgecontroller.node_objects import canonical
from kubeedge_cloud.edgecontroller.policies import (
    MAX_FOUND,
    MAX_LOOKS,
    MAX_PODS,
    PolicyCatalogue,
)
from kubeedge_cloud.edgecontroller.policy_pods import isolated_namespaces
from tests.kit.steps import at_once
from tests.unit.controllers.world import World, in_world
from tests.unit.edgecontroller.test_edgecontroller import pod_on
from tests.unit.edgecontroller.test_services import _has_proxy


def pod(name: str, address: str = "", namespace: str = "d", node: str = "edge1", **labels: str) -> Object:
    ports = [{"name": "http", "containerPort": 8080}]
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}]},
        "status": {"podIP": address, "phase": "Running"} if address else {},
    }


def policy(name: str, *rules: Object, namespace: str = "d", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, "ingress": [*rules], **spec},
    }


def namespace(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}}


def peer(label: str, **namespaces: str) -> Object:
    found: Object = {"podSelector": {"matchLabels": {"app": label}}}
    return found | ({"namespaceSelector": {"matchLabels": namespaces}} if namespaces else {})


def row(catalogue: PolicyCatalogue, name: str = "p", namespace: str = "d") -> Any:
    return json.loads(catalogue.of([namespace])[f"networkpolicies/{namespace}/{name}"])["spec"]


def _names(*objects: Object | None) -> tuple[str, str]:
    inner = next(obj for obj in objects if obj is not None)["metadata"]
    return inner.get("namespace", ""), inner["name"]


def policy_changed(catalogue: PolicyCatalogue, before: Object | None, after: Object | None) -> set[str]:
    return at_once(catalogue.policy_changed(*_names(before, after), after)) if before or after else set()


def pod_changed(catalogue: PolicyCatalogue, before: Object | None, after: Object | None) -> set[str]:
    return at_once(catalogue.pod_changed(*_names(before, after), after)) if before or after else set()


def namespace_changed(catalogue: PolicyCatalogue, before: Object | None, after: Object | None) -> set[str]:
    return at_once(catalogue.namespace_changed(_names(before, after)[1], after)) if before or after else set()


def test_rules_have_the_addresses_of_their_peers() -> None:
    pods = [
        pod("a", "10.0.0.1", app="x"), pod("b", "10.0.0.2", app="y"), pod("c", app="x"),
        pod("e", "10.0.0.3", "far", "edge2", app="x"), pod("f", "10.0.0.4", "near", app="x"),
    ]  # fmt: skip
    pods[1]["spec"]["hostNetwork"] = True
    catalogue = PolicyCatalogue(lambda: pods)
    for name, labels in (("d", {}), ("far", {"team": "a"}), ("near", {})):
        namespace_changed(catalogue, None, namespace(name, **labels))
    rule = {"from": [peer("x"), peer("x", team="a"), {"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": "http"}]}
    out = {"to": [peer("y"), {"namespaceSelector": {}}], "ports": [{"port": "http"}]}
    assert policy_changed(catalogue, None, policy("p", rule, egress=[out])) == {"d"}
    found = row(catalogue)
    assert found["policyTypes"] == ["Ingress", "Egress"]
    assert found["ingress"][0]["pods"] == [["10.0.0.1", "edge1", {}], ["10.0.0.3", "edge2", {}]]
    assert found["ingress"][0]["blocks"] == [{"cidr": "10.0.0.0/8"}]
    assert [entry["namespaces"] for entry in found["ingress"][0]["selectors"]] == [["d"], ["far"]]
    assert [entry[0] for entry in found["egress"][0]["pods"]] == ["10.0.0.1", "10.0.0.3", "10.0.0.4"]
    assert (
        found["egress"][0]["pods"][0][2] == {"http/TCP": 8080}
        and found["egress"][0]["selectors"][1]["namespaces"] == "*"
    )
    # to nobody in particular: a port by name is that of any pod
    policy_changed(catalogue, None, policy("p", egress=[{"ports": [{"port": "http"}]}, {}]))
    named, everything = row(catalogue)["egress"]
    assert len(named["pods"]) == 3 and named["all"] and everything == {
        "ports": [], "all": True, "blocks": [], "selectors": [], "pods": []
    }  # fmt: skip
    assert isolated_namespaces(pods) == {"d", "far", "near"} and isolated_namespaces(pods[1:2]) == set()


def test_each_change_leads_to_what_a_fresh_look_finds() -> None:
    chance = random.Random(15)
    pods: dict[str, Object] = {}
    namespaces: dict[str, Object] = {}
    policies: dict[str, Object] = {}
    catalogue = PolicyCatalogue(lambda: pods.values())
    known: dict[str, bytes] = {}
    for _ in range(500):
        match chance.randrange(5):
            case 0 | 1 | 2:
                name, space = f"p{chance.randrange(12)}", chance.choice("def")
                before = pods.pop(f"{space}/{name}", None)
                after = None
                if chance.random() < 0.8:
                    address = f"10.0.0.{chance.randrange(9)}" if chance.random() < 0.8 else ""
                    after = pod(name, address, space, f"edge{chance.randrange(3)}", app=chance.choice("xy"))
                    after["status"]["phase"] = chance.choice(["Running", "Running", "Failed"])
                    pods[f"{space}/{name}"] = after
                touched = pod_changed(catalogue, before, after)
            case 3:
                space = chance.choice("def")
                before, after = namespaces.pop(space, None), None
                if chance.random() < 0.8:
                    after = namespaces[space] = namespace(space, team=chance.choice("ab"))
                touched = namespace_changed(catalogue, before, after)
            case _:
                name, space = f"n{chance.randrange(3)}", chance.choice("def")
                before, after = policies.pop(f"{space}/{name}", None), None
                if chance.random() < 0.8:
                    peers = [peer(chance.choice("xy")), peer(chance.choice("xy"), team=chance.choice("ab")),
                             {"namespaceSelector": {}}, {"podSelector": {"matchLabels": 1}}]  # fmt: skip
                    some = chance.sample(peers, chance.randrange(3))
                    rule = {"ports": [{"port": "http"}], "from": some, "to": some}
                    after = policies[f"{space}/{name}"] = policy(name, rule, namespace=space, egress=[rule])
                touched = policy_changed(catalogue, before, after)
        fresh = PolicyCatalogue(lambda: pods.values())
        for obj in namespaces.values():
            namespace_changed(fresh, None, obj)
        for obj in policies.values():
            policy_changed(fresh, None, obj)
        now = dict(catalogue.of("def"))
        assert now == fresh.of("def")
        differing = {key for key in known.keys() | now.keys() if known.get(key) != now.get(key)}
        assert {key.split("/")[1] for key in differing} <= touched, "nobody would be told"
        known = now


def test_what_is_too_much_is_left_out_and_counted() -> None:
    pods = [pod(f"p{n}", f"10.{n >> 8}.{n & 255}.1", app="x") for n in range(MAX_PODS + 10)]
    catalogue = PolicyCatalogue(lambda: pods)
    policy_changed(catalogue, None, policy("p", {"from": [peer("x")] * 150, "ports": [{"port": 1}] * 150}))
    (rule,) = row(catalogue)["ingress"]
    assert len(rule["pods"]) == MAX_PODS and len(rule["selectors"]) == len(rule["ports"]) == 100
    assert rule["left_out"] == 10 + 50 + 50


def test_selectors_of_a_policy_are_bounded_in_all_its_rules() -> None:
    """A cluster's own API takes any number, and each is asked of each pod."""
    catalogue = PolicyCatalogue(lambda: [pod("p", "10.0.0.1", app="x")])
    rules = [
        {"from": [peer("x")] * 100},
        {"from": [peer("y")] * 100},
        {"from": [peer("x")] * 100},
        {"from": [peer("x")]},
    ]
    policy_changed(catalogue, None, policy("p", *rules))
    found = row(catalogue)["ingress"]
    assert [len(rule["selectors"]) for rule in found] == [100, 100, 56, 0]
    assert [rule.get("left_out", 0) for rule in found] == [0, 0, 44, 1]
    assert not found[3]["all"] and found[3]["pods"] == [], "what is left out allows nothing"


def test_what_all_policies_ask_of_a_pod_is_bounded_and_comes_back_when_there_is_room() -> None:
    catalogue = PolicyCatalogue(lambda: [pod("p", "10.0.0.1", app="x")])
    many = {"podSelector": {"matchLabels": {f"k{n}": "v" for n in range(100)}}}
    for n in range(40):
        policy_changed(catalogue, None, policy(f"n{n:02}", {"from": [many, many]}, {"from": [peer("x")]}))
        assert catalogue.weight <= MAX_LOOKS
    assert ("d", "n39") in catalogue.short and ("d", "n00") not in catalogue.short
    first, *_ = row(catalogue, "n39")["ingress"] or [None]
    assert first is None or (first["left_out"] and not first["all"]), "what is left out allows nothing"
    for n in range(20):
        policy_changed(catalogue, policy(f"n{n:02}"), None)
    for space, name in catalogue.short:
        written = policy(name, {"from": [many, many]}, {"from": [peer("x")]})
        assert policy_changed(catalogue, written, written) == {space}
    assert not catalogue.short
    allowed = row(catalogue, "n39")["ingress"]
    assert [rule.get("left_out", 0) for rule in allowed] == [0, 0] and allowed[1]["pods"] == [["10.0.0.1", "edge1", {}]]
    for n in range(20, 40):
        policy_changed(catalogue, policy(f"n{n:02}"), None)
    assert catalogue.weight == 0


def test_what_all_policies_find_is_bounded_and_comes_back_when_there_is_room() -> None:
    """8192 rules may mean the same pods: with a thousand pods these were 3 GB."""
    pods = {f"p{n}": pod(f"p{n}", f"10.0.{n >> 8}.{n & 255}", app="x") for n in range(200)}
    catalogue = PolicyCatalogue(lambda: list(pods.values()))
    named = {"ports": [{"port": "http"}]}
    written = {f"n{n:02}": policy(f"n{n:02}", egress=[named] * 100) for n in range(12)}
    for one in written.values():
        policy_changed(catalogue, None, one)
        assert catalogue.found <= MAX_FOUND
    assert catalogue.found == MAX_FOUND and catalogue.short == [("d", "n10"), ("d", "n11")]
    left_out = row(catalogue, "n11")["egress"][0]
    assert left_out["pods"] == [] and left_out["left_out"] == 1
    assert pod_changed(catalogue, None, pod("new", "10.1.0.1")) == {"d"}, "they say that something is left out"
    assert pod_changed(catalogue, None, pod("newer", "10.1.0.2")) == set()
    # what changes keeps its place, and so does what is there
    changed = policy("n00", egress=[named] * 99)
    policy_changed(catalogue, written["n00"], changed)
    written["n00"] = changed
    assert all(len(rule["pods"]) == 200 for rule in row(catalogue, "n00")["egress"])
    assert not catalogue.has_room_again(catalogue.weight), (
        "a look at all of them for each pod that goes would cost much"
    )
    for name in [f"p{n}" for n in range(60)]:
        pod_changed(catalogue, pods.pop(name), None)
    assert catalogue.has_room_again(catalogue.weight) and not catalogue.has_room_again(catalogue.weight)
    for _, name in catalogue.short:
        policy_changed(catalogue, written[name], written[name])
    assert not catalogue.short and len(row(catalogue, "n11")["egress"][99]["pods"]) == 140
    assert catalogue.found == 140 * (99 + 11 * 100)
    for name in written:
        policy_changed(catalogue, policy(name), None)
    assert catalogue.found == catalogue.weight == 0


def test_much_of_one_tenant_comes_in_portions_and_the_old_rules_hold_meanwhile() -> None:
    pods = [pod(f"p{n}", f"10.0.{n >> 8}.{n & 255}", app="x") for n in range(3000)]
    catalogue = PolicyCatalogue(lambda: pods)
    policy_changed(catalogue, None, policy("p", {"from": [peer("y")]}))
    before = dict(catalogue.of("d"))
    steps = catalogue.policy_changed("d", "p", policy("p", {"from": [peer("x")] * 100}))
    portions = 0
    for _ in steps:
        portions += 1
        assert catalogue.of("d") == before
    assert 3000 * 200 / 2000 <= portions <= 3000
    assert len(row(catalogue)["ingress"][0]["pods"]) == 3000
    for n in range(30):
        policy_changed(catalogue, None, policy(f"n{n}", {"from": [peer("x")] * 100}))
    assert sum(1 for _ in catalogue.pod_changed("d", "new", pod("new", "10.1.0.1", app="x"))) >= 2


async def _policies(world: World, node: str = "edge1") -> dict[str, Object]:
    await world.settle()
    return {key: value for key, value in (await world.desired(node)).items() if key.startswith("networkpolicies/")}


@in_world
async def test_a_node_that_enforces_them_gets_the_policies_of_its_pods(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        other = await world.join("edge2")
        api = world.api()
        await api.create(NAMESPACES, "", namespace("shop", team="a"))
        await api.create(PODS, "default", pod_on("edge1", "web"))
        client = pod_on("edge2", "client")
        client["metadata"]["labels"] = {"app": "x"}
        await api.create(PODS, "shop", client)
        spec = {"podSelector": {}, "ingress": [{"from": [peer("x", team="a")]}]}
        made = await api.create(NETWORKPOLICIES, "default", {"metadata": {"name": "p"}, "spec": spec})
        assert made["spec"]["policyTypes"] == ["Ingress"]
        await api.create(NETWORKPOLICIES, "shop", {"metadata": {"name": "p"}, "spec": {"podSelector": {}}})
        assert await _policies(world) == {}, "it has said of no proxy"
        await _has_proxy(agent)

        async def peers() -> list[Any]:
            found = await _policies(world)
            assert set(found) == {"networkpolicies/default/p"}
            return found["networkpolicies/default/p"]["spec"]["ingress"][0]["pods"]

        address = (await api.get(PODS, "shop", "client"))["status"]["podIP"]
        assert await peers() == [[address, "edge2", {}]]
        await api.merge_patch(NAMESPACES, "", "shop", {"metadata": {"labels": {"team": "b"}}})
        assert await peers() == []
        await api.merge_patch(NAMESPACES, "", "shop", {"metadata": {"labels": {"team": "a"}}})
        assert len(await peers()) == 1
        await api.merge_patch(PODS, "shop", "client", {"metadata": {"labels": {"app": "y"}}})
        assert await peers() == []
        assert await _policies(world, "edge2") == {}
        await _has_proxy(other)
        assert set(await _policies(world, "edge2")) == {"networkpolicies/shop/p"}
        await api.delete(NETWORKPOLICIES, "default", "p")
        assert await _policies(world) == {}
        await api.create(NETWORKPOLICIES, "default", {"metadata": {"name": "q"}, "spec": spec})
        assert set(await _policies(world)) == {"networkpolicies/default/q"}
    await world.api().delete(NETWORKPOLICIES, "default", "q")
    async with world.cloud():  # what went while no process was running
        assert await _policies(world) == {}


def test_the_rows_of_a_namespace_are_encoded_in_turns() -> None:
    pods = {("d", f"p{n}"): pod(f"p{n}", f"10.2.{n // 250}.{n % 250}", app="x") for n in range(500)}
    catalogue = PolicyCatalogue(lambda: pods.values())
    for n in range(3):
        policy_changed(catalogue, None, policy(f"n{n}", *[{"from": [peer("x")]}] * 4))
    fresh = dict(catalogue.of(["d"]))
    assert len(fresh) == 3
    pod_changed(catalogue, None, pod("new", "10.3.0.1", app="x"))
    assert sum(1 for _ in catalogue.encode(["d", "elsewhere"])) == 12, "a rule at a time"
    assert sum(1 for _ in catalogue.encode(["d"])) == 0, "once"
    found = catalogue.of(["d"])
    assert found.keys() == fresh.keys() and all(b"10.3.0.1" in row for row in found.values())
    assert all(row == canonical(json.loads(row)) for row in found.values())


def test_a_rule_that_changes_while_others_are_encoded_is_encoded_as_it_is_then() -> None:
    catalogue = PolicyCatalogue(lambda: ())
    policy_changed(catalogue, None, policy("p", {"from": [peer("x")]}, {"from": [peer("x")]}))
    steps = catalogue.encode(["d"])
    next(steps)
    pod_changed(catalogue, None, pod("new", "10.3.0.1", app="x"))
    list(steps)
    assert [len(rule["pods"]) for rule in row(catalogue)["ingress"]] == [1, 1]
    steps = catalogue.encode(["d"])
    list(steps)
    policy_changed(catalogue, policy("p"), None)
    assert not catalogue.of(["d"])
