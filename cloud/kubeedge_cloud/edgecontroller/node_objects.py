"""The objects of a node as it needs them: what the cloud copies to it, by key and value. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from kubeedge.api import edge_writes, keys, meta
from kubeedge.api.known_services import API_SERVER
from kubeedge.api.names import Object
from kubeedge.kubebus.http.access import MAX_TOKENS, MIN_TOKEN, hashed
from kubeedge_cloud.edgecontroller.core import UNREACHABLE

PUBLISH = "kubeedge.io/publish"  # annotation of a Service: the name of its web service


ACCESS = "kubeedge.io/access"  # public, tenant or token; absent: public


ACCESS_SECRET = "kubeedge.io/access-token-secret"  # name of a Secret beside the Service: each of its values is a token


_VALUES = 1000  # of a Secret with tokens that are looked at


_POD_METADATA = (
    "name", "namespace", "uid", "labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds", "finalizers",
    "creationTimestamp", "ownerReferences", "generation",
)  # fmt: skip


_NOT_SENT = (edge_writes.LAST_APPLIED, edge_writes.MERGED)  # annotations that only matter in the cloud


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # json.dumps would make one for every object


def canonical(obj: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Compact JSON with sorted keys: equal objects have equal bytes."""
    return _encoder.encode(obj).encode()


def pod(obj: Object) -> bytes:
    """A pod as its node needs it: no history, and of its status what others say of its readiness gates."""
    inner = {key: obj["metadata"][key] for key in _POD_METADATA if obj["metadata"].get(key) is not None}
    inner.pop("annotations", None)
    return canonical({"metadata": {**inner, **_annotations(obj)}, "spec": obj.get("spec", {}), **_gates(obj)})


def _gates(obj: Object) -> dict[str, Any]:
    """The conditions that readiness gates ask for, without their times and words, which change nothing."""
    gates = {gate.get("conditionType") for gate in obj.get("spec", {}).get("readinessGates") or ()}
    conditions = (obj.get("status") or {}).get("conditions") or () if gates else ()
    said = {str(c.get("type")): str(c.get("status")) for c in conditions if c.get("type") in gates}
    return {"status": {"conditions": [{"type": t, "status": s} for t, s in sorted(said.items())]}} if said else {}


def data_object(obj: Object) -> bytes:
    """The row of a ConfigMap or a Secret, as a node gets it."""
    kept = {key: obj[key] for key in ("data", "binaryData", "immutable", "type") if obj.get(key)}
    inner = {"name": meta.name_of(obj), "namespace": meta.namespace_of(obj), **_annotations(obj)}
    if labels := meta.labels_of(obj):
        inner["labels"] = labels
    return canonical({"metadata": inner, **kept})


def linked_service(obj: Object) -> bytes | None:
    """A Service as variables in the containers of its namespace show it; None: it has no address of its own."""
    spec = obj.get("spec") or {}
    address = spec.get("clusterIP")
    ports = [{k: port[k] for k in ("name", "port", "protocol") if k in port} for port in spec.get("ports") or ()]
    if not address or address == "None" or not ports:
        return None
    inner = {"name": meta.name_of(obj), "namespace": meta.namespace_of(obj)}
    return canonical({"metadata": inner, "spec": {"clusterIP": address, "ports": ports}})


def has_service_links(obj: Object) -> bool:
    """The pod's containers have variables for the Services of its namespace."""
    return (obj.get("spec") or {}).get("enableServiceLinks") is not False


def is_api_server(service: Object) -> bool:
    """The Service whose address every container has in its environment."""
    return (meta.namespace_of(service), meta.name_of(service)) == API_SERVER


def node(obj: Object) -> bytes:
    """A Node as its agent needs it: name, labels, annotations, taints but "unreachable", and whether it is cordoned."""
    inner = {key: v for key in ("name", "labels") if (v := obj["metadata"].get(key))} | _annotations(obj)
    # Whether the node is attached changes with every cut, and it is the last to need to hear of it.
    taints = [t for t in obj.get("spec", {}).get("taints") or () if t.get("key") != UNREACHABLE]
    cordoned = {"unschedulable": True} if obj.get("spec", {}).get("unschedulable") else {}
    return canonical({"metadata": inner, "spec": {"taints": taints, **cordoned}})


def _annotations(obj: Object) -> dict[str, Any]:
    found = {k: v for k, v in (obj["metadata"].get("annotations") or {}).items() if k not in _NOT_SENT}
    return {"annotations": found} if found else {}


def web_service(
    obj: Object,
    objects: Mapping[tuple[str, str, str], Object] = types.MappingProxyType({}),
    hashes: dict[tuple[str, str, str], list[str]] | None = None,
) -> tuple[str, bytes] | None:
    """(name, what a node needs to find the pods and to know who may use them) of an annotated Service. Of tokens, which are in `objects`
    as Secrets, only the hashes go to the node; `hashes` keeps those of Secrets that several Services have."""
    annotations = obj["metadata"].get("annotations") or {}
    name = publishes(obj)
    spec = obj.get("spec") or {}
    ports = spec.get("ports") or []
    if not name or not ports or not spec.get("selector"):
        return None
    target = ports[0].get("targetPort") or ports[0].get("port")
    value = {"namespace": meta.namespace_of(obj), "selector": spec["selector"], "port": target}
    if access := annotations.get(ACCESS):
        value["access"] = str(access)[:40]  # the node refuses what it does not know
    if access == "token":
        secret, known = token_secret(obj), {} if hashes is None else hashes
        if secret is not None and secret not in known:
            known[secret] = _hashes(objects.get(secret))
        value["tokens"] = known[secret] if secret else []
    return name, canonical(value)


def publishes(obj: Object) -> str:
    """The name that a Service is annotated to be published by, good or not; "" for none."""
    return str((obj["metadata"].get("annotations") or {}).get(PUBLISH) or "")


def token_secret(obj: Object) -> tuple[str, str, str] | None:
    """("secrets", namespace, name) with the tokens of a Service."""
    name = (obj["metadata"].get("annotations") or {}).get(ACCESS_SECRET)
    return ("secrets", meta.namespace_of(obj), str(name)) if name else None


def _hashes(secret: Object | None) -> list[str]:
    """Of the values that are long enough for a token; a file's last line feed is no part of it."""
    found = set()
    for value in islice(((secret or {}).get("data") or {}).values(), _VALUES):
        try:
            token = base64.b64decode(value, validate=True).decode("ascii").strip()
        except (ValueError, TypeError, binascii.Error):
            continue
        if len(token) >= MIN_TOKEN:
            found.add(hashed(token))
    return sorted(found)[:MAX_TOKENS]


def references(obj: Object) -> Iterator[tuple[str, str]]:
    """("configmaps" or "secrets", name) of everything that a pod refers to."""
    spec = obj.get("spec") or {}
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", str(secret.get("name", ""))
    for volume in spec.get("volumes") or ():
        yield from _volume(volume)
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "configMap" in source:
                yield "configmaps", str(source["configMap"].get("name", ""))
            if "secret" in source:
                yield "secrets", str(source["secret"].get("name", ""))
    for container in (
        c for kind in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(kind) or ()
    ):
        for source in container.get("envFrom") or ():
            if "configMapRef" in source:
                yield "configmaps", str(source["configMapRef"].get("name", ""))
            if "secretRef" in source:
                yield "secrets", str(source["secretRef"].get("name", ""))
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            if "configMapKeyRef" in source:
                yield "configmaps", str(source["configMapKeyRef"].get("name", ""))
            if "secretKeyRef" in source:
                yield "secrets", str(source["secretKeyRef"].get("name", ""))


def _volume(volume: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "configMap" in volume:
        yield "configmaps", str((volume["configMap"] or {}).get("name", ""))
    if "secret" in volume:
        yield "secrets", str((volume["secret"] or {}).get("secretName", ""))


def desired(
    node_object: Object | None,
    pods: Iterable[Object],
    objects: Mapping[tuple[str, str, str], Object],
    services: Iterable[Object],
    data: Callable[[tuple[str, str, str], Object], bytes] = lambda _, obj: data_object(obj),
) -> dict[str, bytes]:
    """Everything that one node should have: key below its desired prefix -> value.

    `objects` has ConfigMaps and Secrets by (resource, namespace, name); only what a pod of the node refers to is taken, and `data` gives its row.
    """
    wanted: dict[str, bytes] = {}
    pods, services = list(pods), list(services)
    linked = {meta.namespace_of(obj) for obj in pods if has_service_links(obj)}
    for service in services:
        namespace = meta.namespace_of(service)
        told = namespace in linked or (bool(pods) and is_api_server(service))
        if told and (copy := linked_service(service)) is not None:
            wanted[key("services", namespace, meta.name_of(service))] = copy
    for obj in pods:
        namespace = meta.namespace_of(obj)
        wanted[key("pods", namespace, meta.name_of(obj))] = pod(obj)
        for resource, name in dict.fromkeys(references(obj)):  # each variable of a container is one
            row = key(resource, namespace, name)
            if row not in wanted and (found := objects.get((resource, namespace, name))) is not None:
                wanted[row] = data((resource, namespace, name), found)
    hashes: dict[tuple[str, str, str], list[str]] = {}
    for service in sorted(services, key=age):  # of two Services that publish one name, the older one has it
        if (published := web_service(service, objects, hashes)) is not None and any(
            _is_behind(service, obj) for obj in pods
        ):
            wanted.setdefault(key("webservices", "", published[0]), published[1])
    if node_object is not None:
        wanted[key("nodes", "", meta.name_of(node_object))] = node(node_object)
    return wanted


def age(service: Object) -> tuple[str, str, str]:
    """The order in which Services get a name that several of them publish: the oldest is the first."""
    stamp = str(service["metadata"].get("creationTimestamp") or "")
    return stamp, meta.namespace_of(service), meta.name_of(service)


def _is_behind(service: Object, obj: Object) -> bool:
    """The Service would send requests to this pod, if it is ready."""
    if meta.namespace_of(obj) != meta.namespace_of(service):
        return False
    if (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    selector: dict[str, str] = service["spec"]["selector"]
    return selector.items() <= meta.labels_of(obj).items()


def key(resource: str, namespace: str, name: str) -> str:
    """The key of an object below the desired prefix of its node."""
    return keys.desired(resource, namespace, name).removeprefix(keys.DESIRED)
