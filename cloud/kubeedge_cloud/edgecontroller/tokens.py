"""Service account tokens of pods, asked for in the name of their node and sent down with the pod: it runs, and restarts, without the cloud.

A token is renewed at four fifths of its life. What was issued is kept where the node gets it from, below desired/, so that another process goes
on with it. A pod whose token cannot be had is sent without one: its node says what it waits for.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping

from kubeedge.api import meta, service_accounts
from kubeedge.api.names import NodeName, Object
from kubeedge.api.service_accounts import IssuedToken, KeptTokens, Wanted
from kubeedge.api.status import NoSuchPath
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.backoff import Backoff
from kubeedge_cloud.controllers.objects import is_deleting
from kubeedge_cloud.edgecontroller import node_objects
from kubeedge_cloud.edgecontroller.state import EdgeState
from kubeedge_cloud.edgecontroller.token_issuer import TokenIssuer

log = logging.getLogger("kubeedge.edgecontroller")

_AT_ONCE = 8  # requests of one node
#: a cluster's authorizer hears of a pod when we do, and may be a moment behind
_BACKOFF = Backoff(0.05, 30.0)
_SOONEST = 1.0  # seconds


class PodTokens:
    """The tokens for pods of all nodes of a tenant. `issuer` knows the rules of accounts."""

    def __init__(self, state: EdgeState, issuer: TokenIssuer) -> None:
        self._state = state
        self._issuer = issuer
        self._issued: dict[NodeName, dict[str, bytes]] = {}  # key below desired/ -> row that is not stored yet, perhaps
        self._failures: dict[tuple[NodeName, str], int] = {}  # by row
        self._stale: dict[NodeName, set[str]] = {}  # rows whose account has changed
        self._turns = asyncio.Lock()

    def forget(self, node: NodeName) -> None:
        """Forget the tokens of a node that was removed."""
        self._issued.pop(node, None)
        self._stale.pop(node, None)
        self._failures = {key: count for key, count in self._failures.items() if key[0] != node}

    def account_changed(self, node: NodeName, pods: Iterable[Object], namespace: str, name: str) -> bool:
        """Whether that concerns any of the pods of the node."""
        found = {
            _key(pod)
            for pod in pods
            if meta.namespace_of(pod) == namespace and service_accounts.account_of(pod) == name and _requests(pod)
        }
        if found:
            self._issuer.forget((namespace, name))
            self._stale.setdefault(node, set()).update(found)
        return bool(found)

    @staticmethod
    def has(account: tuple[str, str], pods: Iterable[Object]) -> bool:
        """Whether any of the pods has tokens of that account (namespace, name)."""
        return any(_account(pod) == account and _requests(pod) for pod in pods)

    def of(self, node: NodeName, pods: Iterable[Object], have: Mapping[str, bytes]) -> dict[str, bytes]:
        """The rows of these pods, as far as there are tokens."""
        issued, rows = self._issued.pop(node, {}), {}
        for pod in pods:
            key = _key(pod)
            row = issued.get(key) or have.get(key)
            if row is not None and (kept := _decoded(row)) is not None and kept.pod == _uid(pod):
                rows[key] = row
        return rows

    async def renew(self, node: NodeName, have: Mapping[str, bytes]) -> float | None:
        """Issues what is missing or due; seconds until the next is due, None when there is none."""
        if self._state.is_foreign(node):
            return None
        stale = self._stale.pop(node, set())
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(pod: Object) -> float | None:
            async with turns:
                key = _key(pod)
                return await self._renew(node, pod, key, have.get(key), stale=key in stale)

        pods = [pod for pod in self._state.pods_of(node) if _requests(pod) and not _has_ended(pod)]
        gone = {key for key in self._failures if key[0] == node} - {(node, _key(pod)) for pod in pods}
        for failed in gone:
            del self._failures[failed]
        delays = [delay for delay in await asyncio.gather(*map(one, pods)) if delay is not None]
        return min(delays) if delays else None

    async def _renew(self, node: NodeName, pod: Object, key: str, row: bytes | None, *, stale: bool) -> float | None:
        requests = _requests(pod)
        before = _decoded(row) if row is not None else None
        if before is not None and before.pod != _uid(pod):
            before = None
        now = self._state.wall()
        stored = {wanted: before.of(wanted) for wanted in requests} if before is not None else {}
        known = {wanted: t for wanted, t in stored.items() if t is not None and self._is_of_the_machine(node, t)}
        good = [t for t in known.values() if t.is_fresh(now) and not stale]
        if len(good) == len(requests) and self._has_rules(before, pod):
            return max(_SOONEST, min(t.due for t in good) - now)
        try:
            tokens = [await self._token(node, pod, wanted, known.get(wanted), stale=stale) for wanted in requests]
            rules = await self._issuer.rules(_account(pod))
        except NoSuchPath:
            return None  # this API has no tokens
        except KubeEdgeError as exc:
            log.warning("tenant=%s node=%s pod=%s has no token: %s", self._state.tenant, node, meta.name_of(pod), exc)
            if stale:
                self._stale.setdefault(node, set()).add(key)
            self._failures[node, key] = failures = self._failures.get((node, key), 0) + 1
            return _BACKOFF.delay(failures)
        self._failures.pop((node, key), None)
        kept = KeptTokens(_uid(pod), service_accounts.account_of(pod), tuple(tokens), tuple(rules))
        self._issued.setdefault(node, {})[key] = kept.encode()
        return max(_SOONEST, min(t.due for t in tokens) - now)

    async def _token(
        self, node: NodeName, pod: Object, wanted: Wanted, old: IssuedToken | None, *, stale: bool
    ) -> IssuedToken:
        now = self._state.wall()
        if old is not None and old.is_fresh(now) and not stale:
            return old
        await self._turn()
        request = service_accounts.request_for(pod, wanted)
        client = self._state.client_of(node)
        answer = await client.create_token(meta.namespace_of(pod), service_accounts.account_of(pod), request)
        status = answer.get("status")
        status = status if isinstance(status, dict) else {}
        token, expires = status.get("token"), _end(answer.get("spec"), status, now)
        if not isinstance(token, str) or not token or len(token) > service_accounts.MAX_TOKEN or expires is None:
            raise Invalid("the API answered a TokenRequest without a token")
        previous = old.token if old is not None and old.expires > now else ""
        return IssuedToken(wanted.audience, wanted.seconds, token, now, expires, previous)

    async def _turn(self) -> None:
        """One request begins in each turn of the loop: an API in this process reads the pod for it, and never waits."""
        await self._turns.acquire()
        asyncio.get_running_loop().call_soon(self._turns.release)

    def _has_rules(self, kept: KeptTokens | None, pod: Object) -> bool:
        """As they are known; where their changes are not watched, they must be known."""
        known = self._issuer.known(_account(pod))
        if known is None:
            return not self._state.cluster
        return kept is not None and list(kept.rules) == list(known)

    def _is_of_the_machine(self, node: NodeName, token: IssuedToken) -> bool:
        """Not of one that was the node before: the API does not take that any more. A cluster of the tenant's own does not know of joins."""
        record = self._state.records.get(node)
        try:
            join = service_accounts.join(service_accounts.parts(token.token).claims)
        except Invalid:
            return True  # it is no JWT
        return join is None or record is None or join == record.join


def _end(spec: object, status: Mapping[str, object], now: float) -> float | None:
    """When the token of a TokenRequest ends, by our clock: the time stamp in it is of the API server's, which may be hours apart. Its length of
    life is the same by both."""
    seconds = spec.get("expirationSeconds") if isinstance(spec, dict) else None
    if isinstance(seconds, int) and seconds > 0:
        return now + seconds
    return meta.parse_timestamp(status.get("expirationTimestamp"))


def _key(pod: Object) -> str:
    return node_objects.key(service_accounts.RESOURCE, meta.namespace_of(pod), meta.name_of(pod))


def _account(pod: Object) -> tuple[str, str]:
    return meta.namespace_of(pod), service_accounts.account_of(pod)


def _uid(pod: Object) -> str:
    return str(meta.metadata(pod).get("uid") or "")


def _requests(pod: Object) -> list[Wanted]:
    return list(service_accounts.wanted_by(pod))


def _has_ended(pod: Object) -> bool:
    return is_deleting(pod) or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _decoded(row: bytes) -> KeptTokens | None:
    try:
        return service_accounts.decode_kept(json.loads(row))
    except (ValueError, Invalid):
        return None
