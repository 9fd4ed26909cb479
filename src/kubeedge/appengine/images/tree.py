"""A layer that is being made, seen through its parents as overlayfs will show them together.

    upper       the layer itself; nothing else is written
    parents     the layers below it

Lives here:      which file a path means, through symbolic links, whiteouts and opaque directories; making the directories on the way to it.
Lives elsewhere: the entries of a tar (unpack.py).

A symbolic link is followed as a process with this root would follow it: "/" and ".." never lead out of it. A directory of a parent is made in
the layer as well (copied up, with its owner and mode) before something is put into it. No other process may write to these directories meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from kubeedge.errors import Invalid

MAX_DEPTH = 256  # directories in each other; what walks a tree recursively (shutil.rmtree) must come to its end
MAX_NAME = 255  # bytes, NAME_MAX
_MAX_LINKS = 40  # followed on one way, as in Linux
_OPAQUE = "trusted.overlay.opaque"


class Tree:
    """Finds and makes files of a layer under construction. Symbolic links are resolved within the image, never in the node's file system."""

    def __init__(self, upper: Path, parents: Sequence[Path] = ()) -> None:
        """`parents` from the lowest up."""
        self._upper = upper
        self._roots = [upper, *seen_layers(parents)[::-1]]
        self._known: dict[tuple[str, ...], Path] = {}  # directories of `upper` that were reached without a link
        self.copied: dict[Path, float] = {}  # directories copied up, with their modification times

    def directory(self, names: Sequence[str]) -> Path:
        """In `upper`; made when it is missing there. Raises Invalid."""
        known = self._known.get(tuple(names))
        return known if known is not None else self._walk(names)[0]

    def file(self, names: Sequence[str]) -> tuple[Path, int]:
        """In `upper`, to link to; a parent's is copied, which takes so many bytes. Raises Invalid."""
        directory, merged = self._walk(names[:-1])
        path, found = directory / names[-1], _lookup(merged, names[-1])
        if not found or stat.S_ISDIR(found[0].lstat().st_mode):
            raise Invalid(f"no file {'/'.join(names)!r:.200} in the layer or below it")
        if found[0] == path:
            return path, 0
        return path, _copy_up(found[0], path)

    def make_directory(self, path: Path) -> None:
        """`path` is in a directory() of this tree. What the parents have in a directory there is seen, unless a whiteout of this layer hid it."""
        hidden = _is_whiteout(path)
        if hidden or path.is_symlink() or not path.is_dir():
            self.remove(path)
            path.mkdir()
        if hidden:
            _set_opaque(path)

    def remove(self, path: Path) -> None:
        """What this layer itself has there."""
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)
            self._known.clear()

    def hide(self, names: Sequence[str]) -> None:
        """A whiteout: what the parents have there is not seen; what this layer has there stays."""
        directory, merged = self._walk(names[:-1])
        path = directory / names[-1]
        if not _lookup(merged[1:], names[-1]):
            return  # overlayfs lists a whiteout in a directory that it need not merge
        if not os.path.lexists(path):
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        elif path.is_dir() and not path.is_symlink():
            _set_opaque(path)

    def hide_all(self, names: Sequence[str]) -> None:
        """What the parents have in a directory is not seen."""
        directory = self.directory(names)
        _set_opaque(directory)
        if directory == self._upper:
            self._roots = [directory]

    def _walk(self, names: Sequence[str]) -> tuple[Path, list[Path]]:
        """The directory in `upper`, and all that are seen as one there, the topmost first."""
        pending, links = list(reversed(names)), 0
        way: list[tuple[str, list[Path]]] = []  # without links and "..", with what is seen there
        while pending:
            name = pending.pop()
            found = _lookup(way[-1][1] if way else self._roots, name)
            if name == "..":
                del way[-1:]
            elif found and found[0].is_symlink():
                links += 1
                target = os.readlink(found[0])
                if links > _MAX_LINKS:
                    raise Invalid(f"too many symbolic links on the way to {'/'.join(names)!r:.200}")
                if target.startswith("/"):
                    way.clear()
                pending += reversed([part for part in target.split("/") if part not in ("", ".")])
            elif len(way) >= MAX_DEPTH:
                raise Invalid(f"more than {MAX_DEPTH} directories in each other")
            else:
                way.append((name, found))
        path, merged = self._upper, self._roots
        for name, found in way:
            path = path / name
            merged = self._enter(path, found)
        if not links:
            self._known[tuple(names)] = path
        return path, merged

    def _enter(self, path: Path, found: list[Path]) -> list[Path]:
        """Makes the directory in `upper` unless it is there; `found` is what is seen at that name."""
        if found and found[0] == path:
            if not path.is_dir():
                raise Invalid(f"{path.name!r:.200} is a directory and something else in one layer")
            return found
        lower = found if found and found[0].is_dir() else []
        self.make_directory(path)
        if not lower:
            path.chmod(0o755)
            return [path]
        status = lower[0].stat()
        os.chown(path, status.st_uid, status.st_gid)
        path.chmod(stat.S_IMODE(status.st_mode))
        self.copied[path] = status.st_mtime
        return [path, *lower]


def seen_layers(layers: Sequence[Path]) -> Sequence[Path]:
    """From the lowest up, without those below an opaque root: overlayfs does not look whether a root is."""
    first = max((n for n, layer in enumerate(layers) if _is_opaque(layer)), default=0)
    return layers[first:]


def _set_opaque(directory: Path) -> None:
    """Whiteouts in it have nothing to hide any more, and overlayfs would list them."""
    if _is_opaque(directory):
        return
    os.setxattr(directory, _OPAQUE, b"y")
    for path, _, names in os.walk(directory):
        for name in names:
            if _is_whiteout(Path(path, name)):
                os.unlink(Path(path, name))


def _is_opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False


def _lookup(merged: Sequence[Path], name: str) -> list[Path]:
    """What overlayfs shows of a name in directories that it shows as one: one thing that is no directory, or directories; [] for nothing."""
    found: list[Path] = []
    for directory in merged:
        path = directory / name
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):  # below a file there is nothing
            continue
        if not stat.S_ISDIR(mode):
            if not found and not _is_whiteout(path):
                found.append(path)
            break
        found.append(path)
        if _is_opaque(path):
            break
    return found


def _is_whiteout(path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _copy_up(source: Path, path: Path) -> int:
    status = source.lstat()
    if stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, path)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), path)
    elif stat.S_ISFIFO(status.st_mode):
        os.mkfifo(path)
    else:
        raise Invalid(f"a hard link to {source.name!r:.200}, which is no file")
    os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        path.chmod(stat.S_IMODE(status.st_mode))
        with contextlib.suppress(OSError):  # it has none
            os.setxattr(path, "security.capability", os.getxattr(source, "security.capability"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return status.st_size
