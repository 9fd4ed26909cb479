"""The API server's front end: who asks (certificate), which path, which verb.

Lives here:      authentication, routing, limits, errors into Status objects.
Lives elsewhere: what a verb does (verbs.py), objects (registry.py), HTTP framing (kubeedge.kit.http1).

The tenant comes from the client certificate, from the token of a service account, whose signature is the tenant's (or from `authenticate`, for the
edge's own API). No field, path or header of a request can name another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import h11

from kubeedge.api import access, device_methods, devices, service_accounts
from kubeedge.api.access import Attributes
from kubeedge.api.names import TenantId
from kubeedge.api.resources import PODS, Resources, Row
from kubeedge.api.status import Forbidden, MethodNotAllowed, NoSuchPath, Unauthorized
from kubeedge.apiserver import answers, content, discovery, node_metrics, openapi, reviews, upgrades, verbs, watching
from kubeedge.apiserver.accounts import AccountIdentity, forbidden
from kubeedge.apiserver.authentication import bearer, by_certificate
from kubeedge.apiserver.call import Address, Call, address, attributes
from kubeedge.apiserver.device_calls import DeviceCalls
from kubeedge.apiserver.discovery import VersionInfo
from kubeedge.apiserver.logs import NodeStream, logs
from kubeedge.apiserver.message_calls import MessageCalls
from kubeedge.apiserver.message_log import MessageLog
from kubeedge.apiserver.rechecks import Rechecks
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.rule_calls import RuleCalls
from kubeedge.apiserver.shared_events import SharedEvents
from kubeedge.apiserver.streams import OwnedStream
from kubeedge.apiserver.tenant_counts import counted_for
from kubeedge.apiserver.unread import LIMIT, UnreadBytes
from kubeedge.apiserver.write_turns import WriteTurns
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.http1 import Request, Response, Upgrade
from kubeedge.pki.identity import UserIdentity

_MAX_WATCHES = 1000  # open watches of one tenant; each holds a connection and an entry in the store's list
_MAX_WRITES = 64  # requests of one tenant that may bring a body of 3 MiB at the same time
_MAX_LOGS = 100  # `kubectl logs` of one tenant; each holds a connection to a node, too
_MAX_SESSIONS = 100  # exec, attach and port-forward of one tenant; each holds a connection to a node, too
_MAX_LOOKS = 8  # requests of one tenant for metrics of its nodes; each asks many of them
_LISTS = 1  # of one tenant that are made at the same time: it is the processor that makes them
_SMALL = 64 * 1024  # bytes of an answer that need not be counted
_NOWHERE = Address(Row(PODS, "pod"))  # for requests on what is not stored
_HEALTH = ("/healthz", "/livez", "/readyz")

log = logging.getLogger("kubeedge.apiserver")


class ApiServer:
    """`registries` gives a tenant's registry, None for a tenant that does not exist (any more)."""

    def __init__(
        self,
        registries: Callable[[TenantId], Registry | None],
        node_stream: NodeStream,
        version: VersionInfo | None = None,
        authenticate: Callable[[Request], UserIdentity] | None = None,
        check: Callable[[UserIdentity], Awaitable[None]] | None = None,
        *,
        unread: int = LIMIT,
        rule_stream: NodeStream | None = None,
        messages: Callable[[TenantId], MessageLog] | None = None,
    ) -> None:
        """`rule_stream` connects to what rules and calls of methods reach on a node; None: there are none. `messages`: of programs of a tenant's nodes. `check` raises Unauthorized for an identity that is authentic but has no access (any more).

        `unread`: bytes of answers that may wait for the clients of one tenant.
        """
        self._registries = registries
        self._node_stream = node_stream
        self._version = version or VersionInfo()
        self.who = authenticate or self._by_certificate_or_token  # raises Unauthorized or Forbidden
        self._check = check
        self._rechecks = Rechecks(self._still)
        self._callers: weakref.WeakKeyDictionary[asyncio.Task[Any], UserIdentity] = weakref.WeakKeyDictionary()
        self._watches: Counter[TenantId] = Counter()
        self._writes: Counter[TenantId] = Counter()
        self._turns = WriteTurns(time.monotonic)
        self._logs: Counter[TenantId] = Counter()
        self._sessions: Counter[TenantId] = Counter()
        self._looks: Counter[TenantId] = Counter()
        self._node_looks = node_metrics.NodeLooks(node_stream)
        self._rules = RuleCalls(rule_stream) if rule_stream is not None else None
        self._device_calls = DeviceCalls(rule_stream) if rule_stream is not None else None
        self._messages = MessageCalls(messages) if messages is not None else None
        self._lists: dict[TenantId, asyncio.Semaphore] = {}
        self._events: dict[TenantId, SharedEvents] = {}
        self.unread = UnreadBytes(unread)
        self._unread_limit = unread

    def open_watches(self, tenant: TenantId) -> int:
        """How many watches the tenant has open at this process; they count against its limit."""
        return self._watches[tenant]

    def end(self, tenant: TenantId, kubeconfig: str) -> None:
        """Connections that came with this kubeconfig end now, with their watches and whatever else they are about."""
        for task, who in list(self._callers.items()):
            if (who.tenant, who.kubeconfig) == (tenant, kubeconfig):
                task.cancel()

    async def handle(self, request: Request) -> Response | Upgrade:
        """Answers every request; raises only when the connection is broken."""
        try:
            return await self._answer(request)
        except KubeEdgeError as exc:
            return answers.status_response(exc)
        except (OSError, h11.RemoteProtocolError):
            raise  # the connection is broken, so there is no one to answer
        except Exception:
            log.exception("request failed: %s %s", request.method, request.target[:200])
            return answers.status_response(RuntimeError())

    async def _answer(self, request: Request) -> Response | Upgrade:
        path = request.path
        if path in _HEALTH or path.startswith(tuple(f"{health}/" for health in _HEALTH)):
            return Response(200, [("content-type", "text/plain")], b"ok")
        registry, identity = await self._admitted(request)
        parts = [part for part in path.split("/") if part]
        match parts:
            case ["apis", ("authorization.k8s.io" | "authentication.k8s.io") as group, "v1", plural]:
                body = await Call(registry, _NOWHERE, request, {}).object()
                return answers.ok(await reviews.review(registry, identity, request.method, (group, plural), body))
            case ["apis", node_metrics.GROUP, node_metrics.VERSION, resource, *rest]:
                return await self._metrics(registry, identity, request, [resource, *rest])
            case ["api", version, resource, *rest]:
                return await self._resource(registry, identity, request, ("", version), [resource, *rest])
            case ["apis", devices.GROUP, _, "namespaces", _, "devices", _, device_methods.SUBRESOURCE, *_]:
                return await self._methods(registry, identity, request, parts)
            case ["apis", group, version, resource, *rest]:
                return await self._resource(registry, identity, request, (group, version), [resource, *rest])
            case ["rules", _, _, *_] if self._rules is not None:
                return await self._rules.call(registry, identity, request)
            case ["messages", *rest] if self._messages is not None and rest:
                return await self._messages.call(registry, identity, request, rest)
            case ["openid", "v1", "jwks"] if registry.accounts is not None:
                return answers.ok(registry.accounts.jwks(), "application/jwk-set+json")
            case [".well-known", "openid-configuration"] if registry.accounts is not None:
                return answers.ok(registry.accounts.discovery(request.header("host") or "kubernetes.default.svc"))
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed
        described = Resources([*registry.served, *node_metrics.ROWS])
        return _describe(self._version, described, registry.served, request, parts)

    def _by_certificate_or_token(self, request: Request) -> UserIdentity:
        """A certificate counts first: who shows one may send a token for others on the same connection."""
        tls = request.extra("ssl_object")
        if (token := bearer(request)) and not (tls is not None and tls.getpeercert()):
            return self.account(token)
        return by_certificate(request)

    def account(self, token: str) -> AccountIdentity:
        """Whose token it is; that account and pod still exist is looked at later. Raises Unauthorized."""
        try:
            key = str(service_accounts.parts(token).header.get("kid"))
        except Invalid as exc:
            raise Unauthorized("Unauthorized: not the token of a service account") from exc
        registry = self._registries(TenantId(key.partition(".")[0]))
        if registry is None or registry.accounts is None:
            raise Unauthorized("Unauthorized: the token is not one of this API's")
        return registry.accounts.identity(token)

    async def _admitted(self, request: Request) -> tuple[Registry, UserIdentity]:
        identity = self.who(request)
        if self._check is not None and not isinstance(identity, AccountIdentity):
            if (
                task := asyncio.current_task()
            ) is not None:  # of the connection; before the check: what ends after it finds us
                self._callers[task] = identity
            await self._check(identity)
        registry = self._registries(identity.tenant)
        if registry is None:
            raise Forbidden(f"tenant {identity.tenant} does not exist")
        if isinstance(identity, AccountIdentity) and registry.accounts is not None:
            identity = await registry.accounts.checked(
                identity, lambda account: access.granted(account, registry.served)
            )
        return registry, identity

    async def _still(self, who: UserIdentity, asked: Attributes) -> None:
        """Raises Unauthorized for one who would not be let in any more, Forbidden for an account that may not ask that any more."""
        if (registry := self._registries(who.tenant)) is None:
            raise Forbidden(f"tenant {who.tenant} does not exist")
        if not isinstance(who, AccountIdentity):
            if self._check is not None:
                await self._check(who)
        elif registry.accounts is not None:
            now = await registry.accounts.checked(who, lambda account: access.granted(account, registry.served))
            if not now.may(asked):
                raise forbidden(now, asked)

    async def _resource(
        self, registry: Registry, identity: UserIdentity, request: Request, of: tuple[str, str], parts: list[str]
    ) -> Response | Upgrade:
        events = self._events.setdefault(registry.tenant, SharedEvents(self._unread_limit // 8))
        call = Call(
            registry,
            address(registry.served, *of, parts),
            request,
            request.query,
            unread=self.unread,
            events=events,
        )
        if isinstance(identity, AccountIdentity) and not identity.may(asked := attributes(call)):
            raise forbidden(identity, asked)
        at = call.address
        if at.subresource in ("exec", "attach", "portforward"):
            return await self._upgrade(call, identity)
        if request.method in ("GET", "HEAD"):
            return self._slowly(call, await self._read(call, identity))
        counted = counted_for(self._writes, registry.tenant, _MAX_WRITES, "requests that write")
        with counted, self._turns.of(registry.tenant) as call.turn:
            return await self._write(call)

    async def _methods(
        self, registry: Registry, identity: UserIdentity, request: Request, parts: list[str]
    ) -> Response:
        at = address(registry.served, parts[1], parts[2], parts[3:8])
        call = Call(registry, at, request, request.query)
        if isinstance(identity, AccountIdentity) and not identity.may(asked := attributes(call)):
            raise forbidden(identity, asked)
        if self._device_calls is None:
            raise MethodNotAllowed
        return await self._device_calls.answer(registry.tenant, registry, request, (at.namespace, at.name), parts[8:])

    async def _metrics(
        self, registry: Registry, identity: UserIdentity, request: Request, parts: list[str]
    ) -> Response:
        call = Call(registry, node_metrics.metrics_address(parts), request, request.query)
        if isinstance(identity, AccountIdentity) and not identity.may(asked := attributes(call)):
            raise forbidden(identity, asked)
        with counted_for(self._looks, registry.tenant, _MAX_LOOKS, "requests for metrics"):
            return await node_metrics.metrics(call, self._node_looks)

    async def _read(self, call: Call, who: UserIdentity) -> Response:
        at = call.address
        match at.subresource:
            case "log":
                return await self._log(call, who)
            case "":
                if call.flag("watch"):
                    return await self._watch(call, who)
                return await (verbs.get(call) if at.name else self._list(call))
            case "status" | "scale" | "ephemeralcontainers" | "resize":
                return await verbs.get(call)
        raise MethodNotAllowed

    async def _write(self, call: Call) -> Response:
        at = call.address
        match call.request.method, at.subresource:
            case "POST", "binding":
                return await verbs.bind(call)
            case "POST", "eviction":
                return await verbs.evict(call)
            case "POST", "token":
                return await verbs.create_token(call)
            case _, "log" | "binding" | "eviction" | "token":
                raise MethodNotAllowed
            case "POST", "" if not at.name:
                return await verbs.create(call)
            case "PUT", _ if at.name:
                return await verbs.update(call)
            case "PATCH", _ if at.name:
                return await verbs.patch_(call)
            case "DELETE", "":
                return await (verbs.delete(call) if at.name else verbs.delete_collection(call))
        raise MethodNotAllowed

    async def _list(self, call: Call) -> Response:
        """A list is made in memory, of several times its size: not many at once, and none while others wait to be read."""
        tenant = call.registry.tenant
        async with self._lists.setdefault(tenant, asyncio.Semaphore(_LISTS)):
            self.unread.check(tenant, _now())
            return await verbs.list_(call)

    def _slowly(self, call: Call, answer: Response) -> Response:
        """A large answer counts until it is read."""
        data = answer.body
        if not isinstance(data, bytes) or len(data) <= _SMALL:
            return answer
        unread = self.unread.hold(call.registry.tenant, data, call.request.abort, _now())

        async def pieces() -> AsyncGenerator[bytes, None]:
            for start in range(0, len(data), _SMALL):
                yield data[start : start + _SMALL]
                self.unread.progress(unread, _now())

        headers = [*answer.headers, ("content-length", str(len(data)))]
        return Response(answer.status, headers, OwnedStream(pieces(), lambda: self.unread.release(unread)))

    async def _log(self, call: Call, who: UserIdentity) -> Response:
        counted = contextlib.ExitStack()
        counted.enter_context(counted_for(self._logs, call.registry.tenant, _MAX_LOGS, "streams of logs"))
        counted.callback(self._rechecks.begin(who, attributes(call)))
        try:
            answer = await logs(call, self._node_stream)
            if not isinstance(answer.body, OwnedStream):
                counted.close()
                return answer
            answer.body.on_end(counted.close)
            return answer
        except BaseException:
            counted.close()
            raise

    async def _upgrade(self, call: Call, who: UserIdentity) -> Response | Upgrade:
        """The session counts until it is over."""
        counted = contextlib.ExitStack()
        counted.enter_context(counted_for(self._sessions, call.registry.tenant, _MAX_SESSIONS, "streaming sessions"))
        counted.callback(self._rechecks.begin(who, attributes(call)))
        try:
            return await upgrades.upgrade(call, self._node_stream, counted.close)
        except BaseException:
            counted.close()
            raise

    async def _watch(self, call: Call, who: UserIdentity) -> Response:
        """The watch counts until its response's stream ends, which may be long after this returns."""
        counted = contextlib.ExitStack()
        counted.enter_context(counted_for(self._watches, call.registry.tenant, _MAX_WATCHES, "watches"))
        counted.callback(self._rechecks.begin(who, attributes(call)))
        try:
            return await watching.watch(call, counted.close)
        except BaseException:
            counted.close()
            raise


def _describe(info: VersionInfo, served: Resources, stored: Resources, request: Request, parts: list[str]) -> Response:
    """What is served: versions, groups, resources; and documents of what is stored."""
    accept = request.header("accept")
    match parts:
        case []:
            paths = [
                "/api",
                "/api/v1",
                "/apis",
                *(f"/apis/{g}" for g in discovery.group_names(served)),
                *_HEALTH,
                "/version",
            ]
            return answers.ok({"paths": sorted(paths)})
        case ["version"]:
            return answers.ok(discovery.version(info))
        case ["api" | "apis" as root]:
            chosen = content.negotiate(accept, transforms=("APIGroupDiscoveryList",))
            if chosen.as_kind:
                media = f"{content.JSON};g={chosen.group};v={chosen.version};as={chosen.as_kind}"
                return answers.ok(discovery.aggregated(served, root == "api", chosen.version), media)
            return answers.ok(discovery.api_versions() if root == "api" else discovery.api_group_list(served))
        case ["api", "v1"]:
            return answers.found(discovery.resource_list(served, "", "v1"))
        case ["apis", group]:
            return answers.found(discovery.api_group(served, group))
        case ["apis", group, version]:
            return answers.found(discovery.resource_list(served, group, version))
        case ["openapi", "v2"]:
            if accept is not None and "protobuf" in accept:
                return Response(200, [("content-type", openapi.PROTOBUF_V2)], openapi.version_2_protobuf(stored.rows))
            return Response(200, [("content-type", content.JSON)], openapi.version_2_json(stored.rows))
        case ["openapi", "v3"]:
            return Response(200, [("content-type", content.JSON)], openapi.version_3_index(stored.rows))
        case ["openapi", "v3", "api", version]:
            return answers.document(openapi.version_3(stored.rows, "", version))
        case ["openapi", "v3", "apis", group, version]:
            return answers.document(openapi.version_3(stored.rows, group, version))
    raise NoSuchPath


def _now() -> float:
    return asyncio.get_running_loop().time()
