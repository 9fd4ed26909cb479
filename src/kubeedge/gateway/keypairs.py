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
from collections.abc import Iterator

MAX_CHAIN = 128 * 1024  # bytes
MAX_KEY = 4096  # bytes of PEM; an RSA key of 4,096 bits has 3,272
_UNFIT = "tls.crt and tls.key are not a PEM certificate and its key"
_CERTIFICATES = frozenset((b"CERTIFICATE", b"X509 CERTIFICATE"))
_KEYS = frozenset((b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"))


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
    certificates, keys = list(_blocks(chain, _CERTIFICATES)), list(_blocks(key, _KEYS))
    if not certificates or len(keys) != 1:
        raise ValueError(_UNFIT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # OpenSSL reads files, and a key has no business on a disk
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(b"".join((*certificates, *keys)))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")
    except (ssl.SSLError, OSError) as exc:
        raise ValueError(_UNFIT) from exc
    finally:
        os.close(descriptor)
    return context


def _blocks(text: bytes, labels: frozenset[bytes]) -> Iterator[bytes]:
    """The blocks of PEM with these labels, written anew; nothing else of the text reaches OpenSSL, which takes the first key that it finds: one in tls.crt,
    of any size, or with a password whose derivation takes hours. Raises ValueError."""
    label, body = b"", list[bytes]()
    for line in map(bytes.strip, text.splitlines()):
        if line.startswith(b"-----BEGIN ") and line.endswith(b"-----"):
            label, body = line[11:-5], []
        elif label and line == b"-----END " + label + b"-----":
            if label in labels:
                try:
                    written = base64.encodebytes(base64.b64decode(b"".join(body), validate=True))
                except binascii.Error as exc:
                    raise ValueError(_UNFIT) from exc
                yield b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, written, label)
            label = b""
        else:
            body.append(line)


def _decoded(value: object, name: str, most: int) -> bytes:
    if not isinstance(value, str) or len(value) > most * 4 // 3 + 4:
        raise ValueError(f"the Secret has no {name} that can be used")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"{name} is not base64") from exc
