"""Which nodes a DaemonSet's pods are on, and which go when it changes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge_cloud.controllers.objects import (
    available_in,
    count,
    created_of,
    digest,
    generation_of,
    is_active,
    is_deleting,
    is_finished,
    is_ready,
    oldest_first,
    share_of,
    spec_of,
    status_of,
    still,
    uid_of,
)
from kubeedge_cloud.controllers.scheduler.fit import fits_labels, untolerated

REVISION = "controller-revision-hash"
_FAILED_LIFE = 10.0  # seconds before a failed pod is replaced: a template that no node accepts must not spin

#: what a daemon's pod shrugs off: it is there for the node, whatever the node's state
TOLERATIONS: Sequence[Object] = (
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/disk-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/pid-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
)


@dataclass(frozen=True, slots=True)
class DaemonSetPlan:
    """Pods to create, by the names of their nodes, pods to delete, and seconds until time alone changes the plan."""

    create: Sequence[str] = ()  # nodes
    delete: Sequence[Object] = ()
    again_in: float | None = None


def revision_of(daemonset: Object) -> str:
    """A hash of the pod template: pods with another one are out of date."""
    return digest(spec_of(daemonset).get("template") or {})


def pod_spec(daemonset: Object, node: str) -> Object:
    """The template's, bound to its node: a daemon's pod does not wait for a scheduler."""
    spec = dict(spec_of(spec_of(daemonset).get("template") or {}))
    given = [t for t in spec.get("tolerations") or () if t not in TOLERATIONS]
    spec["tolerations"] = [*given, *TOLERATIONS]
    spec["nodeName"] = node
    return spec


def plan(
    daemonset: Object,
    pods: Collection[Object],
    nodes: Iterable[Object],
    expected_deletions: Collection[str],
    now: float,
) -> DaemonSetPlan:
    """`pods` are those that the DaemonSet owns."""
    if is_deleting(daemonset):
        return DaemonSetPlan()
    by_node = _by_node(pods, expected_deletions)
    create: list[str] = []
    delete: list[Object] = []
    keep: dict[str, Object | None] = {}
    again_in: float | None = None
    known: set[str] = set()
    for node in nodes:
        name = meta.name_of(node)
        known.add(name)
        should, may_stay = eligible(daemonset, node)
        mine = by_node.get(name, [])
        finished = [pod for pod in mine if is_finished(pod) and not is_deleting(pod)]
        alive = [pod for pod in mine if not is_finished(pod)]
        if not may_stay:
            delete += [pod for pod in mine if not is_deleting(pod)]
            continue
        for pod in finished:
            left = still(_FAILED_LIFE, created_of(pod), now)
            if left > 0:
                again_in = min(left, again_in or left)
                alive.append(pod)  # it occupies its node until then
            else:
                delete.append(pod)
        if not alive and should:
            create.append(name)
        if should:
            keep[name] = None
        ordered = oldest_first(pod for pod in alive if not is_deleting(pod) and not is_finished(pod))
        if ordered:
            keep[name] = ordered[0]
            delete += ordered[1:]
    for name, mine in by_node.items():
        if name not in known:
            delete += [pod for pod in mine if not is_deleting(pod)]
    delete += _outdated(daemonset, keep, now)
    return DaemonSetPlan(tuple(create), tuple(delete), again_in)


def eligible(daemonset: Object, node: Object) -> tuple[bool, bool]:
    """(a pod should be there, one that is there may stay)."""
    template = spec_of(daemonset).get("template") or {}
    spec = spec_of(template)
    if spec.get("nodeName") and spec["nodeName"] != meta.name_of(node):
        return False, False
    if not fits_labels(spec, node):
        return False, False
    tolerations = [*(spec.get("tolerations") or ()), *TOLERATIONS]
    taints = spec_of(node).get("taints") or ()
    if untolerated(tolerations, taints, ("NoExecute",)) is not None:
        return False, False
    return untolerated(tolerations, taints, ("NoSchedule",)) is None, True


def _by_node(pods: Iterable[Object], expected_deletions: Collection[str]) -> dict[str, list[Object]]:
    """Pods whose deletion is expected keep their node until they are gone, as those that are being deleted do."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        if uid_of(pod) in expected_deletions and not is_deleting(pod):
            pod = {**pod, "metadata": {**meta.metadata(pod), "deletionTimestamp": "1970-01-01T00:00:00Z"}}
        found.setdefault(str(spec_of(pod).get("nodeName") or ""), []).append(pod)
    return found


def _outdated(daemonset: Object, keep: Mapping[str, Object | None], now: float) -> Sequence[Object]:
    """Old pods that may go now: those that do not work at once, the others while few enough are missing."""
    strategy = spec_of(daemonset).get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return ()
    limit = max(1, share_of((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), len(keep), up=True))
    revision = revision_of(daemonset)
    min_ready = count(spec_of(daemonset).get("minReadySeconds"))
    unavailable = 0
    at_once: list[Object] = []
    in_turn: list[Object] = []
    for _, pod in sorted(keep.items()):
        works = pod is not None and available_in(pod, min_ready, now) == 0.0
        unavailable += not works
        if pod is not None and meta.labels_of(pod).get(REVISION) != revision:
            (in_turn if works else at_once).append(pod)
    return [*at_once, *in_turn[: max(0, limit - unavailable)]]


def status(
    daemonset: Object,
    pods: Collection[Object],
    nodes: Iterable[Object],
    expected_deletions: Collection[str],
    now: float,
) -> tuple[Object, float | None]:
    """(status, seconds until it changes by itself)."""
    by_node: dict[str, list[Object]] = {}
    for pod in pods:
        if is_active(pod) and uid_of(pod) not in expected_deletions:
            by_node.setdefault(str(spec_of(pod).get("nodeName") or ""), []).append(pod)
    revision, min_ready = revision_of(daemonset), count(spec_of(daemonset).get("minReadySeconds"))
    desired = current = misscheduled = ready = updated = available = 0
    later: float | None = None
    for node in nodes:
        mine = oldest_first(by_node.get(meta.name_of(node), ()))
        should, may_stay = eligible(daemonset, node)
        if not should and not (may_stay and mine):
            misscheduled += bool(mine)
            continue
        desired += 1
        if mine:
            pod = mine[0]
            current += 1
            updated += meta.labels_of(pod).get(REVISION) == revision
            ready += is_ready(pod)
            wait = available_in(pod, min_ready, now)
            available += wait == 0.0
            if wait:
                later = min(wait, later or wait)
    result: Object = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
        "observedGeneration": generation_of(daemonset),
    }
    optional = {
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
    }
    result.update((key, value) for key, value in optional.items() if value)
    if status_of(daemonset).get("conditions"):
        result["conditions"] = status_of(daemonset)["conditions"]
    return result, later
