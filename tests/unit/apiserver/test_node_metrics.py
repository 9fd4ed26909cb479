"""metrics.k8s.io of the embedded API: nodes that answer, nodes that do not, and nodes that answer with nonsense."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import NODES, PODS
from kubeedge.apiserver import node_metrics
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request, Response, json_response, serve_connection, text_response
from kubeedge.store.memory import MemoryStore

TENANT = TenantId("a")
API = "/apis/metrics.k8s.io/v1beta1"
SECOND = 1_000_000_000


def use(cpu: int, memory: int = 2**20) -> dict[str, Any]:
    return {"cpu": {"usageCoreNanoSeconds": cpu}, "memory": {"workingSetBytes": memory}}


def summary(node: int, **pods: dict[str, int]) -> dict[str, Any]:
    """Processor time of the node, and of containers by pod."""
    return {
        "node": use(node),
        "pods": [
            {
                "podRef": {"namespace": "default", "name": pod},
                "containers": [{"name": c, **use(n)} for c, n in of.items()],
            }
            for pod, of in pods.items()
        ],
    }


class World:
    """Nodes answer one summary after the other; an exception is raised instead of a connection, bytes are sent as they are."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registry = Registry(self.store, TENANT)
        self.nodes: dict[str, list[Any]] = {}
        self.connections: list[str] = []
        self.server = ApiServer({TENANT: self.registry}.get, self._stream)
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for name in ("edge1", "edge2", "edge3"):
            await self.registry.create(NODES, "", {"metadata": {"name": name, "labels": {"rack": name[-1]}}})
        for name, node in (("p", "edge1"), ("q", "edge2"), ("waits", "")):
            spec = {"containers": [{"name": "c", "image": "i"}], **({"nodeName": node} if node else {})}
            await self.registry.create(
                PODS, "default", {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}
            )

    async def _stream(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.connections.append(node)
        answers = iter(self.nodes.get(node, [Unavailable("not linked")]))
        if self.nodes.get(node, [None])[0] is None:
            raise Unavailable("not linked")
        ours, theirs = socket.socketpair()

        async def answer(request: Request) -> Response:
            assert request.target == "/stats/summary"
            found = next(answers)
            return text_response(200, found) if isinstance(found, str) else json_response(200, found)

        streams = await asyncio.open_connection(sock=theirs)
        self._tasks.append(asyncio.create_task(serve_connection(*streams, answer)))
        return await asyncio.open_connection(sock=ours)

    async def get(self, path: str, method: str = "GET") -> tuple[int, Any]:
        class Peer:
            def getpeercert(self) -> dict[str, Any]:
                return {"subjectAltName": (("URI", f"spiffe://kubeedge/tenant/{TENANT}/user/x"),)}

        async def empty() -> AsyncIterator[bytes]:
            return
            yield b""

        answer = await self.server.handle(Request(method, path, [], lambda name: Peer(), empty()))
        assert isinstance(answer, Response)
        data = answer.body if isinstance(answer.body, bytes) else b"".join([piece async for piece in answer.body])
        return answer.status, json.loads(data)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]:
    monkeypatch.setattr(node_metrics, "_WINDOW", 0.05)

    def play(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            world = World()
            try:
                await world.begin()
                await scenario(world)
            finally:
                await world.end()

        asyncio.run(asyncio.wait_for(whole(), 60))

    return play


def used(item: Any, usage: Any) -> float:
    """Processor time within the window."""
    return int(usage["cpu"].removesuffix("n")) * float(item["window"].removesuffix("s"))


Play = Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]


def test_nodes_and_pods_are_told_with_what_they_used_within_the_window(run: Play) -> None:
    async def scenario(world: World) -> None:
        world.nodes["edge1"] = [summary(100, p={"c": 0}), summary(100 + SECOND, p={"c": SECOND // 2})]
        world.nodes["edge2"] = [summary(0, q={"c": SECOND}), summary(5, q={"c": 1000}, waits={"c": 5})]  # q began anew
        code, found = await world.get(f"{API}/nodes")
        assert code == 200 and (found["kind"], found["apiVersion"]) == ("NodeMetricsList", "metrics.k8s.io/v1beta1")
        first, second = found["items"]  # edge3 is not linked
        assert (first["metadata"]["name"], first["metadata"]["labels"]["rack"]) == ("edge1", "1")
        assert used(first, first["usage"]) == pytest.approx(SECOND, rel=0.05) and first["usage"]["memory"] == "1024Ki"
        assert second["metadata"]["name"] == "edge2"
        _, found = await world.get(f"{API}/pods")
        p, q = found["items"]
        assert (p["kind"], p["metadata"]["namespace"], p["metadata"]["name"]) == ("PodMetrics", "default", "p")
        (container,) = p["containers"]
        assert container["name"] == "c" and used(p, container["usage"]) == pytest.approx(SECOND / 2, rel=0.05)
        assert used(q, q["containers"][0]["usage"]) == pytest.approx(1000, rel=0.2)

    run(scenario)


def test_one_is_asked_for_by_name_and_some_by_selector(run: Play) -> None:
    async def scenario(world: World) -> None:
        world.nodes["edge1"] = [summary(0, p={"c": 0}), summary(9, p={"c": 9})]
        assert (await world.get(f"{API}/namespaces/default/pods/p"))[1]["metadata"]["name"] == "p"
        assert (await world.get(f"{API}/nodes/edge1"))[1]["kind"] == "NodeMetrics"
        world.connections.clear()
        _, found = await world.get(f"{API}/namespaces/default/pods?labelSelector=app%3Dp")
        assert [item["metadata"]["name"] for item in found["items"]] == ["p"] and world.connections == ["edge1"]
        _, found = await world.get(f"{API}/nodes?labelSelector=rack%3D3")
        assert found["items"] == []
        code, found = await world.get(f"{API}/namespaces/default/pods/nobody")
        assert code == 404 and found["message"] == 'pods.metrics.k8s.io "nobody" not found'
        assert (await world.get(f"{API}/namespaces/default/pods/waits"))[0] == 503
        assert (await world.get(f"{API}/nodes/edge2"))[0] == 503
        for path, method in ((f"{API}/nodes", "POST"), (f"{API}/nodes?watch=1", "GET")):
            assert (await world.get(path, method))[0] == 405
        for path in (f"{API}/namespaces/default/nodes", f"{API}/services", f"{API}/nodes/edge1/status"):
            assert (await world.get(path))[0] == 404

    run(scenario)


@pytest.mark.parametrize(
    "nonsense",
    ["", "[]", '{"node": {}, "pods": []}', '{"node": 7, "pods": 7}', "x" * (3 * 2**20), "[" * 5000,
     '{"node": {"cpu": {"usageCoreNanoSeconds": "a"}, "memory": {}}, "pods": []}',
     *(f'{{"node": {{"cpu": {{"usageCoreNanoSeconds": {n}}}, "memory": {{"workingSetBytes": 1}}}}, "pods": []}}'
       for n in ("1" + "0" * 400, "-1", "1e300", "true", "9223372036854775808"))],
)  # fmt: skip
def test_a_node_that_answers_with_nonsense_is_left_out(run: Play, nonsense: str) -> None:
    async def scenario(world: World) -> None:
        world.nodes["edge1"] = [summary(0), summary(9)]
        world.nodes["edge2"] = [nonsense, nonsense]
        code, found = await world.get(f"{API}/nodes")
        assert code == 200 and [item["metadata"]["name"] for item in found["items"]] == ["edge1"]

    run(scenario)


@pytest.mark.parametrize("figure", [10**400, -1, 1.5, "7", None, [], {}])
def test_a_node_with_nonsense_of_one_pod_takes_nothing_from_the_pods_of_others(run: Play, figure: Any) -> None:
    """A number beyond what a float holds was a 500 for all of the tenant."""

    async def scenario(world: World) -> None:
        world.nodes["edge1"] = [summary(0, p={"c": figure}), summary(9, p={"c": figure})]
        world.nodes["edge2"] = [summary(0, q={"c": 0}), summary(9, q={"c": 5})]
        code, found = await world.get(f"{API}/pods")
        assert code == 200 and [item["metadata"]["name"] for item in found["items"]] == ["q"]

    run(scenario)


def test_of_what_a_node_says_only_figures_of_containers_that_there_are_are_kept(run: Play) -> None:
    """Names of a megabyte, twice for each of 254 nodes and for each of eight requests, were gigabytes of the process that all tenants share."""

    async def scenario(world: World) -> None:
        long = {f"{n:03}" + "x" * 1000: 0 for n in range(400)}
        for count in range(3, 40):
            name = f"edge{count + 1}"
            await world.registry.create(NODES, "", {"metadata": {"name": name}})
            world.nodes[name] = [summary(0, liar=long)] * 2
            spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": name}
            await world.registry.create(PODS, "default", {"metadata": {"name": f"p{count}"}, "spec": spec})
        world.nodes["edge1"] = [summary(0, p={"c": 0}), summary(9, p={"c": 9})]
        held = []
        real = node_metrics._of_pod

        def looked(*args: Any) -> Any:
            held.append(tracemalloc.get_traced_memory()[0])
            return real(*args)

        node_metrics._of_pod = looked  # type: ignore[assignment]
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            code, found = await world.get(f"{API}/pods")
        finally:
            tracemalloc.stop()
            node_metrics._of_pod = real
        assert code == 200 and [item["metadata"]["name"] for item in found["items"]] == ["p"]
        assert max(held) - before < 8 * 1024 * 1024  # 30 MB of names were said

    run(scenario)


def test_a_tenant_has_not_many_such_requests_at_once(run: Play) -> None:
    async def scenario(world: World) -> None:
        world.nodes["edge1"] = [summary(0), summary(9)]
        codes = [code for code, _ in await asyncio.gather(*(world.get(f"{API}/nodes") for _ in range(12)))]
        assert sorted(codes) == [200] * 8 + [429] * 4
        assert (await world.get(f"{API}/nodes"))[0] == 200

    run(scenario)


def test_clients_find_it_and_it_is_not_taken_for_what_is_stored(run: Play) -> None:
    async def scenario(world: World) -> None:
        _, found = await world.get("/apis")
        assert "metrics.k8s.io" in [group["name"] for group in found["groups"]]
        _, found = await world.get(API)
        assert [(r["name"], r["kind"], r["verbs"]) for r in found["resources"]] == [
            ("nodes", "NodeMetrics", ["get", "list"]), ("pods", "PodMetrics", ["get", "list"]),
        ]  # fmt: skip
        _, found = await world.get("/openapi/v3")
        assert "apis/metrics.k8s.io/v1beta1" not in found["paths"]

    run(scenario)
