"""How a Deployment moves from one template to the next: how many pods each ReplicaSet should have. Pure.

Kubernetes' rolling update: never more than replicas + maxSurge pods, never fewer than replicas - maxUnavailable that are available. Old
ReplicaSets first lose what is not ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubeedge.api.names import Object
from kubeedge_cloud.controllers.objects import count, digest, share_of, spec_of, status_of


@dataclass(frozen=True, slots=True)
class Scales:
    new: int
    old: Sequence[int]  # in the order of the old ReplicaSets that were given


def replicas_of(obj: Object) -> int:
    value = spec_of(obj).get("replicas")
    return 1 if value is None else count(value)


def template_hash(deployment: Object) -> str:
    return digest(spec_of(deployment).get("template") or {}, count(status_of(deployment).get("collisionCount")))


def plan(deployment: Object, new: Object | None, old: Sequence[Object]) -> Scales:
    """`new` None: its ReplicaSet is about to be made with Scales.new."""
    wanted = replicas_of(deployment)
    strategy = spec_of(deployment).get("strategy") or {}
    old_replicas = [replicas_of(rs) for rs in old]
    old_pods = sum(max(replicas_of(rs), count(status_of(rs).get("replicas"))) for rs in old)
    have = replicas_of(new) if new is not None else 0
    if strategy.get("type") == "Recreate":
        return Scales(wanted if old_pods == 0 else have, [0] * len(old))
    rolling = strategy.get("rollingUpdate") or {}
    surge = share_of(rolling.get("maxSurge", "25%"), wanted, up=True)
    unavailable = share_of(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    target = (
        wanted
        if not old_pods
        else min(wanted, max(have if have <= wanted else wanted, wanted + surge - sum(old_replicas)))
    )
    available = count(status_of(new or {}).get("availableReplicas")) + sum(
        count(status_of(rs).get("availableReplicas")) for rs in old
    )
    may_remove = max(0, available - max(0, wanted - unavailable))
    scaled = list(old_replicas)
    for i, rs in enumerate(old):  # what is not ready goes first, and costs no availability
        unready = max(0, scaled[i] - count(status_of(rs).get("availableReplicas")))
        scaled[i] -= min(scaled[i], unready) if old_pods + have > wanted - unavailable else 0
    for i, rs in enumerate(old):
        take = min(scaled[i], may_remove, count(status_of(rs).get("availableReplicas")))
        scaled[i] -= take
        may_remove -= take
    return Scales(target, scaled)
