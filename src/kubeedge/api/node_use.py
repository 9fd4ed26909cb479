"""Rules of what a pod asks of its node beyond processes: ports of the machine, kernel parameters, and where volumes are mounted. Pure.

Lives elsewhere: the other rules of pods (validation.py), how a node reads them (pod_parser.py), where nothing is mounted (mount_targets.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kubeedge.api.findings import Findings
from kubeedge.api.mount_targets import refusal
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, duplicate, invalid
from kubeedge.api.validation_names import as_list, as_map


def mount_target(mount: Object, sources: Mapping[str, str], path: str) -> list[FieldError]:
    """Rule of one of `volumeMounts`. `sources`: the path of each volume that is a hostPath."""
    target = str(mount.get("mountPath") or "")
    part = mount.get("subPath") or mount.get("subPathExpr")
    why = refusal(target, "" if part else sources.get(str(mount.get("name")), "")) if target else ""
    return [invalid(f"{path}.mountPath", target, why)] if why else []


def host_paths(spec: Object) -> dict[str, str]:
    """Name -> path, of the volumes of a PodSpec that are the node's own."""
    paths = {str(v.get("name")): as_map(v.get("hostPath")).get("path") for v in as_list(spec.get("volumes"))}
    return {name: str(found) for name, found in paths.items() if found}


def host_ports(spec: Object, path: str) -> list[FieldError]:
    """Of all containers a port of the node is one's; init containers have it one after the other."""
    errors: list[FieldError] = Findings()
    containers = enumerate(as_list(spec.get("containers")))
    errors += _once(
        found for index, container in containers for found in _ports(container, f"{path}.containers[{index}]")
    )
    for index, container in enumerate(as_list(spec.get("initContainers"))):
        errors += _once(_ports(container, f"{path}.initContainers[{index}]"))
    return errors


def _ports(container: Object, path: str) -> Iterator[tuple[str, str]]:
    """Where each port of the node is asked for, and which one."""
    for index, port in enumerate(as_list(container.get("ports"))):
        if port.get("hostPort"):
            key = f"{port.get('protocol') or 'TCP'}/{port.get('hostIP') or ''}/{port['hostPort']}"
            yield f"{path}.ports[{index}].hostPort", key


def _once(found: Iterable[tuple[str, str]]) -> list[FieldError]:
    seen: set[str] = set()
    errors: list[FieldError] = Findings()
    for where, value in found:
        if value in seen:
            errors.append(duplicate(where, value))
        seen.add(value)
    return errors


def sysctls(spec: Object, path: str) -> list[FieldError]:
    """A kernel parameter has one value, in whichever of its two spellings it is named."""
    where = f"{path}.securityContext.sysctls"
    items = as_list(as_map(spec.get("securityContext")).get("sysctls"))
    names = ((f"{where}[{n}].name", str(as_map(item).get("name") or "")) for n, item in enumerate(items))
    return _once((at, name.replace("/", ".")) for at, name in names if name)
