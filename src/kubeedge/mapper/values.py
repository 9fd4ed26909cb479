"""Values of properties: text on the broker, as KubeEdge has them, and Python's types for a mapper. Pure.

    INT int · FLOAT, DOUBLE float · BOOLEAN bool · BYTES bytes (base64 as text) · STRING, STREAM str

Every error names the device and the property.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeGuard

from kubeedge.api import devices
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

TypedValue: TypeAlias = int | float | bool | str | bytes
#: what a handler gives for a property that has no value to be read: one that can only be written
NOTHING: Any = object()

COLLECT = 1.0  # seconds between two readings where the Device says nothing
_SHORTEST = 0.01  # seconds: a faster cycle would leave a small machine time for nothing else
_INTEGERS = (
    1 << 64
)  # an integer beyond is no value: nothing that a property has takes it, and Python refuses to show very large ones
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class MappedProperty:
    """A property of one device, for the handlers of a mapper. `device`: its id, NAMESPACE/NAME. Cycles are in seconds."""

    device: str
    name: str
    type: str = "STRING"
    writable: bool = True
    minimum: str = ""
    maximum: str = ""
    unit: str = ""
    visitor: Mapping[str, Any] = field(
        default_factory=_nothing
    )  # the visitors' configData: how the protocol reaches the value
    collect_cycle: float = COLLECT
    report_cycle: float = 0.0  # 0: each change is reported at once

    @property
    def is_pushed(self) -> bool:
        """The device sends it by itself, and nothing is read."""
        return self.visitor.get("push") is True

    def invalid(self, why: str) -> Invalid:
        """The error of this property, to be raised."""
        return Invalid(f"device {self.device}: property {self.name}: {why}")

    def refusal(self, text: str) -> str:
        """Why the text is no value of this type and range; "": it is one."""
        return devices.refusal({"type": self.type, "minimum": self.minimum, "maximum": self.maximum}, text)

    def typed(self, text: str) -> TypedValue:
        """The value that a text stands for. Raises Invalid for a text that is none of this type and range."""
        if why := self.refusal(text):
            raise self.invalid(f"{text[:40]!r} {why}")
        match self.type:
            case "INT":
                return int(text)
            case "FLOAT" | "DOUBLE":
                return float(text)
            case "BOOLEAN":
                return text == "true"
            case "BYTES":
                try:
                    return base64.b64decode(text, validate=True)
                except (binascii.Error, ValueError) as exc:
                    raise self.invalid("is no base64") from exc
        return text

    def text(self, value: Any) -> str:
        """The text of a value that a handler gave. Raises Invalid for one of another type; ranges are the node's to judge, and to show."""
        match self.type:
            case "INT" if _is_number(value) and abs(value) < _INTEGERS and value == int(value):
                return str(int(value))
            case "FLOAT" | "DOUBLE" if isinstance(value, float) or (_is_number(value) and abs(value) < _INTEGERS):
                return repr(value)
            case "BOOLEAN" if isinstance(value, bool) or (_is_number(value) and value in (0, 1)):
                return "true" if value else "false"
            case "BYTES" if isinstance(value, bytes | bytearray):
                return self._short(base64.b64encode(value).decode())
            case "STRING" | "STREAM" if isinstance(value, str):
                return self._short(value)
        raise self.invalid(f"{_shown(value)} ({type(value).__name__}) is no {self.type}")

    def _short(self, text: str) -> str:
        if any(
            "\ud800" <= c <= "\udfff" for c in text
        ):  # the node would refuse the whole message, with other values in it
            raise self.invalid("is not Unicode (half of a surrogate pair)")
        if len(text) > devices.MAX_TEXT or len(text.encode("utf-8", "replace")) > devices.MAX_TEXT:
            raise self.invalid(f"is longer than {devices.MAX_TEXT} bytes")
        return text

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer of the visitor. Raises Invalid where it is missing without a default, or out of range."""
        return _integer(self.visitor, key, low, high, default, self.invalid)


@dataclass(frozen=True, slots=True)
class MappedDevice:
    """A device of this node, for the handlers of a mapper. `id`: NAMESPACE/NAME; `config`: the protocol's configData."""

    id: str
    protocol: str
    config: Mapping[str, Any]
    properties: Mapping[str, MappedProperty]

    def invalid(self, why: str) -> Invalid:
        """The error of this device, to be raised."""
        return Invalid(f"device {self.id}: {why}")

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer of the configuration. Raises Invalid where it is missing without a default, or out of range."""
        return _integer(self.config, key, low, high, default, self.invalid)


def _integer(
    source: Mapping[str, Any], key: str, low: int, high: int, default: int | None, invalid: Callable[[str], Invalid]
) -> int:
    value = source.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, str):  # KubeEdge's configData are often texts
        value = devices.number(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(f"{key} must be an integer from {low} to {high}")
    return value


def _shown(value: Any) -> str:
    return repr(str(value)[:40]) if not isinstance(value, int) or abs(value) < _INTEGERS else "a very large integer"


def is_finite(value: Any) -> TypeGuard[int | float]:
    """A number that can be reckoned with: JSON has integers of thousands of digits, too, which no float can be made of."""
    return _is_number(value) and (abs(value) < _INTEGERS if isinstance(value, int) else math.isfinite(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def mapped(item: Any) -> tuple[MappedDevice, dict[str, str]]:
    """(a device out of an answer of `$ke/events/devices/get`, property -> desired text of those that may be written). Raises Invalid for
    what is no device: any program of the node may answer."""
    identifier, protocol, known = (
        (item.get(key) for key in ("id", "protocol", "properties")) if _is(item) else (0, 0, 0)
    )
    if not isinstance(identifier, str) or not _is(protocol) or not _is(protocol.get("configData")) or not _is(known):
        raise Invalid("a device without id, protocol or properties")
    properties, wanted = {}, {}
    for name, prop in known.items():
        if not _is(prop):
            raise Invalid(f"device {identifier}: property {name}: is no object")
        found = properties[name] = _property(identifier, name, prop)
        if found.writable and isinstance(desired := prop.get("desired"), str):
            wanted[name] = desired
    config = MappingProxyType(dict(protocol["configData"]))
    return MappedDevice(identifier, str(protocol.get("protocolName")), config, MappingProxyType(properties)), wanted


def _is(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _property(device: str, name: str, prop: Mapping[str, Any]) -> MappedProperty:
    visitors = prop.get("visitors")
    data = visitors.get("configData") if isinstance(visitors, dict) else None
    minimum, maximum, unit = (str(prop.get(key) or "") for key in ("minimum", "maximum", "unit"))
    return MappedProperty(
        device,
        name,
        str(prop.get("type") or "STRING"),
        prop.get("accessMode") != "ReadOnly",
        minimum,
        maximum,
        unit,
        MappingProxyType(dict(data)) if isinstance(data, dict) else _NOTHING,
        max(_SHORTEST, _seconds(prop.get("collectCycle")) or COLLECT),
        _seconds(prop.get("reportCycle")),
    )


def _seconds(milliseconds: Any) -> float:
    return milliseconds / 1000 if _is_number(milliseconds) and 0 < milliseconds <= 1e12 else 0.0


def update(event: str, values: Mapping[str, tuple[str, int]], applied: Mapping[str, str]) -> bytes:
    """The twin/update of a device: property -> (text, milliseconds since 1970), and property -> the desired text that it has taken."""
    twin: dict[str, dict[str, Any]] = {}
    for name, (text, time) in values.items():
        twin[name] = {"actual": {"value": text, "metadata": {"timestamp": time}}}
    for name, text in applied.items():
        twin.setdefault(name, {})["expected"] = {"value": text}
    return json.dumps({"event_id": event, "twin": twin}, separators=(",", ":")).encode()
