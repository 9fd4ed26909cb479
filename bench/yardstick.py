"""What the machine can do without us, in processor seconds, so that a bound is the same on a fast machine and on a slow one."""

from __future__ import annotations

import ssl
import tempfile
import time
from pathlib import Path

from tests.kit.certs import Credentials, TestAuthority

_HANDSHAKES = 300


def tls_handshake() -> float:
    """Seconds of one TLS 1.3 handshake with both certificates, both ends, in memory."""
    with tempfile.TemporaryDirectory(prefix="kbyard") as directory:
        authority = TestAuthority(Path(directory))
        server = _context(authority.issue("server", hosts=["localhost"]), ssl.PROTOCOL_TLS_SERVER)
        client = _context(authority.issue("client", hosts=["client"]), ssl.PROTOCOL_TLS_CLIENT)
    begun = time.process_time()
    for _ in range(_HANDSHAKES):
        _shake_hands(client, server)
    return (time.process_time() - begun) / _HANDSHAKES


def _context(who: Credentials, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.load_verify_locations(who.ca)
    context.load_cert_chain(who.cert, who.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname="localhost"),
        server.wrap_bio(up, down, server_side=True),
    ]
    while ends:
        for end in ends[:]:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
