"""Module "servicebus": KubeEdge's address for programs of this node, POST http://127.0.0.1:9060/ {"method", "targetURL", "payload"}.

A request is kept on the node's disk; the cloud makes it, once the line is there, in the order of asking and perhaps twice. What the endpoint answers comes back, as
`body` with the endpoint's status as `code`, to a program that waits for it; one that has waited long enough, as the line is down, hears 202: the request is on
its way. Only URLs that rules of the cloud name (`servicebus` to `rest`) are taken.

Lives elsewhere: the queue (devices/upstream), the cloud's end (kubeedge_cloud.rules).
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from typing import Any

from kubeedge.api import strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.node_messages import MAX_PAYLOAD
from kubeedge.api.rules import MAX_ANSWER, METHODS, SERVICES, STATUS, encode_request
from kubeedge.devices.upstream.module import MessageUpstream
from kubeedge.errors import Invalid
from kubeedge.kit.acceptor import Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.http1 import BodyTooLarge, Request, Response, json_response, serve_connection, text_response
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import TaskSet

log = logging.getLogger("kubeedge.devices")

_CONNECTIONS = ConnectionLimits(silent=32, queued=32, unauthenticated=32)
_BODY = 2 * MAX_PAYLOAD  # bytes of a request: JSON in JSON is longer than itself
_SECONDS = 10.0  # in which a request is there
_LINE = 64  # bytes that the method and the name of the request take
_WAITING = 24  # programs that wait for an answer at the same time; of 32 connections
_BOUNDS = JsonBounds(values=20_000)


class ServiceBus:
    """`address` is a loopback address; port 0 lets the kernel choose, and `port` is what it chose."""

    name = "servicebus"

    def __init__(self, upstream: MessageUpstream, address: str, port: int, *, timeout: float = 0.0) -> None:
        """`timeout`: seconds that a program waits for an answer; 0: not at all."""
        self._timeout = timeout
        self._asks: dict[str, asyncio.Future[Response]] = {}
        self._upstream = upstream
        self._address = address
        self.port = port

    async def run(self, ready: asyncio.Event) -> None:
        """Serves until it is cancelled. Raises OSError when the address is taken."""
        with listening_socket(self._address, self.port) as listener:
            async with TaskSet("connections of the ServiceBus") as tasks:
                self.port = listener.getsockname()[1]
                ready.set()
                await Acceptor(_CONNECTIONS, in_tasks(tasks, self._serve, "ServiceBus connection")).run([listener])

    async def _serve(self, accepted: Accepted) -> None:
        try:
            reader, writer = await open_streams(accepted.socket)
        except OSError as exc:
            log.debug("connection of %s ended before it was served: %s", accepted.address, exc)
            return
        await serve_connection(reader, writer, self.answer)

    async def answer(self, request: Request) -> Response:
        """As KubeEdge's: {"code", "msg", "body"}."""
        if request.header("origin"):  # a page in a browser of this machine is no program of it
            return _said(403, "requests of web pages are not taken")
        if request.method != "POST":
            return _said(405, 'POST {"method", "targetURL", "payload"}')
        try:
            async with asyncio.timeout(_SECONDS):
                url, method, body = _asked(await request.read(_BODY))
        except BodyTooLarge:
            return _said(413, f"the request is larger than {_BODY} bytes")
        except TimeoutError:
            return _said(408, "the request comes too slowly")
        except Invalid as exc:
            return _said(400, str(exc))
        if url not in self._upstream.topics.services:
            return _said(404, f"no rule of the cloud leads from this node's ServiceBus to {url[:200]}")
        ask = secrets.token_hex(16) if self._timeout and len(self._asks) < _WAITING else ""
        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        if ask:
            self._asks[ask] = answered
        try:
            return await self._kept(SERVICES + url, encode_request(method, ask, body), answered if ask else None)
        finally:
            self._asks.pop(ask, None)

    async def _kept(self, topic: str, payload: bytes, answered: asyncio.Future[Response] | None) -> Response:
        kept = self._upstream.append(topic, payload)
        try:
            if kept is not None:
                await asyncio.wait([kept])
        finally:
            if kept is not None and not kept.done():
                kept.cancel()
        if kept is None or kept.cancelled():
            return _said(503, "the disk has not taken the request")
        if answered is not None:
            await asyncio.wait([answered], timeout=self._timeout)
            if answered.done():
                return answered.result()
        return _said(202, "the request is on its way")

    async def answered(self, request: Request) -> Response:
        """The cloud has what an endpoint answered: POST /answers/ID. 404 when nobody waits for it any more."""
        body = await request.read(MAX_ANSWER)
        waits = self._asks.get(request.path.removeprefix("/answers/"))
        status = request.header(STATUS) or ""
        if request.method != "POST" or not (status.isascii() and status.isdigit() and 200 <= int(status[:4]) < 600):
            return text_response(400, f"POST, with a status in {STATUS}\n")
        if waits is None or waits.done():
            return text_response(404, "nobody waits for it\n")
        waits.set_result(_answer(int(status), body))
        return text_response(200, "it is there\n")


def _answer(status: int, body: bytes) -> Response:
    said: dict[str, Any] = {"code": status, "msg": "the endpoint has answered", "body": ""}
    try:
        said["body"] = body.decode()
    except UnicodeDecodeError:
        said["bodyBase64"] = base64.b64encode(body).decode()
    return json_response(status if status not in (204, 205, 304) else 200, said)  # these have no body, and ours has


def _asked(data: bytes) -> tuple[str, str, bytes]:
    """(URL, method, body). Raises Invalid."""
    value = strict_json.loads(data, what="the request", bounds=_BOUNDS)
    if not isinstance(value, dict):
        raise Invalid("the request is no JSON object")
    method, url, payload = value.get("method") or "POST", value.get("targetURL"), value.get("payload", "")
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise Invalid(f"method must be one of {', '.join(METHODS)}")
    if not isinstance(url, str) or not url:
        raise Invalid("targetURL must be a text")
    body = _text(payload).encode()
    if len(body) > MAX_PAYLOAD - _LINE:
        raise Invalid(f"payload is larger than {MAX_PAYLOAD - _LINE} bytes")
    return url, method.upper(), body


def _text(payload: Any) -> str:
    return payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))


def _said(code: int, message: str) -> Response:
    return json_response(code, {"code": code, "msg": message, "body": ""})
