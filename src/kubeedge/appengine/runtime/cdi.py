"""Devices by the Container Device Interface (cncf-tags/container-device-interface, SPEC.md, up to 0.8): what their vendors' files want a container to
have, added to its OCI configuration. Blocking.

Loaded when a container has such a device.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubeedge.appengine.runtime.base import StartError

DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))  # the second one has the last word
_MAX_FILES, _MAX_BYTES = 256, 1024 * 1024
_HOOKS = {
    "prestart": "prestart", "createRuntime": "createRuntime", "createContainer": "createContainer",
    "startContainer": "startContainer", "poststart": "poststart", "poststop": "poststop",
}  # fmt: skip


def apply(spec: dict[str, Any], names: Sequence[str], directories: Sequence[Path] = DIRECTORIES) -> None:
    """`names` as VENDOR/CLASS=DEVICE; `spec` is changed. Raises StartError."""
    known = _devices(directories)
    done: set[int] = set()
    for name in names:
        if name not in known:
            places = " and ".join(map(str, directories))
            raise StartError("CreateContainerError", f"unresolvable CDI device {name:.200}: no file in {places} has it")
        document, device = known[name]
        try:
            if id(document) not in done:  # what all devices of a file have in common
                done.add(id(document))
                _edit(spec, document.get("containerEdits") or {})
            _edit(spec, device.get("containerEdits") or {})
        except (TypeError, ValueError, KeyError, AttributeError) as exc:
            raise StartError("CreateContainerError", f"CDI device {name:.200}: its file is malformed: {exc}") from exc


def _devices(directories: Sequence[Path]) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """By name, each with the file that it is in. What cannot be read is passed over: its devices are then missing."""
    found: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for directory in directories:
        for document in _documents(directory):
            devices = document.get("devices")
            for device in devices if isinstance(devices, list) else ():
                if isinstance(device, Mapping):
                    found[f"{document.get('kind')}={device.get('name')}"] = document, device
    return found


def _documents(directory: Path) -> Iterator[Mapping[str, Any]]:
    try:
        files = sorted(
            path for path in directory.iterdir() if path.suffix in (".json", ".yaml", ".yml") and path.is_file()
        )
    except OSError:
        return
    for file in files[:_MAX_FILES]:
        try:
            with file.open("rb") as opened:
                text = opened.read(_MAX_BYTES)
            document = json.loads(text) if file.suffix == ".json" else _yaml(text)
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(document, Mapping):
            yield document


def _yaml(text: bytes) -> Any:
    import yaml  # most vendors' tools write JSON

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(str(exc)) from exc


def _edit(spec: dict[str, Any], edits: Mapping[str, Any]) -> None:
    process, linux = spec["process"], spec["linux"]
    names = {entry.partition("=")[0] for entry in map(str, edits.get("env") or ())}
    process["env"] = [e for e in process["env"] if e.partition("=")[0] not in names] + list(edits.get("env") or ())
    for node in edits.get("deviceNodes") or ():
        device, rule = _device(node)
        linux.setdefault("devices", []).append(device)
        linux["resources"].setdefault("devices", []).append(rule)
    for mount in edits.get("mounts") or ():
        options = [str(option) for option in mount.get("options") or ("rbind", "nosuid", "nodev")]
        spec["mounts"].append(
            {
                "destination": str(mount["containerPath"]),
                "source": str(mount["hostPath"]),
                "type": str(mount.get("type") or "bind"),
                "options": options,
            }
        )
    for hook in edits.get("hooks") or ():
        made = {key: hook[key] for key in ("path", "args", "env", "timeout") if key in hook}
        spec.setdefault("hooks", {}).setdefault(_HOOKS[hook["hookName"]], []).append(made)
    more = [int(gid) for gid in edits.get("additionalGids") or ()]
    process["user"]["additionalGids"] = sorted({*process["user"].get("additionalGids", ()), *more})


def _device(node: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The device file and the rule that allows it. Numbers that the file does not have are those of the machine's device."""
    path = str(node["path"])
    number = {key: node[key] for key in ("type", "major", "minor") if key in node}
    if len(number) < 3:
        host = str(node.get("hostPath") or path)
        try:
            status = os.stat(host)
        except OSError as exc:
            raise StartError("CreateContainerError", f"CDI device {host}: {exc.strerror}") from exc
        kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
        number = {"type": kind, "major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev), **number}
    owner = {key: node[key] for key in ("fileMode", "uid", "gid") if node.get(key) is not None}
    return {"path": path, **number, **owner}, {"allow": True, **number, "access": str(node.get("permissions") or "rwm")}
