"""TLS contexts: which authorities are trusted, and which certificate is presented. Standard library only;
every context verifies its peer or serves."""

from __future__ import annotations

import os
import ssl
from pathlib import Path


def server_context(
    cert: Path, key: Path, *, client_ca: Path | None, minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """With client_ca every client must show a certificate of that CA; without, clients stay unauthenticated."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = minimum
    context.load_cert_chain(cert, key)
    context.num_tickets = 0  # a client that comes back shows its certificate again
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: Path, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Trusts that CA alone, checks the server's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


def fits(cert: Path, key: Path) -> bool:
    """Whether the key belongs to the certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password="")  # "": never ask a terminal
    except (OSError, ValueError):  # SSLError is an OSError
        return False
    return True


def mend_pair(pki: Path) -> bool:
    """Finish a renewal that a power cut interrupted between node.crt and node.key; whether there was something to do.

    A renewal writes node.key.next, then replaces node.crt, then renames node.key.next to node.key.
    """
    waiting = pki / "node.key.next"
    if not waiting.exists():
        return False
    if fits(pki / "node.crt", waiting):
        os.replace(waiting, pki / "node.key")
    else:
        waiting.unlink()  # its certificate never came
    return True
