"""How many of a thing one object may list, where it is compared with as many of others. Pure.

A scheduler compares tolerations with taints, terms of affinity with pods, and a controller the ports of a Service with those of pods. Each list alone
is bounded by what an object may have (json_bounds.py); two of them together would be millions of steps, which all tenants of a process wait for.
"""

from __future__ import annotations

from typing import Any

from kubeedge.api.findings import Findings
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, too_many
from kubeedge.api.validation_names import as_list, as_map

_TOLERATIONS = 256
_TAINTS = 256
_PORTS_OF_SERVICE = 100  # as a node takes (kubeedge.mesh.model), and as one EndpointSlice has
_PORTS_OF_POD = 1000  # of all containers
_TERMS = 32  # of each kind of affinity to pods
_AFFINITY = 1000  # values, of all in `affinity`
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def pod(spec: Object, path: str) -> list[FieldError]:
    """Rules of a PodSpec, of a pod or of a template."""
    errors: list[FieldError] = Findings()
    errors += _most(f"{path}.tolerations", len(as_list(spec.get("tolerations"))), _TOLERATIONS)
    groups = ("containers", "initContainers", "ephemeralContainers")
    containers = [as_map(one) for group in groups for one in as_list(spec.get(group))]
    errors += _most(f"{path}.containers", sum(len(as_list(one.get("ports"))) for one in containers), _PORTS_OF_POD)
    affinity = as_map(spec.get("affinity"))
    for kind in ("podAffinity", "podAntiAffinity"):
        for when in (_REQUIRED, _PREFERRED):
            found = as_list(as_map(affinity.get(kind)).get(when))
            errors += _most(f"{path}.affinity.{kind}.{when}", len(found), _TERMS)
    return errors + _most(f"{path}.affinity", _values(affinity), _AFFINITY)


def service(spec: Object) -> list[FieldError]:
    """Rules of the spec of a Service."""
    return _most("spec.ports", len(as_list(spec.get("ports"))), _PORTS_OF_SERVICE)


def node(spec: Object) -> list[FieldError]:
    """Rules of the spec of a Node."""
    return _most("spec.taints", len(as_list(spec.get("taints"))), _TAINTS)


def _most(path: str, number: int, limit: int) -> list[FieldError]:
    return [too_many(path, number, limit)] if number > limit else []


def _values(value: Any) -> int:
    """All in it, itself included; how deep it may be is bounded before (json_bounds.py)."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_values, inner))
