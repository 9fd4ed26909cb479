"""Conditions in the status of Gateway API's objects. Pure.

What is the same as before stays as it is, with the time of its last transition, so that a status that says nothing new is not written.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from kubeedge.api.names import Object
from kubeedge_cloud.controllers.objects import generation_of, with_condition
from kubeedge_cloud.gateway.listeners import ListenerState

CONTROLLER = "kubeedge.io/gateway"
NODE_CONTROLLER = "kubeedge.io/node-gateway"  # of Gateways that listen on nodes
MAX_ADDRESSES = 16  # in the status of a Gateway: a cluster refuses a status with more


def is_ours(found: Object, controller: str = CONTROLLER) -> bool:
    """Whether a GatewayClass is that controller's."""
    return (found.get("spec") or {}).get("controllerName") == controller


def condition(kind: str, fault: tuple[str, str] | None, *, good: str = "") -> Object:
    """True, or False with (reason, message). `good`: the reason of the former; "": like its type."""
    status, (reason, message) = ("False", fault) if fault else ("True", (good or kind, ""))
    return {"type": kind, "status": status, "reason": reason, "message": message[:1024]}


def merged(before: Any, new: Iterable[Object], obj: Object, now: float) -> list[Object]:
    """The new conditions, with the times of those before; `now` in seconds since 1970."""
    known = [c for c in before or () if isinstance(c, dict)]
    result: list[Object] = []
    for found in new:
        found = {**found, "observedGeneration": generation_of(obj)}
        result += [c for c in with_condition(known, found, now) if c.get("type") == found["type"]]
    return result


def class_status(found: Object, features: Iterable[str], now: float) -> Object:
    """The status of a GatewayClass of ours; `features`: names of Gateway API's that are supported here."""
    conditions = (found.get("status") or {}).get("conditions")
    return {
        "conditions": merged(conditions, [condition("Accepted", None)], found, now),
        "supportedFeatures": [{"name": name} for name in sorted(features)],
    }


def gateway_refused(found: Object, limit: int, now: float) -> Object:
    """The status of a Gateway of ours beyond as many as a tenant may have."""
    fault = ("TooManyGateways", f"the tenant has {limit} Gateways already")
    new = [condition("Accepted", fault), condition("Programmed", fault)]
    return {"conditions": merged((found.get("status") or {}).get("conditions"), new, found, now), "listeners": []}


def gateway_status(
    found: Object,
    listeners: Iterable[ListenerState],
    addresses: Iterable[str],
    now: float,
    *,
    unsupported: str = "",
    unusable: str = "",
) -> Object:
    """The status of a Gateway of ours; `addresses`: its own, or names and addresses of the cloud; `unsupported`, `unusable`: what is wrong with
    those that it asks for."""
    before, listeners = found.get("status") or {}, list(listeners)
    known = {str(entry.get("name")): entry for entry in before.get("listeners") or () if isinstance(entry, dict)}
    invalid = None if all(s.works for s in listeners) else ("ListenersNotValid", "not every listener is programmed")
    accepted = None if any(s.works for s in listeners) or not listeners else invalid
    programmed = ("Invalid", "no listener is programmed") if accepted else None
    if unsupported:
        accepted = programmed = ("UnsupportedAddress", unsupported)
    elif unusable:  # its listeners may be good
        accepted, invalid, programmed = None, None, ("AddressNotUsable", unusable)
    conditions = [
        condition("Accepted", accepted)
        if accepted or not invalid
        else {**condition("Accepted", None), "reason": invalid[0]},
        condition("Programmed", programmed),
    ]
    usable = () if unsupported or unusable else addresses
    return {
        "addresses": [{"type": _address_type(address), "value": address} for address in list(usable)[:MAX_ADDRESSES]],
        "conditions": merged(before.get("conditions"), conditions, found, now),
        "listeners": [_listener_status(s, known.get(s.name, {}), found, now) for s in listeners],
    }


def _listener_status(state: ListenerState, before: Object, found: Object, now: float) -> Object:
    wrong = state.refused or state.failed
    refused = (wrong.reason, wrong.message) if wrong else None
    reference = (state.reference.reason, state.reference.message) if state.reference else None
    conflict = "another listener of this Gateway has its port, and the same host name or another protocol"
    conflicted = {"type": "Conflicted", "status": "False", "reason": "NoConflicts", "message": ""}
    if state.conflict:
        conflicted |= {"status": "True", "reason": state.conflict, "message": conflict}
        refused = refused or (state.conflict, conflict)
    conditions = [
        condition("Accepted", refused),
        condition("Programmed", None if state.works else ("Invalid", "the listener is not valid")),
        condition("ResolvedRefs", reference),
        conflicted,
    ]
    return {
        "name": state.name,
        "supportedKinds": list(state.kinds),
        "attachedRoutes": state.attached,
        "conditions": merged(before.get("conditions"), conditions, found, now),
    }


def route_status(
    route: Object, parents: Iterable[tuple[Object, list[Object]]], now: float, controller: str = CONTROLLER
) -> Object:
    """The status of a route: the parents of one controller with their conditions, and what others say of theirs as it is."""
    before = [p for p in (route.get("status") or {}).get("parents") or () if isinstance(p, dict)]
    kept = [p for p in before if p.get("controllerName") != controller]
    own = []
    for ref, conditions in parents:
        known = next((p for p in before if p.get("controllerName") == controller and p.get("parentRef") == ref), {})
        conditions = merged(known.get("conditions"), conditions, route, now)
        own.append({"parentRef": ref, "controllerName": controller, "conditions": conditions})
    return {"parents": [*kept, *own]}


def ingress_status(addresses: Iterable[str]) -> Object:
    """The status of an Ingress of ours."""
    fields = {"IPAddress": "ip", "Hostname": "hostname"}
    return {"loadBalancer": {"ingress": [{fields[_address_type(address)]: address} for address in addresses]}}


def _address_type(address: str) -> str:
    try:
        ip_address(address)
    except ValueError:
        return "Hostname"
    return "IPAddress"
