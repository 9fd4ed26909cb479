"""The listeners of Gateways: which of them work, which routes they take. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubeedge.api import gateway, meta, selectors
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge_cloud.gateway.model import EVERY_HOST, CertificateRef, WebPorts
from kubeedge_cloud.gateway.references import GatewayObjects, ReferenceFault, granted

_SCHEMES = {"HTTP": "http", "HTTPS": "https"}
ROUTE_KINDS = ({"group": gateway.GROUP, "kind": "HTTPRoute"},)


@dataclass(slots=True)
class ListenerState:
    """One listener of a Gateway of ours. `refused`: why it is not accepted; `conflict`: with another of the Gateway; `reference`: one
    that leads nowhere. `attached` counts routes."""

    gateway: Object
    listener: Object
    scheme: str = ""
    refused: ReferenceFault | None = None
    conflict: str = ""
    reference: ReferenceFault | None = None
    kinds: Sequence[Object] = ROUTE_KINDS
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
    def works(self) -> bool:
        """Requests are answered by it."""
        return not (self.refused or self.conflict or (self.reference and self.scheme == "https"))

    def allows(self, route: Object, namespaces: Mapping[str, Object]) -> bool:
        """Whether the listener takes routes of that namespace; of kinds it has HTTPRoute or none."""
        if not self.kinds:
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
        return [CertificateRef(hostname, *found) for found in self.certificates]


def _selected(selector: Object, namespace: Object) -> bool:
    try:
        return selectors.of_selector(selector).matches(meta.labels_of(namespace))
    except Invalid:
        return False


def of_gateway(found: Object, objects: GatewayObjects, ports: WebPorts) -> list[ListenerState]:
    """All listeners of a Gateway, in its order."""
    states = [_state(found, listener, objects, ports) for listener in (found.get("spec") or {}).get("listeners") or ()]
    same = Counter((s.listener.get("port"), s.listener.get("protocol"), s.hostname) for s in states)
    protocols: dict[object, set[object]] = {}
    for state in states:
        protocols.setdefault(state.listener.get("port"), set()).add(state.listener.get("protocol"))
    for state in states:
        port, protocol = state.listener.get("port"), state.listener.get("protocol")
        if len(protocols[port]) > 1:
            state.conflict = "ProtocolConflict"
        elif same[port, protocol, state.hostname] > 1:
            state.conflict = "HostnameConflict"
    return states


def _state(found: Object, listener: Object, objects: GatewayObjects, ports: WebPorts) -> ListenerState:
    state = ListenerState(found, listener)
    protocol, port = str(listener.get("protocol")), listener.get("port")
    state.scheme = _SCHEMES.get(protocol, "")
    served = ports.http if state.scheme == "http" else ports.https
    if not state.scheme:
        state.refused = ReferenceFault("UnsupportedProtocol", f"{protocol}: HTTP and HTTPS are served")
        state.kinds = ()
    elif port not in served:
        text = ", ".join(map(str, sorted(served)))
        state.refused = ReferenceFault(
            "PortUnavailable",
            f"{protocol} is served at port {text}"
            if served
            else f"the web listener of this cloud does not speak {protocol}",
        )
    wanted = (listener.get("allowedRoutes") or {}).get("kinds")
    if wanted and state.scheme:
        good = [k for k in wanted if ((k.get("group") or gateway.GROUP), k.get("kind")) == (gateway.GROUP, "HTTPRoute")]
        state.kinds = ROUTE_KINDS if good else ()
        if len(good) < len(wanted):
            state.reference = ReferenceFault("InvalidRouteKinds", "routes of kind HTTPRoute are served, and no others")
    if state.scheme == "https":
        _certificates(state, objects)
    return state


def _certificates(state: ListenerState, objects: GatewayObjects) -> None:
    tls, own = state.listener.get("tls") or {}, meta.namespace_of(state.gateway)
    if tls.get("mode") == "Passthrough":
        state.refused = ReferenceFault("UnsupportedValue", "tls.mode Passthrough: HTTPS is terminated here")
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
