"""Calls of Rules whose source is `rest`: a request to the tenant's own API that goes on to a node, as a message on its broker (eventbus) or to an
HTTP service there (servicebus).

    ANY /rules/NODE/NAMESPACE/PATH[/MORE][?QUERY]

Who calls is known by certificate or token as for any request, and needs the right to create Rules in the namespace. Bodies stream. Rules are read
for each call, so what was changed counts at once.

Lives elsewhere: the node's end (kubeedge.devices.rules), which rule a path is for (kubeedge.api.rules).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

from kubeedge.api import meta, rules
from kubeedge.api.access import Attributes
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.status import BadRequest, NodeUnreachable, NoSuchPath, TooLarge, TooManyRequests
from kubeedge.apiserver.accounts import AccountIdentity, forbidden
from kubeedge.apiserver.logs import CONNECT, NodeStream, unreachable
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.rule_counts import RuleCounts, RuleObjects
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.http1 import BodyTooLarge, ClientGone, Connection, Request, Response, Upgrade, text_response
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.forward import error_response, exchange, has_body, relay, status_of
from kubeedge.pki.identity import UserIdentity

log = logging.getLogger("kubeedge.apiserver")

MESSAGE = 192 * 1024  # bytes of a message on a broker
_BODY = 64 * 1024 * 1024  # bytes of a request, and of an answer, of a service
_ANSWER = 60.0  # seconds in which nothing moves
_HOLD = 2.0  # seconds that an upload waits for a service to ask for it
_OF_RULE = 16  # calls of one rule at the same time
_OF_TENANT = 64
MOST_RULES = 500  # of a namespace that are looked at
SERVED = "x-kubeedge-service"  # the node's mark of an answer that a service gave
_SECRET = ("authorization", "cookie")  # who calls is this API's business, and not the service's


@dataclass(frozen=True, slots=True)
class RulePath:
    """What a call is for: a path of rules of a namespace, at a node."""

    node: str
    namespace: str
    path: str
    query: str = ""


def rule_path(target: str) -> RulePath | None:
    """The parts of /rules/NODE/NAMESPACE/PATH[?QUERY]; None: some are missing."""
    raw, _, query = target.partition("?")
    parts = raw.split("/", 4)
    return RulePath(parts[2], parts[3], parts[4], query) if len(parts) == 5 else None


class StoredRules:
    """The rules of a tenant of the embedded API."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @property
    def tenant(self) -> TenantId:
        """The tenant whose rules they are."""
        return self._registry.tenant

    async def rules(self, namespace: str) -> Sequence[Object]:
        """Those of a namespace."""
        return (await self._registry.list_page(rules.RULES, namespace, limit=MOST_RULES)).items

    async def endpoint(self, namespace: str, name: str) -> Object:
        """The RuleEndpoint of that name. Raises ObjectNotFound."""
        return await self._registry.get(rules.RULEENDPOINTS, namespace, name)

    async def count(self, namespace: str, name: str, change: Callable[[Object], Object]) -> None:
        """Write the status that `change` gives a Rule. Raises ObjectNotFound."""
        await self._registry.modify(rules.RULES, namespace, name, change, subresource="status")


class RuleCalls:
    """How many are open, and what their Rules' statuses do not count yet; of all tenants."""

    def __init__(self, node_stream: NodeStream) -> None:
        self._node_stream = node_stream
        self._open: Counter[tuple[TenantId, str, str]] = Counter()
        self._counts = RuleCounts()

    async def call(self, registry: Registry, identity: UserIdentity, request: Request) -> Response | Upgrade:
        """The node's answer, or its service's, for who may create Rules. Raises StatusError."""
        where = rule_path(request.target)
        if registry.served.by_path(rules.GROUP, "v1", rules.RULES.plural) is None or where is None:
            raise NoSuchPath
        asked = Attributes("create", rules.GROUP, rules.RULES.plural, where.namespace)
        if isinstance(identity, AccountIdentity) and not identity.may(asked):
            raise forbidden(identity, asked)
        return await self.forward(StoredRules(registry), request, where)

    async def forward(self, objects: RuleObjects, request: Request, where: RulePath) -> Response | Upgrade:
        """The same for a caller who has the right. `objects` are of the caller's tenant."""
        rule, more, target = await _found(objects, where.namespace, where.path.strip("/"))
        key = (objects.tenant, where.namespace, meta.name_of(rule))
        with contextlib.ExitStack() as slot:
            slot.enter_context(self._slot(key))
            at = (where.node, rule, target)
            try:
                answer, failure = await self._forward(objects.tenant, request, at, more, where.query, slot)
            except ClientGone:
                raise
            except KubeEdgeError as exc:
                self._counts.note(objects, key, str(exc))
                raise
            self._counts.note(objects, key, failure)
            return answer

    @contextlib.contextmanager
    def _slot(self, key: tuple[TenantId, str, str]) -> Iterator[None]:
        """A call counts for its rule, and for its tenant, until its answer is over."""
        whole = (key[0], "", "")
        for one, limit, what in ((key, _OF_RULE, f"rule {key[1]}/{key[2]}"), (whole, _OF_TENANT, f"tenant {key[0]}")):
            if self._open[one] >= limit:
                raise TooManyRequests(f"{limit} calls of {what} are open: wait for one")
        self._open.update((key, whole))
        try:
            yield
        finally:
            for one in (key, whole):
                self._open[one] -= 1
                if not self._open[one]:
                    del self._open[one]

    async def _forward(
        self,
        tenant: TenantId,
        request: Request,
        at: tuple[str, Object, Object],
        more: str,
        query: str,
        slot: contextlib.ExitStack,
    ) -> tuple[Response | Upgrade, str]:
        """The answer, and why the message has not arrived; "": it has."""
        node, rule, target = at
        match rules.kind_of(target):
            case rules.EVENTBUS:
                topic = rules.text_of(rule, "targetResource", "topic").strip("/")
                if not topic:
                    raise BadRequest("spec.targetResource.topic of the rule is missing: a rule to eventbus needs one")
                topic += more
                body = await _message(request)
                connection = await self._connected(tenant, node)
                return await _published(connection, node, topic, body)
            case rules.SERVICEBUS:
                path = rules.text_of(rule, "targetResource", "path").strip("/")
                service = f"/rules/servicebus/{rules.service_port(target)}/{quote(path)}{more}" + (
                    f"?{query}" if query else ""
                )
                _fits(request)
                connection = await self._connected(tenant, node)
                return await _exchanged(connection, node, request, service, slot)
        raise BadRequest(f"a rule from rest goes to eventbus or servicebus, and not to {rules.kind_of(target)[:64]!r}")

    async def _connected(self, tenant: TenantId, node: str) -> Connection:
        try:
            async with asyncio.timeout(CONNECT):
                return Connection(*await self._node_stream(tenant, NodeName(node)))
        except (TimeoutError, OSError, KubeEdgeError) as exc:
            raise unreachable(node[:253], exc, "its rules can be called") from exc


async def _found(objects: RuleObjects, namespace: str, path: str) -> tuple[Object, str, Object]:
    """(rule, what is left of the path, its target). Raises NoSuchPath, and ObjectNotFound for a missing RuleEndpoint."""
    for rule, more in rules.for_path(await objects.rules(namespace), path):
        spec = rule["spec"]
        source = await objects.endpoint(namespace, str(spec["source"]))
        if rules.kind_of(source) == rules.REST:
            return rule, more, await objects.endpoint(namespace, str(spec["target"]))
    raise NoSuchPath(
        f"no rule of namespace {namespace} from a rest endpoint has a path that begins /{path.strip('/')[:200]}"
    )


async def _message(request: Request) -> bytes:
    try:
        async with asyncio.timeout(_ANSWER):
            return await request.read(MESSAGE)
    except BodyTooLarge as exc:
        raise TooLarge(f"limit is {MESSAGE}: the message is larger") from exc
    except TimeoutError as exc:
        raise BadRequest("the body of the request comes too slowly") from exc


def _fits(request: Request) -> None:
    length = request.header("content-length") or "0"
    if length.isdigit() and int(length) > _BODY:
        raise TooLarge(f"limit is {_BODY}: the body of the request is larger")


async def _published(connection: Connection, node: str, topic: str, body: bytes) -> tuple[Response, str]:
    try:
        async with asyncio.timeout(_ANSWER):
            target = f"/rules/eventbus?topic={quote(topic, safe='')}"
            answer = await connection.request("POST", target, [("host", node)], body)
            text = (await answer.read(4096)).decode("utf-8", "replace")
    except (TimeoutError, OSError, EOFError) as exc:
        why = "no answer in time" if isinstance(exc, TimeoutError) else str(exc) or "the connection has ended"
        raise NodeUnreachable(
            f"node {node[:253]} has taken the message and not said that its broker has it: {why}"
        ) from exc
    finally:
        connection.abort()
    if answer.status == 200:
        return text_response(200, "message delivered"), ""
    if answer.status == 404:
        return _switched_off(node)
    return _failed(answer.status, node, text.strip() or f"status {answer.status}")


def _failed(status: int, node: str, why: str) -> tuple[Response, str]:
    text = f"node {node[:253]}: {why}"[:500]
    return error_response(status, text, node=node[:253]), text


def _switched_off(node: str) -> tuple[Response, str]:
    return _failed(502, node, "it takes no rules (modules.devices.rules)")


async def _exchanged(
    connection: Connection, node: str, request: Request, service: str, slot: contextlib.ExitStack
) -> tuple[Response | Upgrade, str]:
    sizes = [0, 0]

    def count(sent: int, received: int) -> None:
        sizes[0] += sent
        sizes[1] += received
        if max(sizes) > _BODY:
            raise TooLarge(f"limit is {_BODY}: a body is larger")

    headers = [
        (k, v) for k, v in h.request_headers(request.headers, has_body=has_body(request)) if k not in (*_SECRET, "host")
    ]
    try:
        answer = await exchange(
            request, connection, service, [("host", node), *headers], timeout=_ANSWER, hold=_HOLD, count=count
        )
    except (TimeoutError, OSError, KubeEdgeError) as exc:
        connection.abort()
        if isinstance(exc, ClientGone | TooLarge):
            raise
        return _failed(status_of(exc), node, str(exc) or "no answer in time")
    except BaseException:
        connection.abort()
        raise
    found = h.end_to_end(answer.headers)
    served = any(name == SERVED for name, _ in found)
    if not served and answer.status == 404:
        connection.abort()
        return _switched_off(node)
    rest = slot.pop_all()

    async def finish() -> None:
        rest.close()
        await connection.close()

    shown = [pair for pair in found if pair[0] != SERVED]
    has_failed = answer.status >= 500 or not (served or answer.status == 101)
    failure = (
        f"node {node[:253]} answered {answer.status}{'' if served else ' itself, not its service'}"
        if has_failed
        else ""
    )
    return relay(request, answer, connection, shown, finish, count=count), failure
