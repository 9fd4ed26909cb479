"""A file system in memory, and the layer it makes: the same files give the same bytes, whatever the order they came in."""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
from dataclasses import dataclass, field

_CAPABILITY = "SCHILY.xattr.security.capability"  # the name that every unpacker of OCI layers knows


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a directory (`data` and `link` empty) or a symbolic link; it belongs to root."""

    mode: int
    data: bytes | None = None
    link: str = ""
    capability: bytes = b""  # value of the extended attribute security.capability


@dataclass(slots=True)
class Tree:
    """Paths are relative to the root, without a slash in front: "usr/bin/python3"."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def file(self, path: str, data: bytes, mode: int = 0o644, capability: bytes = b"") -> None:
        """A file and the directories above it; one that is there is replaced."""
        self._above(path)
        self.entries[path] = Entry(mode, data, capability=capability)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._above(path)
        self.entries[path] = Entry(0o777, link=target)

    def directory(self, path: str, mode: int = 0o755) -> None:
        """A directory and those above it."""
        self._above(path)
        self.entries[path] = Entry(mode)

    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(entry.data) for entry in self.entries.values() if entry.data is not None)

    def layer(self, epoch: int) -> bytes:
        """An uncompressed tar, sorted, every time `epoch` (seconds since 1970)."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(self.entries):
                entry = self.entries[path]
                info = tarfile.TarInfo(path)
                info.mode, info.mtime = entry.mode, epoch
                if entry.capability:
                    info.pax_headers = {_CAPABILITY: entry.capability.decode("utf-8", "surrogateescape")}
                if entry.data is not None:
                    info.size = len(entry.data)
                    tar.addfile(info, io.BytesIO(entry.data))
                else:
                    info.type, info.linkname = (tarfile.SYMTYPE if entry.link else tarfile.DIRTYPE), entry.link
                    tar.addfile(info)
        return out.getvalue()

    def _above(self, path: str) -> None:
        parent = posixpath.dirname(path)
        if parent and parent not in self.entries:
            self.directory(parent)


def compress(layer: bytes) -> bytes:
    """gzip without a time or a name in it."""
    return gzip.compress(layer, compresslevel=6, mtime=0)
