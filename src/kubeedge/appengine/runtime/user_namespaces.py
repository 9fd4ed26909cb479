"""Containers whose users are others on the machine (hostUsers: false): a range of ids for each pod, and mounts whose owners are shifted by it.

What is on disk keeps its owners: user 0 of a volume or layer is user 0 in the container, and the first of its range on the machine. The kernel does
that for each mount (mount_setattr(2), MOUNT_ATTR_IDMAP), on file systems that can; a container's own writable layer has the shifted owners themselves.

The OCI runtime looks for these mounts as the root of the namespace, for whom our directories are closed: they are in one of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kubeedge._fastpath import libc
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.runtime.base import BindMount, SandboxConfig, StartError
from kubeedge.kit import private
from kubeedge.kit.dataclasses import replace

#: the OCI runtime of such pods: crun gives its standard input to the container's user, which may be the machine's /dev/null
RUNTIME = "runc"
_LOCKED = ((os.ST_NOSUID, "nosuid"), (os.ST_NODEV, "nodev"), (os.ST_NOEXEC, "noexec"))


def with_runtime(config: SandboxConfig) -> SandboxConfig:
    """A pod that has users of its own, and no RuntimeClass, is for the OCI runtime that is safe with these."""
    return replace(config, handler=RUNTIME) if config.first_user and not config.handler else config


def directory(path: Path, first: int) -> Path:
    """For the root of a namespace, below one that everybody may enter. Raises OSError, Invalid."""
    private.directory(path.parent, 0o711)
    path.mkdir(mode=0o700, exist_ok=True)
    os.chown(path, first, first)
    return path


@contextlib.contextmanager
def opened(namespace: Path) -> Iterator[int]:
    """A descriptor of a pinned namespace. Raises OSError."""
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def shifted(layers: Sequence[Path], scratch: Path, userns: int) -> Iterator[list[Path]]:
    """Layers of an image with the owners that they have in the namespace, until the end of the block: who mounts them meanwhile keeps what he has. Raises
    StartError."""
    made: list[Path] = []
    try:
        for number, layer in enumerate(layers):
            made.append(scratch / str(number))
            _map(layer, made[-1], userns, libc.MS_PRIVATE)
        yield made
    finally:
        for target in made:
            mounts.unmount(target)
            target.rmdir()
        with contextlib.suppress(OSError):
            scratch.rmdir()


def shift(binds: Sequence[BindMount], scratch: Path, userns: int) -> list[BindMount]:
    """The same, with other sources: mounts at `scratch`, which stay. Raises StartError for what is on a file system that cannot."""
    moved = []
    for number, bind in enumerate(binds):
        target = scratch / str(number)
        _map(bind.source, target, userns, libc.MS_PRIVATE if bind.propagation == "None" else 0)
        moved.append(replace(bind, source=target, locked=_locked(target)))
    return moved


def _locked(mount: Path) -> tuple[str, ...]:
    """What a user namespace cannot take from a mount that it was given (mount_namespaces(7)). Releases of runc before 1.2 try to, where they make one
    read-only."""
    flags = os.statvfs(mount).f_flag
    return tuple(name for flag, name in _LOCKED if flags & flag)


def _map(source: Path, target: Path, userns: int, propagation: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    try:
        libc.idmap(source, target, userns, propagation)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
            raise
        message = f"{source} is on a file system that cannot be mapped to the users of a pod with hostUsers: false"
        raise StartError("CreateContainerError", message) from exc
