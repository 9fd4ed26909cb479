"""The packets of a client, MQTT 3.1.1 (OASIS, chapter 3), as bytes, and those of its server, decoded. Pure.

What the server says is checked as strictly as what clients say (codec.py): lengths before anything is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from kubeedge._fastpath.mqtt import PacketBuffer
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.varint import varint
from kubeedge.mqtt.codec import MALFORMED, PROTOCOL_ERROR, V311, MqttError, Puback, Publish, is_topic, wrong_length

MAX_ANSWER = 1024 * 1024  # bytes of a packet of the server: as much as its session may hold

_REFUSALS = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not take the client identifier",
    3: "it has no room",
    4: "the user or the password is wrong",
    5: "the client may not connect: it has to log in, or is not among the users",
}


@dataclass(frozen=True, slots=True)
class Connack:
    """The server's answer to CONNECT: `code` 0 is a welcome."""

    present: bool
    code: int

    @property
    def reason(self) -> str:
        """Why the client is refused."""
        return _REFUSALS.get(self.code, f"code {self.code}")


@dataclass(frozen=True, slots=True)
class Suback:
    """For each filter the QoS that was granted, or 0x80."""

    packet_id: int
    codes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Pingresp:
    """The server is there."""


ServerPacket: TypeAlias = Connack | Publish | Puback | Suback | Pingresp


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + varint(len(body)) + body


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def connect(client_id: str, keepalive: int, login: tuple[str, str | None] | None = None) -> bytes:
    """The first packet, for a session that ends with the connection. `keepalive`: seconds; `login`: user, and password
    unless TLS shows who it is."""
    user, password = login or (None, None)
    flags = 2 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    shown = b"".join(_text(one) for one in (user, password) if one is not None)
    return _packet(0x10, _text("MQTT") + bytes((V311, flags)) + keepalive.to_bytes(2, "big") + _text(client_id) + shown)


def subscribe(packet_id: int, filters: Sequence[str], qos: int = 1) -> bytes:
    """Ask for what is published to these filters."""
    return _packet(0x82, packet_id.to_bytes(2, "big") + b"".join(_text(one) + bytes((qos,)) for one in filters))


def pingreq() -> bytes:
    """The packet that shows that the client is there."""
    return b"\xc0\x00"


def disconnect() -> bytes:
    """The packet that ends the session without its will."""
    return b"\xe0\x00"


if TYPE_CHECKING:
    _PacketBuffer = PacketBuffer[ServerPacket]
else:
    _PacketBuffer = PacketBuffer


class AnswerDecoder(_PacketBuffer):
    """Packets of one server, out of what the socket gives. Nothing can be decoded after MqttError."""

    __slots__ = ()

    def __init__(self, limit: int = MAX_ANSWER) -> None:
        super().__init__(limit, V311)

    def feed(self, data: bytes) -> Iterator[ServerPacket]:
        """All packets that `data` completes. Raises MqttError."""
        self.push(data)
        return iter(self.next, None)

    def overlong(self, size: int, limit: int) -> NoReturn:
        """Raises MqttError, as PacketBuffer wants it."""
        raise wrong_length(size, limit)

    def decoded(self, kind: int, flags: int, body: bytes) -> ServerPacket:
        """A packet of that type, also one that C would take. Raises MqttError."""
        match kind, len(body):
            case 2, 2 if body[0] < 2:
                return Connack(bool(body[0]), body[1])
            case 3, _:
                return _message(flags, body)
            case 4, 2:
                return Puback(int.from_bytes(body, "big"))
            case 9, size if size > 2:
                return Suback(int.from_bytes(body[:2], "big"), tuple(body[2:]))
            case 13, 0:
                return Pingresp()
        raise MqttError(f"a packet of type {kind} and {len(body)} bytes from a server", PROTOCOL_ERROR)


def _message(flags: int, body: bytes) -> Publish:
    qos = flags >> 1 & 3
    end = 2 + int.from_bytes(body[:2], "big")
    start = end + 2 if qos else end
    if qos > 1 or len(body) < max(start, 2):
        raise MqttError("a message of QoS 2, or shorter than its fields", MALFORMED)
    try:
        topic = body[2:end].decode()
    except UnicodeDecodeError as exc:
        raise MqttError("a topic is not UTF-8") from exc
    packet_id = int.from_bytes(body[end:start], "big")
    if not is_topic(topic) or (qos and not packet_id):
        raise MqttError("a message on no topic, or without an identifier")
    return Publish(topic, body[start:], qos, bool(flags & 1), bool(flags & 8), packet_id)
