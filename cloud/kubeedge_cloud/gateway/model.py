"""What a table of routes is made of. Pure.

An entry says which requests it takes (host name, scheme, match) and a rule what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kubeedge.api.names import TenantId

EVERY_HOST = "*"


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
    between equals. `one_label`: "*." stands for one label, as with Ingress."""

    hostname: str
    scheme: str
    match: RouteMatch
    rule: RouteRule
    origin: tuple[str, str, int, int] = ("", "", 0, 0)
    one_label: bool = False


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What of a request decides about its route. `host` in lower case, without port; header names in lower case."""

    scheme: str
    host: str
    path: str
    query: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateRef:
    """The Secret with the certificate of a host name."""

    hostname: str
    namespace: str
    secret: str


@dataclass(frozen=True, slots=True)
class WebPorts:
    """The ports of Gateway listeners that the web listener stands for, by what it speaks; empty: it does not."""

    http: frozenset[int] = frozenset()
    https: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class CompiledRoutes:
    """All that one tenant's objects say. `hostnames`: what it wants, whether another tenant has it or not."""

    tenant: TenantId
    entries: tuple[RouteEntry, ...] = ()
    certificates: tuple[CertificateRef, ...] = ()
    hostnames: frozenset[str] = field(default_factory=frozenset)
