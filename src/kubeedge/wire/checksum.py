"""The Internet checksum (RFC 1071): the public function. The C version is used when it is there, and never with KUBEEDGE_PURE set."""

from __future__ import annotations

import os
from collections.abc import Callable

from kubeedge.wire import _checksum_py
from kubeedge.wire._checksum_py import Buffer


def _choose() -> Callable[[Buffer, int], int]:
    if not os.environ.get("KUBEEDGE_PURE"):
        try:
            from kubeedge._fastpath import checksum as fast
        except ImportError:
            pass
        else:
            chosen: Callable[[Buffer, int], int] = fast.ones_sum
            return chosen
    return _checksum_py.ones_sum


_ones_sum = _choose()


def ones_sum(data: Buffer, initial: int = 0) -> int:
    """The one's complement sum of `data`, not inverted, on top of `initial` (a pseudo header's sum, below 2**32)."""
    return _ones_sum(data, initial)


def checksum(data: Buffer, initial: int = 0) -> int:
    """What goes into the checksum field, which is zero in `data`. Over data with the right checksum in it, this is 0."""
    return ~_ones_sum(data, initial) & 0xFFFF
