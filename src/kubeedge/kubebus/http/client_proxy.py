"""The client proxy: plain web clients on one side, nodes over L4 on the other (the paper's Figure 4).

In the cloud it serves the public name, at an edge node localhost. It takes the node from the URL, asks that node's server
proxy over L4, and translates what an answer says about its own address.

A tenant that `allow` refuses gets exactly the answer of one that does not exist.

A page that asks for an absolute path (/static/x) has left its prefix. Its Referer says where it lives, and it is sent back there (307).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from kubeedge.api.names import L4Port, NodeKey, NodeName, TenantId
from kubeedge.errors import Invalid, NotFound, PeerError, Unavailable
from kubeedge.kit.headers import HeaderList, Headers
from kubeedge.kit.http1 import ClientResponse, Connection, Limits, Request, Response, Upgrade, serve_connection
from kubeedge.kit.streams import StreamPair
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.accounts import Accounts
from kubeedge.kubebus.http.forward import error_response, exchange, has_body, relay, status_of
from kubeedge.kubebus.http.limits import LocalLimiter, ProxyLimits, RequestLimiter
from kubeedge.kubebus.http.pool import Pool
from kubeedge.kubebus.http.url import L4_PORT, ServiceUrl, parse

log = logging.getLogger("kubeedge.kubebus.http")

#: raises NotFound (no such node), Unavailable or OSError
ConnectUpstream = Callable[[TenantId, NodeName, L4Port], Awaitable[StreamPair]]

_Interim = Callable[[Headers], HeaderList]
_Count = Callable[[int, int], None]

_MAY_BE_REPEATED = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))  # safe (RFC 9110 section 9.2.1), sent without a body
_L4_HTTP = Limits(header_bytes=40 * 1024)  # of an answer: a service's own headers and what its server proxy adds


def everyone(tenant: TenantId) -> bool:
    """Every tenant may be named in a URL."""
    return True


class ClientProxy:
    """`connect(tenant, node, port)` opens an L4 connection; it raises NotFound for a tenant or node that does not exist,
    Unavailable or OSError when the node cannot be reached, TimeoutError when it does not answer."""

    def __init__(
        self,
        connect: ConnectUpstream,
        *,
        allow: Callable[[TenantId], bool] = everyone,
        trust_forwarded: bool = False,
        limits: ProxyLimits | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self._connect = connect
        self._allow = allow
        self._trust_forwarded = trust_forwarded  # the clients are the operator's own proxies
        self._limits = limits or ProxyLimits()
        self._pool: Pool[NodeKey] = Pool(per_node=self._limits.pooled, seconds=self._limits.pooled_seconds)
        self.slots: RequestLimiter = LocalLimiter(
            self._limits.concurrent,
            "tenant",
            rate=self._limits.rate,
            burst=self._limits.burst,
            now=lambda: asyncio.get_running_loop().time(),
        )
        self.accounts = accounts or Accounts()

    @property
    def in_progress(self) -> int:
        """Requests and upgraded connections at this moment."""
        return self.slots.in_progress()

    async def handle(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rests: Callable[[bool], None] = lambda resting: None,
    ) -> None:
        """Serve one client's connection to its end; `rests` hears when it begins and ends to wait for a request."""
        await serve_connection(reader, writer, self.answer, limits=self._limits.http, rests=rests)

    async def aclose(self) -> None:
        """Close the idle connections. Connections of clients belong to the listener."""
        await self._pool.aclose()

    async def answer(self, request: Request) -> Response | Upgrade:
        """The answer to one request, whatever it is for."""
        if request.method == "CONNECT":
            return self._counted("", error_response(405, "CONNECT is not for a published web service"))
        try:
            url = parse(request.target)
        except Invalid as exc:
            answer = self._back_below(request) or error_response(404, f"no web service here: {exc}")
            return self._counted("", answer)
        if not self._allow(url.tenant):
            return self._counted("", self._back_below(request) or self._failed(url, _unknown(url)))
        try:
            give_back = self.slots.take(url.tenant)
        except Exception as exc:
            self.accounts.of(url.tenant).refused += 1
            return self._counted(url.tenant, self._failed(url, exc))
        try:
            return self._counted(url.tenant, await self._forward(request, url, give_back))
        except NotFound:
            give_back()
            return self._counted(url.tenant, self._back_below(request) or self._failed(url, _unknown(url)))
        except Exception as exc:
            give_back()
            return self._counted(url.tenant, self._failed(url, exc))
        except BaseException:
            give_back()
            raise

    def _counted(self, tenant: str, answer: Response | Upgrade) -> Response | Upgrade:
        status = 101 if isinstance(answer, Upgrade) else answer.status
        self.accounts.of(tenant).answers[min(status // 100, 5)] += 1
        return answer

    def _back_below(self, request: Request) -> Response | None:
        """For a page that asks for an absolute path. Gives away nothing but an address that the client has had."""
        if request.method not in ("GET", "HEAD"):
            return None
        target = h.back_below(request.headers, request.target)
        if target is None or not self._allow(TenantId(target[0])):
            return None
        return Response(307, [("location", target[1]), ("vary", "referer"), ("cache-control", "no-store")])

    async def _forward(self, request: Request, url: ServiceUrl, give_back: Callable[[], None]) -> Response | Upgrade:
        body = has_body(request)
        host = request.header("host") or ""
        proto = "https" if request.extra("ssl_object") is not None else "http"
        try:
            own = h.resources(h.request_headers(request.headers, has_body=body), prefix=url.prefix, host=host)
        except Invalid as exc:
            give_back()
            return error_response(400, str(exc), tenant=url.tenant, node=url.node, service=url.service)
        outgoing = h.forwarded(
            own,
            client=client_of(request.extra),
            proto=proto,
            prefix=url.prefix,
            trusted=self._trust_forwarded,
        )

        def for_client(headers: Headers) -> HeaderList:
            return h.response_headers(
                h.end_to_end(headers), prefix=url.prefix, host=host, proto=proto, directory=url.directory
            )

        def count(out: int, in_: int) -> None:
            account = self.accounts.of(url.tenant)
            account.bytes_in += out
            account.bytes_out += in_

        connection, answer = await self._ask(
            request, url, outgoing, for_client, count, repeat=not body and request.method in _MAY_BE_REPEATED
        )

        async def finish() -> None:
            give_back()
            await self._pool.give((url.tenant, url.node), connection)

        return relay(request, answer, connection, for_client(answer.headers), finish, count=count)

    async def _ask(
        self, request: Request, url: ServiceUrl, headers: HeaderList, interim: _Interim, count: _Count, *, repeat: bool
    ) -> tuple[Connection, ClientResponse]:
        """Over an idle connection when the request may be repeated: the node may be closing it at this very moment."""
        if repeat and (idle := self._pool.take((url.tenant, url.node))) is not None:
            try:
                return idle, await self._exchange(request, url, headers, interim, count, idle)
            except TimeoutError:
                raise
            except (OSError, PeerError) as exc:
                _raise_of_client(exc)
                log.debug("idle connection was stale tenant=%s node=%s error=%s", url.tenant, url.node, exc)
        async with asyncio.timeout(self._limits.connect):
            try:
                reader, writer = await self._connect(url.tenant, url.node, L4_PORT)
            except NotFound:
                raise
            except (OSError, Unavailable):
                self.accounts.exists(url.tenant)
                raise
        self.accounts.exists(url.tenant)
        connection = Connection(reader, writer, limits=_L4_HTTP)
        return connection, await self._exchange(request, url, headers, interim, count, connection)

    async def _exchange(
        self,
        request: Request,
        url: ServiceUrl,
        headers: HeaderList,
        interim: _Interim,
        count: _Count,
        connection: Connection,
    ) -> ClientResponse:
        timeout = self._limits.answer  # the server proxy always asks for a body, or refuses it
        try:
            return await exchange(
                request, connection, url.l4_target, headers,
                timeout=timeout, hold=timeout, interim=interim, count=count,
            )  # fmt: skip
        except BaseException:
            connection.abort()
            raise

    def _failed(self, url: ServiceUrl, error: Exception) -> Response:
        status = status_of(error)
        reason = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            reason = f"node {url.node} of tenant {url.tenant} did not answer in time"
        elif status == 502:
            reason = f"node {url.node} of tenant {url.tenant} cannot be reached: {reason}"
        log.debug("request failed url=%s status=%s reason=%s", url.prefix, status, reason)
        retry = getattr(error, "retry_after", None)
        return error_response(status, reason, retry_after=retry, tenant=url.tenant, node=url.node, service=url.service)


def _raise_of_client(error: Exception) -> None:
    status_of(error)


def _unknown(url: ServiceUrl) -> NotFound:
    return NotFound(f"there is no node {url.node} of tenant {url.tenant}")


def client_of(extra: Callable[[str], Any]) -> str:
    """The address of the client of a request, for X-Forwarded-For."""
    peer = extra("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else "unknown"
