"""Bootstrap tokens: for one tenant and one node, used once, expiring, revocable. Only a hash of the secret is kept."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Conflict, Invalid, NotFound, Refused
from kubeedge.pki.tokens import ALPHABET, ID_LENGTH, SECRET_LENGTH, Token, hash_secret, secret_matches
from kubeedge.store.model import Compare, Put, Store, Target

DEFAULT_TTL = 24 * 3600.0  # seconds
MAX_TTL = 365 * 24 * 3600.0
MAX_TOKENS = 10_000  # of one tenant


@dataclass(frozen=True, slots=True)
class TokenRecord:
    id: str
    tenant: TenantId
    node: str  # "": any name
    secret_hash: str
    created: float  # wall clock
    expires: float
    replace: bool = False  # may take the place of a node that exists
    used: float = 0.0
    used_by: str = ""
    revoked: bool = False

    def state(self, now: float) -> str:
        if self.revoked:
            return "revoked"
        if self.used:
            return "used"
        return "expired" if now >= self.expires else "valid"


class TokenStore:
    def __init__(self, store: Store, ca_hash: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._ca_hash = ca_hash
        self._clock = clock

    async def create(self, tenant: TenantId, node: str, ttl: float = DEFAULT_TTL, *, replace: bool = False) -> Token:
        """The only time that the secret is seen."""
        if not 0 < ttl <= MAX_TTL:
            raise Invalid(f"{ttl:g} seconds; a token lives for more than 0 and at most {MAX_TTL:.0f}", path="ttl")
        if len(await self.list(tenant)) >= MAX_TOKENS:
            raise Conflict(f"tenant {tenant} has {MAX_TOKENS} tokens; revoke some")
        token = Token(self._ca_hash, _random(ID_LENGTH), _random(SECRET_LENGTH))
        now = self._clock()
        record = TokenRecord(token.id, tenant, node, hash_secret(token.secret), now, now + ttl, replace)
        key = keys.tokens(tenant) + token.id
        result = await self._store.txn((Compare(key, Target.VERSION, "=", 0),), (Put(key, _encode(record)),))
        if not result.succeeded:
            raise Conflict("two tokens with one id; try again")
        return token

    async def list(self, tenant: TenantId) -> list[TokenRecord]:
        prefix = keys.tokens(tenant)
        found = await self._store.range(prefix, keys.prefix_end(prefix))
        return [_decode(kv.value) for kv in found.kvs]

    async def revoke(self, tenant: TenantId, token_id: str) -> None:
        key = keys.tokens(tenant) + token_id
        kv = await self._store.get(key)
        if kv is None:
            raise NotFound(f"no token {token_id} of tenant {tenant}")
        await self._store.put(key, _encode(replace(_decode(kv.value), revoked=True)))

    async def find(self, token: Token) -> TokenRecord:
        """The record of a token whose secret is right, whatever its state. Raises Refused."""
        tenants = await self._store.range(keys.TENANTS, keys.prefix_end(keys.TENANTS), keys_only=True)
        for tenant in tenants.kvs:
            name = TenantId(tenant.key.removeprefix(keys.TENANTS))
            kv = await self._store.get(keys.tokens(name) + token.id)
            if kv is not None and secret_matches(token.secret, (record := _decode(kv.value)).secret_hash):
                return record
        raise Refused("this token is not known here; make one with `kubeedge token create`")

    def check(self, record: TokenRecord, node: NodeName) -> None:
        """May this token make that node, now? Raises Refused with what is wrong."""
        match record.state(self._clock()):
            case "revoked":
                raise Refused("this token was revoked; ask for a new one")
            case "used":
                raise Refused(f"this token was used already, for node {record.used_by}; a token works once")
            case "expired":
                ago = self._clock() - record.expires
                raise Refused(f"this token expired {_duration(ago)} ago; make a new one with `kubeedge token create`")
        if record.node and record.node != node:
            raise Refused(f"this token is for node {record.node}, not for {node}")

    async def use(self, record: TokenRecord, node: NodeName) -> None:
        """Mark as used, exactly once: of two that try, one is refused."""
        key = keys.tokens(record.tenant) + record.id
        used = replace(record, used=self._clock(), used_by=str(node))
        result = await self._store.txn((Compare(key, Target.VALUE, "=", _encode(record)),), (Put(key, _encode(used)),))
        if not result.succeeded:
            raise Refused("this token was used or revoked in this moment; a token works once")


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _encode(record: TokenRecord) -> bytes:
    return json.dumps(asdict(record), sort_keys=True, separators=(",", ":")).encode()


def _decode(value: bytes) -> TokenRecord:
    return TokenRecord(**json.loads(value))


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
