"""Certificates of host names from Secrets in the store of a node, as TLS contexts. Keys are in memory alone.

The cloud has looked at a Secret before a route uses it, but the node may have a newer one. The same bounds as there, as far as the text of a key shows
them: handshakes sign on the loop of the agent, and a password would be derived there.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl

MAX_CHAIN = 128 * 1024  # bytes
MAX_KEY = 4096  # bytes of PEM; an RSA key of 4,096 bits has 3,272
_UNFIT = "tls.crt and tls.key are not a PEM certificate and its key"


def context_of_row(row: bytes) -> ssl.SSLContext:
    """For a server, of a Secret as the store has it. Raises ValueError, which says what is wrong with it."""
    try:
        data = json.loads(row).get("data") or {}
        chain, key = (
            _decoded(data.get("tls.crt"), "tls.crt", MAX_CHAIN),
            _decoded(data.get("tls.key"), "tls.key", MAX_KEY),
        )
    except (AttributeError, TypeError, RecursionError) as exc:
        raise ValueError("it is no Secret") from exc
    if b"ENCRYPTED" in key:
        raise ValueError("tls.key has a password")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # OpenSSL reads files, and a key has no business on a disk
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(chain + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")
    except (ssl.SSLError, OSError) as exc:
        raise ValueError(_UNFIT) from exc
    finally:
        os.close(descriptor)
    return context


def _decoded(value: object, name: str, most: int) -> bytes:
    if not isinstance(value, str) or len(value) > most * 4 // 3 + 4:
        raise ValueError(f"the Secret has no {name} that can be used")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"{name} is not base64") from exc
