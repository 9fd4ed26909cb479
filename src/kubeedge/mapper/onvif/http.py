"""Requests of one camera by HTTP, with digest authentication. One at a time: many cameras have room for one."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.http1 import BodyTooLarge, Headers
from kubeedge.kit.http1_kept import KeptConnection
from kubeedge.kit.shown_url import shown_url
from kubeedge.kit.streams import StreamPair
from kubeedge.mapper.http_digest import DigestChallenge, challenge_of
from kubeedge.mapper.onvif.core import OnvifAddress

if TYPE_CHECKING:
    import ssl

_READ = 64 * 1024  # bytes of the buffer


@dataclass(frozen=True, slots=True)
class HttpPlace:
    """A port of the camera."""

    port: int
    is_tls: bool


class CameraHttp:
    """Keeps the connection to the port that was asked last, as long as the camera does. Its host is always the Device's, whatever the camera
    answers: nobody else is to see what proves the password."""

    def __init__(self, address: OnvifAddress, tls: ssl.SSLContext | None) -> None:
        self.address = address
        self.place = HttpPlace(address.port, address.is_tls)  # of the services
        self._tls = tls
        self._kept = KeptConnection(self._open)
        self._connected = self.place  # of the connection
        self._challenge: DigestChallenge | None = None
        self._turn = asyncio.Lock()

    @staticmethod
    def make(address: OnvifAddress) -> CameraHttp:
        """Without a connection. Raises OSError for a caFile that cannot be read."""
        return CameraHttp(address, _context(address.ca_file) if address.is_tls else None)

    async def ask(
        self,
        method: str,
        target: str,
        limit: int,
        body: bytes = b"",
        content_type: str = "",
        place: HttpPlace | None = None,
    ) -> tuple[int, bytes]:
        """Status and body. Raises Invalid for an answer that is too large, Refused when the user is refused, OSError and PeerError when the
        connection is of no use."""
        place = place or self.place
        async with self._turn, asyncio.timeout(self.address.timeout):
            for is_last in (False, True):
                given: list[tuple[str, str]] = []
                if self._challenge is not None and self.address.user is not None:
                    proof = self._challenge.authorization(self.address.user, method, target, os.urandom(8).hex())
                    given.append(("Authorization", proof))
                if body:
                    given.append(("Content-Type", content_type))
                status, headers, data = await self._once(place, method, target, given, body, limit)
                wanted = [value for name, value in headers if name == "www-authenticate"]
                if status != 401 or is_last or not wanted:
                    break
                self._challenge = challenge_of(
                    wanted, self.address.user
                )  # also when the nonce of the last one is stale
        return status, data

    async def _once(
        self, place: HttpPlace, method: str, target: str, given: Headers, body: bytes, limit: int
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        if self._connected != place:
            await self.aclose()
            self._connected = place
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        default = 443 if place.is_tls else 80
        authority = host if place.port == default else f"{host}:{place.port}"
        headers = [("Host", authority), ("Accept", "*/*"), *given]
        try:
            return await self._kept.ask(method, target, headers, body, limit=limit)
        except BodyTooLarge as exc:
            raise Invalid(f"{shown_url(target)}: the answer has more than {limit} bytes") from exc

    def cut(self) -> None:
        """Ends the connection at once, and what is on its way."""
        self._kept.cut()

    async def aclose(self) -> None:
        """Ends the connection; the next request makes another one."""
        await self._kept.close()

    async def _open(self) -> StreamPair:
        place = self._connected
        tls = (self._tls or _context(self.address.ca_file)) if place.is_tls else None
        name = self.address.host if tls else None
        return await asyncio.open_connection(self.address.host, place.port, ssl=tls, server_hostname=name, limit=_READ)


def _context(ca_file: str) -> ssl.SSLContext:
    """The modules for TLS are read by the first camera that has it. Raises OSError."""
    import ssl

    return ssl.create_default_context(cafile=ca_file or None)
