"""What a Bluetooth controller and its host say to each other (Core Specification, volume 4 part E), over a stream with one byte before each packet (part A,
"H4"). Pure.

Numbers are little-endian. A controller is a machine of its own, and so is every device that it speaks for: lengths are checked before anything is kept.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass, field

COMMAND, ACL, EVENT = 1, 2, 4

RESET, SET_EVENT_MASK, READ_BUFFER_SIZE, DISCONNECT = 0x0C03, 0x0C01, 0x1005, 0x0406
LE_SET_EVENT_MASK, LE_READ_BUFFER_SIZE, LE_SET_RANDOM_ADDRESS = 0x2001, 0x2002, 0x2005
LE_SET_SCAN_PARAMETERS, LE_SET_SCAN_ENABLE = 0x200B, 0x200C
LE_CREATE_CONNECTION, LE_CREATE_CONNECTION_CANCEL = 0x200D, 0x200E

_DISCONNECTED, _COMPLETE, _STATUS, _HARDWARE_ERROR, _SENT, _META = 0x05, 0x0E, 0x0F, 0x10, 0x13, 0x3E
_CONNECTED, _ADVERTISED = 0x01, 0x02
_MAX_L2CAP = 1024  # bytes of a packet that is put together: attributes have 512 at most
_MAX_ACL = 4096  # bytes of one piece
_MAX_REPORTS = 25  # advertisements in one event

_ERRORS = {
    0x02: "no such connection",
    0x05: "authentication has failed",
    0x08: "the device does not answer any more",
    0x09: "the controller has no room for another connection",
    0x0C: "the controller does not do this now",
    0x13: "the device has ended the connection",
    0x14: "the device has no power left",
    0x15: "the device switches itself off",
    0x16: "ended here",
    0x3B: "the device refuses these parameters",
    0x3C: "the device was not heard in time",
    0x3E: "the connection could not be established",
}


def reason(code: int) -> str:
    """A status or reason for people."""
    return _ERRORS.get(code, f"error {code:#04x} of the controller")


@dataclass(frozen=True, slots=True)
class HciAnswer:
    """The end of a command, or that it was begun. `result`: what follows the status."""

    opcode: int
    status: int
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class LeConnected:
    """`address` as people write it, "AA:BB:CC:DD:EE:FF"."""

    status: int
    handle: int
    address: str


@dataclass(frozen=True, slots=True)
class LeDisconnected:
    """The end of a connection."""

    handle: int
    reason: int


@dataclass(frozen=True, slots=True)
class LeAdvertised:
    """A device that was heard. `rssi` in dBm."""

    address: str
    is_random: bool
    data: bytes
    rssi: int


@dataclass(frozen=True, slots=True)
class AclSent:
    """Packets of a connection that the controller has room for again."""

    handle: int
    count: int


@dataclass(frozen=True, slots=True)
class HardwareError:
    """The controller is of no use until it is reset."""

    code: int


@dataclass(frozen=True, slots=True)
class L2capPacket:
    """A whole packet of a device, for one of its channels."""

    handle: int
    channel: int
    payload: bytes


HciEvent: TypeAlias = HciAnswer | LeConnected | LeDisconnected | LeAdvertised | AclSent | HardwareError | L2capPacket


def command(opcode: int, parameters: bytes = b"") -> bytes:
    """A command on the stream."""
    return struct.pack("<BHB", COMMAND, opcode, len(parameters)) + parameters


def l2cap(handle: int, channel: int, payload: bytes, most: int) -> list[bytes]:
    """A packet for a device, in pieces of at most `most` bytes, each on the stream."""
    data = struct.pack("<HH", len(payload), channel) + payload
    pieces = [data[at : at + most] for at in range(0, len(data), most)]
    return [
        struct.pack("<BHH", ACL, handle | (0x1000 if n else 0), len(piece)) + piece for n, piece in enumerate(pieces)
    ]


def address_bytes(text: str) -> bytes:
    """Six bytes, the lowest first, of "AA:BB:CC:DD:EE:FF"."""
    return bytes.fromhex(text.replace(":", ""))[::-1]


def _address(data: bytes) -> str:
    return data[::-1].hex(":").upper()


@dataclass(slots=True)
class HciStream:
    """Bytes in, events out. Memory: a packet of the stream, and one that is put together for each connection."""

    _inbound: bytearray = field(default_factory=bytearray)
    _parts: dict[int, bytearray] = field(default_factory=dict)

    def receive_data(self, data: bytes) -> list[HciEvent]:
        """What has come. Raises PeerError for what is no HCI: then the stream is of no use, for its packets have no marks."""
        self._inbound += data
        found: list[HciEvent] = []
        at = 0
        while (end := self._end_of(at)) is not None:
            kind, packet = self._inbound[at], bytes(self._inbound[at + 1 : end])
            at = end
            found += self._acl(packet) if kind == ACL else _event(packet)
        del self._inbound[:at]
        return found

    def forget(self, handle: int) -> None:
        """A connection has ended."""
        self._parts.pop(handle, None)

    def _end_of(self, at: int) -> int | None:
        buffer = self._inbound
        if at >= len(buffer):
            return None
        match buffer[at]:
            case 4:
                head, length = 3, buffer[at + 2] if len(buffer) >= at + 3 else 0
            case 2:
                head, length = 5, struct.unpack_from("<H", buffer, at + 3)[0] if len(buffer) >= at + 5 else 0
                if length > _MAX_ACL:
                    raise PeerError(f"the controller sends {length} bytes at once; {_MAX_ACL} are the most")
            case kind:
                raise PeerError(f"the controller sends a packet of kind {kind}, which nobody has asked for")
        end = at + head + length
        return end if len(buffer) >= end and len(buffer) >= at + head else None

    def _acl(self, packet: bytes) -> list[HciEvent]:
        """What of a device is whole with this piece. Its own errors end nothing but the packet."""
        number = struct.unpack_from("<H", packet)[0]
        handle, is_more, piece = number & 0x0FFF, number >> 12 & 3 == 1, packet[4:]
        if is_more:
            if (part := self._parts.get(handle)) is None:
                return []
            part += piece
        else:
            part = self._parts[handle] = bytearray(piece)
        if len(part) < 4:
            return []
        length, channel = struct.unpack_from("<HH", part)
        if length > _MAX_L2CAP or len(part) > 4 + length:
            del self._parts[handle]
            return []
        if len(part) < 4 + length:
            return []
        del self._parts[handle]
        return [L2capPacket(handle, channel, bytes(part[4:]))]


def _event(packet: bytes) -> list[HciEvent]:
    code, body = packet[0], packet[2:]
    try:
        match code:
            case 0x0E:
                _, opcode = struct.unpack_from("<BH", body)
                return [HciAnswer(opcode, body[3] if len(body) > 3 else 0, body[4:])]
            case 0x0F:
                status, _, opcode = struct.unpack_from("<BBH", body)
                return [HciAnswer(opcode, status)]
            case 0x05:
                _, handle, why = struct.unpack_from("<BHB", body)
                return [LeDisconnected(handle & 0x0FFF, why)]
            case 0x10:
                return [HardwareError(body[0])]
            case 0x13:
                pairs = [struct.unpack_from("<HH", body, 1 + 4 * n) for n in range(body[0])]
                return [AclSent(handle & 0x0FFF, count) for handle, count in pairs]
            case 0x3E:
                return _meta(body)
    except (struct.error, IndexError) as exc:
        raise PeerError(f"an event of the controller ends too early: {packet[:8].hex()}") from exc
    return []


def _meta(body: bytes) -> list[HciEvent]:
    match body[0]:
        case 0x01:
            status, handle, _, _ = struct.unpack_from("<BHBB", body, 1)
            if len(body) < 12:
                raise IndexError
            return [LeConnected(status, handle & 0x0FFF, _address(body[6:12]))]
        case 0x02:
            found: list[HciEvent] = []
            at = 2
            for _ in range(min(body[1], _MAX_REPORTS)):
                length = body[at + 8]
                data, rssi = body[at + 9 : at + 9 + length], body[at + 9 + length]
                address = _address(body[at + 2 : at + 8])
                found.append(LeAdvertised(address, bool(body[at + 1] & 1), data, rssi - 256 if rssi > 127 else rssi))
                at += 10 + length
            return found
    return []
