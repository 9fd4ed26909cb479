"""Signals in frames of a CAN bus, numbered as in a DBC file, and what a Device says about them. Pure.

configData of a Device: interface ("can0"), bitrate (500000: with it the interface is set up, where it is down). Of a property: id (of the frame; above 0x7FF, or with `extended`, of 29 bits), start, length (bits), byteOrder
(little, or big, where `start` is the number of the most significant bit), isSigned, scale (1), shift (0: what is added), size (bytes of a frame that is
sent: 8).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence

from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

FRAME = struct.Struct("=IB3x8s")  # can_frame of include/uapi/linux/can.h
_FILTER = struct.Struct("=II")
EXTENDED, REMOTE, ERROR = 0x80000000, 0x40000000, 0x20000000  # flags in an id
_STANDARD_MASK, _EXTENDED_MASK = 0x7FF, 0x1FFFFFFF
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
MAX_FILTERS = 512  # that the kernel takes of a socket


@dataclass(frozen=True, slots=True)
class CanSignal:
    """Where a value is. `id`: with the flag of an extended one."""

    id: int
    start: int
    length: int
    is_big: bool
    is_signed: bool
    scale: float
    shift: float
    size: int

    @property
    def bits(self) -> Sequence[int]:
        """Numbers of its bits, the least significant first: 8 x byte + bit, in which bit 0 is the lowest of a byte."""
        if not self.is_big:
            return range(self.start, self.start + self.length)
        found, bit = [], self.start
        for _ in range(self.length):
            found.append(bit)
            bit = bit + 15 if bit % 8 == 0 else bit - 1
        return found[::-1]

    def of(self, data: bytes) -> float | int | None:
        """The value in the data of a frame; None: the frame is too short for it."""
        if len(data) * 8 <= max(self.bits):
            return None
        raw = sum((data[bit >> 3] >> (bit & 7) & 1) << n for n, bit in enumerate(self.bits))
        if self.is_signed and raw >> (self.length - 1):
            raw -= 1 << self.length
        return raw if (self.scale, self.shift) == (1, 0) else raw * self.scale + self.shift

    def into(self, data: bytes, value: float) -> bytes:
        """The data with that value in it. Raises ValueError for one that has no room."""
        raw = value if (self.scale, self.shift) == (1, 0) else (value - self.shift) / self.scale
        number = round(raw)
        low, high = (-(1 << self.length - 1), 1 << self.length - 1) if self.is_signed else (0, 1 << self.length)
        if not low <= number < high:
            raise ValueError(f"{value:g} has no room in {self.length} bits")
        found = bytearray(data.ljust(self.size, b"\0")[: self.size])
        for n, bit in enumerate(self.bits):
            found[bit >> 3] = found[bit >> 3] & ~(1 << (bit & 7)) | (number >> n & 1) << (bit & 7)
        return bytes(found)


def interface_of(device: MappedDevice) -> str:
    """The interface's name. Raises Invalid for what is none."""
    found = device.config.get("interface")
    if not isinstance(found, str) or not _INTERFACE.fullmatch(found):
        raise device.invalid("interface must be a CAN interface, like can0")
    return found


def bitrate_of(device: MappedDevice) -> int:
    """Bits a second; 0: somebody else sets the interface up. Raises Invalid."""
    return device.number("bitrate", 5000, 1_000_000, 0)


def signal_of(prop: MappedProperty) -> CanSignal:
    """Raises Invalid with what is wrong."""
    number = prop.visitor.get("id")
    if isinstance(number, str):
        try:
            number = int(number[:12], 0)
        except ValueError:
            number = -1
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _EXTENDED_MASK:
        raise prop.invalid("id must be that of a frame, like 0x181")
    order = prop.visitor.get("byteOrder", "little")
    if order not in ("little", "big"):
        raise prop.invalid("byteOrder must be little or big")
    scale, shift = (_factor(prop, key, default) for key, default in (("scale", 1.0), ("shift", 0.0)))
    if prop.type not in ("INT", "FLOAT", "DOUBLE", "BOOLEAN") or not scale:
        raise prop.invalid("a signal is a number or a BOOLEAN, and its scale is not 0")
    signal = CanSignal(
        number | EXTENDED if number > _STANDARD_MASK or prop.visitor.get("extended") is True else number,
        prop.number("start", 0, 63),
        prop.number("length", 1, 64, 1 if prop.type == "BOOLEAN" else None),
        order == "big",
        prop.visitor.get("isSigned") is True,
        scale,
        shift,
        prop.number("size", 1, 8, 8),
    )
    if max(signal.bits) >= signal.size * 8:
        raise prop.invalid(f"a signal of {signal.length} bits from {signal.start} on is not in {signal.size} bytes")
    return signal


def _factor(prop: MappedProperty, key: str, default: float) -> float:
    value = prop.visitor.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e18:
        raise prop.invalid(f"{key} must be a number")
    return value


def filters(ids: Iterable[int]) -> bytes:
    """For a socket that gets the frames of these ids, and no others: neither those that ask (remote frames) nor errors."""
    found = b""
    for one in sorted(set(ids))[:MAX_FILTERS]:
        mask = (_EXTENDED_MASK if one & EXTENDED else _STANDARD_MASK) | EXTENDED | REMOTE
        found += _FILTER.pack(one, mask)
    return found


def frame(number: int, data: bytes) -> bytes:
    """A frame for the socket."""
    return FRAME.pack(number, len(data), data.ljust(8, b"\0"))


def parsed(data: bytes) -> tuple[int, bytes] | None:
    """(id, data) of a frame; None for what is none of a classic CAN bus."""
    if len(data) != FRAME.size:
        return None
    number, size, content = FRAME.unpack(data)
    return None if size > 8 or number & (REMOTE | ERROR) else (number, content[:size])


def number_of(prop: MappedProperty, value: TypedValue) -> float:
    """A value that is to be sent. Raises Invalid."""
    if not isinstance(value, int | float):
        raise prop.invalid("is no number")
    return value
