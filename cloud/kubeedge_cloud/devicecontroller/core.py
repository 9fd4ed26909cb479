"""What a node should have of a Device, and what the Device says of itself. Pure: objects in, bytes and objects out.

The row of a device on its node has its model's properties in it, so that the two come, and change, together there:

    {"metadata": {"name", "namespace", "uid"}, "generation", "model", "protocol": {"protocolName", "configData"}, "methods": [...],
     "properties": {NAME: {"type", "accessMode", "minimum", "maximum", "unit", "visitors", "desired", "reportCycle", ...}}}

and {"metadata", "deleting": true} when it is to end. The node reports (kubeedge.devices.core):

    {"uid", "generation", "state", "seen", "twins": {NAME: {"value", "time", "desired"}}, "why", "refused": {NAME: why}, "mappers": [two]}    or {"uid", "gone": true}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kubeedge.api import devices, meta
from kubeedge.api.names import Object

FINALIZER = devices.FINALIZER
HISTORY = "kubeedge.io/history"  # annotation: names of properties with commas between them, or "*"
APPROVED = devices.APPROVED
Origin: TypeAlias = tuple[str, int, str, str, str]
_TYPE = ("type", "accessMode", "minimum", "maximum", "unit")
_OWN = ("reportCycle", "collectCycle", "reportToCloud", "pushMethod")
_STATES = ("online", "offline", "ok", "unhealthy", "unknown")
_MAX_STATUS = 512 * 1024  # bytes of all values in a status; an object may have 1.5 MiB
_MAX_WHY = 500  # characters of what a mapper says
_MAX_SHOWN = 8  # properties that a message names


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a Device besides its objects."""

    node_known: bool  # its node has joined
    node_there: bool  # and its channel is attached, or was a moment ago
    report: Mapping[str, Any] | None  # what its node reports of it
    fits: bool = True  # into what the nodes may have of the tenant's devices


@dataclass(slots=True)
class DeviceFigures:
    """What the metrics say of a Device. `seen`: seconds since 1970; 0: not known."""

    state: str = "unknown"
    reason: str = ""
    seen: float = 0.0
    errors: int = 0
    reports: int = 0

    def take(self, status: Object, report: Mapping[str, Any] | None) -> None:
        """The Device's status, and the report that it was made of."""
        self.state = str(status.get("state") or "unknown")
        ready: Object = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
        self.reason = str(ready.get("reason") or "")
        seen = (report or {}).get("seen")
        self.seen = seen / 1000 if isinstance(seen, int) and _time(seen) else 0.0
        self.errors = len(_mapping((report or {}).get("refused")))


def node_of(device: Object) -> str:
    """The name of the node that a device is attached to; "" while there is none."""
    return str((device.get("spec") or {}).get("nodeName") or "")


def model_of(device: Object) -> str:
    """The name of its DeviceModel, of the same namespace."""
    return str(((device.get("spec") or {}).get("deviceModelRef") or {}).get("name") or "")


def history_of(device: Object) -> set[str]:
    """Properties whose history the node is to keep; "*" among them: of all."""
    annotations = meta.metadata(device).get("annotations")
    text = annotations.get(HISTORY) if isinstance(annotations, dict) else None
    return {name.strip() for name in text.split(",")} if isinstance(text, str) else set()


def is_approved(device: Object) -> bool:
    """Nothing uses a device that a scan has found before somebody wants it."""
    annotations = meta.metadata(device).get("annotations")
    return not isinstance(annotations, dict) or annotations.get(APPROVED) != "false"


def identity(device: Object) -> Object:
    """What names the Device on its node."""
    inner = meta.metadata(device)
    return {key: str(inner.get(key) or "") for key in ("name", "namespace", "uid")}


def mistakes(device: Object, model: Object) -> dict[str, str]:
    """Property -> why what the Device says about it cannot be done with this model."""
    known = devices.named((model.get("spec") or {}).get("properties"))
    found: dict[str, str] = {}
    for name, prop in devices.named((device.get("spec") or {}).get("properties")).items():
        value = (prop.get("desired") or {}).get("value")
        if name not in known:
            found[name] = "is not in the DeviceModel"
        elif value is not None and value != "":
            if known[name].get("accessMode") == "ReadOnly":
                found[name] = "is read-only and cannot have a desired value"
            elif why := devices.refusal(known[name], value):
                found[name] = f"{why} (desired {value[:40]!r})"
    return found


def origin(device: Object, model: Object) -> Origin:
    """All that `row` depends on, as far as it may change: equal ones give equal rows."""
    inner, of = meta.metadata(device), meta.metadata(model)
    annotations = inner.get("annotations") or {}
    return (
        str(inner.get("uid")),
        int(inner.get("generation") or 0),
        str(annotations.get(HISTORY)),
        str(of.get("uid")),
        str(of.get("resourceVersion")),
    )


def row(device: Object, model: Object) -> bytes:
    """The device as its node needs it. What is wrong with a property (`mistakes`) keeps its desired value away from the node."""
    spec, model_spec = device.get("spec") or {}, model.get("spec") or {}
    own = devices.named(spec.get("properties"))
    wrong, kept = mistakes(device, model), history_of(device)
    properties = {
        name: _property(prop, own.get(name, {}), name in wrong)
        for name, prop in devices.named(model_spec.get("properties")).items()
    }
    for name in properties:
        if name in kept or "*" in kept:
            properties[name]["history"] = True
    config = {
        **_mapping(model_spec.get("protocolConfigData")),
        **_mapping((spec.get("protocol") or {}).get("configData")),
    }
    return meta.canonical(
        {
            "metadata": identity(device),
            "generation": int(meta.metadata(device).get("generation") or 0),
            "model": model_of(device),
            "protocol": {
                "protocolName": protocol_of(device, model),
                "configData": config,
            },
            "properties": properties,
            **({"methods": spec["methods"]} if spec.get("methods") else {}),
        }
    )


def protocol_of(device: Object, model: Object) -> str:
    """The name of the device's protocol: its own, else its model's; "" for none."""
    own = ((device.get("spec") or {}).get("protocol") or {}).get("protocolName")
    return str(own or (model.get("spec") or {}).get("protocol") or "")


def _property(model: Object, own: Object, wrong: bool) -> Object:
    found = {key: model[key] for key in _TYPE if model.get(key)}
    found |= {key: own[key] for key in _OWN if key in own}
    first, second = model.get("visitors") or {}, own.get("visitors") or {}
    if first or second:
        data = {**_mapping(first.get("configData")), **_mapping(second.get("configData"))}
        found["visitors"] = {**first, **second, "configData": data}
    value = (own.get("desired") or {}).get("value")
    if value is not None and value != "" and not wrong:
        found["desired"] = value
    return found


def _mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def size(most: int, *objects: Object) -> int:
    """Bytes of JSON that the objects have, about. Counting ends beyond `most`."""
    found, waiting = 0, list[Any](objects)
    while waiting and found <= most:
        value = waiting.pop()
        if isinstance(value, dict):
            found += sum(map(len, value))
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        found += len(value) if isinstance(value, str | dict | list) else 8
    return found


def ending(device: Object) -> bytes:
    """The row that asks a node to end with the device and to say so."""
    return meta.canonical({"metadata": identity(device), "deleting": True})


def is_of(report: Mapping[str, Any] | None, device: Object) -> bool:
    """The report is about this Device and not about one that had its name before."""
    return report is not None and report.get("uid") == identity(device)["uid"]


def status(device: Object, model: Object | None, facts: Facts, now: float) -> Object:
    """The Device's status, from all that is known. What the node has not said again stays as it was."""
    before = device.get("status") or {}
    report = facts.report if is_of(facts.report, device) else None
    found: Object = {key: before[key] for key in ("reportToCloud", "reportCycle") if key in before}
    found["observedGeneration"] = int(meta.metadata(device).get("generation") or 0)
    if report is not None and model is not None:
        found["twins"] = _twins(report, devices.named((model.get("spec") or {}).get("properties")), before, now)
    elif "twins" in before:
        found["twins"] = before["twins"]
    state = str((report or {}).get("state") or "unknown")
    found["state"] = state if state in _STATES and facts.node_there else "unknown"
    seen = (report or {}).get("seen")
    if time := _time(seen):
        found["lastOnlineTime"] = time
    elif "lastOnlineTime" in before:
        found["lastOnlineTime"] = before["lastOnlineTime"]
    found["conditions"] = _with(before.get("conditions"), _ready(device, model, facts, report, found), now)
    return found


def ending_status(device: Object, node: str, now: float) -> Object:
    """The status of a Device whose deletion waits for a node that is not there."""
    why = f"its deletion waits for node {node}, which is not attached; one that is gone for good: kubeedge node remove {node}"
    before = device.get("status") or {}
    return {**before, "conditions": _with(before.get("conditions"), _not("Deleting", why, "Unknown"), now)}


def _twins(report: Mapping[str, Any], known: Mapping[str, Object], before: Object, now: float) -> list[Object]:
    """In the model's order. Names that the model lacks are left out, and all that is beyond the limit of a status."""
    reported = _mapping(report.get("twins"))
    old = devices.named(before.get("twins"), "propertyName")
    twins, size = [], 0
    for name in known:
        twin = reported.get(name)
        if not isinstance(twin, dict) or not isinstance(value := twin.get("value"), str):
            continue
        size += len(value)
        if len(value) > devices.MAX_TEXT or size > _MAX_STATUS:
            continue
        was = _mapping(_mapping(old.get(name)).get("reported"))
        stamp = twin.get("time")
        if not _time(stamp):  # the node has no clock: it is new now, or as old as it was
            then = _mapping(was.get("metadata")).get("timestamp")
            stamp = then if was.get("value") == value and then else str(int(now * 1000))
        one: Object = {
            "propertyName": name,
            "reported": {"value": value, "metadata": {"timestamp": str(stamp), "type": _type(known[name])}},
        }
        if isinstance(desired := twin.get("desired"), str) and len(desired) <= devices.MAX_TEXT:
            one["observedDesired"] = {"value": desired}
        twins.append(one)
    return twins


def _type(prop: Object) -> str:
    return str(prop.get("type") or "STRING").lower()


def _time(milliseconds: Any) -> str:
    """RFC 3339; "" for what is no time after 2020, such as that of a machine without a clock."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int):
        return ""
    return meta.timestamp(milliseconds / 1000) if 1_577_836_800_000 <= milliseconds < 253_402_300_800_000 else ""


def _ready(
    device: Object, model: Object | None, facts: Facts, report: Mapping[str, Any] | None, status: Object
) -> Object:
    """The first thing that is wrong, in the order in which a person would put it right."""
    node = node_of(device)
    if not is_approved(device):
        return _not("NotApproved", f"a scan has found it: kubeedge devices approve {meta.name_of(device)}")
    if model is None:
        return _not("ModelMissing", f"there is no DeviceModel {model_of(device)} in this namespace")
    if wrong := mistakes(device, model):
        return _not("ValueRefused", _listed(wrong))
    if not node:
        return _not("NotBound", "spec.nodeName is empty: no node has the device")
    if not facts.node_known:
        return _not("NodeMissing", f"no node {node} has joined")
    if not facts.fits:
        return _not("ExceededCopiesQuota", "it does not fit into what the nodes may have of this tenant's devices")
    if not facts.node_there:
        last = status.get("lastOnlineTime")
        return _not("NodeOffline", f"node {node} is not attached; last report {last or 'unknown'}", "Unknown")
    if report is None or report.get("generation") != status["observedGeneration"]:
        why = f"node {node} has not taken the device over yet: has it modules.devices.enable: true?"
        return _not("Pending", why, "Unknown")
    if refused := _mapping(report.get("refused")):
        return _not("ReportRefused", _listed({str(k)[:128]: str(v)[:200] for k, v in refused.items()}))
    if status["state"] in ("offline", "unhealthy"):
        why = f": {str(report['why'])[:_MAX_WHY]}" if report.get("why") else ""
        last = status.get("lastOnlineTime", "unknown")
        return _not("DeviceOffline", f"its mapper says {status['state']}{why}; last report {last}")
    if status["state"] == "unknown":
        last = status.get("lastOnlineTime")
        since = f" since {last}" if last else ""
        of = f" of protocol {kind[:64]}" if (kind := protocol_of(device, model)) else ""
        return _not("MapperSilent", f"no mapper{of} on node {node} has said anything of the device{since}", "Unknown")
    if isinstance(both := report.get("mappers"), list) and both:
        shown = " and ".join(str(one)[:64] for one in both[:2])
        return _not("TwoMappers", f"{shown} report for the device by turns: one is too many")
    if waiting := _waiting(device, status):
        return _not(
            "NotApplied", f"the device does not have the desired value of {', '.join(waiting[:_MAX_SHOWN])} yet"
        )
    return {"type": "Ready", "status": "True", "reason": "Ready", "message": "the device has what is desired"}


def _waiting(device: Object, status: Object) -> list[str]:
    twins = devices.named(status.get("twins"), "propertyName")
    waiting = []
    for name, prop in devices.named((device.get("spec") or {}).get("properties")).items():
        value = (prop.get("desired") or {}).get("value")
        if not value:
            continue
        twin = twins.get(name, {})
        have = [_mapping(twin.get(key)).get("value") for key in ("reported", "observedDesired")]
        if not any(isinstance(text, str) and devices.same_value(text, value) for text in have):
            waiting.append(name)
    return waiting


def _listed(found: Mapping[str, str]) -> str:
    shown = [f"{name} {why}" for name, why in sorted(found.items())[:_MAX_SHOWN]]
    return "; ".join(shown) + (f"; and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else "")


def _not(reason: str, message: str, status: str = "False") -> Object:
    return {"type": "Ready", "status": status, "reason": reason, "message": message}


def _with(conditions: Any, new: Object, now: float) -> list[Object]:
    """`new` for the condition of its type; the time of the last transition stays while the status does."""
    old: Iterable[Any] = conditions if isinstance(conditions, list) else ()
    kept = [c for c in old if isinstance(c, dict) and c.get("type") != new["type"]]
    was = next((c for c in old if isinstance(c, dict) and c.get("type") == new["type"]), {})
    same = was.get("status") == new["status"] and was.get("lastTransitionTime")
    return [*kept, {**new, "lastTransitionTime": was["lastTransitionTime"] if same else meta.timestamp(now)}]
