"""Static pods: manifests in a directory of the node, which the agent runs without being told by any API.

Each file is one Pod, in YAML or JSON. As with the kubelet its name gets "-NODE" behind it, it is never evicted, and what it is made of must be on
this node: objects of an API cannot be referred to. The API shows a mirror of it, which the cloud makes (edgecontroller/mirror_pods.py).

Lives elsewhere: running them (driver.py), what is reported of them (reports.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.pod_parser import parse
from kubeedge.api.yaml_body import decode_yaml
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.dataclasses import dataclass

log = logging.getLogger("kubeedge.appengine")

MAX_FILES = 64
_PERIOD = 5.0  # seconds
_MAX_BYTES = 256 * 1024
_PRIORITY = 2_000_001_000  # that of system-node-critical
_TOLERATES = {"operator": "Exists", "effect": "NoExecute"}
_OF_THE_API = ("serviceAccountToken", "podCertificate")  # sources of projected volumes
_OBJECTS = ("configMap", "secret", "persistentVolumeClaim", "ephemeral", "csi")


@dataclass(frozen=True, slots=True)
class StaticPod:
    """`run` is what this node runs, `mirror` what the API is to show."""

    run: Object
    mirror: Object


def static_pod(data: bytes, node: str) -> StaticPod:
    """The Pod of one file. Its uid is made of the file's content: another content is another pod. Raises Invalid, StatusError."""
    obj = decode_yaml(data)
    if not isinstance(obj, dict) or obj.get("kind") != "Pod" or obj.get("apiVersion") != "v1":
        raise Invalid("it is no Pod of v1")
    given, spec = meta.metadata(obj), obj.get("spec")
    if not isinstance(spec, dict) or not isinstance(given.get("name"), str):
        raise Invalid("it has no name, or no spec")
    uid = hashlib.sha256(node.encode() + b"\0" + data).hexdigest()[:32]
    inner = {
        "name": f"{given['name']}-{node}",
        "namespace": given.get("namespace") or "default",
        **{key: given[key] for key in ("labels", "annotations") if given.get(key)},
    }
    tolerations = [*(spec.get("tolerations") or ()), _TOLERATES]
    mirror = {"metadata": inner, "spec": {**spec, "nodeName": node, "tolerations": tolerations}}
    mirror["spec"].pop("priority", None)  # the API computes it of the class
    run = {"metadata": {**inner, "uid": uid}, "spec": {**mirror["spec"], "priority": _PRIORITY}}
    parse(run)
    if found := next(_references(spec), ""):
        raise Invalid(f"a static pod cannot refer to an object of the API: {found}")
    return StaticPod(run, mirror)


def _references(spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        yield "a service account"
    if spec.get("imagePullSecrets"):
        yield "imagePullSecrets"
    for volume in spec.get("volumes") or ():
        sources = (volume.get("projected") or {}).get("sources") or ()
        yield from (kind for kind in _OBJECTS if kind in volume)
        yield from (kind for part in sources for kind in (*_OBJECTS, *_OF_THE_API) if kind in part)
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            if container.get("envFrom"):
                yield "envFrom"
            for variable in container.get("env") or ():
                yield from (k for k in ("configMapKeyRef", "secretKeyRef") if k in (variable.get("valueFrom") or {}))


class StaticPods:
    """The pods of a directory. `desire(namespace, name, pod)` is called for each that appears, changes, or goes (None)."""

    def __init__(self, directory: Path, node: str, desire: Callable[[str, str, StaticPod | None], None]) -> None:
        self._directory, self._node, self._desire = directory, node, desire
        self._read: dict[Path, tuple[tuple[int, ...], StaticPod | None]] = {}  # by signature of the file
        self._pods: dict[NamespacedName, StaticPod] = {}

    def __contains__(self, name: NamespacedName) -> bool:
        return name in self._pods

    async def look(self) -> None:
        """Look once, and tell what has changed. A file that cannot be understood is as one that is not there."""
        self._read = await asyncio.to_thread(self._scan)
        self._apply()

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            await self.look()

    def _scan(self) -> dict[Path, tuple[tuple[int, ...], StaticPod | None]]:
        """Files that have not changed are not read again."""
        return {path: self._of(path, signature) for path, signature in _files(self._directory)}

    def _apply(self) -> None:
        wanted: dict[NamespacedName, StaticPod] = {}
        for path in sorted(self._read):
            found = self._read[path][1]
            if found is not None:
                name = (meta.namespace_of(found.run), meta.name_of(found.run))
                wanted.setdefault(name, found)
        for name in self._pods.keys() - wanted.keys():
            del self._pods[name]
            self._desire(*name, None)
        for name, found in wanted.items():
            if self._pods.get(name) != found:
                self._pods[name] = found
                self._desire(*name, found)

    def _of(self, path: Path, signature: tuple[int, ...]) -> tuple[tuple[int, ...], StaticPod | None]:
        known = self._read.get(path)
        if known is not None and known[0] == signature:
            return known
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise Invalid(f"it has more than {_MAX_BYTES} bytes")
            return signature, static_pod(data, self._node)
        except (KubeEdgeError, OSError) as exc:
            log.error("static pod %s: %s", path, exc)
            return signature, None


def _files(directory: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The regular files that an editor has not hidden, at most MAX_FILES, with what changes when their content does."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    if len(names) > MAX_FILES:
        log.error("%s has %d files: the first %d are static pods", directory, len(names), MAX_FILES)
    for name in names[:MAX_FILES]:
        with contextlib.suppress(OSError):
            found = (directory / name).stat()
            if stat.S_ISREG(found.st_mode):
                yield directory / name, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
