"""The scheduler's decision: which node a pod goes to, or why to none. Pure.

Filters as Kubernetes': node selector and required node affinity, taints, readiness, requests against what is left, host ports. Among the nodes that
are left: the one that is least used, and has the fewest pods of the same owner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeedge.api import meta, quantities
from kubeedge.api.names import Object
from kubeedge_cloud.controllers.objects import controller_of, is_finished, is_ready, spec_of, status_of


@dataclass(frozen=True, slots=True)
class Placement:
    node: str  # "": none
    message: str = ""  # as `kubectl describe` shows it


@dataclass(slots=True)
class _Used:
    cpu: int = 0
    memory: int = 0
    pods: int = 0
    ports: frozenset[tuple[str, int]] = frozenset()
    same_owner: int = 0


def place(pod: Object, nodes: Sequence[Object], pods: Iterable[Object]) -> Placement:
    """`pods` are all pods; those on a node count there unless they have ended."""
    owner = (controller_of(pod) or {}).get("uid")
    used: dict[str, _Used] = {}
    for other in pods:
        name = spec_of(other).get("nodeName")
        if name and not is_finished(other):
            u = used.setdefault(str(name), _Used())
            cpu, memory = requests_of(other)
            u.cpu, u.memory, u.pods = u.cpu + cpu, u.memory + memory, u.pods + 1
            u.ports |= host_ports(other)
            u.same_owner += owner is not None and (controller_of(other) or {}).get("uid") == owner
    reasons: Counter[str] = Counter()
    best: tuple[float, str] | None = None
    for node in nodes:
        name = meta.name_of(node)
        u = used.get(name, _Used())
        reason = why_not(pod, node) or _why_full(pod, node, u)
        if reason:
            reasons[reason] += 1
            continue
        score = (-u.same_owner * 100.0 + _free_share(node, u), name)
        if best is None or score[0] > best[0] or (score[0] == best[0] and name < best[1]):
            best = score
    if best is not None:
        return Placement(best[1])
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return Placement("", f"0/{len(nodes)} nodes are available: {listed or 'there are no nodes'}.")


def why_not(pod: Object, node: Object) -> str:
    """A reason that does not depend on other pods; "" when the node fits. Also what a DaemonSet asks."""
    if spec_of(node).get("unschedulable") and not _tolerates(
        pod, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    ):
        return "node(s) were unschedulable"
    if not matches_selectors(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in spec_of(node).get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerates(pod, taint):
            return f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value') or ''}}}"
    if not is_ready(node) and not _tolerates(pod, {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}):
        return "node(s) were not ready"
    return ""


def matches_selectors(pod: Object, node: Object) -> bool:
    labels = meta.labels_of(node)
    spec = spec_of(pod)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    if not terms:
        return True
    fields = {"metadata.name": meta.name_of(node)}
    return any(
        all(_expression(e, labels) for e in term.get("matchExpressions") or ())
        and all(_expression(e, fields) for e in term.get("matchFields") or ())
        for term in terms
    )


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(str(expression.get("key")))
    values = [str(v) for v in expression.get("values") or ()]
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as op:
            try:
                have, want = int(str(value)), int(values[0])
            except (ValueError, IndexError):
                return False
            return have > want if op == "Gt" else have < want
    return False


def _tolerates(pod: Object, taint: Mapping[str, Any]) -> bool:
    for toleration in spec_of(pod).get("tolerations") or ():
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        if toleration.get("operator") == "Exists":
            if not toleration.get("key") or toleration.get("key") == taint.get("key"):
                return True
        elif toleration.get("key") == taint.get("key") and (toleration.get("value") or "") == (
            taint.get("value") or ""
        ):
            return True
    return False


def _why_full(pod: Object, node: Object, used: _Used) -> str:
    allocatable = status_of(node).get("allocatable") or {}
    cpu, memory = requests_of(pod)
    if used.pods + 1 > _amount(allocatable, "pods", 110):
        return "Too many pods"
    if cpu and used.cpu + cpu > quantities.millicores(str(allocatable.get("cpu", "0"))):
        return "Insufficient cpu"
    if memory and used.memory + memory > quantities.bytes_of(str(allocatable.get("memory", "0"))):
        return "Insufficient memory"
    if host_ports(pod) & used.ports:
        return "node(s) didn't have free ports for the requested pod ports"
    return ""


def _free_share(node: Object, used: _Used) -> float:
    """0 to 10: how much of the node is not asked for."""
    allocatable = status_of(node).get("allocatable") or {}
    cpu = quantities.millicores(str(allocatable.get("cpu", "0"))) or 1
    memory = quantities.bytes_of(str(allocatable.get("memory", "0"))) or 1
    return 5 * (1 - used.cpu / cpu) + 5 * (1 - used.memory / memory) - used.pods / 1000


def requests_of(pod: Object) -> tuple[int, int]:
    """(millicores, bytes): the sum of the containers, or the largest init container."""
    totals = [0, 0]
    largest = [0, 0]
    for key, add in (("containers", True), ("initContainers", False)):
        for container in spec_of(pod).get(key) or ():
            resources = container.get("resources") or {}
            wanted = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
            amounts = (
                quantities.millicores(str(wanted.get("cpu", "0"))),
                quantities.bytes_of(str(wanted.get("memory", "0"))),
            )
            for i, amount in enumerate(amounts):
                if add:
                    totals[i] += amount
                else:
                    largest[i] = max(largest[i], amount)
    return max(totals[0], largest[0]), max(totals[1], largest[1])


def host_ports(pod: Object) -> frozenset[tuple[str, int]]:
    return frozenset(
        (str(port.get("protocol") or "TCP"), int(port["hostPort"]))
        for container in spec_of(pod).get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def _amount(values: Mapping[str, Any], key: str, default: int) -> int:
    try:
        return int(str(values.get(key, default)))
    except ValueError:
        return default
