"""What becomes of an object when a client creates, changes or deletes it. Pure: objects, options and `now` in.

Rules that are easy to forget:

* A write to the object does not touch its status, a write to `status` touches nothing else.
* metadata.generation counts changes of spec, for the kinds whose controllers report observedGeneration.
* A deletion sets deletionTimestamp while anything still has to happen: a finalizer has to be removed, or a
  node has to stop the pod. The node's "gone" is a second deletion with a grace period of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeedge.api import managed_fields, meta, schema, validation_kinds
from kubeedge.api.defaults import DEFAULT_GRACE
from kubeedge.api.meta import Randbytes
from kubeedge.api.names import Object
from kubeedge.api.resources import NAMESPACES, NODES, PODS, SERVICES, Row
from kubeedge.api.status import BadRequest, Forbidden, InvalidObject, ObjectModified, forbidden
from kubeedge.apiserver import pod_subresources
from kubeedge.kit.dataclasses import dataclass, field

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
IMMORTAL = frozenset(("default", "kube-system", "kube-public", "kube-node-lease"))


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """`warnings` collects what the client should hear although the write succeeded."""

    dry_run: bool = False
    field_validation: str = "Ignore"  # or Warn, Strict
    warnings: list[str] = field(default_factory=list)
    size: int = 0  # bytes of the request's body: a measure of the work that it makes
    manager: str = "kubeedge"  # who has the fields that this write changes (managed_fields.py)
    applied: bool = False  # metadata.managedFields of the new object is what a server-side apply made


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """metav1.DeleteOptions, as far as they are served."""

    grace_period: int | None = None  # seconds; None: what the pod says
    uid: str = ""  # precondition
    resource_version: str = ""  # precondition
    propagation: str = ""  # Background, Foreground, Orphan; "": Background
    dry_run: bool = False


def create(row: Row, namespace: str, obj: Object, options: WriteOptions, *, now: float, randbytes: Randbytes) -> Object:
    """The object to store. Raises InvalidObject, BadRequest."""
    obj = _typed(row, obj)
    _check(row, obj, options)
    owners = meta.metadata(obj).get("managedFields") if options.applied else None
    meta.prepare_for_create(
        obj,
        namespace=namespace if row.resource.namespaced else "",
        now=now,
        randbytes=randbytes,
        generation=row.counts_generation,
    )
    if row.has_status and row.resource != NODES:  # a node registers itself together with its status
        obj.pop("status", None)
    row.strategy.fill(obj)
    row.strategy.prepare(obj)
    validation_kinds.create(row, obj)
    if row.resource == PODS and obj["spec"].get("nodeName"):
        _scheduled(obj, now)
    if owners:
        obj["metadata"]["managedFields"] = owners
    return obj


def update(row: Row, old: Object, new: Object, subresource: str, options: WriteOptions, *, now: float) -> Object:
    """The object to store in place of `old`. Raises InvalidObject, BadRequest, ObjectModified."""
    new = _typed(row, new)
    before = meta.metadata(old)
    after = meta.metadata(new)
    name = str(before.get("name", ""))
    if after.get("resourceVersion") and after["resourceVersion"] != before.get("resourceVersion"):
        raise ObjectModified.of(row.resource, name)
    if after.get("uid") and after["uid"] != before.get("uid"):
        raise ObjectModified.of(
            row.resource,
            name,
            f"Precondition failed: UID in precondition: {after['uid']}, UID in object meta: {before.get('uid')}",
        )
    for key in ("name", "namespace"):
        if after.get(key) and after[key] != before.get(key, ""):
            raise BadRequest(
                f"the {key} of the object ({after[key]}) does not match the {key} on the URL ({before.get(key, '')})"
            )
    _check(row, new, options)
    stored = without_version(old)
    match subresource:
        case "status":
            result = dict(stored)
            if "status" in new:
                result["status"] = new["status"]
            else:
                result.pop("status", None)
            return result
        case "finalize":
            return {**stored, "spec": new.get("spec") or {}}
        case "ephemeralcontainers" | "resize":
            result = pod_subresources.changed(row, subresource, stored, new)
            return managed_fields.updated(row.strategy.schema, stored, result, options.manager, now=now)
    owners = after.get("managedFields")
    meta.prepare_for_update(new, stored)
    if row.has_status:
        new.pop("status", None)
        if "status" in stored:
            new["status"] = stored["status"]
    if row.resource == SERVICES:
        _keep_addresses(new, stored)
    row.strategy.fill(new)
    _no_new_finalizers(row, new, stored)
    validation_kinds.update(row, new, stored)
    if row.counts_generation and new.get("spec") != stored.get("spec"):
        new["metadata"]["generation"] = int(before.get("generation") or 0) + 1
    if row.resource == PODS and new["spec"].get("nodeName") and not stored["spec"].get("nodeName"):
        _scheduled(new, now)
    if owners is not None:
        new["metadata"]["managedFields"] = owners
    if options.applied:
        return new
    return managed_fields.updated(row.strategy.schema, stored, new, options.manager, now=now)


def _keep_addresses(service: Object, old: Object) -> None:
    """A manifest does not name the address that the server gave: `kubectl replace` keeps it."""
    spec, before = service.get("spec"), old.get("spec") or {}
    if isinstance(spec, dict) and spec.get("type") != "ExternalName" and not spec.get("clusterIP"):
        service["spec"] = {**spec, **{key: before[key] for key in ("clusterIP", "clusterIPs") if key in before}}


def checked(row: Row, obj: Object, options: WriteOptions) -> Object:
    """A copy without nulls whose fields have the types of the row's kind. Raises BadRequest, InvalidObject."""
    found = _typed(row, obj)
    _check(row, found, options)
    return found


def _typed(row: Row, obj: Object) -> Object:
    """A copy without nulls, of the kind that the resource has."""
    if not isinstance(obj, dict):
        raise BadRequest(f"an object of kind {row.resource.kind} is expected, not a {schema.found_type(obj)}")
    kind, version = obj.get("kind"), obj.get("apiVersion")
    if (kind not in (None, row.resource.kind)) or (version not in (None, "", row.resource.api_version)):
        raise BadRequest(
            f"{str(kind)[:64]} in version {str(version)[:64]!r} cannot be handled as a {row.resource.kind}: "
            f"this address takes {row.resource.kind} of {row.resource.api_version}"
        )
    clean: Object = meta.typed(row.resource, meta.without_nulls(obj))
    if "metadata" in clean and not isinstance(clean["metadata"], dict):
        raise BadRequest(f"metadata must be an object, not a {schema.found_type(clean['metadata'])}")
    return clean


def _check(row: Row, obj: Object, options: WriteOptions) -> None:
    kind = row.resource.kind
    errors, unknown = schema.check(row.strategy.schema, obj)
    if not row.strategy.schema:
        errors = schema.check("Unknown", {"metadata": obj.get("metadata")})[0]
    if errors:
        raise InvalidObject.of(row.resource, meta.name_of(obj)[:253], errors)
    if unknown and options.field_validation == "Strict":
        text = ", ".join(f'unknown field "{path}"' for path in unknown[:32])
        raise BadRequest(
            f'{kind} in version "{row.resource.version}" cannot be handled as a {kind}: strict decoding error: {text}'
        )
    if unknown and options.field_validation == "Warn":
        options.warnings.extend(f'unknown field "{path}"' for path in unknown[:32])


def _no_new_finalizers(row: Row, new: Object, old: Object) -> None:
    meta_new, meta_old = meta.metadata(new), meta.metadata(old)
    if not meta_old.get("deletionTimestamp"):
        return
    kept = set(meta_old.get("finalizers") or [])
    added = [name for name in meta_new.get("finalizers") or [] if name not in kept][:8]
    if added:
        error = forbidden(
            "metadata.finalizers", f"no new finalizers can be added if the object is being deleted, found new: {added}"
        )
        raise InvalidObject.of(row.resource, meta.name_of(old), [error])


def _scheduled(pod: Object, now: float) -> None:
    status = pod.setdefault("status", {})
    conditions = [c for c in status.get("conditions") or [] if c.get("type") != "PodScheduled"]
    conditions.append(
        {
            "type": "PodScheduled",
            "status": "True",
            "lastTransitionTime": meta.timestamp(now),
        }
    )
    status["conditions"] = conditions


def bind(row: Row, pod: Object, node: str, *, now: float) -> Object:
    """The pod bound to `node`. Raises ObjectModified when it is bound or being deleted."""
    bound = without_version(pod)
    name = meta.name_of(pod)
    spec = dict(bound.get("spec") or {})
    if spec.get("nodeName"):
        raise ObjectModified.of(row.resource, name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if meta.metadata(bound).get("deletionTimestamp"):
        raise ObjectModified.of(row.resource, name, f"pod {name} is being deleted, cannot be assigned to a host")
    spec["nodeName"] = node
    bound["spec"] = spec
    bound["status"] = dict(bound.get("status") or {})
    _scheduled(bound, now)
    return bound


def without_version(obj: Object) -> Object:
    """A copy in the form that is stored: the resourceVersion is the store's, not a part of the value."""
    inner = {key: value for key, value in meta.metadata(obj).items() if key != "resourceVersion"}
    return {**obj, "metadata": inner}


def delete(row: Row, obj: Object, options: DeleteOptions, *, now: float) -> Object | None:
    """The object with its deletionTimestamp, or None when nothing has to be waited for.

    Raises ObjectModified when a precondition does not hold, Forbidden for what may not go.
    """
    current = meta.metadata(obj)
    name = meta.name_of(obj)
    for wanted, found, what in (
        (options.uid, current.get("uid"), "UID"),
        (options.resource_version, current.get("resourceVersion"), "ResourceVersion"),
    ):
        if wanted and wanted != found:
            raise ObjectModified.of(
                row.resource,
                name,
                f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}",
            )
    if row.resource == NAMESPACES:
        return _delete_namespace(row, obj, now)
    stored = without_version(obj)
    inner = dict(meta.metadata(stored))
    finalizers = list(inner.get("finalizers") or [])
    if options.propagation == "Foreground" and FOREGROUND not in finalizers and not inner.get("deletionTimestamp"):
        finalizers.append(FOREGROUND)
        inner["finalizers"] = finalizers
    if options.propagation == "Orphan" and ORPHAN not in finalizers and not inner.get("deletionTimestamp"):
        finalizers.append(ORPHAN)
        inner["finalizers"] = finalizers
    grace = _grace(row, stored, options.grace_period)
    earlier = inner.get("deletionGracePeriodSeconds")
    if inner.get("deletionTimestamp"):
        if isinstance(earlier, int) and grace < earlier:
            # Shorter counts from the first deletion, as Kubernetes does it.
            begun = (meta.parse_timestamp(inner["deletionTimestamp"]) or now) - earlier
            inner["deletionTimestamp"] = meta.timestamp(max(begun + grace, now))
            inner["deletionGracePeriodSeconds"] = grace
    else:
        inner["deletionTimestamp"] = meta.timestamp(now + grace)
        inner["deletionGracePeriodSeconds"] = grace
        if row.counts_generation:
            inner["generation"] = int(inner.get("generation") or 0) + 1
    deleting = {**stored, "metadata": inner}
    return None if is_finished(row, deleting) else deleting


def _grace(row: Row, obj: Object, wanted: int | None) -> int:
    """Only a pod that a node may be running needs time."""
    if row.resource != PODS:
        return 0
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    if wanted is not None and wanted >= 0:
        return wanted
    own = spec.get("terminationGracePeriodSeconds")
    return own if isinstance(own, int) and own >= 0 else DEFAULT_GRACE


def _delete_namespace(row: Row, obj: Object, now: float) -> Object | None:
    name = meta.name_of(obj)
    if name in IMMORTAL:
        raise Forbidden.of(row.resource, name, "this namespace may not be deleted")
    deleting = without_version(obj)
    if not meta.metadata(deleting).get("deletionTimestamp"):
        deleting["metadata"] = {**deleting["metadata"], "deletionTimestamp": meta.timestamp(now)}
    deleting["status"] = {**(deleting.get("status") or {}), "phase": "Terminating"}
    return deleting


def is_finished(row: Row, obj: Object) -> bool:
    """Is it being deleted, and nothing more has to happen before it is removed?"""
    inner = meta.metadata(obj)
    if not inner.get("deletionTimestamp") or inner.get("finalizers"):
        return False
    if row.resource == NAMESPACES:
        return not (obj.get("spec") or {}).get("finalizers")
    return not inner.get("deletionGracePeriodSeconds")


def scale_of(obj: Object) -> Object:
    """autoscaling/v1 Scale of a Deployment or ReplicaSet."""
    source, spec, status = meta.metadata(obj), obj.get("spec") or {}, obj.get("status") or {}
    selector = spec.get("selector") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            key: source[key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if key in source
        },
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": {"replicas": status.get("replicas", 0), "selector": selector_text(selector)},
    }


def selector_text(selector: Any) -> str:
    """A LabelSelector in the form of `kubectl get -l`."""
    selector = selector if isinstance(selector, dict) else {}
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or []:
        key, values = expression.get("key"), ",".join(expression.get("values") or [])
        match expression.get("operator"):
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(str(key))
            case "DoesNotExist":
                parts.append(f"!{key}")
    return ",".join(parts)


def rescaled(obj: Object, scale: Any) -> Object:
    """The object with the replicas of a Scale. Raises BadRequest."""
    replicas = (
        scale.get("spec", {}).get("replicas", 0)
        if isinstance(scale, dict) and isinstance(scale.get("spec", {}), dict)
        else None
    )
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise BadRequest("a Scale needs spec.replicas, an integer")
    changed = {**obj, "spec": {**(obj.get("spec") or {}), "replicas": replicas}}
    version = (scale.get("metadata") or {}).get("resourceVersion")
    if version:
        changed["metadata"] = {**meta.metadata(obj), "resourceVersion": version}
    return changed


def without_owner(obj: Object, uid: str) -> Object | None:
    """The object without its reference to owner `uid`; None when it has none."""
    references: Sequence[Any] = meta.metadata(obj).get("ownerReferences") or []
    kept = [reference for reference in references if reference.get("uid") != uid]
    if len(kept) == len(references):
        return None
    inner = {**meta.metadata(obj), "ownerReferences": kept}
    if not kept:
        del inner["ownerReferences"]
    return {**obj, "metadata": inner}
