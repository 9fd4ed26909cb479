"""The Internet checksum (RFC 1071) in C. Products use kubeedge.wire_format.checksum."""

def ones_sum(data: bytes | bytearray | memoryview, initial: int = 0, /) -> int:
    """The one's complement sum of big-endian 16-bit words, the last one padded with zero, on top of `initial` (below 2**32); not inverted."""

def repeated(data: bytes | bytearray | memoryview, times: int) -> int:
    """For bench/checksum: the sum, computed `times` times without the GIL, each on top of the one before."""
