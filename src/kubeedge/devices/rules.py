"""The node's end of Rules: a message for its broker, and a request for an HTTP service that listens on 127.0.0.1 of this node (ServiceBus).

    POST /rules/eventbus?topic=TOPIC        ANY /rules/servicebus/PORT/PATH

It has an L4 port of its own, which the cloud alone can reach: the kubelet API is also for who may read a Node's metrics, in a cluster that may be
somebody else's, and what listens on loopback is not for them. Lives elsewhere: which rule it is, and who may call (kubeedge.apiserver.rule_calls).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.kit.http1 import ClientGone, Connection, Request, Response, Upgrade, serve_connection, text_response
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.forward import STREAM_BUFFER, error_response, exchange, has_body, relay, status_of
from kubeedge.mqtt.codec import is_topic

SERVED = "x-kubeedge-service"  # of an answer: a service gave it, and not this node
_MESSAGE = 192 * 1024  # bytes
_CONNECT = 5.0  # seconds
_ANSWER = 60.0  # seconds in which nothing moves
_HOLD = 1.0  # seconds that an upload waits for a service to ask for it
_CALLS = 32  # of services at the same time: each has buffers


class NodeRules:
    """`publish` gives a message to the broker, and raises Unavailable while that is away; None: there is none yet."""

    def __init__(self, ports: Sequence[tuple[int, int]] = ()) -> None:
        """`ports`: the first and the last of those whose services may be called; none: all."""
        self._ports = ports
        self.publish: Callable[[str, bytes], None] | None = None
        self._calls = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """HTTP/1.1 on one L4 connection."""
        await serve_connection(reader, writer, self.answer)

    async def answer(self, request: Request) -> Response | Upgrade:
        """404 for what is no rule's."""
        raw, _, query = request.target.partition("?")
        parts = raw.split("/", 4)
        if request.method == "POST" and raw == "/rules/eventbus":
            return await self._message(request)
        if (
            len(parts) == 5
            and parts[2] == "servicebus"
            and parts[3].isascii()
            and parts[3].isdigit()
            and len(parts[3]) < 6
        ):
            return await self._service(request, int(parts[3]), f"/{parts[4]}" + (f"?{query}" if query else ""))
        return text_response(404, f"no {request.method} {raw[:200]} on this node\n")

    async def _message(self, request: Request) -> Response:
        topic = (request.query.get("topic") or [""])[-1]
        if not is_topic(topic) or topic.startswith("$"):
            return text_response(
                400, f"{topic[:200]!r} is no topic of a rule: none with wildcards, and none that begins with $\n"
            )
        body = await request.read(_MESSAGE)
        if self.publish is None:
            return text_response(503, "the broker of this node does not run yet\n")
        try:
            self.publish(topic, body)
        except Unavailable as exc:
            return text_response(503, f"{exc}\n")
        return text_response(200, "message delivered")

    async def _service(self, request: Request, port: int, target: str) -> Response | Upgrade:
        if self._ports and not any(first <= port <= last for first, last in self._ports):
            return error_response(403, f"port {port} is not for rules (modules.devices.rulePorts of the node)")
        if self._calls >= _CALLS:
            return error_response(503, f"{_CALLS} calls of services of this node are open", retry_after=1.0)
        self._calls += 1
        connection: Connection | None = None
        try:
            async with asyncio.timeout(_CONNECT):
                streams = await asyncio.open_connection("127.0.0.1", port, limit=STREAM_BUFFER)
            connection = Connection(*streams)
            outgoing = [
                pair for pair in h.request_headers(request.headers, has_body=has_body(request)) if pair[0] != "host"
            ]
            outgoing = [("host", f"127.0.0.1:{port}"), *outgoing, ("connection", "close")]
            answer = await exchange(request, connection, target, outgoing, timeout=_ANSWER, hold=_HOLD)
        except BaseException as exc:
            self._calls -= 1
            if connection is not None:
                connection.abort()
            if isinstance(exc, ClientGone) or not isinstance(exc, TimeoutError | OSError | KubeEdgeError):
                raise
            return error_response(status_of(exc), f"service on port {port}: {str(exc) or 'no answer in time'}"[:500])
        made = connection

        async def finish() -> None:
            self._calls -= 1
            await made.close()

        return relay(request, answer, connection, [*h.end_to_end(answer.headers), (SERVED, "1")], finish)
