"""What asyncio's TLS costs in memory.

asyncio keeps a receive buffer of 256 KiB for each TLS connection, filled with zeros and so really taken: 256 MB for a thousand nodes
that say nothing. A TLS record is at most 16 KiB (RFC 8446 section 5.1), so a buffer of two records serves as well. The size is an
attribute of a class of the standard library and has no documented way to set it; where it is not found, all stays as it was.
"""

from __future__ import annotations

BUFFER = 32 * 1024  # bytes


def small_buffers() -> None:
    """For TLS connections that this process opens from now on."""
    from asyncio import sslproto

    if getattr(sslproto.SSLProtocol, "max_size", 0) > BUFFER:
        sslproto.SSLProtocol.max_size = BUFFER
