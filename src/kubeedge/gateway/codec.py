"""A node's table of routes, as the row that the cloud writes for it. Pure.

    /desired/gateways/_/node {"rules": [...], "entries": [...], ..., "secrets": [[NAMESPACE, NAME], ...], "namespaces": [...]}

Rules stand once, and entries name them by their number. `secrets` and `namespaces` are what the node needs besides: certificates, and the Services
behind the routes. A row comes from the cloud, and is bounded all the same: a node has little memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubeedge.api import json_bounds, keys, strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import NamespacedName, TenantId
from kubeedge.errors import Invalid
from kubeedge.gateway.model import (
    CertificateRef,
    CompiledRoutes,
    HeaderChange,
    ListenPoint,
    MirrorTarget,
    PathChange,
    RedirectAnswer,
    RouteBackend,
    RouteEntry,
    RouteMatch,
    RouteRule,
    StreamEntry,
    UrlChange,
)

ROW = f"gateways/{keys.CLUSTER_SCOPE}/node"  # below /desired/: the table; below /reported/: where the node listens
MAX_ROW = 512 * 1024  # bytes
_BOUNDS = JsonBounds(values=100_000, depth=12)


def encoded(routes: CompiledRoutes) -> bytes:
    """The row; equal tables have equal rows."""
    numbers: dict[RouteRule, int] = {}  # rules are equal if they are the same one
    for rule in (*(e.rule for e in routes.entries), *(e.rule for e in routes.streams)):
        numbers.setdefault(rule, len(numbers))
    backends = [backend for rule in numbers for backend in _backends(rule)]
    document = {
        "rules": [_of_rule(rule) for rule in numbers],
        "entries": [_of_entry(entry, numbers[entry.rule]) for entry in routes.entries],
        "streams": [[*e.at, e.hostname, numbers[e.rule], e.terminate] for e in routes.streams],
        "points": sorted([*at, family] for at, family in routes.points.items()),
        "listeners": sorted([*at, hostname, scheme] for (at, hostname), scheme in routes.listeners.items()),
        "certificates": [[c.hostname, c.namespace, c.secret, *c.at] for c in routes.certificates],
        "secrets": sorted({(c.namespace, c.secret) for c in routes.certificates}),
        "namespaces": sorted({backend.namespace for backend in backends if not backend.fault}),
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def decoded(tenant: TenantId, row: bytes) -> CompiledRoutes:
    """The table in a row. Raises Invalid for one that is too large, or in another form."""
    document = _document(row)
    try:
        rules = [_rule(found) for found in document["rules"]]
        return CompiledRoutes(
            tenant,
            entries=tuple(_entry(found, rules) for found in document["entries"]),
            streams=tuple(
                StreamEntry(_point(at), str(host), rules[n], bool(ends)) for *at, host, n, ends in document["streams"]
            ),
            points={_point(at): str(family) for *at, family in document["points"]},
            listeners={(_point(at), str(host)): str(scheme) for *at, host, scheme in document["listeners"]},
            certificates=tuple(
                CertificateRef(str(host), str(namespace), str(name), _point(at))
                for host, namespace, name, *at in document["certificates"]
            ),
        )
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError) as exc:
        raise Invalid(f"a table of routes in a form that is not understood: {type(exc).__name__}") from exc


def needs(row: bytes) -> tuple[frozenset[NamespacedName], frozenset[str]]:
    """Secrets and namespaces of a row; nothing of one that makes no sense."""
    try:
        document = _document(row)
        secrets = frozenset((str(namespace), str(name)) for namespace, name in document["secrets"])
        return secrets, frozenset(map(str, document["namespaces"]))
    except (Invalid, AttributeError, TypeError, ValueError, KeyError):
        return frozenset(), frozenset()


def excess(row: bytes) -> str:
    """Why a node would not take the row; "": it does. Of what it refuses it has no certificate and no Service either."""
    try:
        _check_size(row)
        json_bounds.check(row, _BOUNDS, what="a table of routes")
    except Invalid as exc:
        return str(exc)
    return ""


def _check_size(row: bytes) -> None:
    if len(row) > MAX_ROW:
        raise Invalid(f"a table of routes of more than {MAX_ROW} bytes")


def _document(row: bytes) -> Mapping[str, Any]:
    _check_size(row)
    found = strict_json.loads(row, what="a table of routes", bounds=_BOUNDS)
    if not isinstance(found, dict):
        raise Invalid("a table of routes that is no object")
    return found


def _backends(rule: RouteRule) -> Iterator[RouteBackend]:
    yield from rule.backends
    yield from (mirror.backend for mirror in rule.mirrors)


def _point(found: Sequence[Any]) -> ListenPoint:
    address, port = found
    if not isinstance(address, str) or not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError("no address and port")
    return ListenPoint(address, port)


# -- entries -----------------------------------------------------------------------------------------------------------


def _of_entry(entry: RouteEntry, number: int) -> list[Any]:
    match = entry.match
    found = [match.path, match.exact, match.method, match.headers, match.query]
    return [*entry.at, entry.hostname, entry.scheme, number, found, entry.origin, entry.one_label, entry.listener]


def _entry(found: Sequence[Any], rules: Sequence[RouteRule]) -> RouteEntry:
    address, port, hostname, scheme, number, match, origin, one_label, listener = found
    path, exact, method, headers, query = match
    created, name, rule, part = origin
    return RouteEntry(
        str(hostname),
        str(scheme),
        RouteMatch(str(path), bool(exact), str(method), _pairs(headers), _pairs(query)),
        rules[number],
        (str(created), str(name), int(rule), int(part)),
        bool(one_label),
        _point((address, port)),
        str(listener),
    )


def _pairs(found: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(value)) for name, value in found)


# -- rules -------------------------------------------------------------------------------------------------------------


def _of_rule(rule: RouteRule) -> Mapping[str, Any]:
    redirect, rewrite = rule.redirect, rule.rewrite
    found = {
        "name": rule.name,
        "backends": [_of_backend(backend) for backend in rule.backends],
        "request": _of_change(rule.request),
        "response": _of_change(rule.response),
        "redirect": redirect
        and [redirect.scheme, redirect.hostname, _of_path(redirect.path), redirect.port, redirect.status],
        "rewrite": rewrite and [rewrite.hostname, _of_path(rewrite.path)],
        "mirrors": [[_of_backend(mirror.backend), mirror.share] for mirror in rule.mirrors],
        "timeouts": [rule.timeout, rule.backend_timeout] if rule.timeout or rule.backend_timeout else None,
    }
    return {key: value for key, value in found.items() if value}


def _rule(found: Mapping[str, Any]) -> RouteRule:
    redirect, rewrite = found.get("redirect"), found.get("rewrite")
    timeout, backend_timeout = found.get("timeouts") or (0.0, 0.0)
    return RouteRule(
        str(found["name"]),
        backends=tuple(map(_backend, found.get("backends", ()))),
        request=_change(found.get("request")),
        response=_change(found.get("response")),
        redirect=_redirect(*redirect) if redirect else None,
        rewrite=UrlChange(str(rewrite[0]), _path(rewrite[1])) if rewrite else None,
        mirrors=tuple(MirrorTarget(_backend(of), float(share)) for of, share in found.get("mirrors", ())),
        timeout=float(timeout),
        backend_timeout=float(backend_timeout),
    )


def _redirect(scheme: Any, hostname: Any, path: Any, port: Any, status: Any) -> RedirectAnswer:
    return RedirectAnswer(str(scheme), str(hostname), _path(path), int(port), int(status))


def _of_backend(backend: RouteBackend) -> list[Any]:
    changes = [_of_change(backend.request), _of_change(backend.response)]
    return [backend.namespace, backend.service, backend.port_name, backend.weight, *changes, backend.fault]


def _backend(found: Sequence[Any]) -> RouteBackend:
    namespace, service, port_name, weight, request, response, fault = found
    return RouteBackend(
        str(namespace), str(service), str(port_name), int(weight), _change(request), _change(response), str(fault)
    )


def _of_change(change: HeaderChange | None) -> list[Any] | None:
    return None if change is None else [change.set, change.add, sorted(change.remove)]


def _change(found: Sequence[Any] | None) -> HeaderChange | None:
    if not found:
        return None
    new, added, removed = found
    return HeaderChange(_pairs(new), _pairs(added), frozenset(map(str, removed)))


def _of_path(change: PathChange | None) -> list[Any] | None:
    return None if change is None else [change.value, change.prefix]


def _path(found: Sequence[Any] | None) -> PathChange | None:
    return PathChange(str(found[0]), bool(found[1])) if found else None
