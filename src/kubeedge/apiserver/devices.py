"""The rows of devices.kubeedge.io: what `kubectl` sees of a Device and of a DeviceModel, in both versions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeedge.api import device_methods, devices, devices_v1alpha2, meta
from kubeedge.api.conversions import Version
from kubeedge.api.names import Object
from kubeedge.api.resources import Column, Printer, Row, Strategy
from kubeedge.apiserver.durations import age

_NONE = "<none>"
_SHOWN = 40  # characters of a value in a table


def _age(obj: Object, now: float) -> str:
    return age(meta.metadata(obj).get("creationTimestamp"), now)


def _ready(status: Object) -> str:
    condition = devices.named(status.get("conditions"), "type").get("Ready")
    if condition is None:
        return "Unknown"
    return "True" if condition.get("status") == "True" else str(condition.get("reason") or condition.get("status"))


def _twins(status: Object) -> str:
    twins = devices.named(status.get("twins"), "propertyName")
    shown = []
    for name, twin in list(twins.items())[:8]:
        value = (twin.get("reported") or {}).get("value")
        shown.append(f"{name}={str(value)[:_SHOWN]}" if value is not None else f"{name}=?")
    return ",".join(shown) or _NONE


def _device(obj: Object, now: float) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return (
        meta.name_of(obj),
        (spec.get("deviceModelRef") or {}).get("name") or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("state") or "unknown",
        _ready(status),
        _age(obj, now),
        (spec.get("protocol") or {}).get("protocolName") or _NONE,
        _twins(status),
    )


def _model(obj: Object, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    properties = devices.named(spec.get("properties"))
    return (
        meta.name_of(obj),
        spec.get("protocol") or _NONE,
        len(properties),
        _age(obj, now),
        ",".join(f"{name}:{prop.get('type')}" for name, prop in list(properties.items())[:8]) or _NONE,
    )


STORED: tuple[Row, ...] = (
    Row(
        devices.DEVICES,
        "device",
        categories=("kubeedge",),
        subresources=("status", device_methods.SUBRESOURCE),
        fields=("spec.nodeName",),
        counts_generation=True,
        strategy=Strategy(
            "Device",
            strategic=False,
            prepare=devices.prepare,
            validate=devices.device,
            validate_update=devices.device_changes,
        ),
        printer=Printer(
            [
                Column("Name"),
                Column("Model"),
                Column("Node"),
                Column("State"),
                Column("Ready"),
                Column("Age"),
                Column("Protocol", wide=True),
                Column("Reported", wide=True),
            ],
            _device,
        ),
    ),
    Row(
        devices.DEVICEMODELS,
        "devicemodel",
        categories=("kubeedge",),
        counts_generation=True,
        strategy=Strategy("DeviceModel", strategic=False, validate=devices.devicemodel),
        printer=Printer(
            [
                Column("Name"),
                Column("Protocol"),
                Column("Properties", "integer"),
                Column("Age"),
                Column("Names", wide=True),
            ],
            _model,
        ),
    ),
)


def _older(row: Row, conversion: Version) -> Row:
    """v1alpha2, where status is a part of the object as any other."""
    schema = f"{row.resource.kind}V1alpha2"
    return Row(
        conversion.resource,
        row.singular,
        categories=row.categories,
        strategy=Strategy(schema, strategic=False),
        printer=row.printer,
        conversion=conversion,
    )


ROWS: tuple[Row, ...] = (
    *STORED,
    _older(STORED[0], devices_v1alpha2.DEVICE_CONVERSION),
    _older(STORED[1], devices_v1alpha2.DEVICEMODEL_CONVERSION),
)
