"""The rules of one tenant from its nodes: each reads the log of its node's messages, and sends those that are for it to its REST endpoint, in their order.

    Rule + RuleEndpoints ──> /t/T/edge/N/desired/messages/_/topics     which topics the node sends up, and which URLs its ServiceBus takes
    /t/T/edge/N/messages/log/... ──> POST                              each is a reader of its own (kubeedge.apiserver.message_log)

A message that an endpoint does not take for now is sent again with growing delays, and holds up its rule; after a day it is given up and counted as failed.
What was sent and not yet noted when a process dies is sent again: `idempotency-key` tells.

Lives elsewhere: which rules there are (core.py), where they may lead (addresses.py), HTTP (delivery.py), what statuses count (rule_counts.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence, Set
from contextlib import aclosing

from kubeedge.api import keys, node_messages, rules
from kubeedge.api.client import KubeClient
from kubeedge.api.names import NamespacedName, NodeName, TenantId
from kubeedge.api.resources import SECRETS
from kubeedge.apiserver.logs import NodeStream
from kubeedge.apiserver.message_log import LoggedMessage, MessageLog
from kubeedge.apiserver.rule_counts import RuleCounts
from kubeedge.errors import Conflict, KubeEdgeError, NotFound, Unavailable
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.bucket import Bucket
from kubeedge.kit.tasks import TaskSet, cancel_and_wait
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store
from kubeedge.store.reflector import reflect
from kubeedge_cloud.controllers.informer.client import CachedClient
from kubeedge_cloud.controllers.objects import key_of
from kubeedge_cloud.rules import core
from kubeedge_cloud.rules.addresses import TargetNetwork
from kubeedge_cloud.rules.answers import NodeAnswers
from kubeedge_cloud.rules.core import MessageRoute
from kubeedge_cloud.rules.delivery import MessageRefused, RuleDelivery, ask_of, secret_data
from kubeedge_cloud.rules.lookups import RuleLookups
from kubeedge_cloud.rules.objects import ClientRules
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import node_key

log = logging.getLogger("kubeedge.rules")

_AGAIN = Backoff(0.5, 60.0, jitter=0.5)
_GIVE_UP = 24 * 3600.0  # seconds for which one message is tried
_READ, _BYTES = (
    512,
    256 * 1024,
)  # messages that are read at once: a block of many small ones is decoded with each reading
_BATCH = 16  # of those, messages that are sent before the log hears of it
_WAIT = 300.0  # seconds of one wait for messages
_SAY = 3600.0  # seconds after which the log hears that a rule still reads
_RATE, _BURST = 50.0, 200.0  # messages of a rule, a second in the long run and at once
_AT_ONCE = 16  # requests of a tenant
_RETRY = 5.0  # seconds, after a failure of the store
_GRACE = 600.0  # seconds that the messages of a rule wait which leads nowhere: its endpoint may be made anew
_TOPICS = node_messages.ANSWERS.removeprefix(keys.DESIRED) + node_messages.TOPICS
_TAKEN = node_messages.ANSWERS.removeprefix(keys.DESIRED) + node_messages.TAKEN


class TenantRules:
    """`allowed`: networks, beyond the Internet, that rules may reach. `fence` gives compares for its transactions."""

    def __init__(
        self,
        tenant: TenantId,
        store: Store,
        client: KubeClient,
        tenants: TenantManager,
        counts: RuleCounts,
        *,
        allowed: Sequence[TargetNetwork],
        wall: Callable[[], float],
        fence: Callable[[], Sequence[Compare]] = tuple,
        node_stream: NodeStream | None = None,
    ) -> None:
        """`node_stream` connects to nodes, for answers; None: there are none."""
        self._tenant, self._store, self._tenants, self._counts = tenant, store, tenants, counts
        self._client = client
        self._allowed, self._wall, self._fence = allowed, wall, fence
        self._cached = CachedClient(client)
        self._objects = ClientRules(tenant, client)
        self._lookups = RuleLookups()
        self._answers = NodeAnswers(tenant, node_stream)
        self._log = MessageLog(store, tenant)
        self._nodes: set[NodeName] = set()
        self._rows: dict[NodeName, bytes] = {}  # topics that nodes know of
        self._tasks: dict[MessageRoute, asyncio.Task[None]] = {}
        self._told: dict[NamespacedName, str] = {}
        self._left: dict[tuple[NodeName, str], float] = {}  # readers of such rules, and until when they are kept
        self._later: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._sending = asyncio.Semaphore(_AT_ONCE)
        self._set = TaskSet(f"rules of {tenant}")

    async def run(self, serving: asyncio.Event) -> None:
        """Serves until it is cancelled."""
        informers = [self._cached.informer(resource) for resource in (rules.RULES, rules.RULEENDPOINTS)]
        async with asyncio.TaskGroup() as group, TaskSet(f"rules of {self._tenant}") as self._set:
            for informer in informers:
                group.create_task(informer.run(), name=f"{informer.resource.plural} of {self._tenant}")
                await informer.synced.wait()
                informer.on_change(lambda before, after: self._changed.set())
            firsts = asyncio.Event(), asyncio.Event()
            group.create_task(self._follow_nodes(firsts[0]), name="nodes of rules")
            group.create_task(self._follow_rows(firsts[1]), name="topics of rules")
            for first in firsts:
                await first.wait()
            serving.set()
            await self._forget_others()
            while True:
                self._changed.clear()
                await self._look()
                await self._changed.wait()

    async def _follow_nodes(self, first: asyncio.Event) -> None:
        async with aclosing(self._tenants.follow_nodes(self._tenant)) as changes:
            async for records in changes:
                if self._nodes != records.keys():
                    self._nodes = set(records)
                    self._changed.set()
                first.set()

    async def _follow_rows(self, first: asyncio.Event) -> None:
        prefix = keys.edges(self._tenant)

        def is_topics(key: str) -> bool:
            return (
                key.endswith(_TOPICS) and key.removeprefix(prefix).partition("/")[2] == f"{keys.DESIRED[1:]}{_TOPICS}"
            )

        async with aclosing(reflect(self._store, prefix, wanted=is_topics)) as changes:
            async for values, changed in changes:
                for key in changed:
                    node = NodeName(key.removeprefix(prefix).partition("/")[0])
                    if key in values:
                        self._rows[node] = values[key]
                    else:
                        self._rows.pop(node, None)
                    self._changed.set()
                first.set()

    def _routes(self) -> tuple[list[MessageRoute], dict[NamespacedName, str]]:
        endpoints = {key_of(one): one for one in self._cached.informer(rules.RULEENDPOINTS)}
        return core.routes(self._cached.informer(rules.RULES), endpoints)

    async def _forget_others(self) -> None:
        """Readers of rules that were deleted while no process led."""
        made, _ = self._routes()
        known = {(route.node, route.reader) for route in made}
        until = asyncio.get_running_loop().time() + _GRACE
        for node in sorted(self._nodes):
            for name in await self._log.readers(node):
                if name.startswith(core.READER) and (node, name) not in known:
                    self._left[node, name] = until

    async def _look(self) -> None:
        """Everything as the objects are now."""
        made, wrong = self._routes()
        wrong |= {route.key: f"no node {route.node} has joined" for route in made if route.node not in self._nodes}
        for key, why in wrong.items():
            if self._told.get(key) != why:
                self._counts.note(self._objects, (self._tenant, *key), why, counts=False)
        self._told = wrong
        try:
            await self._write(core.topics(made))
        except KubeEdgeError as exc:
            log.warning("tenant=%s topics of rules: %s", self._tenant, exc)
            asyncio.get_running_loop().call_later(_RETRY, self._changed.set)
        running = {route for route in made if route.node in self._nodes}
        for route in self._tasks.keys() - running:
            await cancel_and_wait(self._tasks.pop(route))
            self._left[route.node, route.reader] = asyncio.get_running_loop().time() + _GRACE
        await self._forget({(route.node, route.reader) for route in running})
        for route in running - self._tasks.keys():
            self._tasks[route] = self._set.start(self._serve(route), f"rule {'/'.join(route.key)}")

    async def _forget(self, running: Set[tuple[NodeName, str]]) -> None:
        """Readers whose rules are no more, or have led nowhere for long."""
        loop = asyncio.get_running_loop()
        there = core.readers(self._cached.informer(rules.RULES))
        for at, until in list(self._left.items()):
            if at not in running:
                if at in there and at[0] in self._nodes and loop.time() < until:
                    continue
                await self._log.forget(*at)
            del self._left[at]
        if self._later is not None:
            self._later.cancel()
        self._later = loop.call_at(min(self._left.values()), self._changed.set) if self._left else None

    async def _write(self, wanted: dict[NodeName, list[str]]) -> None:
        for node in self._rows.keys() | wanted.keys():
            row = node_messages.encode_topics(wanted[node]) if node in wanted else None
            if row == self._rows.get(node) or (row is not None and node not in self._nodes):
                continue
            key = keys.edge_desired(self._tenant, node) + _TOPICS
            op: Op = Delete(key) if row is None else Put(key, row)
            exists = Compare(node_key(self._tenant, node), CompareTarget.VERSION, ">", 0)
            if not (await self._store.txn((*((exists,) if row is not None else ()), *self._fence()), [op])).succeeded:
                raise Conflict(f"node {node} was removed, or another process leads")

    # One rule

    async def _serve(self, route: MessageRoute) -> None:
        delivery = RuleDelivery(route, self._allowed, lambda: self._secret(route), self._lookups)
        try:
            while True:
                try:
                    await self._read(route, delivery)
                except NotFound as exc:  # the node has gone, and may be back before we hear of either
                    log.info("tenant=%s rule %s: %s", self._tenant, "/".join(route.key), exc)
                    await asyncio.sleep(_RETRY)
                except (KubeEdgeError, OSError) as exc:
                    log.warning("tenant=%s rule %s: %s", self._tenant, "/".join(route.key), exc)
                    await asyncio.sleep(_RETRY)
        finally:
            delivery.close()

    async def _read(self, route: MessageRoute, delivery: RuleDelivery) -> None:
        loop = asyncio.get_running_loop()
        position = await self._begin(route)
        said, pace = loop.time(), Bucket(_RATE, _BURST, loop.time())
        while True:
            found = await self._log.read(route.node, position, _READ, _BYTES)
            sent = 0
            for one in found:
                if route.has(one.message.topic):
                    if sent == _BATCH:
                        await self._log.acknowledge(route.node, route.reader, position, self._wall())
                        said, sent = loop.time(), 0
                    if wait := pace.charge(1, loop.time()):
                        await asyncio.sleep(wait)
                    await self._deliver(route, delivery, one)
                    sent += 1
                position = one.position
            if found or loop.time() - said > _SAY:
                await self._log.acknowledge(route.node, route.reader, position, self._wall())
                said = loop.time()
            if not found:
                await self._log.wait(route.node, position, _WAIT)

    async def _begin(self, route: MessageRoute) -> int:
        """The position through which the rule has the messages; one that is new begins with what comes."""
        known = (await self._log.readers(route.node)).get(route.reader)
        if known is not None:
            return known.through
        kv = await self._store.get(keys.edge_desired(self._tenant, route.node) + _TAKEN)
        through = node_messages.decode_taken(kv.value if kv is not None else None).next - 1
        await self._log.acknowledge(route.node, route.reader, through, self._wall())
        return through

    async def _deliver(self, route: MessageRoute, delivery: RuleDelivery, one: LoggedMessage) -> None:
        """Returns when the endpoint has it, or it was given up."""
        loop, failures, begun = asyncio.get_running_loop(), 0, asyncio.get_running_loop().time()
        key = (self._tenant, *route.key)
        said = begun
        while True:
            try:
                async with self._sending:
                    answer = await delivery.deliver(one)
            except MessageRefused as exc:
                if exc.answer is not None:
                    self._answers.send(self._set, route.node, ask_of(route, one), exc.answer)
                self._counts.note(self._objects, key, f"message {one.position}: {exc}")
                return
            except Unavailable as exc:
                failures += 1
                if loop.time() - begun > _GIVE_UP:
                    self._counts.note(self._objects, key, f"message {one.position} was given up: {exc}")
                    return
                if failures == 1:
                    self._counts.note(self._objects, key, f"message {one.position} waits: {exc}", counts=False)
                if failures == 1 or loop.time() - said > _SAY:  # the ones before it are there
                    await self._log.acknowledge(route.node, route.reader, one.position - 1, self._wall())
                    said = loop.time()
                await asyncio.sleep(_AGAIN.delay(failures, random.random()))
            else:
                self._answers.send(self._set, route.node, ask_of(route, one), answer)
                self._counts.note(self._objects, key, "")
                return

    async def _secret(self, route: MessageRoute) -> dict[str, bytes]:
        """Raises Unavailable where it cannot be had: it may come."""
        if not route.secret:
            return {}
        try:
            return secret_data(await self._client.get(SECRETS, route.key[0], route.secret))
        except KubeEdgeError as exc:
            raise Unavailable(f"Secret {route.key[0]}/{route.secret}: {exc}") from exc
