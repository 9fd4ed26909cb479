"""metrics.k8s.io: what nodes and pods use now, for `kubectl top`. Nothing is kept: each request takes two looks at the nodes that it is about.

Lives elsewhere: the figures themselves (kubeedge.appengine.stats, /stats/summary). In a cluster that exists metrics-server serves this group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeedge.api import meta
from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import NODES, PODS, Resources, Row
from kubeedge.api.status import MethodNotAllowed, ObjectNotFound, ServerUnavailable
from kubeedge.apiserver import content
from kubeedge.apiserver.call import Address, Call, address
from kubeedge.apiserver.logs import NodeStream
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1 import Connection, Response

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
NODE_METRICS = Resource(GROUP, VERSION, "nodes", "NodeMetrics", namespaced=False)
POD_METRICS = Resource(GROUP, VERSION, "pods", "PodMetrics")
#: they are served, and not stored
ROWS = (Row(NODE_METRICS, "", verbs=("get", "list")), Row(POD_METRICS, "", verbs=("get", "list")))
_SERVED = Resources(ROWS)

_WINDOW = 1.0  # seconds between the two looks
_ANSWER = 5.0  # seconds that a node may take for one
_AT_ONCE = 32  # nodes of one request
_MAX_SUMMARY = 2 * 1024 * 1024  # bytes; a node of 110 pods has a tenth


def metrics_address(parts: Sequence[str]) -> Address:
    """What the elements of a path behind group and version name. Raises NoSuchPath."""
    return address(_SERVED, GROUP, VERSION, parts)


@dataclass(frozen=True, slots=True)
class _Use:
    """Nanoseconds of processor time so far, and bytes."""

    cpu: int
    memory: int


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    node: _Use
    containers: Mapping[tuple[str, str, str], _Use]  # by namespace, pod and container


async def metrics(call: Call, node_stream: NodeStream) -> Response:
    """GET of one object, or of a list. Raises StatusError; a node that does not answer is left out of a list."""
    at = call.address
    if call.request.method not in ("GET", "HEAD") or call.flag("watch") or at.subresource:
        raise MethodNotAllowed
    of_nodes = at.row.resource == NODE_METRICS
    selected = await _selected(call, NODES if of_nodes else PODS)
    nodes = [meta.name_of(obj) if of_nodes else _node_of(obj) for obj in selected]
    looks = await _looks(call, node_stream, {NodeName(name) for name in nodes if name})
    now = meta.timestamp(time.time())
    items = []
    for obj, node in zip(selected, nodes, strict=True):
        if (pair := looks.get(NodeName(node))) is not None:
            found = _of_node(pair) if of_nodes else _of_pod(obj, pair)
            if found is not None:
                items.append({**_described(at.row.resource, obj, now), **found})
    if not at.name:
        kind = f"{at.row.resource.kind}List"
        return _answer({"kind": kind, "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items})
    if not items:
        raise ServerUnavailable(
            f"no metrics of {at.row.resource.plural} {at.name}: its node does not answer, or nothing of it runs"
        )
    return _answer(items[0])


async def _selected(call: Call, resource: Resource) -> Sequence[Object]:
    at = call.address
    if at.name:
        try:
            return [await call.registry.get(resource, at.namespace, at.name)]
        except ObjectNotFound as exc:
            raise ObjectNotFound.of(at.row.resource, at.name) from exc
    found = await call.registry.list(
        resource, at.namespace, label_selector=call.one("labelSelector"), field_selector=call.one("fieldSelector")
    )
    return found.items


def _node_of(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


async def _looks(call: Call, node_stream: NodeStream, nodes: Iterable[NodeName]) -> dict[NodeName, tuple[_Look, _Look]]:
    room = asyncio.Semaphore(_AT_ONCE)

    async def look(node: NodeName) -> tuple[_Look, _Look] | None:
        async with room:
            try:
                return await _two_looks(call, node_stream, node)
            except (TimeoutError, OSError, EOFError, KubeEdgeError):
                return None

    each = list(nodes)
    pairs = await asyncio.gather(*(look(node) for node in each))
    return {node: pair for node, pair in zip(each, pairs, strict=True) if pair is not None}


async def _two_looks(call: Call, node_stream: NodeStream, node: NodeName) -> tuple[_Look, _Look]:
    async with asyncio.timeout(_ANSWER):
        connection = Connection(*await node_stream(call.registry.tenant, node))
    try:
        first = await _look(connection, node)
        await asyncio.sleep(_WINDOW)
        return first, await _look(connection, node)
    finally:
        connection.writer.close()


async def _look(connection: Connection, node: NodeName) -> _Look:
    """Raises TimeoutError, OSError, EOFError, KubeEdgeError: of a node that does not answer, or with nonsense."""
    async with asyncio.timeout(_ANSWER):
        answer = await connection.request("GET", "/stats/summary", [("host", node)])
        at = asyncio.get_running_loop().time()
        data = await answer.read(_MAX_SUMMARY)
    if answer.status != 200:
        raise ServerUnavailable(f"node {node} answered {answer.status}")
    summary = content.decode_json(data)
    try:
        containers = {
            (pod["podRef"]["namespace"], pod["podRef"]["name"], container["name"]): _use(container)
            for pod in summary["pods"]
            for container in pod["containers"]
        }
        return _Look(at, _use(summary["node"]), containers)
    except (KeyError, TypeError, ValueError) as exc:
        raise ServerUnavailable(f"node {node} answered with no statistics: {exc}") from exc


def _use(stats: Mapping[str, Any]) -> _Use:
    return _Use(int(stats["cpu"]["usageCoreNanoSeconds"]), int(stats["memory"]["workingSetBytes"]))


def _of_node(pair: tuple[_Look, _Look]) -> Object:
    before, after = pair
    return {"window": _window(pair), "usage": _usage(before.node, after.node, after.at - before.at)}


def _of_pod(pod: Object, pair: tuple[_Look, _Look]) -> Object | None:
    """The PodMetrics of a pod; None when nothing of it ran all the time."""
    before, after = pair
    of = meta.namespace_of(pod), meta.name_of(pod)
    containers = [
        {"name": key[2], "usage": _usage(before.containers[key], use, after.at - before.at)}
        for key, use in after.containers.items()
        if key[:2] == of and key in before.containers
    ]
    return {"window": _window(pair), "containers": containers} if containers else None


def _window(pair: tuple[_Look, _Look]) -> str:
    return f"{pair[1].at - pair[0].at:.3f}s"


def _usage(before: _Use, after: _Use, seconds: float) -> Object:
    """A container that was started again meanwhile counts from 0."""
    used = after.cpu - before.cpu if after.cpu >= before.cpu else after.cpu
    return {"cpu": f"{round(used / seconds)}n", "memory": f"{after.memory // 1024}Ki"}


def _described(resource: Resource, obj: Object, now: str) -> Object:
    inner = meta.metadata(obj)
    kept = {key: inner[key] for key in ("name", "namespace", "labels") if inner.get(key)}
    return {
        "kind": resource.kind, "apiVersion": f"{GROUP}/{VERSION}", "metadata": {**kept, "creationTimestamp": now},
        "timestamp": now,
    }  # fmt: skip


def _answer(obj: Object) -> Response:
    return Response(200, [("content-type", content.JSON), ("cache-control", "no-cache, private")], meta.encode(obj))
