"""Calls of methods of devices, from the API of their tenant on to the node that has the device.

    GET  .../namespaces/NAMESPACE/devices/NAME/methods            the methods, with the type and range of each parameter
    POST .../namespaces/NAMESPACE/devices/NAME/methods/METHOD     {"parameters": {NAME: VALUE}, "timeoutSeconds": N}

Rights: `get` and `create` of devices/methods. What is wrong with the parameters is said here, also while the node is away; the node checks
again. A call goes out once and is never repeated.

Lives elsewhere: the node's end (kubeedge.devices.methods), what a call may say (kubeedge.api.device_methods).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Protocol
from urllib.parse import quote

from kubeedge.api import device_methods, devices, meta, strict_json
from kubeedge.api.client import Resource
from kubeedge.api.device_methods import MAX_BODY, MethodCall
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.status import (
    BadGateway,
    BadRequest,
    MethodNotAllowed,
    NodeUnreachable,
    NoSuchPath,
    ObjectNotFound,
    ServerUnavailable,
    StatusError,
    TooLarge,
    TooManyRequests,
)
from kubeedge.apiserver import answers
from kubeedge.apiserver.logs import CONNECT, NodeStream, unreachable
from kubeedge.errors import Invalid, KubeEdgeError, NotFound
from kubeedge.kit.http1 import BodyTooLarge, Connection, Request, Response

_OF_TENANT = 64  # calls at the same time
_SLACK = 5.0  # seconds that the way takes besides what the mapper has
_BODY = 10.0  # seconds in which the body of a request is there
_ANSWER = MAX_BODY + 4096  # bytes of a node's answer
_BOUNDS = JsonBounds(values=8_000)


class DeviceObjects(Protocol):
    """The objects of a tenant: a Registry, or the client of a cluster."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """The newest state. Raises ObjectNotFound."""
        ...


class DeviceMethodFailed(StatusError, KubeEdgeError):
    """500: the mapper, or the device, has not done it."""

    code = 500
    reason = "InternalError"


class DeviceCalls:
    """Of all tenants. `node_stream` connects to what a tenant's API reaches on a node."""

    def __init__(self, node_stream: NodeStream) -> None:
        self._node_stream = node_stream
        self._open: Counter[TenantId] = Counter()

    async def answer(
        self, tenant: TenantId, objects: DeviceObjects, request: Request, key: tuple[str, str], more: list[str]
    ) -> Response:
        """The answer to a request of somebody who has the right. `more`: what follows `methods` in the path. Raises StatusError."""
        match request.method, more:
            case "GET" | "HEAD", []:
                return answers.ok(device_methods.listing(key[1], key[0], (await _known(objects, *key))[2]))
            case "POST", [method]:
                return answers.ok(await self.call(tenant, objects, key, method, await _read(request)))
            case _, [] | [_]:
                raise MethodNotAllowed
        raise NoSuchPath

    async def call(
        self, tenant: TenantId, objects: DeviceObjects, key: tuple[str, str], method: str, body: Any
    ) -> Object:
        """The result (kubeedge.api.device_methods.result). Raises StatusError."""
        device, properties, _ = await _known(objects, *key)
        try:
            one = device_methods.method_call((device.get("spec") or {}).get("methods"), properties, method, body)
        except NotFound as exc:
            raise ObjectNotFound(f"{_name(key)}: {exc}") from exc
        except Invalid as exc:
            raise BadRequest(f"{_name(key)}: {exc}") from exc
        node = str((device.get("spec") or {}).get("nodeName") or "")
        if not node:
            raise BadRequest(f"{_name(key)}: spec.nodeName is empty: no node has the device")
        if self._open[tenant] >= _OF_TENANT:
            raise TooManyRequests(f"{_OF_TENANT} calls of methods of tenant {tenant} are open: wait for one")
        self._open[tenant] += 1
        try:
            found = await self._asked(tenant, node, key, one)
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]
        return device_methods.result(key[1], key[0], method, found)

    async def _asked(self, tenant: TenantId, node: str, key: tuple[str, str], one: MethodCall) -> Any:
        try:
            async with asyncio.timeout(CONNECT):
                connection = Connection(*await self._node_stream(tenant, NodeName(node)))
        except (TimeoutError, OSError, KubeEdgeError) as exc:
            raise unreachable(node[:253], exc, "its devices can be called") from exc
        target = "/".join(["/methods", *(quote(part, safe="") for part in (*key, one.method))])
        body = meta.encode({"parameters": dict(one.arguments), "timeoutSeconds": one.timeout})
        try:
            async with asyncio.timeout(one.timeout + _SLACK):
                answer = await connection.request("POST", target, [("host", node)], body)
                text = await answer.read(_ANSWER)
        except (TimeoutError, OSError, EOFError, KubeEdgeError) as exc:
            raise NodeUnreachable(
                f"{_name(key)}: node {node[:253]} has not answered ({str(exc) or 'in time'}): it may have been done or not"
            ) from exc
        finally:
            connection.abort()
        return _result(answer.status, text, node[:253], key)


async def _known(objects: DeviceObjects, namespace: str, name: str) -> tuple[Object, dict[str, Object], list[Object]]:
    """(Device, properties of its model, what its methods are)."""
    device = await objects.get(devices.DEVICES, namespace, name)
    spec = device.get("spec") or {}
    try:
        model = await objects.get(devices.DEVICEMODELS, namespace, str((spec.get("deviceModelRef") or {}).get("name")))
    except ObjectNotFound as exc:
        raise BadRequest(f"{_name((namespace, name))}: it has no DeviceModel: {exc}") from exc
    properties = devices.named((model.get("spec") or {}).get("properties"))
    return device, properties, device_methods.described(spec.get("methods"), properties)


async def _read(request: Request) -> Any:
    try:
        async with asyncio.timeout(_BODY):
            data = await request.read(MAX_BODY)
        return strict_json.loads(data, what="the call", bounds=_BOUNDS) if data.strip() else {}
    except BodyTooLarge as exc:
        raise TooLarge(f"limit is {MAX_BODY}: the call is larger") from exc
    except TimeoutError as exc:
        raise BadRequest("the body of the request comes too slowly") from exc
    except Invalid as exc:
        raise BadRequest(str(exc)) from exc


def _result(status: int, text: bytes, node: str, key: tuple[str, str]) -> Any:
    try:
        value = strict_json.loads(text, what="the answer", bounds=_BOUNDS)
    except Invalid:
        value = None
    if not isinstance(value, dict) or (status == 200) != ("reason" not in value):
        if status == 404:
            raise ServerUnavailable(f"{_name(key)}: node {node} has no devices (modules.devices.enable), or is older")
        raise BadGateway(f"{_name(key)}: node {node} gave no answer to be understood, with status {status}")
    if status == 200:
        return value.get("result")
    why = f"{_name(key)}: {str(value['reason'])[:1000]}"
    match status:
        case 400:
            raise BadRequest(why)
        case 404:
            raise ObjectNotFound(why)
        case 413:
            raise TooLarge(why)
        case 429:
            raise TooManyRequests(why)
        case 503:
            raise ServerUnavailable(why)
        case 504:
            raise NodeUnreachable(why)
    raise DeviceMethodFailed(why)


def _name(key: tuple[str, str]) -> str:
    return f"device {'/'.join(key)}"[:520]
