"""Service accounts of the pods of this node: whose token it is that a client shows, and what he may do.

The node has the tokens of its pods themselves, from the cloud, and a client shows one of them: it needs no second signature. One that has expired
goes on while it is the newest that the node has: the cloud is away, or there would be another.

A program may have asked for another token of its account while the cloud was there. That one is verified by the public keys of the issuer,
which the cloud has sent down, must be of the same issuer, audience and account (name and uid) as one that a pod here has, and ends when it says.
So what is bound to a pod ends here with that pod, and accounts that no pod here has open nothing.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubeedge.api import keys, service_accounts
from kubeedge.api.names import TenantId
from kubeedge.api.service_accounts import IssuerKey, KeptTokens, TokenParts
from kubeedge.api.status import Unauthorized
from kubeedge.apiserver.accounts import AccountIdentity
from kubeedge.errors import Invalid
from kubeedge.pki.token_signatures import is_signed
from kubeedge.store.model import Store


class NodeAccounts:
    """`wall` gives seconds since 1970."""

    def __init__(self, store: Store, tenant: TenantId, *, wall: Callable[[], float]) -> None:
        self._store = store
        self._tenant = tenant
        self._wall = wall

    async def identity(self, token: str) -> AccountIdentity:
        """Raises Unauthorized for what is not a token of a pod of this node, for the API."""
        try:
            claims = service_accounts.parts(token).claims  # only to know where to look: nothing is believed
        except Invalid as exc:
            raise Unauthorized("Unauthorized: not the token of a service account") from exc
        namespace, (pod, uid) = service_accounts.namespace(claims), service_accounts.bound(claims, "pod")
        kept = await self._kept(namespace, pod)
        if kept is not None and (kept.pod != uid or not await self._is_here(namespace, pod, uid)):
            kept = None
        if kept is None or not self._has(kept, token):
            kept = await self._verified(token, kept if pod or uid else await self._of_account(claims))
        user = service_accounts.subject(namespace, kept.account)
        return AccountIdentity(self._tenant, user, namespace=namespace, claims=claims, rules=kept.rules)

    def _has(self, kept: KeptTokens, token: str) -> bool:
        now, found = self._wall(), False
        for known in kept.tokens:
            if known.audience:  # for another audience than the API
                continue
            found |= hmac.compare_digest(known.token.encode(), token.encode())
            # the one before is good until its own end
            if known.previous and hmac.compare_digest(known.previous.encode(), token.encode()):
                found |= service_accounts.is_valid_at(service_accounts.parts(token).claims, now)
        return found

    async def _verified(self, token: str, kept: KeptTokens | None) -> KeptTokens:
        """`kept` is of the pod that the token is bound to, or of its account. Raises Unauthorized."""
        known = next((t for t in kept.tokens if not t.audience), None) if kept is not None else None
        if kept is None or known is None or not self._agree(service_accounts.parts(known.token), token):
            raise Unauthorized("Unauthorized: without the cloud, this node knows the accounts of its own pods alone")
        parts = service_accounts.parts(token)
        if not any([is_signed(parts, key) for key in await self._keys()]):
            raise Unauthorized("Unauthorized: no key that this node has from the cloud has signed the token")
        if not service_accounts.is_valid_at(parts.claims, self._wall()):
            raise Unauthorized("Unauthorized: the token has expired, or is not valid yet")
        return kept

    @staticmethod
    def _agree(known: TokenParts, token: str) -> bool:
        """Whether a token says to be of the same issuer, account and API as one that the cloud has delivered."""
        ours, theirs = known.claims, service_accounts.parts(token).claims
        same = all(
            what(ours) == what(theirs)
            for what in (
                lambda claims: (claims.get("iss"), claims.get("sub")),
                service_accounts.namespace,
                lambda claims: service_accounts.bound(claims, "serviceaccount"),
            )
        )
        return same and not set(service_accounts.audiences(ours)).isdisjoint(service_accounts.audiences(theirs))

    async def _of_account(self, claims: Mapping[str, Any]) -> KeptTokens | None:
        """Of some pod here with the account of a token that is bound to nothing."""
        namespace, (account, _) = service_accounts.namespace(claims), service_accounts.bound(claims, "serviceaccount")
        if any(service_accounts.bound(claims, kind) != ("", "") for kind in ("secret", "node")) or "/" in namespace:
            return None  # this node does not know whether that is still there
        prefix = keys.desired(service_accounts.RESOURCE, namespace, "")
        for kv in (await self._store.range(prefix, keys.prefix_end(prefix))).kvs:
            kept, pod = _decoded(kv.value), kv.key.removeprefix(prefix)
            if kept is not None and kept.account == account and await self._is_here(namespace, pod, kept.pod):
                return kept
        return None

    async def _keys(self) -> Sequence[IssuerKey]:
        kv = await self._store.get(keys.desired(service_accounts.KEYS, "", service_accounts.ISSUER_KEYS))
        try:
            return service_accounts.decode_keys(kv.value) if kv is not None else ()
        except Invalid:
            return ()

    async def _kept(self, namespace: str, pod: str) -> KeptTokens | None:
        if not namespace or not pod or "/" in namespace + pod:
            return None
        kv = await self._store.get(keys.desired(service_accounts.RESOURCE, namespace, pod))
        return _decoded(kv.value) if kv is not None else None

    async def _is_here(self, namespace: str, pod: str, uid: str) -> bool:
        kv = await self._store.get(keys.desired("pods", namespace, pod))
        try:
            return kv is not None and json.loads(kv.value)["metadata"]["uid"] == uid
        except (ValueError, KeyError, TypeError):
            return False


def _decoded(value: bytes) -> KeptTokens | None:
    try:
        return service_accounts.decode_kept(json.loads(value))
    except (ValueError, Invalid):
        return None
