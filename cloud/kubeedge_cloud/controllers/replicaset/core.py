"""How many pods a ReplicaSet has to make or to delete, and its status. Pure.

A pod that failed is replaced, but not in a hot loop: a template that no node accepts would make failed pods as fast as
they can be written. Each failed pod that is still there doubles the time to the next attempt, and only the newest
few are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.kit.backoff import Backoff
from kubeedge_cloud.controllers.objects import (
    available_in,
    count,
    created_of,
    deletion_rank,
    generation_of,
    is_active,
    is_deleting,
    is_ready,
    phase_of,
    spec_of,
    status_of,
    still,
    uid_of,
    with_condition,
)

BURST = 500  # pods at once, as in Kubernetes
_FAILED_KEPT = 8  # the pause grows with them: 1 s after the first, 128 s after the eighth
_FAILED_BACKOFF = Backoff(1.0, 128.0)


@dataclass(frozen=True, slots=True)
class ReplicaSetPlan:
    """How many pods to create, which to delete, and seconds until time alone changes the plan."""

    create: int = 0
    delete: Sequence[Object] = ()
    again_in: float | None = None


def plan(
    replicaset: Object, pods: Collection[Object], expected_deletions: Collection[str], now: float
) -> ReplicaSetPlan:
    """`pods` are those that the ReplicaSet owns; `expected_deletions` are uids whose deletion is under way."""
    if is_deleting(replicaset):
        return ReplicaSetPlan()
    active = [pod for pod in pods if is_active(pod) and uid_of(pod) not in expected_deletions]
    failed = sorted((p for p in pods if phase_of(p) == "Failed" and not is_deleting(p)), key=created_of)
    surplus = tuple(pod for pod in failed[:-_FAILED_KEPT] if uid_of(pod) not in expected_deletions)
    wanted = count(spec_of(replicaset).get("replicas"))
    if len(active) > wanted:
        ranked = sorted(active, key=deletion_rank)
        return ReplicaSetPlan(delete=(*ranked[: len(active) - wanted], *surplus))
    missing = min(wanted - len(active), BURST)
    if missing and failed:
        pause = _FAILED_BACKOFF.delay(len(failed))
        left = max(still(pause, created_of(pod), now) for pod in failed)
        if left > 0:
            return ReplicaSetPlan(delete=surplus, again_in=left)
    return ReplicaSetPlan(create=missing, delete=surplus)


def status(
    replicaset: Object, pods: Collection[Object], expected_deletions: Collection[str], now: float, failure: str = ""
) -> tuple[Object, float | None]:
    """(status, seconds until it changes by itself). `failure` says why pods could not be made."""
    spec = spec_of(replicaset)
    min_ready = count(spec.get("minReadySeconds"))
    active = [pod for pod in pods if is_active(pod) and uid_of(pod) not in expected_deletions]
    labels = (meta.metadata(spec.get("template") or {}).get("labels") or {}).items()
    waits = [available_in(pod, min_ready, now) for pod in active]
    result: Object = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(labels <= meta.labels_of(pod).items() for pod in active),
        "readyReplicas": sum(is_ready(pod) for pod in active),
        "availableReplicas": sum(wait == 0.0 for wait in waits),
        "observedGeneration": generation_of(replicaset),
    }
    conditions = [c for c in status_of(replicaset).get("conditions") or () if c.get("type") != "ReplicaFailure"]
    if failure:
        wrong = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure}
        conditions = with_condition(status_of(replicaset).get("conditions") or (), wrong, now)
    if conditions:
        result["conditions"] = conditions
    without_zero = {key: value for key, value in result.items() if value != 0 or key in ("replicas",)}
    later = [wait for wait in waits if wait]
    return without_zero, min(later) if later else None
