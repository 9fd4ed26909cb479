"""Methods of devices (`spec.methods` of a Device): what a call may say, and what it answers. Pure.

A method is a name for properties that a call writes together, each with a value of its type and range; a mapper may do more. The cloud and the node
check by the same functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kubeedge.api import devices
from kubeedge.api.names import Object
from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.dataclasses import dataclass

SUBRESOURCE = "methods"
MAX_BODY = 192 * 1024  # bytes of a call, and of its result
TIMEOUT, MOST = 10.0, 60.0  # seconds that a mapper has for a call: unless it says otherwise, and at most
MAX_METHODS = 64  # of one device
_MAX_ARGUMENTS = 64
_SHOWN = ("type", "minimum", "maximum", "unit")


@dataclass(frozen=True, slots=True)
class MethodCall:
    """A call that was found right: the text of each parameter, and the seconds that the mapper has."""

    method: str
    arguments: Mapping[str, str]
    timeout: float = TIMEOUT


def described(methods: Any, properties: Mapping[str, Mapping[str, Any]]) -> list[Object]:
    """The methods of a device with the parameters of each. `properties`: those of its model."""
    return [
        {
            "name": name,
            "description": str(method.get("description") or ""),
            "parameters": [
                {"name": prop, **{key: properties[prop][key] for key in _SHOWN if properties[prop].get(key)}}
                for prop in _parameters(method)
                if prop in properties
            ],
        }
        for name, method in _named(methods).items()
    ]


def _named(methods: Any) -> dict[str, Object]:
    found = devices.named(list(methods) if isinstance(methods, list | tuple) else [])
    return dict(list(found.items())[:MAX_METHODS])


def _parameters(method: Mapping[str, Any]) -> Iterable[str]:
    names = method.get("propertyNames")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def method_call(methods: Any, properties: Mapping[str, Mapping[str, Any]], name: str, body: Any) -> MethodCall:
    """A call `{"parameters": {NAME: VALUE}, "timeoutSeconds": N}` of that method. Raises NotFound for a method that the device has not, and
    Invalid for parameters of another name, type or range."""
    known = _named(methods)
    if name not in known:
        raise NotFound(f"the device has no method {name[:128]!r}, but {', '.join(map(str, known)) or 'none at all'}")
    if not isinstance(body, dict):
        raise Invalid("a call is a JSON object with `parameters`")
    if unknown := [key for key in body if key not in ("parameters", "timeoutSeconds")]:
        raise Invalid(f"a call has `parameters` and `timeoutSeconds`, and no {unknown[0][:64]!r}")
    given = body.get("parameters")
    if given is None:
        given = {}
    if not isinstance(given, dict) or len(given) > _MAX_ARGUMENTS:
        raise Invalid(f"`parameters` is a JSON object of at most {_MAX_ARGUMENTS} values")
    allowed = set(_parameters(known[name]))
    return MethodCall(
        name,
        {key: _argument(key, value, allowed, properties) for key, value in given.items()},
        _timeout(body.get("timeoutSeconds")),
    )


def _argument(name: str, value: Any, allowed: Iterable[str], properties: Mapping[str, Mapping[str, Any]]) -> str:
    prop = properties.get(name)
    if name not in allowed or prop is None:
        raise Invalid(f"parameter {name[:128]!r} is none of the method: {', '.join(sorted(allowed)) or 'it has none'}")
    if prop.get("accessMode") == "ReadOnly":
        raise Invalid(f"parameter {name}: the property is read-only")
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    if not isinstance(value, str):
        raise Invalid(f"parameter {name}: must be a text, a number or a truth value")
    if why := devices.refusal(prop, value):
        raise Invalid(f"parameter {name}: {value[:40]!r} {why}")
    return value


def _timeout(value: Any) -> float:
    if value is None:
        return TIMEOUT
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST:
        raise Invalid(f"`timeoutSeconds` is a number above 0, at most {MOST:.0f}")
    return float(value)


def result(name: str, namespace: str, method: str, found: Any) -> Object:
    """What a call answers. `found`: what the mapper gave, any JSON; None: nothing."""
    return {
        "kind": "DeviceMethodResult",
        "apiVersion": devices.DEVICES.api_version,
        "metadata": {"name": name, "namespace": namespace},
        "method": method,
        "result": found,
    }


def listing(name: str, namespace: str, methods: list[Object]) -> Object:
    """What a look at the methods of a device answers."""
    return {
        "kind": "DeviceMethodList",
        "apiVersion": devices.DEVICES.api_version,
        "metadata": {"name": name, "namespace": namespace},
        "methods": methods,
    }
