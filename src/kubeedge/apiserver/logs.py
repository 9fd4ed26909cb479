"""`kubectl logs`: the request goes on to the node's kubelet API, the answer streams back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias
from urllib.parse import quote, urlencode

from kubeedge.api import meta
from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import PODS
from kubeedge.api.status import (
    BadGateway,
    BadRequest,
    InvalidObject,
    NodeUnreachable,
    failure,
    forbidden,
    invalid,
    message_of,
)
from kubeedge.apiserver import content
from kubeedge.apiserver.call import Call
from kubeedge.apiserver.streams import OwnedStream
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1 import ClientResponse, Connection, Response

#: a byte stream to the kubelet API of a node (L4 port 10250); raises Unavailable or OSError
NodeStream: TypeAlias = Callable[[TenantId, NodeName], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

CONNECT = 10.0  # seconds for a connection to the node
ANSWER = 60.0  # seconds until the head of its answer: one that is overloaded, or has a cold card, is slow and not away
ERROR_LIMIT = 64 * 1024  # bytes of a node's error message
_PASSED = ("follow", "tailLines", "previous", "timestamps", "sinceSeconds", "sinceTime", "limitBytes", "stream")

_OPTIONS = Resource("", "v1", "podlogoptions", "PodLogOptions")

log = logging.getLogger("kubeedge.apiserver")


async def logs(call: Call, node_stream: NodeStream) -> Response:
    """Streams the kubelet's answer; empty while the pod has no node. Parameters are checked here, before the node is asked."""
    at = call.address
    pod = await call.registry.get(PODS, at.namespace, at.name)
    container = container_of(pod, call.one("container"))
    node = str((pod.get("spec") or {}).get("nodeName") or "")
    if not node:
        # kubectl prints an empty log for a pod that was not scheduled yet, and so does kube-apiserver
        return Response(200, [("content-type", "text/plain")], b"")
    _check_options(call)
    query = {name: value for name in _PASSED if (value := call.one(name))}
    path = "/".join(quote(part, safe="") for part in (at.namespace, at.name, container))
    target = f"/containerLogs/{path}" + (f"?{urlencode(query)}" if query else "")
    try:
        async with asyncio.timeout(CONNECT):
            reader, writer = await node_stream(call.registry.tenant, NodeName(node))
    except (TimeoutError, OSError, KubeEdgeError) as exc:
        raise unreachable(node, exc) from exc
    try:
        async with asyncio.timeout(ANSWER):
            answer = await Connection(reader, writer).request("GET", target, [("host", node)])
        if answer.status != 200:
            text = (await answer.read(ERROR_LIMIT)).decode(errors="replace").strip()
            writer.close()
            return refused(node, answer.status, text)
    except (TimeoutError, OSError, EOFError, KubeEdgeError) as exc:
        writer.close()
        raise unreachable(node, exc) from exc
    except BaseException:
        writer.close()
        raise
    body = OwnedStream(_lines(answer, node), writer.close)
    return Response(200, [("content-type", "text/plain"), ("cache-control", "no-cache")], body)


def _check_options(call: Call) -> None:
    """Nonsense is refused here, in the words of this API: the node has begun its answer when it finds out. Raises BadRequest, InvalidObject."""
    errors = []
    for name, least, words in (
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
        ("limitBytes", 1, "must be greater than 0"),
    ):
        if (value := call.number(name)) is not None and value < least:
            errors.append(invalid(name, value, words))
    if call.one("sinceSeconds") and call.one("sinceTime"):
        errors.append(forbidden("sinceTime", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if call.one("sinceTime") and meta.parse_timestamp(call.one("sinceTime")) is None:
        errors.append(invalid("sinceTime", call.one("sinceTime")[:64], "must be a time of RFC 3339"))
    if errors:
        raise InvalidObject.of(_OPTIONS, call.address.name, errors)


async def _lines(answer: ClientResponse, node: str) -> AsyncGenerator[bytes, None]:
    try:
        async with contextlib.aclosing(answer.stream()) as chunks:
            async for data in chunks:
                yield data
    except (OSError, EOFError, KubeEdgeError) as exc:
        log.info("log stream of node=%s ended early: %s", node, exc)
        raise


def unreachable(node: str, exc: BaseException, what: str = "") -> NodeUnreachable:
    """`what` can be had again when the node is connected, and not before; "": logs, which are on the node at any time."""
    reason = str(exc) or ("no answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__)
    more = "" if what else ", and on the node itself at any time"
    return NodeUnreachable(
        f"node {node} cannot be reached: {reason}; {what or 'its logs can be read'} again when it is connected (kubectl get nodes){more}"
    )


def refused(node: str, status: int, text: str) -> Response:
    """The node's own answer: a Status passes, plain text becomes one."""
    try:
        found = message_of(content.decode_json(text.encode())) or text
    except KubeEdgeError:
        found = text
    code = status if status in (400, 404) else BadGateway.code
    reason = {400: "BadRequest", 404: "NotFound"}.get(status, BadGateway.reason)
    body = failure(code, reason, found[:2000] or f"node {node} answered {status}")
    return Response(code, [("content-type", content.JSON)], meta.encode(body))


_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


def container_of(pod: Object, wanted: str) -> str:
    """The one that is wanted, or else the only one, or the default. Raises BadRequest."""
    spec = pod.get("spec") or {}
    names = [str(c.get("name")) for group in _CONTAINERS for c in spec.get(group) or []]
    name = meta.name_of(pod)
    if wanted:
        if wanted not in names:
            raise BadRequest(f"container {wanted[:253]} is not valid for pod {name}")
        return wanted
    chosen = (meta.metadata(pod).get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if chosen in names:
        return str(chosen)
    if len(spec.get("containers") or []) > 1:
        main = [str(c.get("name")) for c in spec.get("containers") or []]
        raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]")
    return names[0] if names else ""
