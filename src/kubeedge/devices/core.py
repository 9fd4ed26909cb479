"""The twins of this node's devices. Pure: rows of the store, reports and times in; rows to write, and what changed, out.

Per property there are three values, each with one writer, so that nothing is ever merged:

    desired   written by the cloud     /desired/devices/NAMESPACE/NAME (kubeedge_cloud.devicecontroller.core has the format)
    reported  written by the mapper    /reported/devices/NAMESPACE/NAME, and /local/devices/... for properties with reportToCloud false
    observed  the desired value that the mapper says it has taken, likewise

A device has one row for all its properties, and the newest value of a property is the only one: a chatty device costs one write for
as many reports as came in the meantime.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from kubeedge.api import devices, keys, meta
from kubeedge.api.names import NamespacedName
from kubeedge.devices.ages import EPOCH
from kubeedge.devices.reporters import Reporters
from kubeedge.devices.shares import SharedRoom
from kubeedge.devices.sinks.core import PushedValue
from kubeedge.devices.sinks.pushes import Pushes
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

STATES = ("online", "offline", "ok", "unhealthy", "unknown")
REFRESH = 10_000  # milliseconds after which a value that has not changed is written again, for its time
_AHEAD = 86_400_000  # milliseconds that a device's clock may be ahead of ours
_LAST = 253_402_300_800_000  # milliseconds: the year 10000, which no calendar here has
_SMALL = 512  # characters of a value that always fits
_MAX_SIZE = 384 * 1024  # characters of all values of a device
_MAX_KNOWN = 2048  # properties that are shared
_MAX_HISTORY = 1024 * 1024  # characters of values that wait for the disk
_SHARE = 32 * 1024  # characters of a device for which there is room when others take all of it
_VALUE = 64  # characters that a value costs besides its own, at most
_MAX_SOURCE = 64  # characters
_MAX_WHY = 500  # characters
_MAX_REFUSED = 16  # reasons kept of one device


@dataclass(slots=True)
class Twin:
    """Of one property. `time`: milliseconds since 1970 when it was reported; 0: the time was not known."""

    reported: str | None = None
    time: int = 0
    observed: str | None = None


@dataclass(slots=True)
class Device:
    """A device as this node has it."""

    uid: str
    generation: int = 0
    deleting: bool = False
    properties: dict[str, dict[str, Any]] = field(default_factory=dict)  # shared among devices: not to be changed
    wanted: dict[str, str] = field(default_factory=dict)
    model: str = ""  # the name of its DeviceModel
    protocol: str = ""
    config: str = "{}"  # JSON: the protocol's configData, of which mappers alone make use
    methods: tuple[Mapping[str, Any], ...] = ()
    destinations: dict[str, tuple[str, ...]] = field(default_factory=dict)  # property -> where its values are sent, too
    twins: dict[str, Twin] = field(default_factory=dict)
    state: str = "unknown"
    why: str = ""  # what its mapper says is wrong with it
    seen: int = 0  # as Twin.time, of the last report
    refused: dict[str, str] = field(default_factory=dict)
    cycle: int = 0  # milliseconds, the shortest in which its Device asks for values; 0: for none
    reporters: Reporters = field(default_factory=Reporters)
    reports: int = 0  # since the start
    errors: int = 0  # values that were refused, likewise

    def desired(self, name: str) -> str | None:
        """The value that the cloud wants; None: it wants none."""
        return self.wanted.get(name)

    def delta(self) -> dict[str, str]:
        """Property -> desired value, of those that the device has not."""
        found = {}
        for name, wanted in self.wanted.items():
            twin = self.twins.get(name)
            if twin is None or twin.reported is None or not devices.same_value(twin.reported, wanted):
                found[name] = wanted
        return found


@dataclass(frozen=True, slots=True)
class DesiredChange:
    """What a new desired row has done."""

    added: bool = False
    removed: bool = False
    desired: bool = False  # some desired value is another one, or new
    spec: bool = False  # what mappers have to know of it is another: its protocol, its properties, which of them have a desired value


class Twins:
    """All devices of the node. `dirty` has those whose rows differ from the store; the caller writes `rows` and takes them out."""

    def __init__(self, *, pushing: bool = False) -> None:
        """`pushing`: values are sent where `pushMethod` says, from here; otherwise mappers are told of it."""
        self.devices: dict[NamespacedName, Device] = {}
        self.dirty: dict[NamespacedName, None] = {}
        self.history: dict[str, dict[str, list[tuple[int, str]]]] = {}  # by uid: values to keep; the caller takes them
        self._room = SharedRoom[str](_MAX_HISTORY, _SHARE)  # for these
        self.history_lost = 0  # values that there was no room for, since the caller looked
        self.pushes = Pushes() if pushing else None
        self._local: set[NamespacedName] = set()  # those that have, or had, a row below /local/
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}
        self._kept: dict[
            NamespacedName, dict[str, Any]
        ] = {}  # rows of reports, of devices whose desired row has not come yet

    def restore(self, key: NamespacedName, row: bytes, *, local: bool = False) -> None:
        """A row that `rows` gave in an earlier life; before the desired rows. `local`: it is the one below /local/."""
        if local:
            self._local.add(key)
        value = _object(row)
        kept = self._kept.get(key)
        if kept is None or kept.get("uid") != value.get("uid"):
            kept = self._kept[key] = {"twins": {}}
        kept["twins"] |= _mapping(value.get("twins"))
        kept |= {name: value[name] for name in ("uid", "state", "why", "seen", "generation", "gone") if name in value}

    def restored(self) -> None:
        """All desired rows have come: reports of devices that went meanwhile are taken back."""
        for key in self._kept:
            self.dirty[key] = None
        self._kept.clear()

    def desire(self, key: NamespacedName, row: bytes | None) -> DesiredChange:
        """The cloud's row of a device; None: the node has it no more."""
        old = self.devices.get(key)
        if row is None:
            self.devices.pop(key, None)
            self.dirty[key] = None
            return DesiredChange(removed=old is not None and not old.deleting)
        value = _object(row)
        uid = str(_mapping(value.get("metadata")).get("uid") or "")
        new = old if old is not None and old.uid == uid else self._fresh(key, uid)
        added = new is not old and not value.get("deleting")
        self.devices[key] = new
        before = (new.generation, new.deleting)
        was, known = new.wanted, (new.model, new.protocol, new.config, new.properties, new.methods)
        new.deleting = value.get("deleting") is True
        if new.deleting:
            self.dirty[key] = None
            return DesiredChange(removed=not before[1])
        new.generation = int(value.get("generation") or 0)
        methods = value.get("methods")
        new.methods = tuple(map(_mapping, methods)) if isinstance(methods, list) else ()
        new.model = sys.intern(str(value.get("model") or ""))
        protocol = _mapping(value.get("protocol"))
        new.protocol = str(protocol.get("protocolName") or "")
        new.config = json.dumps(_mapping(protocol.get("configData")), sort_keys=True)
        new.properties, new.wanted, new.destinations = {}, {}, {}
        stale = bool(new.refused)  # it is of a property as it was
        new.refused.clear()
        for name, prop in list(_mapping(value.get("properties")).items())[: devices.MAX_PROPERTIES]:
            wanted = _mapping(prop).pop("desired", None)
            self._send(new, name, _mapping(prop))
            name, new.properties[name] = self._shared(name, _mapping(prop))
            if isinstance(wanted, str):
                new.wanted[name] = wanted
        cycles = (prop.get(cycle) for prop in new.properties.values() for cycle in ("collectCycle", "reportCycle"))
        new.cycle = min((each for each in cycles if isinstance(each, int) and each > 0), default=0)
        for name in new.twins.keys() - new.properties.keys():
            del new.twins[name]
            stale = True
        if added or stale or before != (new.generation, new.deleting):
            self.dirty[key] = None
        changed = any(new.desired(name) is not None and new.desired(name) != was.get(name) for name in new.properties)
        spec = (
            new.model,
            new.protocol,
            new.config,
            new.properties,
            new.methods,
        ) != known or was.keys() != new.wanted.keys()
        return DesiredChange(added=added, desired=changed, spec=spec)

    def _send(self, device: Device, name: str, prop: dict[str, Any]) -> None:
        if self.pushes is None or "pushMethod" not in prop:
            return
        try:
            if found := self.pushes.destinations(prop.pop("pushMethod")):
                device.destinations[name] = found
        except Invalid as exc:
            if len(device.refused) < _MAX_REFUSED:
                where, _, why = str(exc).partition(" ")  # it begins with pushMethod
                device.refused[f"{name[:128]}.{where}"] = why

    def _shared(self, name: str, prop: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The same objects for the same text: a thousand devices of one model have its properties once."""
        text = json.dumps([name, prop], sort_keys=True)
        if text not in self._known:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[text] = (name, prop)
        return self._known[text]

    def _fresh(self, key: NamespacedName, uid: str) -> Device:
        found = Device(uid)
        kept = self._kept.pop(key, {})
        if kept.get("uid") == uid:
            found.state, found.why = str(kept.get("state") or "unknown"), str(kept.get("why") or "")
            found.seen = _milliseconds(kept.get("seen"))
            found.generation = _milliseconds(kept.get("generation"))
            for name, twin in kept["twins"].items():
                if isinstance(twin, dict):
                    value, observed = twin.get("value"), twin.get("desired")
                    found.twins[name] = Twin(value, _milliseconds(twin.get("time")), observed)
        return found

    def report(
        self,
        key: NamespacedName,
        values: Mapping[str, str | None],
        now: int,
        *,
        observed: Mapping[str, str] | None = None,
        times: Mapping[str, int] | None = None,
        source: str = "",
    ) -> dict[str, str]:
        """Values that a mapper has read; the result has those that were refused: property -> why.

        `source`: which mapper; "": it is not known. `now`, `times`: milliseconds since 1970, of this machine and of the device. Raises KeyError for a device that this node has not.
        """
        device = self.devices[key]
        if device.deleting:
            raise KeyError(key)
        refused: dict[str, str] = {}
        device.reports += 1
        if device.reporters.heard(source[:_MAX_SOURCE], now):
            self.dirty[key] = None
        for name, value in values.items():
            prop = device.properties.get(name)
            why = "is not in the DeviceModel" if prop is None else devices.refusal(prop, value) if value else ""
            if value and not why and not _fits(device, name, value):
                why = f"does not fit: the values of a device have {_MAX_SIZE} bytes together"
            if why:
                refused[name] = why
                device.errors += 1
                if len(device.refused) < _MAX_REFUSED and name not in device.refused:
                    device.refused[name[:128]] = why
                    self.dirty[key] = None
                continue
            if device.refused.pop(name, None) is not None:
                self.dirty[key] = None
            if (twin := device.twins.get(name)) is None:
                twin = device.twins[sys.intern(name)] = Twin()
            stamp = _stamp((times or {}).get(name, 0), now)
            taken = (observed or {}).get(name)
            if taken is not None and taken != twin.observed and len(taken) <= devices.MAX_TEXT:
                twin.observed = taken
                self.dirty[key] = None
            if value is not None and prop is not None and prop.get("history"):
                self._remember(device.uid, name, stamp, value)
            if value is not None and self.pushes is not None and name in device.destinations:
                self.pushes.add(
                    key,
                    PushedValue(0, *key, name, str((prop or {}).get("type") or ""), stamp, value),
                    device.destinations[name],
                )
            if value is not None and (value != twin.reported or not 0 <= stamp - twin.time < REFRESH):
                twin.reported, twin.time = value, stamp
                self.dirty[key] = None
        self._seen(key, device, now)
        if device.state == "unknown":
            device.state = "online"
            self.dirty[key] = None
        return refused

    def _remember(self, uid: str, name: str, stamp: int, value: str) -> None:
        """A value for the history, which waits for the disk in a bounded room."""
        if self._room.admits(uid, len(value) + _VALUE):
            self.history.setdefault(uid, {}).setdefault(name, []).append((stamp, value))
        else:
            self.history_lost += 1

    def take_history(self) -> dict[str, dict[str, list[tuple[int, str]]]]:
        """What waits for the disk; the caller has it now."""
        self._room.clear()
        found, self.history = self.history, {}
        return found

    def set_state(self, key: NamespacedName, state: str, now: int, *, why: str = "", heard: bool = True) -> None:
        """One of STATES; `why`: what is wrong, for people; `heard`: a mapper says so. Raises KeyError for a device that this node has not."""
        device = self.devices[key]
        if device.deleting:
            raise KeyError(key)
        why = "".join(c if c.isprintable() else "?" for c in why[:_MAX_WHY])
        if (device.state, device.why) != (state, why):
            device.state, device.why = state, why
            self.dirty[key] = None
        if heard:
            self._seen(key, device, now)

    def settle(self, now: int) -> None:
        """Devices for which two mappers have reported, and do so no more."""
        for key, device in self.devices.items():
            if device.reporters.settled(now):
                self.dirty[key] = None

    def _seen(self, key: NamespacedName, device: Device, now: int) -> None:
        stamp = _stamp(0, now)
        if not 0 <= stamp - device.seen < REFRESH:
            device.seen = stamp
            self.dirty[key] = None

    def rows(self, key: NamespacedName) -> dict[str, bytes | None]:
        """Key of the store -> what is to be there; None: nothing."""
        reported, local = keys.reported("devices", *key), keys.local_device(*key)
        device = self.devices.get(key)
        if device is None or device.deleting:
            gone = None if device is None else meta.canonical({"uid": device.uid, "gone": True})
            had = key in self._local
            self._local.discard(key)
            return {reported: gone, **({local: None} if had else {})}
        public: dict[str, Any] = {}
        private: dict[str, Any] = {}
        for name, twin in device.twins.items():
            one = {"value": twin.reported, "time": twin.time, "desired": twin.observed}
            kept = {field: value for field, value in one.items() if value is not None}
            hidden = device.properties.get(name, {}).get("reportToCloud") is False
            (private if hidden else public)[name] = kept
        report: dict[str, Any] = {
            "uid": device.uid,
            "generation": device.generation,
            "state": device.state,
            "seen": device.seen,
            "twins": public,
        }
        if device.why:
            report["why"] = device.why
        if device.refused:
            report["refused"] = device.refused
        if device.reporters.both:
            report["mappers"] = list(device.reporters.both)
        found: dict[str, bytes | None] = {reported: meta.canonical(report)}
        if private:
            self._local.add(key)
        if key in self._local:
            found[local] = meta.canonical({"uid": device.uid, "twins": private})
        return found

    def find(self, identifier: Iterable[str]) -> NamespacedName | None:
        """A device by the levels of a topic: namespace and name, or its name alone if one device of the node has it."""
        levels = tuple(identifier)
        if len(levels) == 2:
            key = (levels[0], levels[1])
            return key if key in self.devices else None
        if ("default", levels[0]) in self.devices:
            return "default", levels[0]
        found = [key for key in self.devices if key[1] == levels[0]]
        return found[0] if len(found) == 1 else None


def _fits(device: Device, name: str, value: str) -> bool:
    """The device's row stays below what the store takes and the cloud shows."""
    if len(value) <= _SMALL:
        return True
    others = (len(twin.reported or "") for other, twin in device.twins.items() if other != name)
    return sum(others) + len(value) <= _MAX_SIZE


def _stamp(own: int, now: int) -> int:
    """The time that the device gives, if it can be one; else ours; 0: this machine has no clock either."""
    if now < EPOCH:
        return own if EPOCH <= own < _LAST else 0
    return own if EPOCH <= own <= now + _AHEAD else now


def _milliseconds(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _object(row: bytes) -> dict[str, Any]:
    """The JSON object in a row; {} when the row is damaged."""
    try:
        return _mapping(json.loads(row))
    except (ValueError, RecursionError):
        return {}
