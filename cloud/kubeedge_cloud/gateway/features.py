"""What of Gateway API is supported here, by the names that its conformance suite has for it: `status.supportedFeatures` of a GatewayClass. Pure."""

from __future__ import annotations

from kubeedge_cloud.gateway.ports import GatewayPorts

_ALWAYS = (
    "Gateway", "ReferenceGrant",
    "HTTPRoute", "HTTPRoute303RedirectStatusCode", "HTTPRoute307RedirectStatusCode", "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolWebSocket", "HTTPRouteBackendRequestHeaderModification", "HTTPRouteBackendTimeout",
    "HTTPRouteHostRewrite", "HTTPRouteMethodMatching", "HTTPRouteNamedRouteRule", "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect", "HTTPRoutePathRewrite", "HTTPRoutePortRedirect", "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror", "HTTPRouteRequestMultipleMirrors", "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout", "HTTPRouteResponseHeaderModification", "HTTPRouteSchemeRedirect",
)  # fmt: skip
#: a Gateway with an address of its own has every port there
_WITH_ADDRESSES = (
    "GatewayAddressEmpty", "GatewayHTTPListenerIsolation", "GatewayPort8080", "GatewayStaticAddresses",
    "TCPRoute", "TLSRoute", "TLSRouteModeMixed", "TLSRouteModeTerminate",
)  # fmt: skip


def supported(ports: GatewayPorts) -> tuple[str, ...]:
    """With these ports and addresses."""
    found = [*_ALWAYS]
    if ports.addresses:
        found += _WITH_ADDRESSES
    elif ports.every or "TCP" in ports.shared.values():
        found.append("TCPRoute")
    if not ports.addresses and ports.every:
        found.append("GatewayPort8080")
    if not ports.addresses and (ports.every or "TLS" in ports.shared.values()):
        found += ("TLSRoute", "TLSRouteModeMixed", "TLSRouteModeTerminate")
    return tuple(sorted(found))
