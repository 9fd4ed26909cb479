"""Certificates of host names from Secrets of type kubernetes.io/tls, as TLS contexts. Keys are in memory alone."""

from __future__ import annotations

import base64
import binascii
import os
import ssl

from kubeedge.api.names import Object
from kubeedge_cloud.certificates.filecertificate.module import modern

_MOST = 128 * 1024  # bytes of a certificate chain, or of a key


def context_of(secret: Object) -> ssl.SSLContext:
    """For a server. Raises ValueError, which says what is wrong with the Secret."""
    data = secret.get("data") or {}
    chain, key = (_decoded(data.get(name), name) for name in ("tls.crt", "tls.key"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    descriptor = os.memfd_create(
        "certificate", os.MFD_CLOEXEC
    )  # OpenSSL reads files, and a key has no business on a disk
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(chain + b"\n" + key)
        # a password that is asked for at the terminal would hold the whole process
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")
    except (ssl.SSLError, OSError) as exc:
        raise ValueError("tls.crt and tls.key are not a PEM certificate and its key") from exc
    finally:
        os.close(descriptor)
    return modern(context)


def _decoded(value: object, name: str) -> bytes:
    if not isinstance(value, str) or len(value) > _MOST * 4 // 3:
        raise ValueError(f"the Secret has no {name}")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"{name} is not base64") from exc
