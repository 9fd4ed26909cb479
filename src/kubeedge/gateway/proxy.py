"""A request for a host name of a tenant, on its way to a pod.

    client ── web listener ── route ── backend ── KubeBus L4, port 10252 of the node ── TCP ── pod

A host that a tenant has is that tenant's alone. On every other host the published services of all tenants are, and below them, if there is one, the
routes without a host of the tenant that the operator has named.

Lives elsewhere: which route (table), what filters make of it (filters), where pods are (backends), one exchange (kubeedge.kubebus.http.forward).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from kubeedge.api.names import TenantId
from kubeedge.errors import KubeEdgeError, PeerError
from kubeedge.gateway import filters
from kubeedge.gateway.model import (
    HeaderChange,
    ListenPoint,
    MirrorTarget,
    PodEndpoint,
    RouteBackend,
    RouteEntry,
    RouteRequest,
)
from kubeedge.gateway.pods import PodConnector, chosen
from kubeedge.gateway.table import HostTable, RouteSelection
from kubeedge.kit.headers import HeaderList, Headers
from kubeedge.kit.http1 import ClientResponse, Connection, Limits, Request, Response, Upgrade, serve_connection
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.accounts import Accounts
from kubeedge.kubebus.http.client_proxy import client_of
from kubeedge.kubebus.http.forward import error_response, exchange, has_body, relay, status_of
from kubeedge.kubebus.http.limits import ProxyLimits, RequestLimiter
from kubeedge.kubebus.http.pool import Pool

log = logging.getLogger("kubeedge.gateway")

_MAY_BE_REPEATED = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
_HOLD = 1.0  # seconds that an upload waits for a service to ask for it
_MIRRORS = 64  # copies of requests on their way at once; more are left out
_OF_TENANT = 16  # of them, of one tenant
_MIRROR_SECONDS = 10.0
_HEAD = Limits(header_bytes=40 * 1024)

PodKey = tuple[TenantId, PodEndpoint]


class GatewayRoutes(Protocol):
    """What the proxy asks of the module."""

    table: HostTable

    def endpoints(self, tenant: TenantId, backend: RouteBackend) -> list[PodEndpoint]:
        """The ready pods behind a backend, the one whose turn it is first."""
        ...


class GatewayProxy:
    """`slots` and `accounts`: of all requests, those for published services, too."""

    def __init__(
        self,
        routes: GatewayRoutes,
        pods: PodConnector,
        *,
        slots: Callable[[], RequestLimiter],
        accounts: Accounts,
        limits: ProxyLimits,
        trust_forwarded: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self._routes, self._slots, self._accounts = routes, slots, accounts
        self._pods = pods
        self._limits, self._trust_forwarded = limits, trust_forwarded
        self._rng = rng or random.Random()
        self._pool: Pool[PodKey] = Pool(per_node=limits.pooled, seconds=limits.pooled_seconds)
        self._copies = TaskSet("mirrored requests")
        self._copied: Counter[TenantId] = Counter()

    async def aclose(self) -> None:
        """Close idle connections, and end copies of requests."""
        await self._copies.aclose()
        await self._pool.aclose()

    async def handle(
        self, at: ListenPoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rests: Callable[[bool], None]
    ) -> None:
        """Serve one client's connection that came in somewhere else than at the web listener."""

        async def answer(request: Request) -> Response | Upgrade:
            facts = facts_of(request, at)
            if (found := self._routes.table.select(facts)) is None:
                self._accounts.of("").answers[4] += 1
                return _error(request, 404, "no route takes this request")
            return await self.answer(request, facts, found)

        await serve_connection(reader, writer, answer, limits=self._limits.http, rests=rests)

    async def answer(self, request: Request, facts: RouteRequest, found: RouteSelection) -> Response | Upgrade:
        """The answer to a request that is a tenant's, by the table."""
        tenant = found.tenant
        self._accounts.exists(tenant)
        answer = await self._admitted(request, facts, tenant, found.entry)
        status = 101 if isinstance(answer, Upgrade) else answer.status
        self._accounts.of(tenant).answers[min(status // 100, 5)] += 1
        return answer

    async def _admitted(
        self, request: Request, facts: RouteRequest, tenant: TenantId, entry: RouteEntry | None
    ) -> Response | Upgrade:
        try:
            give_back = self._slots().take(tenant)
        except KubeEdgeError as exc:
            self._accounts.of(tenant).refused += 1
            return _error(request, status_of(exc), str(exc), retry_after=getattr(exc, "retry_after", None))
        handed_on = False
        try:
            if request.method == "CONNECT":
                return _error(request, 405, "CONNECT is not supported")
            if _leaves(facts.path):
                return _error(request, 400, "the path has . or .. as an element")
            if entry is None:
                return _error(request, 404, f"no route of {facts.host:.253} takes this request")
            if entry.rule.redirect is not None:
                authority = next((value for name, value in facts.headers if name == "host"), "") or facts.host
                where = filters.location(entry.rule.redirect, entry.match, facts, authority)
                answer: Response | Upgrade = Response(
                    entry.rule.redirect.status, filters.changed([("location", where)], entry.rule.response)
                )
                return answer
            answer = await self._forward(request, facts, tenant, entry, give_back)
            handed_on = True
            return answer
        except Exception as exc:
            status = status_of(exc)
            reason = "it took too long" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
            name = entry.rule.name if entry else ""
            log.debug("request failed tenant=%s route=%s status=%s reason=%s", tenant, name, status, reason)
            return _error(request, status, reason, retry_after=getattr(exc, "retry_after", None))
        finally:
            if not handed_on:
                give_back()

    async def _forward(
        self, request: Request, facts: RouteRequest, tenant: TenantId, entry: RouteEntry, give_back: Callable[[], None]
    ) -> Response | Upgrade:
        rule = entry.rule
        target, host = filters.rewritten(rule.rewrite, entry.match, facts)
        headers = self._headers(request, facts, rule.request, host)
        for mirror in rule.mirrors:
            self._mirror(request, tenant, mirror, target, headers)
        backend = chosen(rule.backends, self._rng)
        if backend is None or backend.fault:
            give_back()
            return _error(request, 500, backend.fault if backend else "the route has no backend for this request")
        endpoints = self._routes.endpoints(tenant, backend)
        if not endpoints:
            give_back()
            return _error(request, 503, f"Service {backend.namespace}/{backend.service} has no ready pod at the edge")

        def for_client(found: Headers) -> HeaderList:
            return filters.changed(filters.changed(h.end_to_end(found), backend.response), rule.response)

        def count(out: int, in_: int) -> None:
            account = self._accounts.of(tenant)
            account.bytes_in += out
            account.bytes_out += in_

        sent = filters.changed(headers, backend.request)
        async with asyncio.timeout(rule.timeout or None), asyncio.timeout(rule.backend_timeout or None):
            key, connection, answer = await self._ask(request, tenant, endpoints, target, sent, for_client, count)

        async def finish() -> None:
            give_back()
            await self._pool.give(key, connection)

        return relay(request, answer, connection, for_client(answer.headers), finish, count=count)

    def _headers(self, request: Request, facts: RouteRequest, change: HeaderChange | None, host: str) -> HeaderList:
        own = h.forwarded(
            h.request_headers(facts.headers, has_body=has_body(request)),
            client=client_of(request.extra),
            proto=facts.scheme,
            prefix="",
            trusted=self._trust_forwarded,
        )
        changed = filters.changed(own, change)
        return [(name, host if host and name == "host" else value) for name, value in changed]

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        request: Request,
        tenant: TenantId,
        endpoints: list[PodEndpoint],
        target: str,
        headers: HeaderList,
        interim: Callable[[Headers], HeaderList],
        count: Callable[[int, int], None],
    ) -> tuple[PodKey, Connection, ClientResponse]:
        """Over an idle connection when the request may be repeated: the pod may be closing it at this very moment."""

        async def ask(connection: Connection) -> ClientResponse:
            try:
                return await exchange(
                    request, connection, target, headers,
                    timeout=self._limits.answer, hold=_HOLD, interim=interim, count=count,
                )  # fmt: skip
            except BaseException:
                connection.abort()
                raise

        first = (tenant, endpoints[0])
        if request.method in _MAY_BE_REPEATED and not has_body(request) and (idle := self._pool.take(first)):
            try:
                return first, idle, await ask(idle)
            except TimeoutError:
                raise
            except (OSError, PeerError) as exc:
                status_of(exc)  # raises again what is the client's fault
        key, connection = await self._open(tenant, endpoints)
        return key, connection, await ask(connection)

    async def _open(self, tenant: TenantId, endpoints: list[PodEndpoint]) -> tuple[PodKey, Connection]:
        """A new connection to the first of a few pods that can be reached: nothing of the request has been sent yet."""
        endpoint, (reader, writer) = await self._pods.reach(tenant, endpoints)
        return (tenant, endpoint), Connection(reader, writer, limits=_HEAD)

    # -- copies --------------------------------------------------------------------------------------------------------

    def _mirror(
        self, request: Request, tenant: TenantId, mirror: MirrorTarget, target: str, headers: HeaderList
    ) -> None:
        """A copy of a request without a body, whose answer nobody reads."""
        backend = mirror.backend
        if has_body(request) or backend.fault or self._rng.random() >= mirror.share:
            return
        if len(self._copies) >= _MIRRORS or self._copied[tenant] >= _OF_TENANT:
            return
        if endpoints := self._routes.endpoints(tenant, backend):
            plain = [(n, v) for n, v in headers if n not in ("connection", "upgrade")]
            copy = self._copy(tenant, endpoints[0], request.method, target, plain)
            task = self._copies.start(copy, "mirrored request")
            self._copied[tenant] += 1
            task.add_done_callback(lambda _: self._copy_ended(tenant))

    def _copy_ended(self, tenant: TenantId) -> None:
        self._copied[tenant] -= 1
        if not self._copied[tenant]:
            del self._copied[tenant]

    async def _copy(
        self, tenant: TenantId, endpoint: PodEndpoint, method: str, target: str, headers: HeaderList
    ) -> None:
        try:
            async with asyncio.timeout(_MIRROR_SECONDS):
                _, connection = await self._open(tenant, [endpoint])
                try:
                    await connection.request(method, target, headers)
                finally:
                    connection.abort()
        except (OSError, KubeEdgeError) as exc:
            log.debug("a copy of a request was lost tenant=%s node=%s: %s", tenant, endpoint.node, exc)


def _error(request: Request, status: int, text: str, *, retry_after: float | None = None) -> Response:
    """An answer of our own. To HEAD it does not describe a body that is not there, as RFC 9110 section 9.3.2 allows: some clients would read it."""
    answer = error_response(status, text, retry_after=retry_after)
    if request.method == "HEAD":
        answer.headers = [(name, value) for name, value in answer.headers if name != "content-type"]
    return answer


def facts_of(request: Request, at: ListenPoint) -> RouteRequest:
    """What of a request the table looks at."""
    target, authority, headers = request.target, request.header("host") or "", tuple(request.headers)
    scheme, separator, rest = target.partition("://")
    if separator and "/" not in scheme and "?" not in scheme:  # absolute form: what it names is the host
        authority, slash, path = rest.partition("/")
        target = slash + path or "/"
        # whatever Host says (RFC 9112 section 3.2.2): the pod of one host would take the request for one of another
        headers = (("host", authority), *((name, value) for name, value in headers if name != "host"))
    path, _, query = target.partition("?")
    return RouteRequest(
        "https" if request.extra("ssl_object") is not None else "http",
        filters.host_of(authority),
        path if path.startswith("/") else "/" + path,
        query,
        request.method,
        headers,
        at,
    )


def _leaves(path: str) -> bool:
    """Some element of the path is . or .., plain or encoded: a service would take it for another path than the table does."""
    return any(element.lower().replace("%2e", ".") in (".", "..") for element in path.split("/"))
