"""Questions about a Deployment and its ReplicaSets. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge_cloud.controllers.objects import (
    TEMPLATE_HASH,
    count,
    digest,
    oldest_first,
    share_of,
    spec_of,
    status_of,
)


def template_of(obj: Object) -> Object:
    """Without the label that tells templates apart."""
    template: Object = spec_of(obj).get("template") or {}
    inner = meta.metadata(template)
    labels = {k: v for k, v in (inner.get("labels") or {}).items() if k != TEMPLATE_HASH}
    kept = {key: value for key, value in inner.items() if key != "labels" and value not in (None, {}, [])}
    return {**template, "metadata": {**kept, "labels": labels}}


def new_replicaset_of(deployment: Object, replicasets: Iterable[Object]) -> Object | None:
    """The oldest one with the Deployment's template."""
    wanted = template_of(deployment)
    return next((rs for rs in oldest_first(replicasets) if template_of(rs) == wanted), None)


def hash_of(deployment: Object) -> str:
    """The label pod-template-hash of its new ReplicaSet; status.collisionCount is hashed, too."""
    return digest(template_of(deployment), count(status_of(deployment).get("collisionCount")))


def replicas_of(obj: Object) -> int:
    """spec.replicas of a Deployment or a ReplicaSet."""
    return count(spec_of(obj).get("replicas"))


def limits(deployment: Object) -> tuple[int, int]:
    """maxSurge and maxUnavailable of a Deployment, as numbers of pods."""
    strategy = spec_of(deployment).get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0, 0
    rolling, total = strategy.get("rollingUpdate") or {}, replicas_of(deployment)
    surge = share_of(rolling.get("maxSurge", "25%"), total, up=True)
    unavailable = share_of(rolling.get("maxUnavailable", "25%"), total, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # else nothing could ever move
    return surge, min(unavailable, total)
