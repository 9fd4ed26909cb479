"""Header blocks of HTTP/2 (HPACK, RFC 7541). Pure.

What we say is literal and never indexed: nothing has to be kept for the next request. What is said to us may use everything: both tables,
changes of the table's size, Huffman codes.

The Huffman code is canonical: codes of one length follow each other in the order of their symbols, so the lengths are all of Appendix B.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from kubeedge.errors import PeerError
from kubeedge.kit.headers import HeaderList

TABLE_BYTES = 4096  # of the dynamic table: what a peer may use without being told otherwise
BLOCK_BYTES = 64 * 1024  # of all names and values of a block, with 32 for each pair
_OVERHEAD = 32  # bytes for each entry (4.1)

_STATIC: tuple[tuple[str, str], ...] = (
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"),
    *((name, "") for name in (
        "accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control content-disposition "
        "content-encoding content-language content-length content-location content-range content-type cookie date etag expect expires "
        "from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards "
        "proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie strict-transport-security "
        "transfer-encoding user-agent vary via www-authenticate"
    ).split()),
)  # fmt: skip

#: bits of the code of each byte, and of the end (256)
_LENGTHS = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
)  # fmt: skip
_END = 256


def _codes() -> Mapping[tuple[int, int], int]:
    """The symbol of each Huffman code, by its length in bits and its value."""
    code, last, codes = 0, 0, {}
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(_LENGTHS)):
        code <<= length - last
        codes[length, code] = symbol
        code, last = code + 1, length
    return codes


_CODES = _codes()


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block; names in lower case."""
    return b"".join(b"\x10" + _string(name) + _string(value) for name, value in headers)


def _string(text: str) -> bytes:
    data = text.encode("latin-1")
    return _integer(len(data), 7) + data


def _integer(number: int, bits: int) -> bytes:
    """An integer with a prefix of so many bits (section 5.1); the other bits are 0."""
    most = (1 << bits) - 1
    if number < most:
        return bytes([number])
    out = bytearray([most])
    number -= most
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


class HpackDecoder:
    """One direction of a connection: blocks come in their order. After a PeerError no further one can be read."""

    def __init__(self) -> None:
        self._table: deque[tuple[str, str]] = deque()  # the newest first
        self._bytes = 0
        self._most = TABLE_BYTES

    def decode(self, block: bytes) -> HeaderList:
        """The headers of one block (RFC 7541), in their order. Raises PeerError for a block that is malformed or too large."""
        at, headers, size = 0, list[tuple[str, str]](), 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _read_integer(block, at, 7)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:
                if headers:
                    raise PeerError("the size of HPACK's table changes behind a header")
                most, at = _read_integer(block, at, 5)
                if most > TABLE_BYTES:
                    raise PeerError(f"a table of {most} bytes: {TABLE_BYTES} may be")
                self._most = most
                self._evict()
                continue
            else:
                is_indexed = bool(first & 0x40)
                index, at = _read_integer(block, at, 6 if is_indexed else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _read_string(block, at)
                value, at = _read_string(block, at)
                header = name, value
                if is_indexed:
                    self._add(header)
            size += _size(header)
            if size > BLOCK_BYTES:
                raise PeerError(f"a header block of more than {BLOCK_BYTES} bytes")
            headers.append(header)
        return headers

    def _entry(self, index: int) -> tuple[str, str]:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        if not index or index > len(_STATIC) + len(self._table):
            raise PeerError(f"no entry {index} in HPACK's table")
        return self._table[index - len(_STATIC) - 1]

    def _add(self, header: tuple[str, str]) -> None:
        self._table.appendleft(header)
        self._bytes += _size(header)
        self._evict()

    def _evict(self) -> None:
        while self._bytes > self._most:
            self._bytes -= _size(self._table.pop())


def _size(header: tuple[str, str]) -> int:
    return len(header[0]) + len(header[1]) + _OVERHEAD


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    number, at, shift = block[at] & most, at + 1, 0
    if number < most:
        return number, at
    while True:
        if at >= len(block) or shift > 28:
            raise PeerError("a number of HPACK that does not end")
        byte = block[at]
        number, at, shift = number + ((byte & 127) << shift), at + 1, shift + 7
        if byte < 128:
            return number, at


def _read_string(block: bytes, at: int) -> tuple[str, int]:
    if at >= len(block):
        raise PeerError("a header block that ends too early")
    is_coded = bool(block[at] & 0x80)
    length, at = _read_integer(block, at, 7)
    if length > len(block) - at:
        raise PeerError("a header that is longer than its block")
    data = block[at : at + length]
    return (_decoded(data) if is_coded else data).decode("latin-1"), at + length


def _decoded(data: bytes) -> bytes:
    out, code, length = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, length = code << 1 | byte >> bit & 1, length + 1
            symbol = _CODES.get((length, code))
            if symbol is not None:
                if symbol == _END:
                    raise PeerError("the end of a Huffman code inside a string")
                out.append(symbol)
                code = length = 0
            elif length > 30:
                raise PeerError("no Huffman code")
    if length > 7 or code != (1 << length) - 1:
        raise PeerError("padding of a Huffman code that is none")
    return bytes(out)
