"""Header blocks of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, section 2.6.10). Pure.

u32 count, then for each: u32 length, name, u32 length, value; zlib with a dictionary, one stream for all blocks of a direction
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from kubeedge.errors import PeerError

_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization "
    "cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range "
    "content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified "
    "location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding "
    "upgrade user-agent vary via warning www-authenticate method get status"
).split() + ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information"
    "204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error"
    "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, "
    "Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
#: what both ends know before the first byte; Adler-32 e3c6a7c2
DICTIONARY = b"".join(struct.pack(">I", len(name)) + name.encode() for name in _NAMES) + _TAIL.encode()

HEADER_BYTES = 16 * 1024  # of a block, uncompressed
_COUNT = 64  # names in a block


class HeaderEncoder:
    """Compresses the header blocks of one direction of a connection."""

    def __init__(self) -> None:
        # a small window: these blocks have some dozens of bytes, and zlib's usual memory is 256 KiB
        self._zlib = zlib.compressobj(1, zlib.DEFLATED, 11, 4, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)

    def encode(self, headers: Mapping[str, str]) -> bytes:
        """A block; names in lower case."""
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode("latin-1")):
                block += struct.pack(">I", len(text)) + text
        return self._zlib.compress(block) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecoder:
    """Decompresses the header blocks of one direction of a connection."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def decode(self, data: bytes) -> dict[str, str]:
        """Names in lower case; the first of several values (they are separated by zero bytes) counts. Raises PeerError, after which no
        further block can be read."""
        try:
            block = self._zlib.decompress(data, HEADER_BYTES)
        except zlib.error as exc:
            raise PeerError(f"a header block that cannot be decompressed: {exc}") from exc
        if self._zlib.unconsumed_tail or self._zlib.eof:
            raise PeerError(f"a header block of more than {HEADER_BYTES} bytes, or the end of the stream of headers")
        return _parsed(block)


def _parsed(block: bytes) -> dict[str, str]:
    count, at = _number(block, 0)
    if count > _COUNT:
        raise PeerError(f"{count} headers of a stream: {_COUNT} may be")
    headers: dict[str, str] = {}
    for _ in range(count):
        name, at = _text(block, at)
        value, at = _text(block, at)
        if not name or name.lower() in headers:
            raise PeerError("a header without a name, or twice")
        headers[name.lower()] = value.partition("\0")[0]
    if at != len(block):
        raise PeerError("bytes behind the last header")
    return headers


def _number(block: bytes, at: int) -> tuple[int, int]:
    if at + 4 > len(block):
        raise PeerError("a header block that ends too early")
    return int.from_bytes(block[at : at + 4], "big"), at + 4


def _text(block: bytes, at: int) -> tuple[str, int]:
    length, at = _number(block, at)
    if at + length > len(block):
        raise PeerError("a header that is longer than its block")
    return block[at : at + length].decode("latin-1"), at + length
