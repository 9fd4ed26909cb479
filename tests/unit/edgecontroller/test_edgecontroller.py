"""EdgeController over the embedded API: what a node gets, what its reports become, and whether it is Ready."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from kubeedge.api import keys, meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import CONFIGMAPS, DEPLOYMENTS, EVENTS, NODES, PODS, SECRETS, SERVICES
from kubeedge.errors import NotFound
from kubeedge_cloud.kubeconfigs.records import KubeconfigRecords
from tests.unit.controllers.world import GRACE, TENANT, World, deployment, in_world, template

EDGE1 = NodeName("edge1")


def pod_on(node: str, name: str = "p", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {**template(name)["spec"], "nodeName": node, **spec},
    }


async def taints_of(world: World, node: str) -> list[tuple[str, str]]:
    return [(t["key"], t["effect"]) for t in (await world.get(NODES, node))["spec"].get("taints", ())]


async def readiness_of(world: World, pod: str) -> str:
    conditions = (await world.get(PODS, pod))["status"].get("conditions", ())
    return next((str(c["status"]) for c in conditions if c["type"] == "Ready"), "none")


async def is_ready(world: World, pod: str) -> bool:
    return await readiness_of(world, pod) == "True"


async def is_node(world: World, node: str, state: str) -> bool:
    return await world.ready_of(node) == state


@in_world
async def test_a_node_that_joined_is_there_before_it_attaches(world: World) -> None:
    async with world.cloud():
        record = await world.tenants.ensure_node(TENANT, "edge1")
        await world.until(lambda: is_node(world, "edge1", "Unknown"), "the node, not ready", within=1)
        node = await world.get(NODES, "edge1")
        assert node["spec"]["podCIDR"] == record.pod_cidr == "10.244.1.0/24"
        assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "edge1"
        assert ("node.kubernetes.io/unreachable", "NoSchedule") in await taints_of(world, "edge1")


@in_world
async def test_an_attached_node_is_ready_and_says_what_it_is(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: is_node(world, "edge1", "True"), "ready", within=1)
        await world.settle()
        node = await world.get(NODES, "edge1")
        labels = node["metadata"]["labels"]
        assert labels["kubernetes.io/arch"] == "arm64" and labels["kubernetes.io/os"] == "linux"
        assert labels["node-role.kubernetes.io/edge"] == "" and labels["node-role.kubernetes.io/agent"] == ""
        assert node["status"]["capacity"]["cpu"] == "4" and node["status"]["nodeInfo"]["kubeletVersion"] == "v1.32.0"
        assert await taints_of(world, "edge1") == []


@in_world
async def test_a_lost_node_keeps_its_pods_and_gets_no_new_ones(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 1))
        await world.until(lambda: world.is_rolled_out("web"), "rollout")
        (pod,) = await world.all(PODS)
        name = pod["metadata"]["name"]
        before = await world.desired("edge1")

        await agent.detach()
        await world.settle(GRACE - 1)
        assert await is_node(world, "edge1", "True") and await is_ready(world, name)
        await world.settle(2)
        assert await is_node(world, "edge1", "Unknown")
        condition = next(c for c in (await world.get(NODES, "edge1"))["status"]["conditions"] if c["type"] == "Ready")
        assert condition["reason"] == "NodeStatusUnknown" and "not attached" in condition["message"]
        assert condition["lastTransitionTime"] <= meta.timestamp(world.wall())
        assert await taints_of(world, "edge1") == [("node.kubernetes.io/unreachable", "NoSchedule")]
        assert await readiness_of(world, name) == "False"

        await world.api().merge_patch(DEPLOYMENTS, "default", "web", {"spec": {"replicas": 2}})
        await world.settle(3600)
        pods = await world.all(PODS)
        assert len(pods) == 2  # nobody was evicted
        assert [p["spec"].get("nodeName") for p in pods if p["metadata"]["name"] != name] == [None]
        assert await world.desired("edge1") == before  # nothing of this is news for the node

        await agent.attach()
        await world.until(lambda: is_node(world, "edge1", "True"), "ready again", within=1)
        await world.until(lambda: is_ready(world, name), "its pod is ready again", within=1)
        await world.until(lambda: world.is_rolled_out("web"), "the second pod runs")
        assert await taints_of(world, "edge1") == []


@in_world
async def test_a_short_cut_goes_unseen(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: is_node(world, "edge1", "True"), "ready")
        await world.settle()
        version = (await world.get(NODES, "edge1"))["metadata"]["resourceVersion"]
        for _ in range(5):
            await agent.detach()
            await world.settle(GRACE / 2)
            await agent.attach()
            await world.settle(GRACE / 2)
        assert (await world.get(NODES, "edge1"))["metadata"]["resourceVersion"] == version


@in_world
async def test_a_cloud_that_restarts_gives_its_nodes_time_to_come_back(world: World) -> None:
    async with world.cloud():
        agents = [await world.join("edge1"), await world.join("edge2")]
        await world.until(lambda: is_node(world, "edge2", "True"), "ready")
        await world.settle()
    for agent in agents:
        await agent.detach()
    async with world.cloud():
        await world.settle(GRACE / 2)
        assert await is_node(world, "edge1", "True") and await is_node(world, "edge2", "True")
        await agents[0].attach()
        await world.settle(GRACE)
        assert await is_node(world, "edge1", "True") and await is_node(world, "edge2", "Unknown")


@in_world
async def test_a_pod_that_ended_goes_when_it_was_to_go_and_only_then(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        pod = await world.api().create(PODS, "default", pod_on("edge1"))
        await world.until(lambda: is_ready(world, "p"), "ready")
        await agent.report("pods/default/p", {"uid": pod["metadata"]["uid"], "gone": True})
        await world.settle()
        assert await world.get(PODS, "p")  # nobody wants it gone
        await agent.stop()
        await world.api().delete(PODS, "default", "p")
        await world.settle()
        desired = (await world.desired("edge1")).get("pods/default/p")
        assert desired is None or desired["metadata"]["deletionTimestamp"]
        await agent.attach()

        async def is_gone() -> bool:
            return not await world.all(PODS) and "pods/default/p" not in await world.desired("edge1")

        await world.until(is_gone, "the pod is gone at both ends")


@in_world
async def test_a_pod_that_a_finalizer_keeps_says_how_it_ended(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        obj = pod_on("edge1")
        obj["metadata"]["finalizers"] = ["example.com/wait"]
        pod = await world.api().create(PODS, "default", obj)
        await world.until(lambda: is_ready(world, "p"), "ready")
        await agent.stop()
        await world.api().delete(PODS, "default", "p")
        await world.settle()
        status = {"phase": "Failed", "containerStatuses": []}
        await agent.report("pods/default/p", {"uid": pod["metadata"]["uid"], "gone": True, "status": status})

        async def says_so() -> bool:
            return bool((await world.get(PODS, "p"))["status"].get("phase") == "Failed")

        await world.until(says_so, "the phase")
        assert (await world.get(PODS, "p"))["metadata"]["finalizers"] == ["example.com/wait"]


@in_world
async def test_reports_of_another_uid_and_of_other_nodes_pods_are_ignored(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        other = await world.join("edge2")
        pod = await world.api().create(PODS, "default", pod_on("edge1"))
        await world.until(lambda: is_ready(world, "p"), "ready")
        before = await world.get(PODS, "p")
        uid = pod["metadata"]["uid"]
        await other.report("pods/default/p", {"uid": uid, "status": {"phase": "Failed"}})
        await world.settle()
        assert await world.get(PODS, "p") == before
        agent = world.agents[TENANT, EDGE1]
        await agent.report("pods/default/p", {"uid": "another", "status": {"phase": "Failed"}})
        await world.settle()
        assert await world.get(PODS, "p") == before
        await other.report("nodes/_/edge1", {"status": {"capacity": {"cpu": "1000"}}})
        await world.settle()
        assert (await world.get(NODES, "edge1"))["status"]["capacity"]["cpu"] == "4"


@in_world
async def test_reports_that_make_no_sense_cost_nothing_and_stop_nothing(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(PODS, "default", pod_on("edge1"))
        await world.until(lambda: is_ready(world, "p"), "ready")
        uid = (await world.get(PODS, "p"))["metadata"]["uid"]
        await agent.stop()
        prefix = keys.edge_reported(TENANT, EDGE1)
        nonsense: tuple[bytes, ...] = (b"", b"null", b"[]", b"\xff", b"{", b'{"uid":3}', b'"x"', b"[" * 5000)
        for number, value in enumerate(nonsense):
            await world.store.put(f"{prefix}pods/default/p", value)
            await world.store.put(f"{prefix}nodes/_/edge1", value)
            await world.store.put(f"{prefix}events/default/e{number}", value)
            await world.store.put(f"{prefix}x{number}/a/b", value)
            await world.settle(0.1)
        for status in (None, 3, [], {"conditions": 3}, {"phase": {}}, {"conditions": [3]}, {"podIP": 7}):
            await agent.report("pods/default/p", {"uid": uid, "status": status})
            await agent.report("nodes/_/edge1", {"status": status})
            await world.settle(0.1)
        await agent.attach()
        other = await world.api().create(PODS, "default", pod_on("edge1", "q"))
        assert other
        await world.until(lambda: is_ready(world, "q"), "the next pod runs as ever")
        await world.until(lambda: is_ready(world, "p"), "the first one is right again")


@in_world
async def test_a_node_gets_what_its_pods_refer_to_and_nothing_else(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        for name in ("volume", "projected", "env", "from", "unused", "late"):
            if name != "late":
                await world.api().create(CONFIGMAPS, "default", {"metadata": {"name": name}, "data": {"k": "v"}})
            await world.api().create(SECRETS, "default", {"metadata": {"name": f"s-{name}"}, "stringData": {"k": "v"}})
        volumes = [
            {"name": "a", "configMap": {"name": "volume"}},
            {"name": "b", "secret": {"secretName": "s-volume"}},
            {
                "name": "c",
                "projected": {"sources": [{"configMap": {"name": "projected"}}, {"secret": {"name": "s-projected"}}]},
            },
            {"name": "d", "configMap": {"name": "late", "optional": True}},
        ]
        env = [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "k"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s-env", "key": "k"}}},
        ]
        sources = [{"configMapRef": {"name": "from"}}, {"secretRef": {"name": "s-from"}}]
        container = {"name": "c", "image": "x:1", "env": env, "envFrom": sources}
        spec = {"containers": [container], "volumes": volumes, "imagePullSecrets": [{"name": "s-late"}]}
        await world.api().create(PODS, "default", pod_on("edge1", **spec))
        await world.settle()
        wanted = {f"configmaps/default/{n}" for n in ("volume", "projected", "env", "from")}
        wanted |= {f"secrets/default/s-{n}" for n in ("volume", "projected", "env", "from", "late")}
        got = {key for key in await world.desired("edge1") if not key.startswith(("pods/", "nodes/"))}
        assert got == wanted

        await world.api().create(CONFIGMAPS, "default", {"metadata": {"name": "late"}, "data": {"k": "1"}})
        await world.settle()
        assert (await world.desired("edge1"))["configmaps/default/late"]["data"] == {"k": "1"}
        await world.api().merge_patch(CONFIGMAPS, "default", "late", {"data": {"k": "2"}})
        await world.settle()
        assert (await world.desired("edge1"))["configmaps/default/late"]["data"] == {"k": "2"}
        await world.api().delete(CONFIGMAPS, "default", "late")
        await world.api().delete(PODS, "default", "p", grace_period=0)
        await world.settle()
        assert set(await world.desired("edge1")) == {"nodes/_/edge1"}


@in_world
async def test_only_what_the_node_needs_to_know_is_written(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(CONFIGMAPS, "default", {"metadata": {"name": "unused"}, "data": {"k": "v"}})
        pod = await world.api().create(PODS, "default", pod_on("edge1"))
        await world.until(lambda: is_ready(world, "p"), "ready")
        await world.settle()
        prefix = keys.edge_desired(TENANT, EDGE1)

        async def versions() -> dict[str, int]:
            found = await world.store.range(prefix, keys.prefix_end(prefix))
            return {kv.key: kv.mod_revision for kv in found.kvs}

        before = await versions()
        for phase in ("Failed", "Running"):
            await agent.report("pods/default/p", {"uid": pod["metadata"]["uid"], "status": {"phase": phase}})
            await world.settle(0.1)
        await world.api().merge_patch(CONFIGMAPS, "default", "unused", {"data": {"k": "w"}})
        await agent.detach()
        await world.settle(2 * GRACE)
        await agent.attach()
        await world.settle()
        assert await versions() == before
        await world.api().merge_patch(NODES, "", "edge1", {"metadata": {"labels": {"site": "roof"}}})
        await world.settle()
        changed = {key for key, version in (await versions()).items() if before.get(key) != version}
        assert changed == {f"{prefix}nodes/_/edge1"}


@in_world
async def test_what_others_say_of_readiness_gates_goes_to_the_node_and_outlives_its_reports(world: World) -> None:
    gate = "example.com/checked"
    async with world.cloud():
        agent = await world.join("edge1")
        agent.starts_after = 1e6
        pod = await world.api().create(PODS, "default", pod_on("edge1", readinessGates=[{"conditionType": gate}]))
        await world.settle()
        assert "status" not in (await world.desired("edge1"))["pods/default/p"]

        async def report(*conditions: Object) -> dict[str, str]:
            status = {"phase": "Running", "conditions": list(conditions)}
            await agent.report("pods/default/p", {"uid": pod["metadata"]["uid"], "status": status})
            await world.settle(0.1)
            return {c["type"]: c["status"] for c in (await world.get(PODS, "p"))["status"]["conditions"]}

        async def say(status: str) -> None:
            current = await world.get(PODS, "p")
            others = [c for c in current["status"]["conditions"] if c["type"] != gate]
            said = {"type": gate, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "so it is"}
            changed = {**current, "status": {**current["status"], "conditions": [*others, said]}}
            await world.api().update(PODS, "default", changed, subresource="status")
            await world.settle()

        waits = {"type": "Ready", "status": "False"}
        resizing = {"type": "PodResizePending", "status": "True"}
        await report(waits, resizing)
        for status in ("True", "False"):
            await say(status)
            told = (await world.desired("edge1"))["pods/default/p"]["status"]
            assert told == {"conditions": [{"type": gate, "status": status}]}
        left = {"Ready": "False", gate: "False", "PodScheduled": "True"}
        assert await report({**waits, "reason": "Other"}) == left, "and no resize any more"


@in_world
async def test_a_service_is_published_on_the_nodes_of_its_pods(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.join("edge2")
        service = {
            "metadata": {"name": "web", "annotations": {"kubeedge.io/publish": "shop"}},
            "spec": {"selector": {"app": "p"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }
        await world.api().create(SERVICES, "default", service)
        await world.api().create(PODS, "default", pod_on("edge1"))
        await world.settle()
        assert (await world.desired("edge1"))["webservices/_/shop"] == {
            "namespace": "default",
            "selector": {"app": "p"},
            "port": "http",
        }
        assert "webservices/_/shop" not in await world.desired("edge2")
        await world.api().merge_patch(
            SERVICES, "default", "web", {"metadata": {"annotations": {"kubeedge.io/publish": None}}}
        )
        await world.settle()
        assert "webservices/_/shop" not in await world.desired("edge1")


@in_world
async def test_who_may_use_a_service_goes_to_its_nodes_and_of_tokens_only_the_hashes(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        notes = {
            "kubeedge.io/publish": "shop", "kubeedge.io/access": "token", "kubeedge.io/access-token-secret": "keys"
        }  # fmt: skip
        service = {
            "metadata": {"name": "web", "annotations": notes},
            "spec": {"selector": {"app": "p"}, "ports": [{"port": 80}]},
        }
        await world.api().create(SERVICES, "default", service)
        await world.api().create(PODS, "default", pod_on("edge1"))
        await world.settle()
        shop = (await world.desired("edge1"))["webservices/_/shop"]
        assert (shop["access"], shop["tokens"]) == ("token", [])  # the Secret is not there yet: nobody
        token = "0123456789abcdef0123456789abcdef"
        data = {"ann": token + "\n", "short": "letmein", "odd": "\u00e4" * 40}
        encoded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
        await world.api().create(SECRETS, "default", {"metadata": {"name": "keys"}, "data": encoded})
        await world.settle()
        everything = await world.desired("edge1")
        assert everything["webservices/_/shop"]["tokens"] == [hashlib.sha256(token.encode()).hexdigest()]
        assert not any(key.startswith("secrets/") for key in everything)
        await world.api().merge_patch(
            SERVICES, "default", "web", {"metadata": {"annotations": {"kubeedge.io/access": "friends"}}}
        )
        await world.settle()
        assert (await world.desired("edge1"))["webservices/_/shop"]["access"] == "friends"  # for the node to refuse


def pulled(world: World, name: str, about: str, age: float = 0.0, count: int = 1) -> tuple[str, Object]:
    """An Event as a node whose clock is right, or off, reports it: the rest of its key, and its value."""
    stamp = meta.timestamp(world.wall() - age)
    return f"events/default/{name}", {
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": about},
        "type": "Normal",
        "reason": "Pulled",
        "message": "m",
        "source": {"component": "kubelet", "host": "elsewhere"},
        "firstTimestamp": meta.timestamp(world.wall() - age - 10.0),
        "lastTimestamp": stamp,
        "count": count,
    }


async def all_pulled(world: World) -> dict[str, Object]:
    return {e["metadata"]["name"]: e for e in await world.all(EVENTS) if e["reason"] == "Pulled"}


@in_world
async def test_events_of_a_node_come_once_and_only_about_its_own(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.join("edge2")
        for node, name in (("edge1", "p"), ("edge2", "q")):
            await world.api().create(PODS, "default", pod_on(node, name))
        await world.settle()
        for arguments in (("ours", "p"), ("theirs", "q"), ("old", "p", 7200.0)):
            await agent.report(*pulled(world, *arguments))
        await world.settle()
        found = await all_pulled(world)
        assert found.keys() == {"ours", "old"}, "what happened while the node was away is told, too"
        assert found["ours"]["source"]["host"] == "edge1"
        assert found["old"]["lastTimestamp"] <= meta.timestamp(world.wall() - 7200.0)
        await world.api().delete(EVENTS, "default", "old")
    async with world.cloud():
        await world.settle()
        assert (await all_pulled(world)).keys() == {"ours"}, "not once more after the API has let it go"


@in_world
async def test_no_event_is_lost_by_a_clock_and_none_is_of_a_time_that_cannot_be(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(PODS, "default", pod_on("edge1"))
        await world.settle(90)  # attached for long enough: nothing is left of what happened before
        arrived = world.wall()
        for name, age in (
            ("behind", 3 * 3600.0),
            ("years", 20 * 365 * 86400.0),
            ("ahead", -3 * 3600.0),
            ("late", 900.0),
        ):
            await agent.report(*pulled(world, name, "p", age))
        await world.settle()
        found = await all_pulled(world)
        for name in ("behind", "years", "ahead"):
            first, last = (meta.parse_timestamp(found[name][which]) for which in ("firstTimestamp", "lastTimestamp"))
            assert first is not None and last is not None
            assert arrived - 2 <= last <= world.wall() and last - first == 10, (name, found[name])
        assert found["late"]["lastTimestamp"] == meta.timestamp(arrived - 900.0), "a line may be that slow"


@in_world
async def test_an_event_that_repeats_is_counted_and_comes_anew_when_the_api_let_it_go(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.join("edge2")
        await world.api().create(PODS, "default", pod_on("edge1"))
        await world.settle()
        for count in (1, 2, 3):
            await agent.report(*pulled(world, "again", "p", count=count))
            await world.settle(5)
            found = await all_pulled(world)
            assert found["again"]["count"] == count and len(found) == 1
        assert found["again"]["lastTimestamp"] > found["again"]["firstTimestamp"]
        await world.api().delete(EVENTS, "default", "again")
        await agent.report(*pulled(world, "again", "p", count=4))
        await world.settle()
        assert (await all_pulled(world))["again"]["count"] == 4
        _, other = pulled(world, "foreign", "q")
        await world.api().create(EVENTS, "default", other)
        await agent.report(*pulled(world, "foreign", "p", count=9))
        await world.settle()
        assert (await all_pulled(world))["foreign"]["count"] == 1, "an Event of that name is another's"


@in_world
async def test_a_node_that_was_removed_leaves_nothing_behind(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(PODS, "default", pod_on("edge1"))
        await world.until(lambda: is_ready(world, "p"), "ready")
        await agent.detach()
        assert await world.tenants.remove_node(TENANT, EDGE1)

        async def is_gone() -> bool:
            try:
                await world.get(NODES, "edge1")
            except NotFound:
                return True
            return False

        await world.until(is_gone, "the Node object is gone", within=1)
        await world.api().merge_patch(PODS, "default", "p", {"metadata": {"labels": {"x": "y"}}})
        await world.settle(60)
        prefix = keys.edge(TENANT, EDGE1)
        assert not (await world.store.range(prefix, keys.prefix_end(prefix))).kvs
        assert not await world.all(PODS)  # after a while nobody can be running it


@in_world
async def test_a_machine_that_joins_at_once_under_the_name_of_a_removed_one_gets_its_pods(world: World) -> None:
    """Removed and made again is one change for who looks a moment later; what the node should have went with the first."""
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(PODS, "default", pod_on("edge1"))
        await world.until(lambda: is_ready(world, "p"), "ready")
        await agent.detach()
        before = await world.tenants.node(TENANT, EDGE1)
        assert await world.tenants.remove_node(TENANT, EDGE1)
        after = await world.tenants.ensure_node(TENANT, "edge1", "another")
        assert before is not None and before.number == after.number
        key = keys.edge_desired(TENANT, EDGE1) + "pods/default/p"

        async def is_desired() -> bool:
            return await world.store.get(key) is not None

        await world.until(is_desired, "the pod of the new machine", within=5)


@in_world
async def test_a_node_whose_record_went_while_nobody_looked_is_removed(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: is_node(world, "edge1", "True"), "ready")
        await world.api().create(NODES, "", {"metadata": {"name": "somebody-elses"}})
    await agent.detach()
    await world.tenants.remove_node(TENANT, EDGE1)
    async with world.cloud():
        await world.settle()
        assert [node["metadata"]["name"] for node in await world.all(NODES)] == ["somebody-elses"]


@in_world
async def test_what_users_write_on_a_node_stays(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: is_node(world, "edge1", "True"), "ready")
        taint = {"key": "camera", "effect": "NoSchedule"}
        patch = {"metadata": {"labels": {"site": "roof"}}, "spec": {"taints": [taint], "unschedulable": True}}
        await world.api().merge_patch(NODES, "", "edge1", patch)
        await agent.detach()
        await world.settle(2 * GRACE)
        await agent.attach()
        await world.until(lambda: is_node(world, "edge1", "True"), "ready again")
        await world.settle()
        node = await world.get(NODES, "edge1")
        assert node["metadata"]["labels"]["site"] == "roof"
        assert node["spec"]["taints"] == [taint] and node["spec"]["unschedulable"] is True
        assert json.loads(json.dumps(node))


@in_world
async def test_a_node_knows_the_services_whose_variables_its_containers_have(world: World) -> None:
    async def linked(node: str) -> dict[str, Any]:
        return {k: v["spec"] for k, v in (await world.desired(node)).items() if k.startswith("services/")}

    async with world.cloud():
        for node in ("edge1", "edge2"):
            await world.join(node)
        ports = [{"name": "http", "port": 80, "targetPort": "web"}]
        await world.api().create(SERVICES, "default", {"metadata": {"name": "web"}, "spec": {"ports": ports}})
        headless = {"metadata": {"name": "peers"}, "spec": {"ports": ports, "clusterIP": "None"}}
        await world.api().create(SERVICES, "default", headless)
        await world.api().create(PODS, "default", pod_on("edge1", "p"))
        await world.api().create(PODS, "default", pod_on("edge2", "q", enableServiceLinks=False))
        await world.settle()
        address = (await world.get(SERVICES, "web"))["spec"]["clusterIP"]
        web = {"clusterIP": address, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
        assert await linked("edge1") == {"services/default/web": web}
        assert await linked("edge2") == {}
        await world.api().create(SERVICES, "default", {"metadata": {"name": "later"}, "spec": {"ports": ports}})
        await world.api().merge_patch(SERVICES, "default", "web", {"spec": {"ports": [{"name": "x", "port": 81}]}})
        await world.settle()
        assert set(await linked("edge1")) == {"services/default/web", "services/default/later"}
        assert (await linked("edge1"))["services/default/web"]["ports"][0]["port"] == 81
        api = {"metadata": {"name": "kubernetes"}, "spec": {"ports": [{"port": 443}]}}
        await world.api().create(SERVICES, "default", api)
        await world.settle()
        assert set(await linked("edge2")) == {"services/default/kubernetes"}  # every container is told of that
        await world.api().delete(SERVICES, "default", "kubernetes")
        await world.api().delete(SERVICES, "default", "web")
        await world.api().delete(PODS, "default", "p", grace_period=0)
        await world.settle()
        assert await linked("edge1") == await linked("edge2") == {}


@in_world
async def test_nodes_hear_which_kubeconfigs_are_valid(world: World) -> None:
    records = KubeconfigRecords(world.store, world.wall)
    await world.tenants.ensure_node(TENANT, "edge1")

    async def listed() -> list[str] | None:
        found = (await world.desired("edge1")).get("kubeconfigs/_/valid")
        return found["valid"] if found is not None else None

    async with world.cloud():
        await world.settle()
        assert await listed() is None, "there are none: certificates of an earlier version have no records"
        lost, kept = [await records.create(TENANT, user) for user in ("ann", "bob")]
        await world.settle()
        assert await listed() == sorted(["", lost.id, kept.id])
        await records.revoke(TENANT, lost.id)
        await world.settle()
        assert await listed() == ["", kept.id]
        await records.revoke(TENANT, "earlier")
        await world.settle()
        assert await listed() == [kept.id]
