"""Gateways and Ingresses that listen on nodes: which node serves which of them, a table of routes for each node, and the status of each object. Pure.

A GatewayClass of controller kubeedge.io/node-gateway, or an IngressClass of kubeedge.io/node-ingress, is for the nodes that its annotation
`kubeedge.io/nodes` selects by their labels, of those that say that they serve Gateways; all of them, without one. The same annotation of a Gateway or an
Ingress chooses among those. A class is the administrator's: no Gateway is on a node that its class does not allow.

Where several nodes serve one object, its status is that of the node where least of it works.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from kubeedge.api import gateway, meta, selectors
from kubeedge.api.names import NamespacedName, NodeName, Object, TenantId
from kubeedge.errors import Invalid
from kubeedge.gateway.model import CompiledRoutes
from kubeedge.gateway.reports import ListenReport
from kubeedge_cloud.gateway import conditions, ingresses
from kubeedge_cloud.gateway.conditions import NODE_CONTROLLER
from kubeedge_cloud.gateway.core import WITH_STATUS, Compilation, compile_routes
from kubeedge_cloud.gateway.features import supported
from kubeedge_cloud.gateway.ports import GatewayPorts
from kubeedge_cloud.gateway.references import GatewayObjects, oldest

NODES = "kubeedge.io/nodes"  # annotation: a label selector, as kubectl -l has it
_MAX_SELECTOR = 1024  # characters; each of thousands of objects has one, which is asked of each node
MAX_SITES = 32  # nodes of one tenant that serve Gateways
_ROUTES = (gateway.HTTPROUTES, gateway.TLSROUTES, gateway.TCPROUTES)
_NOBODY = f"no node that serves Gateways (modules.mesh.gateways) has labels that {NODES} selects, a label selector as `kubectl -l` has it"


@dataclass(frozen=True, slots=True)
class NodeSite:
    """A node that serves Gateways: its labels, and where it listens."""

    name: NodeName
    labels: Mapping[str, str]
    listens: ListenReport

    @property
    def ports(self) -> GatewayPorts:
        """What Gateways may listen at there."""
        addresses = tuple(self.listens.addresses)
        return GatewayPorts(addresses=addresses, per_tenant=len(addresses), every=bool(self.listens.address))


@dataclass(slots=True)
class NodeCompilation:
    """`tables`: of each node that has something to serve. `statuses` and `faults` as of a Compilation."""

    tables: dict[NodeName, CompiledRoutes] = field(default_factory=dict)
    statuses: dict[str, dict[NamespacedName, Object]] = field(default_factory=dict)
    faults: dict[NamespacedName, list[str]] = field(default_factory=dict)


def concerned(objects: GatewayObjects) -> bool:
    """Some class is for nodes; without one there is nothing to look at, but what once was is taken back."""
    return any(conditions.is_ours(c, NODE_CONTROLLER) for c in objects.classes) or any(
        ingresses.controller_of(c) == ingresses.NODE_INGRESS_CONTROLLER for c in objects.ingressclasses
    )


def compile_nodes(
    tenant: TenantId, objects: GatewayObjects, sites: Sequence[NodeSite], before: Compilation, now: float
) -> NodeCompilation:
    """`before`: what was made for the cloud, whose part of the status of routes stays. `now` in seconds since 1970."""
    steps = compile_in_steps(tenant, objects, sites, before, now)
    while (found := next(steps)) is None:
        pass
    return found


def compile_in_steps(
    tenant: TenantId, objects: GatewayObjects, sites: Sequence[NodeSite], before: Compilation, now: float
) -> Iterator[NodeCompilation | None]:
    """The same, after as many None as there are nodes: each is as much work as all that is for the cloud."""
    return _NodeCompiler(tenant, objects, sites, before, now).run()


class _NodeCompiler:
    def __init__(
        self, tenant: TenantId, objects: GatewayObjects, sites: Sequence[NodeSite], before: Compilation, now: float
    ) -> None:
        self._tenant, self._now = tenant, now
        self._sites = sorted(sites, key=lambda site: site.name)[:MAX_SITES]
        self._classes = {meta.name_of(c): c for c in objects.classes if conditions.is_ours(c, NODE_CONTROLLER)}
        self._ingressclasses = {
            meta.name_of(c): c
            for c in objects.ingressclasses
            if ingresses.controller_of(c) == ingresses.NODE_INGRESS_CONTROLLER
        }
        self._objects = replace(
            objects,
            classes=list(self._classes.values()),
            gateways=[g for g in objects.gateways if (g.get("spec") or {}).get("gatewayClassName") in self._classes],
            routes=_with(objects.routes, before.statuses[gateway.HTTPROUTES.plural]),
            tlsroutes=_with(objects.tlsroutes, before.statuses[gateway.TLSROUTES.plural]),
            tcproutes=_with(objects.tcproutes, before.statuses[gateway.TCPROUTES.plural]),
            ingresses=[i for i in objects.ingresses if ingresses.class_of(i) in self._ingressclasses],
        )
        self._found = NodeCompilation(statuses={resource.plural: {} for resource in WITH_STATUS})
        self._parents: dict[tuple[str, NamespacedName], dict[str, Object]] = {}
        self._bases: dict[tuple[str, NamespacedName], list[Object]] = {}

    def run(self) -> Iterator[NodeCompilation | None]:
        served: set[tuple[str, NamespacedName]] = set()
        for site in self._sites:
            gateways = [g for g in self._objects.gateways if self._is_at(site, g, self._class_of_gateway(g))]
            of_ingress = [i for i in self._objects.ingresses if self._is_at(site, i, self._class_of_ingress(i))]
            served.update(("Gateway", _key(found)) for found in gateways)
            served.update(("Ingress", _key(found)) for found in of_ingress)
            if gateways or of_ingress:
                made = self._compiled(site, gateways, of_ingress)
                self._found.tables[site.name] = made.routes
                self._take(made)
            yield None
        gateways = [g for g in self._objects.gateways if ("Gateway", _key(g)) not in served]
        of_ingress = [i for i in self._objects.ingresses if ("Ingress", _key(i)) not in served]
        self._take(self._compiled(None, gateways, of_ingress))  # takes back what routes once had, too
        self._routes()
        features = supported(
            GatewayPorts(
                addresses=tuple(a for site in self._sites for a in site.listens.addresses)[:1],
                every=any(site.listens.address for site in self._sites),
            )
        )
        self._found.statuses[gateway.GATEWAYCLASSES.plural] = {
            _key(found): conditions.class_status(found, features, self._now) for found in self._classes.values()
        }
        yield self._found

    def _class_of_gateway(self, found: Object) -> Object:
        return self._classes[str(found["spec"]["gatewayClassName"])]

    def _class_of_ingress(self, found: Object) -> Object:
        return self._ingressclasses[ingresses.class_of(found)]

    @staticmethod
    def _is_at(site: NodeSite, found: Object, of_class: Object) -> bool:
        return _selects(of_class, site.labels) and _selects(found, site.labels)

    def _compiled(self, site: NodeSite | None, gateways: Sequence[Object], of_ingress: Sequence[Object]) -> Compilation:
        listens = site.listens if site is not None else ListenReport()
        return compile_routes(
            self._tenant,
            replace(self._objects, gateways=gateways, ingresses=of_ingress),
            site.ports if site is not None else GatewayPorts(every=True),
            taken={},
            failed=listens.failed,
            addresses=[listens.address] if listens.address else [],
            now=self._now,
            controller=NODE_CONTROLLER,
            nowhere="" if site is not None else _NOBODY,
        )

    def _take(self, made: Compilation) -> None:
        """What is said of an object on one node, beside what was said of it on others."""
        for key, status in made.statuses[gateway.GATEWAYS.plural].items():
            known = self._found.statuses[gateway.GATEWAYS.plural]
            known[key] = _together(known[key], status, "addresses") if key in known else status
        for key, status in made.statuses[gateway.INGRESSES.plural].items():
            known = self._found.statuses[gateway.INGRESSES.plural]
            entries = known.get(key, status)["loadBalancer"]["ingress"]
            entries += [e for e in status["loadBalancer"]["ingress"] if e not in entries]
            known[key] = {"loadBalancer": {"ingress": entries}}
        for key, faults in made.faults.items():
            have = self._found.faults.setdefault(key, [])
            have += [text for text in faults if text not in have]
        for resource in _ROUTES:
            for key, status in made.statuses[resource.plural].items():
                whose = (resource.plural, key)
                self._bases[whose] = [p for p in status["parents"] if p.get("controllerName") != NODE_CONTROLLER]
                parents = self._parents.setdefault(whose, {})
                for parent in status["parents"]:
                    if parent.get("controllerName") == NODE_CONTROLLER:
                        ref = json.dumps(parent.get("parentRef"), sort_keys=True)
                        if ref not in parents or _bad(parent["conditions"]) > _bad(parents[ref]["conditions"]):
                            parents[ref] = parent

    def _routes(self) -> None:
        for (plural, key), bases in self._bases.items():
            self._found.statuses[plural][key] = {"parents": [*bases, *self._parents[plural, key].values()]}


def _with(objects: Sequence[Object], statuses: Mapping[NamespacedName, Object]) -> list[Object]:
    """As they will be once the cloud's part of their status is written."""
    return [{**o, "status": statuses[_key(o)]} if _key(o) in statuses else o for o in oldest(objects)]


def _together(one: Object, other: Object, united: str) -> Object:
    """The worse one, with the addresses of both, as many as there may be."""
    worse = other if _badness(other) > _badness(one) else one
    first: Sequence[Object] = one.get(united) or ()
    every = [*first, *(a for a in other.get(united) or () if a not in first)]
    return {**worse, united: every[: conditions.MAX_ADDRESSES]}


def _badness(status: Object) -> int:
    listeners: Collection[Object] = status.get("listeners") or ()
    return _bad(status["conditions"]) + sum(_bad(listener["conditions"]) for listener in listeners)


def _bad(found: Sequence[Object]) -> int:
    return sum(1 for c in found if (c.get("status") == "True") == (c.get("type") in ("Conflicted", "PartiallyInvalid")))


def _selects(found: Object, labels: Mapping[str, str]) -> bool:
    text = (meta.metadata(found).get("annotations") or {}).get(NODES)
    if text is None:
        return True
    if len(str(text)) > _MAX_SELECTOR:
        return False
    try:
        return _parsed(str(text)).matches(labels)
    except Invalid:
        return False


@lru_cache(maxsize=256)
def _parsed(text: str) -> selectors.LabelSelector:
    """The same ones are asked of each node."""
    return selectors.parse_labels(text)


def _key(obj: Object) -> NamespacedName:
    return meta.namespace_of(obj), meta.name_of(obj)
