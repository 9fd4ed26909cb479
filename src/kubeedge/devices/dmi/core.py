"""What a mapper has of the node's devices, and which call is next. Pure: fingerprints and outcomes in, calls out.

A mapper that registers is a new process and has nothing. One that has not registered since the agent started has what an earlier agent wrote
down: Go mappers register once, and never again when it is the agent that restarts.

RegisterDevice changes nothing where the mapper has the device, and UpdateDevice starts the device anew: it is for a device that is another, and
for one that has not got what is desired: Go mappers write that when they start a device, and never again where that fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName
from kubeedge.devices.dmi.messages import DeviceMessages, MapperInfo
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import dataclass, field

_MAX_ROW = 256 * 1024  # bytes of a record; devices beyond it start anew when the agent does
_RETRY = Backoff(1.0, 60.0)  # of a device that the mapper refuses
_ANEW = Backoff(10.0, 300.0)  # of a device that has not got what is desired


class DmiCall(Enum):
    """Calls of DeviceMapperService, by their names."""

    CREATE_MODEL = "CreateDeviceModel"
    UPDATE_MODEL = "UpdateDeviceModel"
    REMOVE_MODEL = "RemoveDeviceModel"
    REGISTER = "RegisterDevice"
    UPDATE = "UpdateDevice"
    REMOVE = "RemoveDevice"


@dataclass(slots=True)
class _Failures:
    number: int = 0
    until: float = 0.0
    fingerprint: str = ""


@dataclass(slots=True)
class MapperState:
    """One mapper. `devices`, `models`: the fingerprints of what it has; "": it may have another one."""

    info: MapperInfo
    devices: dict[NamespacedName, str] = field(default_factory=dict)
    models: dict[NamespacedName, str] = field(default_factory=dict)
    is_restored: bool = False  # it registered in an earlier life of the agent
    dirty: bool = False  # the record differs from what is written down
    _confirmed: set[NamespacedName] = field(default_factory=set)  # it was asked to register them in this life
    _model_of: dict[NamespacedName, NamespacedName] = field(default_factory=dict)
    _failures: dict[NamespacedName, _Failures] = field(default_factory=dict)
    _lacking: dict[NamespacedName, _Failures] = field(default_factory=dict)

    def offered(self, key: NamespacedName, messages: DeviceMessages) -> None:
        """The answer to its registration has the device. It may be lost: the device is registered by a call in any case."""
        self.devices[key] = messages.fingerprint
        self._has_model(key, messages)

    def doubt(self, key: NamespacedName, messages: DeviceMessages | None) -> bool:
        """Before calls about a device. True: the record must be written down first, which says now that the mapper may have another one; an agent
        that ends behind a call, while the device becomes what it was, would take that for what the mapper has."""
        if messages is None:
            return False
        doubted = False
        for known, name, fingerprint in (
            (self.devices, key, messages.fingerprint),
            (self.models, (key[0], messages.model_name), messages.model_fingerprint),
        ):
            if known.get(name, "") not in ("", fingerprint):
                known[name] = ""
                doubted = True
        return doubted

    def next_call(self, key: NamespacedName, messages: DeviceMessages | None, now: float) -> DmiCall | None:
        """The next call about a device; None: it is as it should be, or has failed a moment ago. `messages`: None when it is gone."""
        failed = self._failures.get(key)
        fingerprint = messages.fingerprint if messages else ""
        if failed is not None and failed.fingerprint == fingerprint and now < failed.until:
            return None
        if messages is None:
            if key in self.devices:
                return DmiCall.REMOVE
            self._failures.pop(key, None)
            return None
        model = self.models.get((key[0], messages.model_name))
        if model != messages.model_fingerprint:
            return DmiCall.CREATE_MODEL if model is None else DmiCall.UPDATE_MODEL
        if key not in self._confirmed:
            return DmiCall.REGISTER
        return DmiCall.UPDATE if self.devices.get(key) != fingerprint else None

    def done(self, key: NamespacedName, call: DmiCall, messages: DeviceMessages | None) -> None:
        """The mapper has answered."""
        self._failures.pop(key, None)
        self.dirty = True
        if messages is None:
            self.devices.pop(key, None)
            self._lacking.pop(key, None)
            self._confirmed.discard(key)
            self._model_of.pop(key, None)
        elif call in (DmiCall.CREATE_MODEL, DmiCall.UPDATE_MODEL):
            self._has_model(key, messages)
        elif call is DmiCall.REGISTER:
            self._confirmed.add(key)
            self.devices.setdefault(key, messages.fingerprint)
            self._model_of[key] = key[0], messages.model_name
        else:
            self.devices[key] = messages.fingerprint
            self._model_of[key] = key[0], messages.model_name

    def failed(self, key: NamespacedName, call: DmiCall, messages: DeviceMessages | None, now: float) -> float:
        """The mapper has refused, or hangs; the result is the time of the next try. A model that it does not know is created then."""
        if call is DmiCall.UPDATE_MODEL and messages is not None:
            self.models.pop((key[0], messages.model_name), None)
        found = self._failures.setdefault(key, _Failures())
        fingerprint = messages.fingerprint if messages else ""
        found.number = found.number + 1 if found.fingerprint == fingerprint else 1
        found.fingerprint = fingerprint
        found.until = now + _RETRY.delay(found.number)
        return found.until

    def retry_at(self, key: NamespacedName) -> float | None:
        """When a device that the mapper has refused is tried again; None: nothing is to be done."""
        failed = self._failures.get(key)
        return failed.until if failed else None

    def lacks(self, key: NamespacedName, fingerprint: str, patience: float, now: float) -> float | None:
        """Of a device that the mapper has: `patience` is 0.0 when it has all that is desired, otherwise the seconds that it may need to say so. The
        time of the next look; None: none is needed. A device that has been given its time is one that the mapper may have in another state, so
        that `next_call` gives UpdateDevice."""
        if not patience:
            self._lacking.pop(key, None)
            return None
        found = self._lacking.get(key)
        if found is None or found.fingerprint != fingerprint:
            found = self._lacking[key] = _Failures(0, now, fingerprint)
        elif now < found.until:
            return found.until
        else:
            self.devices[key] = ""
        found.number += 1
        found.until = now + max(patience, _ANEW.delay(found.number))
        return found.until

    def is_back(self, key: NamespacedName) -> bool:
        """The mapper reaches the device again. True: it lacks something, and is to be started anew at the next look, which is now."""
        found = self._lacking.get(key)
        if found is None:
            return False
        found.number, found.until = 0, 0.0
        return True

    def unused_models(self) -> list[NamespacedName]:
        """Models that no device of the mapper has any more."""
        used = set(self._model_of.values())
        if self.devices.keys() - self._model_of.keys():  # of what was written down it is not known
            return []
        return [model for model in self.models if model not in used]

    def model_removed(self, model: NamespacedName) -> None:
        """It has the model no more."""
        self.models.pop(model, None)
        self.dirty = True

    def _has_model(self, key: NamespacedName, messages: DeviceMessages) -> None:
        model = key[0], messages.model_name
        self.models[model] = messages.model_fingerprint
        self._model_of[key] = model

    def may_have(self, keys: Iterable[NamespacedName]) -> None:
        """Of a mapper that was written down: it may have got these, in another state, from an agent that could not write it down any more."""
        for key in keys:
            self.devices.setdefault(key, "")

    def row(self) -> bytes:
        """What is written down of it, as JSON: `restored` reads it."""
        size, kept = 0, {}
        for key, fingerprint in self.devices.items():
            size += len(key[0]) + len(key[1]) + len(fingerprint) + 8
            if size > _MAX_ROW:
                break
            kept["/".join(key)] = fingerprint
        info = self.info
        models = {"/".join(key): fingerprint for key, fingerprint in list(self.models.items())[:256]}
        return meta.canonical(
            {
                "name": info.name,
                "protocol": info.protocol,
                "address": info.address,
                "version": info.version,
                "devices": kept,
                "models": models,
            }
        )


def restored(row: bytes) -> MapperState | None:
    """A mapper by its record; None when that is damaged."""
    try:
        value = json.loads(row)
        info = MapperInfo(*(value[key] for key in ("name", "protocol", "address", "version")))
        found = MapperState(info, is_restored=True)
        for kept, into in (("devices", found.devices), ("models", found.models)):
            for identifier, fingerprint in value[kept].items():
                namespace, _, name = identifier.partition("/")
                into[namespace, name] = str(fingerprint)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return (
        found if all(isinstance(one, str) for one in (info.name, info.protocol, info.address, info.version)) else None
    )
