"""Service accounts of one tenant: tokens are made (TokenRequest) and looked through (bearer tokens, TokenReview).

Lives here:      what a token is bound to exists; who its bearer is, and what he may do.
Lives elsewhere: the claims (kubeedge.api.service_accounts), signatures (kubeedge_cloud.authority.token_keys), rules (kubeedge.api.access), what is added to
                 pods (admission.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from kubeedge.api import access, meta, service_accounts
from kubeedge.api.access import Attributes, PolicyRule
from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS
from kubeedge.api.status import BadRequest, Forbidden, InvalidObject, ObjectModified, Unauthorized, invalid
from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.pki.identity import UserIdentity

_BOUND = {"Pod": ("pod", PODS), "Secret": ("secret", SECRETS), "Node": ("node", NODES)}
_GRACE = 60.0  # seconds for which the token of a pod that is being deleted goes on, beyond the pod's own grace period
_VERIFIED = 512  # signatures that are remembered: each costs 0.1 ms
#: the join of a node, whose certificates stand for it; None: there is no such node
Joins = Callable[[NodeName], Awaitable[str | None]]
_TOKEN_REQUEST = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")


class AccountKey(Protocol):
    """Signs tokens of one tenant (kubeedge_cloud.authority.token_keys)."""

    algorithm: str
    id: str

    def sign(self, data: bytes) -> bytes:
        """The signature of `data` in the form of JWS (RFC 7515)."""
        ...

    def is_signed(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature is of this key."""
        ...

    def jwk(self) -> Object:
        """The public key (RFC 7517)."""
        ...


class Objects(Protocol):
    """The objects of the tenant, as a Registry gives them."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """The object as it is stored. Raises ObjectNotFound."""
        ...


@dataclass(frozen=True, slots=True)
class AccountIdentity(UserIdentity):
    """Who came with a token; `rules` are what it may do in its own namespace."""

    namespace: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    rules: Sequence[PolicyRule] = field(default=(), repr=False, compare=False)

    def may(self, asked: Attributes) -> bool:
        """Nothing outside of its namespace."""
        return bool(asked.namespace) and asked.namespace == self.namespace and access.allows(self.rules, asked)


def forbidden(identity: AccountIdentity, asked: Attributes) -> Forbidden:
    """The 403 in the words of kube-apiserver."""
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    name = f' "{asked.name}"' if asked.name else ""
    what = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    return Forbidden(
        f'{what}{name} is forbidden: User "{identity.user}" cannot {asked.verb} resource "{asked.resource}" in API group '
        f'"{asked.group}" {where}'
    )


class ServiceAccounts:
    """`wall` gives seconds since 1970. `joins`: a token of a node's pod ends with the join of the node; None: nodes do not join."""

    def __init__(
        self,
        tenant: TenantId,
        key: AccountKey,
        objects: Objects,
        *,
        wall: Callable[[], float],
        joins: Joins | None = None,
    ) -> None:
        self.tenant = tenant
        self._key = key
        self._objects = objects
        self._wall = wall
        self._joins = joins
        self._verified: dict[str, Mapping[str, Any]] = {}

    # -- TokenRequest --------------------------------------------------------------------------------------------------

    async def request(self, namespace: str, name: str, request: Object) -> Object:
        """The TokenRequest with its status. Raises InvalidObject, ObjectNotFound, ObjectModified (another uid), Forbidden."""
        spec = request.get("spec")
        spec = spec if isinstance(spec, dict) else {}
        audiences, seconds = _asked(name, spec)
        account = await self._objects.get(SERVICEACCOUNTS, namespace, name)
        private: Object = {"namespace": namespace, "serviceaccount": _reference(account)}
        if reference := spec.get("boundObjectRef"):
            private |= await self._bind(namespace, name, reference)
        import uuid  # here: it brings `platform`, and an agent makes no tokens

        now = int(self._wall())
        claims = {
            "iss": service_accounts.ISSUER,
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "nbf": now,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "sub": service_accounts.subject(namespace, name),
        }
        if (join := await self._join_of(private)) is not None:
            claims["kubeedge.io"] = {"join": join}
        signed = service_accounts.signing_input({"alg": self._key.algorithm, "kid": self._key.id}, claims)
        token = b".".join((signed, service_accounts.encoded(self._key.sign(signed)))).decode()
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": meta.timestamp(now)},
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": meta.timestamp(now + seconds)},
        }

    async def _bind(self, namespace: str, account: str, reference: Any) -> Object:
        """The claims about what a token lives as long as."""
        kind = str(reference.get("kind") or "") if isinstance(reference, dict) else ""
        if kind not in _BOUND or reference.get("apiVersion") not in (None, "", "v1"):
            error = invalid("spec.boundObjectRef.kind", kind, "only a Pod, a Secret or a Node of v1 can be bound to")
            raise InvalidObject.of(_TOKEN_REQUEST, account, [error])
        claim, resource = _BOUND[kind]
        name = str(reference.get("name") or "")
        obj = await self._objects.get(resource, namespace if resource.namespaced else "", name)
        uid = meta.metadata(obj).get("uid")
        if (wanted := reference.get("uid")) and wanted != uid:
            raise ObjectModified.of(
                resource,
                name,
                f"the UID in the bound object reference ({str(wanted)[:64]}) does not match the UID in record ({uid})",
            )
        found: Object = {claim: _reference(obj)}
        if kind == "Pod":
            if service_accounts.account_of(obj) != account:
                raise Forbidden.of(
                    resource, name, f"cannot bind token for serviceaccount {account!r} to this pod: it has another one"
                )
            if node := (obj.get("spec") or {}).get("nodeName"):
                found["node"] = {"name": node}
        return found

    async def _join_of(self, private: Mapping[str, Any]) -> str | None:
        """Of the node in these claims; None: there is no node in them, or no such node."""
        node = (private.get("node") or {}).get("name")
        return await self._joins(NodeName(node)) if node and self._joins is not None else None

    # -- bearers -------------------------------------------------------------------------------------------------------

    def claims(self, token: str, *, audiences: Sequence[str] = (service_accounts.ISSUER,)) -> Mapping[str, Any]:
        """Of a token of this tenant whose signature, times and audience are good. Raises Unauthorized."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token)
            if len(self._verified) >= _VERIFIED:
                self._verified.clear()
            self._verified[token] = claims
        if not service_accounts.is_valid_at(claims, self._wall()):
            raise Unauthorized("Unauthorized: the token has expired, or is not valid yet")
        if set(audiences).isdisjoint(service_accounts.audiences(claims)):
            raise Unauthorized("Unauthorized: the token is for another audience")
        return claims

    def _verify(self, token: str) -> Mapping[str, Any]:
        try:
            parts = service_accounts.parts(token)
        except Invalid as exc:
            raise Unauthorized("Unauthorized: not a token") from exc
        named = parts.header.get("alg"), parts.header.get("kid")
        if named != (self._key.algorithm, self._key.id) or not self._key.is_signed(parts.signature, parts.signed):
            raise Unauthorized("Unauthorized: the token is not one of this API's")
        claims = parts.claims
        namespace, (name, _) = service_accounts.namespace(claims), service_accounts.bound(claims, "serviceaccount")
        if claims.get("iss") != service_accounts.ISSUER or claims.get("sub") != service_accounts.subject(
            namespace, name
        ):
            raise Unauthorized("Unauthorized: the token is not of a service account")
        return claims

    def identity(self, token: str) -> AccountIdentity:
        """By the token alone; `checked` looks whether what it is bound to is still there. Raises Unauthorized."""
        claims = self.claims(token)
        return AccountIdentity(
            self.tenant, str(claims["sub"]), namespace=service_accounts.namespace(claims), claims=claims
        )

    async def checked(
        self, identity: AccountIdentity, rules: Callable[[Object], Sequence[PolicyRule]]
    ) -> AccountIdentity:
        """With its rules. Raises Unauthorized when account, pod, secret or node is gone, or is another of the same name; and when the node
        was removed, or another machine has joined in its place."""
        if not service_accounts.is_valid_at(identity.claims, self._wall()):
            raise Unauthorized("Unauthorized: the token has expired")
        account = await self._account(identity.claims)
        return AccountIdentity(
            identity.tenant, identity.user, namespace=identity.namespace, claims=identity.claims, rules=rules(account)
        )

    async def _account(self, claims: Mapping[str, Any]) -> Object:
        namespace = service_accounts.namespace(claims)
        account = await self._live(claims, "serviceaccount", SERVICEACCOUNTS, namespace)
        if account is None:
            raise Unauthorized("Unauthorized: the service account does not exist any more")
        for claim, resource in _BOUND.values():
            name, uid = service_accounts.bound(claims, claim)
            # the node of a pod's token is said for those who read it; the pod is what it lives with
            if name and uid and await self._live(claims, claim, resource, namespace) is None:
                raise Unauthorized(f"Unauthorized: the {claim} that the token is bound to does not exist any more")
        join = service_accounts.join(claims)
        if join is not None and join != await self._join_of(claims.get("kubernetes.io") or {}):
            raise Unauthorized("Unauthorized: the node that the token was for was removed, or another machine joined")
        return account

    async def _live(self, claims: Mapping[str, Any], claim: str, resource: Resource, namespace: str) -> Object | None:
        name, uid = service_accounts.bound(claims, claim)
        try:
            obj = await self._objects.get(resource, namespace if resource.namespaced else "", name)
        except NotFound:
            return None
        inner = meta.metadata(obj)
        ends = meta.parse_timestamp(inner.get("deletionTimestamp"))
        if inner.get("uid") != uid or (ends is not None and self._wall() > ends + _GRACE):
            return None
        return obj

    async def review(self, review: Object) -> Object:
        """The status of a TokenReview."""
        spec = review.get("spec")
        token = spec.get("token") if isinstance(spec, dict) else None
        if not isinstance(token, str) or not token:
            raise BadRequest("spec.token is required")
        found = spec.get("audiences") if isinstance(spec, dict) else None
        audiences = [str(one) for one in found] if isinstance(found, list) and found else [service_accounts.ISSUER]
        try:
            claims = self.claims(token, audiences=audiences)
            await self._account(claims)
        except Unauthorized as exc:
            return {"user": {}, "error": str(exc).removeprefix("Unauthorized: ")}
        good = [one for one in audiences if one in service_accounts.audiences(claims)]
        return {"authenticated": True, "user": user_info(claims), "audiences": good}

    # -- for those who verify tokens themselves ------------------------------------------------------------------------

    def jwks(self) -> Object:
        """The answer to GET /openid/v1/jwks: the public keys of the issuer, as a JWK set (RFC 7517)."""
        return {"keys": [self._key.jwk()]}

    def discovery(self, host: str) -> Object:
        """/.well-known/openid-configuration (OpenID Connect Discovery 1.0); `host` is where the client found us."""
        return {
            "issuer": service_accounts.ISSUER,
            "jwks_uri": f"https://{host}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._key.algorithm],
        }


def user_info(claims: Mapping[str, Any]) -> Object:
    """authentication.k8s.io/v1 UserInfo of an account."""
    namespace = service_accounts.namespace(claims)
    extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti')}"]}
    for claim in ("pod", "node"):
        for key, value in zip(("name", "uid"), service_accounts.bound(claims, claim), strict=True):
            if value:
                extra[f"authentication.kubernetes.io/{claim}-{key}"] = [value]
    return {
        "username": claims["sub"],
        "uid": service_accounts.bound(claims, "serviceaccount")[1],
        "groups": service_accounts.groups(namespace),
        "extra": extra,
    }


def _reference(obj: Object) -> Object:
    return {"name": meta.name_of(obj), "uid": meta.metadata(obj).get("uid", "")}


def _asked(name: str, spec: Mapping[str, Any]) -> tuple[list[str], int]:
    audiences = spec.get("audiences") or [service_accounts.ISSUER]
    seconds = spec.get("expirationSeconds")
    seconds = service_accounts.DEFAULT_SECONDS if seconds is None else seconds
    errors = []
    few = isinstance(audiences, list) and len(audiences) <= service_accounts.MAX_AUDIENCES
    if not few or not all(isinstance(one, str) and 0 < len(one) <= 256 for one in audiences):
        errors.append(
            invalid("spec.audiences", "", f"at most {service_accounts.MAX_AUDIENCES} texts of at most 256 characters")
        )
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not whole or not service_accounts.MIN_SECONDS <= seconds <= service_accounts.MAX_SECONDS:
        why = "may not specify a duration less than 10 minutes, or more than 2^32 seconds"
        errors.append(invalid("spec.expirationSeconds", str(seconds)[:32], why))
    if errors:
        raise InvalidObject.of(_TOKEN_REQUEST, name, errors)
    return audiences, seconds
