"""Service accounts of the pods of this node: whose token it is that a client shows, and what he may do.

The node need not verify signatures: it has the tokens of its pods themselves, from the cloud, which has signed them, and a client shows one of
them or it does not. So a token ends here with its pod, and what was issued for other nodes opens nothing. One that has expired goes on while it is
the newest that the node has: the cloud is away, or there would be another.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable

from kubeedge.api import keys, service_accounts
from kubeedge.api.names import TenantId
from kubeedge.api.service_accounts import KeptTokens
from kubeedge.api.status import Unauthorized
from kubeedge.apiserver.accounts import AccountIdentity
from kubeedge.errors import Invalid
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
        if (
            kept is None
            or kept.pod != uid
            or not await self._is_here(namespace, pod, uid)
            or not self._has(kept, token)
        ):
            raise Unauthorized("Unauthorized: without the cloud, this node knows the tokens of its own pods alone")
        user = service_accounts.subject(namespace, kept.account)
        return AccountIdentity(self._tenant, user, namespace=namespace, claims=claims, rules=kept.rules)

    def _has(self, kept: KeptTokens, token: str) -> bool:
        now, found = self._wall(), False
        for known in kept.tokens:
            if known.audience:  # for somebody else than the API
                continue
            found |= hmac.compare_digest(known.token.encode(), token.encode())
            # the one before is good until its own end
            if known.previous and hmac.compare_digest(known.previous.encode(), token.encode()):
                found |= service_accounts.is_valid_at(service_accounts.parts(token).claims, now)
        return found

    async def _kept(self, namespace: str, pod: str) -> KeptTokens | None:
        if not namespace or not pod or "/" in namespace + pod:
            return None
        kv = await self._store.get(keys.desired(service_accounts.RESOURCE, namespace, pod))
        try:
            return service_accounts.decode_kept(json.loads(kv.value)) if kv is not None else None
        except (ValueError, Invalid):
            return None

    async def _is_here(self, namespace: str, pod: str, uid: str) -> bool:
        kv = await self._store.get(keys.desired("pods", namespace, pod))
        try:
            return kv is not None and json.loads(kv.value)["metadata"]["uid"] == uid
        except (ValueError, KeyError, TypeError):
            return False
