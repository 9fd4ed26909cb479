"""Whatever a tenant writes into its objects: it is refused, or compiled; and no request of anybody fails because of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from kubeedge.api import schema
from kubeedge.api.names import Object
from kubeedge.api.resources import Row
from kubeedge.apiserver.gateways import ROWS
from kubeedge.gateway import filters
from kubeedge.gateway.model import RouteRequest
from kubeedge.gateway.table import RouteTable
from kubeedge_cloud.gateway import conditions as statuses
from tests.unit.gateway.objects import TLS_PORTS, compiled, gateway, listener, named, path, route, rule

VALUES: tuple[Any, ...] = (
    None, "", "x", "x" * 5000, "\r\nx: y", "/../", "*", "*.", "a..b", "\0", "\ud800", -1, 0, 2**31, 2**63, True, 1.5, [], {},
)  # fmt: skip

header = {"set": [{"name": "A", "value": "1"}], "add": [{"name": "B", "value": "2"}], "remove": ["C"]}
backend: Object = {"name": "web", "port": 80, "weight": 1, "namespace": "default", "kind": "Service", "group": ""}
SHOP = route(
    rule(
        name="r",
        matches=[
            path("/a", headers=[{"name": "A", "value": "1"}], queryParams=[{"name": "q", "value": "1"}], method="GET")
        ],
        filters=[
            {"type": "RequestHeaderModifier", "requestHeaderModifier": header},
            {
                "type": "RequestMirror",
                "requestMirror": {"backendRef": backend, "percent": 5, "fraction": {"numerator": 1}},
            },
            {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}},
        ],
        timeouts={"request": "10s", "backendRequest": "1s"},
    ),
    {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "port": 1, "statusCode": 301}}]},
    hostnames=["shop.example"],
)
SHOP["status"] = statuses.route_status(SHOP, [({"name": "edge"}, [statuses.condition("Accepted", None)])], 0.0)
selector = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}
EDGE = gateway(
    listener(
        port=443,
        protocol="HTTPS",
        hostname="*.example",
        tls={"mode": "Terminate", "certificateRefs": [{"name": "tls", "namespace": "default"}]},
        allowedRoutes={"namespaces": {"from": "Same", "selector": selector}, "kinds": [{"kind": "HTTPRoute"}]},
    )
)
service: Object = {"service": {"name": "web", "port": {"name": "http"}}}
OLD = named(
    "old",
    {
        "rules": [
            {"host": "old.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]}}
        ],
        "tls": [{"hosts": ["old.example"], "secretName": "tls"}],
        "defaultBackend": service,
    },
)
origin = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "other"}
GRANT = named("grant", {"from": [origin], "to": [{"kind": "Service", "name": "web"}]})
ROW = {row.resource.kind: row for row in ROWS}


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each value inside, the containers included."""
    if where:
        yield where
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*where, key))


def cases(obj: Object) -> Iterator[tuple[tuple[Any, ...], Any, Object]]:
    for part in ("spec", "status"):
        for where in places(obj.get(part) or {}, ()):
            for value in VALUES:
                changed = copy.deepcopy(obj)
                at = changed[part]
                for step in where[:-1]:
                    at = at[step]
                at[where[-1]] = value
                yield where, value, changed


def is_refused(row: Row, obj: Object) -> bool:
    return bool(schema.check(row.strategy.schema, obj)[0] or row.strategy.validate(obj))


@pytest.mark.parametrize(
    ("kind", "obj"), [("HTTPRoute", SHOP), ("Gateway", EDGE), ("Ingress", OLD), ("ReferenceGrant", GRANT)]
)
def test_an_object_is_refused_or_compiled(kind: str, obj: Object) -> None:
    assert not is_refused(ROW[kind], obj)
    rest = [one for one in (SHOP, EDGE, OLD, GRANT) if one is not obj]
    taken = 0
    for where, value, changed in cases(obj):
        if is_refused(ROW[kind], changed):
            continue
        taken += 1
        try:
            found = compiled(changed, *rest, ports=TLS_PORTS)
            table = RouteTable(found.routes.entries)
            for host in ("shop.example", "old.example", ""):
                request = RouteRequest("https", host, "/a/x", "q=1", "GET", (("a", "1"),))
                if (entry := table.find(request)) is not None:
                    _use(entry, request)
        except Exception as exc:
            raise AssertionError(f"{kind} {where} = {value!r:.60}: {exc!r}") from exc
    assert taken > 20


def _use(entry: Any, request: RouteRequest) -> None:
    """What the proxy does with an entry; nothing that it sends has a line break of the tenant's."""
    target, host = filters.rewritten(entry.rule.rewrite, entry.match, request)
    sent = filters.changed([("host", "x")], entry.rule.request)
    texts = [target, host, *(text for field in sent for text in field)]
    if entry.rule.redirect is not None:
        texts.append(filters.location(entry.rule.redirect, entry.match, request, "shop.example"))
    for text in texts:
        assert text.isprintable() and text.isascii(), repr(text)
    assert entry.rule.timeout >= 0 and all(b.weight >= 0 for b in entry.rule.backends)
