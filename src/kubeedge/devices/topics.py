"""The topics of KubeEdge's EventBus, and the JSON on them. Pure.

    $hw/events/device/ID/twin/update, /twin/get, /state/update      from mappers and programs; ID is NAMESPACE/NAME or, as it was once, NAME
    ... /result, /twin/update/delta, /twin/update/document          answers, and what the cloud wants
    $hw/events/node/NODE/membership/get, /get/result, /updated      the devices of this node
    $ke/events/devices/history/get, /get/result                     what a property was, where it is kept
    $ke/events/devices/found, /found/result                         devices that a scan has found, for the cloud
    $ke/events/devices/get, /get/result, /updated                   the same with what a mapper has to know of them; in pages

`expected` in a twin/update is the desired value that the mapper has taken: the cloud alone sets one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kubeedge.api import device_methods, strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import NamespacedName
from kubeedge.devices.core import STATES, Device, Twin
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

DEVICE = "$hw/events/device/"
NODE = "$hw/events/node/"
DEVICES = "$ke/events/devices/"
_OPERATIONS = ("twin/update", "twin/get", "state/update")
#: the ends of topics about a device: no id of two levels with one of them reads like an id of one level with another
_ENDS = frozenset(
    (*_OPERATIONS, *(f"{one}/result" for one in _OPERATIONS), "twin/update/delta", "twin/update/document")
)
_BOUNDS = JsonBounds(values=8_000)
_MAX_COUNT = 1000  # values of a history in one answer
MAX_MEMBERS = 768 * 1024  # characters of the devices in the answer to a membership/get
_PAGE = 64 * 1024  # characters of a page of devices, of which it has one at least


def filters(node: str) -> list[str]:
    """What the event bus of a node has to hear, for a broker that is not its own."""
    found = [f"{DEVICE}{identifier}/{operation}" for identifier in ("+", "+/+") for operation in _OPERATIONS]
    asked = ("get", "history/get", "found")
    return [*found, f"{NODE}{node}/membership/get", *(f"{DEVICES}{each}" for each in asked)]


@dataclass(frozen=True, slots=True)
class TopicAddress:
    """Of a topic about a device: `identifier` has one or two levels, `operation` is one of those that programs ask for."""

    identifier: tuple[str, ...]
    operation: str

    def topic(self, rest: str) -> str:
        """Another topic of the same device, in the same form."""
        return f"{DEVICE}{'/'.join(self.identifier)}/{rest}"


def device_topic(topic: str) -> TopicAddress | None:
    """The address in a topic; None when it is not one that asks for something."""
    if not topic.startswith(DEVICE):
        return None
    levels = topic[len(DEVICE) :].split("/")
    identifier, operation = tuple(levels[:-2]), "/".join(levels[-2:])
    if len(identifier) not in (1, 2) or operation not in _OPERATIONS or not all(identifier):
        return None
    return TopicAddress(identifier, operation)


def identifier_of(topic: str) -> tuple[str, ...]:
    """The device in any topic about one; (): it is none. `lab/x/twin/get` is about x of lab, and not about a device `lab`."""
    levels = topic.removeprefix(DEVICE).split("/") if topic.startswith(DEVICE) else []
    found = next((levels[:count] for count in (1, 2) if "/".join(levels[count:]) in _ENDS), [])
    return tuple(found) if all(found) else ()


@dataclass(slots=True)
class Update:
    """The contents of a twin/update message."""

    event: str = ""
    values: dict[str, str | None] = field(default_factory=dict)
    observed: dict[str, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)


def event_of(payload: bytes) -> dict[str, Any]:
    """The mapping that every message is. Raises Invalid."""
    if not payload.strip():
        return {}
    value = strict_json.loads(payload, what="the message", bounds=_BOUNDS)
    if not isinstance(value, dict):
        raise Invalid("the message is no JSON object")
    return value


def update(payload: bytes) -> Update:
    """The contents of a twin/update. Raises Invalid with what is wrong."""
    value = event_of(payload)
    twins = value.get("twin")
    if not isinstance(twins, dict):
        raise Invalid("the message has no twin")
    found = Update(event_id(value))
    for name, twin in twins.items():
        if not isinstance(twin, dict):
            raise Invalid(f"twin {name[:128]} is no JSON object")
        actual, expected = (_part(name, twin, part) for part in ("actual", "expected"))
        if "value" in actual:
            found.values[name] = _text(name, actual["value"])
            stamp = (actual.get("metadata") or {}).get("timestamp") if isinstance(actual.get("metadata"), dict) else 0
            if isinstance(stamp, int) and not isinstance(stamp, bool):
                found.times[name] = stamp
        if "value" in expected:
            found.observed[name] = _text(name, expected["value"])
            found.values.setdefault(name, None)
    return found


def _part(name: str, twin: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    value = twin.get(part)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid(f"{part} of twin {name[:128]} is no JSON object")
    return value


def _text(name: str, value: Any) -> str:
    """KubeEdge has values as text; numbers and truth values as JSON has them are taken, too."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise Invalid(f"the value of twin {name[:128]} is no text, number or truth value")


def state(payload: bytes) -> tuple[str, str, str]:
    """The event id, the state and why it is so ("": nobody says) in a state/update message. Raises Invalid."""
    value = event_of(payload)
    found = value.get("state")
    if found not in STATES:
        raise Invalid(f"the state is none of {', '.join(STATES)}")
    why = value.get("reason")
    return event_id(value), str(found), why if isinstance(why, str) else ""


def event_id(value: Mapping[str, Any]) -> str:
    """The id by which the sender knows the answer."""
    return str(value.get("event_id") or "")[:128]


def answer(event: str, now: int, **more: Any) -> bytes:
    """The message that answers an event. `now` is in milliseconds since 1970."""
    return json.dumps({"event_id": event, "timestamp": now, **more}, separators=(",", ":")).encode()


def failure(event: str, now: int, code: int, reason: str) -> bytes:
    """400: the message; 404: the device."""
    return answer(event, now, code=code, reason=reason[:1000])


def twin(device: Device, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The twins of a device as programs get them; `names`: of these properties only."""
    found: dict[str, Any] = {}
    for name in device.properties if names is None else names:
        prop = device.properties.get(name)
        if prop is None:
            continue
        have = device.twins.get(name, Twin())
        one: dict[str, Any] = {"metadata": {"type": str(prop.get("type") or "STRING").lower()}, "optional": False}
        if (wanted := device.desired(name)) is not None:
            one["expected"] = {"value": wanted}
        if have.reported is not None:
            one["actual"] = {"value": have.reported, "metadata": {"timestamp": have.time}}
        found[name] = one
    return found


def described(key: NamespacedName, device: Device) -> dict[str, Any]:
    """A device in the lists of a node's devices."""
    return {
        "id": "/".join(key),
        "name": key[1],
        "namespace": key[0],
        "state": device.state,
        "last_online": device.seen,
        "twin": twin(device),
    }


def member(key: NamespacedName, device: Device) -> str:
    """The JSON of one device for `members`."""
    return json.dumps(described(key, device), separators=(",", ":"))


def members(event: str, now: int, found: Iterable[str], size: int) -> bytes:
    """The answer to a membership/get, of what `member` gave, which has `size` characters. More than a client's queue takes is a failure: nobody would get it."""
    if size > MAX_MEMBERS:
        return failure(
            event, now, 413, f"the node has too many devices for one message: ask {DEVICES}get, which has pages"
        )
    return answer(event, now)[:-1] + b',"devices":[' + ",".join(found).encode() + b"]}"


@dataclass(frozen=True, slots=True)
class DevicesRequest:
    """What `$ke/events/devices/get` asks for: devices of that protocol ("": of any), after that one in the order of their ids."""

    event: str = ""
    protocol: str = ""
    after: str = ""


def devices_request(payload: bytes) -> DevicesRequest:
    """The contents of a devices/get. Raises Invalid."""
    value = event_of(payload)
    protocol, after = (value.get(key) or "" for key in ("protocol", "continue"))
    if not isinstance(protocol, str) or not isinstance(after, str):
        raise Invalid("protocol and continue are texts")
    return DevicesRequest(event_id(value), protocol, after)


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """What `$ke/events/devices/history/get` asks for: the newest `count` values of a property since then (milliseconds since 1970)."""

    event: str
    identifier: tuple[str, ...]
    prop: str
    since: int
    count: int


def history_request(payload: bytes) -> HistoryRequest:
    """The contents of a devices/history/get. Raises Invalid."""
    value = event_of(payload)
    identifier, prop = (value.get(key) for key in ("id", "property"))
    since, count = value.get("since", 0), value.get("count", _MAX_COUNT)
    if not isinstance(identifier, str) or not isinstance(prop, str) or identifier.count("/") > 1:
        raise Invalid("id and property are texts, as NAMESPACE/NAME and temperature")
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in (since, count)):
        raise Invalid("since and count are numbers, from 0 on")
    return HistoryRequest(event_id(value), tuple(identifier.split("/")), prop, since, min(count, _MAX_COUNT))


def history(request: HistoryRequest, values: Iterable[tuple[int, str]], now: int) -> bytes:
    """The answer: [time, value] of each, the oldest first; the newest of them, as many as a message holds."""
    found: list[tuple[int, str]] = []
    size = 0
    for one in reversed(list(values)):
        size += len(one[1]) + 24
        if found and size > _PAGE:
            break
        found.append(one)
    return answer(request.event, now, values=found[::-1])


def page(devices: Mapping[NamespacedName, Device], request: DevicesRequest, now: int) -> bytes:
    """The devices that are asked for, as many as a message holds; "continue" says after which one to go on."""
    found: list[dict[str, Any]] = []
    size = 0
    more: dict[str, str] = {}
    for identifier, key in sorted(("/".join(key), key) for key in devices):
        device = devices[key]
        if identifier <= request.after or device.deleting or request.protocol not in ("", device.protocol):
            continue
        one = detailed(key, device)
        size += len(json.dumps(one))
        if found and size > _PAGE:
            more = {"continue": found[-1]["id"]}
            break
        found.append(one)
    return answer(request.event, now, devices=found, **more)


def detailed(key: NamespacedName, device: Device) -> dict[str, Any]:
    """A device as a mapper needs it: where it is found, and how its properties are read."""
    wanted = {name: {"desired": value} for name, value in device.wanted.items()}
    return {
        "id": "/".join(key),
        "state": device.state,
        **({"reason": device.why} if device.why else {}),
        "last_online": device.seen,
        "protocol": {"protocolName": device.protocol, "configData": json.loads(device.config)},
        "properties": {name: {**prop, **wanted.get(name, {})} for name, prop in device.properties.items()},
        "reported": {
            name: {"value": twin.reported, "timestamp": twin.time}
            for name, twin in device.twins.items()
            if twin.reported is not None
        },
        **({"methods": device_methods.described(device.methods, device.properties)} if device.methods else {}),
    }
