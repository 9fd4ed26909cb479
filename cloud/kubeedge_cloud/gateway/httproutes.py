"""The rules of an HTTPRoute, a TLSRoute or a TCPRoute, as rules and matches of the table. Pure.

What a rule asks for and we have not got makes the whole route unaccepted: a route that does half of what it says is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kubeedge.api import gateway, meta
from kubeedge.api.names import Object
from kubeedge.gateway.model import (
    HeaderChange,
    MirrorTarget,
    PathChange,
    RedirectAnswer,
    RouteBackend,
    RouteMatch,
    RouteRule,
    UrlChange,
)
from kubeedge_cloud.gateway.references import GatewayObjects, ReferenceFault, granted, service_port, title

_OURS = frozenset(("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror"))
_OF_BACKENDS = frozenset(("RequestHeaderModifier", "ResponseHeaderModifier"))


@dataclass(slots=True)
class ParsedRoute:
    """`rules` with their matches. `unsupported`: what it asks for that is not served; `faults`: references that lead nowhere."""

    rules: list[tuple[RouteRule, list[RouteMatch]]] = field(default_factory=list)
    unsupported: str = ""
    faults: list[ReferenceFault] = field(default_factory=list)


def size(route: Object) -> int:
    """How much work it is: its matches and backends."""
    rules = (route.get("spec") or {}).get("rules") or ()
    return 1 + sum(1 + len(r.get("matches") or ()) + len(r.get("backendRefs") or ()) for r in rules)


def parsed(route: Object, objects: GatewayObjects, kind: str = "HTTPRoute") -> ParsedRoute:
    """Of a route of that kind that is well-formed."""
    found = ParsedRoute()
    for n, rule in enumerate((route.get("spec") or {}).get("rules") or [{}]):
        found.unsupported = found.unsupported or _unsupported(rule, f"spec.rules[{n}]")
        if found.unsupported:
            break
        found.rules.append(
            (_rule(route, kind, rule, objects, found.faults), [_match(m) for m in rule.get("matches") or [{}]])
        )
    return found


def _unsupported(rule: Object, path: str) -> str:
    for n, match in enumerate(rule.get("matches") or ()):
        if (match.get("path") or {}).get("type") == "RegularExpression":
            return f"{path}.matches[{n}].path: RegularExpression"
        for field_ in ("headers", "queryParams"):
            if any(item.get("type") == "RegularExpression" for item in match.get(field_) or ()):
                return f"{path}.matches[{n}].{field_}: RegularExpression"
    for kind in (str(f.get("type")) for f in rule.get("filters") or ()):
        if kind not in _OURS:
            return f"{path}.filters: {kind}"
    for backend in rule.get("backendRefs") or ():
        for kind in (str(f.get("type")) for f in backend.get("filters") or ()):
            if kind not in _OF_BACKENDS:
                return f"{path}.backendRefs.filters: {kind}"
    return next((f"{path}.{name}" for name in ("retry", "sessionPersistence") if rule.get(name)), "")


def _match(match: Object) -> RouteMatch:
    path = match.get("path") or {}
    value, exact = str(path.get("value") or "/"), path.get("type") == "Exact"
    return RouteMatch(
        path=value if exact else value.rstrip("/"),
        exact=exact,
        method=str(match.get("method") or ""),
        headers=_pairs(match.get("headers") or (), lower=True),
        query=_pairs(match.get("queryParams") or ()),
    )


def _pairs(items: Iterable[Object], *, lower: bool = False) -> tuple[tuple[str, str], ...]:
    """Of items with equal names the first counts."""
    found: dict[str, str] = {}
    for item in items:
        name = str(item.get("name") or "")
        found.setdefault(name.lower() if lower else name, str(item.get("value") or ""))
    return tuple(found.items())


def _rule(route: Object, kind: str, rule: Object, objects: GatewayObjects, faults: list[ReferenceFault]) -> RouteRule:
    filters = rule.get("filters") or ()
    timeouts = rule.get("timeouts") or {}
    redirect, rewrite = (_body(filters, name) for name in ("requestRedirect", "urlRewrite"))
    return RouteRule(
        name=f"{kind} {title(route)}",
        backends=tuple(_backend(route, kind, ref, objects, faults) for ref in rule.get("backendRefs") or ()),
        request=_change(_body(filters, "requestHeaderModifier")),
        response=_change(_body(filters, "responseHeaderModifier")),
        redirect=None if redirect is None else _redirect(redirect),
        rewrite=None if rewrite is None else UrlChange(str(rewrite.get("hostname") or ""), _path(rewrite.get("path"))),
        mirrors=tuple(
            MirrorTarget(_backend(route, kind, mirror.get("backendRef") or {}, objects, faults), _share(mirror))
            for mirror in (f.get("requestMirror") for f in filters)
            if mirror
        ),
        timeout=_seconds(timeouts.get("request")),
        backend_timeout=_seconds(timeouts.get("backendRequest")),
    )


def _backend(
    route: Object, kind: str, ref: Object, objects: GatewayObjects, faults: list[ReferenceFault]
) -> RouteBackend:
    own = meta.namespace_of(route)
    namespace, name = str(ref.get("namespace") or own), str(ref.get("name") or "")
    port_name, fault = "", None
    if (ref.get("group") or "") or (ref.get("kind") or "Service") != "Service":
        fault = ReferenceFault("InvalidKind", f"{ref.get('kind')} {name} is not a Service")
    elif not granted(objects.grants, kind, own, "Service", namespace, name):
        fault = ReferenceFault("RefNotPermitted", f"no ReferenceGrant of namespace {namespace} allows Service {name}")
    elif (service := objects.service(namespace, name)) is None:
        fault = ReferenceFault("BackendNotFound", f"there is no Service {namespace}/{name}")
    elif (found := service_port(service, int(ref.get("port") or 0) or -1)) is None:
        fault = ReferenceFault("BackendNotFound", f"Service {namespace}/{name} has no TCP port {ref.get('port')}")
    else:
        port_name = found
    if fault is not None:
        faults.append(fault)
    weight = ref.get("weight")
    filters: Sequence[Object] = ref.get("filters") or ()
    return RouteBackend(
        namespace,
        name,
        port_name,
        weight=1 if weight is None else int(weight),
        request=_change(_body(filters, "requestHeaderModifier")),
        response=_change(_body(filters, "responseHeaderModifier")),
        fault=fault.message if fault else "",
    )


def _body(filters: Iterable[Object], name: str) -> Object | None:
    return next((found for f in filters if (found := f.get(name)) is not None), None)


def _change(body: Object | None) -> HeaderChange | None:
    if body is None:
        return None
    return HeaderChange(
        _pairs(body.get("set") or (), lower=True),
        _pairs(body.get("add") or (), lower=True),
        frozenset(str(name).lower() for name in body.get("remove") or ()),
    )


def _redirect(body: Object) -> RedirectAnswer:
    return RedirectAnswer(
        scheme=str(body.get("scheme") or ""),
        hostname=str(body.get("hostname") or ""),
        path=_path(body.get("path")),
        port=int(body.get("port") or 0),
        status=int(body.get("statusCode") or 302),
    )


def _path(body: Object | None) -> PathChange | None:
    if not body:
        return None
    if body.get("type") == "ReplacePrefixMatch":
        return PathChange(str(body.get("replacePrefixMatch") or ""), prefix=True)
    return PathChange(str(body.get("replaceFullPath") or ""))


def _share(mirror: Object) -> float:
    if (percent := mirror.get("percent")) is not None:
        return float(percent) / 100
    if fraction := mirror.get("fraction"):
        return float(fraction.get("numerator") or 0) / float(fraction.get("denominator") or 100)
    return 1.0


def _seconds(text: str | None) -> float:
    return gateway.seconds(text) if text else 0.0
