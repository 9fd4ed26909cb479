"""Mounts: overlays, tmpfs, bind mounts, and what is mounted below a directory."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kubeedge._fastpath import libc
from kubeedge.kit import trees

MS_NOSUID, MS_NODEV = libc.MS_NOSUID, libc.MS_NODEV
_OCTAL = re.compile(rb"\\([0-7]{3})")  # a blank in a path is written \040


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2), with the same arguments. Raises OSError with its errno."""
    libc.mount(source, target, kind, flags, options)


def unmount(target: Path) -> None:
    """Lazily; what is not mounted is success."""
    try:
        libc.umount(target, libc.MNT_DETACH)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOENT):  # the first: it is no mount point
            raise


def tmpfs(target: Path, size: int, mode: int) -> None:
    """Never more than `size` bytes, and where the kernel can do it (6.4) never in swap, which is a disk."""
    options = f"mode={mode:o},size={size},nr_inodes={max(1024, size // 4096)}"
    try:
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options + ",noswap")
    except OSError:
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options)


def overlay(lower: Sequence[Path], upper: Path, work: Path, target: Path) -> None:
    """`lower` from the lowest layer up. Paths of upper and work must be free of ':' and ',': ours are."""
    with contextlib.ExitStack() as stack:
        mount("overlay", target, "overlay", 0, f"lowerdir={_opened(lower, stack)},upperdir={upper},workdir={work}")


def overlay_read_only(lower: Sequence[Path], target: Path) -> None:
    """As overlay(), with nothing above it. One layer alone is bound: an overlay needs two."""
    if len(lower) == 1:
        bind_private(str(lower[0]), target)
        return
    with contextlib.ExitStack() as stack:
        mount("overlay", target, "overlay", libc.MS_RDONLY, f"lowerdir={_opened(lower, stack)}")


def _opened(lower: Sequence[Path], stack: contextlib.ExitStack) -> str:
    """The uppermost first, as lowerdir has it. The options of a mount have room for one page, which is 40 of our paths."""
    layers = []
    for path in reversed(lower):
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        layers.append(f"/proc/self/fd/{fd}")
    return ":".join(layers)


def bind(source: str, target: Path) -> None:
    """A bind mount of one file or directory, without what is mounted below it (mount(2)). Raises OSError."""
    mount(source, target, "", libc.MS_BIND)


def bind_private(source: str, target: Path) -> None:
    """What is mounted or unmounted below one of the two does not appear at the other."""
    bind(source, target)
    mount("", target, "", libc.MS_PRIVATE)


def mounted_below(directory: Path) -> list[Path]:
    """Mount points below a directory, deepest first."""
    prefix = str(directory).rstrip("/") + "/"
    points = [Path(point) for point in _points() if point.startswith(prefix)]
    return sorted(points, key=lambda p: len(p.parts), reverse=True)


def is_mounted(target: Path) -> bool:
    """Whether something is mounted there. Not os.path.ismount(): that asks what is mounted, which may be a server that hangs."""
    return str(target) in _points()


def _points() -> Iterator[str]:
    """In bytes: a path need not be text, and what Unicode calls a blank or the end of a line (U+00A0, U+3000, U+2028) is a part of it, which the kernel
    writes as it is."""
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        if line:
            yield os.fsdecode(_OCTAL.sub(lambda m: bytes((int(m[1], 8),)), line.split(b" ")[4]))


def remove_tree(directory: Path) -> None:
    """With all that is mounted below. Raises OSError when something stays mounted: deleting would reach into it."""
    for point in mounted_below(directory):
        with contextlib.suppress(OSError):
            unmount(point)
    if left := mounted_below(directory):
        raise OSError(f"{left[0]} is still mounted")
    trees.remove(directory)
