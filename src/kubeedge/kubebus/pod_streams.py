"""TCP connections of the cloud to the pods of a node, over L4: how a Gateway reaches its backends.

    cloud ── L4 port 10252 ── "10.244.7.3 8080\\n" ──> node ── TCP ──> pod
                          <── "ok\\n", or why not ──

From there on bytes go both ways. Only the cloud may ask, which can run pods there as well, and only for addresses of the node's own pods.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from kubeedge.api.names import L4Port
from kubeedge.errors import Unavailable
from kubeedge.kit.streams import StreamPair, abort_writer, close_writer, splice
from kubeedge.kubebus.http.access import is_inside

PODS_PORT = L4Port(10252)

_ASKED = re.compile(rb"([0-9a-f.:]{2,45}) ([0-9]{1,5})\n")
_LINE = 256  # bytes of the answer
_SECONDS = 8.0  # to connect, and for the line that asks


async def to_pod(stream: StreamPair, address: str, port: int) -> StreamPair:
    """Turn an L4 connection to a node's PODS_PORT into one to its pod. Raises Unavailable, OSError; the connection is closed then."""
    reader, writer = stream
    try:
        writer.write(f"{address} {port}\n".encode())
        answer = await reader.readline()
        if answer != b"ok\n":
            raise Unavailable(answer[:_LINE].decode("utf-8", "replace").strip() or "the node ended the connection")
    except ValueError as exc:  # a line without an end
        abort_writer(writer)
        raise Unavailable("the node answered in a form that is not understood") from exc
    except BaseException:
        abort_writer(writer)
        raise
    return stream


class PodStreams:
    """The node's end. `has_pod(address)`: it is one of the node's own pods; peers with the numbers 1 to `nodes` are nodes, who may not ask."""

    def __init__(self, has_pod: Callable[[str], bool], *, nodes: int, most: int) -> None:
        self._has_pod, self._nodes, self._most = has_pod, nodes, most
        self._open = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one L4 connection to its end."""
        if is_inside(writer.get_extra_info("peername"), self._nodes) or self._open >= self._most:
            abort_writer(writer)
            return
        self._open += 1
        try:
            await self._serve(reader, writer)
        finally:
            self._open -= 1
            abort_writer(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                pod = await self._connect(await reader.readline())
        except (OSError, ValueError, Unavailable) as exc:
            reason = (str(exc) or type(exc).__name__).replace("\n", " ")
            writer.write(reason.encode()[: _LINE - 1] + b"\n")
            await close_writer(writer)
            return
        try:
            writer.write(b"ok\n")
            await splice((reader, writer), pod)
            await close_writer(writer)
        finally:
            abort_writer(pod[1])

    async def _connect(self, line: bytes) -> StreamPair:
        asked = _ASKED.fullmatch(line)
        if asked is None:
            raise Unavailable("not ADDRESS PORT")
        address, port = asked[1].decode(), int(asked[2])
        if not 0 < port < 65536 or not self._has_pod(address):
            raise Unavailable(f"this node has no pod {address}")
        return await asyncio.open_connection(address, port)
