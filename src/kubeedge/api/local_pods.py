"""Pods of a node as its own store has them: the desired object, and what is reported of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeedge.api.names import JsonObject
from kubeedge.kit.dataclasses import dataclass

MAX_ADDRESSES = 2  # of one pod: one of each version of IP


@dataclass(frozen=True, slots=True)
class State:
    """`address`: "" when it has none; `addresses`: all of them. `ends`: it is being deleted."""

    address: str
    ready: bool
    ends: bool
    finished: bool
    addresses: tuple[str, ...] = ()


def state(pod: JsonObject, report: JsonObject) -> State:
    """A report about an earlier pod of the same name does not count."""
    ends = bool(_dict(pod, "metadata").get("deletionTimestamp"))
    if report.get("uid") != _dict(pod, "metadata").get("uid"):
        return State("", False, ends, False)
    status = _dict(report, "status")
    phase, address = status.get("phase"), status.get("podIP")
    ready = next((c.get("status") == "True" for c in _dicts(status, "conditions") if c.get("type") == "Ready"), None)
    if ready is None:
        ready = phase == "Running"
    address = address if isinstance(address, str) else ""
    more = [entry.get("ip") for entry in _dicts(status, "podIPs")[:MAX_ADDRESSES]]
    every = dict.fromkeys(text for text in (address, *more) if isinstance(text, str) and text)
    return State(address, ready, ends, phase in ("Succeeded", "Failed"), tuple(every))


def port_number(pod: JsonObject, port: int | str, protocol: str = "TCP") -> int:
    """The number, or the number of the container port of that name; 0 when there is none."""
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    if isinstance(port, str):
        named = (
            entry.get("containerPort")
            for kind in ("containers", "initContainers")
            for container in _dicts(_dict(pod, "spec"), kind)
            if kind == "containers" or container.get("restartPolicy") == "Always"  # a sidecar
            for entry in _dicts(container, "ports")
            if entry.get("name") == port and entry.get("protocol", "TCP") == protocol
        )
        port = next((number for number in named if isinstance(number, int)), 0)
    return port if 0 < port < 65536 else 0


def _dict(value: JsonObject, name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _dicts(value: JsonObject, name: str) -> list[Mapping[str, Any]]:
    inner = value.get(name)
    return [entry for entry in inner if isinstance(entry, Mapping)] if isinstance(inner, list) else []
