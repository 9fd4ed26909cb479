"""Unpacks one layer (opencontainers/image-spec, layer.md) into a directory, and nowhere else, with its parents in view (tree.py).

    a/.wh.b         whiteout: b of the layers below is not seen; in the directory it becomes a character device 0:0, which overlayfs understands
    a/.wh..wh..opq  nothing of a of the layers below is seen: an opaque directory
    a/.wh..wh.*     what aufs kept for itself; passed over

Both hide what is below and nothing of their own layer, wherever they stand in the tar. Other names that begin with .wh. are refused where they
would mean no name of their own directory.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from kubeedge.appengine.images.tar_headers import BoundedHeaders, BoundedTarInfo, stored_size
from kubeedge.appengine.images.tree import MAX_DEPTH, MAX_NAME, Tree
from kubeedge.errors import Invalid

MAX_ENTRIES = 500_000
_WHITEOUT = ".wh."
_AUFS = ".wh..wh."
_OPAQUE = ".wh..wh..opq"
_FILE_CAPABILITIES = "SCHILY.xattr.security.capability"  # the one extended attribute that programs depend on


def unpack(stream: IO[bytes], target: Path, *, max_bytes: int, parents: Sequence[Path] = ()) -> None:
    """`stream` is the uncompressed tar, `parents` the layers below, from the lowest up. Raises Invalid for what is hostile or too large,
    OSError for a full disk."""
    bounded = BoundedHeaders(stream)
    try:
        # typeshed asks for a whole file; of a stream, tarfile calls read() alone
        with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r|", tarinfo=BoundedTarInfo) as tar:
            _Unpacking(tar, bounded, target, parents, max_bytes).run()
    except tarfile.TarError as exc:
        raise Invalid(f"layer is not a tar archive: {exc}") from exc
    except (OverflowError, ValueError) as exc:  # an owner, a time or a name that the kernel cannot be asked for
        raise Invalid(f"layer has an entry that no file can have: {exc}") from exc


class _Unpacking:
    def __init__(
        self, tar: tarfile.TarFile, headers: BoundedHeaders, root: Path, parents: Sequence[Path], max_bytes: int
    ) -> None:
        self._tar = tar
        self._headers = headers
        self._tree = Tree(root, parents)
        self._bytes = 0
        self._max_bytes = max_bytes
        self._times: dict[Path, float] = {}  # of directories; set last, for each entry in them changes it

    def run(self) -> None:
        entries = 0
        while (member := self._tar.next()) is not None:
            entries += 1
            if entries > MAX_ENTRIES:
                raise Invalid(f"layer of more than {MAX_ENTRIES} entries")
            if member.size < 0:
                raise Invalid(f"layer has the entry {member.name!r:.200} of {member.size} bytes")
            self._count(member.size)
            self._headers.entry_of(stored_size(member))
            self._entry(member)
            self._tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        for path, mtime in (self._tree.copied | self._times).items():
            if path.is_dir() and not path.is_symlink():  # a later entry may have replaced it
                os.utime(path, (mtime, mtime))

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise Invalid(f"layer of more than {self._max_bytes} bytes")

    def _entry(self, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts or any(part.startswith(_AUFS) for part in parts[:-1]):
            return
        *above, name = parts
        if any(part.startswith(_WHITEOUT) for part in above):
            raise Invalid(f"layer has the entry {member.name!r:.200} in a whiteout")
        if name == _OPAQUE:
            self._tree.hide_all(above)
        elif name.startswith(_AUFS):
            return
        elif name.startswith(_WHITEOUT):
            self._tree.hide([*above, _hidden(member.name, name)])
        elif member.islnk():
            self._link(member, above, name)
        elif member.ischr() or member.isblk():
            self._device(above, name)
        else:
            self._make(member, self._tree.directory(above) / name)

    def _link(self, member: tarfile.TarInfo, above: Sequence[str], name: str) -> None:
        target_parts = _parts(member.linkname)
        if not target_parts:
            raise Invalid(f"layer has a hard link to {member.linkname!r:.200}")
        target, copied = self._tree.file(target_parts)
        self._count(copied)
        path = self._tree.directory(above) / name
        if path != target:
            self._tree.remove(path)
            os.link(target, path, follow_symlinks=False)

    def _device(self, above: Sequence[str], name: str) -> None:
        """Devices come from the runtime, not from an image. What it replaces is gone all the same."""
        self._tree.remove(self._tree.directory(above) / name)
        self._tree.hide([*above, name])

    def _make(self, member: tarfile.TarInfo, path: Path) -> None:
        if member.isdir():
            self._tree.make_directory(path)
            self._times[path] = member.mtime
        else:
            self._tree.remove(path)
            if member.isreg():
                self._write(member, path)
            elif member.issym():
                os.symlink(member.linkname, path)
            elif member.isfifo():
                os.mkfifo(path)
            else:
                raise Invalid(f"layer has the entry {member.name!r:.200} of type {member.type!r}")
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
        if member.issym():
            return
        os.chmod(path, member.mode & 0o7777)
        os.utime(path, (member.mtime, member.mtime))
        capabilities = member.pax_headers.get(_FILE_CAPABILITIES)
        if capabilities and member.isreg():
            os.setxattr(path, "security.capability", capabilities.encode("utf-8", "surrogateescape"))

    def _write(self, member: tarfile.TarInfo, path: Path) -> None:
        source = self._tar.extractfile(member)
        assert source is not None
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as out:
            shutil.copyfileobj(source, out, 256 * 1024)


def _parts(name: str) -> list[str]:
    """Of a path from the root of the image. A leading "/" or "./" says nothing more than that; ".." takes away the part before it, as the
    other runtimes read it, and must lead neither out nor through a whiteout."""
    parts: list[str] = []
    for part in name.split("/"):
        if "\0" in name or (part == ".." and (not parts or parts[-1].startswith(_WHITEOUT))):
            raise Invalid(f"layer has the entry {name!r:.200}")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if len(parts) > MAX_DEPTH or any(len(os.fsencode(part)) > MAX_NAME for part in parts):
        raise Invalid(f"layer has an entry with a name that is too long: {name!r:.200}")
    return parts


def _hidden(entry: str, name: str) -> str:
    """The name that a whiteout hides: one of its own directory."""
    hidden = name.removeprefix(_WHITEOUT)
    if hidden in ("", ".", ".."):
        raise Invalid(f"layer has the whiteout {entry!r:.200}, which names nothing")
    return hidden
