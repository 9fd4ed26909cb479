"""The values of kubeedge.kit.http1: requests and responses."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from kubeedge.errors import Invalid, KubeEdgeError, PeerError
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.headers import Headers

Inform: TypeAlias = Callable[[int, Headers], Awaitable[None]]


class BodyTooLarge(KubeEdgeError):
    """A body of more bytes than its reader takes; a server answers it with 413."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"body of more than {limit} bytes")
        self.limit = limit


class ClientGone(ConnectionResetError):
    """The client hung up, or stalled: a handler that lets this pass ends the connection without an answer."""


class BrokenBody(PeerError):
    """The request's body breaks HTTP's rules or stopped in the middle: answered with 400 if the client is still connected."""


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


async def _nowhere(status: int, headers: Headers) -> None:
    """Drops interim answers that the caller did not ask for."""


@dataclass(slots=True)
class Request:
    """A request as a handler gets it; its body is read once, by `stream` or by `read`."""

    method: str
    target: str  # as sent: path and query
    headers: list[tuple[str, str]]  # names in lower case
    extra: Callable[[str], Any]  # writer.get_extra_info: "ssl_object", "peername"
    _stream: AsyncIterator[bytes]
    #: returns when the body was read and the client has hung up: the answer is not needed any more
    gone: Callable[[], Coroutine[Any, Any, None]] = _never
    #: sends an interim answer (status 102 to 199) before the answer itself; clients of HTTP/1.0 get none
    inform: Inform = _nowhere
    #: cuts the connection off
    abort: Callable[[], None] = lambda: None

    @property
    def path(self) -> str:
        """Percent-decoded, without the query. Raises Invalid when it is not UTF-8 or has a zero byte."""
        raw = self.target.partition("?")[0]
        try:
            path = urllib.parse.unquote(raw, errors="strict")
        except UnicodeDecodeError as exc:
            raise Invalid(f"path {raw!r} is not UTF-8") from exc
        if "\0" in path or not path.startswith("/"):
            raise Invalid(f"path {raw!r} is not a path")
        return path

    @property
    def query(self) -> dict[str, list[str]]:
        """Decoded parameters, each with all of its values. Raises Invalid for more than 100."""
        raw = self.target.partition("?")[2]
        try:
            return urllib.parse.parse_qs(raw, keep_blank_values=True, max_num_fields=100)
        except ValueError as exc:
            raise Invalid(f"query: {exc}") from exc

    def header(self, name: str) -> str | None:
        """The first header of that name, which is in lower case; None: there is none."""
        return next((value for key, value in self.headers if key == name), None)

    def stream(self) -> AsyncIterator[bytes]:
        """The body as it comes; once."""
        return self._stream

    async def read(self, limit: int, arrived: Callable[[int], None] | None = None) -> bytes:
        """The whole body. Raises BodyTooLarge (answered with 413) before more than `limit` is kept. `arrived` is told how many bytes
        have come so far."""
        return await gather(self._stream, limit, arrived)


@dataclass(slots=True)
class Response:
    """An answer. A body that is an iterator is sent chunked, unless `headers` has its content-length."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""


@dataclass(slots=True)
class Upgrade:
    """101: from here the connection belongs to `takeover(reader, writer, first)`; `first` are bytes that came already."""

    headers: list[tuple[str, str]]
    takeover: Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


RequestHandler: TypeAlias = Callable[[Request], Awaitable[Response | Upgrade]]


def json_response(status: int, obj: Any, headers: Headers = ()) -> Response:
    """A response with `obj` as compact JSON."""
    body = json.dumps(obj, separators=(",", ":")).encode()
    return Response(status, [("content-type", "application/json"), *headers], body)


def text_response(status: int, text: str, headers: Headers = ()) -> Response:
    """A response with plain text in UTF-8."""
    return Response(status, [("content-type", "text/plain; charset=utf-8"), *headers], text.encode())


async def gather(stream: AsyncIterator[bytes], limit: int, arrived: Callable[[int], None] | None = None) -> bytes:
    """The whole of a body. Raises BodyTooLarge before more than `limit` bytes are kept."""
    parts: list[bytes] = []
    total = 0
    async for chunk in stream:
        total += len(chunk)
        if total > limit:
            raise BodyTooLarge(limit)
        parts.append(chunk)
        if arrived is not None:
            arrived(total)
    return b"".join(parts)
