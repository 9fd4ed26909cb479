"""Which Services and EndpointSlices a node has, and what of them (ADR 45). Pure.

Those of the namespaces of its pods, of `default`, and of the namespaces that its pods name in "NAME.NAMESPACE.svc" in their environment, command
or arguments; or of those that the node's annotation `kubeedge.io/mesh-namespaces` lists, "*" for all. A node that runs no service proxy has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from kubeedge.api import keys, meta
from kubeedge.api.known_services import OTHER_PROXY
from kubeedge.api.names import Object
from kubeedge_cloud.edgecontroller.node_objects import canonical

ALL = "*"
NAMESPACES = "kubeedge.io/mesh-namespaces"  # annotation of a Node: more namespaces, separated by commas
REPORT = f"conditions/{keys.CLUSTER_SCOPE}/mesh"  # a node with a service proxy has this report
_HOME = "default"  # where the API server is a Service
_NAMED = re.compile(r"[a-z0-9]\.([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.svc\b")
_SPEC = (
    "clusterIP", "clusterIPs", "externalIPs", "externalName", "externalTrafficPolicy", "healthCheckNodePort", "internalTrafficPolicy",
    "ipFamilies", "loadBalancerSourceRanges", "ports", "publishNotReadyAddresses", "selector", "sessionAffinity", "sessionAffinityConfig",
    "trafficDistribution", "type",
)  # fmt: skip
_ENDPOINT = ("addresses", "conditions", "hints", "hostname", "nodeName", "zone")


def namespaces(node: Object | None, pods: Iterable[Object]) -> frozenset[str]:
    """The namespaces whose Services a node has; {"*"} stands for all."""
    found = {_HOME}
    listed = str((meta.metadata(node or {}).get("annotations") or {}).get(NAMESPACES) or "")
    found |= {name.strip() for name in listed.split(",") if name.strip()}
    if ALL in found:
        return frozenset((ALL,))
    for pod in pods:
        found.add(meta.namespace_of(pod))
        for text in _texts(pod):
            found.update(_NAMED.findall(text))
    return frozenset(found)


def _texts(pod: Object) -> Iterator[str]:
    spec = pod.get("spec") or {}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        yield from (str(word) for key in ("command", "args") for word in container.get(key) or ())
        yield from (str(variable.get("value") or "") for variable in container.get("env") or ())


def service(obj: Object) -> bytes:
    """What a node needs of it."""
    spec = {key: value for key in _SPEC if (value := (obj.get("spec") or {}).get(key)) is not None}
    status = {}
    if ingress := ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
        status = {"status": {"loadBalancer": {"ingress": ingress}}}
    labels = {name: value for name, value in meta.labels_of(obj).items() if name in OTHER_PROXY}
    inner = {**_metadata(obj), **({"labels": labels} if labels else {})}
    return canonical({"metadata": inner, "spec": spec, **status})


def endpoint_slice(obj: Object) -> bytes:
    """What a node needs of it."""
    endpoints = [{key: e[key] for key in _ENDPOINT if e.get(key) is not None} for e in obj.get("endpoints") or ()]
    inner = {**_metadata(obj), "labels": meta.labels_of(obj)}
    return canonical(
        {
            "metadata": inner,
            "addressType": obj.get("addressType"),
            "endpoints": endpoints,
            "ports": obj.get("ports") or [],
        }
    )


def _metadata(obj: Object) -> Object:
    return {"name": meta.name_of(obj), "namespace": meta.namespace_of(obj)}


class Catalogue:
    """All of them, encoded once for all nodes, by namespace."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, bytes]] = {}

    def changed(self, resource: str, before: Object | None, after: Object | None) -> bool:
        """Whether something changed that a node needs."""
        obj = after or before or {}
        namespace = meta.namespace_of(obj)
        key = keys.desired(resource, namespace, meta.name_of(obj)).removeprefix(keys.DESIRED)
        values = self._values.setdefault(namespace, {})
        old = values.get(key)
        if after is None:
            values.pop(key, None)
            if not values:
                del self._values[namespace]
            return old is not None
        values[key] = service(after) if resource == "services" else endpoint_slice(after)
        return values[key] != old

    def of(self, namespaces: frozenset[str]) -> Mapping[str, bytes]:
        """Key below a node's desired prefix -> value."""
        found: dict[str, bytes] = {}
        for namespace in self._values if ALL in namespaces else namespaces:
            found |= self._values.get(namespace, {})
        return found
