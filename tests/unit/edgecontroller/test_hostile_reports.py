"""What a node may say that no client could read: it is refused where it comes in, without a traceback, and harms nobody else."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from kubeedge.api import keys, meta, strict_json
from kubeedge.api.names import NodeName
from kubeedge.api.resources import CONFIGMAPS, EVENTS, NODES, PODS
from kubeedge.errors import Invalid
from kubeedge.store.model import Delete, Put
from tests.unit.controllers.world import TENANT, World, in_world, template

DEEP = '{"a":' * 400 + "1" + "}" * 400
UNREADABLE = ("NaN", "Infinity", "-Infinity", "1e999", '"\\ud800"', DEEP, "[" * 100_000, "\xff", "1" * 5000)


def container(**fields: str) -> str:
    inner = {"name": '"c"', "ready": "true", "restartCount": "0", "image": '"i"', "imageID": '"i"', **fields}
    listed = ",".join(f'"{name}":{value}' for name, value in inner.items())
    return f'{{"phase":"Running","containerStatuses":[{{{listed}}}]}}'


STATUSES = (
    *UNREADABLE,
    *(f'{{"message":{value}}}' for value in UNREADABLE),
    *(container(restartCount=value) for value in ('"1"', "2147483648", "-2147483649", "1.5", "true", "[]")),
    *(container(state=f'{{"running":{{"startedAt":{value}}}}}') for value in ('""', '"yesterday"', "0", "{}")),
    *(f'{{"startTime":{value}}}' for value in ('"2026-01-01"', '"20260101T000000Z"', '"2026-01-01T00:00:00"', '"2026-13-01T00:00:00Z"')),
    '{"conditions":{}}',
    '{"conditions":[5]}',
    '{"podIPs":[null,"10.0.0.1"]}',
)  # fmt: skip
NODE_STATUSES = (
    *(f'{{"nodeInfo":{{"osImage":{value}}}}}' for value in (*UNREADABLE, "5", "{}")),
    '{"daemonEndpoints":{"kubeletEndpoint":{"Port":4294967296}}}',
    '{"images":[{"names":"x"}]}',
    '{"images":[5]}',
    '{"capacity":{"cpu":"many"}}',
    '{"addresses":["10.0.0.1"]}',
)


async def report(world: World, node: str, rest: str, value: str) -> None:
    await world.store.put(keys.edge_reported(TENANT, NodeName(node)) + rest, value.encode("latin-1"))
    await world.settle(2)


@in_world
async def test_no_report_of_a_node_makes_the_lists_of_others_unreadable(world: World) -> None:
    logged: list[logging.LogRecord] = []

    class Tracebacks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                logged.append(record)

    handler = Tracebacks()
    logging.getLogger("kubeedge_cloud").addHandler(handler)
    try:
        async with world.cloud():
            for node in ("edge1", "edge2"):
                await world.tenants.ensure_node(TENANT, NodeName(node))
                pod = {"metadata": {"name": node}, "spec": {**template(node)["spec"], "nodeName": node}}
                await world.api().create(PODS, "default", pod)
            await world.settle(2)
            uid = (await world.get(PODS, "edge1"))["metadata"]["uid"]
            await report(world, "edge1", "pods/default/edge1", f'{{"uid":"{uid}","status":{container()}}}')
            good = (await world.get(PODS, "edge1"))["status"]
            assert good["containerStatuses"][0]["restartCount"] == 0
            node = (await world.get(NODES, "edge1"))["status"]
            for status in STATUSES:
                await report(world, "edge1", "pods/default/edge1", f'{{"uid":"{uid}","status":{status}}}')
                assert (await world.get(PODS, "edge1"))["status"] == good, status[:200]
            for status in NODE_STATUSES:
                await report(world, "edge1", "nodes/_/edge1", f'{{"status":{status}}}')
                assert (await world.get(NODES, "edge1"))["status"] == node, status[:200]
            now = meta.timestamp(world.wall())
            event = (
                f'"involvedObject":{{"kind":"Pod","name":"edge1"}},"reason":"R","type":"Normal","lastTimestamp":"{now}"'
            )
            for n, field in enumerate(
                (*(f'"message":{value}' for value in UNREADABLE), '"count":2147483648', '"firstTimestamp":"now"')
            ):
                await report(world, "edge1", f"events/default/e{n}", f'{{{event},{field}}}')  # fmt: skip
            events = [e for e in await world.all(EVENTS) if e["reason"] == "R"]
            for shown in (events, await world.all(PODS), await world.all(NODES)):
                strict_json.loads(json.dumps(shown).encode())
            assert all(e.get("count", 1) < 2**31 and e.get("firstTimestamp") != "now" for e in events)
            other = (await world.get(PODS, "edge2"))["metadata"]["uid"]
            await report(world, "edge2", "pods/default/edge2", f'{{"uid":"{other}","status":{{"phase":"Running"}}}}')
            assert (await world.get(PODS, "edge2"))["status"]["phase"] == "Running"
            await report(
                world, "edge1", "pods/default/edge1", f'{{"uid":"{uid}","status":{container(restartCount="7")}}}'
            )
            assert (await world.get(PODS, "edge1"))["status"]["containerStatuses"][0]["restartCount"] == 7
    finally:
        logging.getLogger("kubeedge_cloud").removeHandler(handler)
    assert [r.getMessage() for r in logged] == []


@in_world
async def test_a_write_that_no_client_could_read_is_answered_and_holds_nothing_up(world: World) -> None:
    async with world.cloud():
        await world.tenants.ensure_node(TENANT, NodeName("edge1"))
        await world.api().create(CONFIGMAPS, "default", {"metadata": {"name": "web"}, "data": {"a": "1"}})
        spec = {**template("p")["spec"], "nodeName": "edge1", "volumes": [{"name": "v", "configMap": {"name": "web"}}]}
        await world.api().create(PODS, "default", {"metadata": {"name": "p"}, "spec": spec})
        await world.settle(2)
        for seq, value in enumerate((*UNREADABLE, "{}", '"2"')):
            write = (
                f'{{"id":"w{seq}","operation":"change","resource":"configmaps","namespace":"default","name":"web",'
                f'"changes":[{{"path":["data","a"],"now":{value},"was":"1"}}]}}'
            )
            await report(world, "edge1", f"writes/_/{seq:016}", write)
        prefix = keys.edge_desired(TENANT, NodeName("edge1")) + "writes/"
        answers = (await world.store.range(prefix, keys.prefix_end(prefix))).kvs
        outcomes = [json.loads(kv.value)["outcome"] for kv in answers]
        assert outcomes == ["refused"] * (len(UNREADABLE) + 1) + ["merged"]
        assert (await world.get(CONFIGMAPS, "web"))["data"] == {"a": "2"}


@in_world
async def test_a_node_that_reports_event_after_event_fills_the_cluster_with_few(world: World) -> None:
    """Each under a name of its own, and gone again: its keys are bounded, what is made of them must be, too."""
    async with world.cloud():
        await world.tenants.ensure_node(TENANT, NodeName("edge1"))
        await world.tenants.ensure_node(TENANT, NodeName("edge2"))
        await world.settle(2)

        def event(name: str) -> bytes:
            involved = {"kind": "Node", "name": name}
            now = meta.timestamp(world.wall())
            said = {"involvedObject": involved, "reason": "R", "message": name, "type": "Normal", "lastTimestamp": now}
            return json.dumps(said).encode()

        prefix = keys.edge_reported(TENANT, NodeName("edge1")) + "events/default/"
        for start in range(0, 2000, 100):
            names = [f"e{n:05}" for n in range(start, start + 100)]
            await world.store.txn((), [Put(prefix + name, event("edge1")) for name in names])
            await world.settle(0.5)
            await world.store.txn((), [Delete(prefix + name) for name in names[:-1]])
        events = [e for e in await world.all(EVENTS) if e["reason"] == "R"]
        assert 300 <= len(events) <= 330
        await world.store.put(keys.edge_reported(TENANT, NodeName("edge2")) + "events/default/other", event("edge2"))
        await world.settle(2)
        assert [e for e in await world.all(EVENTS) if e["message"] == "edge2"], "the other node is heard"
        await world.settle(120)
        late = [e for e in await world.all(EVENTS) if e["reason"] == "R" and e["message"] == "edge1"]
        assert len(late) > len(events), "those that are still there come, later"


@in_world
async def test_a_node_that_writes_without_end_is_answered_in_turn(world: World) -> None:
    async with world.cloud():
        await world.tenants.ensure_node(TENANT, NodeName("edge1"))
        await world.settle(2)
        prefix = keys.edge_reported(TENANT, NodeName("edge1")) + "writes/_/"
        change = '"operation":"change","resource":"nodes","namespace":"","name":"edge1","changes":[{"path":["metadata","labels","l"],"now":"v"}]'
        rows = [Put(f"{prefix}{n:016}", f'{{"id":"w{n}",{change}}}'.encode()) for n in range(600)]
        await world.store.txn((), rows)
        await world.settle(5)
        down = keys.edge_desired(TENANT, NodeName("edge1")) + "writes/"
        first = (await world.store.range(down, keys.prefix_end(down), keys_only=True)).count
        assert 300 <= first <= 330
        await world.settle(60)
        answered = (await world.store.range(down, keys.prefix_end(down), keys_only=True)).count
        assert answered == 512, "an honest node has taken some by then, and the next ones come"


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_not_json_for_everybody_is_not_json(text: str) -> None:
    with pytest.raises(Invalid):
        strict_json.loads(text.encode("latin-1"))


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "", "\U0001f600", [], {}, [[{"a": [1]}]], {"a": {"b": "c"}}])
def test_what_is_json_passes(value: Any) -> None:
    assert strict_json.loads(json.dumps(value).encode()) == value


@in_world
async def test_a_report_of_a_million_values_is_refused_before_it_is_read(world: World) -> None:
    """1.5 MB of addresses took the event loop of all tenants for half a minute."""
    async with world.cloud():
        await world.tenants.ensure_node(TENANT, NodeName("edge1"))
        await world.settle(2)
        node = (await world.get(NODES, "edge1"))["status"]
        for addresses in ("[" + "1," * 500_000 + "1]", "[" + "[]," * 400_000 + "[]]", "[" + "1," * 4000 + "1]"):
            await report(world, "edge1", "nodes/_/edge1", f'{{"status":{{"addresses":{addresses}}}}}')
            assert (await world.get(NODES, "edge1"))["status"] == node
        await report(world, "edge1", "nodes/_/edge1", '{"status":{"addresses":[{"type":"Hostname","address":"e"}]}}')
        assert (await world.get(NODES, "edge1"))["status"]["addresses"] == [{"type": "Hostname", "address": "e"}]


@in_world
async def test_large_reports_are_read_at_the_nodes_own_pace(world: World) -> None:
    """A MiB at once, and then 32 KiB a second; the newest is what counts, and another node does not wait."""
    async with world.cloud():
        for node in ("edge1", "edge2"):
            await world.tenants.ensure_node(TENANT, NodeName(node))
        await world.settle(2)

        def status(text: str) -> str:
            return f'{{"status":{{"nodeInfo":{{"osImage":"{text}"}}}}}}'

        for number in range(3):
            await report(world, "edge1", "nodes/_/edge1", status(f"{number}" * 1_000_000))
        await report(world, "edge1", "nodes/_/edge1", status("last" * 2000))
        assert (await world.get(NODES, "edge1"))["status"]["nodeInfo"]["osImage"] == "1" * 1_000_000
        await report(world, "edge2", "nodes/_/edge2", status("x" * 5000))
        assert (await world.get(NODES, "edge2"))["status"]["nodeInfo"]["osImage"] == "x" * 5000
        await world.settle(40)
        assert (await world.get(NODES, "edge1"))["status"]["nodeInfo"]["osImage"] == "last" * 2000


@in_world
async def test_a_status_that_changes_all_the_time_is_written_now_and_then(world: World) -> None:
    """A hundred times a second for 20 s: the newest counts, Ready is prompt all the same, and another node does not wait."""
    async with world.cloud():
        noisy, quiet = await world.join("edge1"), await world.join("edge2")
        await world.settle(5)
        written = {"edge1": 0, "edge2": 0}
        known = {"architecture": "arm64", "operatingSystem": "linux"}

        async def follow() -> None:
            async for event in world.api().watch(NODES, "", resource_version=str(world.store.revision)):
                written[event.object["metadata"]["name"]] += 1

        following = asyncio.create_task(follow())
        await world.settle(1)
        written.update(edge1=0, edge2=0)
        begun = asyncio.get_running_loop().time()
        for n in range(2000):
            if n == 1000:
                missing = {"type": "ContainerRuntimeReady", "status": "False", "reason": "R", "message": "none"}
                await noisy.report("conditions/_/containerruntime", missing)
                await quiet.report("nodes/_/edge2", {"status": {"nodeInfo": {**known, "osImage": "other"}}})
            if n == 1200:
                assert await world.ready_of("edge1") == "False", "within two seconds"
                assert (await world.get(NODES, "edge2"))["status"]["nodeInfo"]["osImage"] == "other"
            await noisy.report("nodes/_/edge1", {"status": {"nodeInfo": {**known, "osImage": f"{n}"}}})
            await world.settle(0.01)
        took = asyncio.get_running_loop().time() - begun
        assert took >= 20
        print(f"{written['edge1']} writes of the Node for 2,000 reports in {took:.0f} s")
        assert 15 <= written["edge1"] <= 10 + took / 2 + 5, "ten at once, one in two seconds, and its conditions"
        assert written["edge2"] == 1
        await world.settle(5)
        assert (await world.get(NODES, "edge1"))["status"]["nodeInfo"]["osImage"] == "1999", "the newest"
        following.cancel()


@in_world
async def test_the_status_of_a_pod_that_changes_all_the_time_is_written_now_and_then(world: World) -> None:
    async with world.cloud():
        noisy = await world.join("edge1")
        for name in ("a", "b"):
            spec = {**template(name)["spec"], "nodeName": "edge1"}
            await world.api().create(PODS, "default", {"metadata": {"name": name}, "spec": spec})
        await world.settle(2)
        uids = {name: (await world.get(PODS, name))["metadata"]["uid"] for name in ("a", "b")}
        first = world.store.revision
        for n in range(1000):
            for name, uid in uids.items():
                status = {"phase": "Running", "message": f"{n}"}
                await noisy.report(f"pods/default/{name}", {"uid": uid, "status": status})
            await world.settle(0.01)
        written = world.store.revision - first - 2000
        assert written <= 1000 + 10 * 11, "a thousand at once, and then ten a second"
        await world.settle(5)
        assert [(await world.get(PODS, name))["status"]["message"] for name in uids] == ["999", "999"]
