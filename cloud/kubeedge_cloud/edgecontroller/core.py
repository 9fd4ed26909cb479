"""What a Node object and the pods of a node say: conditions, taints, status. Pure: objects in, objects out.

Lives elsewhere: what a node gets (node_objects.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.node_registration import NOTHING, NodeRegistration

MANAGED = "kubeedge.io/managed"  # annotation of a Node that was made here: it goes with the node's record
EMBEDDED = "true"  # its value in the embedded API; in a cluster there may be several of us
UNREACHABLE = "node.kubernetes.io/unreachable"
KUBEBUS_READY = "KubeBusReady"  # condition of a Node: it has a link to a relay
RUNTIME_READY = "ContainerRuntimeReady"  # condition of a Node: it can start containers
SERVICES_READY = "ServiceProxyReady"  # condition of a Node: names and addresses of Services work on it
POLICIES_READY = "NetworkPolicyReady"  # condition of a Node: policies of its pods are enforced
SECRETS_ENCRYPTED = "SecretsEncrypted"  # condition of a Node: no Secret is plain on its disk
IMAGE_UPDATED = "ImageUpdated"  # condition of a Node that was started from a card: its image is the one that is wanted
POD_IPV6_READY = (
    "PodIPv6Ready"  # condition of a Node: its pods have addresses of IPv6, where the cloud has some for them
)
#: by name of the report
REPORTED_CONDITIONS = {
    "kubebus": KUBEBUS_READY,
    "containerruntime": RUNTIME_READY,
    "secretsencryption": SECRETS_ENCRYPTED,
    "mesh": SERVICES_READY,
    "networkpolicy": POLICIES_READY,
    "podipv6": POD_IPV6_READY,
    "imageupdate": IMAGE_UPDATED,
}
PRESSURES = {  # by name of the report: condition, taint
    "memorypressure": ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    "diskpressure": ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    "pidpressure": ("PIDPressure", "node.kubernetes.io/pid-pressure"),
}
_PRESSURE_KINDS = frozenset(kind for kind, _ in PRESSURES.values())
_UNKNOWN = {"status": "Unknown", "reason": "NodeStatusUnknown", "message": "edge agent's channel is not attached"}
_UNSAID = {
    "status": "False",
    "reason": "KubeletNotReady",
    "message": "the edge agent has not reported the node's status yet",
}
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
EVENT_LIFE = 3600.0  # seconds: the API keeps no event longer, so one that was there is not brought there again
_NODE_REPORT: Mapping[str, type] = {
    "capacity": dict,
    "allocatable": dict,
    "nodeInfo": dict,
    "addresses": list,
    "daemonEndpoints": dict,
    "images": list,
}
#: of a pod, that its node alone writes: one that it does not speak of any more is over
_NODES_OF_POD = frozenset(
    "PodReadyToStartContainers Initialized Ready ContainersReady PodResizePending PodResizeInProgress".split()
)
_OTHERS_STATUS = ("nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus")  # of a pod


def new_node(
    name: str, pod_cidrs: Sequence[str] = (), owner: str = EMBEDDED, registration: NodeRegistration = NOTHING
) -> Object:
    """A Node for a machine that has just joined; without `pod_cidrs` the cluster allocates them. `registration`: what the machine said of it."""
    taints = [dict(taint) for taint in registration.taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/edge": "",
                "node-role.kubernetes.io/edge": "",
                "node-role.kubernetes.io/agent": "",
                **registration.labels,
            },
            "annotations": {MANAGED: owner},
        },
        "spec": {
            **({"podCIDR": pod_cidrs[0], "podCIDRs": list(pod_cidrs)} if pod_cidrs else {}),
            **({"taints": taints} if taints else {}),
        },
    }


def is_managed(obj: Object, owner: str = EMBEDDED) -> bool:
    """The Node was made from a node record of that owner, and is deleted with it."""
    return (obj["metadata"].get("annotations") or {}).get(MANAGED) == owner


def names_its_owner(obj: Object) -> bool:
    """The Node says whose it is."""
    return MANAGED in (obj["metadata"].get("annotations") or {})


def node_report(status: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a reported status that a machine may set itself. Its readiness is not among it."""
    return {key: status[key] for key, kind in _NODE_REPORT.items() if isinstance(status.get(key), kind)}


def with_report(status: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """The Node's status with what the machine reports of itself. Extended resources that others advertise stay: their names have a domain."""
    merged = {**status, **report}
    for key in ("capacity", "allocatable"):
        if key in report:
            others = {name: amount for name, amount in (status.get(key) or {}).items() if "/" in name}
            merged[key] = {**others, **report[key]}
    if isinstance(info := report.get("nodeInfo"), Mapping):  # an API server shows what was not said as ""
        unsaid = {name: "" for name, said in (status.get("nodeInfo") or {}).items() if said == ""}
        merged["nodeInfo"] = {**unsaid, **info}
    return merged


def differs_in_report(before: Object | None, after: Object | None) -> bool:
    """Whether two versions of a Node differ in what its machine reports of itself, or in its readiness; False without two."""
    return before is not None and after is not None and _reported_part(before) != _reported_part(after)


def _reported_part(node: Object) -> tuple[object, ...]:
    status = node.get("status") or {}
    ready = [c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"]
    labels = node["metadata"].get("labels") or {}
    return node_report(status), ready, {name: labels.get(name) for name in node_labels(status)}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `after` of `before`; {}: they are equal. Lists are replaced as a whole."""
    patch: dict[str, Any] = {key: None for key in before.keys() - after.keys()}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := changes(old, value):
                patch[key] = inner
        elif value != old or key not in before:
            patch[key] = value
    return patch


def event(obj: Mapping[str, Any], node: str, namespace: str, name: str) -> Object | None:
    """The Event to keep; None for what is not one, or is about another node."""
    involved = obj.get("involvedObject")
    if not isinstance(involved, dict) or meta.parse_timestamp(obj.get("lastTimestamp")) is None:
        return None
    if involved.get("kind") == "Node" and involved.get("name") != node:
        return None
    source = obj.get("source")
    component = source.get("component") if isinstance(source, dict) else None
    return {
        **obj,
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "source": {"component": str(component or "kubelet")[:128], "host": node},
    }


def with_plausible_times(event: Object, arrived: float, *, backlog: bool) -> Object:
    """An Event cannot have happened after it arrived; nor more than an hour before, unless it is of the `backlog` of a node that was away. A clock
    that says so is wrong, and its times are moved as a whole, in whole seconds."""
    last = meta.parse_timestamp(event["lastTimestamp"]) or 0.0
    if last <= arrived and (backlog or last >= arrived - EVENT_LIFE):
        return event
    off = int(arrived) - last
    moved = {"lastTimestamp": meta.timestamp(last + off)}
    if (first := meta.parse_timestamp(event.get("firstTimestamp"))) is not None:
        moved["firstTimestamp"] = meta.timestamp(max(0.0, min(first, last) + off))
    return {**event, **moved}


def is_over(event: Object, now: float) -> bool:
    """The API has kept it for as long as it keeps events."""
    return (meta.parse_timestamp(event["lastTimestamp"]) or 0.0) < now - EVENT_LIFE


def node_labels(status: Mapping[str, Any]) -> dict[str, str]:
    """Labels that only the machine itself knows."""
    info = status.get("nodeInfo")
    if not isinstance(info, dict):
        return {}
    return {
        "kubernetes.io/os": str(info.get("operatingSystem", "")),
        "kubernetes.io/arch": str(info.get("architecture", "")),
    }


def is_reported(status: Mapping[str, Any]) -> bool:
    """The node has said what it is. An API server shows a nodeInfo of empty strings before that."""
    info = status.get("nodeInfo")
    return isinstance(info, Mapping) and any(info.values())


def ready_condition(
    attached: bool,
    previous: Mapping[str, Any] | None,
    now: str,
    runtime: Mapping[str, Any] | None = None,
    *,
    reported: bool,
) -> dict[str, Any]:
    """Kubernetes' Ready condition of a node. `runtime`: its condition ContainerRuntimeReady, if it has one; `reported`: it has said what it
    is."""
    heard = (runtime or {}).get("status", "True")
    if not attached:
        ready = _UNKNOWN
    elif not reported:
        ready = _UNSAID
    elif heard == "False":
        message = f"container runtime is down: {(runtime or {}).get('message', '')}"
        ready = {"status": "False", "reason": "KubeletNotReady", "message": message}
    elif heard == "Unknown" and previous is not None:
        return dict(previous)  # it is back, and its word of the runtime, which counts again, is looked at next
    else:
        ready = {"status": "True", "reason": "KubeletReady", "message": "edge agent attached"}
    return _moved(previous, {"type": "Ready", **ready}, now)


def is_given_up(node: Object) -> bool:
    """Whether a cluster's lifecycle controller has not heard of the node for too long."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "Unknown" for c in conditions)


def with_ready(status: Mapping[str, Any], attached: bool, now: str) -> dict[str, Any]:
    """The node's status with its conditions; the other conditions say that nothing presses. A node that has not reported yet what it has, and
    would get pods that it cannot run, is not Ready."""
    before = {c.get("type"): c for c in status.get("conditions") or ()}
    conditions = []
    for kind, text in (
        ("MemoryPressure", "sufficient memory"),
        ("DiskPressure", "sufficient disk"),
        ("PIDPressure", "sufficient process ids"),
    ):
        kept = before.get(kind)
        conditions.append(
            kept
            or {
                "type": kind,
                "status": "False",
                "reason": f"No{kind}",
                "message": text,
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
        )
    ready = ready_condition(attached, before.get("Ready"), now, before.get(RUNTIME_READY), reported=is_reported(status))
    conditions.append(ready)
    for kind in REPORTED_CONDITIONS.values():
        if (known := before.get(kind)) is not None:
            conditions.append(known if attached else _moved(known, {**known, **_UNKNOWN}, now))
    ours = {condition["type"] for condition in conditions} | set(REPORTED_CONDITIONS.values())
    conditions += [c for kind, c in before.items() if kind not in ours]  # a node problem detector's, say
    return {**status, "conditions": conditions}


def reported_condition(kind: str, report: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a node says of its links or its runtime; None for what is no such thing."""
    status, reason, message = (report.get(key) for key in ("status", "reason", "message"))
    if report.get("type") != kind or status not in ("True", "False"):
        return None
    if not isinstance(reason, str) or not _REASON.fullmatch(reason) or not isinstance(message, str):
        return None
    return {"type": kind, "status": status, "reason": reason, "message": message[:256]}


def with_reported(
    status: Mapping[str, Any], kind: str, condition: Mapping[str, Any] | None, now: str
) -> dict[str, Any]:
    """The status of an attached node that reported this; None: it has no such part."""
    before = {c.get("type"): c for c in status.get("conditions") or ()}
    others = [c for c in status.get("conditions") or () if c.get("type") != kind]
    if condition is None and kind in _PRESSURE_KINDS and before.get(kind, {}).get("status") == "False":
        condition = before[kind]  # a node that says nothing of it has none
    if condition is not None:
        others.append(_moved(before.get(kind), condition, now))
    return with_ready({**status, "conditions": others}, True, now)


def condition_event(condition: Mapping[str, Any]) -> tuple[str, bool]:
    """The reason of the Event for it, and whether that is a warning."""
    if condition["type"] in _PRESSURE_KINDS:
        return str(condition["reason"]).replace("Kubelet", "Node"), condition["status"] == "True"
    if condition["reason"] == "AddressConflict":
        return "KubeBusAddressConflict", True
    well = condition["status"] == "True"
    kind = str(condition["type"])
    return (kind if well else f"{kind.removesuffix('Ready')}NotReady"), not well


def _moved(previous: Mapping[str, Any] | None, condition: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The condition with its times: that of the transition moves when the status does."""
    same = previous is not None and previous.get("status") == condition["status"]
    kept = previous if same and previous is not None else {}
    times = ("lastHeartbeatTime", "lastTransitionTime")
    return {**condition, **{name: kept.get(name, now) for name in times}}


def with_taint(taints: Iterable[Mapping[str, Any]], attached: bool) -> list[Mapping[str, Any]]:
    """An edge node that is away takes no new pods and keeps the ones that it has: no NoExecute."""
    others = [t for t in taints if t.get("key") != UNREACHABLE]
    return others if attached else [*others, {"key": UNREACHABLE, "effect": "NoSchedule"}]


def with_others(current: Mapping[str, Any], reported: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a pod as its node reports it, with what others have written there: conditions that are not a node's (those of
    readiness gates, DisruptionTarget), and fields that are not a node's. The class of service is the API server's, once it is set: it knows fields
    by which it is another one, and refuses a status that differs in it."""
    said = {condition.get("type") for condition in reported.get("conditions") or ()} | _NODES_OF_POD
    others = [c for c in current.get("conditions") or () if c.get("type") not in said]
    kept = {name: current[name] for name in _OTHERS_STATUS if name in current}
    fixed = {"qosClass": current["qosClass"]} if current.get("qosClass") else {}
    conditions = [*(reported.get("conditions") or ()), *others]
    return {**kept, **reported, **fixed, **({"conditions": conditions} if conditions else {})}


def with_pressure_taints(taints: Iterable[Mapping[str, Any]], status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """No new pods for a node that runs short of something, as its conditions say."""
    pressing = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    kept = [*taints]
    for kind, key in PRESSURES.values():
        there = any(t.get("key") == key for t in kept)
        if kind in pressing and not there:
            kept.append({"key": key, "effect": "NoSchedule"})
        elif kind not in pressing and there:
            kept = [t for t in kept if t.get("key") != key]
    return kept


def not_ready(status: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The status of a pod whose node is away: its readiness is unknown, hence false."""
    conditions = []
    for condition in status.get("conditions") or ():
        if condition.get("type") in ("Ready",) and condition.get("status") == "True":
            condition = {**condition, "status": "False", "reason": "NodeNotReady", "lastTransitionTime": now}
        conditions.append(condition)
    return {**status, "conditions": conditions}
