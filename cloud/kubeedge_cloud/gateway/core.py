"""What the Gateways, HTTPRoutes and Ingresses of a tenant say together: its table of routes, and the status of each object. Pure.

`compile_routes` is given everything and gives everything: whatever changed, the result is that of the objects as they are now.

A tenant has so many matches and host names. A route beyond that is not accepted, and says so; the older ones stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kubeedge.api import gateway, meta
from kubeedge.api.names import NamespacedName, Object, TenantId
from kubeedge_cloud.gateway import conditions, httproutes, ingresses
from kubeedge_cloud.gateway.httproutes import ParsedRoute
from kubeedge_cloud.gateway.listeners import ListenerState, of_gateway
from kubeedge_cloud.gateway.model import EVERY_HOST, CertificateRef, CompiledRoutes, RouteEntry, WebPorts
from kubeedge_cloud.gateway.references import GatewayObjects, age, oldest
from kubeedge_cloud.gateway.table import intersection

MAX_MATCHES = 1024  # entries of one tenant
MAX_HOSTNAMES = 256
MAX_GATEWAYS = 64
MAX_WORK = 100_000  # steps of one compilation: matches, backends, and listeners x host names of each parent

_FAULTS = 8  # of an Ingress, of each kind, that are told
_TOO_MANY = ("TooManyRoutes", f"the tenant has more than {MAX_MATCHES} matches, or routes that are as much work")


@dataclass(slots=True)
class Compilation:
    """`statuses`: of each resource's objects by namespace and name, what their status has to be. `faults`: of Ingresses, which have no conditions."""

    routes: CompiledRoutes
    statuses: dict[str, dict[NamespacedName, Object]] = field(default_factory=dict)
    faults: dict[NamespacedName, list[str]] = field(default_factory=dict)


def compile_routes(
    tenant: TenantId,
    objects: GatewayObjects,
    ports: WebPorts,
    *,
    taken: Mapping[str, str],
    addresses: Iterable[str] = (),
    now: float = 0.0,
) -> Compilation:
    """`taken`: host names that this tenant may not have, and why. `addresses`: where the cloud is; `now` in seconds since 1970."""
    return _Compiler(tenant, objects, ports, taken, tuple(addresses), now).run()


class _Compiler:
    def __init__(
        self,
        tenant: TenantId,
        objects: GatewayObjects,
        ports: WebPorts,
        taken: Mapping[str, str],
        addresses: tuple[str, ...],
        now: float,
    ) -> None:
        self._tenant, self._objects, self._ports, self._taken = tenant, objects, ports, taken
        self._addresses, self._now = addresses, now
        self._entries: dict[tuple[object, ...], RouteEntry] = {}
        self._certificates: dict[CertificateRef, None] = {}
        self._hostnames: set[str] = set()
        self._listeners: dict[NamespacedName, list[ListenerState]] = {}
        self._statuses: dict[str, dict[NamespacedName, Object]] = {
            r.plural: {} for r in (gateway.GATEWAYCLASSES, gateway.GATEWAYS, gateway.HTTPROUTES, gateway.INGRESSES)
        }
        self._faults: dict[NamespacedName, list[str]] = {}
        self._work = MAX_WORK  # that is left

    def run(self) -> Compilation:
        objects = self._objects
        classes = [c for c in objects.classes if (c.get("spec") or {}).get("controllerName") == conditions.CONTROLLER]
        names = {meta.name_of(c) for c in classes}
        for found in classes:
            self._set(gateway.GATEWAYCLASSES.plural, found, conditions.class_status(found, self._now))
        ours = oldest(g for g in objects.gateways if (g.get("spec") or {}).get("gatewayClassName") in names)
        for found in ours[MAX_GATEWAYS:]:
            self._set(gateway.GATEWAYS.plural, found, conditions.gateway_refused(found, MAX_GATEWAYS, self._now))
        for found in ours[:MAX_GATEWAYS]:
            self._listeners[_key(found)] = of_gateway(found, objects, self._ports)
        for route in oldest(objects.routes):
            self._route(route)
        for found in ours[:MAX_GATEWAYS]:
            listeners = self._listeners[_key(found)]
            status = conditions.gateway_status(found, listeners, self._addresses, self._now)
            self._set(gateway.GATEWAYS.plural, found, status)
        for ingress in oldest(objects.ingresses):
            if ingresses.is_ours(ingress, objects.ingressclasses):
                self._ingress(ingress)
        routes = CompiledRoutes(
            self._tenant, tuple(self._entries.values()), tuple(self._certificates), frozenset(self._hostnames)
        )
        return Compilation(routes, self._statuses, self._faults)

    def _set(self, plural: str, obj: Object, status: Object) -> None:
        self._statuses[plural][_key(obj)] = status

    # -- HTTPRoutes ----------------------------------------------------------------------------------------------------

    def _route(self, route: Object) -> None:
        ours: list[tuple[Object, list[ListenerState]]] = []
        for ref in (route.get("spec") or {}).get("parentRefs") or ():
            if (ref.get("group") or gateway.GROUP, ref.get("kind") or "Gateway") != (gateway.GROUP, "Gateway"):
                continue
            listeners = self._listeners.get(
                (str(ref.get("namespace") or meta.namespace_of(route)), str(ref.get("name")))
            )
            if listeners is not None:
                ours.append((ref, listeners))
        if not ours and not (route.get("status") or {}).get("parents"):
            return
        hostnames = len((route.get("spec") or {}).get("hostnames") or ()) + 1
        if self._affords(httproutes.size(route) + sum(len(listeners) * hostnames for _, listeners in ours)):
            found = httproutes.parsed(route, self._objects)
            parents = [(ref, self._parent(route, ref, found, listeners)) for ref, listeners in ours]
        else:
            parents = [(ref, [conditions.condition("Accepted", _TOO_MANY)]) for ref, _ in ours]
        self._set(gateway.HTTPROUTES.plural, route, conditions.route_status(route, parents, self._now))

    def _affords(self, work: int) -> bool:
        """What is too much work costs nothing, so that smaller routes that come later are not lost by it."""
        if work > self._work:
            return False
        self._work -= work
        return True

    def _parent(self, route: Object, ref: Object, found: ParsedRoute, listeners: list[ListenerState]) -> list[Object]:
        fault = found.faults[0] if found.faults else None
        resolved = conditions.condition("ResolvedRefs", (fault.reason, fault.message) if fault else None)
        section, port = ref.get("sectionName"), ref.get("port")
        named = [s for s in listeners if section in (None, "", s.name) and port in (None, s.listener.get("port"))]
        allowed = [s for s in named if s.allows(route, self._objects.namespaces)]
        meeting = [(s, hosts) for s in allowed if (hosts := _hosts(s, route))]
        refused: tuple[str, str] | None = None
        if not named:
            refused = ("NoMatchingParent", "the Gateway has no such listener")
        elif not allowed:
            refused = ("NotAllowedByListeners", "no listener takes routes of this kind and namespace")
        elif not meeting:
            refused = ("NoMatchingListenerHostname", "no listener has a host name in common with the route")
        elif found.unsupported:
            refused = ("UnsupportedValue", f"{found.unsupported} is not supported")
        if refused is None:
            for state, _ in meeting:
                state.attached += 1
            refused, lost = self._enter(route, found, meeting)
            if lost and refused is None:
                partly = {
                    "type": "PartiallyInvalid",
                    "status": "True",
                    "reason": "HostnameTaken",
                    "message": lost[:1024],
                }
                return [conditions.condition("Accepted", None), resolved, partly]
        return [conditions.condition("Accepted", refused), resolved]

    def _enter(
        self, route: Object, found: ParsedRoute, meeting: list[tuple[ListenerState, list[str]]]
    ) -> tuple[tuple[str, str] | None, str]:
        """Why the route is refused, and which of its host names it has not got."""
        created, name = age(route)
        lost: dict[str, str] = {}
        have: list[tuple[ListenerState, str]] = []
        for state, hosts in meeting:
            for host in hosts:
                if why := self._refusal(host):
                    lost[host] = why
                elif state.works:
                    have.append((state, host))
        if lost and not have:
            return ("HostnameTaken", "; ".join(lost.values())[:1024]), ""
        if not self._fits(_entries(found, {(state.scheme, host): None for state, host in have}, created, name)):
            return _TOO_MANY, ""
        for state, host in have:
            self._certificates.update(dict.fromkeys(state.certificates_for(host)))
        return None, "; ".join(lost.values())

    def _refusal(self, host: str) -> str:
        """Why this tenant may not have the host; "": it may. What it may not have today it still wants."""
        if host not in self._hostnames:
            if len(self._hostnames) >= MAX_HOSTNAMES:
                return f"{host}: the tenant has {MAX_HOSTNAMES} host names already"
            self._hostnames.add(host)
        return self._taken.get(host, "")

    def _fits(self, entries: Iterable[RouteEntry]) -> bool:
        """Takes all of them, or none. Looks at no more than there is room for."""
        new: dict[tuple[object, ...], RouteEntry] = {}
        for entry in entries:
            key = (entry.scheme, entry.hostname, entry.rule.name, *entry.origin[1:])
            if key not in self._entries:
                new[key] = entry
                if len(self._entries) + len(new) > MAX_MATCHES:
                    return False
        self._entries.update(new)
        return True

    # -- Ingresses -----------------------------------------------------------------------------------------------------

    def _ingress(self, ingress: Object) -> None:
        if not self._affords(ingresses.size(ingress)):
            self._faults[_key(ingress)] = [_TOO_MANY[1]]
            self._set(gateway.INGRESSES.plural, ingress, conditions.ingress_status(()))
            return
        schemes = [name for name, served in (("http", self._ports.http), ("https", self._ports.https)) if served]
        found = ingresses.parsed(ingress, self._objects, schemes)
        faults = list(dict.fromkeys(found.faults))[:_FAULTS]
        if found.certificates and not self._ports.https:
            faults.append("tls: the web listener of this cloud does not speak HTTPS")
        refused = {host: why for host in {e.hostname: None for e in found.entries} if (why := self._refusal(host))}
        faults += list(refused.values())[:_FAULTS]
        entries = [e for e in found.entries if e.hostname not in refused]
        if not self._fits(entries):
            faults.append(_TOO_MANY[1])
            entries = []
        hosts = {e.hostname for e in entries}
        self._certificates.update(dict.fromkeys(c for c in found.certificates if c.hostname in hosts))
        if faults:
            self._faults[_key(ingress)] = faults
        self._set(gateway.INGRESSES.plural, ingress, conditions.ingress_status(self._addresses if entries else ()))


def _entries(found: ParsedRoute, hosts: Iterable[tuple[str, str]], created: str, name: str) -> Iterator[RouteEntry]:
    for scheme, host in hosts:
        for n, (rule, matches) in enumerate(found.rules):
            for m, match in enumerate(matches):
                yield RouteEntry(host, scheme, match, rule, (created, name, n, m))


def _hosts(state: ListenerState, route: Object) -> list[str]:
    wanted = (route.get("spec") or {}).get("hostnames") or [EVERY_HOST]
    found = (intersection(state.hostname, str(name)) for name in wanted)
    return list(dict.fromkeys(host for host in found if host is not None))


def _key(obj: Object) -> NamespacedName:
    return meta.namespace_of(obj), meta.name_of(obj)
