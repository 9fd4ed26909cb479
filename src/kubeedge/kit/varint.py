"""Unsigned LEB128 numbers: seven bits a byte, the low ones first, as protobuf, MQTT and our sync write them. Pure.

Lives elsewhere: reading them, within the bounds of each format.
"""

from __future__ import annotations


def varint(value: int) -> bytes:
    """The encoding of a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
