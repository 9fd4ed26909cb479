"""Everything that a container needs on disk and in its environment before it starts, from the pod and from ConfigMaps and Secrets.

Lives here:      which of them this node has; bringing volumes up to date when one changes.
Lives elsewhere: what they refer to (resolve.py), how a volume lies on disk (volumes.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from kubeedge.api import quantities
from kubeedge.api.names import Object
from kubeedge.api.pod import Container, Pod
from kubeedge.appengine import logs, resolve, volumes
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
        env = {"HOSTNAME": pod.hostname if not pod.host_network else socket.gethostname(), **env}
        path = logs.path(self._log_root, pod.namespace, pod.name, pod.uid, container.name, attempt)
        binds = await asyncio.to_thread(self._prepare, pod, container, ip, env)
        await asyncio.to_thread(logs.prune, path.parent, attempt)
        return ContainerConfig(container, attempt, container.image, env, binds, path)

    def refresh(self, pod: Pod, ip: str) -> None:
        """Blocking. Volumes that are there get the newest content; of what went away the files stay, as with the kubelet."""
        for volume in pod.volumes.values():
            if volumes.lost(self._of(pod.uid) / volume.name, volume):
                continue  # its containers start anew, and get it then
            if (
                volume.kind in ("configMap", "secret", "projected", "downwardAPI")
                and (self._of(pod.uid) / volume.name).is_dir()
            ):
                with contextlib.suppress(KubeEdgeError, OSError):
                    self._write(pod, volume.name, self._host_ip if pod.host_network else ip)

    def over_limit(self, pod: Pod) -> str:
        """Blocking. Which emptyDir uses more than its sizeLimit, in the kubelet's words. One in memory cannot."""
        for volume in pod.volumes.values():
            limit = volume.source.get("sizeLimit") if volume.kind == "emptyDir" else None
            if limit is None or volume.source.get("medium") == "Memory" or not quantities.bytes_of(limit):
                continue
            if volumes.used_bytes(self._of(pod.uid) / volume.name) > quantities.bytes_of(limit):
                return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}".'
        return ""

    def remove(self, namespace: str, name: str, uid: str) -> None:
        """Blocking. Volumes and logs of a pod; `name` "" when it is not known."""
        volumes.remove(self._of(uid))
        if name:
            shutil.rmtree(logs.directory(self._log_root, namespace, name, uid), ignore_errors=True)

    def sweep(self, known: Collection[str]) -> None:
        """Blocking. Volumes of pods that nobody knows: the machine or the agent ended between two steps of their removal."""
        for directory in self._volumes.iterdir() if self._volumes.is_dir() else ():
            if directory.name not in known:
                with contextlib.suppress(OSError):
                    volumes.remove(directory)

    def _prepare(self, pod: Pod, container: Container, ip: str, env: Mapping[str, str]) -> list[BindMount]:
        binds = []
        for number, mount in enumerate(container.mounts):
            volume = pod.volumes[mount.name]
            if mount.is_expression:
                mount = replace(mount, sub_path=resolve.sub_path(mount.sub_path, env))
            directory = self._of(pod.uid) / volume.name
            match volume.kind:
                case "emptyDir":
                    volumes.empty_dir(directory, volume, pod.fs_group)
                case "hostPath":
                    directory = volumes.host_path(volume)
                case _:
                    if volumes.holds_secrets(volume):
                        volumes.in_memory(directory)
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
