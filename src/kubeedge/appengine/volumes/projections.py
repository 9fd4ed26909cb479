"""Volumes that are files of API objects: configMap, secret, downwardAPI, projected.

Lives elsewhere: which files (contents.py), how they are swapped in (files.py).
"""

from __future__ import annotations

import abc
import os
from pathlib import Path

from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.volumes import contents, files
from kubeedge.appengine.volumes.base import VolumeContext
from kubeedge.appengine.volumes.contents import Files
from kubeedge.kit import trees

_DEFAULT_MODE = 0o644


class Projection(abc.ABC):
    """What the four of them have in common."""

    read_only = True

    def __init__(self, context: VolumeContext) -> None:
        self._context = context
        self._source = context.spec.source

    @property
    def holds_secrets(self) -> bool:
        """Whether what is in it must not reach the disk."""
        return False

    @abc.abstractmethod
    def contents(self) -> Files:
        """Path below the volume -> (content, mode; None for the default). Raises Missing or Invalid."""

    @property
    def path(self) -> Path:
        """The directory that it has for itself."""
        return self._context.directory

    def mount(self) -> Path:
        """In a tmpfs when it holds Secrets. Raises as contents()."""
        if self.holds_secrets:
            files.in_memory(self._context.directory)
        self.refresh()
        return self._context.directory

    def recover(self) -> bool:
        """A Secret was in memory before the machine was restarted: what is written to its directory now would be on the disk."""
        directory = self._context.directory
        if self.holds_secrets and not os.path.ismount(directory) and not (directory / "..data").is_symlink():
            return False
        return directory.is_dir()

    def refresh(self) -> None:
        """Writes all files again and swaps them in at once, as the kubelet does, through the link ..data."""
        mode = self._source.get("defaultMode")
        files.write(
            self._context.directory,
            self.contents(),
            default_mode=mode if isinstance(mode, int) and not isinstance(mode, bool) else _DEFAULT_MODE,
            group=self._context.pod.fs_group,
        )

    def over_limit(self) -> str:
        """Never: what it may hold is bounded where it is made (contents.py)."""
        return ""

    def unmount(self) -> None:
        """Removes the files and their tmpfs; what is gone already is no error."""
        mounts.unmount(self._context.directory)
        trees.remove(self._context.directory)


class ConfigMapVolume(Projection):
    """A volume with the keys of a ConfigMap as its files."""

    def contents(self) -> Files:
        """The data of one ConfigMap."""
        return contents.config_map(self._context, self._source)


class SecretVolume(Projection):
    """Source: secret. Its files are in a tmpfs."""

    @property
    def holds_secrets(self) -> bool:
        """Always true: its files are on a tmpfs, never on the disk."""
        return True

    def contents(self) -> Files:
        """The data of one Secret, decoded."""
        return contents.secret(self._context, self._source)


class DownwardApiVolume(Projection):
    """A volume with fields of the pod itself as its files."""

    def contents(self) -> Files:
        """Fields of the pod, as they are now."""
        return contents.downward_api(self._context, self._source)


class ProjectedVolume(Projection):
    """Source: projected, whose parts share one directory; a later part wins where two have the same path."""

    @property
    def holds_secrets(self) -> bool:
        """Whether one of its parts is a Secret, a service account token or a key."""
        secrets = ("secret", "serviceAccountToken", "podCertificate")
        return any(part.get(kind) for part in self._source.get("sources") or () for kind in secrets)

    def contents(self) -> Files:
        """All parts, each resolved as the volume of its kind."""
        return contents.projected(self._context, self._source)
