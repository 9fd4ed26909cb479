"""local: a directory of this node that a PersistentVolume stands for. Its content is the claim's, and outlives every pod."""

from __future__ import annotations

import stat
from pathlib import Path

from kubeedge.appengine.volumes import ownership
from kubeedge.appengine.volumes.base import NotMounted, VolumeContext


class LocalVolume:
    """Containers mount the directory itself. It is never made: an administrator, or a program that finds disks, has done that."""

    read_only = False

    def __init__(self, context: VolumeContext) -> None:
        self._path = Path(str(context.spec.source.get("path") or ""))
        self._pod = context.pod
        self._writable = not context.spec.read_only

    @property
    def path(self) -> Path:
        """The directory that the PersistentVolume names."""
        return self._path

    def mount(self) -> Path:
        """Gives the files to the pod's fsGroup. Raises NotMounted."""
        path = self._path
        if not path.is_absolute() or ".." in path.parts:
            raise NotMounted(f"local volume: {str(path)!r:.200} is not an absolute path")
        try:
            mode = path.stat().st_mode
        except OSError as exc:
            raise NotMounted(f"local volume: {path}: {exc.strerror or exc}") from exc
        if not stat.S_ISDIR(mode):
            raise NotMounted(f"local volume: {path} is not a directory; block devices are to be mounted beforehand")
        if self._pod.fs_group is not None and self._writable:
            ownership.give(path, self._pod.fs_group, on_mismatch_only=self._pod.fs_group_on_mismatch)
        return path

    def recover(self) -> bool:
        """Whether the directory is there."""
        return self._path.is_dir()

    def refresh(self) -> None:
        """Does nothing: such a volume has no objects that could change."""

    def over_limit(self) -> str:
        """Never: its size is that of its disk."""
        return ""

    def unmount(self) -> None:
        """Leaves the directory as it is."""
