"""What a Device says of a Bluetooth Low Energy device, and how its values are in bytes. Pure.

The protocol's configData:

    macAddress               AA:BB:CC:DD:EE:FF
    addressType              public, or random as most small devices have it ("public")
    adapter                  hci0, hci1, ...: a Bluetooth adapter of the machine ("hci0"), through BlueZ, or, where there is no system bus, directly; or
                             tcp:HOST:PORT of a controller that speaks HCI (H4)
    timeout                  milliseconds for an answer, and for the device to be heard (10000)

The visitor's configData:

    characteristicUUID       4, 8 or 32 hexadecimal digits
    serviceUUID              of its service, where the device has the characteristic more than once
    push                     true: the device sends the value by itself, as notification or indication; it is read once when it is connected
    format                   of a number: uint8, uint16, uint24, uint32, uint64, int8, ..., float32, float64, and sfloat16, float11073 of medical devices;
                             of a text: utf8 (the default), hex. An INT without a format is all of the value, a FLOAT one of 4 or 8 bytes
    offset                   where it begins in the value, in bytes (0)
    bigEndian                true: its highest byte is the first one (false, as Bluetooth has it)
    scale                    what the number is multiplied by (1)
    item                     "paired" instead of a characteristic: whether the device is paired with this machine
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from typing import Any

from kubeedge.api import devices
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.ble import uuids
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue, is_finite

_ADDRESS = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
_ADAPTER = re.compile(r"hci\d{1,3}|tcp:[^\s/]{1,253}:\d{1,5}")
_INTEGER = re.compile(r"(u?)int(8|16|24|32|64)")
_FLOATS: Mapping[str, tuple[str, int]] = {"float32": ("f", 4), "float64": ("d", 8)}
_MEDICAL: Mapping[str, tuple[int, int]] = {"sfloat16": (2, 12), "float11073": (4, 24)}  # bytes, bits of the mantissa
_TEXTS = ("utf8", "hex")


@dataclass(frozen=True, slots=True)
class BleAddress:
    """Where a device is: what a Device says of it. `timeout` in seconds."""

    address: str
    is_random: bool
    adapter: str
    timeout: float


@dataclass(frozen=True, slots=True)
class BlePlace:
    """Where a value is: UUIDs in their long form; `service` "": of any."""

    characteristic: str
    service: str = ""


def address_of(device: MappedDevice) -> BleAddress:
    """Raises Invalid, with the device's name, for a configuration that names no device."""
    address, kind = device.config.get("macAddress"), device.config.get("addressType", "public")
    adapter = device.config.get("adapter", "hci0")
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address.upper()):
        raise device.invalid("macAddress must be as AA:BB:CC:DD:EE:FF")
    if kind not in ("public", "random"):
        raise device.invalid("addressType must be public or random")
    if not isinstance(adapter, str) or not _ADAPTER.fullmatch(adapter):
        raise device.invalid("adapter must be as hci0 or tcp:HOST:PORT")
    timeout = device.number("timeout", 100, 60_000, 10_000) / 1000
    return BleAddress(address.upper(), kind == "random", adapter, timeout)


def place_of(prop: MappedProperty) -> BlePlace | None:
    """None: it is no characteristic, but whether the device is paired. Raises Invalid."""
    if (item := prop.visitor.get("item")) is not None:
        if item != "paired" or prop.is_pushed:
            raise prop.invalid("item must be paired, and cannot be pushed")
        return None
    found = []
    for key, default in (("characteristicUUID", None), ("serviceUUID", "")):
        given = prop.visitor.get(key, default)
        if given == "":
            found.append("")
            continue
        if not isinstance(given, str):
            raise prop.invalid(f"{key} must be a UUID")
        try:
            found.append(uuids.uuid_of(given))
        except Invalid as exc:
            raise prop.invalid(f"{key}: {exc}") from exc
    return BlePlace(*found)


def value_of(prop: MappedProperty, data: bytes) -> TypedValue:
    """The value that bytes of a device stand for. Raises Invalid."""
    offset = prop.number("offset", 0, 511, 0)
    if offset > len(data) or (offset == len(data) and prop.type not in ("STRING", "STREAM", "BYTES")):
        raise prop.invalid(f"offset {offset} is behind the {len(data)} bytes of the value")
    rest = data[offset:]
    match prop.type:
        case "BYTES":
            return rest
        case "BOOLEAN":
            return rest[0] != 0
        case "INT" | "FLOAT" | "DOUBLE":
            return _number(prop, rest)
    if _format(prop, _TEXTS, "utf8") == "hex":
        return rest.hex()
    try:
        return rest.rstrip(b"\0").decode()
    except UnicodeDecodeError as exc:
        raise prop.invalid("its bytes are no text in UTF-8; format: hex shows them") from exc


def _number(prop: MappedProperty, rest: bytes) -> TypedValue:
    name = _number_format(prop)
    is_big = _is_big(prop)
    if not name:
        name = f"float{8 * len(rest)}" if prop.type != "INT" else ""
        if prop.type != "INT" and name not in _FLOATS:
            raise prop.invalid(f"format is missing: a value of {len(rest)} bytes is no number by itself")
    size = _size(name) or len(rest)
    if size > 8:
        raise prop.invalid(f"format is missing: a value of {len(rest)} bytes is no number by itself")
    if len(rest) < size:
        raise prop.invalid(f"its value has {len(rest)} bytes where {name} takes {size}")
    part = rest[:size]
    found: float
    if name in _FLOATS:
        found = struct.unpack((">" if is_big else "<") + _FLOATS[name][0], part)[0]
    elif name in _MEDICAL:
        found = _medical(part, is_big, _MEDICAL[name][1])
    else:
        found = int.from_bytes(part, "big" if is_big else "little", signed=name.startswith("int"))
    scale = _scale(prop)
    if scale != 1:
        found = found * scale
        return round(found) if prop.type == "INT" and math.isfinite(found) else round(found, 9)
    return found


def bytes_of(prop: MappedProperty, value: TypedValue) -> bytes:
    """What is written for a value. Raises Invalid for one that does not fit, or whose format is not known."""
    if prop.number("offset", 0, 511, 0):
        raise prop.invalid("only a whole value can be written: there is an offset")
    match value:
        case bytes():
            return value
        case bool():
            return bytes((value,))
        case str():
            try:
                return bytes.fromhex(value) if _format(prop, _TEXTS, "utf8") == "hex" else value.encode()
            except ValueError as exc:
                raise prop.invalid(f"{value[:40]!r} is not hexadecimal") from exc
    name = _number_format(prop) or ("float32" if prop.type == "FLOAT" else "float64" if prop.type == "DOUBLE" else "")
    scale, is_big = _scale(prop), _is_big(prop)
    number = value / scale if scale != 1 else value
    if name in _FLOATS:
        try:
            return struct.pack((">" if is_big else "<") + _FLOATS[name][0], number)
        except OverflowError as exc:
            raise prop.invalid(f"{value} does not fit into {name}") from exc
    if not name or name in _MEDICAL:
        raise prop.invalid("format must be one of an integer or of float32 or float64, for it to be written")
    if not math.isfinite(number):
        raise prop.invalid(f"{value} does not fit into {name}")
    try:
        return round(number).to_bytes(_size(name), "big" if is_big else "little", signed=name.startswith("int"))
    except OverflowError as exc:
        raise prop.invalid(f"{value} does not fit into {name}") from exc


def _format(prop: MappedProperty, known: tuple[str, ...], default: str) -> str:
    found = prop.visitor.get("format", default)
    if found not in known:
        raise prop.invalid(f"format {str(found)[:40]!r} is none of {', '.join(known)}")
    return str(found)


def _number_format(prop: MappedProperty) -> str:
    """Its name; "": none is given."""
    found = prop.visitor.get("format", "")
    if found and found not in _FLOATS and found not in _MEDICAL and not _INTEGER.fullmatch(str(found)):
        raise prop.invalid(
            f"format {str(found)[:40]!r} is none of a number: uint8 to int64, float32, float64, sfloat16"
        )
    return str(found)


def _size(name: str) -> int:
    if name in _FLOATS:
        return _FLOATS[name][1]
    if name in _MEDICAL:
        return _MEDICAL[name][0]
    found = _INTEGER.fullmatch(name)
    return int(found[2]) // 8 if found else 0


def _is_big(prop: MappedProperty) -> bool:
    found = prop.visitor.get("bigEndian", False)
    if not isinstance(found, bool):
        raise prop.invalid("bigEndian must be true or false")
    return found


def _scale(prop: MappedProperty) -> float:
    found: Any = prop.visitor.get("scale", 1)
    if isinstance(found, str):
        found = devices.number(found)
    if not is_finite(found) or not found:
        raise prop.invalid("scale must be a number other than 0")
    return found


def _medical(part: bytes, is_big: bool, bits: int) -> float:
    """IEEE 11073-20601: a mantissa and an exponent of ten; the uppermost mantissas are no numbers."""
    raw = int.from_bytes(part, "big" if is_big else "little")
    mantissa, exponent = raw & (1 << bits) - 1, raw >> bits
    most = (1 << bits - 1) - 1
    if (
        most - 1 <= mantissa <= most + 3
    ):  # in order: +infinity, not a number, not at this resolution, reserved, -infinity
        return {most - 1: math.inf, most + 3: -math.inf}.get(mantissa, math.nan)
    width = 8 * len(part) - bits
    exponent -= (exponent >> width - 1) << width
    mantissa -= (mantissa >> bits - 1) << bits
    return float(mantissa * 10**exponent if exponent >= 0 else mantissa / 10**-exponent)
