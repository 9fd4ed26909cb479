"""`kubectl exec`, `attach` and `port-forward`: the upgrade goes on to the node's kubelet API, then bytes pass in both directions as they are.

What is said in them (SPDY/3.1 or WebSocket) is between the client and the node: kubeedge.streaming.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlencode

from kubeedge.api.names import NodeName
from kubeedge.api.resources import PODS
from kubeedge.api.status import BadRequest, MethodNotAllowed
from kubeedge.apiserver.call import Call
from kubeedge.apiserver.logs import ANSWER, CONNECT, ERROR_LIMIT, NodeStream, container_of, refused, unreachable
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1 import Connection, Response, Upgrade, close_writer
from kubeedge.kit.streams import splice
from kubeedge.streaming.last_words import LastWords

#: PodExecOptions, and the kubelet's name of each
_STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
_CHUNK = 64 * 1024  # bytes read at once
_WHAT = "it can be used"
_OWN = ("upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol", "x-stream-protocol-version")


async def upgrade(call: Call, node_stream: NodeStream, release: Callable[[], None]) -> Response | Upgrade:
    """`release` is called when the session is over, unless this raises. Raises StatusError."""
    if call.request.method not in ("GET", "POST"):
        raise MethodNotAllowed
    at = call.address
    pod = await call.registry.get(PODS, at.namespace, at.name)
    target = _target(call, container_of(pod, call.one("container")) if at.subresource != "portforward" else "")
    node = str((pod.get("spec") or {}).get("nodeName") or "")
    if not node:
        raise BadRequest(f"pod {at.name} does not have a host assigned")
    try:
        async with asyncio.timeout(CONNECT):
            reader, writer = await node_stream(call.registry.tenant, NodeName(node))
    except (TimeoutError, OSError, KubeEdgeError) as exc:
        raise unreachable(node, exc, _WHAT) from exc
    connection = Connection(reader, writer)
    try:
        async with asyncio.timeout(ANSWER):
            answer = await connection.request(call.request.method, target, [("host", node), *_passed(call)])
            if answer.status != 101:
                text = (await answer.read(ERROR_LIMIT)).decode(errors="replace").strip()
                await close_writer(writer)
                release()
                return refused(node, answer.status, text)
    except (TimeoutError, OSError, EOFError, KubeEdgeError) as exc:
        writer.close()
        raise unreachable(node, exc, _WHAT) from exc
    except BaseException:
        writer.close()
        raise
    words = None
    if at.subresource != "portforward" and (answer.header("upgrade") or "").lower() == "spdy/3.1":
        words = LastWords(structured=answer.header("x-stream-protocol-version") == "v4.channel.k8s.io")
    headers = [pair for pair in answer.headers if pair[0] in _OWN]
    return Upgrade(headers, _joined(connection, node, words, release))


def _joined(
    node: Connection, name: str, words: LastWords | None, release: Callable[[], None]
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]:
    async def takeover(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        try:
            if words is None:
                node.writer.write(first)
                writer.write(node.trailing())
                await splice((reader, writer), (node.reader, node.writer))
            else:
                await _watched(node, name, words, reader, writer, first)
        finally:
            try:
                await node.close()
            finally:
                release()

    return takeover


async def _watched(
    node: Connection,
    name: str,
    words: LastWords,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    first: bytes,
) -> None:
    """As splice(), for a client that would take a node that is cut off for one that is done."""

    async def to_the_node() -> None:
        data = first
        while data or (data := await reader.read(_CHUNK)):
            words.from_client(data)
            node.writer.write(data)
            await node.writer.drain()
            data = b""
        raise ConnectionResetError("the client has hung up")

    async def to_the_client() -> None:
        data, reason = node.trailing(), ""
        while True:
            if data:
                writer.write(words.from_node(data))
                await writer.drain()
            try:
                data = await node.reader.read(_CHUNK)
            except OSError as exc:
                data, reason = b"", f": {exc}"
            if not data:
                break
        writer.write(words.at_the_end(f"the connection to node {name} broke off{reason}"))
        await writer.drain()
        raise ConnectionResetError("the node has hung up")

    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(to_the_node(), name="session to the node")
            both.create_task(to_the_client(), name="session to the client")
    except* OSError:
        pass  # whichever ended first: the caller closes both


def _target(call: Call, container: str) -> str:
    """The path of the kubelet's API."""
    at = call.address
    verb = {"portforward": "portForward"}.get(at.subresource, at.subresource)
    path = "/".join(quote(part, safe="") for part in (at.namespace, at.name, container) if part)
    query = [(theirs, "1") for ours, theirs in _STREAMS.items() if call.flag(ours)]
    query += [("command", value) for value in call.query.get("command", ())]
    query += [("port", value) for value in call.query.get("ports", ())]  # as PodPortForwardOptions calls them
    return f"/{verb}/{path}" + (f"?{urlencode(query)}" if query else "")


def _passed(call: Call) -> list[tuple[str, str]]:
    """What is said of the upgrade; nothing of who asks."""
    passed = [
        (name, value)
        for name, value in call.request.headers
        if name in ("upgrade", "x-stream-protocol-version") or name.startswith("sec-websocket-")
    ]
    return [("connection", "Upgrade"), *passed] if call.request.header("upgrade") else passed
