"""Layers as they come: gzip (estargz, too: gzip of many members), zstd, or neither. Read as a stream, in bounded memory.

zlib is Python's own; zstd is libzstd.so.1, which dpkg needs and every Debian has (kubeedge._fastpath.zstd).
"""

from __future__ import annotations

import io
import zlib
from typing import IO, Any

from kubeedge._fastpath import zstd
from kubeedge.errors import Invalid

_CHUNK = 256 * 1024  # bytes of compressed input
_FIRST = (
    4 * 1024
)  # bytes of it after a member has ended: estargz has a member for each file, and the rest of a chunk is copied
_OUT = 1024 * 1024  # bytes that one step may make: a bomb expands no further than it is read
WINDOW_LOG = 23  # 8 MiB, what RFC 8878 recommends that readers offer; zstd needs more from level 20 on
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # zstd:chunked and pzstd write skippable frames, 0x184D2A50 to 5F


def uncompressed(stream: IO[bytes]) -> IO[bytes]:
    """The uncompressed stream; the format is known by its first bytes, whatever the media type says."""
    head = _read_fully(stream, 4)
    rest = _Chained(head, stream)
    if head.startswith(_GZIP):
        return _Inflating(rest)  # type: ignore[return-value]
    if head == _ZSTD or (head[1:] == _SKIPPABLE and head[0] & 0xF0 == 0x50):
        return _Zstd(rest)  # type: ignore[return-value]
    return rest  # type: ignore[return-value]


def _read_fully(stream: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


class _Raw(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Chained(_Raw):
    """A stream of what was read already and then the rest."""

    def __init__(self, first: bytes, rest: IO[bytes]) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int = _CHUNK) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._rest.read(size)


class _Inflating(_Raw):
    """gzip, any number of members one after the other; zeros may follow the last (RFC 1952 does not say so, but tar's users do)."""

    def __init__(self, stream: _Chained) -> None:
        self._stream = stream
        self._member = zlib.decompressobj(wbits=31)
        self._input = b""
        self._position = 0
        self._step = _CHUNK
        self._ended = False

    def read(self, size: int = _OUT) -> bytes:
        size = min(size, _OUT) if size > 0 else _OUT
        try:
            while True:
                if self._ended or (self._member.eof and not self._next_member()):
                    return b""
                if data := self._member.decompress(self._more(), size):
                    return data
        except zlib.error as exc:
            raise Invalid(f"layer is no gzip stream: {exc}") from exc

    def _more(self) -> bytes | memoryview:
        """Input for the next step. Raises Invalid at the end, in the middle of a member."""
        if self._member.unconsumed_tail:
            return self._member.unconsumed_tail
        if not self._fill():
            raise Invalid("layer ends in the middle of its gzip stream")
        begin, self._position = self._position, min(self._position + self._step, len(self._input))
        self._step = min(_CHUNK, self._step * 2)
        return memoryview(self._input)[begin : self._position]

    def _fill(self) -> bool:
        if self._position == len(self._input):
            self._input, self._position = self._stream.read(_CHUNK), 0
        return bool(self._input)

    def _next_member(self) -> bool:
        """Begin the next member of the gzip file; False when there is none."""
        self._position -= len(self._member.unused_data)
        while self._fill():
            if self._input[self._position]:
                self._member, self._step = zlib.decompressobj(wbits=31), _FIRST
                return True
            rest = self._input[self._position :].lstrip(b"\0")
            self._position = len(self._input) - len(rest)
        self._ended = True
        return False


class _Zstd(_Raw):
    def __init__(self, stream: _Chained) -> None:
        try:
            self._frames = zstd.Decompressor(WINDOW_LOG)
        except OSError as exc:
            raise Invalid(f"layers compressed with zstd cannot be read here: {exc}") from exc
        self._stream = stream

    def read(self, size: int = _OUT) -> bytes:
        size = min(size, _OUT) if size > 0 else _OUT
        try:
            while True:
                if data := self._frames.read(size):
                    return data
                if self._frames.needs_input:
                    more = self._stream.read(_CHUNK)
                    if not more:
                        break
                    self._frames.feed(more)
        except ValueError as exc:
            raise Invalid(f"layer is no zstd stream that can be read here: {exc}") from exc
        if not self._frames.whole:
            raise Invalid("layer ends in the middle of its zstd stream")
        return b""
