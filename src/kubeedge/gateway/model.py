"""What a table of routes is made of. Pure.

An entry says which requests it takes (host name, scheme, match) and a rule what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kubeedge.api.names import NodeName, TenantId
from kubeedge.kit.dataclasses import dataclass, field

EVERY_HOST = "*"


def tcp_claim(port: int) -> str:
    """What stands in place of a host name for a port that speaks TCP, of addresses that are shared: one tenant has it."""
    return f"tcp:{port}"


class ListenPoint(NamedTuple):
    """Where requests come in. `address`: one that a Gateway has to itself; "": those that all share, of the cloud or of a node. `port` 0: the web
    listener, whatever its port is."""

    address: str = ""
    port: int = 0


WEB = ListenPoint()


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """Header fields that are set, added and removed; names in lower case."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PathChange:
    """The whole path, or what the match has matched of it, is replaced."""

    value: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class RedirectAnswer:
    """What a RequestRedirect answers; "" and 0: as in the request."""

    scheme: str = ""
    hostname: str = ""
    path: PathChange | None = None
    port: int = 0
    status: int = 302


@dataclass(frozen=True, slots=True)
class UrlChange:
    """What a URLRewrite makes of the request; "": the host stays."""

    hostname: str = ""
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class RouteBackend:
    """A port of a Service. `fault`: why requests for it are answered with 500; "": it is good."""

    namespace: str
    service: str
    port_name: str = ""  # as its EndpointSlices have it
    weight: int = 1
    request: HeaderChange | None = None
    response: HeaderChange | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class MirrorTarget:
    """A backend that gets a copy of `share` (0 to 1) of the requests."""

    backend: RouteBackend
    share: float = 1.0


@dataclass(frozen=True, eq=False, slots=True)
class RouteRule:
    """What becomes of a request. Times in seconds; 0: the proxy's own."""

    name: str  # of the object, for errors: "HTTPRoute default/shop"
    backends: tuple[RouteBackend, ...] = ()
    request: HeaderChange | None = None
    response: HeaderChange | None = None
    redirect: RedirectAnswer | None = None
    rewrite: UrlChange | None = None
    mirrors: tuple[MirrorTarget, ...] = ()
    timeout: float = 0.0  # until the head of the answer, all attempts together
    backend_timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """Which requests of a host. `path` without a slash at its end, unless `exact`; header names in lower case."""

    path: str = ""
    exact: bool = False
    method: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """A match of a rule for a host name of a scheme. `origin`: creation, namespace/name, number of the rule, of the match: what decides
    between equals. `one_label`: "*." stands for one label, as with Ingress. `listener`: its host name, where listeners are apart."""

    hostname: str
    scheme: str
    match: RouteMatch
    rule: RouteRule
    origin: tuple[str, str, int, int] = ("", "", 0, 0)
    one_label: bool = False
    at: ListenPoint = WEB
    listener: str = EVERY_HOST


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What of a request decides about its route. `host` in lower case, without port; header names in lower case."""

    scheme: str
    host: str
    path: str
    query: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    at: ListenPoint = WEB


@dataclass(frozen=True, slots=True)
class CertificateRef:
    """The Secret with the certificate of a host name."""

    hostname: str
    namespace: str
    secret: str
    at: ListenPoint = WEB


@dataclass(frozen=True, slots=True)
class PodEndpoint:
    """A port of a ready pod."""

    node: NodeName
    address: str
    port: int


#: the ready pods behind a backend of a tenant, the one whose turn it is first
FindEndpoints = Callable[[TenantId, RouteBackend], list[PodEndpoint]]


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """Connections that go to a backend as they are, by the name in their TLS handshake ("": plain TCP). `terminate`: TLS ends here."""

    at: ListenPoint
    hostname: str
    rule: RouteRule
    terminate: bool = False
    origin: tuple[str, str, int, int] = ("", "", 0, 0)


@dataclass(frozen=True, slots=True)
class CompiledRoutes:
    """All that one tenant's objects say. `hostnames`: what it wants, whether another tenant has it or not; addresses and ports that are
    for one tenant are among them. `points`: where it listens besides the web listener, and what is spoken there."""

    tenant: TenantId
    entries: tuple[RouteEntry, ...] = ()
    certificates: tuple[CertificateRef, ...] = ()
    hostnames: frozenset[str] = field(default_factory=frozenset)
    points: Mapping[ListenPoint, str] = field(default_factory=dict)
    streams: tuple[StreamEntry, ...] = ()
    #: host names of listeners, where they are, and their schemes
    listeners: Mapping[tuple[ListenPoint, str], str] = field(default_factory=dict)
