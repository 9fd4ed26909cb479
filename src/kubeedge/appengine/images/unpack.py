"""Unpacks one layer (opencontainers/image-spec, layer.md) below a directory, and nowhere else.

Every name is checked: no absolute path, no "..", no way through a symbolic link that the layer itself (or a name above) put there. Whiteouts
become what overlayfs understands: a character device 0:0, an opaque directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO

from kubeedge.errors import Invalid

MAX_ENTRIES = 500_000
_WHITEOUT = ".wh."
_FILE_CAPABILITIES = "SCHILY.xattr.security.capability"  # the one extended attribute that programs depend on
_OPAQUE = ".wh..wh..opq"


def unpack(stream: IO[bytes], target: Path, *, max_bytes: int) -> None:
    """`stream` is the uncompressed tar. Raises Invalid for what is hostile or too large, OSError for a full disk."""
    total = entries = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                entries += 1
                total += member.size
                if entries > MAX_ENTRIES or total > max_bytes:
                    raise Invalid(f"layer of more than {MAX_ENTRIES} entries or {max_bytes} bytes")
                _entry(tar, member, target)
    except tarfile.TarError as exc:
        raise Invalid(f"layer is not a tar archive: {exc}") from exc


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    parts = [p for p in member.name.split("/") if p not in ("", ".")]
    if member.name.startswith("/") or ".." in parts:
        raise Invalid(f"layer has the entry {member.name!r}")
    if not parts:
        return
    parent = _directory(root, parts[:-1])
    name = parts[-1]
    path = parent / name
    if name == _OPAQUE:
        with contextlib.suppress(OSError):
            os.setxattr(parent, "trusted.overlay.opaque", b"y")
        return
    if name.startswith(_WHITEOUT):
        hidden = parent / name.removeprefix(_WHITEOUT)
        _remove(hidden)
        os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0))
        return
    if member.isdir():
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            _remove(path)
        path.mkdir(exist_ok=True)
    else:
        _remove(path)
        if member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as out:
                shutil.copyfileobj(source, out, 256 * 1024)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            target_parts = [p for p in member.linkname.split("/") if p not in ("", ".")]
            if ".." in target_parts or not target_parts:
                raise Invalid(f"layer has a hard link to {member.linkname!r}")
            os.link(_directory(root, target_parts[:-1]) / target_parts[-1], path, follow_symlinks=False)
            return
        elif member.isfifo():
            os.mkfifo(path)
        elif member.ischr() or member.isblk():
            return  # devices come from the runtime, not from an image
        else:
            raise Invalid(f"layer has the entry {member.name!r} of type {member.type!r}")
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode & 0o7777)
        os.utime(path, (member.mtime, member.mtime))
        capabilities = member.pax_headers.get(_FILE_CAPABILITIES)
        if capabilities and member.isreg():
            os.setxattr(path, "security.capability", capabilities.encode("utf-8", "surrogateescape"))


def _directory(root: Path, parts: list[str]) -> Path:
    """The directory below root, made when it is missing; never through a symbolic link."""
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise Invalid(f"layer writes through the symbolic link {path.relative_to(root)}")
        if not path.is_dir():
            path.mkdir(mode=0o755)
    return path


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
