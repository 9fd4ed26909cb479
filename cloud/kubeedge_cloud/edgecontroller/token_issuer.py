"""What nodes need to judge tokens of service accounts while they are offline: the public keys of who signs them, and what accounts may do.

Both are asked for again every few minutes, as a cluster says nothing of their changes: a key that is rotated in, a Role that is taken away.
The keys once for a tenant; the rules once for each account that pods of its nodes have.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kubeedge.api import service_accounts
from kubeedge.api.access import PolicyRule
from kubeedge.api.names import NamespacedName
from kubeedge.api.service_accounts import ALGORITHMS, MAX_KEYS, IssuerKey
from kubeedge.api.status import Forbidden, NoSuchPath, ObjectNotFound
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.edgecontroller import node_objects
from kubeedge_cloud.edgecontroller.state import EdgeState

log = logging.getLogger("kubeedge.edgecontroller")

ROW = node_objects.key(service_accounts.KEYS, "", service_accounts.ISSUER_KEYS)
_AGAIN = 300.0  # seconds
_CURVES: Mapping[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
_LARGEST = 1024  # bytes of a modulus

PolicyRules = Sequence[PolicyRule]


def keys_of(jwks: Sequence[Mapping[str, Any]]) -> Sequence[IssuerKey]:
    """The usable keys of a set of JWKs (RFC 7517)."""
    found = []
    for jwk in jwks[:MAX_KEYS]:
        try:
            found.append(_key_of(jwk))
        except (KeyError, TypeError, ValueError) as exc:
            log.warning("a public key of the issuer of tokens cannot be used: %s", exc or type(exc).__name__)
    return found


def _key_of(jwk: Mapping[str, Any]) -> IssuerKey:
    algorithm, id = str(jwk["alg"]), str(jwk["kid"])
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    if algorithm not in ALGORITHMS or jwk["kty"] != {"R": "RSA", "E": "EC"}[algorithm[0]]:
        raise ValueError(f"{jwk['kty']!r:.20} with {algorithm!r:.20}")
    if jwk["kty"] == "RSA":
        if len(modulus := service_accounts.decoded(jwk["n"])) > _LARGEST:
            raise ValueError(f"a modulus of {len(modulus)} bytes")
        public = rsa.RSAPublicNumbers(_number(jwk["e"]), int.from_bytes(modulus, "big")).public_key()
    else:
        public = ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), _CURVES[jwk["crv"]]).public_key()
    return IssuerKey(id, algorithm, public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _number(text: str) -> int:
    return int.from_bytes(service_accounts.decoded(text), "big")


class TokenIssuer:
    """Keys of the queue are accounts; None: the issuer's keys. `changed` is told of an account whose rules are others, or None: of the keys."""

    def __init__(
        self,
        state: EdgeState,
        changed: Callable[[NamespacedName | None], None],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._state = state
        self._changed = changed
        self._chance = chance
        self._rules: dict[NamespacedName, PolicyRules] = {}
        self._row: bytes | None = None
        self._looking = False  # for the keys, every few minutes
        self.queue: WorkQueue[NamespacedName | None] = WorkQueue(f"accounts of {state.tenant}", self._look)

    def row(self, have: bytes | None) -> bytes | None:
        """The issuer's keys, for a node with tokens that has `have` now; they are looked for from now on."""
        if not self._looking:
            self._looking = True
            self.queue.add(None)
        return self._row or have

    async def rules(self, account: NamespacedName) -> PolicyRules:
        """The rules of an account, at most some minutes old. Raises what the API raises."""
        if account not in self._rules:
            self._rules[account] = await self._state.client.account_rules(*account)
            if self._state.cluster:
                self.queue.add_after(account, self._pause())
        return self._rules[account]

    def known(self, account: NamespacedName) -> PolicyRules | None:
        """The rules of an account; None when they were not asked for yet."""
        return self._rules.get(account)

    def forget(self, account: NamespacedName) -> None:
        """Forget the rules of an account, which may have changed."""
        self._rules.pop(account, None)

    def _pause(self) -> float:
        return _AGAIN * (0.9 + 0.2 * self._chance())

    async def _look(self, account: NamespacedName | None) -> float | None:
        if account is None:
            return await self._look_for_keys()
        if not self._in_use(account):
            self._rules.pop(account, None)
            return None
        try:
            rules = await self._state.client.account_rules(*account)
        except ObjectNotFound:
            rules = ()
        if rules != self._rules.get(account):
            self._rules[account] = rules
            self._changed(account)
        return self._pause()

    def _in_use(self, account: NamespacedName) -> bool:
        namespace, name = account
        return any(
            pod["metadata"].get("namespace") == namespace and service_accounts.account_of(pod) == name
            for node in self._state.records
            for pod in self._state.pods_of(node)
        )

    async def _look_for_keys(self) -> float | None:
        try:
            row = service_accounts.encode_keys(keys_of(await self._state.client.issuer_keys()))
        except NoSuchPath:
            return None
        except Forbidden as exc:
            log.warning("tenant=%s nodes cannot verify tokens offline, only compare them: %s", self._state.tenant, exc)
            return self._pause()
        if row != self._row:
            self._row = row
            self._changed(None)
        return self._pause()
