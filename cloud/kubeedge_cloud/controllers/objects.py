"""Questions about objects that several controllers ask. Pure."""

from __future__ import annotations

import hashlib
import json
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeedge.api import meta
from kubeedge.api.client import Resource
from kubeedge.api.names import NamespacedName, Object

#: what may stand in a generated name: no vowels and no digits that look like letters
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
TEMPLATE_HASH = "pod-template-hash"
UNREACHABLE = "node.kubernetes.io/unreachable"
_SKEW = 60.0  # seconds that a clock may be ahead of ours


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_IDENTITY = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", "finalizers", "ownerReferences")


def key_of(obj: Object) -> NamespacedName:
    """(namespace, name); namespace "" for what has none."""
    return meta.namespace_of(obj), meta.name_of(obj)


def without_history(obj: Object) -> Object:
    """What no controller reads and every object carries."""
    inner = meta.metadata(obj)
    annotations = inner.get("annotations") or {}
    if "managedFields" in inner or _LAST_APPLIED in annotations:
        inner = {key: value for key, value in inner.items() if key != "managedFields"}
        if _LAST_APPLIED in annotations:
            inner["annotations"] = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
        return {**obj, "metadata": inner}
    return obj


def only_metadata(obj: Object) -> Object:
    """Enough to know whether an object exists and who owns it."""
    inner = meta.metadata(obj)
    return {"metadata": {key: inner[key] for key in _IDENTITY if key in inner}}


class Kept(dict[str, Any]):
    """An object that several caches may share. Never modify one: all of them would see it."""

    __slots__ = ("__weakref__",)


_kept: weakref.WeakValueDictionary[tuple[str, str, str], Kept] = weakref.WeakValueDictionary()
_SHORT = 64  # characters: names, times, quantities, enumerations; longer texts are rarely there twice


def shared(obj: Object, kind: str = "") -> Kept:
    """The same object as an equal one that is kept already; `kind` tells projections of one object apart.

    JSON makes new strings for each object that it reads, so the caches of thousands of nodes were mostly strings like
    "lastTransitionTime". Ours are interned.
    """
    inner = meta.metadata(obj)
    identity = (str(inner.get("uid") or ""), str(inner.get("resourceVersion") or ""), kind)
    there = _kept.get(identity)
    if there is not None and there == obj:
        return there
    kept = Kept(_interned(obj))
    _kept[identity] = kept
    return kept


def _interned(value: Any) -> Any:
    if isinstance(value, dict):
        return {_interned(key): _interned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_interned(item) for item in value]
    if type(value) is str and len(value) <= _SHORT:
        return sys.intern(value)
    return value


def uid_of(obj: Mapping[str, Any]) -> str:
    """Empty when the object was not created yet."""
    return str(meta.metadata(obj).get("uid") or "")


def spec_of(obj: Mapping[str, Any]) -> Object:
    """The object's own, not a copy; empty when there is none."""
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def status_of(obj: Mapping[str, Any]) -> Object:
    """The object's own, not a copy; empty when there is none."""
    status = obj.get("status")
    return status if isinstance(status, dict) else {}


def ips_of(pod: Mapping[str, Any]) -> list[str]:
    """The addresses of a pod, the first one first."""
    status = status_of(pod)
    listed = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    return list(dict.fromkeys(str(address) for address in listed if address))


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """The annotations of an object; empty when it has none."""
    return meta.metadata(obj).get("annotations") or {}


def generation_of(obj: Mapping[str, Any]) -> int:
    """metadata.generation, which counts changes of the spec; 0 when there is none."""
    return int(meta.metadata(obj).get("generation") or 0)


def created_of(obj: Mapping[str, Any]) -> float:
    """Seconds since 1970; 0.0 when the object was not created yet."""
    return meta.parse_timestamp(meta.metadata(obj).get("creationTimestamp")) or 0.0


def is_deleting(obj: Mapping[str, Any]) -> bool:
    """Whether it has a deletionTimestamp, and waits for its grace period or finalizers."""
    return bool(meta.metadata(obj).get("deletionTimestamp"))


def count(value: Any) -> int:
    """A number of a status; 0 when it is missing."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


# Ownership


def controller_of(obj: Mapping[str, Any]) -> Object | None:
    """The owner reference with `controller: true`; None: the object is an orphan."""
    for reference in meta.metadata(obj).get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None


def is_controlled_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    """By uid: an owner of the same name that was created again is another one."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid_of(owner)


def reference_to(resource: Resource, owner: Object) -> Object:
    """An OwnerReference v1 of the controlling owner, with blockOwnerDeletion."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": meta.name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


# Pods


def phase_of(pod: Mapping[str, Any]) -> str:
    """The phase of a pod; Pending before a status was reported."""
    return str(status_of(pod).get("phase") or "Pending")


def is_finished(pod: Mapping[str, Any]) -> bool:
    """Whether the containers of a pod have ended for good: its phase is Succeeded or Failed."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_active(pod: Mapping[str, Any]) -> bool:
    """Whether a pod counts: it runs or may still run."""
    return not is_finished(pod) and not is_deleting(pod)


def condition_of(obj: Mapping[str, Any], kind: str) -> Object | None:
    """A copy of the condition of that type; None: the status has none."""
    for condition in status_of(obj).get("conditions") or ():
        if condition.get("type") == kind:
            return dict(condition)
    return None


def is_ready(obj: Mapping[str, Any]) -> bool:
    """Whether the condition Ready of a pod or node is True."""
    condition = condition_of(obj, "Ready")
    return condition is not None and condition.get("status") == "True"


def ready_since(pod: Mapping[str, Any]) -> float:
    """lastTransitionTime of the condition Ready, whatever it is now, in seconds since 1970; 0.0 without one."""
    condition = condition_of(pod, "Ready") or {}
    return meta.parse_timestamp(condition.get("lastTransitionTime")) or 0.0


def available_in(pod: Mapping[str, Any], min_ready: int, now: float) -> float | None:
    """Seconds until a ready pod counts as available: 0 when it does; None when it is not ready."""
    if not is_ready(pod):
        return None
    return still(min_ready, ready_since(pod), now) if min_ready > 0 else 0.0


def still(duration: float, since: float, now: float) -> float:
    """Seconds until `duration` has passed since then, at least 0. A time far in the future does not count: the clock of the writer of `since`
    (a node, for example) is wrong, or ours was."""
    left = since + duration - now
    return left if 0.0 < left <= duration + _SKEW else 0.0


def deletion_rank(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sorts the pods that are missed least to the front, as Kubernetes does it."""
    statuses = status_of(pod).get("containerStatuses") or ()
    ready = is_ready(pod)
    return (
        bool(spec_of(pod).get("nodeName")),
        {"Pending": 0, "Unknown": 1}.get(phase_of(pod), 2),
        ready,
        _integer(annotations_of(pod).get("controller.kubernetes.io/pod-deletion-cost")),
        -ready_since(pod) if ready else 0.0,
        -max((count(status.get("restartCount")) for status in statuses), default=0),
        -created_of(pod),
        meta.name_of(pod),
    )


def _integer(text: Any) -> int:
    try:
        return int(str(text or 0))
    except ValueError:
        return 0


# Templates


def digest(value: Any, salt: int = 0) -> str:
    """Ten letters that equal values share, for labels and names."""
    canonical = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    number = int.from_bytes(hashlib.sha256(f"{salt}:{canonical}".encode()).digest()[:8])
    letters = []
    for _ in range(10):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def pod_of(template: Object, owner: Object, resource: Resource, labels: Mapping[str, str] | None = None) -> Object:
    """A pod of a workload's template."""
    wanted = meta.metadata(template)
    inner: Object = {
        "generateName": f"{meta.name_of(owner)}-",
        "namespace": meta.namespace_of(owner),
        "labels": {**(wanted.get("labels") or {}), **(labels or {})},
        "ownerReferences": [reference_to(resource, owner)],
    }
    for key in ("annotations", "finalizers"):
        if wanted.get(key):
            inner[key] = wanted[key]
    spec: Object = json.loads(json.dumps(template.get("spec") or {}))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": inner, "spec": spec}


def share_of(value: Any, total: int, *, up: bool) -> int:
    """maxSurge and the like: an integer, or a percentage of `total`, rounded."""
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdigit():
        product = int(value[:-1]) * total
        return -(-product // 100) if up else product // 100
    return max(0, count(value))


# Conditions


def with_condition(conditions: Iterable[Object], new: Object, now: float) -> list[Object]:
    """`new` instead of the one of its type; the time of the transition stays while the status does."""
    result: list[Object] = []
    found = False
    for condition in conditions:
        if condition.get("type") != new["type"]:
            result.append(condition)
            continue
        found = True
        same = condition.get("status") == new["status"] and condition.get("lastTransitionTime")
        result.append({**new, "lastTransitionTime": condition["lastTransitionTime"] if same else meta.timestamp(now)})
    if not found:
        result.append({**new, "lastTransitionTime": meta.timestamp(now)})
    return result


def oldest_first(objects: Iterable[Object]) -> Sequence[Object]:
    """The objects by creationTimestamp, which has whole seconds, then by name."""
    return sorted(objects, key=lambda obj: (created_of(obj), meta.name_of(obj)))


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """The RFC 7386 patch that makes `new` of `old`; {} when they are equal."""
    patch: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if key not in old:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(before, dict):
            inner = merge_diff(before, value)
            if inner:
                patch[key] = inner
        elif value != before or isinstance(value, bool) is not isinstance(before, bool):
            patch[key] = value
    return patch
