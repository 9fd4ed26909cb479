"""The packets of a server, MQTT 3.1.1 and 5, as bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kubeedge._fastpath.mqtt import puback_packet, publish_packet
from kubeedge.kit.varint import varint
from kubeedge.mqtt.codec import BAD_ID, BAD_USER, MAX_PACKET, NOT_AUTHORIZED, NOT_SUPPORTED_VERSION, V5, Publish


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + varint(len(body)) + body


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


RECEIVE_MAX = 512  # messages of QoS 1 that a client may have on their way to the disk


#: receive maximum, maximum QoS 1, maximum packet size, no topic aliases, subscription identifiers or shared subscriptions
_ABILITIES = (
    b"\x21"
    + RECEIVE_MAX.to_bytes(2, "big")
    + b"\x24\x01"
    + b"\x27"
    + MAX_PACKET.to_bytes(4, "big")
    + b"\x29\x00\x2a\x00"
)


_REFUSALS = {
    NOT_SUPPORTED_VERSION: 1,
    BAD_ID: 2,
    BAD_USER: 4,
    NOT_AUTHORIZED: 5,
}  # in 3.1.1; all else: 3, server unavailable


def connack(version: int, present: bool, *, assigned: str = "") -> bytes:
    """The client is welcome. `assigned`: the identifier that it got, having none."""
    if version != V5:
        return _packet(0x20, bytes((present, 0)))
    properties = _ABILITIES + (b"\x12" + _text(assigned) if assigned else b"")
    return _packet(0x20, bytes((present, 0)) + varint(len(properties)) + properties)


def refusal(version: int, code: int) -> bytes:
    """The CONNACK of a client that is not."""
    if version == V5:
        return _packet(0x20, bytes((0, code, 0)))
    return _packet(0x20, bytes((0, _REFUSALS.get(code, 3))))


def publish(version: int, message: Publish) -> bytes:
    """A message to a client."""
    return publish_packet(version, message)


def puback(version: int, packet_id: int, code: int = 0) -> bytes:
    """The message is the broker's business from here on; `code` of 0x80 or more, in MQTT 5: it is not."""
    return puback_packet(version, packet_id, code)


def suback(version: int, packet_id: int, codes: Sequence[int]) -> bytes:
    """For each filter its QoS, or why it was refused."""
    shown = bytes(codes) if version == V5 else bytes(min(code, 0x80) for code in codes)
    return _packet(0x90, packet_id.to_bytes(2, "big") + (b"\0" if version == V5 else b"") + shown)


def unsuback(version: int, packet_id: int, codes: Sequence[int]) -> bytes:
    """MQTT 3.1.1 has no codes."""
    return _packet(0xB0, packet_id.to_bytes(2, "big") + (b"\0" + bytes(codes) if version == V5 else b""))


def pingresp() -> bytes:
    """The packet that answers a PINGREQ (MQTT 3.1.1 section 3.13)."""
    return b"\xd0\x00"


def disconnect(version: int, code: int) -> bytes:
    """Why the broker ends it; MQTT 3.1.1 has no such packet."""
    return _packet(0xE0, bytes((code,))) if version == V5 else b""
