"""Messages of a node's programs over HTTP, as kubectl can ask for them:

    GET    /messages/NODE?after=POSITION[&limit=N][&wait=SECONDS]      {"messages": [{"position", "number", "time", "topic", "payload"}], "next"}
    POST   /messages/NODE/readers/NAME  {"through": POSITION}          the reader has them up to there
    DELETE /messages/NODE/readers/NAME                                 nothing waits for it any more
    GET    /messages/NODE/readers                                      {NAME: {"through", "at"}}

A payload that is no UTF-8 is `payloadBase64`. The right to read messages is that to `get` Devices in all namespaces; a reader needs that to create them.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from typing import Any

from kubeedge.api import devices, strict_json
from kubeedge.api.access import Attributes
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.status import BadRequest, MethodNotAllowed, NoSuchPath, TooLarge, TooManyRequests
from kubeedge.apiserver import answers
from kubeedge.apiserver.accounts import AccountIdentity, forbidden
from kubeedge.apiserver.message_log import LoggedMessage, MessageLog
from kubeedge.apiserver.registry import Registry
from kubeedge.kit.http1 import BodyTooLarge, Request, Response
from kubeedge.pki.identity import UserIdentity

_LIMIT, _BYTES = 500, 256 * 1024  # messages of an answer, and bytes of them
_WAIT = 60.0  # seconds that a request waits for the next message, at most
_AT_ONCE = 16  # requests of a tenant
_BODY = 1024  # bytes


class MessageCalls:
    """How many requests for messages are open, of all tenants, and their answers."""

    def __init__(self, log: Callable[[TenantId], MessageLog]) -> None:
        self._log = log
        self._open: Counter[TenantId] = Counter()

    async def call(self, registry: Registry, identity: UserIdentity, request: Request, parts: list[str]) -> Response:
        """The answer to a request whose path is /messages/ and these parts. Raises StatusError."""
        reads = request.method in ("GET", "HEAD")
        asked = Attributes("get" if reads else "create", devices.GROUP, devices.DEVICES.plural, "")
        if isinstance(identity, AccountIdentity) and not identity.may(asked):
            raise forbidden(identity, asked)
        return await self.answer(registry.tenant, registry.now, request, parts)

    async def answer(self, tenant: TenantId, now: Callable[[], float], request: Request, parts: list[str]) -> Response:
        """The same for a caller who has the right. `now`: seconds since 1970."""
        if self._open[tenant] >= _AT_ONCE:
            raise TooManyRequests(f"{_AT_ONCE} requests for messages of tenant {tenant} are open")
        self._open[tenant] += 1
        try:
            return await self._answer(self._log(tenant), now, request, parts)
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]

    async def _answer(self, log: MessageLog, now: Callable[[], float], request: Request, parts: list[str]) -> Response:
        match request.method, parts:
            case (("GET" | "HEAD"), [node]):
                return await _read(log, NodeName(node), request)
            case (("GET" | "HEAD"), [node, "readers"]):
                found = await log.readers(NodeName(node))
                return answers.ok({name: {"through": one.through, "at": one.at} for name, one in found.items()})
            case "POST", [node, "readers", name]:
                through = await _through(request)
                await log.acknowledge(NodeName(node), name, through, now())
                return answers.ok({"through": through})
            case "DELETE", [node, "readers", name]:
                if not await log.forget(NodeName(node), name):
                    raise NoSuchPath
                return answers.ok({})
            case _, [_] | [_, "readers", *_]:
                raise MethodNotAllowed
        raise NoSuchPath


async def _read(log: MessageLog, node: NodeName, request: Request) -> Response:
    after, wait = _number(request, "after", 0), min(float(_number(request, "wait", 0)), _WAIT)
    limit = min(_number(request, "limit", _LIMIT), _LIMIT)
    found = await log.read(node, after, limit, _BYTES)
    if not found:
        await log.check(node)
    if not found and wait:
        await log.wait(node, after, wait)
        found = await log.read(node, after, limit, _BYTES)
    return answers.ok({"messages": list(map(_shown, found)), "next": found[-1].position if found else after})


def _shown(one: LoggedMessage) -> dict[str, Any]:
    m = one.message
    shown: dict[str, Any] = {"position": one.position, "number": m.number, "time": m.time, "topic": m.topic}
    try:
        return {**shown, "payload": m.payload.decode()}
    except UnicodeDecodeError:
        return {**shown, "payloadBase64": base64.b64encode(m.payload).decode()}


def _number(request: Request, name: str, default: int) -> int:
    text = (request.query.get(name) or [str(default)])[-1]
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise BadRequest(f"query parameter {name} must be a number, not {text[:64]!r}")
    return int(text)


async def _through(request: Request) -> int:
    try:
        value = strict_json.loads(await request.read(_BODY), what="the body")
    except BodyTooLarge as exc:
        raise TooLarge(f"limit is {_BODY}: the body is larger") from exc
    through = value.get("through") if isinstance(value, dict) else None
    if not isinstance(through, int) or isinstance(through, bool) or not 0 <= through < 10**15:
        raise BadRequest('the body is {"through": POSITION}')
    return through
