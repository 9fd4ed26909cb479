"""Which entry takes a request: the precedence of Gateway API. Pure.

The most specific host name comes first: the name itself, then the longest "*." above it, then what has no name. Of its entries an exact path comes
before prefixes, a longer prefix before a shorter one, then an entry with a method, then more headers, then more query parameters; then the older
object, its name, and the order of its rules. A host that one tenant has is never answered by another, whatever that one has for all hosts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import unquote_plus

from kubeedge.api.names import TenantId
from kubeedge.gateway.model import EVERY_HOST, WEB, ListenPoint, RouteEntry, RouteMatch, RouteRequest
from kubeedge.kit.dataclasses import dataclass

_NONE: Mapping[tuple[ListenPoint, str], str] = {}
_MAX_FIELDS = 256  # of a query, that are looked at


def patterns(host: str) -> Iterator[str]:
    """Everything that may stand for a host name, the most specific first."""
    yield host
    labels = host.split(".")
    for n in range(1, len(labels)):
        yield "*." + ".".join(labels[n:])
    yield EVERY_HOST


def covers(pattern: str, hostname: str) -> bool:
    """Does the first stand for the second, which may be a pattern, too?"""
    if pattern in (EVERY_HOST, hostname):
        return True
    return pattern.startswith("*.") and hostname.removeprefix("*").endswith(pattern[1:])


def intersection(one: str, other: str) -> str | None:
    """What both stand for; None: nothing."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


class RouteTable:
    """The entries of one tenant."""

    def __init__(
        self, entries: Iterable[RouteEntry] = (), listeners: Mapping[tuple[ListenPoint, str], str] = _NONE
    ) -> None:
        #: where and how -> host name of the listener -> that of the route -> entries
        self._listeners: dict[tuple[ListenPoint, str], dict[str, dict[str, list[RouteEntry]]]] = {}
        for entry in sorted(entries, key=_precedence):
            apart = self._listeners.setdefault((entry.at, entry.scheme), {})
            apart.setdefault(entry.listener, {}).setdefault(entry.hostname, []).append(entry)

        for (at, hostname), scheme in listeners.items():
            if at.address:  # one without routes hides those that are less specific, too
                self._listeners.setdefault((at, scheme), {}).setdefault(hostname, {})

    def find(self, request: RouteRequest) -> RouteEntry | None:
        """None: no entry takes it."""
        headers = dict(reversed(request.headers))
        query: Mapping[str, str] | None = None
        listeners = self._listeners.get((request.at, request.scheme), {})
        hosts = next((listeners[p] for p in patterns(request.host) if p in listeners), {})
        for pattern in patterns(request.host):
            for entry in hosts.get(pattern, ()):
                if not path_matches(entry.match, request.path) or (
                    entry.one_label and not _one_label(pattern, request)
                ):
                    continue
                match = entry.match
                if match.method and match.method != request.method:
                    continue
                if any(headers.get(name) != value for name, value in match.headers):
                    continue
                if match.query:
                    query = _query(request.query) if query is None else query
                    if any(query.get(name) != value for name, value in match.query):
                        continue
                return entry
        return None


@dataclass(frozen=True, slots=True)
class RouteSelection:
    """Whose a request is. `entry` None: no route of the tenant takes it. `published`: it is for a service that has a path below the name of its node,
    "/TENANT/NODE/NAME", and no route; which one its node knows, and whether there is one."""

    tenant: TenantId
    entry: RouteEntry | None = None
    published: bool = False


class HostTable:
    """Where every request goes: the routes of all tenants, and published services. `owners`: which tenant has which host name, "*" for all that
    nobody has, address and TCP port; `published`: tenants whose published services come before the routes of "*" at the web listener."""

    def __init__(
        self,
        owners: Mapping[str, TenantId],
        tables: Mapping[TenantId, RouteTable],
        published: Collection[str] = (),
    ) -> None:
        self._owners, self._tables, self._published = owners, tables, published

    def select(self, request: RouteRequest) -> RouteSelection | None:
        """A host that a tenant has is that tenant's alone. At the web listener all other hosts have the published services of all tenants, and below
        them, if there is one, the routes without a host of the tenant that has "*". None: it is nobody's."""
        at = request.at
        tenant = self._owners.get(at.address) if at.address else self.owner(request.host)
        if tenant is not None:
            return RouteSelection(tenant, self.find(tenant, request))
        if at.address:
            return None
        if at == WEB and (named := request.path.split("/", 2)[1]) in self._published:
            return RouteSelection(TenantId(named), published=True)
        if (default := self.default) is not None and (entry := self.find(default, request)) is not None:
            return RouteSelection(default, entry)
        return RouteSelection(TenantId(""), published=True) if at == WEB else None

    @property
    def default(self) -> TenantId | None:
        """The tenant that answers for every host that nobody has."""
        return self._owners.get(EVERY_HOST)

    def owner(self, host: str) -> TenantId | None:
        """The tenant that has the host name by itself or by a "*." above it; None: nobody, or by "*" alone."""
        return next((self._owners[p] for p in patterns(host) if p != EVERY_HOST and p in self._owners), None)

    def find(self, tenant: TenantId, request: RouteRequest) -> RouteEntry | None:
        """The tenant's entry for the request."""
        table = self._tables.get(tenant)
        return table.find(request) if table is not None else None

    @property
    def names(self) -> list[str]:
        """Every host name and "*." that a tenant has."""
        return sorted(name for name in self._owners if name != EVERY_HOST and _is_name(name))


def path_matches(match: RouteMatch, path: str) -> bool:
    """Element by element: /abc is a prefix of /abc, /abc/ and /abc/d, not of /abcd."""
    if match.exact:
        return path == match.path
    return path.startswith(match.path) and path[len(match.path) : len(match.path) + 1] in ("", "/")


def _precedence(entry: RouteEntry) -> tuple[object, ...]:
    match = entry.match
    return (
        not match.exact,
        -len(match.path),
        not match.method,
        -len(match.headers),
        -len(match.query),
        *entry.origin,
    )


def _one_label(pattern: str, request: RouteRequest) -> bool:
    return not pattern.startswith("*.") or "." not in request.host.removesuffix(pattern[1:])


def _is_name(claim: str) -> bool:
    """Of what a tenant has: no address, and no port."""
    return ":" not in claim and not claim.rpartition(".")[2].isdigit()


def _query(text: str) -> dict[str, str]:
    """The first value of each parameter."""
    found: dict[str, str] = {}
    for part in text.split("&", _MAX_FIELDS)[:_MAX_FIELDS]:
        name, _, value = part.partition("=")
        found.setdefault(unquote_plus(name), unquote_plus(value))
    return found
