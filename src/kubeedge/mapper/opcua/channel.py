"""A secure channel over OPC-UA's connection protocol (OPC 10000-6, 6.7 and 7.1): chunks, sequence numbers, tokens. Pure.

A chunk has 64 KiB at most and a message 1 MiB; what is larger, out of order, of another channel or of a token that is none ends the connection.
"""

from __future__ import annotations

import struct

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.opcua import messages
from kubeedge.mapper.opcua.binary import OpcuaDecoder, OpcuaEncoder
from kubeedge.mapper.opcua.security import SealingSuite

HEADER = 8  # bytes: type, whether it is the last chunk, size
MAX_CHUNK = 64 * 1024  # bytes
MAX_MESSAGE = 1024 * 1024
_MAX_OPEN = 16  # messages of which some chunks are there
_MAX_OPENING = 4096  # bytes of the answer that opens a channel: it is decrypted with a private key, piece by piece
_MIN_CHUNK = 8192  # that a server must take
_OVERHEAD = 1024  # bytes of a chunk that may be for its headers, padding and signature


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """A whole message. `kind`: b"OPN" or b"MSG"."""

    kind: bytes
    request: int
    body: bytes


def hello(url: str) -> bytes:
    """The first message of a connection."""
    body = bytes(
        OpcuaEncoder().pack("IIIII", 0, MAX_CHUNK, MAX_CHUNK, MAX_MESSAGE, MAX_MESSAGE // _MIN_CHUNK).text(url).data
    )
    return b"HELF" + struct.pack("<I", HEADER + len(body)) + body


def size_of(header: bytes) -> int:
    """Bytes that follow the header of a chunk. Raises PeerError."""
    size: int = struct.unpack_from("<I", header, 4)[0]
    if header[:3] not in (b"ACK", b"ERR", b"OPN", b"MSG") or not HEADER < size <= MAX_CHUNK:
        raise PeerError(f"this is no OPC-UA: header {header.hex()}")
    return size - HEADER


def acknowledged(header: bytes, body: bytes) -> int:
    """Bytes of a chunk that the server takes. Raises PeerError for what acknowledges nothing."""
    if header[:3] == b"ERR":
        raise refusal(body)
    if header[:4] != b"ACKF":
        raise PeerError("the server does not acknowledge the connection")
    _, receive, _, _, _ = OpcuaDecoder(body).unpack("IIIII")
    if receive < _MIN_CHUNK:
        raise PeerError(f"the server takes chunks of {receive} bytes only")
    return min(int(receive), MAX_CHUNK)


def refusal(body: bytes) -> PeerError:
    """What an error message of the connection protocol says."""
    decoder = OpcuaDecoder(body)
    status, why = decoder.number(), "".join(c if c.isprintable() else "?" for c in decoder.text()[:200])
    return PeerError(f"the server ends the connection: {messages.status_name(status)} {why}")


class SecureChannel:
    """`opening`: protects the messages that open it; `policy`, `certificate`, `thumbprint`: what their header says; `largest`: bytes of a chunk that
    the server takes."""

    def __init__(
        self, opening: SealingSuite, policy: str, certificate: bytes | None, thumbprint: bytes | None, largest: int
    ) -> None:
        self.id = 0
        self._opening = opening
        self._head = bytes(OpcuaEncoder().text(policy).blob(certificate).blob(thumbprint).data)
        self._largest = largest
        self._tokens: dict[int, SealingSuite] = {}  # the two newest
        self._token = 0
        self._sent = self._received = 0
        self._parts: dict[int, bytearray] = {}
        self._opens = False  # an answer to `open_request` is awaited

    def use(self, channel: int, token: int, suite: SealingSuite) -> None:
        """The server has opened the channel, or renewed its token: what is sent from now on has that token."""
        self.id, self._token = channel, token
        self._tokens[token] = suite
        for old in list(self._tokens)[:-2]:
            del self._tokens[old]

    def open_request(self, request: int, body: bytes) -> bytes:
        """The message that opens the channel, or renews its token."""
        fixed = struct.pack("<I", self.id) + self._head
        self._opens = True

        def head(size: int) -> bytes:
            return b"OPNF" + struct.pack("<I", size) + fixed

        return self._opening.sealed(head, self._sequence(request) + body)

    def message(self, request: int, body: bytes, kind: bytes = b"MSG") -> bytes:
        """A message, in as many chunks as it needs. Raises PeerError for one that is too large."""
        if len(body) > MAX_MESSAGE:
            raise PeerError(f"a message of {len(body)} bytes is too large")
        found, room = b"", self._largest - _OVERHEAD
        for at in range(0, len(body), room):
            mark = b"C" if at + room < len(body) else b"F"

            def head(size: int, mark: bytes = mark) -> bytes:
                return kind + mark + struct.pack("<III", size, self.id, self._token)

            found += self._tokens[self._token].sealed(head, self._sequence(request) + body[at : at + room])
        return found

    def _sequence(self, request: int) -> bytes:
        self._sent = self._sent % 0xFFFF_FBFF + 1
        return struct.pack("<II", self._sent, request)

    def received(self, header: bytes, rest: bytes) -> ChannelMessage | None:
        """A message, when this chunk is its last. Raises PeerError."""
        kind, mark = header[:3], header[3:4]
        if kind == b"ERR":
            raise refusal(rest)
        decoder = OpcuaDecoder(rest)
        channel = decoder.number()
        if self.id and channel != self.id:
            raise PeerError("a chunk of another channel")
        if kind == b"OPN":
            if not self._opens or mark != b"F":  # each costs a private key's work
                raise PeerError("the server opens a channel unasked, or in parts")
            self._opens = False
            decoder.blob(), decoder.blob(), decoder.blob()
            if decoder.left > _MAX_OPENING:
                raise PeerError(f"the server opens a channel with {decoder.left} bytes")
            suite = self._opening
        elif kind == b"MSG" and (known := self._tokens.get(decoder.number())) is not None:
            suite = known
        else:
            raise PeerError("a chunk of no token of this channel")
        at = len(rest) - decoder.left
        plain = OpcuaDecoder(suite.opened(header + rest[:at], rest[at:]))
        sequence, request = plain.unpack("II")
        if self._received and sequence != self._received + 1 and not (self._received > 0xFFFF_FBFF and sequence < 1024):
            raise PeerError("a chunk is missing, or comes again")
        self._received = sequence
        return self._assembled(kind, mark, request, plain.take(plain.left))

    def _assembled(self, kind: bytes, mark: bytes, request: int, body: bytes) -> ChannelMessage | None:
        if mark == b"A":
            self._parts.pop(request, None)
            raise PeerError("the server gives up an answer")
        parts = self._parts.setdefault(request, bytearray())
        parts += body
        if sum(map(len, self._parts.values())) > MAX_MESSAGE or len(self._parts) > _MAX_OPEN:
            raise PeerError(f"the server sends more than {MAX_MESSAGE} bytes for an answer")
        if mark == b"C":
            return None
        if mark != b"F":
            raise PeerError("a chunk is neither the last one nor another")
        return ChannelMessage(kind, request, bytes(self._parts.pop(request)))
