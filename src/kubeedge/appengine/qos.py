"""What a pod asks for and may have as a whole: what it says itself (spec.resources, KEP-2837), or the sum of its containers, as the kubelet counts it
(KEP-753, Pod Overhead). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from kubeedge.api.pod import Container, Pod, ResourceRequirements
from kubeedge.kit.dataclasses import replace

_NOTHING = ResourceRequirements(None, None, 0, 0)
_Amount: TypeAlias = Callable[[ResourceRequirements], int]


def pod_resources(pod: Pod, has: Mapping[str, ResourceRequirements]) -> ResourceRequirements:
    """`has`: of containers that run, by name; where it differs from what they should have, the more of both counts, for a pod's limit must not
    be below what is in use already. A limit that one of the containers does not have is none of the pod."""
    containers = {c.name: _more(c.resources, has.get(c.name)) for c in (*pod.init_containers, *pod.containers)}
    over = pod.overhead

    def total(amount: _Amount) -> int:
        return _total(pod, lambda container: amount(containers[container.name]))

    whole = pod.resources or _NOTHING
    cpu = total(lambda r: r.cpu_limit or 0) if all(r.cpu_limit for r in containers.values()) else 0
    memory = total(lambda r: r.memory_limit or 0) if all(r.memory_limit for r in containers.values()) else 0
    cpu, memory = whole.cpu_limit or cpu, whole.memory_limit or memory
    return ResourceRequirements(
        cpu + over.cpu_request if cpu else None,
        memory + over.memory_request if memory else None,
        (whole.cpu_request or total(lambda r: r.cpu_request)) + over.cpu_request,
        (memory_request(whole) or total(memory_request)) + over.memory_request,
    )


def of_container(pod: Pod, resources: ResourceRequirements) -> ResourceRequirements:
    """What a container of the pod runs with, which has these: limits that it does not have itself are those of the pod. It asks for what it says."""
    whole = pod.resources
    if whole is None:
        return resources
    return replace(
        resources,
        cpu_limit=resources.cpu_limit or whole.cpu_limit,
        memory_limit=resources.memory_limit or whole.memory_limit,
        huge_pages={**whole.huge_pages, **resources.huge_pages},
    )


def memory_request(resources: ResourceRequirements) -> int:
    """Of a container, in bytes; one that has only a limit asks for that."""
    return resources.memory_request or resources.memory_limit or 0


def _total(pod: Pod, of: Callable[[Container], int]) -> int:
    """Containers and sidecars run together; an init container runs with the sidecars before it."""
    most, sidecars = 0, 0
    for container in pod.init_containers:
        if container.sidecar:
            sidecars += of(container)
        most = max(most, sidecars + (0 if container.sidecar else of(container)))
    return max(most, sidecars + sum(map(of, pod.containers)))


def _more(wanted: ResourceRequirements, has: ResourceRequirements | None) -> ResourceRequirements:
    if has is None:
        return wanted
    return replace(
        wanted,
        cpu_limit=max(wanted.cpu_limit, has.cpu_limit) if wanted.cpu_limit and has.cpu_limit else None,
        memory_limit=max(wanted.memory_limit, has.memory_limit) if wanted.memory_limit and has.memory_limit else None,
        cpu_request=max(wanted.cpu_request, has.cpu_request),
        memory_request=max(wanted.memory_request, has.memory_request),
    )
