"""Service account tokens: what one says, who asks for which, and when it is due for another. Pure; signatures are not looked at here.

A token is a JWT (RFC 7519). What Kubernetes puts in: `iss`, `aud`, `exp`, `iat`, `nbf`, `jti`, `sub` (system:serviceaccount:NS:NAME), and
`kubernetes.io` {namespace, serviceaccount {name, uid}, pod, node, secret {name, uid}}. `sub` and the account's uid belong together: an account
that was deleted and made again is another one. Ours: `kubeedge.io` {join}, the join of the node that the pod runs on; it is as good as the
certificates of that join.

The tokens of a pod travel to its node as one row, /desired/serviceaccounttokens/NAMESPACE/POD (KeptTokens), sealed on the disk as Secrets are;
the public keys of who signed them as another, /desired/serviceaccountkeys/_/issuer.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from kubeedge.api import meta, strict_json
from kubeedge.api.names import L4Port, Object
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import asdict, dataclass, field

RESOURCE = "serviceaccounttokens"  # below /desired/
KEYS, ISSUER_KEYS = "serviceaccountkeys", "issuer"  # likewise, and the name of the row
#: of signatures, as JWS names them, and what they are signatures of: Kubernetes has these
ALGORITHMS = {f"{kind}{bits}": f"SHA{bits}" for kind in ("RS", "ES") for bits in (256, 384, 512)}
MAX_KEYS = 32  # of one issuer
ISSUER = "https://kubernetes.default.svc.cluster.local"
API_PORT = L4Port(6443)  # L4, on every relay: the API for pods, by way of their node's own
MIN_SECONDS, DEFAULT_SECONDS, MAX_SECONDS = 600, 3600, 2**32
POD_SECONDS = 3607  # of the volume that admission adds, as in Kubernetes: a client knows by it which one it has
MAX_TOKEN = 16 * 1024  # bytes
MAX_AUDIENCES = 32
MAX_POD_TOKENS = 64  # of one pod, besides the one that admission adds
ACCOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_REFRESH = 0.8  # of its life
_REFRESH_AFTER = 24 * 3600.0  # or so many seconds, whichever is earlier
_SET_BACK = 60.0  # seconds that a clock may be corrected by


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a projected volume asks for; audience "" is the API's own."""

    audience: str = ""
    seconds: int = DEFAULT_SECONDS


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was issued for `wanted`; times are in seconds since 1970."""

    audience: str
    seconds: int
    token: str = field(repr=False)
    issued: float
    expires: float
    previous: str = field(default="", repr=False)  # clients read the new one within a minute or so

    @property
    def wanted(self) -> Wanted:
        """The request that it answers."""
        return Wanted(self.audience, self.seconds)

    @property
    def due(self) -> float:
        """When another token should be issued, in seconds since 1970."""
        return min(self.issued + _REFRESH * (self.expires - self.issued), self.issued + _REFRESH_AFTER)

    def is_fresh(self, now: float) -> bool:
        """Another is not due yet at `now`. It is due, too, when the clock was set back to a time before it was issued: it may have ended."""
        return self.issued - _SET_BACK <= now < self.due


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """The tokens of one pod, as its node has them. `rules` are what the account may do in its namespace, as of a SelfSubjectRulesReview."""

    pod: str  # its uid
    account: str
    tokens: tuple[IssuedToken, ...] = ()
    rules: tuple[Mapping[str, Any], ...] = ()

    def encode(self) -> bytes:
        """The value in the store, as compact JSON, which decode_kept() reads when it is decoded."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    def of(self, wanted: Wanted) -> IssuedToken | None:
        """The token that answers this request."""
        return next((token for token in self.tokens if token.wanted == wanted), None)


def decode_kept(obj: Any) -> KeptTokens:
    """The tokens in a decoded JSON object. Raises Invalid."""
    try:
        tokens = tuple(IssuedToken(**token) for token in obj.get("tokens") or ())
        rules = tuple(rule for rule in obj.get("rules") or () if isinstance(rule, dict))
        kept = KeptTokens(str(obj["pod"]), str(obj["account"]), tokens, rules)
        if not all(isinstance(t.token, str) and isinstance(t.expires, int | float) for t in tokens):
            raise ValueError("a token is a string that expires")
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise Invalid(f"the tokens of a pod cannot be read: {type(exc).__name__}") from exc
    return kept


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of who signs tokens: its id, its algorithm (ALGORITHMS), and its SubjectPublicKeyInfo in DER."""

    id: str
    algorithm: str
    key: bytes


def encode_keys(keys: Sequence[IssuerKey]) -> bytes:
    """The row of an issuer's keys: compact JSON."""
    rows = [{"id": k.id, "algorithm": k.algorithm, "key": base64.b64encode(k.key).decode()} for k in keys]
    return json.dumps({"keys": rows}, sort_keys=True, separators=(",", ":")).encode()


def decode_keys(value: bytes) -> tuple[IssuerKey, ...]:
    """The keys of a row that encode_keys() made. Raises Invalid."""
    try:
        rows = json.loads(value)["keys"]
        return tuple(
            IssuerKey(str(row["id"]), str(row["algorithm"]), base64.b64decode(row["key"], validate=True))
            for row in rows[:MAX_KEYS]
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise Invalid(f"the keys of an issuer cannot be read: {type(exc).__name__}") from exc


def wanted_by(pod: Object) -> Iterator[Wanted]:
    """Every different request of the pod's projected volumes, as many as it may have."""
    found: dict[Wanted, None] = {}
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        for part in (volume.get("projected") or {}).get("sources") or ():
            if isinstance(source := part.get("serviceAccountToken"), dict):
                found[wanted_of(source)] = None
    yield from islice(found, MAX_POD_TOKENS + 1)


def counts(source: Mapping[str, Any]) -> bool:
    """The projection is none that admission adds: it counts among MAX_POD_TOKENS."""
    return bool(source.get("audience")) or source.get("expirationSeconds") != POD_SECONDS


def wanted_of(source: Mapping[str, Any]) -> Wanted:
    """The token that a serviceAccountToken projection asks for; the API has checked it."""
    seconds = source.get("expirationSeconds")
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    return Wanted(str(source.get("audience") or ""), seconds if whole and seconds else DEFAULT_SECONDS)


def account_of(pod: Object) -> str:
    """The name of its service account."""
    return str((pod.get("spec") or {}).get("serviceAccountName") or "default")


def request_for(pod: Object, wanted: Wanted) -> Object:
    """The TokenRequest that a node makes for one of its pods."""
    inner = meta.metadata(pod)
    reference = {"kind": "Pod", "apiVersion": "v1", "name": inner.get("name", ""), "uid": inner.get("uid", "")}
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": [wanted.audience] if wanted.audience else [],
            "expirationSeconds": wanted.seconds,
            "boundObjectRef": reference,
        },
    }


def subject(namespace: str, name: str) -> str:
    """The user name of an account."""
    return f"system:serviceaccount:{namespace}:{name}"


def groups(namespace: str) -> list[str]:
    """The groups of every account of a namespace."""
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]


# -- the compact form ------------------------------------------------------------------------------------------------------


def signing_input(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bytes:
    """The text of a token that is signed, HEADER.CLAIMS (RFC 7515 section 5.1)."""
    return b".".join(encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))


@dataclass(frozen=True, slots=True)
class TokenParts:
    """A token taken apart; nothing in it is true until its signature was verified."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def parts(token: str) -> TokenParts:
    """Raises Invalid for anything that is not a JWT in compact form with two objects in it."""
    if len(token) > MAX_TOKEN or token.count(".") != 2 or not token.isascii():
        raise Invalid("not a token")
    head, body, signature = token.split(".")
    try:
        header, claims = (strict_json.loads(decoded(part), what="the token") for part in (head, body))
        made = TokenParts(header, claims, f"{head}.{body}".encode(), decoded(signature))
    except (ValueError, RecursionError, Invalid) as exc:
        raise Invalid("not a token") from exc
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Invalid("not a token")
    return made


def encoded(data: bytes) -> bytes:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decoded(text: str) -> bytes:
    """The bytes of a base64url text without padding. Raises ValueError."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError("not base64url") from exc
    if encoded(data).decode() != text:
        raise ValueError("not the one form of base64url")
    return data


def bound(claims: Mapping[str, Any], kind: str) -> tuple[str, str]:
    """(name, uid) of the pod, node, secret or serviceaccount in the claims; ("", "") for none."""
    private = claims.get("kubernetes.io")
    found = private.get(kind) if isinstance(private, dict) else None
    if not isinstance(found, dict):
        return "", ""
    return str(found.get("name") or ""), str(found.get("uid") or "")


def join(claims: Mapping[str, Any]) -> str | None:
    """Of the node that the token is bound to; None: to no join. A node that joined before joins had an id has ""."""
    private = claims.get("kubeedge.io")
    found = private.get("join") if isinstance(private, dict) else None
    return found if isinstance(found, str) else None


def namespace(claims: Mapping[str, Any]) -> str:
    """The namespace of a token's account; "" for a token that is not an account's."""
    private = claims.get("kubernetes.io")
    return str(private.get("namespace") or "") if isinstance(private, dict) else ""


def audiences(claims: Mapping[str, Any]) -> Sequence[str]:
    """`aud`, which may be one string or several (RFC 7519 section 4.1.3)."""
    found = claims.get("aud")
    return [found] if isinstance(found, str) else [str(one) for one in found] if isinstance(found, list) else []


def is_valid_at(claims: Mapping[str, Any], now: float, *, leeway: float = 60.0) -> bool:
    """Not before `nbf`, not after `exp`. `leeway`: seconds by which clocks may differ; of what has expired nothing is forgiven."""
    times = [claims.get("nbf", 0), claims.get("exp")]
    if not all(isinstance(t, int | float) and not isinstance(t, bool) for t in times):
        return False
    return bool(times[0] <= now + leeway and now < times[1])
