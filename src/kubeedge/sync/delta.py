"""A value as its difference from another one, and digests of what both ends should have.

patch     varint bytes kept of the beginning, varint bytes kept of the end, varint length of the middle << 1 | deflated, the middle
          deflated: varint bytes that follow, raw DEFLATE (RFC 1951) with what the middle replaces as its preset dictionary

So one changed field of a large object costs some ten bytes, and several of them, far from each other, little more than the matches
between. A patch says nothing of what it applies to: a digest of the result travels with it (codec.py).
"""

from __future__ import annotations

import hashlib
import zlib

from kubeedge.errors import PeerError
from kubeedge.kit.varint import varint
from kubeedge.store.model import MAX_VALUE
from kubeedge.sync.dictionary import KUBERNETES
from kubeedge.sync.reader import Reader

DIGEST = 8  # bytes: of a value, of a range of keys
CONTENT = 16  # bytes: of all that is below a prefix
_WINDOW = 32 * 1024  # bytes that DEFLATE looks back
_WORTH_DEFLATING = 24  # bytes


def digest(value: bytes) -> bytes:
    """BLAKE2b of one value, `DIGEST` bytes."""
    return hashlib.blake2b(value, digest_size=DIGEST).digest()


class Content:
    """The digest of keys and values in the order of keys."""

    __slots__ = ("_hash",)

    def __init__(self, size: int) -> None:
        self._hash = hashlib.blake2b(digest_size=size)

    def add(self, key: str, value: bytes) -> None:
        """The next key, in the order of the store."""
        name = key.encode()
        self._hash.update(b"%d %d " % (len(name), len(value)))
        self._hash.update(name)
        self._hash.update(value)

    def digest(self) -> bytes:
        """The digest of all keys and values so far."""
        return self._hash.digest()


def make(base: bytes, new: bytes) -> bytes | None:
    """The patch that makes `new` of `base`; None when it would save little."""
    shorter = min(len(base), len(new))
    start = _common(base, new, shorter)
    tail = _common(base[::-1], new[::-1], shorter - start)
    middle = new[start : len(new) - tail]
    head = varint(start) + varint(tail)
    packed = head + varint(len(middle) << 1) + middle
    if len(middle) >= _WORTH_DEFLATING:
        squeezed = deflate(middle, _dictionary(base, start, tail))
        other = head + varint(len(middle) << 1 | 1) + varint(len(squeezed)) + squeezed
        packed = min(packed, other, key=len)
    return packed if 2 * len(packed) < len(new) else None


def apply(base: bytes, patch: bytes) -> bytes:
    """Raises PeerError for a patch that is none of this base, or makes a value that no store takes."""
    reader = Reader(patch)
    start, tail, length = reader.varint(), reader.varint(), reader.varint()
    if start + tail > len(base) or start + tail + (length >> 1) > MAX_VALUE:
        raise PeerError(f"a patch keeps {start} and {tail} bytes of {len(base)} and adds {length >> 1}")
    if length & 1:
        middle = inflate(reader.take(reader.varint()), length >> 1, _dictionary(base, start, tail))
    else:
        middle = reader.take(length >> 1)
    reader.end()
    return base[:start] + middle + base[len(base) - tail :]


def deflate(data: bytes, dictionary: bytes) -> bytes:
    """Raw DEFLATE (RFC 1951) with the dictionary."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=dictionary)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes, length: int, dictionary: bytes) -> bytes:
    """Exactly `length` bytes; no more than that is ever unpacked."""
    unpacker = zlib.decompressobj(-15, zdict=dictionary)
    try:
        out = unpacker.decompress(data, length + 1)  # one more, so that the end of the stream is reached
    except zlib.error as exc:
        raise PeerError("compressed bytes do not unpack") from exc
    if len(out) != length or not unpacker.eof or unpacker.unused_data:
        raise PeerError(f"compressed bytes are not the {length} that they say")
    return out


def _dictionary(base: bytes, start: int, tail: int) -> bytes:
    return (KUBERNETES + base[start : len(base) - tail])[-_WINDOW:]


def _common(a: bytes, b: bytes, most: int) -> int:
    """How many bytes the two have in common at their beginning, at most `most`; by halves, as comparing slices is fast."""
    low, high = 0, most
    while low < high:
        half = (low + high + 1) // 2
        if a[low:half] == b[low:half]:
            low = half
        else:
            high = half - 1
    return low
