"""Requests to a device's attributes and their answers (Core Specification, volume 3 part F). Pure.

An answer is compared with its request, and handles may only grow: a device cannot make its search endless, nor larger than the bounds here.
"""

from __future__ import annotations

import struct

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.ble import uuids

CHANNEL, SIGNALS, SECURITY = 4, 5, 6  # fixed channels of L2CAP on LE
OUR_MTU, LEAST_MTU = 247, 23  # bytes of a PDU
MAX_VALUE = 512  # bytes of an attribute
PRIMARY, CHARACTERISTIC, CONFIGURATION = "2800", "2803", "2902"

ERROR, MTU, MTU_ANSWER, FIND, FIND_ANSWER = 0x01, 0x02, 0x03, 0x04, 0x05
BY_TYPE, BY_TYPE_ANSWER, READ, READ_ANSWER, READ_BLOB, READ_BLOB_ANSWER = 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D
BY_GROUP, BY_GROUP_ANSWER, WRITE, WRITE_ANSWER, WRITE_COMMAND = 0x10, 0x11, 0x12, 0x13, 0x52
NOTIFICATION, INDICATION, CONFIRMATION = 0x1B, 0x1D, 0x1E
_COMMAND_BIT = 0x40

_NOT_FOUND, _UNSUPPORTED, _NOT_LONG = 0x0A, 0x06, 0x0B
_ERRORS = {
    0x01: "no such attribute",
    0x02: "it cannot be read",
    0x03: "it cannot be written",
    0x05: "it wants to be paired first",
    0x06: "it does not do this",
    0x07: "there is nothing at this place",
    0x08: "it allows this to others alone",
    0x0C: "its key is too short",
    0x0D: "the value has a wrong length",
    0x0E: "something unlikely has happened",
    0x0F: "it wants an encrypted connection: it has to be paired first",
    0x11: "it has no resources left",
}


class AttRefusal(Invalid):
    """The device has answered with an error: it is there, and does not do this."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the device answers: {_ERRORS.get(code, 'an error of its own')} (error {code:#04x})")
        self.code = code

    @property
    def is_end(self) -> bool:
        """Nothing more is found."""
        return self.code == _NOT_FOUND

    @property
    def is_of_length(self) -> bool:
        """The attribute was read as a whole already."""
        return self.code in (_NOT_LONG, 0x07)


@dataclass(frozen=True, slots=True)
class BleService:
    """A primary service, and which handles are its."""

    uuid: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class BleCharacteristic:
    """`handle` of its value; `last` of its descriptors."""

    uuid: str
    service: str
    properties: int
    handle: int
    last: int

    @property
    def is_readable(self) -> bool:
        """It may be read."""
        return bool(self.properties & 0x02)

    @property
    def sends(self) -> int:
        """What its configuration has to be, so that it sends values by itself: 1 notifications, 2 indications, 0: it cannot."""
        return 1 if self.properties & 0x10 else 2 if self.properties & 0x20 else 0


def answer(request: bytes, data: bytes) -> bytes:
    """The answer without its opcode. Raises AttRefusal, PeerError for the answer to another request."""
    if len(data) == 5 and data[0] == ERROR:
        if data[1] != request[0]:
            raise PeerError(f"request {request[0]:#04x} was answered by an error of {data[1]:#04x}")
        raise AttRefusal(data[4])
    if not data or data[0] != request[0] + 1:
        raise PeerError(f"request {request[0]:#04x} was answered by {data[:2].hex() or 'nothing'}")
    return data[1:]


def is_answer(data: bytes) -> bool:
    """It belongs to a request of ours: an error, or an odd number that is none of what a device sends by itself."""
    return data[0] == ERROR or (
        data[0] & 1 == 1 and data[0] not in (NOTIFICATION, INDICATION) and data[0] < _COMMAND_BIT
    )


def reply(data: bytes) -> bytes:
    """What a device gets that asks us for something; "": nothing. We have no attributes."""
    if data[0] == INDICATION:
        return bytes((CONFIRMATION,))
    if data[0] == MTU:
        return struct.pack("<BH", MTU_ANSWER, OUR_MTU)
    if data[0] & 1 or data[0] & _COMMAND_BIT or data[0] == CONFIRMATION:
        return b""
    return struct.pack("<BBHB", ERROR, data[0], 0, _UNSUPPORTED)


def exchange_mtu() -> bytes:
    """How much we take at once."""
    return struct.pack("<BH", MTU, OUR_MTU)


def mtu_of(answer: bytes) -> int:
    """How much both sides take. Raises PeerError."""
    if len(answer) != 2:
        raise PeerError("the device says no MTU")
    return max(LEAST_MTU, min(OUR_MTU, int.from_bytes(answer, "little")))


def by_group(first: int, last: int = 0xFFFF) -> bytes:
    """Asks for primary services."""
    return struct.pack("<BHH", BY_GROUP, first, last) + bytes.fromhex(PRIMARY)[::-1]


def by_type(first: int, last: int) -> bytes:
    """Asks for the characteristics of a service, whose handles these are."""
    return struct.pack("<BHH", BY_TYPE, first, last) + bytes.fromhex(CHARACTERISTIC)[::-1]


def find(first: int, last: int) -> bytes:
    """Asks for the descriptors of a characteristic, whose handles these are."""
    return struct.pack("<BHH", FIND, first, last)


def read(handle: int, offset: int = 0) -> bytes:
    """Reads a value, from its `offset` on."""
    return struct.pack("<BH", READ, handle) if not offset else struct.pack("<BHH", READ_BLOB, handle, offset)


def write(handle: int, value: bytes, *, is_answered: bool = True) -> bytes:
    """Writes a whole value; a command is not answered."""
    return struct.pack("<BH", WRITE if is_answered else WRITE_COMMAND, handle) + value


def services_of(answer: bytes, first: int) -> list[BleService]:
    """Out of an answer to `by_group`, from the handle `first` on. Raises PeerError."""
    found = []
    for entry in _entries(answer, 6, 20):
        begin, end = struct.unpack_from("<HH", entry)
        if not first <= begin <= end:
            raise PeerError(f"the device has a service from handle {begin} to {end}, behind {first}")
        found.append(BleService(_uuid(entry[4:]), begin, end))
        first = end + 1
    return found


def characteristics_of(answer: bytes, service: BleService, first: int) -> list[BleCharacteristic]:
    """Out of an answer to `by_type`; their `last` is not known yet. Raises PeerError."""
    found = []
    for entry in _entries(answer, 7, 21):
        declaration, properties, handle = struct.unpack_from("<HBH", entry)
        if not first <= declaration < handle <= service.last:
            raise PeerError(f"the device has a characteristic at handle {declaration}, behind {first}")
        found.append(BleCharacteristic(_uuid(entry[5:]), service.uuid, properties, handle, handle))
        first = declaration + 1
    return found


def descriptors_of(answer: bytes, first: int) -> list[tuple[int, str]]:
    """(handle, UUID) out of an answer to `find`. Raises PeerError."""
    size = {1: 4, 2: 18}.get(answer[0] if answer else 0, 0)
    if not size or len(answer) < 1 + size or (len(answer) - 1) % size:
        raise PeerError("the device answers with descriptors that are none")
    found = []
    for at in range(1, len(answer), size):
        handle = int.from_bytes(answer[at : at + 2], "little")
        if handle < first:
            raise PeerError(f"the device has a descriptor at handle {handle}, behind {first}")
        found.append((handle, _uuid(answer[at + 2 : at + size])))
        first = handle + 1
    return found


def pushed(data: bytes) -> tuple[int, bytes]:
    """(handle, value) of a notification or indication. Raises PeerError."""
    if len(data) < 3:
        raise PeerError("the device sends a value of nothing")
    return int.from_bytes(data[1:3], "little"), data[3:]


def _entries(answer: bytes, *sizes: int) -> list[bytes]:
    size = answer[0] if answer else 0
    if size not in sizes or len(answer) < 1 + size or (len(answer) - 1) % size:
        raise PeerError("the device answers with a list that is none")
    return [answer[at : at + size] for at in range(1, len(answer), size)]


def _uuid(data: bytes) -> str:
    try:
        return uuids.from_wire(data)
    except Invalid as exc:
        raise PeerError(str(exc)) from exc
