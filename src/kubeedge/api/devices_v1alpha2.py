"""devices.kubeedge.io/v1alpha2 beside v1beta1, which is stored. Pure.

Lives here:      what a field of the one version is in the other, where there is such a field.
Lives elsewhere: what becomes of all the others, so that nothing is lost (conversions.py).

What is not the same name: desired values were in the status, which node was a node selector, a protocol had a field of its own, and cycles were
nanoseconds.
"""

from __future__ import annotations

from typing import Any

from kubeedge.api import devices
from kubeedge.api.client import Resource
from kubeedge.api.conversions import Lossy, Version
from kubeedge.api.names import Object

VERSION = "v1alpha2"
DEVICES = Resource(devices.GROUP, VERSION, "devices", "Device")
DEVICEMODELS = Resource(devices.GROUP, VERSION, "devicemodels", "DeviceModel")
_NEWER = f"{devices.GROUP}/v1beta1-fields"  # annotations
_OLDER = f"{devices.GROUP}/v1alpha2-fields"
_MILLISECOND = 1_000_000  # nanoseconds
#: fields of the protocols that v1alpha2 knows by name, with their types
_PROTOCOLS: dict[str, dict[str, type]] = {
    "modbus": {"slaveID": int},
    "opcua": {
        **dict.fromkeys(
            ("url", "userName", "password", "securityPolicy", "securityMode", "certificate", "privateKey"), str
        ),
        "timeout": int,
    },
    "bluetooth": {"macAddress": str},
}
_VISITORS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "modbus": {
        "register": str,
        "offset": int,
        "limit": int,
        "scale": (int, float),
        "isSwap": bool,
        "isRegisterSwap": bool,
    },
    "opcua": {"nodeID": str, "browseName": str},
    "bluetooth": {"characteristicUUID": str, "dataWrite": dict, "dataConverter": dict},
}
_TYPES = ("int", "float", "double", "string", "boolean", "bytes")
_BOUNDS = ("minimum", "maximum")


def _mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


# Devices


def _device_to_stored(obj: Object) -> Object:
    spec, status = _mapping(obj.get("spec")), _mapping(obj.get("status"))
    found: Object = {key: spec[key] for key in ("deviceModelRef",) if key in spec}
    if node := _selected(spec.get("nodeSelector")):
        found["nodeName"] = node
    if protocol := _protocol_to_stored(_mapping(spec.get("protocol"))):
        found["protocol"] = protocol
    properties = {
        str(visitor["propertyName"]): _property_to_stored(visitor)
        for visitor in _items(spec.get("propertyVisitors"))
        if isinstance(visitor.get("propertyName"), str)
    }
    reported = []
    for twin in _items(status.get("twins")):
        if not isinstance(name := twin.get("propertyName"), str):
            continue
        if "desired" in twin:
            properties.setdefault(name, {"name": name})["desired"] = twin["desired"]
        if "reported" in twin:
            reported.append({"propertyName": name, "reported": twin["reported"]})
    if properties:
        found["properties"] = list(properties.values())
    return {**({"spec": found} if "spec" in obj else {}), **({"status": {"twins": reported}} if reported else {})}


def _selected(selector: Any) -> str:
    """The node that a selector names, read as KubeEdge reads it: the first value of the first expression."""
    for term in _items(_mapping(selector).get("nodeSelectorTerms"))[:1]:
        for expression in _items(term.get("matchExpressions"))[:1]:
            values = expression.get("values")
            if (
                expression.get("operator") == "In"
                and isinstance(values, list)
                and values
                and isinstance(values[0], str)
            ):
                return values[0]
    return ""


def _protocol_to_stored(protocol: Object) -> Object:
    common = dict(_mapping(protocol.get("common")))
    if (custom := _mapping(protocol.get("customizedProtocol"))) or not protocol.keys() & _PROTOCOLS.keys():
        found = dict(custom)
        if common:
            found["configData"] = {**_mapping(custom.get("configData")), "common": common}
        return found
    name = next(name for name in _PROTOCOLS if name in protocol)
    config = {**_mapping(protocol[name])}
    tcp = common.pop("tcp", None)
    if isinstance(tcp, dict):  # as our mappers want it
        config |= {new: tcp[old] for new, old in (("host", "ip"), ("port", "port")) if old in tcp}
    if common:
        config["common"] = common
    return {"protocolName": name, **({"configData": config} if config else {})}


def _property_to_stored(visitor: Object) -> Object:
    found: Object = {"name": visitor["propertyName"]}
    for cycle in ("reportCycle", "collectCycle"):
        value: Any = visitor.get(cycle)
        if _is(value, int):
            found[cycle] = value // _MILLISECOND or min(value, 1)
    name = next((name for name in _VISITORS if name in visitor), "")
    visit = dict(_mapping(visitor.get("customizedProtocol"))) or (
        {"protocolName": name, "configData": dict(_mapping(visitor[name]))} if name else {}
    )
    if "customizedValues" in visitor:
        visit["configData"] = {**_mapping(visit.get("configData")), "customizedValues": visitor["customizedValues"]}
    if visit:
        found["visitors"] = visit
    return found


def _device_from_stored(obj: Object) -> Object:
    spec, status = _mapping(obj.get("spec")), _mapping(obj.get("status"))
    found: Object = {key: spec[key] for key in ("deviceModelRef",) if key in spec}
    if isinstance(node := spec.get("nodeName"), str) and node:
        expression = {"key": "", "operator": "In", "values": [node]}
        found["nodeSelector"] = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    if protocol := _protocol_from_stored(_mapping(spec.get("protocol"))):
        found["protocol"] = protocol
    properties = [prop for prop in _items(spec.get("properties")) if isinstance(prop.get("name"), str)]
    if properties:
        found["propertyVisitors"] = [_visitor_from_stored(prop) for prop in properties]
    twins: dict[str, Object] = {}
    for prop in properties:
        if isinstance(prop.get("desired"), dict):
            twins[prop["name"]] = {"propertyName": prop["name"], "desired": prop["desired"]}
    for twin in _items(status.get("twins")):
        if isinstance(name := twin.get("propertyName"), str) and isinstance(twin.get("reported"), dict):
            twins.setdefault(name, {"propertyName": name})["reported"] = twin["reported"]
    return {
        **({"spec": found} if "spec" in obj else {}),
        **({"status": {"twins": list(twins.values())}} if twins else {}),
    }


def _known(config: Object, fields: dict[str, Any]) -> Object:
    return {name: config[name] for name, kind in fields.items() if _is(config.get(name), kind)}


def _protocol_from_stored(protocol: Object) -> Object:
    name, config = protocol.get("protocolName"), _mapping(protocol.get("configData"))
    if not isinstance(name, str) or name not in _PROTOCOLS:
        found: Object = {key: protocol[key] for key in ("protocolName",) if key in protocol}
        own = {key: value for key, value in config.items() if key != "common"}
        if own or ("configData" in protocol and "common" not in config):
            found["configData"] = own
        common = {"common": config["common"]} if isinstance(config.get("common"), dict) else {}
        return {**({"customizedProtocol": found} if found else {}), **common}
    common = dict(_mapping(config.get("common")))
    tcp = {
        old: config[new]
        for new, old, kind in (("host", "ip", str), ("port", "port", int))
        if _is(config.get(new), kind)
    }
    if tcp:
        common["tcp"] = tcp
    return {name: _known(config, _PROTOCOLS[name]), **({"common": common} if common else {})}


def _visitor_from_stored(prop: Object) -> Object:
    found: Object = {"propertyName": prop["name"]}
    for cycle in ("reportCycle", "collectCycle"):
        value: Any = prop.get(cycle)
        if _is(value, int):
            found[cycle] = min(value * _MILLISECOND, (1 << 63) - 1)
    visitors = _mapping(prop.get("visitors"))
    name, config = visitors.get("protocolName"), _mapping(visitors.get("configData"))
    if "customizedValues" in config:
        found["customizedValues"] = config["customizedValues"]
    own = {key: value for key, value in config.items() if key != "customizedValues"}
    if isinstance(name, str) and name in _VISITORS:
        found[name] = _known(own, _VISITORS[name])
    elif name is not None or own:
        found["customizedProtocol"] = {
            **({"protocolName": name} if name is not None else {}),
            **({"configData": own} if own or "customizedValues" not in config else {}),
        }
    return found


# Models


def _model_to_stored(obj: Object) -> Object:
    spec = _mapping(obj.get("spec"))
    found: Object = {key: spec[key] for key in ("protocol",) if key in spec}
    if "properties" in spec:
        found["properties"] = [_model_property_to_stored(prop) for prop in _items(spec["properties"])]
    return {"spec": found} if "spec" in obj else {}


def _model_property_to_stored(prop: Object) -> Object:
    found: Object = {key: prop[key] for key in ("name", "description") if key in prop}
    kinds = _mapping(prop.get("type"))
    if name := next((name for name in _TYPES if name in kinds), ""):
        kind = _mapping(kinds[name])
        found["type"] = name.upper()
        found |= {key: kind[key] for key in ("accessMode", "unit") if key in kind}
        found |= {bound: str(kind[bound]) for bound in _BOUNDS if _is(kind.get(bound), (int, float))}
    return found


def _model_from_stored(obj: Object) -> Object:
    spec = _mapping(obj.get("spec"))
    found: Object = {key: spec[key] for key in ("protocol",) if isinstance(spec.get(key), str)}
    if "properties" in spec:
        found["properties"] = [_model_property_from_stored(prop) for prop in _items(spec["properties"])]
    return {"spec": found} if "spec" in obj else {}


def _model_property_from_stored(prop: Object) -> Object:
    found: Object = {key: prop[key] for key in ("name", "description") if key in prop}
    name = str(prop.get("type") or "").lower()
    if name:
        kind: Object = {key: prop[key] for key in ("accessMode", "unit") if key in prop}
        for bound in _BOUNDS:
            value = devices.number(str(prop.get(bound) or ""))
            if value is not None and (name != "int" or isinstance(value, int)):
                kind[bound] = value
        found["type"] = {name if name in _TYPES else "string": kind}  # a STREAM
    return found


def _version(resource: Resource, stored: Resource, lossy: Lossy) -> Version:
    return Version(resource, stored, lossy, _OLDER, _NEWER)


DEVICE_CONVERSION = _version(DEVICES, devices.DEVICES, Lossy(_device_to_stored, _device_from_stored))
DEVICEMODEL_CONVERSION = _version(DEVICEMODELS, devices.DEVICEMODELS, Lossy(_model_to_stored, _model_from_stored))
