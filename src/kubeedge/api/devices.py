"""Devices: their resources (devices.kubeedge.io), the values of their properties, and what their objects may say. Pure.

Lives elsewhere: the fields (schema_table.py); the columns of `kubectl get` (kubeedge.apiserver.devices).

A value travels as text, as in KubeEdge. Its property in the DeviceModel says which type, range and access it has. The cloud and the edge
check by the same function: the model may change between the two.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kubeedge.api.client import Resource
from kubeedge.api.findings import collect
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, duplicate, forbidden, invalid, required, too_long, unsupported

GROUP = "devices.kubeedge.io"
DEVICES = Resource(GROUP, "v1beta1", "devices", "Device")
DEVICEMODELS = Resource(GROUP, "v1beta1", "devicemodels", "DeviceModel")

FINALIZER = f"{GROUP}/edge"  # a Device that its node may still have; the cloud's DeviceController takes it away
APPROVED = "kubeedge.io/approved"  # annotation: "false" on a Device that a scan has found, until somebody approves it

TYPES = ("INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM")
ACCESS_MODES = ("ReadWrite", "ReadOnly")
MAX_TEXT = 64 * 1024  # bytes of a value in UTF-8
MAX_PROPERTIES = 512  # of one device, and of one model
_NUMBERS = ("INT", "FLOAT", "DOUBLE")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_MAX_NUMBER = 64  # characters
#: of property names; "+", "#" and "/" have a meaning in MQTT topics
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.:@]{0,126}[A-Za-z0-9])?")


def number(text: str) -> float | int | None:
    """The number that a text is; None for everything else, NaN and the infinities included."""
    if len(text) > _MAX_NUMBER:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(found := float(text)):
        return found
    return None


def prepare(device: Object) -> None:
    """A Device for a node has its finalizer from the beginning, which spares DeviceController a write for each one."""
    inner = device["metadata"]
    approved = (inner.get("annotations") or {}).get(APPROVED) != "false"
    kept = inner.get("finalizers") or []
    if (device.get("spec") or {}).get("nodeName") and approved and FINALIZER not in kept:
        inner["finalizers"] = [*kept, FINALIZER]


_bound = functools.lru_cache(256)(number)  # of a few models, for each value of their devices


def refusal(prop: Mapping[str, Any], text: str) -> str:
    """Why the value is none of a property of that type and range; "": it is one. `prop` is the property in the DeviceModel."""
    if len(text) > MAX_TEXT or len(text.encode("utf-8", "replace")) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} bytes"
    kind = prop.get("type")
    if kind == "BOOLEAN":
        return "" if text in ("true", "false") else 'must be "true" or "false"'
    if kind not in _NUMBERS:
        return ""
    value = number(text)
    if value is None or (kind == "INT" and not isinstance(value, int)):
        return "must be an integer" if kind == "INT" else "must be a finite number"
    if kind == "INT" and not -(1 << 63) <= value < 1 << 63:
        return "must fit into 64 bits"
    low, high = (_bound(str(prop.get(key) or "")) for key in ("minimum", "maximum"))
    if low is not None and value < low:
        return f"is less than the minimum, {prop['minimum']}"
    if high is not None and value > high:
        return f"is greater than the maximum, {prop['maximum']}"
    return ""


def same_value(one: str, other: str) -> bool:
    """The texts stand for one value: "1.0" and "1" are the same number."""
    if one == other:
        return True
    first, second = number(one), number(other)
    return first is not None and first == second


def named(items: Any, key: str = "name") -> dict[str, Object]:
    """The mappings in a list by a field of theirs; what has no such field is left out, and of two the first counts."""
    found: dict[str, Object] = {}
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(name := item.get(key), str):
            found.setdefault(name, item)
    return found


def device(obj: Object) -> list[FieldError]:
    """Rules of a Device beyond its types. Whether its values fit the model is a condition of it: the model may come later, and change."""
    spec = obj.get("spec") or {}
    errors = collect(
        lambda: _names(spec.get("properties") or (), "spec.properties"),
        lambda: _desired(spec.get("properties") or ()),
        lambda: _methods(spec.get("methods") or ()),
    )
    if not (spec.get("deviceModelRef") or {}).get("name"):
        errors.append(required("spec.deviceModelRef.name", "the name of a DeviceModel in this namespace"))
    return errors


def device_changes(new: Object, old: Object) -> list[FieldError]:
    """A device of another model is another device."""
    before, after = (((obj.get("spec") or {}).get("deviceModelRef") or {}).get("name") for obj in (old, new))
    if before and after and before != after:
        return [forbidden("spec.deviceModelRef.name", "cannot be changed: make another Device")]
    return []


def devicemodel(obj: Object) -> list[FieldError]:
    """Rules of a DeviceModel beyond its types."""
    properties = (obj.get("spec") or {}).get("properties") or ()
    return collect(lambda: _names(properties, "spec.properties"), lambda: _model_properties(properties))


def _names(properties: Iterable[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, prop in enumerate(properties):
        where, name = f"{path}[{index}].name", str(prop.get("name") or "")
        if index >= MAX_PROPERTIES:
            return [*errors, too_long(path, MAX_PROPERTIES)]
        if not name:
            errors.append(required(where))
        elif not _NAME.fullmatch(name):
            errors.append(invalid(where, name, "must be letters, digits and '-_.:@', at most 128 of them"))
        elif name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
    return errors


def _desired(properties: Iterable[Object]) -> list[FieldError]:
    errors = []
    for index, prop in enumerate(properties):
        value = str((prop.get("desired") or {}).get("value") or "")
        if len(value.encode("utf-8", "replace")) > MAX_TEXT:
            errors.append(too_long(f"spec.properties[{index}].desired.value", MAX_TEXT))
        for cycle in ("reportCycle", "collectCycle"):
            if (milliseconds := prop.get(cycle)) is not None and milliseconds < 0:
                errors.append(invalid(f"spec.properties[{index}].{cycle}", milliseconds, "must not be negative"))
    return errors


def _methods(methods: Iterable[Object]) -> list[FieldError]:
    return [required(f"spec.methods[{index}].name") for index, method in enumerate(methods) if not method.get("name")]


def _model_properties(properties: Iterable[Object]) -> list[FieldError]:
    errors = []
    for index, prop in enumerate(properties):
        where = f"spec.properties[{index}]"
        if prop.get("type") not in TYPES:
            errors.append(unsupported(f"{where}.type", prop.get("type"), TYPES))
        if prop.get("accessMode", ACCESS_MODES[0]) not in ACCESS_MODES:
            errors.append(unsupported(f"{where}.accessMode", prop["accessMode"], ACCESS_MODES))
        for bound in ("minimum", "maximum"):
            text = prop.get(bound)
            if text and (number(text) is None or prop.get("type") not in _NUMBERS):
                errors.append(invalid(f"{where}.{bound}", text, "must be a number, of a property that is one"))
    return errors
