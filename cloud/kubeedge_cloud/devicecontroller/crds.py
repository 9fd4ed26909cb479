"""The CustomResourceDefinitions of devices.kubeedge.io for a cluster of a user's own, from the tables of the embedded API. Pure.

`python -m kubeedge_cloud.devicecontroller` prints them; cloud/crds has what it prints.
"""

from __future__ import annotations

from typing import Any

from kubeedge.api import devices, schema
from kubeedge.api.names import Object
from kubeedge.api.resources import Row
from kubeedge.apiserver.devices import STORED
from kubeedge.apiserver.openapi import PLAIN

#: a structural schema wants a type for what may be anything, too
_PLAIN: dict[str, Object] = {**PLAIN, "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
_REQUIRED = {
    "DeviceSpec": ["deviceModelRef"],
    "DeviceModelRef": ["name"],
    "DeviceProperty": ["name"],
    "DeviceModelProperty": ["name", "type"],
}
_ENUMS = {("DeviceModelProperty", "type"): devices.TYPES, ("DeviceModelProperty", "accessMode"): devices.ACCESS_MODES}
_SAME_MODEL = {
    "rule": "self.deviceModelRef.name == oldSelf.deviceModelRef.name",
    "message": "spec.deviceModelRef.name cannot be changed: make another Device",
}
_BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
#: name, JSONPath, priority: what a cluster can compute of the columns of the embedded API
_COLUMNS: dict[str, list[tuple[str, str, int]]] = {
    "devices": [
        ("Model", ".spec.deviceModelRef.name", 0),
        ("Node", ".spec.nodeName", 0),
        ("State", ".status.state", 0),
        ("Ready", '.status.conditions[?(@.type=="Ready")].status', 0),
        ("Age", ".metadata.creationTimestamp", 0),
        ("Protocol", ".spec.protocol.protocolName", 1),
        ("Reported", ".status.twins[*].reported.value", 1),
    ],
    "devicemodels": [
        ("Protocol", ".spec.protocol", 0),
        ("Age", ".metadata.creationTimestamp", 0),
        ("Names", ".spec.properties[*].name", 1),
    ],
}


def definitions() -> list[Object]:
    """The CustomResourceDefinitions (apiextensions.k8s.io/v1) of all device resources, in the version that is stored."""
    return [_definition(row) for row in STORED]


def _definition(row: Row) -> Object:
    resource = row.resource
    version: Object = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _kind(resource.kind)},
        "additionalPrinterColumns": [
            {"name": name, "type": "date" if name == "Age" else "string", "jsonPath": path, "priority": priority}
            for name, path, priority in _COLUMNS[resource.plural]
        ],
    }
    if row.has_status:
        version["subresources"] = {"status": {}}
    names = {
        "plural": resource.plural,
        "singular": row.singular,
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "categories": list(row.categories),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {"group": resource.group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _kind(name: str) -> Object:
    found = _type(name)
    found["properties"]["metadata"] = {"type": "object"}
    if name == "Device":
        found["properties"]["spec"]["x-kubernetes-validations"] = [_SAME_MODEL]
    return found


def _type(name: str) -> Object:
    properties = {}
    for field, what in schema.types()[name].items():
        if what.type == "ObjectMeta":
            continue
        shaped = _shaped(what)
        if name in ("DeviceSpec", "DeviceModelSpec") and field == "properties":
            shaped |= {**_BY_NAME, "maxItems": devices.MAX_PROPERTIES}
        if enum := _ENUMS.get((name, field)):
            shaped["enum"] = list(enum)
        properties[field] = shaped
    found: Object = {"type": "object", "properties": properties}
    if name in _REQUIRED:
        found["required"] = _REQUIRED[name]
    return found


def _shaped(field: schema.Field) -> dict[str, Any]:
    plain = _PLAIN.get(field.type)
    one = dict(plain) if plain is not None else _type(field.type)
    if field.shape == "list":
        return {"type": "array", "items": one}
    return {"type": "object", "additionalProperties": one} if field.shape == "map" else one
