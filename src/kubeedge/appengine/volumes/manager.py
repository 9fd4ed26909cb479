"""The volumes of all pods of this node: mounted for containers, brought up to date, removed. Blocking.

Lives elsewhere: what a kind of volume does (its class, by registry.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

from kubeedge.api.pod import Container, Pod
from kubeedge.appengine import resolve
from kubeedge.appengine.csi.core import CsiError, CsiVolumes
from kubeedge.appengine.node_api import NodeApi
from kubeedge.appengine.resolve import Lookup
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.runtime.base import BindMount
from kubeedge.appengine.volumes import registry, sub_path
from kubeedge.appengine.volumes.base import NotMounted, RemoteVolume, Volume, VolumeContext
from kubeedge.errors import KubeEdgeError
from kubeedge.kit import trees
from kubeedge.kit.dataclasses import replace
from kubeedge.kit.disk_use import DiskUse


class VolumeManager:
    """One directory below `root` for each pod and volume. `find` gives ConfigMaps and Secrets of this node."""

    def __init__(
        self, root: Path, *, find: Lookup, node: str, host_ip: str, allocatable: Mapping[str, int] = resolve.NOTHING,
        api: NodeApi | None = None,
    ) -> None:  # fmt: skip
        self._api = api
        self.csi: CsiVolumes | None = None  # drivers of this node, once there are some
        self._root = root
        self._find = find
        self._node, self._host_ip, self._allocatable = node, host_ip, allocatable

    def mount(self, pod: Pod, container: Container, ip: str, env: Mapping[str, str]) -> list[BindMount]:
        """What a container that is about to start mounts. Raises NotMounted for what a volume refers to and is not here, Missing or Invalid for
        what else cannot be resolved, StartError or OSError for what cannot be on disk."""
        binds = []
        for number, mount in enumerate(container.mounts):
            if mount.is_expression:
                mount = replace(mount, sub_path=resolve.sub_path(mount.sub_path, env))
            if (reference := pod.image_of(mount)) is not None:  # the runtime mounts it
                binds.append(BindMount(Path("/"), mount.path, read_only=True, image=reference, sub_path=mount.sub_path))
                continue
            volume = self._volume(pod, mount.name, ip)
            pin = self._of(pod.uid) / sub_path.PINS / container.name / str(number)
            try:
                path = volume.mount()
            except resolve.Missing as exc:  # it may come yet
                raise NotMounted(str(exc)) from exc
            bind = sub_path.bind(mount, path, pin, read_only=volume.read_only)
            binds.append(
                replace(
                    bind,
                    read_only=bind.read_only or pod.volumes[mount.name].read_only,
                    propagation=mount.propagation,
                    recursive_read_only=mount.recursive_read_only,
                )
            )
        return binds

    async def attach(self, pod: Pod, container: Container) -> list[tuple[str, str]]:
        """The volumes of a container for which others have to answer; (claim, capacity) of those that have grown by that. Raises NotMounted."""
        grown = []
        for name in dict.fromkeys(mount.name for mount in container.mounts):
            if pod.volumes[name].kind in registry.MAYBE_REMOTE:
                volume = self._volume(pod, name, "")
                if isinstance(volume, RemoteVolume) and (capacity := await volume.attach()):
                    grown.append((pod.volumes[name].claim_of(pod.name), capacity))
        return grown

    async def detach(self, uid: str, pod: Pod | None) -> None:
        """No container of the pod is left. What claims refer to may be gone by now: remove() unmounts what is left. Raises NotMounted."""
        mounts.remove_tree(self._of(uid) / sub_path.PINS)  # nothing below a volume is mounted elsewhere
        if pod is not None:
            await self._detach_known(pod)
        if self.csi is not None:
            try:
                await self.csi.release(uid)
            except CsiError as exc:
                raise NotMounted(str(exc)) from exc

    async def _detach_known(self, pod: Pod) -> None:
        for name, spec in pod.volumes.items():
            if spec.kind in registry.MAYBE_REMOTE:
                try:
                    volume = self._volume(pod, name, "")
                except KubeEdgeError:
                    continue
                if isinstance(volume, RemoteVolume):
                    await volume.detach()

    def claims(self, pod: Pod) -> list[tuple[str, Path]]:
        """Name, and where it is on this node, of each claim of the pod that is mounted."""
        found = []
        for name, spec in pod.volumes.items():
            if claim := spec.claim_of(pod.name):
                with contextlib.suppress(KubeEdgeError):
                    volume = self._volume(pod, name, "")
                    if volume.recover():
                        found.append((claim, volume.path))
        return found

    def refresh(self, pod: Pod, ip: str) -> None:
        """Volumes that are there get the newest content; of what went away the files stay, as with the kubelet. One that was lost waits
        for its container, which is restarted."""
        for name in _on_disk(pod):
            with contextlib.suppress(KubeEdgeError, OSError):
                volume = self._volume(pod, name, ip)
                if volume.recover():
                    volume.refresh()

    def over_limit(self, pod: Pod) -> str:
        """Which volume uses more than it may, in the kubelet's words."""
        limited = [name for name, volume in pod.volumes.items() if volume.kind in registry.LIMITED]
        return next((problem for name in limited if (problem := self._volume(pod, name, "").over_limit())), "")

    def used(self, pod: Pod) -> DiskUse:
        """What its own volumes take of the disk. Blocking; it walks them."""
        on_disk = [volume for volume in pod.volumes.values() if registry.uses_disk(volume)]
        each = [trees.used(self._of(pod.uid) / volume.name) for volume in on_disk]
        return DiskUse(sum(u.bytes for u in each), sum(u.inodes for u in each))

    def remove(self, uid: str, pod: Pod | None) -> None:
        """All of a pod; `pod` is None when its specification is lost. Goes on past what fails, and raises OSError at the end."""
        mounts.remove_tree(self._of(uid) / sub_path.PINS)
        if pod is not None:
            self._unmount(pod)
        mounts.remove_tree(self._of(uid))

    def _unmount(self, pod: Pod) -> None:
        problems: list[OSError] = []
        for name in _on_disk(pod):
            try:
                with contextlib.suppress(KubeEdgeError):
                    self._volume(pod, name, "").unmount()
            except OSError as exc:
                problems.append(exc)
        if problems:
            raise problems[0]

    def sweep(self, known: Collection[str]) -> None:
        """Orphaned volumes: the machine or the agent ended between two steps of their removal."""
        for directory in self._root.iterdir() if self._root.is_dir() else ():
            if directory.name not in known:
                with contextlib.suppress(OSError):
                    mounts.remove_tree(directory)

    def _volume(self, pod: Pod, name: str, ip: str) -> Volume:
        return registry.volume(
            VolumeContext(
                pod=pod,
                spec=pod.volumes[name],
                directory=self._of(pod.uid) / name,
                find=self._find,
                pod_ip=ip,
                host_ip=self._host_ip,
                node=self._node,
                allocatable=self._allocatable,
                api=self._api,
                csi=self.csi,
            )
        )

    def path_of(self, uid: str, name: str) -> Path:
        """Where a volume is that the pod has for itself, an emptyDir; mounted or not."""
        return self._of(uid) / name

    def _of(self, uid: str) -> Path:
        return self._root / uid


def _on_disk(pod: Pod) -> list[str]:
    """The volumes that are mounted here, and not by the runtime."""
    return [name for name, volume in pod.volumes.items() if registry.is_mounted_here(volume)]
