"""Calls of CRI v1 (k8s.io/cri-api, runtime/v1) on a runtime's socket: messages as objects with the names of api.proto, zeros left out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from kubeedge.api.names import Object
from kubeedge.api.protobuf import ProtoReader, encode, parsed
from kubeedge.appengine.runtime.cri.table import TABLE
from kubeedge.errors import Invalid
from kubeedge.kit.grpc import INTERNAL, GrpcChannel, GrpcError

CALL = 120.0  # seconds: the kubelet's runtimeRequestTimeout
QUICK = 10.0  # seconds for what only reads
_VALUES = 500_000  # of one answer: a list of 1,000 containers with 20 labels and annotations each has a tenth
_SERVICE = "/runtime.v1.RuntimeService/"
_IMAGES = "/runtime.v1.ImageService/"
_IMAGE_CALLS = frozenset(("ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo"))
_EVENTS = "GetContainerEvents"


class CriClient:
    """One connection to a runtime's socket, made when it is needed and again when it was lost."""

    def __init__(self, socket: Path) -> None:
        self._types = parsed(TABLE)
        self._channel = GrpcChannel(socket)

    async def call(self, name: str, *, within: float = CALL, **fields: Any) -> Object:
        """`fields` are those of the request; the answer comes `within` so many seconds. Raises GrpcError."""
        message = encode(self._types, f"{name}Request", fields)
        method = (_IMAGES if name in _IMAGE_CALLS else _SERVICE) + name
        return self._decoded(f"{name}Response", await self._channel.call(method, message, within))

    async def events(self) -> AsyncGenerator[Object, None]:
        """ContainerEventResponse, as they come. Raises GrpcError."""
        async with contextlib.aclosing(self._channel.stream(_SERVICE + _EVENTS, b"")) as answers:
            async for answer in answers:
                yield self._decoded("ContainerEventResponse", answer)

    async def close(self) -> None:
        """Calls that are under way fail."""
        await self._channel.close()

    def _decoded(self, kind: str, answer: bytes) -> Object:
        try:
            return ProtoReader(self._types, values=_VALUES).message(self._types[kind], memoryview(answer))
        except Invalid as exc:
            raise GrpcError(INTERNAL, f"an answer that is no {kind}: {exc}") from exc
