"""A connection to one HTTP device, and the handlers of its mapper. One request at a time: many devices have room for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kubeedge.errors import Invalid
from kubeedge.kit.http1 import BodyTooLarge
from kubeedge.kit.http1_kept import KeptConnection
from kubeedge.kit.shown_url import shown_url
from kubeedge.mapper import documents
from kubeedge.mapper.http import core
from kubeedge.mapper.http.core import HttpDevice
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

if TYPE_CHECKING:
    import ssl

_READ = 64 * 1024  # bytes of the buffer


class HttpClient:
    """Keeps its connection as long as the device does."""

    def __init__(self, device: HttpDevice, tls: ssl.SSLContext | None) -> None:
        self.device = device
        self._tls = tls
        self._kept = KeptConnection(self._connect)
        self._turn = asyncio.Lock()

    @staticmethod
    async def open(device: HttpDevice) -> HttpClient:
        """Raises OSError, TimeoutError included."""
        client = HttpClient(device, _context(device.ca_file) if device.is_tls else None)
        async with asyncio.timeout(device.timeout):
            await client._kept.open()
        return client

    async def ask(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> bytes:
        """The body of an answer with a status from 200 to 299. Raises Invalid for another status and for an answer that is too large; OSError
        and PeerError when the connection is of no use."""
        headers = [("Host", self.device.authority), ("Accept", "application/json, */*"), *self.device.headers]
        if body:
            headers.append(("Content-Type", content_type))
        async with self._turn, asyncio.timeout(self.device.timeout):
            try:
                status, data = await self._kept.exchange(method, target, headers, body, limit=core.MAX_ANSWER)
            except BodyTooLarge as exc:
                raise Invalid(
                    f"{method} {shown_url(target)}: the answer has more than {core.MAX_ANSWER} bytes"
                ) from exc
        if not 200 <= status < 300:
            raise Invalid(f"{method} {shown_url(target)}: the device answers {status}")
        return data

    async def read(self, props: Sequence[MappedProperty]) -> dict[str, Any]:
        """Property -> value, or the exception that came instead: one request for all that have one path. Raises as `ask`, but for Invalid."""
        found: dict[str, Any] = {}
        targets: dict[str, list[MappedProperty]] = {}
        for prop in props:
            try:
                targets.setdefault(core.reading(self.device, prop), []).append(prop)
            except Invalid as exc:
                found[prop.name] = exc
        for target, group in targets.items():
            try:
                answer = documents.Document(await self.ask("GET", target))
            except Invalid as exc:
                found |= {prop.name: prop.invalid(str(exc)) for prop in group}
                continue
            for prop in group:
                try:
                    found[prop.name] = answer.value(prop)
                except Invalid as exc:
                    found[prop.name] = exc
        return found

    async def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Raises Invalid for what the device refuses, and as `ask`."""
        request = core.writing(self.device, prop, value)
        await self.ask(request.method, request.target, request.body, request.content_type)

    async def aclose(self) -> None:
        """Ends the connection; the next request makes another one."""
        await self._kept.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = self.device.host if self._tls else None
        return await asyncio.open_connection(
            self.device.host, self.device.port, ssl=self._tls, server_hostname=name, limit=_READ
        )


def _context(ca_file: str) -> ssl.SSLContext:
    """The modules for TLS are read by the first device that has it. Raises OSError."""
    import ssl

    return ssl.create_default_context(cafile=ca_file or None)


def http_mapper(listen: tuple[str, int] | None = None) -> Mapper:
    """The mapper of HTTP; what a Device says is in core.py. `listen`: where devices send values to (push.py)."""
    mapper = Mapper("http", timeout=60.0)

    @mapper.connect
    async def connect(device: MappedDevice) -> HttpClient | None:
        if not device.config.get("url") and core.push_token(device):
            return None  # it sends everything by itself
        return await HttpClient.open(core.device_of(device))

    @mapper.read_many
    async def read_many(client: HttpClient | None, props: Sequence[MappedProperty]) -> dict[str, Any]:
        if client is None:
            return {prop.name: prop.invalid("the device has no url, and the property no `push`") for prop in props}
        return await client.read(props)

    @mapper.write
    async def write(client: HttpClient | None, prop: MappedProperty, value: TypedValue) -> None:
        if client is None:
            raise prop.invalid("the device has no url")
        await client.write(prop, value)

    if listen is not None:
        from kubeedge.mapper.http.push import PushServer

        mapper.background(PushServer(mapper, *listen).run)
    return mapper
