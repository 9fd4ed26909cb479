"""Values as the destinations want them: forms, JSON, line protocol, OTLP, SQL of TDengine. Pure.

`queue` in arguments is the id of the queue: with a value's number it is a name of that value that a server may know it by.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from kubeedge.api import devices, meta
from kubeedge.devices.sinks.core import Destination, PushedValue, ValueRefused

_MAX_TDENGINE = 4096  # bytes of a value in a column


def message_id(queue: str, value: PushedValue) -> str:
    """The same for the same value, however often it is sent."""
    return f"{queue}-{value.number}"


def model(queue: str, value: PushedValue) -> dict[str, Any]:
    """A value as KubeEdge's mappers write it as JSON, with its id."""
    return {
        "deviceName": value.device,
        "propertyName": value.prop,
        "namespace": value.namespace,
        "value": value.value,
        "type": value.kind.lower() or "string",
        "timeStamp": value.time,
        "id": message_id(queue, value),
    }


def form(value: PushedValue) -> bytes:
    """The body that KubeEdge's mappers POST: PROPERTY=VALUE&time=..."""
    return urlencode({value.prop: value.value, "time": date(value.time)}).encode()


def date(milliseconds: int) -> str:
    """As KubeEdge writes it, of UTC."""
    return meta.timestamp(milliseconds / 1000).replace("T", " ").removesuffix("Z")


# InfluxDB


def _escaped(text: str, special: str) -> str:
    for character in special:
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ").replace("\r", " ")


def lines(destination: Destination, values: Sequence[PushedValue]) -> bytes:
    """Line protocol, with milliseconds. The same value makes the same point, so it is there once however often it came."""
    return "\n".join(_line(destination.settings, value) for value in values).encode()


def _line(settings: Mapping[str, Any], value: PushedValue) -> str:
    measurement = _escaped(settings["measurement"] or value.device, "\\, ")
    tags = {"namespace": value.namespace, "device": value.device, **settings["tag"]}
    if not settings["fieldKey"] and not settings["measurement"]:
        tags.pop("device")
    shown = "".join(
        f",{_escaped(name, ',= ')}={_escaped(text, ',= ')}" for name, text in sorted(tags.items()) if name and text
    )
    name = _escaped(settings["fieldKey"] or value.prop, ",= ")
    return f"{measurement}{shown} {name}={_influx_value(value)} {value.time}"


def _influx_value(value: PushedValue) -> str:
    if value.kind == "BOOLEAN":
        return value.value
    number = devices.number(value.value) if value.kind in ("INT", "FLOAT", "DOUBLE") else None
    if number is not None:
        return f"{number}i" if value.kind == "INT" else repr(float(number))
    return '"' + value.value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def influx_target(destination: Destination) -> str:
    """Path and query of a write."""
    settings = destination.settings
    query = urlencode({"org": settings["org"], "bucket": settings["bucket"], "precision": "ms"})
    return f"{settings['path']}/api/v2/write?{query}"


# OpenTelemetry


def metrics(node: str, values: Sequence[PushedValue], queue: str) -> bytes:
    """ExportMetricsServiceRequest in the JSON of OTLP: a gauge for each property of each device. Raises ValueRefused for what is no number."""
    resources: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for value in values:
        gauges = resources.setdefault((value.namespace, value.device), {})
        gauges.setdefault(value.prop, []).append(
            {
                "timeUnixNano": str(value.time * 1_000_000),
                "attributes": [_attribute("kubeedge.message.id", message_id(queue, value))],
                **_point(value),
            }
        )
    found = [
        {
            "resource": {
                "attributes": [
                    _attribute("service.name", "kubeedge"),
                    _attribute("k8s.node.name", node),
                    _attribute("k8s.namespace.name", namespace),
                    _attribute("device.name", device),
                ]
            },
            "scopeMetrics": [
                {
                    "scope": {"name": "kubeedge.devices"},
                    "metrics": [{"name": prop, "gauge": {"dataPoints": points}} for prop, points in gauges.items()],
                }
            ],
        }
        for (namespace, device), gauges in resources.items()
    ]
    return json.dumps({"resourceMetrics": found}).encode()


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _point(value: PushedValue) -> dict[str, Any]:
    if value.kind == "BOOLEAN":
        return {"asInt": str(int(value.value == "true"))}
    number = devices.number(value.value) if value.kind in ("INT", "FLOAT", "DOUBLE") else None
    if number is None:
        raise ValueRefused(f"a value of type {value.kind or 'STRING'} is no metric")
    return {"asInt": str(number)} if isinstance(number, int) else {"asDouble": number}


# TDengine


def tdengine_target(destination: Destination) -> str:
    """The path of a statement in a database."""
    return f"/rest/sql/{quote(str(destination.settings['dbName']), safe='')}"


def basic(user: str, password: str) -> str:
    """The header of HTTP's basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def tdengine_table(value: PushedValue) -> str:
    """The statement that makes a device's table, in the columns that KubeEdge's mappers give it."""
    columns = "ts timestamp, deviceid binary(256), propertyname binary(128), data binary(4096), type binary(64)"
    name = _tdengine_name(value.namespace, value.device)
    return f"CREATE STABLE IF NOT EXISTS {name} ({columns}) TAGS (localtion binary(128))"


def tdengine_insert(values: Sequence[PushedValue]) -> str:
    """One statement for all values. A table has one row for each time, so a value that came twice is there once. Raises ValueRefused."""
    parts = []
    for value in values:
        if len(value.value.encode("utf-8", "replace")) > _MAX_TDENGINE:
            raise ValueRefused(f"a value of more than {_MAX_TDENGINE} bytes fits into no column")
        table = _tdengine_name(value.namespace, value.device, value.prop)
        device = f"{value.namespace}/{value.device}"
        row = ", ".join(_quoted(text) for text in (device, value.prop, value.value, value.kind.lower()))
        parts.append(
            f"{table} USING {_tdengine_name(value.namespace, value.device)} TAGS ({_quoted(value.prop)}) VALUES ({value.time}, {row})"
        )
    return "INSERT INTO " + " ".join(parts)


def _tdengine_name(*parts: str) -> str:
    """A name in backquotes; names of Kubernetes and of properties have none."""
    return "`" + "/".join(part.replace("-", "_").replace("`", "_").replace(".", "_") for part in parts) + "`"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + "".join(c if c >= " " else " " for c in escaped) + "'"
