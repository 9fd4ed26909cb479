"""One step of a Deployment: which ReplicaSets to make, scale and delete, and what its status is. Pure.

    template ──hash──> the new ReplicaSet;  all others that it owns are old ones

    RollingUpdate   at most replicas + maxSurge pods in all, at least replicas - maxUnavailable available ones:
                    new up as far as the first allows, old down as far as the second allows, again when counts change
    Recreate        old down to 0, wait until their pods have ended, new up
    paused          only scaling, in proportion

A step is computed from what there is, never from what was done before, so a crash between two writes costs nothing.
Going back to an earlier template finds its old ReplicaSet again, which becomes the new one with the next revision:
that is all that `kubectl rollout undo` needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import DEPLOYMENTS
from kubeedge_cloud.controllers.deployment import status
from kubeedge_cloud.controllers.deployment.replicasets import (
    hash_of,
    limits,
    new_replicaset_of,
    replicas_of,
    template_of,
)
from kubeedge_cloud.controllers.objects import (
    TEMPLATE_HASH,
    annotations_of,
    count,
    created_of,
    generation_of,
    is_deleting,
    is_finished,
    oldest_first,
    reference_to,
    spec_of,
    status_of,
    uid_of,
)

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    ("kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAXIMUM,
     "deprecated.deployment.rollback.to")
)  # fmt: skip
_HISTORY_LENGTH = 2000  # characters of revision-history


@dataclass(frozen=True, slots=True)
class ReplicaSetChange:
    """An update of a ReplicaSet: `replicas` None leaves them, annotations are set."""

    replicaset: Object
    replicas: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    min_ready: int | None = None


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """What one step writes: at most one new ReplicaSet, changes of others, and those beyond revisionHistoryLimit."""

    create: Object | None = None
    changes: Sequence[ReplicaSetChange] = ()
    delete: Sequence[Object] = ()
    revision: str = ""  # of the Deployment, "" when it is right


def plan(deployment: Object, replicasets: Collection[Object], pods: Collection[Object]) -> DeploymentPlan:
    """`replicasets` are those that the Deployment owns, `pods` theirs."""
    spec = spec_of(deployment)
    if is_deleting(deployment):
        return DeploymentPlan()
    new = new_replicaset_of(deployment, replicasets)
    old = [rs for rs in replicasets if new is None or uid_of(rs) != uid_of(new)]
    paused = spec.get("paused") is True
    recreate = (spec.get("strategy") or {}).get("type") == "Recreate"
    if new is None and not paused:
        if recreate and _still_there(old, pods):
            return DeploymentPlan(changes=_scaled_to_zero(old))
        return DeploymentPlan(
            create=_replicaset(deployment, replicasets, 0 if recreate and old else _first_size(deployment, old))
        )
    changes = _Changes(deployment)
    revision = ""
    if new is not None and not paused:
        revision = _revise(changes, new, old)
    if paused or _was_rescaled(deployment, replicasets):
        _scale_in_proportion(changes, deployment, new, old)
    elif new is not None and recreate:
        if _still_there(old, pods):
            for rs in old:
                changes.scale(rs, 0)
        else:
            changes.scale(new, replicas_of(deployment))
    elif new is not None:
        _roll(changes, deployment, new, old)
    if annotations_of(deployment).get(REVISION) == revision:
        revision = ""
    finished = (
        new is not None and not changes and status.is_complete(deployment, status.of(deployment, replicasets, 0.0)[0])
    )
    return DeploymentPlan(None, changes.all(), _expired(deployment, old) if finished else (), revision)


class _Changes:
    """Collects what is to be done to ReplicaSets, one ReplicaSetChange each, and knows the sizes that follow from it."""

    def __init__(self, deployment: Object) -> None:
        surge, _ = limits(deployment)
        total = replicas_of(deployment)
        self._sizes = {DESIRED: str(total), MAXIMUM: str(total + surge)}
        self._found: dict[str, ReplicaSetChange] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def all(self) -> Sequence[ReplicaSetChange]:
        return tuple(self._found.values())

    def size(self, rs: Object) -> int:
        change = self._found.get(uid_of(rs))
        return replicas_of(rs) if change is None or change.replicas is None else change.replicas

    def scale(self, rs: Object, replicas: int) -> None:
        annotations = {k: v for k, v in self._sizes.items() if annotations_of(rs).get(k) != v}
        if replicas != self.size(rs) or (annotations and replicas):
            self.annotate(rs, annotations)
            change = self._found.get(uid_of(rs)) or ReplicaSetChange(rs)
            self._found[uid_of(rs)] = dataclasses.replace(change, replicas=replicas)

    def annotate(self, rs: Object, annotations: Mapping[str, str], min_ready: int | None = None) -> None:
        if not annotations and min_ready is None:
            return
        change = self._found.get(uid_of(rs)) or ReplicaSetChange(rs)
        self._found[uid_of(rs)] = dataclasses.replace(
            change,
            annotations={**change.annotations, **annotations},
            min_ready=change.min_ready if min_ready is None else min_ready,
        )


# Rolling


def _roll(changes: _Changes, deployment: Object, new: Object, old: Sequence[Object]) -> None:
    total = replicas_of(deployment)
    surge, unavailable = limits(deployment)
    size = replicas_of(new)
    if size > total:
        changes.scale(new, total)
    elif size < total:
        everything = size + sum(replicas_of(rs) for rs in old)
        room = max(0, total + surge - everything)
        changes.scale(new, size + min(room, total - size))
    else:
        changes.scale(new, total)  # its annotations
    _shrink_old(changes, new, old, total - unavailable)


def _shrink_old(changes: _Changes, new: Object, old: Sequence[Object], min_available: int) -> None:
    """Unhealthy pods of old ReplicaSets first, since they serve no client; then healthy ones, while enough remain."""
    if not any(replicas_of(rs) for rs in old):
        return
    everything = changes.size(new) + sum(replicas_of(rs) for rs in old)
    new_unavailable = max(0, changes.size(new) - _available(new))
    may_go = everything - min_available - new_unavailable
    for rs in oldest_first(old):
        unhealthy = replicas_of(rs) - _available(rs)
        if may_go > 0 and unhealthy > 0:
            step = min(may_go, unhealthy)
            may_go -= step
            changes.scale(rs, replicas_of(rs) - step)
    may_go = _available(new) + sum(min(_available(rs), changes.size(rs)) for rs in old) - min_available
    for rs in oldest_first(old):
        if may_go <= 0:
            return
        step = min(may_go, changes.size(rs))
        if step > 0:
            may_go -= step
            changes.scale(rs, changes.size(rs) - step)


def _available(rs: Object) -> int:
    """The available replicas in the status of a ReplicaSet, at most those that it should have."""
    return min(count(status_of(rs).get("availableReplicas")), replicas_of(rs))


def _still_there(old: Iterable[Object], pods: Iterable[Object]) -> bool:
    owners = {uid_of(rs) for rs in old}
    if any(replicas_of(rs) or count(status_of(rs).get("replicas")) for rs in old):
        return True
    for pod in pods:
        if is_finished(pod):
            continue
        if any(ref.get("uid") in owners for ref in meta.metadata(pod).get("ownerReferences") or ()):
            return True  # it is on its way out, and until it is out it holds what it holds
    return False


def _scaled_to_zero(replicasets: Iterable[Object]) -> Sequence[ReplicaSetChange]:
    return tuple(ReplicaSetChange(rs, 0) for rs in replicasets if replicas_of(rs))


def _first_size(deployment: Object, old: Sequence[Object]) -> int:
    total = replicas_of(deployment)
    surge, _ = limits(deployment)
    everything = sum(replicas_of(rs) for rs in old)
    return max(0, min(total, total + surge - everything))


# Scaling


def _was_rescaled(deployment: Object, replicasets: Iterable[Object]) -> bool:
    """The Deployment's size changed since its ReplicaSets were last sized."""
    wanted = str(replicas_of(deployment))
    return any(replicas_of(rs) > 0 and annotations_of(rs).get(DESIRED) not in (None, wanted) for rs in replicasets)


def _scale_in_proportion(changes: _Changes, deployment: Object, new: Object | None, old: Sequence[Object]) -> None:
    """In the middle of a rollout both sides keep their share of the new size."""
    everything = [rs for rs in (new, *old) if rs is not None]
    active = [rs for rs in everything if replicas_of(rs) > 0]
    total = replicas_of(deployment)
    surge, _ = limits(deployment)
    if len(active) <= 1:
        only = active[0] if active else new if new is not None else max(everything, key=created_of, default=None)
        if only is not None:
            changes.scale(only, total)
        return
    if new is not None and replicas_of(new) == total and _available(new) == total:
        for rs in old:
            changes.scale(rs, 0)
        return
    if (spec_of(deployment).get("strategy") or {}).get("type") == "Recreate":
        return
    allowed = total + surge if total > 0 else 0
    to_add = allowed - sum(replicas_of(rs) for rs in active)
    newest_first = to_add > 0
    active.sort(key=lambda rs: (-replicas_of(rs), -created_of(rs) if newest_first else created_of(rs)))
    sizes: dict[str, int] = {}
    added = 0
    for rs in active:
        size = replicas_of(rs)
        if to_add:
            before = _integer(annotations_of(rs).get(MAXIMUM)) or max(1, count(status_of(deployment).get("replicas")))
            share = (2 * size * allowed + before) // (2 * before) - size  # rounded to the nearest
            left = to_add - added
            share = min(share, left) if to_add > 0 else max(share, left)
            share = max(share, -size)
            added += share
            size += share
        sizes[uid_of(rs)] = size
    first = active[0]
    sizes[uid_of(first)] = max(0, sizes[uid_of(first)] + to_add - added)
    for rs in active:
        changes.scale(rs, sizes[uid_of(rs)])


def _integer(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


# ReplicaSets and their revisions


def _replicaset(deployment: Object, existing: Collection[Object], replicas: int) -> Object:
    label = hash_of(deployment)
    name = meta.name_of(deployment)
    spec = spec_of(deployment)
    template = template_of(deployment)
    labels = {**meta.metadata(template)["labels"], TEMPLATE_HASH: label}
    selector = spec.get("selector") or {}
    surge, _ = limits(deployment)
    total = replicas_of(deployment)
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name[:242]}-{label}",
            "namespace": meta.namespace_of(deployment),
            "labels": labels,
            "annotations": {
                **copied(deployment),
                REVISION: str(_latest_revision(existing) + 1),
                DESIRED: str(total),
                MAXIMUM: str(total + surge),
            },
            "ownerReferences": [reference_to(DEPLOYMENTS, deployment)],
        },
        "spec": {
            "replicas": replicas,
            **({"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), TEMPLATE_HASH: label}},
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
    }


def copied(deployment: Object) -> dict[str, str]:
    """What users write on a Deployment (kubernetes.io/change-cause) belongs to the ReplicaSet of that moment too."""
    return {key: value for key, value in annotations_of(deployment).items() if key not in _NOT_COPIED}


def revision_of(rs: Object) -> int:
    """The annotation deployment.kubernetes.io/revision; 0 when it is missing or no number."""
    return _integer(annotations_of(rs).get(REVISION))


def _latest_revision(replicasets: Iterable[Object]) -> int:
    return max((revision_of(rs) for rs in replicasets), default=0)


def _revise(changes: _Changes, new: Object, old: Sequence[Object]) -> str:
    """The new ReplicaSet has the highest revision; gives the Deployment's."""
    revision = max(_latest_revision(old) + 1, revision_of(new))
    before = revision_of(new)
    annotations: dict[str, str] = {}
    if before != revision:
        annotations[REVISION] = str(revision)
        if before:
            history = [h for h in (annotations_of(new).get(HISTORY, ""), str(before)) if h]
            text = ",".join(history)
            annotations[HISTORY] = text if len(text) <= _HISTORY_LENGTH else str(before)
    changes.annotate(new, annotations)
    return str(revision)


def _expired(deployment: Object, old: Iterable[Object]) -> Sequence[Object]:
    """Old, empty ReplicaSets beyond what the history may hold."""
    limit = spec_of(deployment).get("revisionHistoryLimit")
    keep = limit if isinstance(limit, int) and limit >= 0 else 10
    empty = [
        rs
        for rs in old
        if not replicas_of(rs)
        and not count(status_of(rs).get("replicas"))
        and count(status_of(rs).get("observedGeneration")) >= generation_of(rs)
        and not is_deleting(rs)
    ]
    empty.sort(key=lambda rs: (revision_of(rs), created_of(rs)))
    return empty[: max(0, len(empty) - keep)]
