"""Gateway API and Ingress: their resources, and what their objects may say. Pure.

Lives elsewhere: the fields (schema_table.py); the columns of `kubectl get` (kubeedge.apiserver.gateways); what the objects do
(kubeedge_cloud.gateway, kubeedge.gateway).

The rules are those of Gateway API's CustomResourceDefinitions and of Kubernetes' Ingress. What is well-formed and not supported is accepted here,
and a condition in its status says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from kubeedge.api.client import Resource
from kubeedge.api.findings import collect
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, duplicate, invalid, required, too_many, unsupported

GROUP = "gateway.networking.k8s.io"
GATEWAYCLASSES = Resource(GROUP, "v1", "gatewayclasses", "GatewayClass", namespaced=False)
GATEWAYS = Resource(GROUP, "v1", "gateways", "Gateway")
HTTPROUTES = Resource(GROUP, "v1", "httproutes", "HTTPRoute")
TLSROUTES = Resource(GROUP, "v1", "tlsroutes", "TLSRoute")
TCPROUTES = Resource(GROUP, "v1", "tcproutes", "TCPRoute")
REFERENCEGRANTS = Resource(GROUP, "v1beta1", "referencegrants", "ReferenceGrant")
INGRESSES = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
INGRESSCLASSES = Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False)

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
MAX_RULES = 16
MAX_LISTENERS = 64
MAX_WEIGHT = 1_000_000

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOSTNAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_SECTION = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_|~]{1,256}")
_PATH = re.compile(r"/[!-~]*")
_VALUE = re.compile(r"[\t -~\x80-\xff]{0,4096}")
_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_PART = re.compile(r"([0-9]+)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_FILTERS = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestMirror": "requestMirror",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "CORS": "cors",
    "ExternalAuth": "externalAuth",
    "ExtensionRef": "extensionRef",
}
_STATUS_CODES = (301, 302, 303, 307, 308)


def is_hostname(text: str) -> bool:
    """A host name in lower case, perhaps with "*." before it; no address."""
    return len(text) <= 253 and bool(_HOSTNAME.fullmatch(text)) and not text.rpartition(".")[2].isdigit()


def seconds(duration: str) -> float:
    """Of a GEP-2257 duration ("1h30m", "250ms"). Raises ValueError."""
    if not _DURATION.fullmatch(duration):
        raise ValueError(f"{duration!r:.40} is not a duration such as 10s or 1m30s")
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(duration))


def gatewayclass(obj: Object) -> list[FieldError]:
    """Rules of a GatewayClass beyond its types."""
    name = str((obj.get("spec") or {}).get("controllerName") or "")
    return [] if "/" in name else [invalid("spec.controllerName", name, "must be a domain, a slash and a path")]


def gatewayclass_changes(new: Object, old: Object) -> list[FieldError]:
    """A class of another controller is another class."""
    before, after = ((obj.get("spec") or {}).get("controllerName") for obj in (old, new))
    return [] if before == after else [invalid("spec.controllerName", after, "cannot be changed")]


def gateway(obj: Object) -> list[FieldError]:
    """Rules of a Gateway beyond its types."""
    spec = obj.get("spec") or {}
    errors = [] if spec.get("gatewayClassName") else [required("spec.gatewayClassName")]
    return [*errors, *collect(lambda: _listeners(spec.get("listeners") or ()))]


def httproute(obj: Object) -> list[FieldError]:
    """Rules of an HTTPRoute beyond its types."""
    spec = obj.get("spec") or {}
    rules = spec.get("rules") or ()
    return collect(
        lambda: _hostnames(spec.get("hostnames") or ()),
        lambda: _parents(spec.get("parentRefs") or ()),
        lambda: _most("spec.rules", rules, MAX_RULES),
        lambda: [error for n, rule in enumerate(rules) for error in _rule(rule, f"spec.rules[{n}]")],
    )


def tlsroute(obj: Object) -> list[FieldError]:
    """Rules of a TLSRoute beyond its types."""
    hostnames = (obj.get("spec") or {}).get("hostnames") or ()
    errors = [] if hostnames else [required("spec.hostnames")]
    return [*errors, *collect(lambda: _hostnames(hostnames)), *tcproute(obj)]


def tcproute(obj: Object) -> list[FieldError]:
    """Rules of a TCPRoute beyond its types."""
    spec = obj.get("spec") or {}
    rules = spec.get("rules") or ()
    errors = [] if rules else [required("spec.rules")]
    return [
        *errors,
        *collect(
            lambda: _parents(spec.get("parentRefs") or ()),
            lambda: _most("spec.rules", rules, 1),
            lambda: [error for n, rule in enumerate(rules[:1]) for error in _backends(rule, f"spec.rules[{n}]")],
        ),
    ]


def referencegrant(obj: Object) -> list[FieldError]:
    """Rules of a ReferenceGrant beyond its types."""
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    for field in ("from", "to"):
        items = spec.get(field) or ()
        if not items:
            errors.append(required(f"spec.{field}"))
        errors += _most(f"spec.{field}", items, 16)
        errors += [required(f"spec.{field}[{n}].kind") for n, item in enumerate(items) if not item.get("kind")]
    errors += [
        required(f"spec.from[{n}].namespace") for n, i in enumerate(spec.get("from") or ()) if not i.get("namespace")
    ]
    return errors


def ingress(obj: Object) -> list[FieldError]:
    """Rules of an Ingress beyond its types."""
    spec = obj.get("spec") or {}
    rules, default = spec.get("rules") or (), spec.get("defaultBackend")
    errors = [] if rules or default else [invalid("spec", {}, "either `defaultBackend` or `rules` must be specified")]
    if default:
        errors += _ingress_backend(default, "spec.defaultBackend")
    return [*errors, *collect(lambda: _ingress_rules(rules), lambda: _ingress_tls(spec.get("tls") or ()))]


def ingressclass(obj: Object) -> list[FieldError]:
    """Rules of an IngressClass beyond its types."""
    return [] if (obj.get("spec") or {}).get("controller") else [required("spec.controller")]


def _listeners(listeners: Sequence[Object]) -> Iterable[FieldError]:
    if not listeners:
        yield required("spec.listeners")
    yield from _most("spec.listeners", listeners, MAX_LISTENERS)
    names: set[str] = set()
    for n, listener in enumerate(listeners[:MAX_LISTENERS]):
        path, name = f"spec.listeners[{n}]", str(listener.get("name") or "")
        if not _SECTION.fullmatch(name) or len(name) > 253:
            yield invalid(f"{path}.name", name, "must be a DNS name in lower case")
        elif name in names:
            yield duplicate(f"{path}.name", name)
        names.add(name)
        yield from _port(f"{path}.port", listener.get("port"))
        if not listener.get("protocol"):
            yield required(f"{path}.protocol")
        hostname = listener.get("hostname")
        if hostname and not is_hostname(hostname):
            yield invalid(f"{path}.hostname", hostname, "must be a host name, or one with *. before it")
        tls = listener.get("tls")
        if tls and listener.get("protocol") in ("HTTP", "TCP", "UDP"):
            yield invalid(f"{path}.tls", "tls", "must not be specified for protocols HTTP, TCP and UDP")
        if (mode := (tls or {}).get("mode")) is not None and mode not in ("Terminate", "Passthrough"):
            yield unsupported(f"{path}.tls.mode", mode, ("Terminate", "Passthrough"))
        yield from _most(f"{path}.tls.certificateRefs", (tls or {}).get("certificateRefs") or (), 64)
        origin = ((listener.get("allowedRoutes") or {}).get("namespaces") or {}).get("from")
        if origin is not None and origin not in ("All", "Selector", "Same", "None"):
            yield unsupported(f"{path}.allowedRoutes.namespaces.from", origin, ("All", "Selector", "Same", "None"))


def _hostnames(hostnames: Sequence[str]) -> Iterable[FieldError]:
    yield from _most("spec.hostnames", hostnames, 16)
    for n, hostname in enumerate(hostnames):
        if not is_hostname(hostname):
            yield invalid(f"spec.hostnames[{n}]", hostname, "must be a host name, or one with *. before it")


def _parents(parents: Sequence[Object]) -> Iterable[FieldError]:
    yield from _most("spec.parentRefs", parents, 32)
    for n, parent in enumerate(parents):
        if not parent.get("name"):
            yield required(f"spec.parentRefs[{n}].name")


def _rule(rule: Object, path: str) -> Iterable[FieldError]:
    matches = rule.get("matches") or ()
    yield from _most(f"{path}.matches", matches, 64)
    for n, match in enumerate(matches):
        yield from _match(match, f"{path}.matches[{n}]")
    yield from _filters(rule.get("filters") or (), f"{path}.filters", matches)
    backends = rule.get("backendRefs") or ()
    yield from _most(f"{path}.backendRefs", backends, 16)
    for n, backend in enumerate(backends):
        yield from _backend(backend, f"{path}.backendRefs[{n}]")
        yield from _filters(backend.get("filters") or (), f"{path}.backendRefs[{n}].filters", matches)
    if backends and any(f.get("type") == "RequestRedirect" for f in rule.get("filters") or ()):
        yield invalid(path, "backendRefs", "a rule with a RequestRedirect filter must not have backendRefs")
    timeouts = rule.get("timeouts") or {}
    for name in ("request", "backendRequest"):
        if (text := timeouts.get(name)) is not None and not _DURATION.fullmatch(text):
            yield invalid(f"{path}.timeouts.{name}", text, "must be a duration such as 10s or 1m30s")


def _backends(rule: Object, path: str) -> Iterable[FieldError]:
    backends = rule.get("backendRefs") or ()
    if not backends:
        yield required(f"{path}.backendRefs")
    yield from _most(f"{path}.backendRefs", backends, 16)
    for n, backend in enumerate(backends[:16]):
        yield from _backend(backend, f"{path}.backendRefs[{n}]")


def _match(match: Object, path: str) -> Iterable[FieldError]:
    where = match.get("path") or {}
    kind, value = where.get("type") or "PathPrefix", where.get("value") or "/"
    if kind not in ("Exact", "PathPrefix", "RegularExpression"):
        yield unsupported(f"{path}.path.type", kind, ("Exact", "PathPrefix", "RegularExpression"))
    elif kind != "RegularExpression":
        yield from _plain_path(f"{path}.path.value", value)
    if (method := match.get("method")) is not None and method not in METHODS:
        yield unsupported(f"{path}.method", method, METHODS)
    for field in ("headers", "queryParams"):
        yield from _most(f"{path}.{field}", match.get(field) or (), 16)
        for n, item in enumerate(match.get(field) or ()):
            if not _TOKEN.fullmatch(str(item.get("name") or "")):
                yield invalid(f"{path}.{field}[{n}].name", item.get("name"), "must be a header name")
            if not item.get("value"):
                yield required(f"{path}.{field}[{n}].value")


def _plain_path(path: str, value: Any) -> Iterable[FieldError]:
    if not _PATH.fullmatch(value) or len(value) > 1024:
        yield invalid(path, value, "must be an absolute path of at most 1024 characters")
    elif any(part in value for part in ("//", "/./", "/../", "%2f", "%2F", "#")) or value.endswith(("/..", "/.")):
        yield invalid(path, value, "must not contain //, /./, /../, %2f or #")


def _filters(filters: Sequence[Object], path: str, matches: Sequence[Object]) -> Iterable[FieldError]:
    yield from _most(path, filters, 16)
    kinds = [str(found.get("type")) for found in filters]
    for kind in {"RequestRedirect", "URLRewrite", "RequestHeaderModifier", "ResponseHeaderModifier"}:
        if kinds.count(kind) > 1:
            yield invalid(path, kind, "may be there once")
    if "RequestRedirect" in kinds and "URLRewrite" in kinds:
        yield invalid(path, "URLRewrite", "must not be beside a RequestRedirect")
    for n, (kind, found) in enumerate(zip(kinds, filters, strict=True)):
        where = f"{path}[{n}]"
        if kind not in _FILTERS:
            yield unsupported(f"{where}.type", kind, tuple(_FILTERS))
        elif not isinstance(body := found.get(_FILTERS[kind]), dict):
            yield required(f"{where}.{_FILTERS[kind]}", f"for a filter of type {kind}")
        else:
            yield from _filter(kind, body, f"{where}.{_FILTERS[kind]}", matches)


def _filter(kind: str, body: Object, path: str, matches: Sequence[Object]) -> Iterable[FieldError]:
    if kind in ("RequestHeaderModifier", "ResponseHeaderModifier"):
        yield from _header_filter(body, path)
    elif kind == "RequestMirror":
        yield from _backend(body.get("backendRef") or {}, f"{path}.backendRef")
    elif kind in ("RequestRedirect", "URLRewrite"):
        if (hostname := body.get("hostname")) and (not is_hostname(hostname) or hostname.startswith("*")):
            yield invalid(f"{path}.hostname", hostname, "must be a host name")
        yield from _path_modifier(body.get("path"), f"{path}.path", matches)
        if (scheme := body.get("scheme")) is not None and scheme not in ("http", "https"):
            yield unsupported(f"{path}.scheme", scheme, ("http", "https"))
        if (code := body.get("statusCode")) is not None and code not in _STATUS_CODES:
            yield unsupported(f"{path}.statusCode", code, tuple(map(str, _STATUS_CODES)))
        if body.get("port") is not None:
            yield from _port(f"{path}.port", body["port"])


def _path_modifier(modifier: Object | None, path: str, matches: Sequence[Object]) -> Iterable[FieldError]:
    if modifier is None:
        return
    kinds = {"ReplaceFullPath": "replaceFullPath", "ReplacePrefixMatch": "replacePrefixMatch"}
    field = kinds.get(str(modifier.get("type")))
    if field is None:
        yield unsupported(f"{path}.type", modifier.get("type"), tuple(kinds))
        return
    value = modifier.get(field)
    if value is None:
        yield required(f"{path}.{field}")
    elif value and not _PATH.fullmatch(value):
        yield invalid(f"{path}.{field}", value, "must be an absolute path")
    if field == "replacePrefixMatch" and any(
        ((match.get("path") or {}).get("type") or "PathPrefix") != "PathPrefix" for match in matches
    ):
        yield invalid(f"{path}.type", modifier.get("type"), "needs matches by PathPrefix alone")


def _header_filter(body: Object, path: str) -> Iterable[FieldError]:
    for field in ("set", "add"):
        yield from _most(f"{path}.{field}", body.get(field) or (), 16)
        for n, item in enumerate(body.get(field) or ()):
            if not _TOKEN.fullmatch(str(item.get("name") or "")):
                yield invalid(f"{path}.{field}[{n}].name", item.get("name"), "must be a header name")
            if not _VALUE.fullmatch(str(item.get("value") or "")):
                yield invalid(f"{path}.{field}[{n}].value", item.get("value"), "must be a header value")
    yield from _most(f"{path}.remove", body.get("remove") or (), 16)


def _backend(backend: Object, path: str) -> Iterable[FieldError]:
    if not backend.get("name"):
        yield required(f"{path}.name")
    if backend.get("port") is not None:
        yield from _port(f"{path}.port", backend["port"])
    elif not backend.get("group") and (backend.get("kind") or "Service") == "Service":
        yield required(f"{path}.port", "for a Service")
    if not 0 <= (weight := backend.get("weight") or 0) <= MAX_WEIGHT:
        yield invalid(f"{path}.weight", weight, f"must be from 0 to {MAX_WEIGHT}")


def _ingress_rules(rules: Sequence[Object]) -> Iterable[FieldError]:
    for n, rule in enumerate(rules):
        path, host = f"spec.rules[{n}]", rule.get("host")
        if host and not is_hostname(host):
            yield invalid(f"{path}.host", host, "must be a DNS name, or one with *. before it")
        for m, entry in enumerate((rule.get("http") or {}).get("paths") or ()):
            yield from _ingress_path(entry, f"{path}.http.paths[{m}]")


def _ingress_path(entry: Object, where: str) -> Iterable[FieldError]:
    kind, value = entry.get("pathType"), str(entry.get("path") or "")
    if kind is None:
        yield required(f"{where}.pathType", "pathType must be specified")
    elif kind not in ("Exact", "Prefix", "ImplementationSpecific"):
        yield unsupported(f"{where}.pathType", kind, ("Exact", "ImplementationSpecific", "Prefix"))
    elif kind != "ImplementationSpecific" or value:
        yield from _plain_path(f"{where}.path", value)
    yield from _ingress_backend(entry.get("backend") or {}, f"{where}.backend")


def _ingress_backend(backend: Object, path: str) -> Iterable[FieldError]:
    service = backend.get("service")
    if service is None:
        if backend.get("resource") is None:
            yield required(f"{path}.service", "or resource")
        return
    port = service.get("port") or {}
    if not service.get("name"):
        yield required(f"{path}.service.name")
    if bool(port.get("name")) == bool(port.get("number")):
        yield required(f"{path}.service.port", "its name or its number, one of them")
    elif port.get("number"):
        yield from _port(f"{path}.service.port.number", port["number"])


def _ingress_tls(entries: Sequence[Object]) -> Iterable[FieldError]:
    for n, entry in enumerate(entries):
        for m, host in enumerate(entry.get("hosts") or ()):
            if not is_hostname(host):
                yield invalid(f"spec.tls[{n}].hosts[{m}]", host, "must be a DNS name, or one with *. before it")


def _most(path: str, items: Any, limit: int) -> list[FieldError]:
    return [too_many(path, len(items), limit)] if len(items) > limit else []


def _port(path: str, port: Any) -> list[FieldError]:
    if isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536:
        return []
    return [invalid(path, port, "must be between 1 and 65535, inclusive")]
