"""What a ContainerStatus v1 says of a run besides its state: user, resources, mounts, stop signal. Pure."""

from __future__ import annotations

from typing import Any

from kubeedge.api.pod import Container, ResourceRequirements
from kubeedge.api.quantities import format_bytes, format_millicores
from kubeedge.appengine.core import ContainerObservation


def container_details(container: Container, state: ContainerObservation) -> dict[str, Any]:
    """Fields of the status; those that are not known, or have nothing to say, are left out."""
    details: dict[str, Any] = {}
    if state.user is not None and state.running:
        user = state.user
        details["user"] = {"linux": {"uid": user.uid, "gid": user.gid, "supplementalGroups": list(user.groups)}}
    if container.stop_signal and state.running:
        details["stopSignal"] = container.stop_signal
    if state.resources is not None and state.running and (resources := _resources(state.resources)):
        details["resources"] = resources
        if requests := resources.get("requests"):
            details["allocatedResources"] = requests
    if container.mounts and state.running:
        details["volumeMounts"] = [
            {
                "name": mount.name,
                "mountPath": mount.path,
                **({"readOnly": True} if mount.read_only else {}),
                **(
                    {"recursiveReadOnly": "Disabled" if mount.recursive_read_only == "Disabled" else "Enabled"}
                    if mount.read_only
                    else {}
                ),
            }
            for mount in container.mounts
        ]
    return details


def _resources(of: ResourceRequirements) -> dict[str, dict[str, str]]:
    limits = {"cpu": of.cpu_limit, "memory": of.memory_limit}
    requests = {"cpu": of.cpu_request, "memory": of.memory_request or of.memory_limit}
    shown = {"limits": _quantities(limits), "requests": _quantities(requests)}
    return {name: values for name, values in shown.items() if values}


def _quantities(values: dict[str, int | None]) -> dict[str, str]:
    form = {"cpu": format_millicores, "memory": format_bytes}
    return {name: form[name](value) for name, value in values.items() if value}
