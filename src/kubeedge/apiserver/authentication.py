"""What a request shows of who asks: a client certificate, or a bearer token. Whether it is good is not known here."""

from __future__ import annotations

from kubeedge.api.status import Forbidden, Unauthorized
from kubeedge.errors import Refused
from kubeedge.kit.http1 import Request
from kubeedge.pki.identity import UserIdentity, of_peer


def by_certificate(request: Request) -> UserIdentity:
    """Who asks, by the certificate of the connection. Raises Unauthorized or Forbidden."""
    tls = request.extra("ssl_object")
    try:
        identity = of_peer(tls.getpeercert() if tls is not None else None)
    except Refused as exc:
        raise Unauthorized(
            "Unauthorized: a client certificate of a user of this cluster, or the token of a service account, is needed"
        ) from exc
    if not isinstance(identity, UserIdentity):
        raise Forbidden(f"{identity.uri} is not a user of a cluster's API")
    return identity


def bearer(request: Request) -> str:
    """The token of the Authorization header (RFC 6750); "" for none."""
    kind, _, token = (request.header("authorization") or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
