"""What a node knows of Services, from the keys of its store. Pure.

Feed every change of PREFIXES to `apply`. Endpoints on this node come from its own pods, as they are now, with or without the cloud; those
elsewhere come from EndpointSlices, as the cloud last saw them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kubeedge.api import keys, local_pods
from kubeedge.api.names import JsonObject
from kubeedge.kit import dataclasses
from kubeedge.kit.ip import IpAddress, IpNetwork, address_of
from kubeedge.mesh.model import Endpoint, Service, dicts, endpoints_of, is_label, is_usable, mapping, service_of
from kubeedge.mesh.network_policy import NetworkPolicy, PolicyPod, policy_of

#: what has to be watched
SERVICES, SLICES, PODS, STATUSES, NODES, POLICIES = PREFIXES = (
    f"{keys.DESIRED}services/",
    f"{keys.DESIRED}endpointslices/",
    f"{keys.DESIRED}pods/",
    f"{keys.REPORTED}pods/",
    f"{keys.DESIRED}nodes/",
    f"{keys.DESIRED}networkpolicies/",
)
MAX_SERVICES = 20_000
MAX_POLICIES = 1_000
ZONE = "topology.kubernetes.io/zone"


class MeshTable:
    """`node`: the name of this one; `reserved`: networks that no address of a Service may be in (the overlay, pods)."""

    def __init__(self, node: str, reserved: Iterable[IpNetwork] = ()) -> None:
        self.node = node
        self.zone = ""
        self.revision = 0  # another one after each change
        self.services: dict[str, Service] = {}
        self.refused: dict[str, str] = {}  # Services, or addresses of theirs, that are not used, and why
        self._reserved = tuple(reserved)
        self._slices: dict[str, tuple[str, list[Endpoint]]] = {}  # by "NS/SLICE": "NS/SERVICE", what is in it
        self._slices_of: dict[str, set[str]] = {}
        self._pods: dict[str, JsonObject] = {}
        self._statuses: dict[str, JsonObject] = {}
        self._owners: dict[IpAddress, str] = {}  # cluster IPs
        self.generation = 0  # of the Services: another one when any of them has changed
        self.policies: dict[str, NetworkPolicy] = {}
        self.refused_policies: dict[str, str] = {}  # that are not enforced as they are written, and why

    def apply(self, key: str, value: bytes | None) -> Collection[str]:
        """A put or a delete (None); "NAMESPACE/NAME" of the Services that may have other addresses or endpoints now."""
        self.revision += 1
        for prefix in PREFIXES:
            if key.startswith(prefix):
                namespace, _, name = key[len(prefix) :].partition("/")
                parsed = _parse(value)
                if prefix == SERVICES:
                    return self._service(namespace, name, parsed)
                if prefix == SLICES:
                    return self._slice(f"{namespace}/{name}", namespace, parsed)
                if prefix == POLICIES:
                    self._policy(namespace, name, parsed)
                    return ()
                if prefix == NODES:
                    return self._node(parsed) if name == self.node else ()
                return self._pod(prefix, namespace, f"{namespace}/{name}", parsed)
        return ()

    @property
    def namespaces(self) -> set[str]:
        """The namespaces that have a Service on this node."""
        return {service.namespace for service in self.services.values()}

    @property
    def cluster_ips(self) -> Collection[IpAddress]:
        """Of all Services, of both versions of IP."""
        return self._owners

    def service_at(self, address: IpAddress) -> Service | None:
        """The Service with that cluster IP; None when there is none."""
        return self.services.get(self._owners.get(address, ""))

    def endpoints(self, service: Service) -> list[Endpoint]:
        """All of them, ready or not; an address that is a Service's own is none."""
        found: dict[tuple[IpAddress, str], Endpoint] = {}
        local = self._local(service) if service.selector else []
        for name in sorted(self._slices_of.get(service.key, ())):
            for endpoint in self._slices[name][1]:
                if not (service.selector and endpoint.node == self.node):
                    found.setdefault((endpoint.address, name), endpoint)
        return [e for e in (*local, *found.values()) if e.address not in self._owners]

    def _service(self, namespace: str, name: str, value: JsonObject | None) -> Collection[str]:
        key = f"{namespace}/{name}"
        self.generation += 1
        before = self.services.pop(key, None)
        for address in before.addresses if before is not None else ():
            if self._owners.get(address) == key:
                del self._owners[address]
        self.refused.pop(key, None)
        service = service_of(namespace, name, value) if value is not None else None
        if service is None:
            return (key,)
        if len(self.services) >= MAX_SERVICES:
            self.refused[key] = f"this node takes {MAX_SERVICES} Services"
            return (key,)
        service = self._checked(service)
        self.services[key] = service
        for address in service.addresses:
            self._owners[address] = key
        return (key,)

    def _checked(self, service: Service) -> Service:
        """Without the addresses that would take traffic of something else."""
        bad: list[str] = []

        def good(addresses: Iterable[IpAddress]) -> Iterator[IpAddress]:
            for address in addresses:
                owner = self._owners.get(address, service.key)
                if any(address in network for network in self._reserved):
                    bad.append(f"{address} is in a network of nodes or pods")
                elif owner != service.key:
                    bad.append(f"{address} belongs to {owner}")
                else:
                    yield address

        addresses, external = tuple(good(service.addresses)), tuple(good(service.external))
        if not bad:
            return service
        self.refused[service.key] = "; ".join(bad)
        return dataclasses.replace(service, addresses=addresses, external=external)

    def _slice(self, key: str, namespace: str, value: JsonObject | None) -> Collection[str]:
        changed = set()
        if (before := self._slices.pop(key, None)) is not None:
            changed.add(before[0])
            self._slices_of[before[0]].discard(key)
            if not self._slices_of[before[0]]:
                del self._slices_of[before[0]]
        if value is not None:
            name, found = endpoints_of(value)
            if is_label(name):
                owner = f"{namespace}/{name}"
                self._slices[key] = owner, found
                self._slices_of.setdefault(owner, set()).add(key)
                changed.add(owner)
        return changed

    def _policy(self, namespace: str, name: str, value: JsonObject | None) -> None:
        key = f"{namespace}/{name}"
        self.policies.pop(key, None)
        self.refused_policies.pop(key, None)
        if value is None:
            return
        if len(self.policies) >= MAX_POLICIES:
            self.refused_policies[key] = f"this node takes {MAX_POLICIES} policies"
            return
        policy = self.policies[key] = policy_of(namespace, name, value)
        if policy.unreadable:
            self.refused_policies[key] = f"it isolates all pods of its namespace: {policy.unreadable}"

    def _node(self, value: JsonObject | None) -> Collection[str]:
        zone = str(mapping(mapping((value or {}).get("metadata")).get("labels")).get(ZONE) or "")
        if zone == self.zone:
            return ()
        self.zone = zone
        return list(self.services)

    def _pod(self, prefix: str, namespace: str, key: str, value: JsonObject | None) -> Collection[str]:
        values = self._pods if prefix == PODS else self._statuses
        before = values.pop(key, None)
        if value is not None:
            values[key] = _kept(prefix, value)
        if before == values.get(key):
            return ()
        pods = [pod for pod in (before if prefix == PODS else None, self._pods.get(key)) if pod is not None]
        return [
            service.key
            for service in self.services.values()
            if service.namespace == namespace
            and service.selector
            and any(service.selector.items() <= _labels(pod).items() for pod in pods)
        ]

    def expect(self, key: str, uid: str, addresses: Sequence[str]) -> bool:
        """A pod of this node, NAMESPACE/NAME, is about to begin with addresses that are reported later, the first one of IPv4. False: it is not known here yet."""
        if (pod := self._pods.get(key)) is None or pod["metadata"]["uid"] != uid:
            return False
        if local_pods.state(pod, self._statuses.get(key, {})).addresses != tuple(addresses):
            status = {"podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]}
            self._statuses[key] = {"uid": uid, "status": {"phase": "Pending", **status, "conditions": []}}
            self.revision += 1
        return True

    def pods(self) -> Iterator[PolicyPod]:
        """The pods of this node that have a network of their own, once for each of their addresses."""
        for key in sorted(self._pods):
            pod, state = self._pods[key], self._state(key)
            if not state.finished and not pod["spec"].get("hostNetwork"):
                for address in _usable(state):
                    yield PolicyPod(key.partition("/")[0], _labels(pod), address, pod)

    def addresses(self) -> Iterator[IpAddress]:
        """Of all pods that run here, static ones included: theirs are known by what is reported alone."""
        for key, status in self._statuses.items():
            state = local_pods.state(self._pods.get(key, {"metadata": {"uid": status["uid"]}}), status)
            if not state.finished:
                yield from _usable(state)

    def _state(self, key: str) -> local_pods.State:
        return local_pods.state(self._pods[key], self._statuses.get(key, {}))

    def _local(self, service: Service) -> list[Endpoint]:
        found = []
        for key in sorted(self._pods):
            pod = self._pods[key]
            if not key.startswith(f"{service.namespace}/") or not service.selector.items() <= _labels(pod).items():
                continue
            state = self._state(key)
            if state.finished or not state.addresses:
                continue
            ports = {
                port.name: (port.protocol, number)
                for port in service.ports
                if (number := local_pods.port_number(pod, port.target, port.protocol))
            }
            found += [
                self._endpoint(service, pod, address, ports, state)
                for address in _usable(state)
                if is_usable(address) and (not service.versions or address.version in service.versions)
            ]
        return found

    def _endpoint(
        self,
        service: Service,
        pod: JsonObject,
        address: IpAddress,
        ports: Mapping[str, tuple[str, int]],
        state: local_pods.State,
    ) -> Endpoint:
        spec = pod["spec"]
        named = spec.get("subdomain") == service.name and is_label(spec.get("hostname"))
        return Endpoint(
            address=address,
            ports=ports,
            ready=(state.ready and not state.ends) or service.not_ready_too,
            serving=state.ready or service.not_ready_too,
            terminating=state.ends,
            node=self.node,
            hostname=spec["hostname"] if named else "",
            zones=(self.zone,) if self.zone else (),
        )


def _kept(prefix: str, value: JsonObject) -> JsonObject:
    """The fields of a pod that are needed: a node's memory is small."""
    if prefix == STATUSES:
        status = mapping(value.get("status"))
        kept: JsonObject = {key: status[key] for key in ("phase", "podIP") if isinstance(status.get(key), str)}
        if len(ips := dicts(status.get("podIPs"))) > 1:
            kept = {**kept, "podIPs": [{"ip": entry.get("ip")} for entry in ips[: local_pods.MAX_ADDRESSES]]}
        ready = [
            {"type": "Ready", "status": c.get("status")}
            for c in dicts(status.get("conditions"))
            if c.get("type") == "Ready"
        ]
        return {"uid": value.get("uid"), "status": {**kept, "conditions": ready}}
    inner, spec = mapping(value.get("metadata")), mapping(value.get("spec"))
    labels = {key: text for key, text in mapping(inner.get("labels")).items() if isinstance(text, str)}
    containers = {
        kind: [
            {"ports": c["ports"], "restartPolicy": c.get("restartPolicy")}
            for c in dicts(spec.get(kind))
            if c.get("ports")
        ]
        for kind in ("containers", "initContainers")
    }
    names: JsonObject = {key: spec[key] for key in ("hostname", "subdomain") if isinstance(spec.get(key), str)}
    if spec.get("hostNetwork") is True:
        names = {**names, "hostNetwork": True}
    metadata = {"uid": inner.get("uid"), "labels": labels, "deletionTimestamp": inner.get("deletionTimestamp")}
    return {"metadata": metadata, "spec": {**containers, **names}}


def _usable(state: local_pods.State) -> Iterator[IpAddress]:
    for text in state.addresses:
        with contextlib.suppress(ValueError):
            yield address_of(text)


def _labels(pod: JsonObject) -> Mapping[str, str]:
    labels: Mapping[str, str] = pod["metadata"]["labels"]
    return labels


def _parse(value: bytes | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def choose(
    service: Service,
    endpoints: Sequence[Endpoint],
    port: str,
    *,
    node: str,
    zone: str,
    local: bool,
    alone: bool = False,
) -> list[tuple[IpAddress, int]]:
    """Where new connections to one port go: ready endpoints, else those that still serve while they end.

    `local`: the traffic policy is Local. Otherwise the same node or zone comes first as trafficDistribution and hints say. `alone`: there is no
    link to other nodes, so what is on this one comes first.
    """
    having = [e for e in endpoints if port in e.ports]
    if local:
        having = [e for e in having if e.node == node]
    usable = [e for e in having if e.ready] or [e for e in having if e.serving and e.terminating]
    here = [e for e in usable if e.node == node]
    if here and (alone or service.distribution == "PreferSameNode"):
        usable = here
    elif zone and usable and all(e.zones for e in usable):
        usable = [e for e in usable if zone in e.zones] or usable
    return list(dict.fromkeys((e.address, e.ports[port][1]) for e in usable))
