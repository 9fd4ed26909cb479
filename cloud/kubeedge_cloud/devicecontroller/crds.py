"""The CustomResourceDefinitions of devices.kubeedge.io and rules.kubeedge.io for a cluster of a user's own, from the tables of the embedded API. Pure.

`python -m kubeedge_cloud.devicecontroller` prints them; cloud/crds has what it prints.

v1alpha2 of devices is converted by a webhook of ours, whose address and authority the cloud process writes into the definitions
(kubeedge_cloud.clustercalls.webhook). Until then, and while the cloud is away, requests for v1alpha2 fail, and no others: what is stored is v1beta1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeedge.api import devices, rules, schema
from kubeedge.api.names import Object
from kubeedge.api.resources import Row
from kubeedge.apiserver.devices import ROWS as DEVICE_ROWS
from kubeedge.apiserver.devices import STORED
from kubeedge.apiserver.openapi import PLAIN
from kubeedge.apiserver.rules import ROWS as RULE_ROWS

#: a structural schema wants a type for what may be anything, too
_PLAIN: dict[str, Object] = {**PLAIN, "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
_REQUIRED = {
    "DeviceSpec": ["deviceModelRef"],
    "DeviceModelRef": ["name"],
    "DeviceProperty": ["name"],
    "DeviceModelProperty": ["name", "type"],
    "RuleSpec": ["source", "sourceResource", "target", "targetResource"],
    "RuleEndpointSpec": ["ruleEndpointType"],
}
_ENUMS = {
    ("DeviceModelProperty", "type"): devices.TYPES,
    ("DeviceModelProperty", "accessMode"): devices.ACCESS_MODES,
    ("RuleEndpointSpec", "ruleEndpointType"): rules.TYPES,
}
#: where the webhook is not known yet: nobody has that name (RFC 6761)
NO_WEBHOOK = "https://kubeedge.invalid/convert"
_MOST = 16  # texts in a resource of a rule
_TEXT = {"type": "string", "maxLength": rules.MAX_TEXT}
_PORT = {
    "rule": "self.ruleEndpointType != 'servicebus' || (has(self.properties) && 'service_port' in self.properties && "
    "self.properties['service_port'].matches('^[1-9][0-9]{0,4}$') && int(self.properties['service_port']) < 65536)",
    "message": "spec.properties.service_port must be a port, 1 to 65535, as text",
}
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
    "rules": [
        ("Source", ".spec.source", 0),
        ("Target", ".spec.target", 0),
        ("Success", ".status.successMessages", 0),
        ("Fail", ".status.failMessages", 0),
        ("Age", ".metadata.creationTimestamp", 0),
    ],
    "ruleendpoints": [("Type", ".spec.ruleEndpointType", 0), ("Age", ".metadata.creationTimestamp", 0)],
}
_COLUMN_TYPES = {"Age": "date", "Success": "integer", "Fail": "integer"}


def definitions() -> list[Object]:
    """The CustomResourceDefinitions (apiextensions.k8s.io/v1) of devices and models: v1beta1, which is stored, and v1alpha2."""
    return [
        _definition(
            row, [one for one in DEVICE_ROWS if one.conversion is not None and one.resource.kind == row.resource.kind]
        )
        for row in STORED
    ]


def rule_definitions() -> list[Object]:
    """Those of rules and their endpoints."""
    return [_definition(row, []) for row in RULE_ROWS]


def _definition(row: Row, older: Sequence[Row]) -> Object:
    resource = row.resource
    names = {
        "plural": resource.plural,
        "singular": row.singular,
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        **({"shortNames": list(row.short_names)} if row.short_names else {}),
        "categories": list(row.categories),
    }
    versions = [_version(row, resource.kind), *(_version(one, f"{resource.kind}V1alpha2") for one in older)]
    spec: Object = {"group": resource.group, "scope": "Namespaced", "names": names, "versions": versions}
    if older:
        webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"url": NO_WEBHOOK}}
        spec["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Helm does not take all devices along when it is uninstalled
        "metadata": {
            "name": f"{resource.plural}.{resource.group}",
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": spec,
    }


def _version(row: Row, kind: str) -> Object:
    resource = row.resource
    columns = _COLUMNS[resource.plural] if row.conversion is None else [("Age", ".metadata.creationTimestamp", 0)]
    version: Object = {
        "name": resource.version,
        "served": True,
        "storage": row.conversion is None,
        "schema": {"openAPIV3Schema": _kind(kind)},
        "additionalPrinterColumns": [
            {"name": name, "type": _COLUMN_TYPES.get(name, "string"), "jsonPath": path, "priority": priority}
            for name, path, priority in columns
        ],
    }
    if row.has_status:
        version["subresources"] = {"status": {}}
    return version


def _kind(name: str) -> Object:
    found = _type(name)
    found["properties"]["metadata"] = {"type": "object"}
    if name == "Device":
        found["properties"]["spec"]["x-kubernetes-validations"] = [_SAME_MODEL]
    if name == "RuleEndpoint":
        found["properties"]["spec"]["x-kubernetes-validations"] = [_PORT]
    if name in ("Rule", "RuleEndpoint"):
        found["required"] = ["spec"]
    return found


def _type(name: str) -> Object:
    properties = {}
    for field, what in schema.types()[name].items():
        if what.type == "ObjectMeta":
            continue
        shaped = _shaped(what)
        if name in ("DeviceSpec", "DeviceModelSpec") and field == "properties":
            shaped |= {**_BY_NAME, "maxItems": devices.MAX_PROPERTIES}
        if name in ("RuleSpec", "RuleEndpointSpec") and what.shape == "map":
            shaped = {"type": "object", "additionalProperties": dict(_TEXT), "maxProperties": _MOST}
            if name == "RuleSpec":
                shaped["minProperties"] = 1
        elif name == "RuleSpec":
            shaped |= {"minLength": 1, "maxLength": 253}
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
