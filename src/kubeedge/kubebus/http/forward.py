"""One exchange through a proxy: the request goes on while it still comes, the answer comes back while it is still made.

Memory is bounded by the buffers of two streams each way; a slow side slows the other one down. When either end disconnects
the other one is closed at once.

An upload that asks first (Expect: 100-continue) is asked for when the service asks for it, and refused unread when it is refused there.

Lives here:      the exchange, upgrades, errors as answers.
Lives elsewhere: where it goes (client_proxy, server_proxy), the headers (headers), how much of it (limits), who may (access).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from kubeedge.errors import KubeEdgeError, NotFound, PeerError
from kubeedge.kit.headers import HeaderList, Headers
from kubeedge.kit.http1 import (
    BrokenBody,
    ClientGone,
    ClientResponse,
    Connection,
    Request,
    Response,
    Upgrade,
    json_response,
)
from kubeedge.kit.streams import splice
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.limits import Busy, TooFast

STREAM_BUFFER = 64 * 1024  # of an asyncio stream; it stops reading at twice this


def error_response(status: int, message: str, *, retry_after: float | None = None, **where: str) -> Response:
    """An answer of the proxies themselves; `where` names what the message is about."""
    extra = [("retry-after", str(max(1, math.ceil(retry_after or 0))))] if status in (429, 503) else []
    return json_response(status, {"error": message, **where}, [("cache-control", "no-store"), *extra])


def status_of(error: Exception) -> int:
    """The HTTP status for a failure: 404 no such node or service, 429 too fast, 503 too busy, 504 too slow, 502 the rest. A client's fault,
    or a bug, is raised again."""
    match error:
        case ClientGone() | BrokenBody():
            raise error
        case NotFound():
            return 404
        case TooFast():
            return 429
        case Busy():
            return 503
        case TimeoutError():
            return 504
        case OSError() | KubeEdgeError():
            return 502
        case _:
            raise error


def has_body(request: Request) -> bool:
    """Does the request carry a body (RFC 9112 section 6)?"""
    return any(
        name == "transfer-encoding" or (name == "content-length" and value.strip("0 "))
        for name, value in request.headers
    )


def expects(request: Request) -> bool:
    """The client sends its body when it is asked to."""
    return has_body(request) and "100-continue" in h.tokens(request.headers, "expect")


async def exchange(
    request: Request,
    connection: Connection,
    target: str,
    headers: HeaderList,
    *,
    timeout: float,
    hold: float,
    interim: Callable[[Headers], HeaderList] = h.end_to_end,
    count: Callable[[int, int], None] = lambda out, in_: None,
) -> ClientResponse:
    """Send the request on and wait for the head of its answer. Raises ClientGone when the client hangs up meanwhile,
    TimeoutError when nothing moved for `timeout` seconds, OSError and PeerError for the other side's failures.

    `hold`: seconds until a body goes although the other side has not asked for it. `interim`: headers of a 103, for the client. `count` hears
    of the body's bytes."""
    asks = expects(request)

    async def inform(status: int, found: Headers) -> None:
        await request.inform(status, interim(found))

    async with asyncio.timeout(timeout) as deadline:
        body = _watched(request.stream(), deadline, timeout, count) if has_body(request) else b""
        sent = [*headers, ("expect", "100-continue")] if asks else headers
        asking = connection.request(request.method, target, sent, body, hold=hold if asks else 0.0, inform=inform)
        answer = asyncio.create_task(asking, name="http forward")
        gone = asyncio.create_task(request.gone(), name="http client gone")
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await _discard(answer)
            raise
        finally:
            await cancel_and_wait(gone)
    if not answer.done():
        await _discard(answer)
        raise ClientGone("the client hung up before the answer")
    return answer.result()


async def _watched(
    body: AsyncIterator[bytes], deadline: asyncio.Timeout, timeout: float, count: Callable[[int, int], None]
) -> AsyncIterator[bytes]:
    """The request's body; while it moves the deadline moves too."""
    now = asyncio.get_running_loop().time
    async for chunk in body:
        with contextlib.suppress(RuntimeError):  # the head of the answer came first: there is no deadline any more
            deadline.reschedule(now() + timeout)
        count(len(chunk), 0)
        yield chunk


async def _discard(task: asyncio.Task[ClientResponse]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class RelayedBody:
    """The body of an answer on its way; `finish` is called once, however the exchange ends."""

    def __init__(
        self,
        response: ClientResponse,
        finish: Callable[[], Awaitable[None]],
        *,
        empty: bool,
        count: Callable[[int, int], None],
    ) -> None:
        self._stream = response.stream()
        self._count = count
        self._finish: Callable[[], Awaitable[None]] | None = finish
        self._empty = empty

    def __aiter__(self) -> RelayedBody:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._stream)
        self._count(0, len(chunk))
        return chunk

    async def aclose(self) -> None:
        """The reader is gone: the connection that the body comes from ends."""
        finish, self._finish = self._finish, None
        if finish is None:
            return
        try:
            if self._empty:  # an answer to HEAD: its end is here already, and was not asked for
                with contextlib.suppress(StopAsyncIteration, OSError, PeerError):
                    await anext(self._stream)
            closing = getattr(self._stream, "aclose", None)
            if closing:
                await closing()
        finally:
            await finish()


def relay(
    request: Request,
    response: ClientResponse,
    connection: Connection,
    headers: HeaderList,
    finish: Callable[[], Awaitable[None]],
    *,
    count: Callable[[int, int], None] = lambda out, in_: None,
) -> Response | Upgrade:
    """The answer for the client. `headers` are the end-to-end ones; `finish` gives the connection and the slot back."""
    if response.status == 101:
        protocol = h.upgrade_of(response.headers) or request.header("upgrade") or ""

        async def takeover(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
            try:
                connection.writer.write(first)
                writer.write(connection.trailing())
                await splice((reader, writer), (connection.reader, connection.writer), count=count)
            finally:
                await finish()

        return Upgrade([*headers, ("connection", "upgrade"), ("upgrade", protocol)], takeover)
    return Response(
        response.status, headers, RelayedBody(response, finish, empty=request.method == "HEAD", count=count)
    )
