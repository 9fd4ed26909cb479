"""mount(2) and umount2(2), for overlays and tmpfs; Python has no face for them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Sequence
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
_MS_BIND, _MS_PRIVATE = 1 << 12, 1 << 18
_MNT_DETACH = 2
_OCTAL = re.compile(r"\\([0-7]{3})")  # a blank in a path is written \040


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind} on {target}: {os.strerror(number)}")


def unmount(target: Path) -> None:
    """Lazily; what is not mounted is success."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) != 0:
        number = ctypes.get_errno()
        if number not in (22, 2):  # EINVAL: not a mount point; ENOENT
            raise OSError(number, f"unmount {target}: {os.strerror(number)}")


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
        opened = []  # the options of a mount have room for one page, which is 40 of our paths
        for path in reversed(lower):
            opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
            stack.callback(os.close, opened[-1])
        layers = ":".join(f"/proc/self/fd/{fd}" for fd in opened)
        mount("overlay", target, "overlay", 0, f"lowerdir={layers},upperdir={upper},workdir={work}")


def bind(source: str, target: Path) -> None:
    mount(source, target, "", _MS_BIND)


def bind_private(source: str, target: Path) -> None:
    """What is mounted or unmounted below one of the two does not appear at the other."""
    bind(source, target)
    mount("", target, "", _MS_PRIVATE)


def mounted_below(directory: Path) -> list[Path]:
    """Mount points below a directory, deepest first."""
    prefix = str(directory).rstrip("/") + "/"
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = _OCTAL.sub(lambda m: chr(int(m[1], 8)), line.split()[4])
        if point.startswith(prefix):
            points.append(Path(point))
    return sorted(points, key=lambda p: len(p.parts), reverse=True)
