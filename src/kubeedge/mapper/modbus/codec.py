"""Requests and answers of Modbus ("MODBUS Application Protocol Specification" V1.1b3), and their frames on TCP and on a serial line. Pure.

An answer is compared with its request in all that the request fixes: unit, function, how many bytes there have to be, on TCP the transaction.
TCP: "Messaging on TCP/IP" V1.0b. Serial: RTU of "MODBUS over Serial Line" V1.02.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.dataclasses import dataclass

READ_COILS, READ_DISCRETE_INPUTS, READ_HOLDING_REGISTERS, READ_INPUT_REGISTERS = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS = 5, 6, 16
MAX_REGISTERS, MAX_COILS, MAX_WRITTEN = 125, 2000, 123  # of one request
HEADER = 7  # bytes on TCP: transaction, protocol, length, unit
RTU_HEAD = 3  # bytes on a serial line that say how long the rest is: unit, function, and a count or an exception's code
_CRC = 2  # bytes behind each frame on a serial line
_MAX_PDU = 253
_BITS = (READ_COILS, READ_DISCRETE_INPUTS)
_ILLEGAL_ADDRESS = 2

_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}


class ModbusRefusal(Invalid):
    """The device has answered with an exception: it is there, and does not do this. `code` is the exception's."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the device answers: {_EXCEPTIONS.get(code, 'an unknown exception')} (exception {code})")
        self.code = code

    @property
    def is_of_address(self) -> bool:
        """Some of the registers do not exist."""
        return self.code == _ILLEGAL_ADDRESS


@dataclass(frozen=True, slots=True)
class ModbusRequest:
    """A request of one unit. `values`: registers to write, each of 16 bits; a coil is 0 or 1."""

    unit: int
    function: int
    address: int
    count: int = 1
    values: Sequence[int] = ()

    @property
    def pdu(self) -> bytes:
        """The request without what the line adds to it."""
        match self.function:
            case 5:
                return struct.pack(">BHH", self.function, self.address, 0xFF00 if self.values[0] else 0)
            case 6:
                return struct.pack(">BHH", self.function, self.address, self.values[0])
            case 16:
                count = len(self.values)
                return struct.pack(f">BHHB{count}H", self.function, self.address, count, 2 * count, *self.values)
        return struct.pack(">BHH", self.function, self.address, self.count)

    def frame(self, transaction: int) -> bytes:
        """The request on TCP."""
        pdu = self.pdu
        return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, self.unit) + pdu

    def rtu_frame(self) -> bytes:
        """The request on a serial line."""
        data = bytes((self.unit,)) + self.pdu
        return data + crc(data)

    def rtu_rest(self, head: bytes) -> int:
        """Bytes that follow the RTU_HEAD of an answer, its checksum included. Raises PeerError for the head of another answer."""
        unit, function, third = head
        if unit != self.unit:
            raise PeerError(f"unit {self.unit} was asked, and unit {unit} answers")
        if function == self.function | 0x80:
            return _CRC
        if function != self.function:
            raise PeerError(f"function {self.function} was answered by {function}")
        if function in (WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS):
            return 3 + _CRC
        if third != self._size:
            raise PeerError(f"{self._size} bytes were to be read, and {third} come")
        return third + _CRC

    def rtu_answer(self, frame: bytes) -> bytes:
        """The PDU of a whole frame. Raises PeerError for one that was garbled on the line."""
        if crc(frame[:-_CRC]) != frame[-_CRC:]:
            raise PeerError("an answer has another checksum than its bytes: it was garbled on the line")
        return frame[1:-_CRC]

    @property
    def _size(self) -> int:
        """Bytes of the values that are read."""
        return (self.count + 7) // 8 if self.function in _BITS else 2 * self.count

    def answer(self, pdu: bytes) -> list[int]:
        """The values that were read, bits or registers; [] for what was written. Raises PeerError for an answer to another question,
        ModbusRefusal for an exception."""
        if len(pdu) == 2 and pdu[0] == self.function | 0x80:
            raise ModbusRefusal(pdu[1])
        if not pdu or pdu[0] != self.function:
            raise PeerError(f"function {self.function} was answered by {pdu[:2].hex() or 'nothing'}")
        if self.function in (WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS):
            self._check_written(pdu)
            return []
        size = self._size
        if len(pdu) != size + 2 or pdu[1] != size:
            raise PeerError(f"{size} bytes were to be read, and {len(pdu) - 2} came")
        if self.function in _BITS:
            return [pdu[2 + n // 8] >> n % 8 & 1 for n in range(self.count)]
        return list(struct.unpack(f">{self.count}H", pdu[2:]))

    def _check_written(self, pdu: bytes) -> None:
        """The answer has the address, and the value or the number of registers, as the request has them."""
        if pdu != self.pdu[:5]:
            raise PeerError(f"a write was answered by {pdu[:8].hex()}")


def rest_of(header: bytes, transaction: int, unit: int) -> int:
    """Bytes of the PDU that follows a header. Raises PeerError for the header of another answer."""
    found, protocol, length, its_unit = struct.unpack(">HHHB", header)
    if protocol or not 3 <= length <= _MAX_PDU + 1:
        raise PeerError(f"this is no Modbus TCP: header {header.hex()}")
    if found != transaction or its_unit != unit:
        raise PeerError(f"transaction {transaction} of unit {unit} was answered as {found} of unit {its_unit}")
    return int(length) - 1


def _crc_table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
        found.append(byte)
    return tuple(found)


_CRCS = _crc_table()


def crc(data: bytes) -> bytes:
    """The checksum of a frame on a serial line: CRC-16 with the polynomial 0x8005, reflected, low byte first."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CRCS[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")
