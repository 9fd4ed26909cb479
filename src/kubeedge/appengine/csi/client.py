"""Calls on the socket of a driver, or of who registers it. A driver that hangs costs its own volumes the time of one call, and no thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubeedge.api.names import Object
from kubeedge.api.protobuf import ProtoReader, encode, parsed
from kubeedge.appengine.csi.table import TABLE
from kubeedge.errors import Invalid
from kubeedge.kit.grpc import INTERNAL, GrpcChannel, GrpcError

CALL = 120.0  # seconds: the kubelet's, too
QUICK = 15.0  # seconds for what only asks
_VALUES = 5_000  # of one answer
_REGISTRATION = "/pluginregistration.Registration/"
_NODE = "/csi.v1.Node/"


class CsiClient:
    """One connection, made when it is needed and again when it was lost."""

    def __init__(self, socket: Path) -> None:
        self._types = parsed(TABLE)
        self._channel = GrpcChannel(socket)

    async def node(self, call: str, *, within: float = CALL, **fields: Any) -> Object:
        """A call of csi.v1.Node. Raises GrpcError."""
        return await self._call(_NODE + call, f"{call}Request", f"{call}Response", within, fields)

    async def plugin_info(self) -> Object:
        """Who is registered behind this socket. Raises GrpcError."""
        return await self._call(f"{_REGISTRATION}GetInfo", "InfoRequest", "PluginInfo", QUICK, {})

    async def notify(self, error: str) -> None:
        """Tell it that it is registered, or why it is not. Raises GrpcError."""
        fields = {"plugin_registered": not error, "error": error}
        method = f"{_REGISTRATION}NotifyRegistrationStatus"
        await self._call(method, "RegistrationStatus", "RegistrationStatusResponse", QUICK, fields)

    async def close(self) -> None:
        """Calls that are under way fail."""
        await self._channel.close()

    async def _call(self, method: str, request: str, response: str, within: float, fields: Object) -> Object:
        answer = await self._channel.call(method, encode(self._types, request, fields), within)
        try:
            return ProtoReader(self._types, values=_VALUES).message(self._types[response], memoryview(answer))
        except Invalid as exc:
            raise GrpcError(INTERNAL, f"an answer that is no {response}: {exc}") from exc
