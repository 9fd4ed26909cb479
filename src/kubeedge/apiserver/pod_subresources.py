"""Writes to pods/ephemeralcontainers and pods/resize. Pure.

Each takes one part of what is sent, and the rest of the pod stays as it is, whatever was sent of it.
"""

from __future__ import annotations

from typing import Any

from kubeedge.api import defaults, validation_kinds
from kubeedge.api.findings import Findings
from kubeedge.api.meta import name_of
from kubeedge.api.names import Object
from kubeedge.api.resources import Row
from kubeedge.api.status import FieldError, InvalidObject, forbidden, invalid

_RESIZABLE = ("cpu", "memory")
_FINAL = ("Succeeded", "Failed")


def changed(row: Row, subresource: str, old: Object, new: Object) -> Object:
    """The pod to store; metadata.generation counts what has changed. Raises InvalidObject."""
    spec, before = _spec(new), _spec(old)
    errors: list[FieldError] = Findings()
    if subresource == "ephemeralcontainers":
        sent = {"ephemeralContainers": spec.get("ephemeralContainers") or []}
        errors += _kept(before, sent)
    else:
        sent = {
            kind: _resized(before, spec, kind, errors) for kind in ("initContainers", "containers") if before.get(kind)
        }
    result = {**old, "spec": {**before, **sent}, "metadata": dict(old["metadata"])}
    row.strategy.fill(result)
    errors = errors or row.strategy.validate(result) or validation_kinds.for_nodes(row, result)
    if subresource == "resize":
        errors = errors or _same_class(old, result)
    if errors:
        raise InvalidObject.of(row.resource, name_of(old), errors)
    if result["spec"] != before:
        result["metadata"]["generation"] = int(result["metadata"].get("generation") or 0) + 1
    return result


def _spec(obj: Object) -> Object:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def _objects(value: Any) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _kept(before: Object, sent: Object) -> list[FieldError]:
    """Ephemeral containers are added, and neither changed nor removed."""
    path, errors = "spec.ephemeralContainers", Findings()
    now = {container.get("name"): container for container in _objects(sent["ephemeralContainers"])}
    for container in _objects(before.get("ephemeralContainers")):
        after = dict(now.get(container["name"]) or {})
        defaults.container(after)
        if container["name"] not in now:
            errors.append(forbidden(path, f"existing ephemeral containers {container['name']!r} may not be removed"))
        elif after != container:
            errors.append(forbidden(path, f"existing ephemeral containers {container['name']!r} may not be changed"))
    return errors


def _resized(before: Object, spec: Object, kind: str, errors: list[FieldError]) -> list[Object]:
    """The containers as they were, with the resources that are sent for them."""
    sent = {container.get("name"): container for container in _objects(spec.get(kind))}
    result = []
    for index, container in enumerate(_objects(before.get(kind))):
        path = f"spec.{kind}[{index}].resources"
        wanted = sent.get(container["name"])
        had = container.get("resources") or {}
        resources = (wanted.get("resources") or {}) if wanted is not None else had
        if resources != had:
            errors += _may_resize(container, kind, had, resources, path)
        result.append({**container, "resources": resources})
    return result


def _may_resize(container: Object, kind: str, had: Object, wanted: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    if kind == "initContainers" and container.get("restartPolicy") != "Always":
        errors.append(forbidden(path, "only containers that go on can be resized"))
    for group in ("limits", "requests"):
        before, after = had.get(group) or {}, wanted.get(group) or {}
        for name in sorted({*before, *after}):
            if before.get(name) == after.get(name):
                continue
            if name not in _RESIZABLE:
                errors.append(forbidden(f"{path}.{group}", "only cpu and memory resources are mutable"))
            elif name not in after:
                errors.append(forbidden(f"{path}.{group}", f"resource {group} cannot be removed"))
    return errors


def _same_class(old: Object, new: Object) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    if (old.get("status") or {}).get("phase") in _FINAL:
        errors.append(forbidden("spec", "a pod that has ended cannot be resized"))
    before, after = defaults.qos_class(_spec(old)), defaults.qos_class(_spec(new))
    if before != after:
        errors.append(invalid("spec", after, f"Pod QOS Class may not change as a result of resizing (it is {before})"))
    return errors
