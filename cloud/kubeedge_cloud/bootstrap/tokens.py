"""Keeps token records and claims in the store. Only a hash of a secret is kept.

    /t/T/tokens/ID          TokenRecord
    /t/T/certificates/N     Claim: the certificate that stands for node N

Using a token and claiming the name are one transaction that compares what was read: of two machines that try at once, one is refused.

Lives elsewhere: what is allowed (core.py).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Conflict, Invalid, NotFound, Refused, Unavailable, with_next
from kubeedge.pki.tokens import ALPHABET, ID_LENGTH, SECRET_LENGTH, Token, hash_secret, secret_matches
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store
from kubeedge_cloud.bootstrap.boards import BoardStore
from kubeedge_cloud.bootstrap.core import NEW_TOKEN, Claim, TokenRecord

DEFAULT_TTL = 24 * 3600.0  # seconds
MAX_TTL = 365 * 24 * 3600.0
MAX_TOKENS = 10_000  # of one tenant
_KEEP = 7 * 24 * 3600.0  # seconds that used, revoked and expired tokens stay visible at least
_TIDY_FROM = 100  # tokens; below it their number does not matter
_TIDY_EVERY = 60.0  # seconds: boards ask for tokens as often as they like, and all of them are looked at


@dataclass(frozen=True, slots=True)
class HeldClaim:
    """A claim as read, to be compared when it is changed."""

    claim: Claim | None
    revision: int  # 0: there was none


class TokenStore:
    """Creates, lists, revokes and redeems tokens. `ca_hash` is part of every token, so that a node can check the CA."""

    def __init__(self, store: Store, ca_hash: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._ca_hash = ca_hash
        self._clock = clock
        self._tidied = dict[TenantId, float]()  # when its tokens were looked at last
        self.boards = BoardStore(store, clock)

    async def create(
        self,
        tenant: TenantId,
        node: str,
        ttl: float = DEFAULT_TTL,
        *,
        replace: bool = False,
        join_key: bool = False,
    ) -> Token:
        """The only time that the secret is seen."""
        if not 0 < ttl <= MAX_TTL:
            raise Invalid(f"{ttl:g} seconds; a token lives for more than 0 and at most {MAX_TTL:.0f}", path="ttl")
        await self._make_room(tenant)
        token = Token(self._ca_hash, _random(ID_LENGTH), _random(SECRET_LENGTH))
        now = self._clock()
        record = TokenRecord(
            token.id, tenant, node, hash_secret(token.secret), now, now + ttl, replace, join_key=join_key
        )
        key = _token_key(record)
        result = await self._store.txn((Compare(key, CompareTarget.VERSION, "=", 0),), (Put(key, _encode(record)),))
        if not result.succeeded:
            raise Conflict("two tokens with one id; try again")
        return token

    async def list(self, tenant: TenantId) -> list[TokenRecord]:
        """Tokens that were used, revoked or have expired as well, while their records are kept."""
        prefix = keys.tokens(tenant)
        found = await self._store.range(prefix, keys.prefix_end(prefix))
        return [_decode(kv.value) for kv in found.kvs]

    async def revoke(self, tenant: TenantId, token_id: str) -> None:
        """Idempotent. Raises NotFound when the tenant has no such token."""
        key = keys.tokens(tenant) + token_id
        while (kv := await self._store.get(key)) is not None:
            revoked = _encode(replace(_decode(kv.value), revoked=True))
            same = Compare(key, CompareTarget.MOD, "=", kv.mod_revision)
            if kv.value == revoked or (await self._store.txn((same,), (Put(key, revoked),))).succeeded:
                return
        raise NotFound(f"no token {token_id} of tenant {tenant}")

    async def discard(self, tenant: TenantId, token_id: str) -> None:
        """A token that nobody has used goes, and does not stay visible: who gets another as often as he asks would leave one each time. Idempotent."""
        key = keys.tokens(tenant) + token_id
        kv = await self._store.get(key)
        if kv is not None and not _decode(kv.value).used:
            await self._store.txn((Compare(key, CompareTarget.MOD, "=", kv.mod_revision),), (Delete(key),))

    async def find(self, token: Token) -> TokenRecord:
        """The record of a token whose secret is right, whatever its state. Raises Refused."""
        tenants = await self._store.range(keys.TENANTS, keys.prefix_end(keys.TENANTS), keys_only=True)
        for tenant in tenants.kvs:
            name = TenantId(tenant.key.removeprefix(keys.TENANTS))
            kv = await self._store.get(keys.tokens(name) + token.id)
            if kv is not None and secret_matches(token.secret, (record := _decode(kv.value)).secret_hash):
                return record
        raise with_next(Refused("this token is not known here"), NEW_TOKEN)

    async def claim(self, tenant: TenantId, node: NodeName) -> HeldClaim:
        """The certificate that stands for the node, and the mod_revision to compare with; (None, 0) when there is none."""
        kv = await self._store.get(keys.certificate(tenant, node))
        return HeldClaim(None, 0) if kv is None else HeldClaim(Claim(**json.loads(kv.value)), kv.mod_revision)

    async def use(
        self,
        record: TokenRecord,
        node: NodeName,
        key: str,
        held: HeldClaim,
        serial: str,
        entitled: tuple[Sequence[Compare], Sequence[Op]] = ((), ()),
    ) -> None:
        """The token is used up, and the certificate with that serial number stands for the node, for which `entitled` is written as well:
        all or nothing."""
        now = self._clock()
        used = replace(record, used=record.used or now, used_by=str(node), used_key=key)
        again = held.claim is not None and held.claim.token == record.id  # whichever answer arrives is good
        claim = Claim(
            serial=serial, previous=held.claim.serial if held.claim and again else "", token=record.id, issued=now
        )
        compares, ops = entitled
        claim_key, token_key = keys.certificate(record.tenant, node), _token_key(record)
        result = await self._store.txn(
            (
                Compare(token_key, CompareTarget.VALUE, "=", _encode(record)),
                Compare(claim_key, CompareTarget.MOD, "=", held.revision),
                *compares,
            ),
            (Put(token_key, _encode(used)), Put(claim_key, _encode(claim)), *ops),
        )
        if not result.succeeded:
            raise with_next(Refused("another machine used this token or this node name at the same moment"), NEW_TOKEN)

    async def renewed(self, tenant: TenantId, node: NodeName, held: HeldClaim, old: str, new: str) -> None:
        """The claim moves from the certificate that was shown to the new one. Raises Unavailable when it moved meanwhile."""
        if held.claim is None:
            raise NotFound(f"node {node} has no claim")
        claim = replace(held.claim, serial=new, previous=old, issued=self._clock())
        key = keys.certificate(tenant, node)
        same = Compare(key, CompareTarget.MOD, "=", held.revision)
        if not (await self._store.txn((same,), (Put(key, _encode(claim)),))).succeeded:
            raise Unavailable("the certificate of this node was renewed at the same moment", retry_after=5.0)

    async def _make_room(self, tenant: TenantId) -> None:
        """Forget tokens that ended long ago; of ended ones only when there are many. Raises Conflict when all are in use."""
        prefix = keys.tokens(tenant)
        count = (await self._store.range(prefix, keys.prefix_end(prefix), limit=1, keys_only=True)).count
        if count < _TIDY_FROM:
            return
        now = self._clock()
        if not 0 <= now - self._tidied.get(tenant, now - _TIDY_EVERY) < _TIDY_EVERY:
            count -= await self._tidy(tenant, now)
            self._tidied[tenant] = now
        if count >= MAX_TOKENS:
            raise Conflict(f"tenant {tenant} has {MAX_TOKENS} tokens; those that ended go away after a week")

    async def _tidy(self, tenant: TenantId, now: float) -> int:
        """How many were forgotten."""
        old = [
            r
            for r in await self.list(tenant)
            if r.ended(now) and max(r.used, r.created, r.expires if not r.used else 0.0) + _KEEP < now
        ]
        for start in range(0, len(old), 100):
            await self._store.txn((), tuple(Delete(_token_key(r)) for r in old[start : start + 100]))
        return len(old)


def _token_key(record: TokenRecord) -> str:
    return keys.tokens(record.tenant) + record.id


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _encode(record: TokenRecord | Claim) -> bytes:
    fields = asdict(record)
    if not fields.get("join_key", True):
        del fields["join_key"]  # a cloud process of an older version does not know it
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _decode(value: bytes) -> TokenRecord:
    return TokenRecord(**json.loads(value))
