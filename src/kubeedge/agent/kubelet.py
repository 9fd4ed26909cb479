"""The kubelet API of this node (logs of its pods) for those who may use it: the cloud, over KubeBus, and the node's own API. And what
else the cloud calls: rules, and methods of devices.

Lives elsewhere: what it serves (kubeedge.appengine.server).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from kubeedge.api.names import NodeName, TenantId
from kubeedge.config.node_credentials import NodeCredentials
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request, Response, Upgrade, serve_connection, text_response
from kubeedge.kit.streams import ConnectionHandler, StreamPair

if TYPE_CHECKING:
    from kubeedge.agent.parts import Parts

log = logging.getLogger("kubeedge.agent")


def for_the_cloud(serve: ConnectionHandler, own: NodeCredentials) -> ConnectionHandler:
    """An L4 service that other nodes of the tenant must not use: logs may hold secrets. The relay vouches for the caller's number."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = writer.get_extra_info("peername")[0]
        if 0 < number <= own.last_node:
            log.warning("refused a connection from node number %d: this service is for the cloud", number)
            writer.transport.abort()
            return
        await serve(reader, writer)

    return guarded


def cloud_calls(parts: Parts) -> ConnectionHandler:
    """What the cloud calls on this node besides the kubelet API: rules, and methods of devices. What is switched off says so."""

    async def answer(request: Request) -> Response | Upgrade:
        if request.path.startswith("/methods/"):
            if parts.methods is not None:
                return await parts.methods.answer(request)
            return text_response(404, "no devices on this node (modules.devices.enable)\n")
        if request.path.startswith("/answers/"):
            if parts.service_bus is not None:
                return await parts.service_bus.answered(request)
            return text_response(404, "no ServiceBus on this node (modules.devices.serviceBus)\n")
        if parts.rules is not None:
            return await parts.rules.answer(request)
        return text_response(404, "no rules on this node (modules.devices.rules)\n")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, answer)

    return serve


class OwnKubelet:
    """The kubelet API of this node without a network, for the node's own Kubernetes API."""

    def __init__(self, node: str, serve: ConnectionHandler | None) -> None:
        """`serve` None: AppEngine is switched off."""
        self._node = node
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, tenant: TenantId, node: NodeName) -> StreamPair:
        """A byte stream to the kubelet API of this node. Raises Unavailable for any other node."""
        if node != self._node or self._serve is None:
            raise Unavailable(f"this is node {self._node}, and it serves the logs of its own pods")
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        task = asyncio.create_task(self._run(self._serve, reader, writer), name="kubelet API")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.open_connection(sock=ours)

    async def _run(self, serve: ConnectionHandler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
