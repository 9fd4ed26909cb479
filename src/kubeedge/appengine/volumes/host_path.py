"""hostPath: a file or directory of the node itself. Nothing of it is ours to remove."""

from __future__ import annotations

import stat
from pathlib import Path

from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.volumes.base import VolumeContext

_IS_TYPE = {
    "Directory": stat.S_ISDIR, "DirectoryOrCreate": stat.S_ISDIR, "File": stat.S_ISREG, "FileOrCreate": stat.S_ISREG,
    "Socket": stat.S_ISSOCK, "CharDevice": stat.S_ISCHR, "BlockDevice": stat.S_ISBLK,
}  # fmt: skip


class HostPathVolume:
    """A hostPath, with the checks that its `type` asks for."""

    read_only = False

    def __init__(self, context: VolumeContext) -> None:
        self._path = Path(str(context.spec.source.get("path") or ""))
        self._type = str(context.spec.source.get("type") or "")

    @property
    def path(self) -> Path:
        """The path that the manifest names."""
        return self._path

    def mount(self) -> Path:
        """Checks and makes what its type asks for. Raises StartError."""
        path = self._path
        if not path.is_absolute() or ".." in path.parts:
            raise StartError("CreateContainerConfigError", f"hostPath {str(path)!r} is not an absolute path")
        match self._type:
            case "DirectoryOrCreate":
                path.mkdir(parents=True, exist_ok=True, mode=0o755)
            case "FileOrCreate":
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
                path.touch(mode=0o644)
        is_type = _IS_TYPE.get(self._type)
        try:
            mode = path.stat().st_mode
        except OSError:
            if self._type:
                raise StartError("CreateContainerConfigError", f"hostPath {path} is not a {self._type}") from None
            path.mkdir(parents=True, exist_ok=True, mode=0o755)
            return path
        if is_type is not None and not is_type(mode):
            raise StartError("CreateContainerConfigError", f"hostPath {path} is not a {self._type}")
        return path

    def recover(self) -> bool:
        """Whether the path still exists."""
        return self._path.exists()

    def refresh(self) -> None:
        """Does nothing: such a volume has no objects that could change."""

    def over_limit(self) -> str:
        """Never: a hostPath has no sizeLimit."""
        return ""

    def unmount(self) -> None:
        """Leave the path as its containers left it."""
