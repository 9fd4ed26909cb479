"""Who may use a web service. Pure.

    public   every client that reaches the client proxy
    tenant   the nodes of the tenant; from outside the service does not exist
    token    holders of a token, from inside and from outside: Authorization: Bearer T (RFC 6750), or X-KubeEdge-Token: T for
             services with an Authorization of their own

A node keeps the SHA-256 of its tokens, in hex. A token is long and random, so neither salt nor a slow hash would add anything.

The service's node decides, by the number of the L4 peer, for which the relay vouches: whatever is not a node of the tenant is outside.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from kubeedge.kit.dataclasses import dataclass

AccessMode: TypeAlias = Literal["public", "tenant", "token"]

KINDS: tuple[str, ...] = get_args(AccessMode)
TOKEN_HEADER = "x-kubeedge-token"
MAX_TOKENS = 16  # of one service
MIN_TOKEN = 16  # characters of a token that was not made here

_HASH = 64  # hex digits of a SHA-256


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may use a service, from its value in the store."""

    access: AccessMode = "public"
    tokens: tuple[str, ...] = ()  # hashes


PUBLIC = Policy()


class AccessDecision(enum.Enum):
    """May this request use the service? If not, why."""

    ALLOWED = "welcome"
    HIDDEN = "hidden"  # to be answered as if there were no such service
    TOKEN_MISSING = "token missing"
    TOKEN_WRONG = "token wrong"


def hashed(token: str) -> str:
    """The hash that is stored for a token. Header values are Latin-1 on the wire."""
    return hashlib.sha256(token.encode("latin-1", "replace")).hexdigest()


def policy_of(value: Mapping[str, Any]) -> Policy:
    """Of a published service's value in the store: "access" (absent: public) and "tokens". Raises ValueError."""
    access, tokens = value.get("access", "public"), value.get("tokens", ())
    if access not in KINDS:
        raise ValueError(f"access {access!r:.80}, which is not public, tenant or token")
    if not isinstance(tokens, list | tuple) or len(tokens) > MAX_TOKENS:
        raise ValueError(f"tokens that are not a list of at most {MAX_TOKENS} hashes")
    return Policy(access, tuple(t for t in tokens if isinstance(t, str) and len(t) == _HASH and t.isascii()))


def is_inside(peer: object, nodes: int) -> bool:
    """Whether the peername of an L4 connection is a node of the tenant: those have the numbers 1 to `nodes`."""
    number = peer[0] if isinstance(peer, tuple) and peer else None
    return isinstance(number, int) and 0 < number <= nodes


def decide(policy: Policy, headers: Sequence[tuple[str, str]], *, inside: bool) -> AccessDecision:
    """`headers` with names in lower case."""
    match policy.access:
        case "public":
            return AccessDecision.ALLOWED
        case "tenant":
            return AccessDecision.ALLOWED if inside else AccessDecision.HIDDEN
    shown = [token for name, value in headers if (token := _token(name, value))]
    if not shown:
        return AccessDecision.TOKEN_MISSING
    fits = [_fits(policy, token) for token in shown]  # all of them, so that time says nothing
    return AccessDecision.ALLOWED if any(fits) else AccessDecision.TOKEN_WRONG


def without_token(policy: Policy, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What the service may see: our own header never, an Authorization unless it carried a token of ours."""
    return [
        (name, value)
        for name, value in headers
        if name != TOKEN_HEADER
        and not (name == "authorization" and policy.access == "token" and _fits(policy, _token(name, value)))
    ]


def _token(name: str, value: str) -> str:
    """ "" when the header carries none."""
    if name == TOKEN_HEADER:
        return value.strip()
    if name == "authorization":
        scheme, _, token = value.strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""
    return ""


def _fits(policy: Policy, token: str) -> bool:
    shown = hashed(token)
    found = False
    for known in policy.tokens:
        found |= hmac.compare_digest(known, shown)
    return found and bool(token)
