"""The columns of `kubectl get` for the built-in resources, and the cells of an object. Pure.

Lives elsewhere: the Table and its rows (tables.py), what STATUS of a pod says (pod_columns.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import Column, Printer
from kubeedge.apiserver.core import selector_text
from kubeedge.apiserver.durations import age, since
from kubeedge.apiserver.pod_columns import pod_cells

NONE = "<none>"


def _name(obj: Object) -> str:
    return meta.name_of(obj)


def _age(obj: Object, now: float) -> str:
    return age(meta.metadata(obj).get("creationTimestamp"), now)


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _status(obj: Object) -> Object:
    return obj.get("status") or {}


def _node(obj: Object, now: float) -> Sequence[Any]:
    status = _status(obj)
    ready = next((c.get("status") for c in status.get("conditions") or [] if c.get("type") == "Ready"), None)
    text = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    if any(c.get("type") == "KubeBusReady" and c.get("status") == "False" for c in status.get("conditions") or []):
        text += ",KubeBusNotReady"  # pods run, and neither logs nor published services reach it
    if _spec(obj).get("unschedulable"):
        text += ",SchedulingDisabled"
    roles: set[str] = set()
    for key, value in meta.labels_of(obj).items():
        if key.startswith("node-role.kubernetes.io/") and len(key) > 24:
            roles.add(key[24:])
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    info = status.get("nodeInfo") or {}

    def address(kind: str) -> str:
        return next((str(a.get("address")) for a in status.get("addresses") or [] if a.get("type") == kind), NONE)

    return (
        _name(obj),
        text,
        ",".join(sorted(roles)) or NONE,
        _age(obj, now),
        info.get("kubeletVersion") or "",
        address("InternalIP"),
        address("ExternalIP"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    )


def _template_cells(obj: Object) -> tuple[str, str, str]:
    spec = _spec(obj)
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or []
    return (
        ",".join(str(c.get("name", "")) for c in containers),
        ",".join(str(c.get("image", "")) for c in containers),
        selector_text(spec.get("selector")),
    )


def _deployment(obj: Object, now: float) -> Sequence[Any]:
    status = _status(obj)
    ready = f"{status.get('readyReplicas', 0)}/{_spec(obj).get('replicas', 0)}"
    return (
        _name(obj),
        ready,
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj, now),
        *_template_cells(obj),
    )


def _replicaset(obj: Object, now: float) -> Sequence[Any]:
    status = _status(obj)
    return (
        _name(obj),
        _spec(obj).get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        _age(obj, now),
        *_template_cells(obj),
    )


def _daemonset(obj: Object, now: float) -> Sequence[Any]:
    status = _status(obj)
    nodes = ((_spec(obj).get("template") or {}).get("spec") or {}).get("nodeSelector") or {}
    return (
        _name(obj),
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        selector_text({"matchLabels": nodes}) or NONE,
        _age(obj, now),
        *_template_cells(obj),
    )


def _service(obj: Object, now: float) -> Sequence[Any]:
    spec = _spec(obj)
    external = [str(address) for address in spec.get("externalIPs") or []]
    if spec.get("type") == "ExternalName":
        external = [str(spec.get("externalName", ""))]
    ingress = (_status(obj).get("loadBalancer") or {}).get("ingress") or []
    external += [str(i.get("ip") or i.get("hostname") or "") for i in ingress]
    waiting = "<pending>" if spec.get("type") == "LoadBalancer" else NONE
    ports = [
        f"{p.get('port')}:{p['nodePort']}/{p.get('protocol')}"
        if p.get("nodePort")
        else f"{p.get('port')}/{p.get('protocol')}"
        for p in spec.get("ports") or []
    ]
    return (
        _name(obj),
        spec.get("type", ""),
        spec.get("clusterIP") or NONE,
        ",".join(external) or waiting,
        ",".join(ports) or NONE,
        _age(obj, now),
        selector_text({"matchLabels": spec.get("selector") or {}}) or NONE,
    )


def _configmap(obj: Object, now: float) -> Sequence[Any]:
    return _name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj, now)


def _secret(obj: Object, now: float) -> Sequence[Any]:
    return _name(obj), obj.get("type", ""), len(obj.get("data") or {}), _age(obj, now)


def _namespace(obj: Object, now: float) -> Sequence[Any]:
    return _name(obj), _status(obj).get("phase", ""), _age(obj, now)


def _serviceaccount(obj: Object, now: float) -> Sequence[Any]:
    return _name(obj), len(obj.get("secrets") or []), _age(obj, now)


def _endpoints(obj: Object, now: float) -> Sequence[Any]:
    found: list[str] = []
    count = 0
    for subset in obj.get("subsets") or []:
        ports, addresses = subset.get("ports") or [{}], subset.get("addresses") or []
        count += len(addresses) * len(ports)  # 5,000 of both fit into an object
        for address, port in itertools.islice(itertools.product(addresses, ports), max(0, 3 - len(found))):
            found.append(f"{address.get('ip')}:{port['port']}" if "port" in port else str(address.get("ip")))
    shown = ",".join(found)
    if count > 3:
        shown += f" + {count - 3} more..."
    return _name(obj), shown or NONE, _age(obj, now)


def _endpointslice(obj: Object, now: float) -> Sequence[Any]:
    ports = [str(port.get("port", "*")) for port in obj.get("ports") or []]
    found = [str(address) for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []]
    shown = ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")
    return _name(obj), obj.get("addressType"), ",".join(ports) or "<unset>", shown or "<unset>", _age(obj, now)


def _networkpolicy(obj: Object, now: float) -> Sequence[Any]:
    return _name(obj), selector_text(_spec(obj).get("podSelector")) or NONE, _age(obj, now)


def _lease(obj: Object, now: float) -> Sequence[Any]:
    return _name(obj), _spec(obj).get("holderIdentity") or "", _age(obj, now)


def _event(obj: Object, now: float) -> Sequence[Any]:
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    series = obj.get("series") or {}
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    count = series.get("count") or obj.get("count") or 1
    seen = age(last, now)
    if count > 1 and first:
        seen = f"{seen} (x{count} over {age(first, now)})"
    involved = obj.get("involvedObject") or {}
    source = obj.get("source") or {}
    return (
        seen,
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}",
        involved.get("fieldPath", ""),
        ", ".join(filter(None, (source.get("component") or obj.get("reportingComponent"), source.get("host")))),
        str(obj.get("message", "")).strip(),
        age(first, now) if first else since(None),
        count,
        _name(obj),
    )


def columns(text: str) -> list[Column]:
    """ "Name, Data:integer, Age | Containers": after the bar, only with -o wide."""
    found: list[Column] = []
    narrow, _, wide = text.partition("|")
    for part, is_wide in ((narrow, False), (wide, True)):
        for name in filter(None, (item.strip() for item in part.split(","))):
            title, _, kind = name.partition(":")
            found.append(Column(title, kind or "string", is_wide))
    return found


_WORKLOAD_WIDE = "| Containers, Images, Selector"
_EVENT_COLUMNS = [
    Column("Last Seen"),
    Column("Type"),
    Column("Reason"),
    Column("Object"),
    Column("Subobject", wide=True),
    Column("Source", wide=True),
    Column("Message"),
    Column("First Seen", wide=True),
    Column("Count", "integer", wide=True),
    Column("Name", wide=True),
]
PODS = Printer(columns("Name, Ready, Status, Restarts, Age | IP, Node, Nominated Node, Readiness Gates"), pod_cells)
NODES = Printer(
    columns(
        "Name, Status, Roles, Age, Version | Internal-IP, External-IP, OS-Image, Kernel-Version, Container-Runtime"
    ),
    _node,
)
SERVICES = Printer(columns("Name, Type, Cluster-IP, External-IP, Port(s), Age | Selector"), _service)
CONFIGMAPS = Printer(columns("Name, Data:integer, Age"), _configmap)
SECRETS = Printer(columns("Name, Type, Data:integer, Age"), _secret)
NAMESPACES = Printer(columns("Name, Status, Age"), _namespace)
SERVICEACCOUNTS = Printer(columns("Name, Secrets:integer, Age"), _serviceaccount)
ENDPOINTS = Printer(columns("Name, Endpoints, Age"), _endpoints)
ENDPOINTSLICES = Printer(columns("Name, AddressType, Ports, Endpoints, Age"), _endpointslice)
EVENTS = Printer(_EVENT_COLUMNS, _event)
DEPLOYMENTS = Printer(columns("Name, Ready, Up-to-date:integer, Available:integer, Age" + _WORKLOAD_WIDE), _deployment)
REPLICASETS = Printer(
    columns("Name, Desired:integer, Current:integer, Ready:integer, Age" + _WORKLOAD_WIDE), _replicaset
)
DAEMONSETS = Printer(
    columns(
        "Name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, "
        "Node Selector, Age" + _WORKLOAD_WIDE
    ),
    _daemonset,
)
NETWORKPOLICIES = Printer(columns("Name, Pod-Selector, Age"), _networkpolicy)
LEASES = Printer(columns("Name, Holder, Age"), _lease)
