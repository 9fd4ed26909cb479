"""What a container's environment and volumes refer to: ConfigMaps, Secrets, fields of the pod. Pure.

Raises Missing for what is not there (yet) and not optional: the container waits, and is tried again when something changes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kubeedge.api import quantities
from kubeedge.api.names import Object
from kubeedge.api.pod import Container, Pod
from kubeedge.appengine import qos, service_links
from kubeedge.appengine.runtime.oci_spec import MAX_EXPANDED, expand
from kubeedge.errors import Invalid, KubeEdgeError

#: (resource, namespace, name) -> the object in the local store, or None
Lookup = Callable[[str, str, str], Object | None]


NOTHING: Mapping[str, int] = {}


class Missing(KubeEdgeError):
    """Something that a container needs is not on this node."""


def environment(
    pod: Pod,
    container: Container,
    lookup: Lookup,
    *,
    pod_ip: str,
    host_ip: str,
    node: str,
    services: Iterable[Object] = (),
    allocatable: Mapping[str, int] = NOTHING,
    api: Mapping[str, str] | None = None,
    files: Mapping[tuple[str, str], str | None] | None = None,
) -> dict[str, str]:
    """In the order of the manifest: a later variable may refer to an earlier one as $(NAME). What is there for `services` is the first, then
    what says where the API is (`api`). `files`: what env_file_reader.read_all() has read for it."""
    env, room = {**service_links.variables(services), **(api or {})}, MAX_EXPANDED

    def keep(name: str, value: str) -> None:
        """One ConfigMap of 1 MB can be named a thousand times; a Secret holds any bytes."""
        nonlocal room
        room -= len(value)
        if "\0" in value:
            raise Invalid(f"the value of variable {name!r:.200} has a NUL character", path="env")
        if room < 0:
            raise Invalid(f"the environment is longer than {MAX_EXPANDED} characters", path="env")
        env[name] = value

    for source in container.env_from:
        values = data(pod, source.kind, source.name, source.optional, lookup, binary=False)
        for key, content in values.items():
            keep(source.prefix + key, content.decode(errors="replace"))
    for variable in container.env:
        if variable.source is None:
            keep(variable.name, expand(variable.value or "", env, room))
        elif ref := object_of(variable.source, "resourceFieldRef"):
            keep(variable.name, resource_field(pod, ref, container, allocatable))
        elif ref := object_of(variable.source, "fileKeyRef"):
            if (found := _of_file(ref, files or {})) is not None:
                keep(variable.name, found)
        elif (value := _value_from(pod, variable.source, lookup, pod_ip, host_ip, node)) is not None:
            keep(variable.name, value)
    return env


def _of_file(ref: Mapping[str, Any], files: Mapping[tuple[str, str], str | None]) -> str | None:
    """None for what is not there, and need not be. An empty value is none, as for the kubelet."""
    from kubeedge.appengine import env_files  # few pods have such variables

    if value := env_files.value_of(ref, files):
        return value
    if ref.get("optional"):
        return None
    raise Missing(
        f'environment variable key "{ref["key"]}" not found in file "{ref["path"]}" of volume {ref["volumeName"]}'
    )


def _value_from(
    pod: Pod, source: Mapping[str, Any], lookup: Lookup, pod_ip: str, host_ip: str, node: str
) -> str | None:
    for key, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if ref := object_of(source, key):
            optional = bool(ref.get("optional"))
            values = data(pod, kind, str(ref.get("name", "")), optional, lookup, str(ref.get("key")), binary=False)
            if str(ref.get("key")) in values:
                return values[str(ref.get("key"))].decode(errors="replace")
            if optional:
                return None
            raise Missing(f"couldn't find key {ref.get('key')} in {kind[:-1]} {pod.namespace}/{ref.get('name')}")
    if ref := object_of(source, "fieldRef"):
        return field(pod, str(ref.get("fieldPath", "")), pod_ip=pod_ip, host_ip=host_ip, node=node)
    raise Invalid(f"valueFrom with {', '.join(source)} is not supported", path="env")


def field(pod: Pod, path: str, *, pod_ip: str, host_ip: str, node: str) -> str:
    """The value of a field that the downward API offers. `pod_ip`, `host_ip`: those of both versions of IP have a comma between."""
    fixed = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.uid,
        "spec.nodeName": node,
        "spec.serviceAccountName": pod.service_account,
        "status.podIP": pod_ip.partition(",")[0],
        "status.podIPs": pod_ip,
        "status.hostIP": host_ip.partition(",")[0],
        "status.hostIPs": host_ip,
    }
    if path in fixed:
        return fixed[path]
    for prefix, values in (("metadata.labels", pod.labels), ("metadata.annotations", pod.annotations)):
        if path == prefix:
            return "\n".join(f"{k}={_quoted(v)}" for k, v in sorted(values.items()))
        if path.startswith(prefix + "['") and path.endswith("']"):
            return values.get(path[len(prefix) + 2 : -2], "")
    raise Invalid(f"the field {path!r} cannot be referred to", path="fieldRef")


_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


def _quoted(text: str) -> str:
    """As Go's %q, in which the kubelet writes labels and annotations: programs take each line for one of them, and unquote its value."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escaped(ord(c))) for c in text) + '"'


def _escaped(code: int) -> str:
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def resource_field(
    pod: Pod, ref: Mapping[str, Any], container: Container, allocatable: Mapping[str, int] = NOTHING
) -> str:
    """A resourceFieldRef in units of its divisor, rounded up, as a decimal number. `container` is meant when it names none.

    A limit that is not set is the pod's, or what the node has: `allocatable`, "cpu" in thousandths, the others in bytes. Raises Invalid.
    """
    resource, divisor = str(ref.get("resource", "")), str(ref.get("divisor") or "0")
    if name := ref.get("containerName"):
        container = next((c for c in pod.all_containers if c.name == name), container)
    r, name = qos.of_container(pod, container.resources), container.name
    values = {
        "limits.cpu": r.cpu_limit or allocatable.get("cpu", 0),
        "requests.cpu": r.cpu_request,
        "limits.memory": r.memory_limit or allocatable.get("memory", 0),
        "requests.memory": r.memory_request or container.resources.memory_limit or 0,
        "limits.ephemeral-storage": pod.storage.limits.get(name) or allocatable.get("ephemeral-storage", 0),
        "requests.ephemeral-storage": pod.storage.requests.get(name) or pod.storage.limits.get(name, 0),
    }
    for size, amount in r.huge_pages.items():
        values[f"limits.hugepages-{size}"] = values[f"requests.hugepages-{size}"] = amount
    if resource not in values:
        raise Invalid(f"the resource {resource!r} cannot be referred to", path="resourceFieldRef")
    is_cpu = resource.endswith("cpu")
    unit = (
        quantities.millicores("1" if divisor in ("", "0") else divisor)
        if is_cpu
        else quantities.bytes_of("1" if divisor in ("", "0") else divisor)
    )
    return str(-(-values[resource] // max(1, unit)))


def data(
    pod: Pod,
    resource: str,
    name: str,
    optional: bool,
    lookup: Lookup,
    only: str | None = None,
    *,
    binary: bool = True,
) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret in the namespace of the pod, or `only` one of them; `resource` is "configmaps" or "secrets".
    `binary`: also the binaryData of a ConfigMap, which is for files and never for variables."""
    obj = lookup(resource, pod.namespace, name)
    if obj is None:
        if optional:
            return {}
        raise Missing(f'{resource[:-1]} "{name}" not found')
    secret = resource == "secrets"
    values = {} if secret else {key: str(v).encode() for key, v in _items(obj.get("data"), only)}
    encoded = obj.get("data") if secret else obj.get("binaryData") if binary else None
    for key, value in _items(encoded, only):
        try:
            values[key] = base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError) as exc:
            raise Missing(f"{resource[:-1]} {pod.namespace}/{name}: key {key} is not base64") from exc
    return values


def _items(values: Mapping[str, Any] | None, only: str | None) -> Iterable[tuple[str, Any]]:
    """A pod may name one key of 10,000 in each of its variables."""
    if not values or only is None:
        return (values or {}).items()
    return [(only, values[only])] if only in values else []


def safe_path(path: str) -> str:
    """A relative path that stays below where it is put. What begins with ".." is ours (volumes/files.py). Raises Invalid."""
    parts = [p for p in path.split("/") if p not in ("", ".")]
    if path.startswith("/") or not parts or "\0" in path or any(p.startswith("..") for p in parts):
        raise Invalid(f"{path!r} is not a path below a volume", path="spec.volumes")
    return "/".join(parts)


def sub_path(expression: str, env: Mapping[str, str]) -> str:
    """$(NAME) of a subPathExpr. A variable that is not there must not mount another part of the volume."""
    missing = [name for name in re.findall(r"(?<!\$)\$\(([^)]*)\)", expression) if name not in env]
    if missing:
        raise Missing(f"subPathExpr {expression!r:.200}: the container has no variable {missing[0]}")
    return expand(expression, env)


def object_of(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object of JSON; {} when it is absent. Raises Invalid for anything else."""
    value = values.get(key) or {}
    if not isinstance(value, dict):
        raise Invalid(f"{value!r:.60} instead of an object", path=key)
    return value


def items_of(values: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """[] when it is absent. Raises Invalid for anything but a list of objects."""
    items = values.get(key) or []
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
        raise Invalid(f"{items!r:.60} instead of a list of objects", path=key)
    return items
