"""What device plugins say, checked, and which devices a container gets. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubeedge.api.container_parser import is_native
from kubeedge.api.names import Object
from kubeedge.appengine.runtime.base import BindMount, ContainerConfig, DeviceNode
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field, replace

VERSION = "v1beta1"
HEALTHY = "Healthy"
MAX_DEVICES = 4096  # of one plugin
_MAX_EDITS, _MAX_TEXT, _MAX_ID = 256, 4096, 256
_RESOURCE = re.compile(
    r"(?=.{3,316}$)[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_ENDPOINT = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,63}")
_PERMISSIONS = re.compile(r"(?=[rwm])r?w?m?")
_VARIABLE = re.compile(r"[^=\0]{1,256}")


@dataclass(frozen=True, slots=True)
class PluginRegistration:
    """Who offers a resource: a socket beside ours, and what else it wants to be asked."""

    resource: str
    endpoint: str
    prefers: bool  # it chooses among devices
    prestarts: bool  # it is told before each start of a container


@dataclass(frozen=True, slots=True)
class PluginDevice:
    """One device of a plugin. `numa` are nodes of the machine's memory that it is near to."""

    id: str
    is_healthy: bool
    numa: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class DeviceEdits:
    """What a plugin wants a container with its devices to have."""

    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[tuple[str, str, bool]] = ()  # on this machine, in the container, read-only
    devices: Sequence[DeviceNode] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cdi: Sequence[str] = ()  # names of devices of the Container Device Interface

    def applied(self, config: ContainerConfig) -> ContainerConfig:
        """A container with them. What its own specification says goes before."""
        taken = {mount.target for mount in config.mounts}
        mounts = [
            BindMount(Path(host), inside, read_only) for host, inside, read_only in self.mounts if inside not in taken
        ]
        return replace(
            config,
            env={**self.env, **config.env},
            mounts=[*config.mounts, *mounts],
            devices=self.devices,
            annotations=self.annotations,
            cdi=self.cdi,
        )

    def __or__(self, other: DeviceEdits) -> DeviceEdits:
        """Of two plugins together."""
        return DeviceEdits(
            {**self.env, **other.env},
            (*self.mounts, *other.mounts),
            (*self.devices, *other.devices),
            {**self.annotations, **other.annotations},
            (*self.cdi, *other.cdi),
        )


def registration(request: Object) -> PluginRegistration:
    """Raises Invalid for what no resource and no socket of ours could be."""
    version, resource = str(request.get("version") or ""), str(request.get("resource_name") or "")
    endpoint = str(request.get("endpoint") or "")
    if version != VERSION:
        raise Invalid(f"device plugins of version {version:.20} are not supported, {VERSION} is")
    if not is_extended(resource):
        raise Invalid(f"{resource!r:.120} is no name of an extended resource")
    if not _ENDPOINT.fullmatch(endpoint) or endpoint == "kubelet.sock":
        raise Invalid(f"{endpoint!r:.120} is no name of a socket in the directory of device plugins")
    options = request.get("options") or {}
    return PluginRegistration(
        resource,
        endpoint,
        bool(options.get("get_preferred_allocation_available")),
        bool(options.get("pre_start_required")),
    )


def is_extended(resource: str) -> bool:
    """The name of an extended resource: with a domain that is not Kubernetes' own."""
    return bool(_RESOURCE.fullmatch(resource)) and not is_native(resource)


def devices(answer: Object) -> dict[str, PluginDevice]:
    """Of a ListAndWatchResponse, by id. Raises Invalid."""
    listed = answer.get("devices") or ()
    if len(listed) > MAX_DEVICES:
        raise Invalid(f"a plugin has {len(listed)} devices; at most {MAX_DEVICES} are allowed")
    found: dict[str, PluginDevice] = {}
    for one in listed:
        id = str(one.get("ID") or "")
        if not id or len(id) > _MAX_ID or id in found:
            raise Invalid(f"the device id {id!r:.80} is empty, too long or used twice")
        nodes = (one.get("topology") or {}).get("nodes") or ()
        numa = tuple(int(node.get("ID") or 0) for node in nodes[:64])
        found[id] = PluginDevice(id, one.get("health") == HEALTHY, numa)
    return found


def choose(free: Collection[str], reusable: Collection[str], wanted: int) -> list[str] | None:
    """Those of init containers that have ended come first, as with the kubelet; None: there are not so many."""
    found = [*sorted(reusable), *sorted(set(free) - set(reusable))]
    return found[:wanted] if len(found) >= wanted else None


def edits(answer: Object) -> DeviceEdits:
    """Of an AllocateResponse for one container. Raises Invalid for what no container could have."""
    responses: Sequence[Object] = answer.get("container_responses") or ()
    if len(responses) != 1:
        raise Invalid(f"{len(responses)} answers for one container")
    made = responses[0]
    if sum(len(value) for value in made.values()) > _MAX_EDITS:
        raise Invalid(f"more than {_MAX_EDITS} changes to one container")
    return DeviceEdits(
        {name: _text(value) for name, value in (made.get("envs") or {}).items() if _is_variable(name)},
        [
            (_path(m.get("host_path")), _path(m.get("container_path")), bool(m.get("read_only")))
            for m in made.get("mounts") or ()
        ],
        [_device(spec) for spec in made.get("devices") or ()],
        {_text(name): _text(value) for name, value in (made.get("annotations") or {}).items()},
        [_text(one.get("name")) for one in made.get("cdi_devices") or ()],
    )


def _device(spec: Mapping[str, Any]) -> DeviceNode:
    permissions = str(spec.get("permissions") or "")
    if not _PERMISSIONS.fullmatch(permissions):
        raise Invalid(f"{permissions!r:.20} are no permissions of a device, as r, w and m")
    host = _path(spec.get("host_path"))
    return DeviceNode(host, _path(spec.get("container_path") or host), permissions)


def _is_variable(name: str) -> bool:
    if not _VARIABLE.fullmatch(name):
        raise Invalid(f"{name!r:.80} is no name of a variable")
    return True


def _path(value: Any) -> str:
    path = _text(value)
    if not path.startswith("/") or ".." in path.split("/"):
        raise Invalid(f"{path!r:.120} is not an absolute path")
    return path


def _text(value: Any) -> str:
    text = str(value or "")
    if len(text) > _MAX_TEXT or "\0" in text:
        raise Invalid(f"{text!r:.80} is longer than {_MAX_TEXT} characters, or has a NUL in it")
    return text
