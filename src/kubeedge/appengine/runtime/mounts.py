"""mount(2) and umount2(2), for overlays and tmpfs; Python has no face for them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
_MNT_DETACH = 2


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


def overlay(lower: Sequence[Path], upper: Path, work: Path, target: Path) -> None:
    """`lower` from the lowest layer up. Paths must be free of ':' and ',': ours are."""
    layers = ":".join(str(p) for p in reversed(lower))
    mount("overlay", target, "overlay", 0, f"lowerdir={layers},upperdir={upper},workdir={work}")


def mounted_below(directory: Path) -> list[Path]:
    """Mount points below a directory, deepest first."""
    prefix = str(directory).rstrip("/") + "/"
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point.startswith(prefix):
            points.append(Path(point))
    return sorted(points, key=lambda p: len(p.parts), reverse=True)
