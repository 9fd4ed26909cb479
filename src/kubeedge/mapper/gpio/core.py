"""Lines of GPIO chips as the kernel's character device has them (include/uapi/linux/gpio.h, version 2), and what a Device says about them. Pure.

configData of a Device: chip ("gpiochip0", or the chip's label, "pinctrl-rp1"). Of a property: line (its offset, or its name), activeLow, bias (pull-up, pull-down, disabled), drive
(open-drain, open-source), debounce (microseconds), push (each edge is reported as it comes), count (rising, falling, both: with push, an INT is the
number of such edges since the mapper has the line, as of pulses of a meter, or presses that are shorter than a reading).
"""

from __future__ import annotations

import re
import struct

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

ACTIVE_LOW, INPUT, OUTPUT, RISING, FALLING, OPEN_DRAIN, OPEN_SOURCE = (1 << n for n in range(1, 8))
PULL_UP, PULL_DOWN, BIAS_DISABLED = (1 << n for n in range(8, 11))
_BIAS = {"pull-up": PULL_UP, "pull-down": PULL_DOWN, "disabled": BIAS_DISABLED}
_DRIVE = {"open-drain": OPEN_DRAIN, "open-source": OPEN_SOURCE}
_COUNTED = {"rising": RISING, "falling": FALLING, "both": RISING | FALLING}
_OUTPUT_VALUES, _DEBOUNCE = 2, 3  # attributes of lines

_CHIP = struct.Struct("=32s32sI")  # gpiochip_info
_INFO = struct.Struct("=32s32sIIQ160x16x")  # gpio_v2_line_info
_CONFIG = struct.Struct("=QI20x240s")  # gpio_v2_line_config
_ATTRIBUTE = struct.Struct("=I4xQQ")  # gpio_v2_line_config_attribute
_REQUEST = struct.Struct("=256s32s272sII20xi")  # gpio_v2_line_request
_VALUES = struct.Struct("=QQ")  # gpio_v2_line_values
EVENT = struct.Struct("=QIIII24x")  # gpio_v2_line_event
_RISING_EDGE = 1

_PATH = re.compile(r"(?:/dev/)?(gpiochip[0-9]{1,3})")
_LABEL = re.compile(
    r"(?!gpiochip)[A-Za-z0-9][A-Za-z0-9_.:,@-]{0,30}"
)  # as drivers name their chips; 32 bytes with the final zero
MAX_LINES = 4096  # of a chip, that are looked at for a name


def _ioctl(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | 0xB4 << 8 | number


GET_CHIP = _ioctl(2, 0x01, _CHIP.size)
GET_INFO = _ioctl(3, 0x05, _INFO.size)
GET_LINE = _ioctl(3, 0x07, _REQUEST.size)
SET_CONFIG = _ioctl(3, 0x0D, _CONFIG.size)
GET_VALUES = _ioctl(3, 0x0E, _VALUES.size)


@dataclass(frozen=True, slots=True)
class GpioLine:
    """What a property says. `line`: offset or name; `flags`: without a direction."""

    line: int | str
    flags: int = 0
    debounce: int = 0
    is_output: bool = False
    is_pushed: bool = False
    counted: int = 0  # edges, as flags


def chip_of(device: MappedDevice) -> tuple[str, str]:
    """(the chip's file, ""), or ("", its label): numbers are given in the order in which drivers come, labels stay. Raises Invalid."""
    found = device.config.get("chip")
    if isinstance(found, str) and (match := _PATH.fullmatch(found)) is not None:
        return f"/dev/{match[1]}", ""
    if not isinstance(found, str) or not _LABEL.fullmatch(found):
        raise device.invalid("chip must be a GPIO chip, like gpiochip0, or the label of one, like pinctrl-rp1")
    return "", found


def line_of(prop: MappedProperty) -> GpioLine:
    """Raises Invalid with what is wrong."""
    line, flags = prop.visitor.get("line"), 0
    if isinstance(line, str) and line.isascii() and line.isdigit():
        line = int(line[:6])
    if isinstance(line, bool) or not isinstance(line, int | str) or (isinstance(line, str) and not 0 < len(line) < 32):
        raise prop.invalid("line must be the offset or the name of a line")
    if isinstance(line, int) and not 0 <= line < MAX_LINES:
        raise prop.invalid(f"line must be from 0 to {MAX_LINES - 1}")
    if prop.type not in ("BOOLEAN", "INT"):
        raise prop.invalid("a line is a BOOLEAN or an INT")
    for key, names in (("bias", _BIAS), ("drive", _DRIVE)):
        if (name := prop.visitor.get(key)) is not None:
            if name not in names:
                raise prop.invalid(f"{key} must be one of {', '.join(names)}")
            flags |= names[name]
    if prop.visitor.get("activeLow") is True:
        flags |= ACTIVE_LOW
    if prop.is_pushed and prop.writable:
        raise prop.invalid("a line with edges is an input: its accessMode must be ReadOnly")
    counted = 0
    if (name := prop.visitor.get("count")) is not None:
        if name not in _COUNTED or not prop.is_pushed or prop.type != "INT":
            raise prop.invalid(f"count must be one of {', '.join(_COUNTED)}, of an INT with push: true")
        counted = _COUNTED[name]
    return GpioLine(line, flags, prop.number("debounce", 0, 10_000_000, 0), prop.writable, prop.is_pushed, counted)


def opening(line: GpioLine, offset: int) -> bytes:
    """A gpio_v2_line_request. An output stays as it is, until it is written."""
    flags = line.flags
    if line.is_pushed:
        flags |= INPUT | (line.counted or RISING | FALLING)
    elif line.is_output:
        flags &= ACTIVE_LOW  # with a direction alone the kernel takes the rest, and an output would be switched off
    else:
        flags |= INPUT
    attributes = [(_DEBOUNCE, line.debounce)] if line.debounce and not line.is_output else []
    offsets = struct.pack("=I", offset).ljust(256, b"\0")
    return _REQUEST.pack(offsets, b"kubeedge", _config(flags, attributes), 1, 0, -1)


def file_of(request: bytes) -> int:
    """The file of the line, in the request that the kernel has answered."""
    found: int = _REQUEST.unpack(request)[-1]
    return found


def writing(line: GpioLine, value: bool) -> bytes:
    """A gpio_v2_line_config that makes it an output with that value, at once."""
    return _config(line.flags | OUTPUT, [(_OUTPUT_VALUES, int(value))])


def _config(flags: int, attributes: list[tuple[int, int]]) -> bytes:
    packed = b"".join(_ATTRIBUTE.pack(kind, value, 1) for kind, value in attributes)
    return _CONFIG.pack(flags, len(attributes), packed)


def reading() -> bytes:
    """A gpio_v2_line_values that asks for the first line of a request."""
    return _VALUES.pack(0, 1)


def value_of(values: bytes) -> bool:
    """What the kernel has answered."""
    return bool(_VALUES.unpack(values)[0] & 1)


def asking(offset: int) -> bytes:
    """A gpio_v2_line_info that asks for the line with that offset."""
    return _INFO.pack(b"", b"", offset, 0, 0)


def name_of(info: bytes) -> str:
    """The line's name, in the answer."""
    name: bytes = _INFO.unpack(info)[0]
    return name.partition(b"\0")[0].decode("utf-8", "replace")


def label_of(chip: bytes) -> str:
    """The label of a chip, in a gpiochip_info."""
    label: bytes = _CHIP.unpack(chip)[1]
    return label.partition(b"\0")[0].decode("utf-8", "replace")


def lines_of(chip: bytes) -> int:
    """How many lines a chip has, in a gpiochip_info."""
    found: int = _CHIP.unpack(chip)[2]
    return min(found, MAX_LINES)


def chip_info() -> bytes:
    """A gpiochip_info, for the kernel to fill in."""
    return bytes(_CHIP.size)


def edges(data: bytes) -> list[tuple[bool, int]]:
    """After each event, in order, the value, and how many events there have been, those that nobody has read in time included. Raises PeerError for
    half an event."""
    if len(data) % EVENT.size:
        raise PeerError("the kernel gives half an event")
    return [(event[1] == _RISING_EDGE, event[4]) for event in EVENT.iter_unpack(data)]


def level(prop: MappedProperty, value: TypedValue) -> bool:
    """The level that is to be written. Raises Invalid for what is neither 0 nor 1."""
    if value not in (0, 1):
        raise prop.invalid("a line is 0 or 1")
    return bool(value)
