"""What the Gateways, HTTPRoutes and Ingresses of a tenant say together: its table of routes, and the status of each object. Pure.

`compile_routes` is given everything and gives everything: whatever changed, the result is that of the objects as they are now.

A tenant has so many matches and host names. A route beyond that is not accepted, and says so; the older ones stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kubeedge.api import gateway, meta
from kubeedge.api.client import Resource
from kubeedge.api.names import NamespacedName, Object, TenantId
from kubeedge.gateway.model import (
    EVERY_HOST,
    WEB,
    CertificateRef,
    CompiledRoutes,
    ListenPoint,
    RouteEntry,
    StreamEntry,
    tcp_claim,
)
from kubeedge.gateway.table import intersection
from kubeedge_cloud.gateway import conditions, httproutes, ingresses
from kubeedge_cloud.gateway.addresses import AddressAssignment, assign
from kubeedge_cloud.gateway.features import supported
from kubeedge_cloud.gateway.httproutes import ParsedRoute
from kubeedge_cloud.gateway.listeners import ListenerState, of_gateway
from kubeedge_cloud.gateway.ports import GatewayPorts
from kubeedge_cloud.gateway.references import GatewayObjects, ReferenceFault, age, oldest

MAX_MATCHES = 1024  # entries of one tenant
MAX_HOSTNAMES = 256
MAX_GATEWAYS = 64
MAX_POINTS = 32  # ports of one tenant, besides those of the web listener
MAX_WORK = 100_000  # steps of one compilation: matches, backends, and listeners x host names of each parent

#: whose objects have a status
WITH_STATUS = (
    gateway.GATEWAYCLASSES,
    gateway.GATEWAYS,
    gateway.HTTPROUTES,
    gateway.TLSROUTES,
    gateway.TCPROUTES,
    gateway.INGRESSES,
)

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
    ports: GatewayPorts,
    *,
    taken: Mapping[str, str],
    occupied: Collection[str] = (),
    failed: Mapping[ListenPoint, str] | None = None,
    addresses: Iterable[str] = (),
    now: float = 0.0,
    controller: str = conditions.CONTROLLER,
    nowhere: str = "",
) -> Compilation:
    """`taken`: host names that this tenant may not have, and why; `occupied`: addresses of `ports` that others have; `failed`: points that this
    process could not open, and why. `addresses`: where the cloud is; `now` in seconds since 1970. With another `controller`
    than the cloud's all Ingresses are ours. `nowhere`: why none of it is served."""
    occupied = frozenset((*occupied, *taken))
    world = _World(ports, taken, occupied, failed or {}, tuple(addresses), now, controller, nowhere)
    return _Compiler(tenant, objects, world).run()


@dataclass(frozen=True, slots=True)
class _World:
    """What is not the tenant's own; see compile_routes."""

    ports: GatewayPorts
    taken: Mapping[str, str]
    occupied: frozenset[str]
    failed: Mapping[ListenPoint, str]
    addresses: tuple[str, ...]
    now: float
    controller: str
    nowhere: str


class _Compiler:
    def __init__(self, tenant: TenantId, objects: GatewayObjects, world: _World) -> None:
        self._tenant, self._objects, self._world = tenant, objects, world
        self._now = world.now
        self._entries: dict[tuple[object, ...], RouteEntry] = {}
        self._streams: dict[tuple[ListenPoint, str], StreamEntry] = {}
        self._points: dict[ListenPoint, str] = {}
        self._certificates: dict[CertificateRef, None] = {}
        self._hostnames: set[str] = set()
        self._listeners: dict[NamespacedName, list[ListenerState]] = {}
        self._statuses: dict[str, dict[NamespacedName, Object]] = {r.plural: {} for r in WITH_STATUS}
        self._faults: dict[NamespacedName, list[str]] = {}
        self._work = MAX_WORK  # that is left

    def run(self) -> Compilation:
        objects = self._objects
        classes = [c for c in objects.classes if conditions.is_ours(c, self._world.controller)]
        names = {meta.name_of(c) for c in classes}
        features = supported(self._world.ports)
        for found in classes:
            self._set(gateway.GATEWAYCLASSES.plural, found, conditions.class_status(found, features, self._now))
        ours = oldest(g for g in objects.gateways if (g.get("spec") or {}).get("gatewayClassName") in names)
        for found in ours[MAX_GATEWAYS:]:
            self._set(gateway.GATEWAYS.plural, found, conditions.gateway_refused(found, MAX_GATEWAYS, self._now))
        assigned = self._listen(ours[:MAX_GATEWAYS])
        for kind, routes in (
            (gateway.HTTPROUTES, objects.routes),
            (gateway.TLSROUTES, objects.tlsroutes),
            (gateway.TCPROUTES, objects.tcproutes),
        ):
            for route in oldest(routes):
                self._route(kind, route)
        for found in ours[:MAX_GATEWAYS]:
            own = assigned[_key(found)]
            status = conditions.gateway_status(
                found,
                self._listeners[_key(found)],
                (own.address,) if own.address else self._world.addresses,
                self._now,
                unsupported=own.unsupported,
                unusable=own.unusable or self._world.nowhere,
            )
            self._set(gateway.GATEWAYS.plural, found, status)
        for ingress in oldest(objects.ingresses):
            if self._world.controller != conditions.CONTROLLER or ingresses.is_ours(
                ingress, objects.ingressclasses, unclassed=objects.unclassed
            ):
                self._ingress(ingress)
        return Compilation(self._result(), self._statuses, self._faults)

    def _result(self) -> CompiledRoutes:
        listeners: dict[tuple[ListenPoint, str], str] = {}
        for states in self._listeners.values():
            for state in states:
                if state.works:
                    listeners.setdefault((state.point, state.hostname), state.scheme)
        return CompiledRoutes(
            self._tenant,
            tuple(self._entries.values()),
            tuple(self._certificates),
            frozenset(self._hostnames),
            self._points,
            tuple(self._streams.values()),
            listeners,
        )

    def _listen(self, gateways: Sequence[Object]) -> Mapping[NamespacedName, AddressAssignment]:
        """Finds where each Gateway is, and what it opens there."""
        world = self._world
        assigned = assign(gateways, world.ports.addresses, world.ports.per_tenant, world.occupied)
        self._hostnames.update(a.address for a in assigned.values() if a.address)
        for found in gateways:
            own = assigned[_key(found)]
            nowhere = own.unsupported or own.unusable or world.nowhere
            states = of_gateway(found, self._objects, world.ports, own.address or ("-" if nowhere else ""))
            for state in states:
                self._open(state, nowhere)
            self._listeners[_key(found)] = states
        return assigned

    def _open(self, state: ListenerState, nowhere: str) -> None:
        if nowhere:
            state.failed = ReferenceFault("Invalid", nowhere)
        elif not state.works or state.point == WEB:
            return
        elif state.point not in self._points and len(self._points) >= MAX_POINTS:
            state.failed = ReferenceFault("PortUnavailable", f"the tenant has {MAX_POINTS} ports already")
        elif self._points.setdefault(state.point, state.family) != state.family:
            state.failed = ReferenceFault("PortUnavailable", f"port {state.point.port} is in use for another protocol")
        elif why := self._world.failed.get(state.point):
            state.failed = ReferenceFault("PortUnavailable", why)
        elif state.family == "TCP" and not state.point.address and (why := self._refusal(tcp_claim(state.point.port))):
            state.failed = ReferenceFault("PortUnavailable", why)
        elif state.point.address and state.family == "TLS":
            self._certificates.update(dict.fromkeys(state.certificates_for(state.hostname)))

    def _set(self, plural: str, obj: Object, status: Object) -> None:
        self._statuses[plural][_key(obj)] = status

    # -- routes --------------------------------------------------------------------------------------------------------

    def _route(self, resource: Resource, route: Object) -> None:
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
            found = httproutes.parsed(route, self._objects, resource.kind)
            parents = [(ref, self._parent(resource, route, ref, found, listeners)) for ref, listeners in ours]
        else:
            parents = [(ref, [conditions.condition("Accepted", _TOO_MANY)]) for ref, _ in ours]
        self._set(resource.plural, route, conditions.route_status(route, parents, self._now, self._world.controller))

    def _affords(self, work: int) -> bool:
        """What is too much work costs nothing, so that smaller routes that come later are not lost by it."""
        if work > self._work:
            return False
        self._work -= work
        return True

    def _parent(
        self, resource: Resource, route: Object, ref: Object, found: ParsedRoute, listeners: list[ListenerState]
    ) -> list[Object]:
        fault = found.faults[0] if found.faults else None
        resolved = conditions.condition("ResolvedRefs", (fault.reason, fault.message) if fault else None)
        section, port = ref.get("sectionName"), ref.get("port")
        named = [s for s in listeners if section in (None, "", s.name) and port in (None, s.listener.get("port"))]
        allowed = [s for s in named if s.allows(route, resource.kind, self._objects.namespaces)]
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
            enter = self._enter if resource == gateway.HTTPROUTES else self._enter_streams
            refused, lost = enter(route, found, meeting)
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
                if not state.point.address and (why := self._refusal(host)):
                    lost[host] = why
                elif state.works:
                    have.append((state, host))
        if lost and not have:
            return ("HostnameTaken", "; ".join(lost.values())[:1024]), ""
        where = {(state.point, state.apart, state.scheme, host): None for state, host in have}
        if not self._fits(_entries(found, where, created, name)):
            return _TOO_MANY, ""
        for state, host in have:
            self._certificates.update(dict.fromkeys(state.certificates_for(host)))
        return None, "; ".join(lost.values())

    def _enter_streams(
        self, route: Object, found: ParsedRoute, meeting: list[tuple[ListenerState, list[str]]]
    ) -> tuple[tuple[str, str] | None, str]:
        """The same for connections that are not HTTP: of two routes for one name, or one port, the older one has it."""
        created, name = age(route)
        lost: dict[str, str] = {}
        for state, hosts in meeting:
            for host in hosts if state.scheme == "tls" else ("",):
                if host and not state.point.address and (why := self._refusal(host)):
                    lost[host] = why
                elif state.works and found.rules:
                    if len(self._streams) + len(self._entries) >= MAX_MATCHES:
                        return _TOO_MANY, ""
                    rule, _ = found.rules[0]
                    entry = StreamEntry(state.point, host, rule, bool(host) and not state.passes, (created, name, 0, 0))
                    self._streams.setdefault((state.point, host), entry)
                    if entry.terminate:
                        self._certificates.update(dict.fromkeys(state.certificates_for(host)))
        if lost and len(lost) == len({host for _, hosts in meeting for host in hosts}):
            return ("HostnameTaken", "; ".join(lost.values())[:1024]), ""
        return None, "; ".join(lost.values())

    def _refusal(self, host: str) -> str:
        """Why this tenant may not have the host; "": it may. What it may not have today it still wants."""
        if host not in self._hostnames:
            if len(self._hostnames) >= MAX_HOSTNAMES:
                return f"{host}: the tenant has {MAX_HOSTNAMES} host names already"
            self._hostnames.add(host)
        return self._world.taken.get(host, "")

    def _fits(self, entries: Iterable[RouteEntry]) -> bool:
        """Takes all of them, or none. Looks at no more than there is room for."""
        new: dict[tuple[object, ...], RouteEntry] = {}
        for entry in entries:
            key = (entry.at, entry.listener, entry.scheme, entry.hostname, entry.rule.name, *entry.origin[1:])
            if key not in self._entries:
                new[key] = entry
                if len(self._entries) + len(self._streams) + len(new) > MAX_MATCHES:
                    return False
        self._entries.update(new)
        return True

    # -- Ingresses -----------------------------------------------------------------------------------------------------

    def _ingress(self, ingress: Object) -> None:
        if not self._affords(ingresses.size(ingress)):
            self._faults[_key(ingress)] = [_TOO_MANY[1]]
            self._set(gateway.INGRESSES.plural, ingress, conditions.ingress_status(()))
            return
        found = ingresses.parsed(ingress, self._objects, self._world.ports)
        faults = list(dict.fromkeys(found.faults))[:_FAULTS]
        if (ingress.get("spec") or {}).get("tls") and not self._world.ports.of_ingress("https"):
            faults.append("tls: the web listener of this cloud does not speak HTTPS")
        refused = {host: why for host in {e.hostname: None for e in found.entries} if (why := self._refusal(host))}
        faults += list(refused.values())[:_FAULTS]
        entries = [e for e in found.entries if e.hostname not in refused]
        places = {e.at: None for e in entries}
        closed = {at: wrong for at in places if (wrong := self._closed(at, found)) is not None}
        faults += list(dict.fromkeys(filter(None, closed.values())))[:_FAULTS]
        entries = [e for e in entries if e.at not in closed]
        if not self._fits(entries):
            faults.append(_TOO_MANY[1])
            entries = []
        hosts = {e.hostname for e in entries}
        self._certificates.update(dict.fromkeys(c for c in found.certificates if c.hostname in hosts))
        if faults:
            self._faults[_key(ingress)] = faults
        self._set(
            gateway.INGRESSES.plural, ingress, conditions.ingress_status(self._world.addresses if entries else ())
        )

    def _closed(self, at: ListenPoint, found: ingresses.ParsedIngress) -> str | None:
        """None: an Ingress is served there, at the web listener or at a port that is opened for it as for a Gateway. Else why not; "" for TLS that
        neither it nor a Gateway asks for."""
        if at == WEB:
            return None
        family, spoken = "TLS" if at.port == 443 else "HTTP", self._points.get(at)
        if self._world.nowhere:
            return self._world.nowhere
        if spoken is None:
            if family == "TLS" and not found.certificates:
                return ""
            if len(self._points) >= MAX_POINTS:
                return f"the tenant has {MAX_POINTS} ports already"
            self._points[at] = family
        elif spoken != family:
            return f"port {at.port} is in use for another protocol"
        return self._world.failed.get(at)


def _entries(
    found: ParsedRoute, where: Iterable[tuple[ListenPoint, str, str, str]], created: str, name: str
) -> Iterator[RouteEntry]:
    for at, listener, scheme, host in where:
        for n, (rule, matches) in enumerate(found.rules):
            for m, match in enumerate(matches):
                yield RouteEntry(host, scheme, match, rule, (created, name, n, m), at=at, listener=listener)


def _hosts(state: ListenerState, route: Object) -> list[str]:
    wanted = (route.get("spec") or {}).get("hostnames") or [EVERY_HOST]
    found = (intersection(state.hostname, str(name)) for name in wanted)
    return list(dict.fromkeys(host for host in found if host is not None))


def _key(obj: Object) -> NamespacedName:
    return meta.namespace_of(obj), meta.name_of(obj)
