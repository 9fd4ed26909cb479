"""Adopting orphans that match the selector, and releasing what no longer matches."""

from __future__ import annotations

from collections.abc import Iterable

from kubeedge.api import meta
from kubeedge.api.client import Resource
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.resources import PODS
from kubeedge.api.selectors import LabelSelector, of_selector
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.controllers.objects import (
    controller_of,
    is_active,
    is_controlled_by,
    is_deleting,
    key_of,
    reference_to,
    spec_of,
    uid_of,
)


def selector_of(owner: Object) -> LabelSelector | None:
    """The selector of an owner; None when it selects nothing or is malformed."""
    try:
        selector = of_selector(spec_of(owner).get("selector") or {})
    except Invalid:
        return None
    return selector if selector.requirements else None


def selecting(owners: Informer, obj: Object) -> Iterable[Object]:
    """Owners that would adopt the object."""
    for owner in owners.in_namespace(meta.namespace_of(obj)):
        selector = selector_of(owner)
        if selector is not None and selector.matches(meta.labels_of(obj)):
            yield owner


def owners_of_pod(owners: Informer, kind: str, before: Object | None, after: Object | None) -> Iterable[NamespacedName]:
    """Which owners of that kind a pod's change concerns: its controller, and of an orphan that is new or has other labels those who would
    adopt it."""
    for pod in (before, after):
        if pod is None:
            continue
        controller = controller_of(pod)
        if controller is not None:
            if controller.get("kind") == kind:
                yield meta.namespace_of(pod), str(controller.get("name"))
        elif before is None or meta.labels_of(before) != meta.labels_of(pod):
            yield from (key_of(owner) for owner in selecting(owners, pod))


async def claim(
    cluster: Cluster, resource: Resource, informer: Informer, owner_resource: Resource, owner: Object
) -> list[Object]:
    """The objects that belong to the owner, after adoption and release."""
    selector = selector_of(owner)
    mine: list[Object] = []
    may_adopt: bool | None = None
    for obj in informer.in_namespace(meta.namespace_of(owner)):
        reference = controller_of(obj)
        fits = selector is not None and selector.matches(meta.labels_of(obj))
        if reference is None:
            adoptable = fits and not is_deleting(obj) and not is_deleting(owner)
            if adoptable and (resource != PODS or is_active(obj)):
                if may_adopt is None:
                    may_adopt = await _may_adopt(cluster, owner_resource, owner)
                if not may_adopt:
                    continue
                references = [
                    *(meta.metadata(obj).get("ownerReferences") or ()),
                    reference_to(owner_resource, owner),
                ]
                adopted = await _set_references(cluster, informer, obj, references)
                if adopted is not None:
                    mine.append(adopted)
        elif is_controlled_by(obj, owner):
            if fits or is_deleting(owner) or is_deleting(obj):
                mine.append(obj)
            else:
                uid = uid_of(owner)
                kept = [r for r in meta.metadata(obj).get("ownerReferences") or () if r.get("uid") != uid]
                await _set_references(cluster, informer, obj, kept)
    return mine


async def _may_adopt(cluster: Cluster, resource: Resource, owner: Object) -> bool:
    """The API itself is asked: the cache may not know yet that the owner is being deleted, and lets its dependents go."""
    try:
        found = await cluster.client.get(resource, meta.namespace_of(owner), meta.name_of(owner))
    except NotFound:
        return False
    return uid_of(found) == uid_of(owner) and not is_deleting(found)


async def _set_references(cluster: Cluster, informer: Informer, obj: Object, references: list[Object]) -> Object | None:
    inner = {
        "uid": uid_of(obj),
        "resourceVersion": meta.metadata(obj).get("resourceVersion"),
        "ownerReferences": references or None,
    }
    try:
        return await cluster.patch(informer, obj, {"metadata": inner})
    except (NotFound, Conflict):
        return None
