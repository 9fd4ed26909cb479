"""The listeners of Gateways: which of them work, which routes they take. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubeedge.api import gateway, meta, selectors
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge.gateway.model import EVERY_HOST, WEB, CertificateRef, ListenPoint
from kubeedge_cloud.gateway.ports import GatewayPorts
from kubeedge_cloud.gateway.references import GatewayObjects, ReferenceFault, granted

_SCHEMES = {"HTTP": "http", "HTTPS": "https", "TLS": "tls", "TCP": "tcp"}
#: what is spoken at a port: listeners of one family can share it, by their host names
_FAMILIES = {"HTTP": "HTTP", "HTTPS": "TLS", "TLS": "TLS", "TCP": "TCP"}
_KINDS = {"http": "HTTPRoute", "https": "HTTPRoute", "tls": "TLSRoute", "tcp": "TCPRoute"}


@dataclass(slots=True)
class ListenerState:
    """One listener of a Gateway of ours. `refused`: why it is not accepted; `conflict`: with another of the Gateway; `reference`: one
    that leads nowhere; `failed`: its port cannot be opened. `attached` counts routes. `passes`: TLS does not end here."""

    gateway: Object
    listener: Object
    scheme: str = ""
    refused: ReferenceFault | None = None
    conflict: str = ""
    reference: ReferenceFault | None = None
    failed: ReferenceFault | None = None
    kinds: Sequence[Object] = ()
    point: ListenPoint = WEB
    passes: bool = False
    certificates: list[tuple[str, str]] = field(default_factory=list)  # (namespace, Secret)
    attached: int = 0

    @property
    def name(self) -> str:
        """As sectionName of a route has it."""
        return str(self.listener.get("name") or "")

    @property
    def hostname(self) -> str:
        """ "*": it takes every host."""
        return str(self.listener.get("hostname") or EVERY_HOST)

    @property
    def family(self) -> str:
        """HTTP, TLS or TCP; "" for what is not served."""
        return _FAMILIES.get(str(self.listener.get("protocol")), "")

    @property
    def works(self) -> bool:
        """Requests are answered by it."""
        unresolved = self.reference is not None and (not self.kinds or (self.family == "TLS" and not self.passes))
        return not (self.refused or self.conflict or self.failed or unresolved)

    @property
    def apart(self) -> str:
        """Its host name where it has its address to itself: what it stands for is no other listener's then."""
        return self.hostname if self.point.address else EVERY_HOST

    def allows(self, route: Object, kind: str, namespaces: Mapping[str, Object]) -> bool:
        """Whether the listener takes routes of that kind and namespace."""
        if not any(found.get("kind") == kind for found in self.kinds):
            return False
        wanted = (self.listener.get("allowedRoutes") or {}).get("namespaces") or {}
        own, of_route = meta.namespace_of(self.gateway), meta.namespace_of(route)
        match wanted.get("from") or "Same":
            case "All":
                return True
            case "Same":
                return own == of_route
            case "Selector":
                found = namespaces.get(of_route)
                selector = wanted.get("selector")
                return found is not None and selector is not None and _selected(selector, found)
            case _:
                return False

    def certificates_for(self, hostname: str) -> list[CertificateRef]:
        """Those that it shows for a host."""
        return [CertificateRef(hostname, *found, self.point) for found in self.certificates]


def _selected(selector: Object, namespace: Object) -> bool:
    try:
        return selectors.of_selector(selector).matches(meta.labels_of(namespace))
    except Invalid:
        return False


def of_gateway(found: Object, objects: GatewayObjects, ports: GatewayPorts, address: str = "") -> list[ListenerState]:
    """All listeners of a Gateway, in its order. `address`: its own, if it has one."""
    listeners = (found.get("spec") or {}).get("listeners") or ()
    states = [_state(found, listener, objects, ports, address) for listener in listeners]
    served = [s for s in states if s.scheme]
    same = Counter((s.listener.get("port"), s.family, "" if s.family == "TCP" else s.hostname) for s in served)
    families: dict[object, set[str]] = {}
    for state in served:
        families.setdefault(state.listener.get("port"), set()).add(state.family)
    for state in served:
        port, hostname = state.listener.get("port"), "" if state.family == "TCP" else state.hostname
        if len(families[port]) > 1:
            state.conflict = "ProtocolConflict"
        elif same[port, state.family, hostname] > 1:
            protocols = {s.scheme for s in served if (s.listener.get("port"), s.hostname) == (port, hostname)}
            state.conflict = "ProtocolConflict" if len(protocols) > 1 or state.family == "TCP" else "HostnameConflict"
    return states


def _state(
    found: Object, listener: Object, objects: GatewayObjects, ports: GatewayPorts, address: str
) -> ListenerState:
    state = ListenerState(found, listener)
    protocol, port = str(listener.get("protocol")), listener.get("port") or 0
    state.scheme = _SCHEMES.get(protocol, "")
    if not state.scheme:
        state.refused = ReferenceFault("UnsupportedProtocol", f"{protocol}: HTTP, HTTPS, TLS and TCP are served")
        return state
    point = ports.point(port, state.family, address)
    if point is None or (point == WEB and state.scheme == "tls"):
        text = ", ".join(map(str, ports.of_family(state.family)))
        state.refused = ReferenceFault(
            "PortUnavailable",
            (
                f"{protocol} is served at port {text}"
                if text and point is None
                else f"{protocol} is not served at port {port}"
            )
            + "; publishing.gatewayPorts of the cloud's configuration adds others",
        )
    state.point = point or WEB
    _kinds(state)
    if state.family == "TLS":
        _certificates(state, objects)
    return state


def _kinds(state: ListenerState) -> None:
    kind = _KINDS[state.scheme]
    state.kinds = ({"group": gateway.GROUP, "kind": kind},)
    wanted = (state.listener.get("allowedRoutes") or {}).get("kinds")
    if wanted:
        good = [k for k in wanted if ((k.get("group") or gateway.GROUP), k.get("kind")) == (gateway.GROUP, kind)]
        state.kinds = state.kinds if good else ()
        if len(good) < len(wanted):
            state.reference = ReferenceFault(
                "InvalidRouteKinds", f"routes of kind {kind} are served here, and no others"
            )


def _certificates(state: ListenerState, objects: GatewayObjects) -> None:
    tls, own = state.listener.get("tls") or {}, meta.namespace_of(state.gateway)
    if tls.get("mode") == "Passthrough":
        if state.scheme == "https":
            state.refused = ReferenceFault("UnsupportedValue", "tls.mode Passthrough: HTTPS is terminated here")
        state.passes = True
        return
    fault = (
        None if tls.get("certificateRefs") else ReferenceFault("InvalidCertificateRef", "there are no certificateRefs")
    )
    for ref in tls.get("certificateRefs") or ():
        namespace, name = str(ref.get("namespace") or own), str(ref.get("name") or "")
        if (ref.get("group") or "") or (ref.get("kind") or "Secret") != "Secret":
            fault = ReferenceFault("InvalidCertificateRef", f"{ref.get('kind')} {name} is not a Secret")
        elif not granted(objects.grants, "Gateway", own, "Secret", namespace, name):
            fault = ReferenceFault(
                "RefNotPermitted", f"no ReferenceGrant of namespace {namespace} allows Secret {name}"
            )
        elif wrong := objects.certificate_fault(namespace, name):
            fault = ReferenceFault("InvalidCertificateRef", wrong)
        else:
            state.certificates.append((namespace, name))
    if fault is not None:
        state.reference = fault
