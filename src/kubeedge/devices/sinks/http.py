"""Values to servers that speak HTTP: forms, InfluxDB, OpenTelemetry, TDengine.

Lives elsewhere: what is in a body (formats.py).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from kubeedge.devices.sinks import credentials, formats
from kubeedge.devices.sinks.core import Destination, PushedValue, ValueRefused
from kubeedge.devices.sinks.credentials import SinkCredentials
from kubeedge.devices.sinks.sender import SenderSettings, connected
from kubeedge.errors import PeerError, Unavailable
from kubeedge.kit.http1_kept import KeptConnection

_MAX_ANSWER = 64 * 1024  # bytes
_PERMANENT = (400, 413, 414, 415, 422)  # this value will never be taken


class HttpSender:
    """Base of those that POST: a connection that is kept."""

    def __init__(self, destination: Destination, settings: SenderSettings) -> None:
        self.destination, self.settings = destination, settings
        self._kept = KeptConnection(self._connect)
        self._own = credentials.NONE

    def headers(self, own: SinkCredentials) -> list[tuple[str, str]]:
        """Besides those of all requests."""
        if own.token:
            return [("authorization", f"Bearer {own.token}")]
        return [("authorization", formats.basic(own.user, own.password))] if own.user else []

    async def post(self, target: str, media: str, body: bytes, *more: tuple[str, str]) -> bytes:
        """The body of the answer. Raises ValueRefused for what the server will never take, Unavailable for other failures."""
        try:
            async with asyncio.timeout(self.destination.timeout):
                status, answer = await self._post(target, media, body, more)
        except BaseException:
            await self.close()
            raise
        if 200 <= status < 300:
            return answer
        shown = answer[:200].decode("utf-8", "replace")
        if status in _PERMANENT:
            raise ValueRefused(f"{self.destination.endpoint} answers {status}: {shown}")
        raise Unavailable(f"{self.destination.endpoint} answers {status}: {shown}")

    async def _post(self, target: str, media: str, body: bytes, more: Sequence[tuple[str, str]]) -> tuple[int, bytes]:
        await self._kept.open()  # for the credentials
        headers = [
            ("host", self.destination.endpoint),
            ("user-agent", "kubeedge"),
            ("content-type", media),
            *more,
            *self.headers(self._own),
        ]
        return await self._kept.exchange("POST", target, headers, body, limit=_MAX_ANSWER)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._own = await self.settings.credentials(self.destination)
        return await connected(self.destination, self._own)

    async def close(self) -> None:
        """Cuts the connection, if there is one."""
        self._kept.cut()


class FormSender(HttpSender):
    """pushMethod.http: a POST for each value."""

    async def deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        """One after the other: the first that is refused ends it."""
        for value in values:
            more = (
                ("idempotency-key", formats.message_id(self.settings.queue, value)),
                ("x-kubeedge-device", f"{value.namespace}/{value.device}"),
            )
            path = str(self.destination.settings["path"])
            await self.post(path, "application/x-www-form-urlencoded", formats.form(value), *more)
            taken.append(value)


class InfluxSender(HttpSender):
    """dbMethod.influxdb2: line protocol to /api/v2/write."""

    def headers(self, own: SinkCredentials) -> list[tuple[str, str]]:
        """The token is for a scheme that no other server has."""
        return [("authorization", f"Token {own.token}")] if own.token else super().headers(own)

    async def deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        """All in one body."""
        body = formats.lines(self.destination, values)
        await self.post(formats.influx_target(self.destination), "text/plain; charset=utf-8", body)
        taken.extend(values)


class OtelSender(HttpSender):
    """pushMethod.otel: metrics by OTLP over HTTP, in JSON."""

    async def deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        """All in one body."""
        body = formats.metrics(self.settings.node, values, self.settings.queue)
        await self.post(str(self.destination.settings["path"]), "application/json", body)
        taken.extend(values)


class TdengineSender(HttpSender):
    """dbMethod.TDEngine: SQL over its REST interface."""

    def __init__(self, destination: Destination, settings: SenderSettings) -> None:
        super().__init__(destination, settings)
        self._made: set[tuple[str, str]] = set()  # devices that have a table; no more than the node has devices

    async def deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        """The tables of devices that are new, then all values in one statement."""
        for value in values:
            if (device := (value.namespace, value.device)) not in self._made:
                await self._sql(formats.tdengine_table(value))
                self._made.add(device)
        await self._sql(formats.tdengine_insert(values))
        taken.extend(values)

    async def _sql(self, statement: str) -> None:
        answer = await self.post(formats.tdengine_target(self.destination), "text/plain", statement.encode())
        code = _code(answer)
        if code:  # it says 200 to a statement that has failed, too
            raise Unavailable(f"{self.destination.endpoint} answers code {code}")


def _code(answer: bytes) -> int:
    try:
        found = json.loads(answer)
        code = found["code"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise PeerError("the answer is none of TDengine's REST interface") from exc
    if not isinstance(code, int):
        raise PeerError("the answer is none of TDengine's REST interface")
    return code


#: by the kind of destination
SENDERS: dict[str, type[FormSender | InfluxSender | OtelSender | TdengineSender]] = {
    "http": FormSender,
    "influxdb2": InfluxSender,
    "otel": OtelSender,
    "TDEngine": TdengineSender,
}
