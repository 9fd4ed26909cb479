"""Requests of clusters of users' own, and of the programs and people that use these.

    POST /convert/devices.kubeedge.io                              devices in another version, for API servers, which show no certificate there
    ANY  /rules/TENANT/NODE/NAMESPACE/PATH                         the rules of KubeEdge's router, as /rules/... of the embedded API
    ANY  /devices/TENANT/NAMESPACE/NAME/methods[/METHOD]           methods of devices, as .../devices/NAME/methods of the embedded API
    ANY  /messages/TENANT/NODE[/readers[/NAME]]                    messages of a node's programs, as /messages/... of the embedded API

Who calls shows a token of the tenant's cluster (`kubectl create token`), and the cluster says whether it may: `create` rules, `get` or `create`
devices/methods, and devices for messages. A conversion is a function of what is sent, so whoever reaches the port may have one; one is made at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from kubeedge.api import device_methods, devices, rules
from kubeedge.api.client import KubeClient
from kubeedge.api.names import TenantId, tenant_id
from kubeedge.api.status import (
    BadRequest,
    Forbidden,
    NoSuchPath,
    StatusError,
    TooLarge,
    TooManyRequests,
    Unauthorized,
)
from kubeedge.apiserver import answers, content
from kubeedge.apiserver.device_calls import DeviceCalls
from kubeedge.apiserver.message_calls import MessageCalls
from kubeedge.apiserver.offload import Offload
from kubeedge.apiserver.rule_calls import RuleCalls, RulePath
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.client_network import client_network
from kubeedge.kit.http1 import BodyTooLarge, Request, Response, Upgrade
from kubeedge.kit.turns import Turns
from kubeedge.pki.identity import UserIdentity
from kubeedge_cloud.clustercalls import conversion, pieces
from kubeedge_cloud.clustercalls.webhook import PATH
from kubeedge_cloud.kubelets.core import ObjectRight, bearer
from kubeedge_cloud.kubelets.reviews import Reviews
from kubeedge_cloud.rules.objects import ClientRules

log = logging.getLogger("kubeedge.clustercalls")

_REVIEW = 32 * 1024 * 1024  # bytes: API servers send all objects of a list at once
_OF_ADDRESS = 8  # reviews of one client that are on their way or wait for their turn
_HELD = 2 * _REVIEW  # bytes of reviews; when there are more, each client has its share of so many
_SLOWEST = 20.0  # seconds for a body; an API server gives up after 30
_CONVERSIONS = TenantId("")  # whose share of the time they have: no tenant has that name


class ClusterServer:
    """`clusters` gives the client of a tenant's cluster, None: it has none here. `rule_calls` and `device_calls` are those of the embedded API, so
    that a tenant's bounds are the same."""

    def __init__(
        self,
        clusters: Callable[[TenantId], KubeClient | None],
        rule_calls: RuleCalls,
        device_calls: DeviceCalls,
        message_calls: MessageCalls,
        offload: Offload,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._clusters = clusters
        self._rules = rule_calls
        self._devices = device_calls
        self._messages = message_calls
        self._wall = wall
        self._offload = offload
        self._clock = clock
        self._reviews: dict[TenantId, tuple[KubeClient, Reviews]] = {}
        self._turns = Turns()  # of clients
        self._sizes: dict[str, dict[object, int]] = {}  # of what they have sent

    def who(self, request: Request) -> UserIdentity:
        """Nobody is known by a certificate here: connections count against the addresses of clients."""
        raise Unauthorized("Unauthorized")

    async def handle(self, request: Request) -> Response | Upgrade:
        """The answer to one request; errors are answers, too."""
        try:
            return await self._answer(request)
        except KubeEdgeError as exc:
            return answers.status_response(exc)
        except OSError:
            raise
        except Exception:
            log.exception("request failed: %s %s", request.method, request.target[:200])
            return answers.status_response(RuntimeError())

    async def _answer(self, request: Request) -> Response | Upgrade:
        raw, _, query = request.target.partition("?")
        match raw.split("/", 5):
            case ["", *_] if raw == PATH and request.method == "POST":
                return await self._convert(request)
            case ["", "rules", tenant, node, namespace, path]:
                right = ObjectRight("create", rules.GROUP, rules.RULES.version, rules.RULES.plural, "", namespace)
                known, client = await self._admitted(tenant, right, request)
                where = RulePath(node, namespace, path, query)
                return await self._rules.forward(ClientRules(known, client), request, where)
            case ["", "devices", tenant, namespace, name, rest]:
                methods, *more = rest.split("/")
                if methods != device_methods.SUBRESOURCE:
                    raise NoSuchPath
                verb = "get" if request.method in ("GET", "HEAD") else "create"
                at = devices.DEVICES
                right = ObjectRight(verb, at.group, at.version, at.plural, methods, namespace, name)
                known, client = await self._admitted(tenant, right, request)
                return await self._devices.answer(known, client, request, (namespace, name), more)
            case ["", "messages", tenant, *parts] if parts:
                verb = "get" if request.method in ("GET", "HEAD") else "create"
                at = devices.DEVICES
                right = ObjectRight(verb, at.group, at.version, at.plural, "", "")
                known, _ = await self._admitted(tenant, right, request)
                return await self._messages.answer(known, self._wall, request, parts)
        raise NoSuchPath

    async def _admitted(self, tenant: str, right: ObjectRight, request: Request) -> tuple[TenantId, KubeClient]:
        """The tenant's cluster has said that who calls may do that. Raises StatusError."""
        try:
            known = tenant_id(tenant)
        except Invalid as exc:
            raise NoSuchPath from exc
        client = self._clusters(known)
        if client is None:
            self._reviews.pop(known, None)
            raise Unauthorized("Unauthorized")
        has = self._reviews.get(known)
        if has is None or has[0] is not client:
            has = self._reviews[known] = client, Reviews(client, self._clock)
        address = str((request.extra("peername") or ("",))[0])
        user = await has[1].user_of(bearer(request.header("authorization")), address)
        if user is None:
            raise Unauthorized("Unauthorized")
        if not await has[1].grants(user, right, address):
            what = f"{right.resource}{f'/{right.subresource}' if right.subresource else ''}.{right.group}"
            shown = f'the namespace "{right.namespace}"' if right.namespace else "all namespaces"
            raise Forbidden(f'{what} is forbidden: User "{user.name}" cannot {right.verb} it in {shown}')
        return known, client

    async def _convert(self, request: Request) -> Response:
        """Nobody is known here, so who is slow, or sends much, is in nobody's way but his own."""
        address = client_network(str((request.extra("peername") or ("",))[0]))
        sizes = self._sizes.setdefault(address, {})
        if len(sizes) >= _OF_ADDRESS:
            raise TooManyRequests(f"{_OF_ADDRESS} reviews of {address} wait for their turn")
        mine = object()
        sizes[mine] = 0
        try:
            body = await self._body(request, sizes, mine)
            async with self._turns.of(address):
                data = await self._offload.run(_CONVERSIONS, len(body), partial(_review, body))
        finally:
            del sizes[mine]
            if not sizes:
                del self._sizes[address]
        return Response(200, [("content-type", content.JSON)], data)

    async def _body(self, request: Request, sizes: dict[object, int], mine: object) -> bytes:
        """`sizes`: of the client's reviews."""

        def arrived(size: int) -> None:
            sizes[mine] = size
            whole = sum(sum(one.values()) for one in self._sizes.values())
            if whole > _HELD and sum(sizes.values()) > _HELD / len(self._sizes):
                raise TooManyRequests("the reviews that wait for their turn are large: this one comes too early")

        try:
            async with asyncio.timeout(_SLOWEST):
                return await request.read(_REVIEW, arrived)
        except BodyTooLarge as exc:
            raise TooLarge(f"limit is {_REVIEW}: the review is larger") from exc
        except TimeoutError as exc:
            raise BadRequest("the body of the request comes too slowly") from exc


def _review(body: bytes) -> bytes:
    try:
        return pieces.encoded(conversion.answer(pieces.review(body)))
    except Invalid as exc:
        if isinstance(exc, StatusError):
            raise
        raise BadRequest(str(exc)) from exc
