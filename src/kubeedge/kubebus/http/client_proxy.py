"""The client proxy: plain web clients on one side, nodes over L4 on the other (the paper's Figure 4).

In the cloud it serves the public name, at an edge node localhost. It takes the node from the URL, asks that node's server
proxy over L4, and translates what an answer says about its own address.

A tenant that `allow` refuses is answered as one that does not exist, in the same words.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Invalid, NotFound, PeerError
from kubeedge.kit.http1 import ClientResponse, Connection, Limits, Request, Response, Upgrade, serve_connection
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.forward import error_response, exchange, has_body, relay, status_of
from kubeedge.kubebus.http.limits import Gate, ProxyLimits, Slots
from kubeedge.kubebus.http.pool import Pool
from kubeedge.kubebus.http.url import L4_PORT, ServiceUrl, parse

log = logging.getLogger("kubeedge.kubebus.http")

Connect = Callable[[TenantId, NodeName, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_MAY_BE_REPEATED = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))  # safe (RFC 9110 section 9.2.1), sent without a body
_MOST_COUNTED = 1000  # answers, before names that were never there are counted together
_L4_HTTP = Limits(header_bytes=40 * 1024)  # of an answer: a service's own headers and what its server proxy adds


def everyone(tenant: TenantId) -> bool:
    return True


class ClientProxy:
    """`connect(tenant, node, port)` opens an L4 connection; it raises NotFound for a tenant or node that does not exist,
    Unavailable or OSError when the node cannot be reached, TimeoutError when it does not answer."""

    def __init__(
        self,
        connect: Connect,
        *,
        allow: Callable[[TenantId], bool] = everyone,
        trust_forwarded: bool = False,
        limits: ProxyLimits | None = None,
        served: Callable[[ServiceUrl], None] = lambda url: None,
    ) -> None:
        self._served = served  # a request went there and was answered: the next ones may go the fast way
        self._connect = connect
        self._allow = allow
        self._trust_forwarded = trust_forwarded  # the clients are the operator's own proxies
        self._limits = limits or ProxyLimits()
        self._pool = Pool(per_node=self._limits.pooled, seconds=self._limits.pooled_seconds)
        self.slots: Slots = Gate(
            self._limits.concurrent,
            "tenant",
            rate=self._limits.rate,
            burst=self._limits.burst,
            now=lambda: asyncio.get_running_loop().time(),
        )
        self.answered: Counter[tuple[str, int]] = Counter()  # by tenant, "" for what is none, and class of status

    @property
    def in_progress(self) -> int:
        """Requests and upgraded connections at this moment."""
        return self.slots.in_progress()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client's connection to its end."""
        await serve_connection(reader, writer, self._serve, limits=self._limits.http)

    async def aclose(self) -> None:
        """Close the idle connections. Connections of clients belong to the listener."""
        await self._pool.aclose()

    async def _serve(self, request: Request) -> Response | Upgrade:
        if request.method == "CONNECT":
            return error_response(405, "CONNECT is not for a published web service")
        try:
            url = parse(request.target)
        except Invalid as exc:
            return self._count("", _back_below(request) or error_response(404, f"no web service here: {exc}"))
        if not self._allow(url.tenant):
            return self._count("", _back_below(request) or self._failed(url, _unknown(url)))
        return self._count(url.tenant, await self._answer(request, url))

    def _count(self, tenant: str, answer: Response | Upgrade) -> Response | Upgrade:
        status = 101 if isinstance(answer, Upgrade) else answer.status
        if status == 404 and self.answered.total() > _MOST_COUNTED and (tenant, 4) not in self.answered:
            tenant = ""  # strangers may ask for any name
        self.answered[tenant, status // 100] += 1
        return answer

    async def _answer(self, request: Request, url: ServiceUrl) -> Response | Upgrade:
        try:
            give_back = self.slots.take(url.tenant)
        except Exception as exc:
            return self._failed(url, exc)
        try:
            return await self._forward(request, url, give_back)
        except NotFound:
            give_back()
            return _back_below(request) or self._failed(url, _unknown(url))
        except Exception as exc:
            give_back()
            return self._failed(url, exc)
        except BaseException:
            give_back()
            raise

    async def _forward(self, request: Request, url: ServiceUrl, give_back: Callable[[], None]) -> Response | Upgrade:
        body = has_body(request)
        host = request.header("host") or ""
        outgoing = h.forwarded(
            h.request_headers(request.headers, has_body=body),
            client=_client_of(request.extra),
            proto="https" if request.extra("ssl_object") is not None else "http",
            prefix=url.prefix,
            trusted=self._trust_forwarded,
        )
        connection, answer = await self._ask(
            request, url, outgoing, repeat=not body and request.method in _MAY_BE_REPEATED
        )

        async def finish() -> None:
            give_back()
            await self._pool.give((url.tenant, url.node), connection)

        self._served(url)
        incoming = h.response_headers(h.end_to_end(answer.headers), prefix=url.prefix, host=host)
        return relay(request, answer, connection, incoming, finish)

    async def _ask(
        self, request: Request, url: ServiceUrl, headers: h.Pairs, *, repeat: bool
    ) -> tuple[Connection, ClientResponse]:
        """Over an idle connection when the request may be repeated: the node may be closing it at this very moment."""
        if repeat and (idle := self._pool.take((url.tenant, url.node))) is not None:
            try:
                return idle, await self._exchange(request, url, headers, idle)
            except TimeoutError:
                raise
            except (OSError, PeerError) as exc:
                _raise_of_client(exc)
                log.debug("idle connection was stale tenant=%s node=%s error=%s", url.tenant, url.node, exc)
        async with asyncio.timeout(self._limits.connect):
            reader, writer = await self._connect(url.tenant, url.node, L4_PORT)
        connection = Connection(reader, writer, limits=_L4_HTTP)
        return connection, await self._exchange(request, url, headers, connection)

    async def _exchange(
        self, request: Request, url: ServiceUrl, headers: h.Pairs, connection: Connection
    ) -> ClientResponse:
        try:
            return await exchange(request, connection, url.l4_target, headers, patience=self._limits.answer)
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
        return error_response(status, reason, tenant=url.tenant, node=url.node, service=url.service)


def _back_below(request: Request) -> Response | None:
    """A page of a service has asked for /static/x as if it lived at "/": the address that the page came from says below which prefix to ask.
    Nothing but an address is given away, and it is one that the client had."""
    if request.method not in ("GET", "HEAD"):
        return None
    try:
        parts = urlsplit(request.header("referer") or "")
        if not parts.netloc or parts.netloc.lower() != (request.header("host") or "").lower():
            return None
        page = parse(parts.path)
    except (ValueError, Invalid):
        return None
    if not request.target.startswith("/") or request.target.startswith(("//", f"{page.prefix}/")):
        return None
    return Response(
        307, [("location", page.prefix + request.target), ("vary", "referer"), ("cache-control", "no-store")], b""
    )


def _raise_of_client(error: Exception) -> None:
    status_of(error)


def _unknown(url: ServiceUrl) -> NotFound:
    return NotFound(f"there is no node {url.node} of tenant {url.tenant}")


def _client_of(extra: Callable[[str], Any]) -> str:
    peer = extra("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else "unknown"
