"""Everything that a container needs on disk and in its environment before it starts, from the pod and from ConfigMaps and Secrets.

Lives here:      which of them this node has; bringing volumes up to date when one changes.
Lives elsewhere: what they refer to (resolve.py), how a volume lies on disk (volumes.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from kubeedge.api.names import Object
from kubeedge.appengine import logs, resolve, volumes
from kubeedge.appengine.pod import Container, Pod
from kubeedge.appengine.runtime.base import BindMount, ContainerConfig
from kubeedge.errors import KubeEdgeError


class Preparer:
    def __init__(self, *, node: str, host_ip: str, state: Path, log_root: Path) -> None:
        self._node = node
        self._host_ip = host_ip
        self._volumes = state / "volumes"
        self._log_root = log_root
        self._objects: dict[tuple[str, str, str], Object] = {}  # (resource, namespace, name)

    def clear(self) -> None:
        self._objects.clear()

    def keep(self, resource: str, namespace: str, name: str, obj: Object | None) -> None:
        """A ConfigMap or Secret came, changed, or went (None)."""
        if obj is None:
            self._objects.pop((resource, namespace, name), None)
        else:
            self._objects[resource, namespace, name] = obj

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._objects.get((resource, namespace, name))

    async def configure(self, pod: Pod, container: Container, attempt: int, ip: str) -> ContainerConfig:
        """Raises Missing or Invalid for what cannot be resolved, StartError or OSError for what cannot be on disk."""
        ip = self._host_ip if pod.host_network else ip
        env = resolve.environment(pod, container, self.find, pod_ip=ip, host_ip=self._host_ip, node=self._node)
        path = logs.path(self._log_root, pod.namespace, pod.name, pod.uid, container.name, attempt)
        binds = await asyncio.to_thread(self._prepare, pod, container, ip)
        await asyncio.to_thread(logs.prune, path.parent, attempt)
        return ContainerConfig(container, attempt, container.image, env, binds, path)

    def refresh(self, pod: Pod, ip: str) -> None:
        """Blocking. Volumes that are there get the newest content; of what went away the files stay, as with the kubelet."""
        for volume in pod.volumes.values():
            if volume.kind in ("configMap", "secret", "projected") and (self._of(pod.uid) / volume.name).is_dir():
                with contextlib.suppress(KubeEdgeError, OSError):
                    self._write(pod, volume.name, self._host_ip if pod.host_network else ip)

    def remove(self, namespace: str, name: str, uid: str) -> None:
        """Blocking. Volumes and logs of a pod; `name` "" when it is not known."""
        volumes.remove(self._of(uid))
        if name:
            shutil.rmtree(logs.directory(self._log_root, namespace, name, uid), ignore_errors=True)

    def _prepare(self, pod: Pod, container: Container, ip: str) -> list[BindMount]:
        binds = []
        for number, mount in enumerate(container.mounts):
            volume = pod.volumes[mount.name]
            directory = self._of(pod.uid) / volume.name
            match volume.kind:
                case "emptyDir":
                    volumes.empty_dir(directory, volume, pod.fs_group)
                case "hostPath":
                    directory = volumes.host_path(volume)
                case _:
                    self._write(pod, volume.name, ip)
            pin = self._of(pod.uid) / volumes.PINS / container.name / str(number)
            binds.append(volumes.bind(volume, mount, directory, pin))
        return binds

    def _write(self, pod: Pod, name: str, ip: str) -> None:
        volume = pod.volumes[name]
        files = resolve.volume_files(pod, volume, self.find, pod_ip=ip, host_ip=self._host_ip, node=self._node)
        volumes.write_files(
            self._of(pod.uid) / name, files, default_mode=volumes.default_mode(volume), group=pod.fs_group
        )

    def _of(self, uid: str) -> Path:
        return self._volumes / uid
