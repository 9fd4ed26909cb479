"""The host name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), without decrypting anything. Pure."""

from __future__ import annotations

from kubeedge.errors import Invalid

HEADER = 5  # bytes before a record
LONGEST = HEADER + 16384  # of a record

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0


def needed(first: bytes) -> int:
    """Bytes of the first record, its header included, by what was read of it; HEADER while that is not known. Raises Invalid: it is not TLS."""
    if first and first[0] != _HANDSHAKE:
        raise Invalid("not a TLS handshake")
    if len(first) < HEADER:
        return HEADER
    length = int.from_bytes(first[3:5], "big")
    if not 0 < length <= LONGEST - HEADER:
        raise Invalid("a TLS record of a length that is not allowed")
    return HEADER + length


def server_name(record: bytes) -> str:
    """The host that a whole first record asks for, in lower case; "": none. Raises Invalid, also for a ClientHello of several records."""
    hello = _Reader(record[HEADER:])
    if hello.number(1) != _CLIENT_HELLO:
        raise Invalid("not a ClientHello")
    hello = _Reader(hello.vector(3))
    hello.take(2 + 32)  # version, random
    hello.vector(1)  # session
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression
    if not hello.left:
        return ""
    extensions = _Reader(hello.vector(2))
    while extensions.left:
        kind, body = extensions.number(2), _Reader(extensions.vector(2))
        if kind == _SERVER_NAME:
            names = _Reader(body.vector(2))
            if names.number(1) != _HOST_NAME:
                return ""
            name = names.vector(2)
            if not name.isascii() or not 0 < len(name) <= 253:
                raise Invalid("a server name that is no host name")
            return name.decode().lower().removesuffix(".")
    return ""


class _Reader:
    """Takes fields from the beginning; what is not there raises Invalid."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Invalid("a ClientHello that ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))
