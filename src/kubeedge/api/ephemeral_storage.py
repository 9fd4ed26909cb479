"""What the containers of a pod may write to the node's disk: their requests and limits of ephemeral-storage. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeedge.api import quantities
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EphemeralStorage:
    """Bytes, by the name of the container; a container without a limit is not in `limits`."""

    requests: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def limit(self) -> int | None:
        """Of the pod: the sum, when every container has one; the kubelet holds a pod to the limits that it has."""
        return sum(self.limits.values()) if self.limits else None


def read(spec: Mapping[str, Any]) -> EphemeralStorage:
    """Requests and limits of local storage in a PodSpec, in bytes. Raises Invalid."""
    found: dict[str, dict[str, int]] = {"requests": {}, "limits": {}}
    for container in spec.get("containers") or ():
        if not isinstance(container, Mapping):
            continue
        resources = container.get("resources")
        for kind, into in found.items():
            amounts = resources.get(kind) if isinstance(resources, Mapping) else None
            value = amounts.get("ephemeral-storage") if isinstance(amounts, Mapping) else None
            if value is not None:
                if not quantities.is_quantity(value):
                    raise Invalid(f"{value!r:.40} is no quantity", path=f"resources.{kind}.ephemeral-storage")
                into[str(container.get("name"))] = quantities.bytes_of(value)
    return EphemeralStorage(**found)
