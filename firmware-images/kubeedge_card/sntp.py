"""The time of a server (RFC 4330), for a machine whose clock may stand anywhere: a request, and what an answer says. Bytes only."""

from __future__ import annotations

import struct

PORT = 123
_SINCE_1900 = 2_208_988_800  # seconds from 1900 to 1970
_ERA = 1 << 32  # seconds; the first one ends in 2036
_PACKET = struct.Struct("!BBbb11I")


def request(nonce: int) -> bytes:
    """48 bytes. `nonce`: 64 bits that the answer repeats, where a client would put its own clock, which nobody needs to know."""
    return _PACKET.pack(0x23, 0, 0, 0, *[0] * 9, nonce >> 32, nonce & 0xFFFFFFFF)


def answer(data: bytes, nonce: int, earliest: int) -> float | None:
    """Seconds since 1970; None where it is no answer to that request, or the server is not in step with anything. `earliest`: a second before
    which it certainly is not; it decides which era of 136 years is meant."""
    if len(data) < _PACKET.size:
        return None
    first, stratum, _, _, *words = _PACKET.unpack_from(data)
    if first & 7 != 4 or first >> 6 == 3 or not 1 <= stratum <= 15:
        return None
    if (words[5] << 32 | words[6]) != nonce:
        return None
    seconds: int = words[9] - _SINCE_1900
    fraction: int = words[10]
    while seconds < earliest:
        seconds += _ERA
    return seconds + fraction / _ERA
