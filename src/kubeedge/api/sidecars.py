"""Sidecars of a PodSpec: init containers that go on beside the others (restartPolicy Always). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kubeedge.api.names import Object


def is_sidecar(container: Object) -> bool:
    """To be asked of init containers alone: a container of the pod may have the same policy."""
    return container.get("restartPolicy") == "Always"


def lasting(spec: Object) -> Iterator[Object]:
    """The containers that run while the pod does: its own, then its sidecars."""
    yield from spec.get("containers") or ()
    yield from (container for container in spec.get("initContainers") or () if is_sidecar(container))
