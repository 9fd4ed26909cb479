"""The administrator's routes about devices, below /v1/tenants/T.

GET    /devices                  one line of each
GET    /devices/NS/NAME          its properties: desired, reported
PUT    /devices/NS/NAME          {PROPERTY: TEXT} sets desired values; "" takes one back
POST   /devices/NS/NAME/METHOD   {"parameters": {NAME: VALUE}, "timeoutSeconds": N} calls a method
POST   /devices/NS/NAME          {"model", "name"} approves a Device that a scan has found, as it is or under another name
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kubeedge.api import devices, meta
from kubeedge.api.client import KubeClient
from kubeedge.api.device_methods import described
from kubeedge.api.names import Object, TenantId
from kubeedge.apiserver.device_calls import DeviceCalls
from kubeedge.apiserver.logs import NodeStream
from kubeedge.errors import Conflict, Invalid, NotFound, with_next
from kubeedge_cloud.devicecontroller.core import APPROVED, identity, is_approved, mistakes, model_of, node_of

_ATTEMPTS = 5  # of a write, beside others who write the same Device


class DeviceRoutes:
    """`api_of` gives the Kubernetes API of a tenant, embedded or a cluster's; `node_stream` connects to where nodes hear of calls."""

    def __init__(self, api_of: Callable[[TenantId], Awaitable[KubeClient]], node_stream: NodeStream) -> None:
        self._api_of = api_of
        self._calls = DeviceCalls(node_stream)

    async def route(
        self, method: str, tenant: TenantId, parts: Sequence[str], body: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The answer to a request; None when it is for none of these routes. Raises Invalid for values that the model forbids."""
        api = await self._api_of(tenant)
        match method, parts:
            case "GET", []:
                found = await api.reduced_list(devices.DEVICES, "", line)
                return {"devices": sorted(found, key=lambda item: str(item["id"]))}
            case "GET", [namespace, name]:
                device = await api.get(devices.DEVICES, namespace, name)
                return detail(device, await self._model(api, device))
            case "PUT", [namespace, name]:
                return await self._set(api, namespace, name, body)
            case "POST", [namespace, name, called]:
                return await self._calls.call(tenant, api, (namespace, name), called, body)
            case "POST", [namespace, name]:
                made = await self._approve(api, namespace, name, body)
                ready = "Pending" if await self._model(api, made) is not None else "ModelMissing"
                return {**line(made), "ready": ready}  # what its status says is of the time before
        return None

    async def _set(self, api: KubeClient, namespace: str, name: str, values: dict[str, Any]) -> dict[str, Any]:
        if not values or not all(isinstance(text, str) for text in values.values()):
            raise Invalid("properties with texts are required")
        for attempt in range(_ATTEMPTS):
            device = await api.get(devices.DEVICES, namespace, name)
            if (model := await self._model(api, device)) is None:
                raise with_next(
                    NotFound(f"DeviceModel {namespace}/{model_of(device)} does not exist"), "apply it first"
                )
            changed = with_desired(device, values)
            if wrong := {name: why for name, why in mistakes(changed, model).items() if name in values}:
                raise Invalid("; ".join(f"property {name} {why}" for name, why in sorted(wrong.items())))
            try:
                return detail(await api.update(devices.DEVICES, namespace, changed), model)
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def _approve(self, api: KubeClient, namespace: str, name: str, body: dict[str, Any]) -> Object:
        model, renamed = body.get("model") or "", body.get("name") or name
        if not isinstance(model, str) or not isinstance(renamed, str):
            raise Invalid("the names of a model and of a Device are required")
        device = await api.get(devices.DEVICES, namespace, name)
        if is_approved(device):
            raise with_next(
                Conflict(f"Device {namespace}/{name} is approved already"),
                "with another model or name: delete it, scan again, and approve what is found",
            )
        if renamed == name and model in ("", model_of(device)):
            patch = {"metadata": {"uid": identity(device)["uid"], "annotations": {APPROVED: "true"}}}
            return await api.merge_patch(devices.DEVICES, namespace, name, patch)
        new = approved(device, model or model_of(device), renamed)
        if renamed == name:  # the model of a Device cannot be changed: it is another one
            await api.delete(devices.DEVICES, namespace, name, uid=identity(device)["uid"])
            return await api.create(devices.DEVICES, namespace, new)
        made = await api.create(devices.DEVICES, namespace, new)
        with contextlib.suppress(NotFound):
            await api.delete(devices.DEVICES, namespace, name, uid=identity(device)["uid"])
        return made

    async def _model(self, api: KubeClient, device: Object) -> Object | None:
        try:
            return await api.get(devices.DEVICEMODELS, str(meta.metadata(device).get("namespace")), model_of(device))
        except NotFound:
            return None


def approved(device: Object, model: str, name: str) -> Object:
    """The Device that one which was found becomes."""
    inner = meta.metadata(device)
    kept = {key: inner[key] for key in ("namespace", "labels") if key in inner}
    annotations = {**(inner.get("annotations") or {}), APPROVED: "true"}
    return {
        **{key: device[key] for key in ("apiVersion", "kind") if key in device},
        "metadata": {**kept, "name": name, "annotations": annotations},
        "spec": {**(device.get("spec") or {}), "deviceModelRef": {"name": model}},
    }


def line(device: Object) -> Object:
    """A Device in a list."""
    status = device.get("status") or {}
    ready = devices.named(status.get("conditions"), "type").get("Ready") or {}
    return {
        "id": _id(device),
        "node": node_of(device),
        "state": str(status.get("state") or "unknown"),
        "ready": str(ready.get("reason") or "-") if ready.get("status") != "True" else "True",
        "lastOnlineTime": str(status.get("lastOnlineTime") or ""),
    }


def _id(device: Object) -> str:
    inner = meta.metadata(device)
    return f"{inner.get('namespace')}/{inner.get('name')}"


def detail(device: Object, model: Object | None) -> Object:
    """A Device with its properties: type, unit, desired and reported values, as texts; "-" where there is none."""
    own = devices.named((device.get("spec") or {}).get("properties"))
    twins = devices.named((device.get("status") or {}).get("twins"), "propertyName")
    known = devices.named(((model or {}).get("spec") or {}).get("properties"))
    properties = []
    for name in {**known, **own}:
        reported = twins.get(name, {}).get("reported") or {}
        properties.append(
            {
                "property": name,
                "type": str(known.get(name, {}).get("type") or "-"),
                "desired": str((own.get(name, {}).get("desired") or {}).get("value") or "-"),
                "reported": str(reported.get("value") or "-"),
                "unit": str(known.get(name, {}).get("unit") or "-"),
            }
        )
    methods = described((device.get("spec") or {}).get("methods"), known)
    return {**line(device), "properties": properties, **({"methods": methods} if methods else {})}


def with_desired(device: Object, values: dict[str, str]) -> Object:
    """The Device with other desired values."""
    spec = dict(device.get("spec") or {})
    properties = [dict(prop) for prop in spec.get("properties") or ()]
    by_name = devices.named(properties)
    for name, text in values.items():
        if (prop := by_name.get(name)) is None:
            prop = by_name[name] = {"name": name}
            properties.append(prop)
        if text:
            prop["desired"] = {**(prop.get("desired") or {}), "value": text}
        else:
            prop.pop("desired", None)
    return {**device, "spec": {**spec, "properties": properties}}
