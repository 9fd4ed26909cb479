"""The server proxy: requests that come over L4, to web services of this node (the paper's Figure 5).

The first path element names the service; the service sees the path without it. Who may use it is decided here (access.py). Every exchange has
its own connection to the service: it is on this machine, where opening one costs little, and a service that restarts leaves no stale one
behind. Requests of the fast path (fast.py) do not come here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kubeedge.errors import Invalid, NotFound, Unavailable
from kubeedge.kit.http1 import Connection, Request, Response, Upgrade, serve_connection
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.access import PUBLIC, AccessDecision, Policy, decide, is_inside, without_token
from kubeedge.kubebus.http.forward import STREAM_BUFFER, error_response, exchange, has_body, relay, status_of
from kubeedge.kubebus.http.limits import LocalLimiter, ProxyLimits, RequestLimiter
from kubeedge.kubebus.http.url import ServiceName, Target, is_bare_l4, parse_l4

log = logging.getLogger("kubeedge.kubebus.http")


#: None: there is no such service. Raises Unavailable when there is one and no node serves it at this moment.
Resolve = Callable[[ServiceName], Awaitable[Target | None]]
#: Raises NotFound, and Unavailable when the access policy of the service is not known.
PolicyOf = Callable[[ServiceName], Policy]

_ALL_NUMBERS = 0xFFFF
_HOLD = 1.0  # seconds that an upload waits for a service to ask for it; many services know nothing of that


def everybody(service: ServiceName) -> Policy:
    """The policy that makes every service public."""
    return PUBLIC


class ServerProxy:
    """`nodes`: L4 peers with the numbers 1 to `nodes` are nodes of the tenant, all others act for clients outside of the tenant.
    `location`: what has the services, in words."""

    def __init__(
        self,
        resolve: Resolve,
        *,
        policy: PolicyOf = everybody,
        nodes: int = _ALL_NUMBERS,
        location: str = "this node",
        limits: ProxyLimits | None = None,
    ) -> None:
        self._resolve = resolve
        self._policy = policy
        self._nodes = nodes
        self._location = location
        self._limits = limits or ProxyLimits(concurrent=64)  # of one service; an edge node has little memory
        self.slots: RequestLimiter = LocalLimiter(self._limits.concurrent, "web service")

    @property
    def in_progress(self) -> int:
        """Requests and upgraded connections at this moment."""
        return self.slots.in_progress()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one L4 connection to its end."""
        await serve_connection(reader, writer, self._serve, limits=self._limits.http)

    async def _serve(self, request: Request) -> Response | Upgrade:
        if request.method == "CONNECT":
            return error_response(405, "CONNECT is not for a published web service")
        try:
            service, rest = parse_l4(request.target)
        except Invalid as exc:
            return error_response(404, f"no web service here: {exc}")
        # before anything else: a refusal must not say how the service is
        policy, refusal = self._admit(service, request)
        if refusal is not None:
            return refusal
        try:
            give_back = self.slots.take(service)
        except Exception as exc:
            return _failed(service, "", exc)
        where = ""
        try:
            target = await self._resolve(service)
            if target is None:
                give_back()
                return self._absent(service)
            if is_bare_l4(request.target) and not h.upgrade_of(
                request.headers
            ):  # no WebSocket client follows a redirect
                give_back()
                return Response(308, [("location", rest), ("cache-control", "no-store")])
            where = str(target)
            return await self._forward(request, target, rest, policy, give_back)
        except Exception as exc:
            give_back()
            return _failed(service, where, exc)
        except BaseException:
            give_back()
            raise

    def _admit(self, service: ServiceName, request: Request) -> tuple[Policy, Response | None]:
        """The answer for who may not use the service. What is not for outside is answered there as if it did not exist."""
        inside = is_inside(request.extra("peername"), self._nodes)
        try:
            policy = self._policy(service)
        except NotFound:
            return PUBLIC, self._absent(service)
        except Unavailable as exc:
            return PUBLIC, _failed(service, "", exc) if inside else self._absent(service)
        match decide(policy, request.headers, inside=inside):
            case AccessDecision.ALLOWED:
                return policy, None
            case AccessDecision.HIDDEN:
                return policy, self._absent(service)
            case decision:
                return policy, _unauthorized(service, wrong=decision is AccessDecision.TOKEN_WRONG)

    def _absent(self, service: ServiceName) -> Response:
        return error_response(404, f"{self._location} has no web service {service}", service=service)

    async def _forward(
        self, request: Request, target: Target, rest: str, policy: Policy, give_back: Callable[[], None]
    ) -> Response | Upgrade:
        outgoing = without_token(policy, h.request_headers(request.headers, has_body=has_body(request)))
        if not any(name == "connection" for name, _ in outgoing):
            outgoing.append(("connection", "close"))
        async with asyncio.timeout(self._limits.connect):
            reader, writer = await asyncio.open_connection(target.host, target.port, limit=STREAM_BUFFER)
        connection = Connection(reader, writer, limits=self._limits.http)
        try:
            answer = await exchange(request, connection, rest, outgoing, timeout=self._limits.answer, hold=_HOLD)
        except BaseException:
            connection.abort()
            raise

        async def finish() -> None:
            give_back()
            await connection.close()

        return relay(request, answer, connection, h.end_to_end(answer.headers), finish)


def _unauthorized(service: ServiceName, *, wrong: bool) -> Response:
    """RFC 6750 section 3: no error code when no token was shown."""
    what = "the token is not one of its tokens" if wrong else "Authorization: Bearer TOKEN, or X-KubeEdge-Token: TOKEN"
    answer = error_response(401, f"web service {service} is for holders of a token: {what}", service=service)
    challenge = 'Bearer realm="kubeedge"' + (', error="invalid_token"' if wrong else "")
    answer.headers.append(("www-authenticate", challenge))
    return answer


def _failed(service: ServiceName, where: str, error: Exception) -> Response:
    status = status_of(error)
    at = f" at {where}" if where else ""
    match error:
        case TimeoutError():
            reason = f"web service {service}{at} did not answer in time"
        case ConnectionRefusedError():
            reason = f"web service {service}{at} refuses connections: is it running?"
        case _ if status == 502 and where:
            reason = f"web service {service}{at} failed: {str(error) or type(error).__name__}"
        case _:
            reason = str(error)
    log.info("request failed service=%s target=%s status=%s reason=%s", service, where or "-", status, reason)
    return error_response(status, reason, retry_after=getattr(error, "retry_after", None), service=service)
