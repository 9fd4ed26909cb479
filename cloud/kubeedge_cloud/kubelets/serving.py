"""Serving certificates of a tenant's kubelet ports from its cluster's own authority, as kubelets with serverTLSBootstrap have them.

Each node asks by its own identity; an administrator approves (`kubectl certificate approve`), or this process does where it was given the right. A
certificate is renewed at about two thirds of its life, the old one serves until then. While nothing is due, the cluster is not asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from kubeedge.api import meta
from kubeedge.api.client import KubeClient
from kubeedge.api.names import NodeName, Object
from kubeedge.api.status import AlreadyExists
from kubeedge.errors import Conflict, Invalid, KubeEdgeError, Refused
from kubeedge.kit.backoff import Backoff
from kubeedge.pki.core import renewal_time
from kubeedge_cloud.kubelets import signing
from kubeedge_cloud.kubelets.key_pairs import KeyPairs, PendingKey

log = logging.getLogger("kubeedge.kubelets")

_POLL = Backoff(first=1.0, last=30.0)  # between two looks for certificates, while some are waited for
_RETRY = Backoff(first=5.0, last=600.0, jitter=0.5)  # after a failure
_REFUSED = 3600.0  # seconds until a node asks again after it was denied
_FAULTY = 300.0  # and after the API server has
_STAND_BY = 10.0  # seconds until a process that does not lead looks whether it does
_LONGEST = 6 * 3600.0  # seconds of one sleep: the wall clock may be set meanwhile
_APPROVAL = "requested by this cloud process for its own kubelet port of the node"


class ServingCertificates:
    """`client_of` gives a client with that node's identity; `approver` may approve, None: an administrator does. `leads`: whether this process's
    address is the one that the Nodes show. `changed` is called with a node whose certificate is new, or gone."""

    def __init__(
        self,
        pairs: KeyPairs,
        client_of: Callable[[NodeName], KubeClient],
        *,
        approver: KubeClient | None,
        leads: Callable[[], Awaitable[bool]],
        changed: Callable[[NodeName], None],
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._pairs = pairs
        self._client_of = client_of
        self._approver = approver
        self._leads = leads
        self._changed = changed
        self._wall, self._chance = wall, chance
        self._uids: dict[NodeName, str] = {}
        self._due: dict[NodeName, float] = {}  # when a node asks (again); wall clock
        self._waiting: dict[NodeName, PendingKey] = {}
        self._failures = 0  # in a row
        self._looks = 0  # for certificates, since the last request
        self._wake = asyncio.Event()

    def file_of(self, node: NodeName) -> Path | None:
        """The file with a node's key and certificate; None when it has no certificate yet."""
        return self._pairs.file(node)

    def want(self, nodes: Mapping[NodeName, str]) -> None:
        """The nodes from here on, each with the uid of its object; what is kept of others is removed. Raises OSError."""
        gone = [node for node, uid in self._uids.items() if nodes.get(node) != uid]
        for node in gone:
            self._due.pop(node, None)
            self._waiting.pop(node, None)
        first, self._uids = not self._uids, dict(nodes)
        self._pairs.know(nodes)
        if gone or first:
            self._pairs.sweep()
        for node in gone:
            self._changed(node)
        for node in nodes:
            if node not in self._due:
                self._due[node] = self._next(node)
                self._wake.set()

    async def run(self) -> None:
        """Asks and waits, until it is cancelled."""
        while True:
            self._wake.clear()
            delay = await self._round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _round(self) -> float:
        """Seconds until the next one."""
        now = self._wall()
        due = [node for node, at in self._due.items() if at <= now and node not in self._waiting]
        if not due and not self._waiting:
            return min([_LONGEST, *(at - now for at in self._due.values())])
        try:
            if not await self._leads():
                return _STAND_BY
            for node in due:
                try:
                    await self._ask(node)
                except (Conflict, Invalid, Refused, ValueError) as exc:  # of this one: the others are asked for
                    log.warning("node %s gets no serving certificate now: %s", node, exc)
                    self._put_off(node, _FAULTY)
            if self._waiting:
                await self._look()
            self._failures = 0
        except (KubeEdgeError, OSError) as exc:
            self._failures += 1
            log.warning("serving certificates of nodes: %s", exc)
            return _RETRY.delay(self._failures, self._chance())
        if not self._waiting:
            return 0.0
        self._looks += 1
        return _POLL.delay(self._looks)

    async def _ask(self, node: NodeName) -> None:
        """Raises ValueError for a node whose name is too long for a certificate."""
        pending = self._pairs.pending(node)
        client = self._client_of(node)
        try:
            made = await client.create(signing.REQUESTS, "", signing.new_request(pending.name, pending.request))
        except AlreadyExists:  # from before a restart
            made = await client.get(signing.REQUESTS, "", pending.name)
            if not signing.is_request(made, pending.request):
                self._pairs.forget_pending(node)
                raise
        self._looks = 0
        if self._approver is not None:
            await self._approve(self._approver, made)
        else:
            log.info("node %s waits for its serving certificate: kubectl certificate approve %s", node, pending.name)
        if node in self._due:  # it was not removed meanwhile
            self._waiting[node] = pending

    async def _approve(self, approver: KubeClient, request: Object) -> None:
        """What this process has made itself, and nothing else."""
        if (request.get("status") or {}).get("conditions"):
            return  # decided already
        decided = signing.approved(request, _APPROVAL, meta.timestamp(self._wall()))
        with contextlib.suppress(Conflict):  # another approver has decided in this moment
            await approver.update(signing.REQUESTS, "", decided, subresource="approval")

    async def _look(self) -> None:
        """One list for all that wait, by the identity of one of them."""
        client = self._client_of(next(iter(self._waiting)))
        listed = await client.list(signing.REQUESTS, field_selector=f"spec.signerName={signing.SIGNER}")
        found = {meta.name_of(obj): obj for obj in listed.items}
        for node, pending in list(self._waiting.items()):
            obj = found.get(pending.name)
            if obj is None:  # there was no decision for a day, and the cluster has removed it
                del self._waiting[node]
                continue
            decided = signing.outcome(obj)
            if decided.refusal:
                log.warning("node %s got no serving certificate, %s: %s", node, pending.name, decided.refusal)
                self._give_up(node)
            elif decided.certificate:
                self._take(node, pending, decided.certificate)

    def _take(self, node: NodeName, pending: PendingKey, certificate: bytes) -> None:
        try:
            self._pairs.take(node, pending, certificate)
        except Invalid as exc:
            log.warning("node %s got a serving certificate that cannot be used: %s", node, exc)
            self._give_up(node)
            return
        del self._waiting[node]
        self._due[node] = self._next(node)
        if (soonest := self._wall() + _FAULTY) > self._due[node]:
            log.warning("the serving certificate of node %s ends already; is the clock of this machine right?", node)
            self._due[node] = soonest
        log.info("node %s has a serving certificate of its cluster", node)
        self._changed(node)

    def _give_up(self, node: NodeName) -> None:
        self._waiting.pop(node, None)
        self._pairs.forget_pending(node)
        self._put_off(node, _REFUSED)

    def _put_off(self, node: NodeName, seconds: float) -> None:
        if node in self._due:  # it was not removed meanwhile
            self._due[node] = self._wall() + seconds

    def _next(self, node: NodeName) -> float:
        """When a node asks next; at once without a certificate that serves."""
        found = self._pairs.validity(node)
        return renewal_time(found, self._chance()) if found is not None else 0.0
