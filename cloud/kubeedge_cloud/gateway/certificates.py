"""Certificates of host names from Secrets of type kubernetes.io/tls, as TLS contexts."""

from __future__ import annotations

import base64
import binascii
import ssl

from kubeedge.api.names import Object
from kubeedge_cloud.certificates import tenant_keypairs
from kubeedge_cloud.certificates.filecertificate.module import modern

_MOST = 128 * 1024  # bytes of a certificate chain, or of a key


def context_of(secret: Object) -> ssl.SSLContext:
    """For a server. Raises ValueError, which says what is wrong with the Secret."""
    data = secret.get("data") or {}
    chain, key = _decoded(data.get("tls.crt"), "tls.crt"), _decoded(data.get("tls.key"), "tls.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    tenant_keypairs.present(context, chain, key)
    return modern(context)


def _decoded(value: object, name: str) -> bytes:
    if not isinstance(value, str) or len(value) > _MOST * 4 // 3:
        raise ValueError(f"the Secret has no {name}")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"{name} is not base64") from exc
