"""Where a property is in a Modbus device, what its registers mean, and which ones are read together. Pure.

The visitor's configData, with KubeEdge's names:

    register        CoilRegister, DiscreteInputRegister, InputRegister, HoldingRegister
    offset          of the first register, from 0
    limit           how many registers the value has: 1 to 4 for a number, to 123 for a text (1)
    scale           what the number is multiplied by (1)
    isSwap          the bytes of each register are the wrong way round (false)
    isRegisterSwap  the first register is the lowest (false)
    isSigned        of an integer, or a number of one register (true when the property's minimum is below 0)

A FLOAT or DOUBLE of 2 or 4 registers is an IEEE 754 number, any other number an integer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence

from kubeedge.api import devices
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.modbus import codec
from kubeedge.mapper.values import MappedProperty, TypedValue, is_finite

_READS = {
    "coilregister": codec.READ_COILS,
    "discreteinputregister": codec.READ_DISCRETE_INPUTS,
    "inputregister": codec.READ_INPUT_REGISTERS,
    "holdingregister": codec.READ_HOLDING_REGISTERS,
}
_BITS = (codec.READ_COILS, codec.READ_DISCRETE_INPUTS)
_GAP = 8  # registers that are read for nothing rather than asking twice


@dataclass(frozen=True, slots=True)
class ModbusRegisters:
    """The registers, or the one coil, of a property. `function` reads them."""

    prop: MappedProperty
    function: int
    offset: int
    count: int
    scale: float
    swapped: bool
    low_first: bool
    signed: bool

    @property
    def end(self) -> int:
        """One past the last register."""
        return self.offset + self.count

    def value(self, found: Sequence[int]) -> TypedValue:
        """What the registers (bits, for coils) say."""
        if self.function in _BITS:
            return bool(found[0]) if self.prop.type == "BOOLEAN" else found[0]
        data = self._ordered(found)
        match self.prop.type:
            case "BOOLEAN":
                return any(data)
            case "STRING":
                return data.rstrip(b"\0 ").decode("utf-8", "replace")
            case "BYTES":
                return data
            case "FLOAT" | "DOUBLE" if self.count > 1:
                number: float = struct.unpack(">f" if self.count == 2 else ">d", data)[0]
                if self.count == 2:
                    number = float(f"{number:.7g}")  # the digits that 32 bits have: 21.3 is not 21.299999237060547
            case _:
                number = int.from_bytes(data, "big", signed=self.signed)
        return number if self.scale == 1 else _rounded(number * self.scale)

    def _ordered(self, found: Sequence[int]) -> bytes:
        parts = [value.to_bytes(2, "little" if self.swapped else "big") for value in found]
        return b"".join(reversed(parts) if self.low_first else parts)

    def registers(self, value: TypedValue) -> list[int]:
        """The registers of a value; for a coil, its bit. Raises Invalid for a value that they cannot hold."""
        if self.function in _BITS:
            return [int(bool(value))]
        data = self._bytes(value)
        parts = [data[at : at + 2] for at in range(0, len(data), 2)]
        order: Iterable[bytes] = reversed(parts) if self.low_first else parts
        return [int.from_bytes(part, "little" if self.swapped else "big") for part in order]

    def _bytes(self, value: TypedValue) -> bytes:
        size = 2 * self.count
        if isinstance(value, str | bytes):
            data = value.encode() if isinstance(value, str) else value
            if len(data) > size:
                raise self.prop.invalid(f"{len(data)} bytes do not fit into {self.count} registers")
            return data.ljust(size, b"\0")
        number = value / self.scale if self.scale != 1 else value
        try:
            if self.prop.type in ("FLOAT", "DOUBLE") and self.count > 1:
                return struct.pack(">f" if self.count == 2 else ">d", number)
            return round(number).to_bytes(size, "big", signed=self.signed)
        except (OverflowError, ValueError, struct.error) as exc:
            raise self.prop.invalid(f"{value} does not fit into {self.count} registers") from exc


def _rounded(number: float) -> float | int:
    """Without what multiplying adds: 215 * 0.1 is 21.5."""
    if not math.isfinite(number):
        return number
    found = float(f"{number:.12g}")
    return int(found) if found.is_integer() and abs(found) < 1 << 53 else found


def registers_of(prop: MappedProperty) -> ModbusRegisters:
    """Raises Invalid for a visitor that says nothing that can be read."""
    visitor = prop.visitor
    kind = str(visitor.get("register") or "")
    function = _READS.get(kind.lower())
    if function is None:
        raise prop.invalid(
            f"register {kind[:40]!r} is none of CoilRegister, DiscreteInputRegister, InputRegister, HoldingRegister"
        )
    is_text = prop.type in ("STRING", "BYTES")
    most = 1 if function in _BITS or prop.type == "BOOLEAN" else codec.MAX_WRITTEN if is_text else 4
    count = prop.number("limit", 1, most, 1)
    if prop.type in ("FLOAT", "DOUBLE") and count == 3:
        raise prop.invalid("a number of IEEE 754 has 2 or 4 registers")
    if is_text and function in _BITS:
        raise prop.invalid(f"a coil is no {prop.type}")
    minimum = devices.number(prop.minimum)
    return ModbusRegisters(
        prop,
        function,
        prop.number("offset", 0, 65536 - count),
        count,
        _scale(prop),
        _truth(prop, "isSwap", False),
        _truth(prop, "isRegisterSwap", False),
        _truth(prop, "isSigned", minimum is not None and minimum < 0),
    )


def _scale(prop: MappedProperty) -> float:
    found = prop.visitor.get("scale")
    if isinstance(found, str):
        found = devices.number(found)
    elif found is None:
        found = 1
    if not is_finite(found) or not found:
        raise prop.invalid("scale must be a number other than 0")
    return found


def _truth(prop: MappedProperty, key: str, default: bool) -> bool:
    found = prop.visitor.get(key, default)
    if found in ("true", "false"):
        found = found == "true"
    if not isinstance(found, bool):
        raise prop.invalid(f"{key} must be true or false")
    return found


def together(wanted: Iterable[ModbusRegisters]) -> list[list[ModbusRegisters]]:
    """Groups that are read by one request each: of one function, and near to each other."""
    groups: list[list[ModbusRegisters]] = []
    end = 0
    for one in sorted(wanted, key=lambda one: (one.function, one.offset, one.count)):
        group = groups[-1] if groups else []
        most = codec.MAX_COILS if one.function in _BITS else codec.MAX_REGISTERS
        if (
            group
            and group[0].function == one.function
            and one.offset <= end + _GAP
            and max(end, one.end) - group[0].offset <= most
        ):
            group.append(one)
            end = max(end, one.end)
        else:
            groups.append([one])
            end = one.end
    return groups


def reading(group: Sequence[ModbusRegisters], unit: int) -> codec.ModbusRequest:
    """The request that reads a group."""
    start = group[0].offset
    return codec.ModbusRequest(unit, group[0].function, start, max(one.end for one in group) - start)


def writing(one: ModbusRegisters, value: TypedValue, unit: int) -> codec.ModbusRequest:
    """The request that writes a property. Raises Invalid where it cannot be written."""
    found = one.registers(value)
    match one.function:
        case codec.READ_COILS:
            return codec.ModbusRequest(unit, codec.WRITE_COIL, one.offset, values=found)
        case codec.READ_HOLDING_REGISTERS:
            function = codec.WRITE_REGISTER if len(found) == 1 else codec.WRITE_REGISTERS
            return codec.ModbusRequest(unit, function, one.offset, values=found)
    raise one.prop.invalid("a Modbus device lets coils and holding registers be written, and no others")
