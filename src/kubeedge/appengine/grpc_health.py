"""One gRPC health check (grpc.health.v1.Health/Check), as a startup, readiness or liveness probe asks it.

One unary call is one stream of HTTP/2 (RFC 9113) with three frames each way, so it is written here and not a library of 28 MB. The answer
is taken from the message alone: a server that has no such service, or fails, sends none, and headers need not be decoded for that.
"""

from __future__ import annotations

import asyncio
import struct

from kubeedge.errors import KubeEdgeError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_STREAM = 1
_FRAME = 16384  # bytes; the largest that we allow a server to send, and the default
_MESSAGE = 4096  # bytes of an answer; a health status has 2
_FRAMES = 100  # of a server that never comes to the point
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class HealthError(KubeEdgeError):
    """The server did not answer with a health status."""


async def check(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, service: str) -> str:
    """ "SERVING", or what else it says. Raises HealthError, OSError or asyncio.IncompleteReadError."""
    writer.write(_PREFACE + _frame(_SETTINGS) + request(authority, service))
    await writer.drain()
    body = b""
    for _ in range(_FRAMES):
        kind, flags, stream, payload = await _read(reader)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, payload=payload))
        elif kind == _GOAWAY or (kind == _RST_STREAM and stream == _STREAM):
            raise HealthError("the server refused the health check")
        elif stream == _STREAM and kind in (_DATA, _HEADERS):
            body += _unpadded(flags, payload) if kind == _DATA else b""
            if len(body) > _MESSAGE:
                raise HealthError(f"the answer is larger than {_MESSAGE} bytes")
            if flags & _END_STREAM:
                return status(body)
    raise HealthError(f"no answer in {_FRAMES} frames")


def request(authority: str, service: str) -> bytes:
    """The frames of the call. Header fields are literal and never indexed (RFC 7541, 6.2.2): nothing is kept for a second call."""
    fields = (
        (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"), (":authority", authority),
        ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "kube-probe"),
    )  # fmt: skip
    head = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""  # field 1, the service
    body = struct.pack("!BI", 0, len(message)) + message
    return _frame(_HEADERS, _END_HEADERS, _STREAM, head) + _frame(_DATA, _END_STREAM, _STREAM, body)


def status(body: bytes) -> str:
    """The status in a HealthCheckResponse message, whose only field it is (1, an enum)."""
    if len(body) < 5:
        raise HealthError("the server has no health service, or does not know the name")
    compressed, length = struct.unpack_from("!BI", body)
    message = body[5:]
    if compressed or len(message) != length:
        raise HealthError("the answer is not a plain gRPC message")
    if not message:
        return _STATES[0]
    if len(message) != 2 or message[0] != 0x08:
        raise HealthError("the answer is not a health status")
    return _STATES.get(message[1], f"status {message[1]}")


async def _read(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    high, low, kind, flags, stream = struct.unpack("!BHBBI", await reader.readexactly(9))
    length = high << 16 | low
    if length > _FRAME:
        raise HealthError("the server does not speak HTTP/2 without TLS")
    return kind, flags, stream & 0x7FFFFFFF, await reader.readexactly(length)


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise HealthError("a frame is all padding")
    return payload[1 : len(payload) - payload[0]]


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack("!BHBBI", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _text(value: str) -> bytes:
    """A string of HPACK, not compressed (RFC 7541, 5.1 and 5.2)."""
    data = value.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    return b"\x7f" + _varint(len(data) - 127) + data


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
