"""The Internet checksum as RFC 1071 says it: the reference implementation of _fastpath/packet/checksum.h, and its specification."""

from __future__ import annotations

from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


def ones_sum(data: Buffer, initial: int = 0) -> int:
    """The one's complement sum of big-endian 16-bit words, the last one padded with zero; not inverted.

    `initial` is the sum of what comes before: a pseudo header, say. It is below 2**32.
    """
    if not 0 <= initial < 1 << 32:
        raise OverflowError(f"an initial sum of {initial}")
    data = bytes(data)
    total = sum(data[0::2]) * 256 + sum(data[1::2])
    total = _fold(total) + initial
    return _fold(total)


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
