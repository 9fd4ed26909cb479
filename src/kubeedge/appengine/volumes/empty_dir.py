"""emptyDir: a directory that lives as long as its pod; in memory when the manifest says so."""

from __future__ import annotations

import os
from pathlib import Path

from kubeedge.api import quantities
from kubeedge.api.pod import VolumeSpec
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.volumes.base import VolumeContext
from kubeedge.kit import trees


def is_in_memory(spec: VolumeSpec) -> bool:
    """Whether the emptyDir of `spec` is a tmpfs, which takes nothing of the disk."""
    return spec.source.get("medium") == "Memory"


class EmptyDirVolume:
    """An emptyDir. With medium Memory it is a tmpfs, whose content counts as memory of the pod."""

    read_only = False

    def __init__(self, context: VolumeContext) -> None:
        self._directory = context.directory
        self._group = context.pod.fs_group
        self._in_memory = is_in_memory(context.spec)
        self._name, self._limit = context.spec.name, context.spec.source.get("sizeLimit")

    @property
    def path(self) -> Path:
        """The directory that it has for itself."""
        return self._directory

    def mount(self) -> Path:
        """Its content stays from one container to the next."""
        directory = self._directory
        if self.recover():
            return directory
        directory.mkdir(parents=True, exist_ok=True)
        mode = 0o1777 if self._in_memory else 0o777  # as the kubelet's
        if self._in_memory:
            size = f",size={quantities.bytes_of(self._limit)}" if self._limit else ""
            mounts.mount("tmpfs", directory, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, f"mode={mode:o}{size}")
        if self._group is not None:
            os.chown(directory, -1, self._group)
            mode |= 0o2000
        directory.chmod(mode)
        return directory

    def recover(self) -> bool:
        """A restart of the machine unmounts what was in memory."""
        return self._directory.is_dir() and (not self._in_memory or os.path.ismount(self._directory))

    def refresh(self) -> None:
        """Does nothing: such a volume has no objects that could change."""

    def over_limit(self) -> str:
        """One in memory cannot be: the kernel holds it to its size."""
        if self._limit is None or self._in_memory or not (limit := quantities.bytes_of(self._limit)):
            return ""
        if trees.used_bytes(self._directory) <= limit:
            return ""
        return f'Usage of EmptyDir volume "{self._name}" exceeds the limit "{self._limit}".'

    def unmount(self) -> None:
        """Unmount the volume and delete its content. Idempotent."""
        mounts.unmount(self._directory)
        trees.remove(self._directory)
