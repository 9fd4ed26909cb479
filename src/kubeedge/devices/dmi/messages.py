"""Devices as DMI has them, and what mappers say. Pure: devices in, messages out, and the other way round.

KubeEdge's Go mappers end at a nil pointer where `desired`, `visitors`, its `configData` or the protocol is missing, or where the model lacks
a property of a device: what is sent has them all, and a model is made of the very properties of the device that is sent with it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

from kubeedge.api import devices
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.protobuf import ProtoReader, ProtoTypes, encode, parsed
from kubeedge.devices.core import STATES, Device
from kubeedge.devices.dmi.table import TABLE
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

_TYPES: ProtoTypes = parsed(TABLE)
_VALUES = 20_000  # of one message: a report of all properties that a device may have has a fifth
_ANY = "type.googleapis.com/google.protobuf."
_MODEL = ("description", "type", "accessMode", "minimum", "maximum", "unit")
_MAX_ADDRESS = 107  # bytes of a socket's path, unix(7)
_MAX_NAME = 253
_STATES_CYCLE = 10_000  # milliseconds between two ReportDeviceStates


@dataclass(frozen=True, slots=True)
class MapperInfo:
    """Who registers: `address` is the path of the socket that it serves, or will."""

    name: str
    protocol: str
    address: str
    version: str = ""
    with_data: bool = False


@dataclass(slots=True)
class DeviceReport:
    """What a mapper says of a device; `namespace` is "" where an older one does not know of any."""

    name: str
    namespace: str
    values: dict[str, str | None] = field(default_factory=dict)
    observed: dict[str, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceMessages:
    """A device and its model, encoded; the fingerprints change when these do."""

    model_name: str
    model: bytes
    model_fingerprint: str
    device: bytes
    fingerprint: str


def mapper_info(message: bytes) -> MapperInfo:
    """The contents of a MapperRegisterRequest. Raises Invalid."""
    request = _decoded("MapperRegisterRequest", message)
    mapper = request.get("mapper") or {}
    name, protocol = str(mapper.get("name", "")), str(mapper.get("protocol", ""))
    for what, text in (("name", name), ("protocol", protocol)):
        if not 0 < len(text) <= _MAX_NAME or "/" in text or not text.isprintable():
            raise Invalid(f"the {what} of a mapper has 1 to {_MAX_NAME} printable characters, and no slash")
    raw = bytes(mapper.get("address", b""))
    if not raw.startswith(b"/") or len(raw) > _MAX_ADDRESS or b"\0" in raw:
        raise Invalid(f"the address of a mapper is the absolute path of its socket, of at most {_MAX_ADDRESS} bytes")
    try:
        address = raw.decode()
    except UnicodeDecodeError as exc:
        raise Invalid("the address of a mapper is not UTF-8") from exc
    return MapperInfo(name, protocol, address, str(mapper.get("version", ""))[:64], bool(request.get("withData")))


def report(message: bytes) -> DeviceReport:
    """The contents of a ReportDeviceStatusRequest. Raises Invalid."""
    request = _decoded("ReportDeviceStatusRequest", message)
    found = DeviceReport(str(request.get("deviceName", "")), str(request.get("deviceNamespace", "")))
    twins = (request.get("reportedDevice") or {}).get("twins", ())
    if len(twins) > devices.MAX_PROPERTIES:
        raise Invalid(f"a device has at most {devices.MAX_PROPERTIES} properties")
    for twin in twins:
        name = str(twin.get("propertyName", ""))
        reported, observed = twin.get("reported"), twin.get("observedDesired") or {}
        found.values[name] = None if reported is None else str(reported.get("value", ""))
        if observed.get("value"):
            found.observed[name] = str(observed["value"])
        stamp = str(((reported or {}).get("metadata") or {}).get("timestamp") or "")
        if stamp.isascii() and stamp.isdigit() and len(stamp) <= 15:
            found.times[name] = int(stamp)
    return found


def state(message: bytes) -> tuple[DeviceReport, str]:
    """The device and the state in a ReportDeviceStatesRequest. Raises Invalid."""
    request = _decoded("ReportDeviceStatesRequest", message)
    said = str(request.get("state", "")).lower()
    report = DeviceReport(str(request.get("deviceName", "")), str(request.get("deviceNamespace", "")))
    return report, said if said in STATES else "unknown"


def registered(found: list[DeviceMessages]) -> bytes:
    """A MapperRegisterResponse. A mapper ignores devices that come without models: there are both, or none."""
    models = {one.model_name: one.model for one in found}
    numbers = {field.name: number for number, field in _TYPES["MapperRegisterResponse"].items()}
    return b"".join(
        _embedded(number, message)
        for number, messages in (
            (numbers["modelList"], models.values()),
            (numbers["deviceList"], [one.device for one in found]),
        )
        for message in messages
    )


def request(message: bytes) -> bytes:
    """RegisterDevice, UpdateDevice, CreateDeviceModel and UpdateDeviceModel have one field, the first, which is a message."""
    return _embedded(1, message)


def removal(kind: str, key: NamespacedName) -> bytes:
    """A RemoveDeviceRequest or RemoveDeviceModelRequest: `kind` is "device" or "model"."""
    name = "RemoveDeviceRequest" if kind == "device" else "RemoveDeviceModelRequest"
    return encode(_TYPES, name, {f"{kind}Name": key[1], f"{kind}Namespace": key[0]})


def described(key: NamespacedName, device: Device) -> DeviceMessages:
    """A device and its model, for a mapper."""
    name = device.model or f"{key[1]}-model"
    model = {
        "name": name,
        "namespace": key[0],
        "spec": {
            "properties": [
                {"name": prop, **{one: str(fields[one]) for one in _MODEL if fields.get(one)}}
                | {"accessMode": str(fields.get("accessMode") or "ReadWrite")}
                for prop, fields in device.properties.items()
            ]
        },
    }
    message = {
        "name": key[1],
        "namespace": key[0],
        "spec": {
            "deviceModelReference": name,
            "protocol": {"protocolName": device.protocol, "configData": _customized(json.loads(device.config))},
            "properties": [_property(device, prop, fields) for prop, fields in device.properties.items()],
            "methods": [_known("DeviceMethod", one) for one in device.methods],
        },
        "status": {"reportToCloud": True, "reportCycle": _STATES_CYCLE},
    }
    encoded_model, encoded = encode(_TYPES, "DeviceModel", model), encode(_TYPES, "Device", message)
    return DeviceMessages(
        name, encoded_model, _fingerprint(encoded_model), encoded, _fingerprint(encoded_model + encoded)
    )


def _property(device: Device, name: str, fields: Mapping[str, Any]) -> Object:
    visitors = fields.get("visitors")
    visitors = visitors if isinstance(visitors, dict) else {}
    found: Object = {
        "name": name,
        "desired": {
            "value": device.desired(name) or "",
            "metadata": {"type": str(fields.get("type") or "STRING").lower()},
        },
        "visitors": {
            "protocolName": str(visitors.get("protocolName") or device.protocol),
            "configData": _customized(visitors.get("configData")),
        },
        "reportToCloud": fields.get("reportToCloud") is not False,
    }
    for cycle in ("reportCycle", "collectCycle"):
        if (milliseconds := _integer(fields.get(cycle))) > 0:
            found[cycle] = milliseconds
    if isinstance(push := fields.get("pushMethod"), dict) and (known := _known("PushMethod", push)):
        found["pushMethod"] = known
    return found


def _known(kind: str, value: Mapping[str, Any]) -> Object:
    """What of a JSON object DMI has a field for, and with its type."""
    found: Object = {}
    for field_ in _TYPES[kind].values():
        one = value.get(field_.name)
        match field_.kind:
            case "str" if isinstance(one, str):
                found[field_.name] = one
            case "bool" if isinstance(one, bool):
                found[field_.name] = one
            case "int" if _integer(one):
                found[field_.name] = one
            case "[str]" if isinstance(one, list):
                found[field_.name] = [text for text in one if isinstance(text, str)]
            case "{str}" if isinstance(one, dict):
                found[field_.name] = {key: text for key, text in one.items() if isinstance(text, str)}
            case "CustomizedValue" if isinstance(one, dict):
                found[field_.name] = _customized(one)
            case inner if inner in _TYPES and isinstance(one, dict):
                found[field_.name] = _known(inner, one)
    return found


def _integer(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63 else 0


def _customized(value: Any) -> Object:
    """Texts, numbers and truth values; a mapper drops everything else itself."""
    data = {key: one for key, item in (value or {}).items() if (one := _any(item)) is not None}
    return {"data": data}


def _any(value: Any) -> Object | None:
    """The well-known wrapper types. There is none that mappers know for a float of 64 bits."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)
    match value:
        case bool():
            return {"type_url": f"{_ANY}BoolValue", "value": b"\x08\x01" if value else b""}
        case int() if -(1 << 63) <= value < 1 << 63:
            return {"type_url": f"{_ANY}Int64Value", "value": encode(_WRAPPERS, "Int64Value", {"value": value})}
        case float():
            try:
                return {"type_url": f"{_ANY}FloatValue", "value": b"\x0d" + struct.pack("<f", value)}
            except OverflowError:
                return None
        case str():
            return {"type_url": f"{_ANY}StringValue", "value": encode(_WRAPPERS, "StringValue", {"value": value})}
    return None


_WRAPPERS = parsed("Int64Value\n  1 value int\nStringValue\n  1 value str")


def _embedded(number: int, message: bytes) -> bytes:
    """A field that is a message which is encoded already."""
    return encode({"_": parsed(f"_\n  {number} one raw")["_"]}, "_", {"one": message}) if message else b""


def _fingerprint(message: bytes) -> str:
    return hashlib.blake2s(message, digest_size=8).hexdigest()


def _decoded(kind: str, message: bytes) -> Object:
    return ProtoReader(_TYPES, values=_VALUES).message(_TYPES[kind], memoryview(message))
