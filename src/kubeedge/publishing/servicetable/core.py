"""Which web services this node has, from what is in its store. Pure.

Two ways to publish:

    /reported/webservices/_/NAME {"target": "127.0.0.1:8080"}                      `kubeedge publish`, on the node itself; wins
    /desired/webservices/_/NAME {"namespace", "selector": {...}, "port": 80}       a Service in the cloud, onto pods of this node

Both may have "access" and "tokens" (access.py).
The second kind needs the node's pods: labels and named ports from /desired/pods, address and readiness from /reported/pods.

Feed every change of those prefixes to `apply`; ask `resolve`. A value that makes no sense never raises in `apply`: a caller that asks
for that service is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.api import keys, local_pods
from kubeedge.api.names import JsonObject
from kubeedge.config import forms
from kubeedge.errors import Invalid, NotFound, Unavailable
from kubeedge.kubebus.http.access import Policy, policy_of
from kubeedge.kubebus.http.url import ServiceName, Target

#: what has to be watched
PREFIXES = (
    f"{keys.DESIRED}webservices/",
    f"{keys.DESIRED}pods/",
    f"{keys.REPORTED}webservices/",
    f"{keys.REPORTED}pods/",
)


class ServiceTable:
    """Keys and values of the store in, targets and policies of services out."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, JsonObject]] = {prefix: {} for prefix in PREFIXES}
        self._published, self._pods, self._explicit, self._statuses = self._values.values()
        self._turn: dict[str, int] = {}
        self._targets: dict[str, Sequence[Target]] = {}  # found since the last change
        self._policies: dict[str, Policy] = {}  # likewise

    def apply(self, key: str, value: bytes | JsonObject | None) -> bool:
        """A put (the value, or its JSON), or a delete (None). False: the key is none of ours."""
        for prefix, values in self._values.items():
            if key.startswith(prefix):
                self._targets.clear()
                self._policies.clear()
                rest = key[len(prefix) :]
                if value is None:
                    values.pop(rest, None)
                else:
                    values[rest] = _mapping(value)
                return True
        return False

    def names(self) -> list[str]:
        """The names of all services, whether a node serves them or not."""
        return sorted({key.rpartition("/")[2] for key in (*self._explicit, *self._published)})

    def has_pod(self, address: str) -> bool:
        """A pod of this node has the address, and is not over."""
        return any(
            address in (found := local_pods.state(pod, self._statuses.get(name, {}))).addresses and not found.finished
            for name, pod in self._pods.items()
        )

    def resolve(self, service: ServiceName) -> Target:
        """Where the next request for `service` goes: the ready pods take turns. Raises NotFound, Unavailable."""
        targets = self.targets(service)
        turn = self._turn.get(service, 0)
        self._turn[service] = turn + 1
        return targets[turn % len(targets)]

    def targets(self, service: ServiceName) -> Sequence[Target]:
        """All its targets. Raises as resolve."""
        if (targets := self._targets.get(service)) is None:
            targets = self._targets[service] = self._find(service)
        return targets

    def policy(self, service: ServiceName) -> Policy:
        """Who may use it. Raises NotFound; Unavailable when its policy is in a form that we do not understand, and access is denied."""
        if (policy := self._policies.get(service)) is None:
            key = f"{keys.CLUSTER_SCOPE}/{service}"
            value = self._explicit.get(key, self._published.get(key))
            if value is None:
                raise NotFound(f"this node has no web service {service}")
            try:
                policy = self._policies[service] = policy_of(value)
            except ValueError as exc:
                raise Unavailable(f"web service {service} is published with {exc}") from exc
        return policy

    def _find(self, service: ServiceName) -> Sequence[Target]:
        key = f"{keys.CLUSTER_SCOPE}/{service}"
        if (explicit := self._explicit.get(key)) is not None:
            return [_explicit_target(service, explicit)]
        if (published := self._published.get(key)) is None:
            self._turn.pop(service, None)
            raise NotFound(f"this node has no web service {service}")
        namespace, selector, port = (published.get(name) for name in ("namespace", "selector", "port"))
        if (
            not isinstance(namespace, str)
            or not isinstance(selector, Mapping)
            or not isinstance(port, int | str)
            or isinstance(port, bool)
        ):
            raise Unavailable(f"web service {service} is published in a form that this node does not understand")
        targets = []
        for name in sorted(self._pods):
            pod = self._pods[name]
            if name.startswith(f"{namespace}/") and _selected(pod, selector):
                address, number = _address(pod, self._statuses.get(name, {})), local_pods.port_number(pod, port)
                if address and number:
                    targets.append(Target(address, number))
        if not targets:
            raise Unavailable(f"web service {service} has no ready pod with port {port} on this node")
        return targets


def _mapping(value: bytes | JsonObject) -> JsonObject:
    if not isinstance(value, bytes):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _explicit_target(service: ServiceName, value: JsonObject) -> Target:
    target = value.get("target")
    try:
        if not isinstance(target, str):
            raise ValueError("is not text")
        return Target(*forms.endpoint(target))
    except (ValueError, Invalid) as exc:
        raise Unavailable(f"web service {service} is published with target {target!r:.80}, which {exc}") from exc


def _selected(pod: JsonObject, selector: Mapping[str, Any]) -> bool:
    metadata = _dict(pod, "metadata")
    labels = _dict(metadata, "labels")
    # an empty selector selects nothing, as with Services; a pod that is being deleted gets no new requests
    return (
        bool(selector)
        and not metadata.get("deletionTimestamp")
        and all(labels.get(name) == wanted for name, wanted in selector.items())
    )


def _address(pod: JsonObject, report: JsonObject) -> str:
    """The address of a pod that is ready; "" for any other."""
    found = local_pods.state(pod, report)
    return found.address if found.ready else ""


def _dict(value: JsonObject, name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}
