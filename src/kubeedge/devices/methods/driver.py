"""Calls of methods of this node's devices: checked here, performed by the mapper of the device, which hears of them on the broker.

    GET /methods/NAMESPACE/NAME             the methods of a device
    POST /methods/NAMESPACE/NAME/METHOD     a call (kubeedge.api.device_methods); 200 with {"result"}, else {"code", "reason"}

A call is made once and never again: without an answer in time nobody knows whether it was performed, and the answer says so.

Lives elsewhere: messages (core.py); who may call (kubeedge.apiserver.device_calls); the broker (devices/eventbus).
"""

from __future__ import annotations

import asyncio
import os
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from kubeedge.api import meta, strict_json
from kubeedge.api.device_methods import MAX_BODY, MethodCall, described, method_call
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import NamespacedName
from kubeedge.devices.core import Device
from kubeedge.devices.methods import core
from kubeedge.devices.methods.core import MethodFailed
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid, NotFound, Unavailable
from kubeedge.kit.http1 import BodyTooLarge, Request, Response, json_response

_OF_DEVICE, _OF_NODE = 4, 32  # calls at the same time
_BODY = 10.0  # seconds in which the request of a call is there
_BOUNDS = JsonBounds(values=1_000)


class DeviceMethods:
    """`publish` gives a message to the broker; False: nobody listens there. It raises Unavailable while there is no broker. `servers`: protocol -> where
    a mapper of KubeEdge's framework has its HTTP server."""

    def __init__(self, twins: DeviceTwins, servers: Mapping[str, tuple[str, int]] = MappingProxyType({})) -> None:
        self._servers = servers
        self.publish: Callable[[str, bytes], bool] | None = None
        self._twins = twins
        self._open: Counter[NamespacedName] = Counter()
        self._waiting: dict[str, tuple[NamespacedName, asyncio.Future[Any]]] = {}
        self._start = os.urandom(8).hex()  # an answer to a call of an earlier life is none to one of ours
        self._number = 0

    async def answer(self, request: Request) -> Response:
        """What the cloud asks for."""
        parts = [urllib.parse.unquote(part) for part in request.path.split("/")[2:]]
        try:
            match request.method, parts:
                case "GET", [namespace, name]:
                    device = self._device((namespace, name))[1]
                    return json_response(200, {"methods": described(device.methods, device.properties)})
                case "POST", [namespace, name, method]:
                    found = await self.call((namespace, name), method, await _body(request))
                    # as many bytes as the mapper has sent: the cloud bounds them, and escapes would make three times as many
                    return Response(200, [("content-type", "application/json")], meta.encode({"result": found}))
        except MethodFailed as exc:
            return json_response(exc.code, {"code": exc.code, "reason": str(exc)})
        return json_response(404, {"code": 404, "reason": "no such path of methods"})

    async def call(self, identifier: Iterable[str], method: str, body: Mapping[str, Any]) -> Any:
        """What the mapper gave. Raises MethodFailed: 400 parameters, 404 device or method, 429, 503 no mapper or device, 504 no answer in
        time, and what the mapper says."""
        key, device = self._device(identifier)
        try:
            one = method_call(device.methods, device.properties, method, dict(body))
        except Invalid as exc:
            raise MethodFailed(400, str(exc)) from exc
        except NotFound as exc:
            raise MethodFailed(404, f"device {'/'.join(key)}: {exc}") from exc
        if self._open[key] >= _OF_DEVICE or len(self._waiting) >= _OF_NODE:
            raise MethodFailed(
                429, f"{_OF_DEVICE} calls of a device, or {_OF_NODE} of the node, are open: wait for one of them"
            )
        self._number += 1
        event = f"{self._start}-{self._number}"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[event] = key, future
        self._open[key] += 1
        try:
            async with asyncio.timeout(one.timeout):
                if (address := self._servers.get(device.protocol)) is not None:
                    return await self._by_rest(address, key, one)
                self._send(key, core.call(event, self._twins.now(), one))
                return await future
        except TimeoutError as exc:
            raise MethodFailed(
                504, f"the mapper of {'/'.join(key)} has not answered in {one.timeout:g} s: it may have done it or not"
            ) from exc
        finally:
            del self._waiting[event]
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    async def _by_rest(self, address: tuple[str, int], key: NamespacedName, one: MethodCall) -> None:
        from kubeedge.devices.methods.rest import call_by_rest  # few nodes have such mappers

        await call_by_rest(address, key, one)

    def _device(self, identifier: Iterable[str]) -> tuple[NamespacedName, Device]:
        levels = tuple(identifier)
        key = self._twins.twins.find(levels) if len(levels) in (1, 2) else None
        device = self._twins.twins.devices.get(key) if key is not None else None
        if key is None or device is None or device.deleting:
            raise MethodFailed(404, f"this node has no device {'/'.join(levels)[:300]}")
        return key, device

    def _send(self, key: NamespacedName, message: bytes) -> None:
        try:
            if self.publish is None or not self.publish(core.call_topic(key), message):
                raise Unavailable(f"no mapper of {'/'.join(key)} listens for calls of methods")
        except Unavailable as exc:
            raise MethodFailed(503, str(exc)) from exc

    def answered(self, topic: str, payload: bytes) -> None:
        """A message on the topic of a result: anybody may have sent anything."""
        key = core.result_key(topic)
        try:
            event, found = core.answered(payload)
        except Invalid:
            return
        waiting, future = self._waiting.get(event, (None, None))
        if future is None or waiting != key or future.done():
            return
        if isinstance(found, MethodFailed):
            future.set_exception(found)
        else:
            future.set_result(found)


async def _body(request: Request) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_BODY):
            data = await request.read(MAX_BODY)
        value = strict_json.loads(data, what="the call", bounds=_BOUNDS) if data.strip() else {}
    except BodyTooLarge as exc:
        raise MethodFailed(413, f"the call is larger than {MAX_BODY} bytes") from exc
    except TimeoutError as exc:
        raise MethodFailed(400, "the call comes too slowly") from exc
    except Invalid as exc:
        raise MethodFailed(400, str(exc)) from exc
    if not isinstance(value, dict):
        raise MethodFailed(400, "a call is a JSON object with `parameters`")
    return value
