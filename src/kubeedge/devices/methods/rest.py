"""Methods of mappers that are made with KubeEdge's framework: they have HTTP for them, and no call in DMI.

    GET /api/v1/devicemethod/NAMESPACE/NAME/METHOD/PROPERTY/VALUE       200, or 500 with the reason as text

One request writes one property, so a call with several parameters is several requests, in their order, and the first one that fails ends it.
"""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from kubeedge.api.device_methods import MethodCall
from kubeedge.api.names import NamespacedName
from kubeedge.devices.methods.core import MethodFailed
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1_client import Connection
from kubeedge.kit.streams import abort_writer

_ANSWER = 64 * 1024  # bytes
_CONNECT = 5.0  # seconds
_LONGEST = 4096  # characters of a path
_BAD = frozenset("/\\%?#")  # of a value: the mapper takes the path apart again


async def call_by_rest(address: tuple[str, int], key: NamespacedName, one: MethodCall) -> None:
    """Returns when the mapper has done all of it. Raises MethodFailed; the caller limits the time."""
    if not one.arguments:
        raise MethodFailed(400, f"method {one.method}: this mapper writes properties alone, and there is no parameter")
    targets = [_target(key, one.method, name, value) for name, value in one.arguments.items()]
    for target in targets:
        await _get(address, target)


def _target(key: NamespacedName, method: str, name: str, value: str) -> str:
    if not value or _BAD & set(value) or value in (".", ".."):
        raise MethodFailed(400, f"parameter {name}: a value for this mapper is not empty, and has none of / \\ % ? #")
    target = "/".join(["/api/v1/devicemethod", *(quote(part, safe="") for part in (*key, method, name, value))])
    if len(target) > _LONGEST:
        raise MethodFailed(400, f"parameter {name}: the value is too long for this mapper")
    return target


async def _get(address: tuple[str, int], target: str) -> None:
    try:
        async with asyncio.timeout(_CONNECT):
            streams = await asyncio.open_connection(*address)
    except OSError as exc:
        raise MethodFailed(503, f"the mapper does not listen at {address[0]}:{address[1]}: {exc}") from exc
    try:
        answer = await Connection(*streams).request("GET", target, [("host", f"{address[0]}:{address[1]}")])
        text = (await answer.read(_ANSWER)).decode("utf-8", "replace").strip()
    except (OSError, EOFError, KubeEdgeError) as exc:
        raise MethodFailed(504, f"the mapper has not answered ({exc}): it may have done it or not") from exc
    finally:
        abort_writer(streams[1])
    if answer.status != 200:
        raise MethodFailed(500, f"the mapper answers {answer.status}: {text[:500]}")
