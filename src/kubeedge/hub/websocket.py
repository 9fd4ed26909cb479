"""As much of WebSocket (RFC 6455) as a channel needs: the upgrade, whole binary messages, close, and answers to pings.

    client                                              server
      │── GET /v1/channel, Sec-WebSocket-Key ────────────>│  section 4: one HTTP/1.1 request and its answer
      │<─ 101 Switching Protocols, Sec-WebSocket-Accept ──│  (or a refusal: a status and a line of text)
      │<═ frames, not masked ═════════════════════════════│  section 5
      │══ frames, masked with four random bytes each ════>│

A frame is `fin, opcode: u8`, `masked, length: u8` (126: u16 follows, 127: u64), the mask, the payload. Extensions and subprotocols are
not offered and not accepted; text breaks the rules of the hub. A length is checked before its bytes are waited for, and a message in
pieces may not grow beyond what one frame may have.

One object a channel lives as long as a node is attached, so it is small: an idle one holds no buffer.

Lives elsewhere: sockets, TLS, deadlines (stream.py); what the messages mean (core.py).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import TypeAlias

from kubeedge.errors import PeerError, Unavailable

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NO_STATUS = 1005  # what a close frame without a code means (section 7.4.1); never sent
MAX_HEAD = 8 * 1024  # bytes of a request or an answer before it is refused; a header of ours has some 250
MAX_REFUSAL = 1024  # bytes of its text that are read
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_MAX_CONTROL = 125  # bytes (section 5.5)
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

#: opcode (BINARY, CLOSE, PING or PONG) and payload
Frame: TypeAlias = tuple[int, bytes]


class Rejected(Unavailable):
    """The server answered the upgrade with another status than 101, and some text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the upgrade was answered with {status}: {text}")
        self.status = status
        self.text = text


# -- the upgrade -------------------------------------------------------------------------------------------------------


def request(host: str, path: str, key: bytes) -> bytes:
    """`key`: 16 random bytes, for this connection alone."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(key).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode("ascii")


def end_of_head(data: bytes | bytearray) -> int:
    """Where the head of an HTTP message ends; 0 while it is not complete. Raises PeerError when it is too long."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD) + 4
    if end > 3:
        return end
    if len(data) >= MAX_HEAD:
        raise PeerError(f"a head of more than {MAX_HEAD} bytes", close_code=1009)
    return 0


def read_request(head: bytes) -> tuple[str, bytes]:
    """The path, and the answer that accepts the upgrade. Raises Rejected with the status to answer instead."""
    first, headers = _parse(head)
    method, _, rest = first.partition(" ")
    path, _, version = rest.rpartition(" ")
    if version != "HTTP/1.1" or not path.startswith("/"):
        raise Rejected(400, "not a request of HTTP/1.1")
    if method != "GET":
        raise Rejected(405, "GET is the only method here")
    if (
        "websocket" not in _listed(headers.get("upgrade", ""))
        or "upgrade" not in _listed(headers.get("connection", ""))
        or "host" not in headers
    ):
        raise Rejected(426, "this is a WebSocket endpoint")
    if headers.get("sec-websocket-version") != "13":
        raise Rejected(426, "version 13 of WebSocket is spoken here")
    key = headers.get("sec-websocket-key", "")
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise ValueError("length")
    except ValueError as exc:
        raise Rejected(400, "Sec-WebSocket-Key is not 16 bytes") from exc
    return path, (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept(key.encode())}\r\n\r\n"
    ).encode("ascii")


def refusal(status: int, text: str) -> bytes:
    body = text.encode()[: MAX_REFUSAL - 1] + b"\n"
    return (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Refused')}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        + ("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" if status == 426 else "")
        + "\r\n"
    ).encode("ascii") + body


def read_answer(head: bytes, key: bytes) -> tuple[int, int]:
    """(101, 0): upgraded. Otherwise the status of a refusal, and how many bytes of its text follow and are worth reading.

    Raises PeerError for what is no answer to `key`.
    """
    try:
        first, headers = _parse(head)
    except Rejected as exc:
        raise PeerError("the answer to the upgrade is not HTTP/1.1") from exc
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if version != "HTTP/1.1" or len(status) != 3 or not status.isdigit() or not status.isascii():
        raise PeerError("the answer to the upgrade is not HTTP/1.1")
    if status != "101":
        length = headers.get("content-length", "0")
        known = length.isascii() and length.isdigit() and len(length) <= len(str(MAX_REFUSAL))
        return int(status), min(int(length), MAX_REFUSAL) if known else MAX_REFUSAL
    if (
        "websocket" not in _listed(headers.get("upgrade", ""))
        or headers.get("sec-websocket-accept") != accept(base64.b64encode(key))
        or "sec-websocket-extensions" in headers
        or "sec-websocket-protocol" in headers
    ):
        raise PeerError("the answer to the upgrade is not one to our request")
    return 101, 0


def accept(key: bytes) -> str:
    """Section 4.2.2: what proves that the server has read the key (in Base64)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    """The first line, and the headers by their names in lower case. Raises Rejected."""
    lines = head[:-4].split(b"\r\n")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name) or b"\0" in value or b"\n" in value or b"\r" in value:
            raise Rejected(400, "a header is not one")
        key, text = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        if key not in headers:
            headers[key] = text
        elif key in ("upgrade", "connection"):
            headers[key] += f",{text}"
        elif key in ("host", "sec-websocket-key", "sec-websocket-version", "sec-websocket-accept"):
            raise Rejected(400, f"{key} is there twice")
    return lines[0].decode("latin-1"), headers


def _listed(value: str) -> Sequence[str]:
    return [part.strip().lower() for part in value.split(",")]


_REASONS = {
    400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 426: "Upgrade Required",
    503: "Service Unavailable",
}  # fmt: skip


# -- frames ------------------------------------------------------------------------------------------------------------


def encode(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """One whole frame. `mask`: four random bytes, of a client."""
    length = len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, (0x80 if mask else 0) | length))
    elif length < 1 << 16:
        head = bytes((0x80 | opcode, (0x80 if mask else 0) | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, (0x80 if mask else 0) | 127)) + length.to_bytes(8, "big")
    return head + mask + _masked(payload, mask) if mask else head + payload


def closing(code: int, reason: str) -> bytes:
    """The payload of a close frame."""
    return code.to_bytes(2, "big") + reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore").encode()


def read_closing(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame. Raises PeerError."""
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise PeerError("a close frame of one byte")
    return int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")


class Frames:
    """What the other end sends, cut into frames. After an error nothing more is understood."""

    __slots__ = ("_buffer", "_limit", "_masked", "_message", "_wanted")

    def __init__(self, *, masked: bool, limit: int) -> None:
        """`masked`: the other end is a client (section 5.1). `limit`: bytes of a message."""
        self._masked = masked
        self._limit = limit
        self._buffer: bytearray | None = None  # of a frame that is not complete
        self._wanted = 0  # bytes that the buffer must have before looking at it again is worth it
        self._message: bytearray | None = None  # of one that comes in pieces

    def receive(self, data: bytes) -> list[Frame]:
        """Raises PeerError when the other end breaks the rules."""
        frames: list[Frame] = []
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return frames
            data = bytes(self._buffer)
            self._buffer = None
        at, there = 0, len(data)
        while at < there:
            body, length = self._head(data, at, there - at)
            end = body + length
            if not body or end > there:
                self._buffer = bytearray(memoryview(data)[at:])
                self._wanted = end - at if body else len(self._buffer) + 1
                break
            payload = data[body:end]
            if self._masked and length:
                payload = _masked(payload, data[body - 4 : body])
            self._whole(data[at], payload, frames)
            at = end
        return frames

    def _head(self, data: bytes, at: int, there: int) -> tuple[int, int]:
        """Where the payload begins (0: the head is not complete) and its length."""
        if there < 2:
            return 0, 0
        first, second = data[at], data[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        if first & 0x70:
            raise PeerError("a frame uses an extension")
        if opcode not in (CONTINUATION, BINARY, CLOSE, PING, PONG):
            if opcode == TEXT:
                raise PeerError("a text message", close_code=1003)
            raise PeerError(f"a frame of kind {opcode}")
        if (second >= 0x80) is not self._masked:
            raise PeerError("a frame is masked" if second >= 0x80 else "a frame is not masked")
        if opcode >= CLOSE and (length > _MAX_CONTROL or first < 0x80):
            raise PeerError("a control frame is too long or in pieces")
        if opcode < CLOSE and (opcode == CONTINUATION) is (self._message is None):
            raise PeerError("a piece of a message out of turn")
        body = at + 2
        if length >= 126:
            more = 2 if length == 126 else 8
            if there < 2 + more:
                return 0, 0
            length = int.from_bytes(data[body : body + more], "big")
            body += more
        if length + (len(self._message) if self._message is not None and opcode == CONTINUATION else 0) > self._limit:
            raise PeerError(f"a message of more than {self._limit} bytes", close_code=1009)
        return body + 4 if self._masked else body, length

    def _whole(self, first: int, payload: bytes, frames: list[Frame]) -> None:
        opcode, final = first & 0x0F, first >= 0x80
        if opcode >= CLOSE or (final and opcode == BINARY):
            frames.append((opcode, payload))
        elif self._message is None:
            self._message = bytearray(payload)
        else:
            self._message += payload
            if final:
                frames.append((BINARY, bytes(self._message)))
                self._message = None


def _masked(payload: bytes, mask: bytes) -> bytes:
    """Section 5.3; with the arithmetic of one large number, as a loop over bytes is slow."""
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(length, "little")


__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "MAX_HEAD",
    "MAX_REFUSAL",
    "NO_STATUS",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "Frames",
    "Rejected",
    "accept",
    "closing",
    "encode",
    "end_of_head",
    "read_answer",
    "read_closing",
    "read_request",
    "refusal",
    "request",
]
