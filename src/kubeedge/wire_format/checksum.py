"""The Internet checksum (RFC 1071), in C."""

from __future__ import annotations

from typing import TypeAlias

from kubeedge._fastpath.checksum import ones_sum

__all__ = ["Buffer", "checksum", "ones_sum"]

Buffer: TypeAlias = bytes | bytearray | memoryview


def checksum(data: Buffer, initial: int = 0) -> int:
    """What goes into the checksum field, which is zero in `data`. Over data with the right checksum in it, this is 0."""
    return ~ones_sum(data, initial) & 0xFFFF
