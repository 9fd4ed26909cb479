"""The status of a Deployment: counts and conditions, as `kubectl rollout status` reads them. Pure."""

from __future__ import annotations

from collections.abc import Collection

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge_cloud.controllers.deployment.replicasets import limits, new_replicaset_of, replicas_of
from kubeedge_cloud.controllers.objects import (
    count,
    generation_of,
    spec_of,
    status_of,
)


def of(deployment: Object, replicasets: Collection[Object], now: float) -> tuple[Object, float | None]:
    """(status, seconds until the progress deadline)."""
    new = new_replicaset_of(deployment, replicasets)
    before = status_of(deployment)
    total = sum(count(status_of(rs).get("replicas")) for rs in replicasets)
    available = sum(count(status_of(rs).get("availableReplicas")) for rs in replicasets)
    result: Object = {
        "observedGeneration": generation_of(deployment),
        "replicas": total,
        "updatedReplicas": count(status_of(new or {}).get("replicas")),
        "readyReplicas": sum(count(status_of(rs).get("readyReplicas")) for rs in replicasets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, max(total, sum(map(replicas_of, replicasets))) - available),
    }
    result = {key: value for key, value in result.items() if value}
    if count(before.get("collisionCount")):
        result["collisionCount"] = before["collisionCount"]
    conditions, later = _conditions(deployment, new, result, replicasets, now)
    result["conditions"] = conditions
    return result, later


def is_complete(deployment: Object, current: Object) -> bool:
    """`current` is the status: all replicas are updated and available, none is old, and this generation was observed."""
    total = replicas_of(deployment)
    return (
        count(current.get("updatedReplicas")) == total
        and count(current.get("replicas")) == total
        and count(current.get("availableReplicas")) == total
        and count(current.get("observedGeneration")) >= generation_of(deployment)
    )


def _conditions(
    deployment: Object, new: Object | None, current: Object, replicasets: Collection[Object], now: float
) -> tuple[list[Object], float | None]:
    known = {c.get("type"): dict(c) for c in status_of(deployment).get("conditions") or ()}
    _, unavailable = limits(deployment)
    if count(current.get("availableReplicas")) >= replicas_of(deployment) - unavailable:
        available = ("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        available = (
            "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
        )  # fmt: skip
    conditions = [_condition(known.get("Available"), *available, now)]
    progressing, later = _progress(deployment, new, current, known.get("Progressing"), now)
    if progressing is not None:
        conditions.append(progressing)
    for rs in (new,) if new is not None else replicasets:
        for condition in status_of(rs).get("conditions") or ():
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                text = str(condition.get("message") or "")
                conditions.append(_condition(known.get("ReplicaFailure"), "ReplicaFailure", "True", "FailedCreate", text, now))  # fmt: skip
                return conditions, later
    return conditions, later


def _progress(
    deployment: Object, new: Object | None, current: Object, known: Object | None, now: float
) -> tuple[Object | None, float | None]:
    deadline = spec_of(deployment).get("progressDeadlineSeconds")
    if not isinstance(deadline, int) or deadline >= 2**31 - 1:
        return None, None
    if spec_of(deployment).get("paused") is True:
        if known is not None and known.get("reason") == "DeploymentPaused":
            return known, None
        return _condition(None, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now), None
    name = meta.name_of(new) if new is not None else ""
    what = f'ReplicaSet "{name}"' if name else f'Deployment "{meta.name_of(deployment)}"'
    if is_complete(deployment, current):
        text = f"{what} has successfully progressed."
        return _condition(known, "Progressing", "True", "NewReplicaSetAvailable", text, now), None
    if known is not None and known.get("reason") == "DeploymentPaused":
        known = None
    if (
        known is not None
        and known.get("reason") == "NewReplicaSetAvailable"
        and new is not None
        and count(current.get("replicas")) == count(current.get("updatedReplicas"))
    ):
        return known, None  # rolled out: pods that are lost or added later are no rollout, and have no deadline
    if known is None or _has_moved(status_of(deployment), current) or _is_another(known, deployment):
        text = f"{what} is progressing."
        fresh = _condition(known, "Progressing", "True", "ReplicaSetUpdated", text, now)
        return {**fresh, "lastUpdateTime": meta.timestamp(now)}, float(deadline)
    left = (meta.parse_timestamp(known.get("lastUpdateTime")) or now) + deadline - now
    if left > 0:
        return known, left
    text = f"{what} has timed out progressing."
    return _condition(known, "Progressing", "False", "ProgressDeadlineExceeded", text, now), None


def _is_another(known: Object, deployment: Object) -> bool:
    """A change of the spec begins a new rollout, which the end of the last one says nothing about."""
    seen = count(status_of(deployment).get("observedGeneration"))
    return known.get("reason") == "NewReplicaSetAvailable" or seen < generation_of(deployment)


def _has_moved(before: Object, after: Object) -> bool:
    def old(status_: Object) -> int:
        return count(status_.get("replicas")) - count(status_.get("updatedReplicas"))

    return (
        count(after.get("updatedReplicas")) > count(before.get("updatedReplicas"))
        or count(after.get("readyReplicas")) > count(before.get("readyReplicas"))
        or count(after.get("availableReplicas")) > count(before.get("availableReplicas"))
        or old(after) < old(before)
    )


def _condition(known: Object | None, kind: str, state: str, reason: str, message: str, now: float) -> Object:
    """Unchanged when it says the same; the time of the transition moves with the status only."""
    if known is not None and (known.get("status"), known.get("reason"), known.get("message")) == (
        state,
        reason,
        message,
    ):
        return known
    stamp = meta.timestamp(now)
    same = known is not None and known.get("status") == state
    return {
        "type": kind,
        "status": state,
        "reason": reason,
        "message": message,
        "lastUpdateTime": stamp,
        "lastTransitionTime": known.get("lastTransitionTime", stamp) if same and known is not None else stamp,
    }
