"""metrics.k8s.io: what nodes and pods use now, for `kubectl top`. Nothing is kept: each request takes two looks at the nodes that it is about.

A node is its tenant's and may answer anything: of its answer only figures are kept, of the containers that were asked about, and it is decoded where
other tenants do not wait for it.

Lives elsewhere: the figures themselves (kubeedge.appengine.stats, /stats/summary). In a cluster that exists metrics-server serves this group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import aclosing
from functools import partial
from typing import Any

from kubeedge.api import meta
from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import NODES, PODS, Resources, Row
from kubeedge.api.status import MethodNotAllowed, ObjectNotFound, ServerUnavailable
from kubeedge.apiserver import content
from kubeedge.apiserver.call import Address, Call, address
from kubeedge.apiserver.logs import NodeStream
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.http1 import Connection, Response

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
NODE_METRICS = Resource(GROUP, VERSION, "nodes", "NodeMetrics", namespaced=False)
POD_METRICS = Resource(GROUP, VERSION, "pods", "PodMetrics")
#: they are served, and not stored
ROWS = (Row(NODE_METRICS, "", verbs=("get", "list")), Row(POD_METRICS, "", verbs=("get", "list")))
_SERVED = Resources(ROWS)

_WINDOW = 1.0  # seconds between the two looks
_ANSWER = 5.0  # seconds that a node may take for one
_AT_ONCE = 32  # nodes of one tenant that are asked, in all its requests
_MAX_SUMMARY = 512 * 1024  # bytes; a node of 110 pods has less than half
_MAX_FIGURE = 2**63  # bytes, or nanoseconds (292 years)

ContainerName = tuple[str, str, str]  # namespace, pod, container


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
    containers: Mapping[ContainerName, _Use]


class NodeLooks:
    """Asks nodes; how many at the same time is bounded for each tenant. `node_stream` connects to the kubelet API of one."""

    def __init__(self, node_stream: NodeStream) -> None:
        self.node_stream = node_stream
        self._room: dict[TenantId, asyncio.Semaphore] = {}

    async def pairs(
        self, call: Call, wanted: Mapping[NodeName, Set[ContainerName]]
    ) -> dict[NodeName, tuple[_Look, _Look]]:
        """Two looks at each node, at those containers; without the nodes that do not answer, or with nonsense."""
        room = self._room.setdefault(call.registry.tenant, asyncio.Semaphore(_AT_ONCE))

        async def look(node: NodeName) -> tuple[_Look, _Look] | None:
            async with room:
                try:
                    return await _two_looks(call, self.node_stream, node, wanted[node])
                except (TimeoutError, OSError, EOFError, KubeEdgeError):
                    return None

        each = list(wanted)
        found = await asyncio.gather(*map(look, each))
        return {node: pair for node, pair in zip(each, found, strict=True) if pair is not None}


async def metrics(call: Call, looks: NodeLooks) -> Response:
    """GET of one object, or of a list. Raises StatusError; a node that does not answer is left out of a list."""
    at = call.address
    if call.request.method not in ("GET", "HEAD") or call.flag("watch") or at.subresource:
        raise MethodNotAllowed
    selected = await _selected(call, NODES if at.row.resource == NODE_METRICS else PODS)
    wanted: dict[NodeName, set[ContainerName]] = {NodeName(asked.node): set() for asked in selected if asked.node}
    for asked in selected:
        if asked.node:
            wanted[NodeName(asked.node)].update(asked.containers)
    pairs = await looks.pairs(call, wanted)
    now = meta.timestamp(time.time())
    items = []
    for asked in selected:
        if (pair := pairs.get(NodeName(asked.node))) is not None:
            found = _of_node(pair) if at.row.resource == NODE_METRICS else _of_pod(asked, pair)
            if found is not None:
                items.append({**_described(at.row.resource, asked, now), **found})
    if not at.name:
        kind = f"{at.row.resource.kind}List"
        return _answer({"kind": kind, "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items})
    if not items:
        raise ServerUnavailable(
            f"no metrics of {at.row.resource.plural} {at.name}: its node does not answer, or nothing of it runs"
        )
    return _answer(items[0])


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is kept of an object while its node is asked."""

    metadata: Object
    node: str
    containers: Sequence[ContainerName]


async def _selected(call: Call, resource: Resource) -> Sequence[_Asked]:
    at = call.address
    if at.name:
        try:
            return [_asked(resource, await call.registry.get(resource, at.namespace, at.name))]
        except ObjectNotFound as exc:
            raise ObjectNotFound.of(at.row.resource, at.name) from exc
    pages = call.registry.pages(
        resource, at.namespace, label_selector=call.one("labelSelector"), field_selector=call.one("fieldSelector")
    )
    async with aclosing(pages):
        return [_asked(resource, obj) async for page in pages for obj in page.items]


def _asked(resource: Resource, obj: Object) -> _Asked:
    inner = meta.metadata(obj)
    kept = {key: inner[key] for key in ("name", "namespace", "labels") if inner.get(key)}
    if resource == NODES:
        return _Asked(kept, meta.name_of(obj), ())
    return _Asked(kept, str((obj.get("spec") or {}).get("nodeName") or ""), tuple(_containers_of(obj)))


def _containers_of(pod: Object) -> Iterator[ContainerName]:
    spec = pod.get("spec") or {}
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(group) or ():
            yield meta.namespace_of(pod), meta.name_of(pod), str(container.get("name"))


async def _two_looks(
    call: Call, node_stream: NodeStream, node: NodeName, wanted: Set[ContainerName]
) -> tuple[_Look, _Look]:
    async with asyncio.timeout(_ANSWER):
        connection = Connection(*await node_stream(call.registry.tenant, node))
    try:
        first = await _look(call, connection, node, wanted)
        await asyncio.sleep(_WINDOW)
        return first, await _look(call, connection, node, wanted)
    finally:
        connection.writer.close()


async def _look(call: Call, connection: Connection, node: NodeName, wanted: Set[ContainerName]) -> _Look:
    """Raises TimeoutError, OSError, EOFError, KubeEdgeError: of a node that does not answer, or with nonsense."""
    async with asyncio.timeout(_ANSWER):
        answer = await connection.request("GET", "/stats/summary", [("host", node)])
        at = asyncio.get_running_loop().time()
        data = await answer.read(_MAX_SUMMARY)
    if answer.status != 200:
        raise ServerUnavailable(f"node {node} answered {answer.status}")
    try:
        figures, containers = await call.registry.apart(len(data), partial(_figures, data, wanted))
    except (KeyError, TypeError, ValueError) as exc:
        raise ServerUnavailable(f"node {node} answered with no statistics: {str(exc)[:200]}") from exc
    return _Look(at, figures, containers)


def _figures(data: bytes, wanted: Set[ContainerName]) -> tuple[_Use, dict[ContainerName, _Use]]:
    """Of the node, and of those of its containers. Raises KubeEdgeError, KeyError, TypeError, ValueError."""
    summary = content.decode_json(data)
    asked = {name: name for name in wanted}  # what the node calls them is not kept
    containers: dict[ContainerName, _Use] = {}
    for pod in summary["pods"] if wanted else ():
        for container in pod["containers"]:
            name = asked.get((pod["podRef"]["namespace"], pod["podRef"]["name"], container["name"]))
            if name is not None:
                containers[name] = _use(container)
    return _use(summary["node"]), containers


def _use(stats: Mapping[str, Any]) -> _Use:
    return _Use(_figure(stats["cpu"]["usageCoreNanoSeconds"]), _figure(stats["memory"]["workingSetBytes"]))


def _figure(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_FIGURE:
        raise ValueError(f"{str(value)[:64]} is not a figure")
    return value


def _of_node(pair: tuple[_Look, _Look]) -> Object:
    before, after = pair
    return {"window": _window(pair), "usage": _usage(before.node, after.node, after.at - before.at)}


def _of_pod(pod: _Asked, pair: tuple[_Look, _Look]) -> Object | None:
    """The PodMetrics of a pod; None when nothing of it ran all the time."""
    before, after = pair
    containers = [
        {"name": key[2], "usage": _usage(before.containers[key], after.containers[key], after.at - before.at)}
        for key in pod.containers
        if key in after.containers and key in before.containers
    ]
    return {"window": _window(pair), "containers": containers} if containers else None


def _window(pair: tuple[_Look, _Look]) -> str:
    return f"{pair[1].at - pair[0].at:.3f}s"


def _usage(before: _Use, after: _Use, seconds: float) -> Object:
    """A container that was started again meanwhile counts from 0."""
    used = after.cpu - before.cpu if after.cpu >= before.cpu else after.cpu
    return {"cpu": f"{round(used / seconds)}n", "memory": f"{after.memory // 1024}Ki"}


def _described(resource: Resource, asked: _Asked, now: str) -> Object:
    return {
        "kind": resource.kind, "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {**asked.metadata, "creationTimestamp": now}, "timestamp": now,
    }  # fmt: skip


def _answer(obj: Object) -> Response:
    return Response(200, [("content-type", content.JSON), ("cache-control", "no-cache, private")], meta.encode(obj))
