"""HTTP/1.1 to one API server: connections that are kept, TLS, proxies, and no more than one attempt at a time to one that is away."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Protocol

from kubeedge.api import strict_json
from kubeedge.api.status import ServerUnavailable, StatusError
from kubeedge.errors import Invalid, PeerError, Unavailable, suspect_clock
from kubeedge.kit.headers import Headers
from kubeedge.kit.http1 import ClientResponse, Connection
from kubeedge.kit.streams import StreamPair, abort_writer
from kubeedge_cloud.clusters import core
from kubeedge_cloud.clusters.core import Access, CircuitBreaker
from kubeedge_cloud.clusters.history import ServerHistory

#: requests; watches are not counted. A server that is busy answers in 0.3 s: with 16 a thousand nodes that register wait two minutes
_AT_ONCE = 32
#: seconds that a request counts among those, from its beginning. A webhook may hang on one kind of object for 30 s: requests for that kind would
#: have all the turns, and the Leases of all nodes be late. How many hang is bounded by those who ask
_TURN = 2.0
_CONNECT = 10.0  # seconds
_REQUEST = 30.0  # seconds, to the end of the answer
_MOST = 64 * 1024 * 1024  # bytes of an answer: a chunk of a list has 500 objects
_IDLE = _AT_ONCE  # connections that are kept: with less, bursts would make new ones all the time
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 3))


class CredentialSource(Protocol):
    """Where the credentials for a cluster come from (kubeedge_cloud.clusters.credentials implements it)."""

    async def current(self) -> Access:
        """Credentials that are valid now. Raises ServerUnavailable when none can be had."""
        ...

    async def refused(self, used: Access) -> Access | None:
        """Other credentials after a 401; None when there are none."""
        ...


class ClusterTransport:
    """Of one cluster; its identities share it. `connect` gives a byte stream on which HTTP can be spoken."""

    def __init__(
        self,
        source: CredentialSource,
        *,
        connect: Callable[[Access], Awaitable[StreamPair]] | None = None,
        chance: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._wall = wall
        self._connect = connect or Connector()
        self._bare: tuple[Access, Access] | None = None  # as it is, and without credentials
        self._connect_bare = connect or Connector()  # a context of TLS of its own: ours has our certificate
        self._chance = chance
        self._breaker = CircuitBreaker()
        self._idle: list[tuple[Access, Connection]] = []
        self._streaming: set[Connection] = set()
        self._server: tuple[str, str, str] | None = None  # its address, its name, who vouches for it
        self._moved = asyncio.Event()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self.history = ServerHistory()
        self.requests: dict[str, int] = {}  # by method, since the start; a watch is "WATCH"
        self.connections = 0  # that were made

    async def request(
        self, method: str, target: str, headers: Headers = (), body: bytes = b"", *, timeout: float = _REQUEST
    ) -> bytes:
        """The body of a 2xx answer. Raises the error of kubeedge.api.status that the answer is, and ServerUnavailable without one."""
        async with self._turn(), self._exchange(method, target, headers, body, timeout) as answer:
            try:
                async with asyncio.timeout(timeout):
                    return await answer.read(_MOST)
            except (OSError, TimeoutError, PeerError, Invalid) as exc:
                raise self._broken(exc) from exc

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        await self._turns.acquire()
        end = ExitStack()  # which ends once
        end.callback(self._turns.release)
        timer = asyncio.get_running_loop().call_later(_TURN, end.close)
        try:
            yield
        finally:
            timer.cancel()
            end.close()

    @asynccontextmanager
    async def stream(self, target: str, headers: Headers = (), *, idle: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a 2xx answer to a GET as it comes, while something comes at least every `idle` seconds."""
        async with self._exchange("WATCH", target, headers, b"", _REQUEST) as answer:
            yield self._flowing(answer.stream(), idle)

    async def _flowing(self, chunks: AsyncIterator[bytes], idle: float) -> AsyncIterator[bytes]:
        try:
            while True:
                async with asyncio.timeout(idle):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk
        except (OSError, TimeoutError, PeerError) as exc:
            raise self._broken(exc) from exc

    def _broken(self, exc: BaseException) -> ServerUnavailable:
        self.history.broken()
        what = "no answer in time" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
        return _unavailable(f"the connection to the API server broke: {what}")

    async def without_credentials(self) -> StreamPair:
        """A connection of its own, for a client that shows a token: nothing of ours is on it. Raises as `request`, and OSError, TimeoutError."""
        access = await self._source.current()
        if access.base:
            raise ServerUnavailable(f"the API is below {access.base}, which pods do not know of")
        if self._bare is None or self._bare[0] is not access:
            self._bare = access, replace(access, authorization="", certificate="", key="")
        return await self._connect_bare(self._bare[1])

    async def close(self) -> None:
        """Connections that are kept are closed; those in use are their users'."""
        while self._idle:
            self._idle.pop()[1].abort()

    @asynccontextmanager
    async def _exchange(
        self, method: str, target: str, headers: Headers, body: bytes, timeout: float
    ) -> AsyncIterator[ClientResponse]:
        """With new credentials once more, if the server does not know the old ones."""
        self.requests[method] = self.requests.get(method, 0) + 1
        access = await self._source.current()
        self._notice(access)
        for last in (False, True):
            connection, answer = await self._ask(access, method, target, headers, body, timeout)
            if method == "WATCH":
                self._streaming.add(connection)
            try:
                if 200 <= answer.status < 300:
                    yield answer
                    return
                failure = await _failure(answer, self._wall())
            finally:
                self._streaming.discard(connection)
                self._release(access, connection)
            other = await self._source.refused(access) if answer.status == 401 and not last else None
            if other is None:
                raise failure
            access = other

    async def moved(self) -> None:
        """Returns once the source leads to another server than it does now."""
        await self._moved.wait()

    def _notice(self, access: Access) -> None:
        """Streams of another server than that end: what is read there would be written here."""
        server = access.server, access.server_name, access.ca
        if self._server not in (None, server):
            self._moved.set()
            self._moved = asyncio.Event()
            self.history.broken()
            for connection in self._streaming:
                connection.abort()
        self._server = server

    async def _ask(
        self, access: Access, method: str, target: str, headers: Headers, body: bytes, timeout: float
    ) -> tuple[Connection, ClientResponse]:
        connection = await self._connection(access)
        host, port = access.host
        sent = [
            ("host", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"),
            ("user-agent", core.USER_AGENT),
            *([("authorization", access.authorization)] if access.authorization else []),
            *headers,
        ]
        try:
            async with asyncio.timeout(timeout):
                verb = "GET" if method == "WATCH" else method
                return connection, await connection.request(verb, access.base + target, sent, body)
        except (OSError, TimeoutError, PeerError) as exc:
            connection.abort()
            raise self._broken(exc) from exc
        except BaseException:
            connection.abort()
            raise

    async def _connection(self, access: Access) -> Connection:
        while self._idle:
            of, connection = self._idle.pop()
            if of is access and connection.reusable:
                return connection
            connection.abort()
        now = asyncio.get_running_loop().time
        if wait := self._breaker.wait(now()):
            raise _unavailable(f"{access.server}: {self._breaker.why}", wait)
        try:
            async with asyncio.timeout(_CONNECT):
                streams = await self._connect(access)
        except (OSError, TimeoutError, PeerError, Unavailable) as exc:
            why = suspect_clock(str(exc) or type(exc).__name__)
            self._breaker.failed(now(), self._chance(), why)
            self.history.broken()
            raise _unavailable(f"{access.server}: {why}", self._breaker.wait(now())) from exc
        self._breaker.succeeded()
        self.connections += 1
        return Connection(*streams)

    def _release(self, access: Access, connection: Connection) -> None:
        if connection.reusable and len(self._idle) < _IDLE:
            self._idle.append((access, connection))
        else:
            connection.abort()


async def _failure(answer: ClientResponse, now: float) -> StatusError:
    wait = core.retry_after(answer.header("retry-after"))
    try:
        async with asyncio.timeout(_REQUEST):
            said = strict_json.loads(await answer.read(1024 * 1024))
    except (OSError, TimeoutError, PeerError, Invalid):
        said = None  # not from the API server: a proxy's page, say
    hint = core.clock_hint(answer.header("date"), now) if answer.status == 401 else ""
    return core.error(answer.status, said, wait, hint)


def _unavailable(message: str, retry_after: float | None = None) -> ServerUnavailable:
    failure = ServerUnavailable(message)
    failure.retry_after = retry_after
    return failure


class Connector:
    """TCP, through a proxy when there is one, and TLS. Raises OSError (ssl.SSLError is one), TimeoutError and Unavailable."""

    def __init__(self) -> None:
        self._context: tuple[Access, ssl.SSLContext] | None = None

    async def __call__(self, access: Access) -> StreamPair:
        host, port = access.host
        reader, writer = await asyncio.open_connection(*(core.proxy_of(access)[:2] if access.proxy else (host, port)))
        try:
            _keep_alive(writer)
            if access.proxy:
                await _tunnel(reader, writer, access)
            if access.secure:
                await writer.start_tls(self._tls(access), server_hostname=access.server_name or host)
        except BaseException:
            abort_writer(writer)
            raise
        return reader, writer

    def _tls(self, access: Access) -> ssl.SSLContext:
        if self._context is None or self._context[0] is not access:
            context = ssl.create_default_context(cadata=access.ca or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if access.certificate:
                _present(context, access)
            self._context = access, context
        return self._context[1]


def _present(context: ssl.SSLContext, access: Access) -> None:
    """The client's certificate. OpenSSL reads it from a file: one that is in memory alone."""
    number = os.memfd_create("client")
    try:
        os.write(number, f"{access.certificate}\n{access.key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{number}", password="")  # "": never ask a terminal
    except ssl.SSLError as exc:
        raise Unavailable(f"the client certificate and its key do not go together: {exc.reason}") from exc
    finally:
        os.close(number)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """A server that is gone without closing its connections is noticed within a minute."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, access: Access) -> None:
    """Open a tunnel through an HTTP proxy with CONNECT (RFC 9110 section 9.3.6)."""
    host, port = access.host
    to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    user = core.proxy_of(access)[2]
    identity = f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}\r\n" if user else ""
    writer.write(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{identity}\r\n".encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
        raise Unavailable("the proxy did not answer CONNECT by HTTP's rules") from exc
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[1].startswith("2"):
        raise Unavailable(f"the proxy refused a tunnel to {to}: {' '.join(words[1:])[:80]}")
